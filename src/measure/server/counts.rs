//! What one scrape of one node says.

use super::names::{Meaning, What, meanings};
use super::{CounterName, GaugeName, HistogramName};
use crate::wire::prometheus::{Sample, Scrape};
use std::collections::BTreeMap;

/// What a node told at one time. Behind one address there may be several engines (data parallel ranks); they are kept
/// apart, since one can begin anew while the others go on, and summed when asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeCounts {
    /// By the label `engine`; a server without that label is one engine without a name.
    pub(super) engines: BTreeMap<String, EngineCounts>,
}

/// What one engine told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct EngineCounts {
    pub(super) counters: BTreeMap<CounterName, f64>,
    pub(super) gauges: BTreeMap<GaugeName, f64>,
    pub(super) histograms: BTreeMap<HistogramName, HistogramCounts>,
}

/// Values by size: those of a histogram, or what it grew by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramCounts {
    /// How many values.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// Upper bound, ascending to infinity, and how many values are not above it. Empty where it was not told.
    pub cumulative: Vec<(f64, f64)>,
}

impl HistogramCounts {
    /// Mean of the values; `None` without any.
    pub fn mean(&self) -> Option<f64> {
        (0.0 < self.count).then(|| self.sum / self.count)
    }

    /// The value below which a share in [0, 1] of all lies, as Prometheus finds it: evenly spread within a bucket; of
    /// the last, which has no bound, its lower bound. `None` without values or buckets.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let total = self.cumulative.last().filter(|(_, total)| 0.0 < *total)?.1;
        let rank = share * total;
        let at = self.cumulative.iter().position(|(_, count)| rank <= *count)?;
        let (lower, below) = at.checked_sub(1).map_or((0.0, 0.0), |before| self.cumulative[before]);
        let (upper, upto) = self.cumulative[at];
        Some(match upper.is_finite() {
            true if below < upto => lower + (upper - lower) * (rank - below) / (upto - below),
            true => upper,
            false => lower,
        })
    }

    /// Adds the values of another.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        for (bound, count) in &other.cumulative {
            add_at(&mut self.cumulative, *bound, *count);
        }
    }

    /// What came since `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let mut grown = self.clone();
        grown.count -= before.count;
        grown.sum -= before.sum;
        // Of a histogram without buckets before, or with other ones, only the sums can be told.
        let bounds = |counts: &Self| counts.cumulative.iter().map(|(bound, _)| *bound).collect::<Vec<_>>();
        match bounds(self) == bounds(before) {
            true => {
                let pairs = grown.cumulative.iter_mut().zip(&before.cumulative);
                pairs.for_each(|(now, then)| now.1 -= then.1);
            }
            false => grown.cumulative.clear(),
        }
        grown
    }
}

fn add_at(cumulative: &mut Vec<(f64, f64)>, bound: f64, count: f64) {
    match cumulative.iter().position(|(known, _)| bound <= *known) {
        Some(at) if cumulative[at].0 == bound => cumulative[at].1 += count,
        at => cumulative.insert(at.unwrap_or(cumulative.len()), (bound, count)),
    }
}

impl NodeCounts {
    /// Reads what is known here out of a scrape.
    pub fn of(scrape: &Scrape) -> Self {
        let lines: Vec<(&Sample, &Meaning)> = scrape
            .samples
            .iter()
            .filter(|sample| sample.value.is_finite())
            .flat_map(|sample| meanings(&sample.name).iter().map(move |meaning| (sample, meaning)))
            .collect();
        // Of several names for one thing the best one that is told counts.
        let mut best: BTreeMap<What, usize> = BTreeMap::new();
        for (_, meaning) in &lines {
            let rank = best.entry(meaning.what).or_insert(meaning.rank);
            *rank = meaning.rank.min(*rank);
        }
        let mut counts = Self::default();
        for (sample, meaning) in lines {
            let labelled = meaning.label.is_none_or(|(key, value)| sample.label(key) == Some(value));
            if labelled && best[&meaning.what] == meaning.rank {
                counts.engine(sample).note(meaning.what, sample);
            }
        }
        counts
    }

    fn engine(&mut self, sample: &Sample) -> &mut EngineCounts {
        self.engines.entry(sample.label("engine").unwrap_or_default().to_owned()).or_default()
    }

    /// How many engines are behind the address; 0 where none was named.
    pub fn engines(&self) -> usize {
        let named = self.engines.keys().filter(|name| !name.is_empty()).count();
        let nameless = self.engines.values().any(|engine| engine.gauges.contains_key(&GaugeName::Running));
        if named == 0 { usize::from(nameless) } else { named }
    }

    /// A counter, all engines together; `None` where none tells it.
    pub fn counter(&self, name: CounterName) -> Option<f64> {
        self.engines.values().filter_map(|engine| engine.counters.get(&name)).copied().reduce(|a, b| a + b)
    }

    /// A gauge, all engines together; `None` where none tells it.
    pub fn gauge(&self, name: GaugeName) -> Option<f64> {
        let values = self.engines.values().filter_map(|engine| engine.gauges.get(&name)).copied();
        values.reduce(|a, b| if name.is_greatest() { a.max(b) } else { a + b })
    }
}

impl EngineCounts {
    fn note(&mut self, what: What, sample: &Sample) {
        match what {
            What::Counter(name) => *self.counters.entry(name).or_default() += sample.value,
            What::Gauge(name) => {
                let value = self.gauges.entry(name).or_default();
                *value = if name.is_greatest() { value.max(sample.value) } else { *value + sample.value };
            }
            What::Histogram(name) => {
                let histogram = self.histograms.entry(name).or_default();
                match sample.label("le").map(str::parse) {
                    None if sample.name.ends_with("_sum") => histogram.sum += sample.value,
                    None => histogram.count += sample.value,
                    Some(Ok(bound)) => add_at(&mut histogram.cumulative, bound, sample.value),
                    Some(Err(_)) => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(text: &str) -> NodeCounts {
        NodeCounts::of(&Scrape::parse(text).unwrap())
    }

    /// Lines of a real vLLM 0.30 decode node with NixlConnector that served six requests, and of a second engine.
    const NIXL: &str = r#"
vllm:nixl_xfer_time_seconds_bucket{engine="0",le="0.05",model_name="tiny"} 4.0
vllm:nixl_xfer_time_seconds_bucket{engine="0",le="+Inf",model_name="tiny"} 6.0
vllm:nixl_xfer_time_seconds_count{engine="0",model_name="tiny"} 6.0
vllm:nixl_xfer_time_seconds_sum{engine="0",model_name="tiny"} 0.306376
vllm:nixl_bytes_transferred_sum{engine="0",model_name="tiny"} 3.145728e+06
vllm:nixl_bytes_transferred_count{engine="0",model_name="tiny"} 6.0
vllm:num_requests_running{engine="0",model_name="tiny"} 2.0
vllm:num_requests_running{engine="1",model_name="tiny"} 3.0
vllm:num_requests_waiting{engine="0",model_name="tiny"} 0.0
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="tiny"} 0.75
vllm:prompt_tokens_by_source_total{engine="0",model_name="tiny",source="local_compute"} 0.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="tiny",source="external_kv_transfer"} 2628.0
vllm:prompt_tokens_by_source_total{engine="1",model_name="tiny",source="external_kv_transfer"} 128.0
vllm:generation_tokens_created{engine="0",model_name="tiny"} 1.7e+09
"#;

    #[test]
    fn engines_behind_one_address_are_summed_and_their_number_told() {
        let told = counts(NIXL);
        assert_eq!(told.engines(), 2);
        assert_eq!(told.counter(CounterName::ExternalKv), Some(2756.0));
        assert_eq!(told.counter(CounterName::LocalCompute), Some(0.0));
        assert_eq!(told.counter(CounterName::GenerationTokens), None);
        assert_eq!(told.gauge(GaugeName::Running), Some(5.0));
        assert_eq!(told.gauge(GaugeName::KvUsage), Some(0.75));
        assert_eq!(told.gauge(GaugeName::WaitingForKv), None);
        let transfer = &told.engines["0"].histograms[&HistogramName::NixlTransfer];
        assert_eq!((transfer.count, transfer.sum), (6.0, 0.306376));
        assert_eq!(transfer.cumulative, [(0.05, 4.0), (f64::INFINITY, 6.0)]);
    }

    #[test]
    fn names_of_older_servers_stand_for_the_same_and_never_count_twice() {
        let v0 = counts(
            "vllm:gpu_cache_usage_perc{model_name=\"m\"} 0.5\nvllm:time_per_output_token_seconds_sum{} 2\n\
             vllm:time_per_output_token_seconds_count{} 4\nvllm:num_requests_running{model_name=\"m\"} 1\n\
             vllm:generation_tokens{model_name=\"m\"} 7\n",
        );
        assert_eq!(v0.engines(), 1);
        assert_eq!(v0.gauge(GaugeName::KvUsage), Some(0.5));
        assert_eq!(v0.counter(CounterName::GenerationTokens), Some(7.0));
        assert_eq!(v0.engines[""].histograms[&HistogramName::InterToken].mean(), Some(0.5));
        let both = counts("vllm:kv_cache_usage_perc 0.25\nvllm:gpu_cache_usage_perc 0.5\n");
        assert_eq!(both.gauge(GaugeName::KvUsage), Some(0.25));
    }

    #[test]
    fn a_store_master_and_a_proxy_tell_too() {
        let told = counts(
            "master_key_count 51\nmaster_get_replica_list_failures_total 4\nmaster_total_capacity_bytes 67108864\n\
             pdbench_proxy_requests_total{outcome=\"ok\"} 3\npdbench_proxy_requests_total{outcome=\"failed\"} 1\n",
        );
        assert_eq!(told.gauge(GaugeName::MasterKeys), Some(51.0));
        assert_eq!(told.counter(CounterName::MasterGetFailures), Some(4.0));
        assert_eq!(told.counter(CounterName::ProxyRequests), Some(4.0));
        assert_eq!(told.engines(), 0);
    }

    #[test]
    fn quantiles_lie_evenly_within_a_bucket() {
        let cumulative = vec![(1.0, 2.0), (3.0, 6.0), (f64::INFINITY, 8.0)];
        let histogram = HistogramCounts { count: 8.0, sum: 0.0, cumulative };
        let expected = [(0.125, 0.5), (0.25, 1.0), (0.5, 2.0), (0.75, 3.0), (1.0, 3.0)];
        for (share, value) in expected {
            assert_eq!(histogram.quantile(share), Some(value), "{share}");
        }
        assert_eq!(HistogramCounts::default().quantile(0.5), None);
        assert_eq!(HistogramCounts::default().mean(), None);
    }
}
