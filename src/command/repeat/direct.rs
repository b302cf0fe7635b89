//! Batches whose every stream is our own: prefill, KV, synchronised start, plateau, drain.

use super::super::direct::pair;
use super::super::{Error, Exit};
use super::{Bench, word};
use crate::load::{Answers, Pass, PassReport, Prepared};
use crate::measure::{Batch, Kind, Offset, Prompts, StageFacts};
use crate::report::plain;
use crate::runtime::lock;
use crate::wire::Object;
use crate::wire::dialect::{Asked, Dialect, Pair};
use crate::workload::Request;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// After so long the KV that `mooncake_master` leased to a prefill may be gone (`-default_kv_lease_ttl`).
const KV_LEASE: Duration = Duration::from_secs(10);

impl Bench<'_> {
    /// One batch: what its replicas' pass says, and what else is known.
    pub(super) async fn direct(
        &mut self,
        stage: u32,
        replicas: usize,
        requests: &[Request],
    ) -> Result<(PassReport, StageFacts), Error> {
        let asked: Vec<Asked> = requests.iter().map(|request| self.writing.asked(request)).collect();
        let store_before = self.store_keys().await;
        let (prefilled, answers) = self.prefill(stage, &asked, requests).await?;
        let (kv_ready, kv_ready_s) =
            self.kv_ready(stage, &asked, requests, prefilled.end, store_before).await?;
        if !self.plan.settle.is_zero() {
            tokio::time::sleep(self.plan.settle).await;
        }
        let replicas_asked = self.replicas(stage, &asked, requests, replicas, &answers)?;
        self.open_ahead(&replicas_asked).await?;
        let held = Offset::from(self.clock.now()) - prefilled.start;
        if self.dialect().kv_outlives_its_request() && KV_LEASE < held {
            self.world.note(&format!(
                "warning: {:.1} s from the first prefill to the replicas; mooncake_master leases KV for 10 s unless \
                 -default_kv_lease_ttl says otherwise\n",
                held.as_secs_f64()
            ));
        }
        let before = self.counts().await;
        let count = replicas_asked.len();
        let pass = Pass {
            stage: Some(stage),
            schedule: (0..count).map(|nth| self.plan.ramp.mul_f64(nth as f64 / replicas as f64)).collect(),
            ..Pass::at_once(Kind::Replica, replicas_asked)
        };
        let report = self.pass(pass).await?;
        let decode_side = self.decode_side(before).await;
        let batch = Batch {
            expected: replicas,
            prompts: self.plan.prompts,
            nodes: self.decode.iter().map(|instance| instance.node.to_string()).collect(),
            decode_side,
        };
        let facts = StageFacts {
            batch,
            kv_ready: Some(kv_ready.to_owned()),
            kv_ready_s: Some(kv_ready_s),
            observed: None,
        };
        Ok((report, facts))
    }

    pub(super) fn dialect(&self) -> Dialect {
        match self.plan.way {
            super::RepeatWay::Direct { dialect, .. } => dialect,
            _ => Dialect::Plain,
        }
    }

    pub(super) async fn pass(&mut self, pass: Pass) -> Result<PassReport, Error> {
        let kind = pass.kind;
        let died = |error| {
            Error::new(Exit::Aborted, format!("the {} requests ended early", word(kind))).caused_by(error)
        };
        self.load.pass(pass, self.world.interrupt.signal()).await.map_err(died)
    }

    /// Puts the KV of every prompt where the replicas find it; what the prefill instances answered, where that is
    /// handed on.
    async fn prefill(
        &mut self,
        stage: u32,
        asked: &[Asked],
        requests: &[Request],
    ) -> Result<(PassReport, BTreeMap<usize, Object>), Error> {
        let kept = Arc::new(Mutex::new(BTreeMap::new()));
        let sink = Arc::clone(&kept);
        let keep: Answers = Arc::new(move |index, body| {
            if let Ok(answer) = Object::parse(&body) {
                lock(&sink).insert(index, answer);
            }
        });
        let mut prepared = Vec::with_capacity(asked.len());
        for (nth, (asked, request)) in asked.iter().zip(requests).enumerate() {
            let id = self.id(stage, nth);
            let (place, instance) = (nth % self.prefill.len(), &self.prefill[nth % self.prefill.len()]);
            let pair = self.pair(nth, &id);
            let leg = self.dialect().prefill_leg(asked, &pair, None).map_err(cannot_speak)?;
            let request = Request { output_tokens: 1, ..request.clone() };
            prepared.push(self.writing.leg(&instance.target, place, &leg, &request));
        }
        let planned = prepared.len();
        let pass = Pass {
            stage: Some(stage),
            answers: (!self.dialect().kv_outlives_its_request()).then_some(keep),
            max_concurrency: self.plan.serve.max_concurrency,
            max_error_rate: Some(self.plan.serve.max_error_rate),
            ..Pass::at_once(Kind::Prefill, prepared)
        };
        let report = self.pass(pass).await?;
        if let Some(record) = report.failed_probe.as_ref().filter(|_| planned == 1 || report.sent < planned) {
            let detail = record.error.as_deref().unwrap_or("no further word");
            let detail: String = plain(detail).chars().take(300).collect();
            let node = record.node.as_deref().unwrap_or("the instance");
            let what = format!("the prefill on {node} ended as {}: {detail}", record.outcome.word());
            return Err(Error::new(Exit::Aborted, what).help(
                "send such a request with max_tokens 1 to the prefill instance by hand and look at it",
            ));
        }
        let answers = std::mem::take(&mut *lock(&kept));
        Ok((report, answers))
    }

    /// The decode legs, spread over the instances by turns. A prompt whose prefill said nothing has none.
    fn replicas(
        &self,
        stage: u32,
        asked: &[Asked],
        requests: &[Request],
        replicas: usize,
        answers: &BTreeMap<usize, Object>,
    ) -> Result<Vec<Prepared>, Error> {
        let dialect = self.dialect();
        let mut prepared = Vec::with_capacity(replicas);
        for nth in 0..replicas {
            let (prompt, id) = match self.plan.prompts {
                Prompts::Same => (0, format!("{}r{nth}", self.id(stage, 0))),
                Prompts::Unique => (nth, self.id(stage, nth)),
            };
            let answer = answers.get(&prompt);
            if !dialect.kv_outlives_its_request() && answer.is_none() {
                continue;
            }
            let at = nth % self.decode.len();
            let leg =
                dialect.decode_leg(&asked[prompt], &self.pair(nth, &id), answer).map_err(cannot_speak)?;
            let place = self.prefill.len() + at;
            prepared.push(self.writing.leg(&self.decode[at].target, place, &leg, &requests[prompt]));
        }
        Ok(prepared)
    }

    /// Connections open and warm, one for each replica.
    async fn open_ahead(&mut self, replicas: &[Prepared]) -> Result<(), Error> {
        let mut wanted = vec![0; self.prefill.len() + self.decode.len()];
        replicas.iter().for_each(|replica| wanted[replica.place] += 1);
        let died = |error| Error::new(Exit::Aborted, "cannot open connections ahead").caused_by(error);
        let failures = self.load.preconnect(&wanted).await.map_err(died)?;
        if let Some(first) = failures.first() {
            let (count, why) = (failures.len(), plain(first));
            self.world
                .note(&format!("warning: {count} connections could not be opened ahead, such as {why}\n"));
        }
        Ok(())
    }

    fn id(&self, stage: u32, nth: usize) -> String {
        format!("{}s{stage}-{nth}", self.writing.id_prefix)
    }

    pub(super) fn pair<'p>(&'p self, nth: usize, request_id: &'p str) -> Pair<'p> {
        let prefill = &self.prefill[nth % self.prefill.len()].node;
        let decode = &self.decode[nth % self.decode.len()].node;
        pair(prefill, decode, request_id)
    }
}

pub(super) fn cannot_speak(error: crate::wire::dialect::DialectError) -> Error {
    Error::new(Exit::Aborted, "a leg cannot be written").caused_by(error)
}
