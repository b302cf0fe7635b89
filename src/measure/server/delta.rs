//! How much a node's counts grew.

use super::counts::EngineCounts;
use super::{CounterName, GaugeName, HistogramCounts, HistogramName, NodeCounts};
use std::collections::BTreeMap;

/// What a node counted between two scrapes, or over several in a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeDelta {
    /// Engines behind its address, at the end.
    pub engines: usize,
    /// How often an engine began anew. What it had counted since the scrape before is lost: all growth then is a lower
    /// bound.
    pub restarts: usize,
    counters: BTreeMap<CounterName, f64>,
    histograms: BTreeMap<HistogramName, HistogramCounts>,
}

impl NodeDelta {
    /// What came between two scrapes of a node.
    pub fn between(before: &NodeCounts, after: &NodeCounts) -> Self {
        let mut delta = Self { engines: after.engines(), ..Self::default() };
        // A process that began anew did so with all of its engines.
        let start = |counts: &NodeCounts| counts.gauge(GaugeName::ProcessStart);
        let anew = start(before).zip(start(after)).is_some_and(|(before, after)| before < after);
        for (name, now) in &after.engines {
            let then = before.engines.get(name);
            let restarted = then.is_some_and(|then| fell(then, now)) || anew;
            delta.restarts += usize::from(restarted && !now.counters.is_empty());
            delta.add_growth(then.filter(|_| !restarted), now);
        }
        delta
    }

    /// What came over scrapes in the order of time; `None` without any. Where nothing began anew that is what lies
    /// between the first and the last, even if only those two have a histogram's buckets.
    pub fn over<'a>(scrapes: impl IntoIterator<Item = &'a NodeCounts>) -> Option<Self> {
        let mut scrapes = scrapes.into_iter();
        let first = scrapes.next()?;
        let (mut before, mut whole) = (first, Self::between(first, first));
        for after in scrapes {
            whole.add(&Self::between(before, after));
            before = after;
        }
        Some(if whole.is_lower_bound() { whole } else { Self::between(first, before) })
    }

    /// Adds what came next.
    fn add(&mut self, next: &Self) {
        self.engines = next.engines;
        self.restarts += next.restarts;
        next.counters.iter().for_each(|(name, more)| *self.counters.entry(*name).or_default() += more);
        for (name, more) in &next.histograms {
            self.histograms.entry(*name).or_default().add(more);
        }
    }

    fn add_growth(&mut self, then: Option<&EngineCounts>, now: &EngineCounts) {
        for (name, value) in &now.counters {
            let before = then.and_then(|then| then.counters.get(name)).unwrap_or(&0.0);
            *self.counters.entry(*name).or_default() += value - before;
        }
        for (name, histogram) in &now.histograms {
            let grown = match then.and_then(|then| then.histograms.get(name)) {
                Some(before) => histogram.since(before),
                None => histogram.clone(),
            };
            self.histograms.entry(*name).or_default().add(&grown);
        }
    }

    /// Whether all growth is a lower bound, since a node began anew in between.
    pub fn is_lower_bound(&self) -> bool {
        0 < self.restarts
    }

    /// How much a counter grew; `None` where the node does not tell it.
    pub fn grown(&self, name: CounterName) -> Option<f64> {
        self.counters.get(&name).copied()
    }

    /// The values that a histogram counted in between; `None` where the node does not tell it.
    pub fn histogram(&self, name: HistogramName) -> Option<&HistogramCounts> {
        self.histograms.get(&name)
    }

    /// Mean of the values that a histogram counted in between; `None` without any.
    pub fn mean(&self, name: HistogramName) -> Option<f64> {
        self.histogram(name)?.mean()
    }

    /// Requests that ended, whatever the reason; `None` where the node does not tell.
    pub fn finished(&self) -> Option<f64> {
        [
            CounterName::FinishedStop,
            CounterName::FinishedLength,
            CounterName::FinishedAbort,
            CounterName::FinishedError,
            CounterName::FinishedRepetition,
        ]
        .into_iter()
        .filter_map(|name| self.grown(name))
        .reduce(|a, b| a + b)
    }

    /// Bytes of KV that the node moved by its connector, in whatever direction; `None` where it does not tell.
    pub fn kv_bytes(&self) -> Option<f64> {
        let nixl = self.histogram(HistogramName::NixlBytes).map(|bytes| bytes.sum);
        let store =
            [CounterName::StoreBytesLoaded, CounterName::StoreBytesSaved].map(|name| self.grown(name));
        nixl.into_iter().chain(store.into_iter().flatten()).reduce(|a, b| a + b)
    }

    /// Transfers of KV, or keys of a store, that failed; `None` where the node does not tell.
    pub fn failed_transfers(&self) -> Option<f64> {
        let names = [CounterName::NixlFailedTransfers, CounterName::StoreFailedKeys];
        names.into_iter().filter_map(|name| self.grown(name)).reduce(|a, b| a + b)
    }
}

/// Whether something that only grows is less than it was.
fn fell(before: &EngineCounts, after: &EngineCounts) -> bool {
    let counter = |(name, then): (&CounterName, &f64)| after.counters.get(name).is_none_or(|now| now < then);
    let histogram = |(name, then): (&HistogramName, &HistogramCounts)| {
        after.histograms.get(name).is_none_or(|now| now.count < then.count)
    };
    before.counters.iter().any(counter) || before.histograms.iter().any(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::prometheus::Scrape;

    fn counts(text: &str) -> NodeCounts {
        NodeCounts::of(&Scrape::parse(text).unwrap())
    }

    fn generated(engines: &[(u32, f64)]) -> NodeCounts {
        let line = |(engine, value): &(u32, f64)| {
            format!("vllm:generation_tokens_total{{engine=\"{engine}\"}} {value}\n")
        };
        counts(&engines.iter().map(line).collect::<String>())
    }

    const TOKENS: CounterName = CounterName::GenerationTokens;

    #[test]
    fn what_a_node_does_not_tell_is_nothing_and_never_0() {
        let delta = NodeDelta::between(&generated(&[(0, 5.0)]), &generated(&[(0, 9.0)]));
        assert_eq!((delta.grown(TOKENS), delta.restarts), (Some(4.0), 0));
        assert_eq!(delta.grown(CounterName::ExternalKv), None);
        assert_eq!((delta.finished(), delta.kv_bytes(), delta.failed_transfers()), (None, None, None));
        assert_eq!(delta.mean(HistogramName::Queue), None);
        assert_eq!(NodeDelta::over([]), None);
    }

    #[test]
    fn a_series_that_appears_counts_from_0() {
        let before = counts("vllm:generation_tokens_total 5\n");
        let after = counts(
            "vllm:generation_tokens_total 5\nvllm:nixl_bytes_transferred_sum 96\nvllm:nixl_bytes_transferred_count 2\n\
             vllm:request_success_total{finished_reason=\"length\"} 2\nvllm:request_success_total{finished_reason=\"stop\"} 1\n",
        );
        let delta = NodeDelta::between(&before, &after);
        assert_eq!((delta.kv_bytes(), delta.finished(), delta.restarts), (Some(96.0), Some(3.0), 0));
    }

    #[test]
    fn of_two_engines_the_one_that_restarts_counts_from_0() {
        let series = [
            generated(&[(0, 100.0), (1, 100.0)]),
            generated(&[(0, 110.0), (1, 3.0)]),
            generated(&[(0, 120.0), (1, 13.0)]),
        ];
        let delta = NodeDelta::over(&series).unwrap();
        assert_eq!((delta.grown(TOKENS), delta.restarts, delta.engines), (Some(33.0), 1, 2));
        assert!(delta.is_lower_bound());
    }

    #[test]
    fn a_process_with_a_later_start_began_anew_though_it_counted_further() {
        let at = |start: u32, tokens: u32| {
            counts(&format!("vllm:generation_tokens_total 5{tokens}\nprocess_start_time_seconds {start}\n"))
        };
        let delta = NodeDelta::between(&at(1, 0), &at(2, 5));
        assert_eq!((delta.grown(TOKENS), delta.restarts), (Some(55.0), 1));
        assert_eq!(NodeDelta::between(&at(1, 0), &at(1, 5)).restarts, 0);
    }

    #[test]
    fn histograms_grow_bucket_by_bucket() {
        let at = |low: u32, all: u32, sum: f64| {
            let line = |le: &str, count: u32| {
                format!("vllm:request_queue_time_seconds_bucket{{engine=\"0\",le=\"{le}\"}} {count}\n")
            };
            let sums = format!(
                "vllm:request_queue_time_seconds_sum{{engine=\"0\"}} {sum}\nvllm:request_queue_time_seconds_count{{engine=\"0\"}} {all}\n"
            );
            counts(&(line("1.0", low) + &line("+Inf", all) + &sums))
        };
        let delta = NodeDelta::between(&at(1, 2, 3.0), &at(4, 6, 5.0));
        let queue = delta.histogram(HistogramName::Queue).unwrap();
        assert_eq!((queue.count, queue.sum, queue.mean()), (4.0, 2.0, Some(0.5)));
        assert_eq!(queue.cumulative, [(1.0, 3.0), (f64::INFINITY, 4.0)]);
        let over = NodeDelta::over(&[at(1, 2, 3.0), at(2, 3, 3.5), at(4, 6, 5.0)]).unwrap();
        assert_eq!(over, delta);
    }
}
