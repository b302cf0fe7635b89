//! Batches that pdbench's own proxy sends, and of which it keeps the records.

use super::super::{Error, Exit};
use super::{Bench, Reached};
use crate::load::{Pass, PassReport};
use crate::measure::{Batch, Kind, Offset, RequestRecord, StageFacts};
use crate::report::plain;
use crate::wire::dialect::Leg;
use crate::workload::Request;
use serde::Deserialize;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Asks the proxy for so many extra decodes of a request.
const HEADER: &str = "x-pdbench-repeat-d-times";
/// What has become of them.
const LAST: &str = "/benchmark/last";
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Deserialize)]
struct Last {
    state: String,
    #[serde(default)]
    records: Vec<RequestRecord>,
}

impl Bench<'_> {
    /// One batch: the triggering request's pass, and what is known besides. The records of the replicas join the run's.
    pub(super) async fn through_proxy(
        &mut self,
        stage: u32,
        replicas: usize,
        requests: &[Request],
        front: &Reached,
    ) -> Result<(PassReport, StageFacts), Error> {
        let request = requests.first().ok_or_else(super::no_instance)?;
        let leg = Leg {
            headers: vec![(HEADER, (replicas - 1).to_string())],
            ..self.writing.plain_leg(request, &format!("s{stage}"))
        };
        let trigger = self.writing.leg(&front.target, 0, &leg, request);
        let pass = Pass { stage: Some(stage), ..Pass::at_once(Kind::Main, vec![trigger]) };
        let mut report = self.pass(pass).await?;
        // The sender's count of what is in flight knows nothing of the replicas.
        report.watch = None;
        let mut records = self.records_of_proxy(front).await?;
        // Where this trigger did not fire, the proxy still tells of the batch before.
        let replica = format!("{}-r", leg.request_id);
        records.retain(|record| record.id == leg.request_id || record.id.starts_with(&replica));
        let found = records.len();
        let shift = report.start;
        let first = records.iter().map(|record| record.scheduled).min().unwrap_or_default();
        let next = self.load.take_numbers(found);
        let own = records.into_iter().enumerate().map(|(nth, mut record)| {
            record.i = next + nth as u32;
            record.stage = Some(stage);
            rebased(record, first, shift)
        });
        (self.recorder.sink())(own.collect());
        let batch =
            Batch { expected: replicas, prompts: self.plan.prompts, nodes: Vec::new(), decode_side: None };
        Ok((report, StageFacts { batch, kv_ready: None, kv_ready_s: None, observed: None }))
    }

    /// The proxy's records, once it has them all. None where it did not fire.
    async fn records_of_proxy(&self, front: &Reached) -> Result<Vec<RequestRecord>, Error> {
        let url = front.target.url(LAST);
        let failed = |why: String| Error::new(Exit::Aborted, format!("{url}: {}", plain(&why)));
        let all = async {
            loop {
                let text = front.client.text(LAST).await.map_err(|error| {
                    failed(error.to_string()).help("--pd-proxy wants `pdbench proxy --benchmark-mode`")
                })?;
                let last: Last = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
                if last.state != "running" {
                    return Ok(last.records);
                }
                sleep(LOOK).await;
            }
        };
        let patience = self.plan.serve.timeouts.idle + self.plan.serve.timeouts.first_token;
        timeout(patience, all)
            .await
            .unwrap_or_else(|_| Err(failed(format!("still running after {patience:?}"))))
    }
}

/// A record by another clock, moved so that the first of them was due at `to`. What lies between its stamps stays.
fn rebased(record: RequestRecord, first: Offset, to: Offset) -> RequestRecord {
    let moved = |at: Offset| to + (at - first);
    RequestRecord {
        kind: Kind::Replica,
        scheduled: moved(record.scheduled),
        ready: record.ready.map(moved),
        sent: record.sent.map(moved),
        connected: record.connected.map(moved),
        headers: record.headers.map(moved),
        role: record.role.map(moved),
        events: record.events.iter().map(moved).collect(),
        finished: moved(record.finished),
        ..record
    }
}
