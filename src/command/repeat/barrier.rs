//! The KV is there before the replicas go: by the prefill's answer, the store's keys, or a decode instance that found
//! it.

use super::super::Error;
use super::Bench;
use crate::load::Pass;
use crate::measure::{Kind, Offset};
use crate::wire::Object;
use crate::wire::dialect::Asked;
use crate::workload::Request;
use std::time::Duration;
use tokio::time::sleep;

/// Between two looks at the store.
const LOOK: Duration = Duration::from_millis(200);
/// Looks at the store before it is given up.
const LOOKS: usize = 50;

impl Bench<'_> {
    /// Waits until the KV is there: how that was seen, and how long it took from `since` on, in seconds.
    pub(super) async fn kv_ready(
        &mut self,
        stage: u32,
        asked: &[Asked],
        requests: &[Request],
        since: Offset,
        store_before: Option<f64>,
    ) -> Result<(&'static str, f64), Error> {
        let seen = if !self.dialect().kv_outlives_its_request() {
            "prefill_answered"
        } else if let Some(before) = store_before {
            if self.keys_settle(before).await { "keys_in_store" } else { "not_seen" }
        } else {
            self.seen_by_decode(stage, asked, requests).await?
        };
        if seen == "not_seen" {
            self.world.note(
                "warning: nobody saw the KV arrive: the decode instances may compute the prompts again (see the notes)\n",
            );
        }
        Ok((seen, Offset::from(self.clock.now()).seconds_since(since).max(0.0)))
    }

    /// Until there are more keys than before the prefill, and no further ones come.
    async fn keys_settle(&self, before: f64) -> bool {
        let mut last = before;
        for _ in 0..LOOKS {
            let now = self.store_keys().await.unwrap_or(before);
            if before < now && now == last {
                return true;
            }
            last = now;
            sleep(LOOK).await;
        }
        false
    }

    /// One token from a decode instance, whose counter of prompt tokens from outside then has grown. An instance that
    /// computed the prompt has it from then on, so each is asked once, in turn.
    async fn seen_by_decode(
        &mut self,
        stage: u32,
        asked: &[Asked],
        requests: &[Request],
    ) -> Result<&'static str, Error> {
        let Some((last, request)) = asked.last().zip(requests.last()) else { return Ok("not_seen") };
        for nth in 0..self.decode.len() {
            let Some(before) = self.external_tokens(nth).await else { continue };
            let id = format!("{}s{stage}-probe{nth}", self.writing.id_prefix);
            let mut one = last.clone();
            one.body = with_one_token(&last.body);
            let leg = self.dialect().decode_leg(&one, &self.pair(nth, &id), None);
            let leg = leg.map_err(super::direct::cannot_speak)?;
            let place = self.prefill.len() + nth;
            let request = Request { output_tokens: 1, ..request.clone() };
            let prepared = self.writing.leg(&self.decode[nth].target, place, &leg, &request);
            self.pass(Pass { stage: Some(stage), ..Pass::at_once(Kind::Probe, vec![prepared]) }).await?;
            if self.external_tokens(nth).await.is_some_and(|after| before < after) {
                return Ok("seen_by_decode");
            }
        }
        Ok("not_seen")
    }
}

fn with_one_token(body: &Object) -> Object {
    let mut one = body.clone();
    for field in ["max_tokens", "max_completion_tokens"] {
        if one.has(field) {
            one.set(field, 1);
        }
    }
    one
}
