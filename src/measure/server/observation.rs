//! What was scraped in a run, line by line, as `observations.jsonl` keeps it, and its way back to counts. A line is
//! there when its value is another than in the scrape before: what is not told again has not changed. Each scrape
//! begins with `up`, 1 or 0, so that a gap is not taken for rest.

use super::{HistogramName, NodeCounts, ServerRole};
use crate::measure::Offset;
use crate::wire::prometheus::Sample;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// The name of the line that each scrape begins with: 1, or 0 where it failed, then with the reason as label `why`.
pub const UP: &str = "up";

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// When the node had answered.
    pub at: Offset,
    /// What of which node.
    pub series: Arc<Series>,
    /// Its value from then on; `None` where the node stopped telling it.
    pub value: Option<f64>,
}

/// What of which node a line tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Series {
    /// The node: `host:port`, or `decode-0` in an embedded cluster.
    pub node: String,
    /// What the node does.
    pub role: ServerRole,
    /// Name as the node tells it, or [`UP`].
    pub name: String,
    /// Labels, without the model's name.
    pub labels: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(rename = "t_us")]
    at: Offset,
    node: String,
    role: ServerRole,
    name: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    value: Option<f64>,
}

impl Serialize for Observation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Series { node, role, name, labels } = (*self.series).clone();
        Line { at: self.at, node, role, name, labels, value: self.value }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Observation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Line { at, node, role, name, labels, value } = Line::deserialize(deserializer)?;
        Ok(Self { at, series: Arc::new(Series { node, role, name, labels }), value })
    }
}

/// Whether a line of a scrape is kept: one that says something known, but no bucket, of which there are many.
pub fn is_kept(name: &str) -> bool {
    !name.ends_with("_bucket") && super::is_told(name)
}

/// The same observations, in which equal series are one value.
pub fn shared(observations: Vec<Observation>) -> Vec<Observation> {
    let mut known: HashSet<Arc<Series>> = HashSet::new();
    let share = |mut observation: Observation| {
        match known.get(&observation.series) {
            Some(series) => observation.series = Arc::clone(series),
            None => drop(known.insert(Arc::clone(&observation.series))),
        }
        observation
    };
    observations.into_iter().map(share).collect()
}

/// One node over the run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct History {
    pub(super) node: String,
    pub(super) role: ServerRole,
    pub(super) looks: Vec<Look>,
}

/// One look at a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Look {
    pub(super) at: Offset,
    /// What it told, or why it told nothing.
    pub(super) told: Result<NodeCounts, String>,
}

/// A node while its lines are read.
struct Reading<'a> {
    history: History,
    /// What it tells at the moment, by series.
    now: BTreeMap<&'a Series, Sample>,
    /// When the scrape was that is being read.
    scrape: Option<Offset>,
}

impl Reading<'_> {
    fn look(&mut self) {
        if let Some(at) = self.scrape.take() {
            self.history.looks.push(Look { at, told: Ok(NodeCounts::of_samples(self.now.values())) });
        }
    }
}

/// Each node over the run, in the order of their first lines, which are in the order of time.
pub(super) fn histories(observations: &[Observation]) -> Vec<History> {
    let mut readings: Vec<Reading<'_>> = Vec::new();
    for Observation { at, series, value } in observations {
        let nth = readings.iter().position(|reading| reading.history.node == series.node);
        let nth = nth.unwrap_or_else(|| {
            let history = History { node: series.node.clone(), role: series.role, looks: Vec::new() };
            readings.push(Reading { history, now: BTreeMap::new(), scrape: None });
            readings.len() - 1
        });
        let reading = &mut readings[nth];
        if series.name == UP {
            reading.look();
            match *value == Some(1.0) {
                true => reading.scrape = Some(*at),
                false => {
                    let why = series.labels.get("why").cloned().unwrap_or_default();
                    reading.history.looks.push(Look { at: *at, told: Err(why) });
                }
            }
            continue;
        }
        match value {
            Some(value) => {
                let sample = reading.now.entry(series.as_ref()).or_insert_with(|| sample(series));
                sample.value = *value;
            }
            None => drop(reading.now.remove(series.as_ref())),
        }
    }
    let done = |mut reading: Reading<'_>| {
        reading.look();
        reading.history
    };
    readings.into_iter().map(done).collect()
}

fn sample(series: &Series) -> Sample {
    let labels = series.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    Sample { name: series.name.clone(), labels, value: 0.0 }
}

impl History {
    /// The looks from the last before `start` to the first behind `end`, in which a node that told nothing is missing.
    pub(super) fn around(&self, start: Offset, end: Offset) -> Vec<(Offset, &NodeCounts)> {
        let told: Vec<(Offset, &NodeCounts)> =
            self.looks.iter().filter_map(|look| Some((look.at, look.told.as_ref().ok()?))).collect();
        let first = told.partition_point(|(at, _)| *at <= start).saturating_sub(1);
        let last = told.partition_point(|(at, _)| *at < end);
        told.into_iter().take(last + 1).skip(first).collect()
    }

    /// Whether the node ever told how long its requests take.
    pub(super) fn tells_times(&self) -> bool {
        let tells = |look: &Look| {
            look.told.as_ref().is_ok_and(|counts| counts.histogram_count(HistogramName::Ttft).is_some())
        };
        self.looks.iter().any(tells)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CounterName, GaugeName};
    use super::*;

    fn at(seconds: u64) -> Offset {
        Offset::from_tenths(seconds * 10_000_000)
    }

    fn read(lines: &str) -> Vec<Observation> {
        shared(lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    const LINES: &str = r#"{"t_us":1000000.0,"node":"d","role":"decode","name":"up","value":1.0}
{"t_us":1000000.0,"node":"d","role":"decode","name":"vllm:num_requests_running","labels":{"engine":"0"},"value":2.0}
{"t_us":1000000.0,"node":"d","role":"decode","name":"vllm:generation_tokens_total","labels":{"engine":"0"},"value":10.0}
{"t_us":1000000.0,"node":"s","role":"store","name":"up","labels":{"why":"refused"},"value":0.0}
{"t_us":2000000.0,"node":"d","role":"decode","name":"up","value":1.0}
{"t_us":2000000.0,"node":"d","role":"decode","name":"vllm:generation_tokens_total","labels":{"engine":"0"},"value":15.0}
{"t_us":3000000.0,"node":"d","role":"decode","name":"up","labels":{"why":"timed out"},"value":0.0}
{"t_us":4000000.0,"node":"d","role":"decode","name":"up","value":1.0}
{"t_us":4000000.0,"node":"d","role":"decode","name":"vllm:num_requests_running","labels":{"engine":"0"},"value":null}"#;

    #[test]
    fn lines_read_back_as_they_were_written() {
        let written: Vec<String> =
            read(LINES).iter().map(|observation| serde_json::to_string(observation).unwrap()).collect();
        assert_eq!(written.join("\n"), LINES);
    }

    #[test]
    fn what_is_not_told_again_has_not_changed_and_a_gap_is_one() {
        let histories = histories(&read(LINES));
        let [decode, store] = &histories[..] else { panic!("{histories:?}") };
        assert_eq!(store.looks, [Look { at: at(1), told: Err("refused".to_owned()) }]);
        assert_eq!((decode.role, decode.looks.len()), (ServerRole::Decode, 4));
        let told = |nth: usize| decode.looks[nth].told.as_ref().unwrap();
        assert_eq!(told(1).gauge(GaugeName::Running), Some(2.0));
        assert_eq!(told(1).counter(CounterName::GenerationTokens), Some(15.0));
        assert_eq!(decode.looks[2].told, Err("timed out".to_owned()));
        assert_eq!(told(3).gauge(GaugeName::Running), None);
        assert_eq!(told(3).counter(CounterName::GenerationTokens), Some(15.0));
    }

    #[test]
    fn a_window_reaches_to_the_looks_before_and_behind_it() {
        let histories = histories(&read(LINES));
        let times = |start: u64, end: u64| -> Vec<f64> {
            histories[0].around(at(start), at(end)).iter().map(|(at, _)| at.as_secs_f64()).collect()
        };
        assert_eq!(times(1, 2), [1.0, 2.0]);
        assert_eq!(times(0, 3), [1.0, 2.0, 4.0]);
        assert_eq!(times(3, 9), [2.0, 4.0]);
    }

    #[test]
    fn buckets_and_unknown_lines_are_not_kept() {
        assert!(is_kept("vllm:request_queue_time_seconds_sum"));
        assert!(!is_kept("vllm:request_queue_time_seconds_bucket"));
        assert!(!is_kept("python_info"));
    }
}
