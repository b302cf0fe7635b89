//! What a proxy costs: the same load, half of it through the proxy and half straight to the instances behind it, request
//! by request by turns, so that both halves meet the same cluster at the same time.

use super::{Definition, Metric, RequestRecord, Run};
use serde::{Deserialize, Serialize};

/// That a run sent half of its requests through a proxy, and which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What the records of requests through the proxy have as their node.
    pub proxy: String,
    /// Processor time that the proxy took meanwhile, seconds, where it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_cpu_s: Option<f64>,
}

/// What a proxy costs, by one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProxyCost {
    /// Ok requests through the proxy.
    pub through: usize,
    /// Ok requests straight to the instances.
    pub direct: usize,
    /// Failures of either.
    pub failed_through: usize,
    /// Failures of either.
    pub failed_direct: usize,
    /// What the proxy adds to each latency.
    pub added: Vec<Added>,
    /// The proxy's processor time for each request through it, milliseconds, where it tells.
    pub cpu_ms_per_request: Option<f64>,
}

/// What a proxy adds to one statistic of a latency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Added {
    /// Key of the metric.
    pub metric: String,
    /// The percentile.
    pub p: f64,
    /// Through the proxy, ms.
    pub through_ms: f64,
    /// Straight, ms.
    pub direct_ms: f64,
    /// The difference, ms.
    pub added_ms: f64,
    /// Half of a 95 % interval of the difference, ms: from the two order-statistic intervals, as if independent. `None`
    /// with too few requests for them.
    pub plus_minus_ms: Option<f64>,
}

/// Latencies that a proxy can add to, and what is told of each.
const METRICS: [&str; 4] = ["ttft", "tpot", "itl", "e2el"];
const PERCENTILES: [f64; 2] = [50.0, 99.0];

impl ProxyCost {
    /// The comparison of a run that made one.
    pub(super) fn of(run: &Run) -> Option<Self> {
        let comparison = run.manifest.comparison.as_ref()?;
        let is_through = |record: &&RequestRecord| record.node.as_deref() == Some(comparison.proxy.as_str());
        let (through, direct): (Vec<_>, Vec<_>) = run.main().partition(is_through);
        let count = |side: &[&RequestRecord]| {
            let failed = side.iter().filter(|record| record.outcome.is_failure()).count();
            (side.iter().filter(|record| record.is_ok()).count(), failed)
        };
        let ((ok_through, failed_through), (ok_direct, failed_direct)) = (count(&through), count(&direct));
        let added = METRICS.iter().flat_map(|key| added(key, &through, &direct)).collect();
        let cpu = comparison.proxy_cpu_s.filter(|_| !through.is_empty());
        Some(Self {
            through: ok_through,
            direct: ok_direct,
            failed_through,
            failed_direct,
            added,
            cpu_ms_per_request: cpu.map(|seconds| 1e3 * seconds / through.len() as f64),
        })
    }
}

fn added(key: &str, through: &[&RequestRecord], direct: &[&RequestRecord]) -> Vec<Added> {
    let Some(metric) = Metric::find(key) else { return Vec::new() };
    let of =
        |side: &[&RequestRecord]| metric.distribution(side.iter().copied(), Definition::Strict, &PERCENTILES);
    let (through, direct) = (of(through), of(direct));
    let one = |p: f64| {
        let (with, without) = (through.percentile(p)?, direct.percentile(p)?);
        let (through_ms, direct_ms) = (with.value?, without.value?);
        let half = |interval: Option<(f64, f64)>| interval.map(|(low, high)| (high - low) / 2.0);
        let halves = half(with.interval).zip(half(without.interval));
        Some(Added {
            metric: key.to_owned(),
            p,
            through_ms,
            direct_ms,
            added_ms: through_ms - direct_ms,
            plus_minus_ms: halves.map(|(one, other)| one.hypot(other)),
        })
    };
    PERCENTILES.into_iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::super::testing::{failed, record, run};
    use super::*;

    #[test]
    fn the_cost_is_the_difference_of_the_two_halves() {
        let one = |nth: u32| {
            let (node, ttft) = if nth.is_multiple_of(2) { ("proxy", 53) } else { ("10.0.0.1:8200", 50) };
            let mut record = record(&format!("{} {} {}", 100 * nth, 100 * nth + ttft, 100 * nth + 90));
            record.node = Some(node.to_owned());
            record
        };
        let mut run = run((0..100).map(one).collect());
        assert_eq!(ProxyCost::of(&run), None);
        run.manifest.comparison = Some(Comparison { proxy: "proxy".to_owned(), proxy_cpu_s: Some(0.1) });
        run.records[0] = RequestRecord { node: Some("proxy".to_owned()), ..failed("0 1", Outcome::Reset) };
        let cost = ProxyCost::of(&run).unwrap();
        assert_eq!((cost.through, cost.direct, cost.failed_through, cost.failed_direct), (49, 50, 1, 0));
        assert_eq!(cost.cpu_ms_per_request, Some(2.0));
        let ttft = &cost.added[0];
        assert_eq!(
            (ttft.metric.as_str(), ttft.p, ttft.through_ms, ttft.direct_ms),
            ("ttft", 50.0, 53.0, 50.0)
        );
        assert_eq!((ttft.added_ms, ttft.plus_minus_ms), (3.0, Some(0.0)));
        assert_eq!(cost.added[1].plus_minus_ms, None);
    }
}
