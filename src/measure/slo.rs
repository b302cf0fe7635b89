use super::{Definition, METRICS, Metric, Per, RequestRecord};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Service-level objectives: limits in milliseconds by metric key. Empty means none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slo(pub BTreeMap<String, f64>);

/// An objective that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{item}` is not an objective: {why}; want METRIC:MILLISECONDS with one of {}", Slo::keys().join(", "))]
pub struct SloError {
    /// What was typed.
    pub item: String,
    /// What is wrong with it.
    pub why: String,
}

impl Slo {
    /// Reads items such as `ttft:500`, limits in milliseconds.
    ///
    /// # Errors
    /// An unknown key, a key given twice, no colon, and a limit that is not a number of 0 or more.
    pub fn parse<T: AsRef<str>>(items: &[T]) -> Result<Self, SloError> {
        let mut limits = BTreeMap::new();
        for item in items {
            let item = item.as_ref();
            let refuse = |why: String| SloError { item: item.to_owned(), why };
            let (key, limit) = item.split_once(':').ok_or_else(|| refuse("it has no colon".to_owned()))?;
            if !Self::keys().contains(&key) {
                return Err(refuse(format!("there is no objective on `{key}`")));
            }
            let limit = match limit.parse::<f64>() {
                Ok(limit) if limit.is_finite() && 0.0 <= limit => limit,
                _ => return Err(refuse(format!("`{limit}` is not a limit of 0 or more"))),
            };
            if limits.insert(key.to_owned(), limit).is_some() {
                return Err(refuse(format!("`{key}` has a limit already")));
            }
        }
        Ok(Self(limits))
    }

    /// Keys that an objective can be set on: every metric with one value a request.
    pub fn keys() -> Vec<&'static str> {
        METRICS.iter().filter(|metric| metric.per == Per::Request).map(|metric| metric.key).collect()
    }

    /// True without objectives.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when the request is ok and each limit is kept. A value that is missing fails; vLLM takes
    /// the TPOT of one token for 0.
    pub fn met_by(&self, record: &RequestRecord, definition: Definition) -> bool {
        record.is_ok()
            && self.0.iter().all(|(key, &limit)| {
                let Some(metric) = Metric::find(key) else { return false };
                let stand_in = metric.vllm_goodput_default.filter(|_| definition == Definition::Vllm);
                metric.value(record, definition).or(stand_in).is_some_and(|value| value <= limit)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{failed, record};
    use super::super::{Flag, Outcome};
    use super::*;
    use Definition::{Strict, Vllm};

    #[test]
    fn objectives_are_read_as_vllm_users_type_them() {
        let slo = Slo::parse(&["ttft:500", "tpot:50.5", "e2el:0"]).unwrap();
        let limits: Vec<(&str, f64)> = slo.0.iter().map(|(key, &limit)| (key.as_str(), limit)).collect();
        assert_eq!(limits, [("e2el", 0.0), ("tpot", 50.5), ("ttft", 500.0)]);
        assert!(Slo::parse::<&str>(&[]).unwrap().is_empty());
    }

    #[test]
    fn a_wrong_objective_is_refused_with_the_allowed_keys() {
        let table = [
            ("ttft", "it has no colon"),
            ("latency:5", "there is no objective on `latency`"),
            ("itl:5", "there is no objective on `itl`"),
            ("ttft:", "`` is not a limit of 0 or more"),
            ("ttft:NaN", "`NaN` is not a limit of 0 or more"),
            ("ttft:inf", "`inf` is not a limit of 0 or more"),
            ("ttft:-1", "`-1` is not a limit of 0 or more"),
        ];
        for (item, why) in table {
            let error = Slo::parse(&[item]).unwrap_err();
            assert_eq!((error.item.as_str(), error.why.as_str()), (item, why));
            assert!(error.to_string().contains("ttft, tpot, e2el, "), "{error}");
        }
        assert_eq!(Slo::parse(&["ttft:1", "ttft:2"]).unwrap_err().why, "`ttft` has a limit already");
    }

    #[test]
    fn each_limit_must_be_kept_and_a_limit_itself_is_kept() {
        let slo = Slo::parse(&["ttft:100", "tpot:50"]).unwrap();
        let table = [("0 100 150 200", true), ("0 101 150 200", false), ("0 100 150 201", false)];
        for (times, met) in table {
            assert_eq!(slo.met_by(&record(times), Strict), met, "{times}");
        }
        assert!(!slo.met_by(&failed("0 100 150 200", Outcome::Truncated), Strict));
    }

    #[test]
    fn a_missing_tpot_fails_strictly_and_is_0_to_vllm() {
        let slo = Slo::parse(&["tpot:50"]).unwrap();
        assert!(!slo.met_by(&record("0 100"), Strict));
        assert!(slo.met_by(&record("0 100"), Vllm));
        let mut buffered = record("0 100 100");
        buffered.flags.insert(Flag::BufferedByProxy, 1);
        assert!(!slo.met_by(&buffered, Strict));
    }
}
