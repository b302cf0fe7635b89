//! Batches that a foreign proxy sends in silence: what is known of them is what the decode instances count.

use super::super::{Error, Exit};
use super::Bench;
use crate::load::{Pass, PassReport};
use crate::measure::{
    Batch, CounterName, GaugeName, HistogramName, Kind, NodeCounts, NodeDelta, Observed, ObservedNode,
    Offset, StageFacts, TpotBuckets,
};
use crate::workload::Request;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// Distance of two scrapes: five a second, and a little more, since each takes its time.
const EVERY: Duration = Duration::from_millis(180);
/// How long nothing may move after the trigger's end before the batch is over.
const QUIET: Duration = Duration::from_secs(5);

/// What was scraped of one instance.
struct Watched {
    node: String,
    first: NodeCounts,
    last: NodeCounts,
    samples: Vec<(Offset, f64, f64)>,
}

impl Bench<'_> {
    /// One batch: a hidden test request, as such a proxy expects, then the one that sets it off.
    pub(super) async fn external(
        &mut self,
        stage: u32,
        replicas: usize,
        requests: &[Request],
    ) -> Result<(PassReport, StageFacts), Error> {
        let request = requests.first().ok_or_else(super::no_instance)?;
        self.knock(stage, Kind::Probe, request).await?;
        // The test request's last counts come after its answer.
        sleep(EVERY).await;
        let trigger_over = Arc::new(AtomicBool::new(false));
        let watching = self.watching(Arc::clone(&trigger_over), replicas).await?;
        let watching = tokio::spawn(watching);
        let mut report = self.knock(stage, Kind::Main, request).await?;
        report.watch = None;
        trigger_over.store(true, Ordering::Relaxed);
        let watched = watching.await.map_err(|error| {
            Error::new(Exit::Aborted, "the scraper of the decode instances died").caused_by(error)
        })?;
        let nodes = watched.iter().map(|watched| watched.node.clone()).collect();
        let observed = Observed {
            output_len: request.output_tokens,
            nodes: watched.iter().map(observed_node).collect(),
        };
        let batch = Batch { expected: replicas, prompts: self.plan.prompts, nodes, decode_side: None };
        Ok((report, StageFacts { batch, kv_ready: None, kv_ready_s: None, observed: Some(observed) }))
    }

    /// One request to the proxy.
    async fn knock(&mut self, stage: u32, kind: Kind, request: &Request) -> Result<PassReport, Error> {
        let id = if kind == Kind::Probe { "probe".to_owned() } else { format!("s{stage}") };
        let leg = self.writing.plain_leg(request, &id);
        let prepared = self.writing.leg(self.writing.target, 0, &leg, request);
        let pass = Pass { stage: Some(stage), ..Pass::at_once(kind, vec![prepared]) };
        let report = self.pass(pass).await?;
        match &report.failed_probe {
            Some(record) => {
                let why = record.error.clone().unwrap_or_else(|| record.outcome.word().to_owned());
                let why: String = crate::report::plain(&why).chars().take(300).collect();
                Err(Error::new(Exit::Preflight, format!("the proxy's test request failed: {why}")))
            }
            None => Ok(report),
        }
    }

    /// Samples every decode instance until the batch is over: all requests finished, or nothing moving any more.
    async fn watching(
        &self,
        trigger_over: Arc<AtomicBool>,
        replicas: usize,
    ) -> Result<impl Future<Output = Vec<Watched>> + Send + 'static, Error> {
        let (clock, mut all) = (self.clock, Vec::new());
        for (node, mut scraper) in self.scrapers() {
            let first = scraper.scrape().await.map_err(|error| {
                Error::new(
                    Exit::Preflight,
                    "the replicas of a foreign proxy are seen by the decode instances' metrics only",
                )
                .caused_by(error)
            })?;
            let first = NodeCounts::of(&first);
            let watched = Watched { node, last: first.clone(), first, samples: Vec::new() };
            all.push((scraper, watched));
        }
        Ok(async move {
            let (mut next, mut moved, mut before) = (Instant::now(), Instant::now(), (0.0, 0.0));
            loop {
                for (scraper, watched) in &mut all {
                    if let Ok(scrape) = scraper.scrape().await {
                        watched.note(clock.now().into(), NodeCounts::of(&scrape));
                    }
                }
                let running: f64 = all.iter().map(|(_, watched)| watched.running()).sum();
                let now = all
                    .iter()
                    .map(|(_, watched)| watched.grown())
                    .fold((0.0, 0.0), |sum, (tokens, finished)| (sum.0 + tokens, sum.1 + finished));
                if now != before {
                    (before, moved) = (now, Instant::now());
                }
                // An instance that died says for ever what it said last: nothing moves then.
                let quiet = QUIET <= moved.elapsed();
                let idle = (running == 0.0 && replicas as f64 <= now.1) || quiet;
                if trigger_over.load(Ordering::Relaxed) && idle {
                    return all.into_iter().map(|(_, watched)| watched).collect();
                }
                next = (next + EVERY).max(Instant::now());
                sleep_until(next).await;
            }
        })
    }
}

impl Watched {
    fn note(&mut self, at: Offset, counts: NodeCounts) {
        self.last = counts;
        self.samples.push((at, self.grown().0, self.running()));
    }

    fn delta(&self) -> NodeDelta {
        NodeDelta::between(&self.first, &self.last)
    }

    /// Tokens made and requests ended since the start.
    fn grown(&self) -> (f64, f64) {
        let delta = self.delta();
        (delta.grown(CounterName::GenerationTokens).unwrap_or(0.0), delta.finished().unwrap_or(0.0))
    }

    fn running(&self) -> f64 {
        self.last.gauge(GaugeName::Running).unwrap_or(0.0)
    }
}

fn observed_node(watched: &Watched) -> ObservedNode {
    ObservedNode {
        node: watched.node.clone(),
        samples_us: watched.samples.clone(),
        requests: watched.grown().1,
        tpot: tpot(&watched.delta()),
    }
}

/// The instance's own times per output token of the requests in between.
fn tpot(delta: &NodeDelta) -> Option<TpotBuckets> {
    let histogram = delta.histogram(HistogramName::TimePerOutputToken)?;
    let mut below = 0.0;
    let buckets: Vec<_> = histogram
        .cumulative
        .iter()
        .map(|&(bound, count)| {
            let own = count - std::mem::replace(&mut below, count);
            (bound.is_finite().then_some(1000.0 * bound), own.max(0.0))
        })
        .collect();
    (!buckets.is_empty()).then_some(TpotBuckets { buckets, sum_ms: 1000.0 * histogram.sum })
}
