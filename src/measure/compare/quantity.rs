use super::within::{mean_interval, quantile_interval};
use super::{Interval, TooFew};
use crate::measure::{AccuracyResult, BatchResult, Better, Definition, Distribution, Metric};

/// One number of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantity {
    /// What it is.
    pub what: What,
    /// The number; `None` where the run has none.
    pub value: Option<f64>,
    /// 95 % interval from within the run; `None` where nothing tells one.
    pub interval: Option<Interval>,
}

/// What a number is: the same in two runs that have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct What {
    /// Which part of the table it belongs to.
    pub group: Group,
    /// Key in files, such as `ttft`.
    pub key: String,
    /// Short name, such as `TTFT`.
    pub short: String,
    /// `mean`, `p50`, `p90`, `p99`; empty for what is no distribution.
    pub statistic: &'static str,
    /// What it is counted in.
    pub unit: &'static str,
    /// Which way is better.
    pub better: Better,
    /// By whose definition; `None` where there is only one.
    pub definition: Option<Definition>,
}

/// Parts of a comparison, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// What went wrong.
    Failures,
    /// What came through per second.
    Throughput,
    /// How long it took.
    Latency,
    /// Batches of replicas.
    Batches,
    /// What the answers are worth.
    Accuracy,
}

/// Percentiles that are compared, besides the mean.
pub(super) const PERCENTILES: [(&str, f64); 3] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0)];
/// The normal law's 95 % point, two-sided.
const Z: f64 = 1.959_964;

/// Throughputs: key, short name, unit.
pub(super) const REQUESTS: [&str; 3] = ["request_throughput", "Requests", "req/s"];
pub(super) const OUTPUT: [&str; 3] = ["output_throughput", "Output", "tok/s"];
pub(super) const TOTAL: [&str; 3] = ["total_token_throughput", "Total", "tok/s"];
pub(super) const GOOD: [&str; 3] = ["request_goodput", "Goodput", "req/s"];

impl Quantity {
    /// Failures over all requests that ended by themselves.
    pub(super) fn failure_share(ok: usize, failed: Option<usize>) -> Self {
        let of = ok + failed.unwrap_or(0);
        let share = failed.filter(|_| 0 < of).map(|failed| failed as f64 / of as f64);
        Self {
            what: What {
                group: Group::Failures,
                key: "failure_share".to_owned(),
                short: "Failed".to_owned(),
                statistic: "",
                unit: "%",
                better: Better::Lower,
                definition: None,
            },
            value: share.map(|share| 100.0 * share),
            interval: share
                .map(|share| wilson(share, of as f64))
                .map(|(low, high)| (100.0 * low, 100.0 * high)),
        }
    }

    /// So much per second.
    pub(super) fn throughput(
        [key, short, unit]: [&'static str; 3],
        definition: Definition,
        value: Option<f64>,
        interval: Option<Interval>,
    ) -> Self {
        Self {
            what: What {
                group: Group::Throughput,
                key: key.to_owned(),
                short: short.to_owned(),
                statistic: "",
                unit,
                better: Better::Higher,
                definition: Some(definition),
            },
            value,
            interval,
        }
    }

    /// One statistic of a latency.
    pub(super) fn latency(
        metric: &Metric,
        statistic: &'static str,
        definition: Definition,
        value: Option<f64>,
    ) -> Self {
        Self {
            what: What {
                group: Group::Latency,
                key: metric.key.to_owned(),
                short: metric.short.to_owned(),
                statistic,
                unit: metric.unit.word(),
                better: metric.better,
                definition: Some(definition),
            },
            value,
            interval: None,
        }
    }

    /// Mean and percentiles of a latency, by the values of requests in the order of their sends where these are known;
    /// and what stands for percentiles that too few values back.
    pub(super) fn latencies(
        metric: &Metric,
        definition: Definition,
        values: &Distribution,
        requests: &[Vec<f64>],
    ) -> (Vec<Self>, Vec<TooFew>) {
        let mut sorted: Vec<f64> = requests.iter().flatten().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let mean = Self::latency(metric, "mean", definition, values.mean);
        let mut quantities = vec![Self { interval: mean_interval(requests), ..mean }];
        let mut too_few = Vec::new();
        for (statistic, p) in PERCENTILES {
            let found = if p == 50.0 { values.median } else { values.value(p) };
            let few = values.percentile(p).filter(|percentile| !percentile.enough(values.count));
            if let Some(percentile) = few.filter(|_| 0 < values.count) {
                too_few.push(TooFew {
                    name: format!("{} {statistic}", metric.short),
                    count: values.count,
                    needs: percentile.needs,
                });
            }
            let quantity = Self::latency(metric, statistic, definition, found.filter(|_| few.is_none()));
            let interval = quantity.value.and_then(|_| quantile_interval(requests, &sorted, p / 100.0));
            quantities.push(Self { interval, ..quantity });
        }
        (quantities, too_few)
    }

    /// What a batch of replicas came to.
    pub(super) fn of_batch(batch: &BatchResult) -> [Self; 2] {
        let plateau = &batch.plateau;
        let one = |key: &str, short: &str, unit, better, value| Self {
            what: What {
                group: Group::Batches,
                key: format!("batch_{}_{key}", plateau.expected),
                short: format!("{} {short}", plateau.expected),
                statistic: "",
                unit,
                better,
                definition: None,
            },
            value,
            interval: None,
        };
        [
            one("decode_tok_per_s", "decode", "tok/s", Better::Higher, plateau.decode_tok_per_s),
            one("tpot_p50", "TPOT p50", "ms", Better::Lower, plateau.step_ms()),
        ]
    }

    /// The share of right answers of the deployment in question, by way of reading.
    pub(super) fn of_accuracy(result: &AccuracyResult) -> Vec<Self> {
        let scores = result.arms.first().map(|arm| arm.scores.as_slice()).unwrap_or_default();
        let one = |(filter, score): (&String, &crate::measure::Score)| Self {
            what: What {
                group: Group::Accuracy,
                key: format!("{} {filter}", result.task),
                short: filter.clone(),
                statistic: "",
                unit: "%",
                better: Better::Higher,
                definition: None,
            },
            value: score.mean.map(|mean| 100.0 * mean),
            interval: score.interval.map(|(low, high)| (100.0 * low, 100.0 * high)),
        };
        result.filters.iter().zip(scores).map(one).collect()
    }
}

/// Wilson's 95 % interval of a share of `count` independent tries.
fn wilson(share: f64, count: f64) -> Interval {
    let middle = (share + Z * Z / (2.0 * count)) / (1.0 + Z * Z / count);
    let half =
        Z * (share * (1.0 - share) / count + (Z / (2.0 * count)).powi(2)).sqrt() / (1.0 + Z * Z / count);
    ((middle - half).max(0.0), (middle + half).min(1.0))
}
