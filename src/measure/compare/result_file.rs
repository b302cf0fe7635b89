//! A result file of `vllm bench serve`, of pdbench or of vLLM itself, as a comparison takes it. Its numbers are by vLLM's
//! definitions; with `--save-detailed` its lists give them intervals.

use super::facts::{Told, Weight, text};
use super::quantity::{GOOD, OUTPUT, PERCENTILES, Quantity, REQUESTS, TOTAL};
use super::within::rate_interval;
use super::{ComparedRun, Fact, Standing, TooFew};
use crate::measure::{
    ClientVerdict, DatasetFacts, Definition, Distribution, Host, METRICS, Metric, Per, Settings, Stamps,
    State, TargetFacts, Validity, VllmNeeds,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A file that is no result of `vllm bench serve`.
#[derive(Debug, thiserror::Error)]
pub enum ResultFileError {
    /// It is not one JSON object.
    #[error("it is not JSON of one result")]
    NotJson(#[source] serde_json::Error),
    /// It holds several.
    #[error("it holds {0} results, one behind the other")]
    Several(usize),
    /// A key that every such file has is missing, or is no number.
    #[error("it has no number `{0}`: it is no result of `vllm bench serve`")]
    Missing(&'static str),
}

/// What a file of pdbench's has beside vLLM's keys.
#[derive(Deserialize)]
struct Own {
    simulated: bool,
    validity: Validity,
    client: ClientVerdict,
    manifest: Map<String, Value>,
}

impl ComparedRun {
    /// From the bytes of a result file.
    ///
    /// # Errors
    /// When they are not one result of `vllm bench serve`.
    pub fn of_result_file(name: &str, bytes: &[u8]) -> Result<Self, ResultFileError> {
        let mut results = serde_json::Deserializer::from_slice(bytes).into_iter::<Map<String, Value>>();
        let first = results.next().transpose().map_err(ResultFileError::NotJson)?.unwrap_or_default();
        match results.filter(Result::is_ok).count() {
            0 => Self::of_result(name, &ResultFile { keys: first }),
            more => Err(ResultFileError::Several(more + 1)),
        }
    }

    fn of_result(name: &str, file: &ResultFile) -> Result<Self, ResultFileError> {
        let wanted = |key| file.number(key).ok_or(ResultFileError::Missing(key));
        let ok = wanted("completed")? as usize;
        wanted("request_throughput")?;
        let failed = file.number("failed").map(|failed| failed as usize);
        let requests = file.requests();
        let mut quantities = vec![Quantity::failure_share(ok, failed)];
        quantities.extend(file.throughputs(&requests));
        let mut too_few = Vec::new();
        for metric in METRICS {
            let (of_metric, few) = file.latencies(metric, ok, &requests);
            quantities.extend(of_metric);
            too_few.extend(few);
        }
        let own: Option<Own> = file.of_own("pdbench", &file.keys);
        let standing = Standing {
            valid: own.as_ref().map(|own| own.validity.valid),
            reasons: own
                .iter()
                .flat_map(|own| own.validity.reasons.iter().map(|reason| reason.what()))
                .collect(),
            client: own.as_ref().map(|own| own.client.state),
            ok,
            failed,
            simulated: own.as_ref().is_some_and(|own| own.simulated),
            summary_only: requests.is_empty(),
            ..Standing::default()
        };
        let facts = file.facts(ok, own.as_ref());
        Ok(Self { name: name.to_owned(), facts, standing, quantities, too_few })
    }
}

struct ResultFile {
    keys: Map<String, Value>,
}

/// What the lists of a detailed file say of one request that was completed.
struct Answer {
    sent_s: f64,
    ttft_s: f64,
    gaps_s: Vec<f64>,
    e2el_s: f64,
    input_tokens: f64,
    output_tokens: f64,
}

impl ResultFile {
    fn number(&self, key: &str) -> Option<f64> {
        self.keys.get(key)?.as_f64().filter(|number| number.is_finite())
    }

    fn of_own<T: DeserializeOwned>(&self, key: &str, map: &Map<String, Value>) -> Option<T> {
        T::deserialize(map.get(key)?).ok()
    }

    fn word(&self, key: &str) -> Option<String> {
        match self.keys.get(key)? {
            Value::Null => Some("none".to_owned()),
            Value::String(word) => Some(word.clone()),
            Value::Number(number) => {
                Some(number.as_f64().map_or_else(|| number.to_string(), |n| n.to_string()))
            }
            _ => None,
        }
    }

    /// The completed requests in the order of their sends; none without the lists of `--save-detailed`.
    fn requests(&self) -> Vec<Answer> {
        let list = |key: &str| self.keys.get(key).and_then(Value::as_array);
        let lists = ["start_times", "ttfts", "input_lens", "output_lens"].map(list);
        let ([Some(starts), Some(ttfts), Some(inputs), Some(outputs)], Some(itls)) = (lists, list("itls"))
        else {
            return Vec::new();
        };
        let (errors, latencies) = (list("errors"), list("latencies"));
        let answer = |nth: usize| {
            let of = |list: &Vec<Value>| list.get(nth).and_then(Value::as_f64);
            let error = errors.and_then(|errors| errors.get(nth)).and_then(Value::as_str);
            let gaps_s: Vec<f64> = itls.get(nth)?.as_array()?.iter().filter_map(Value::as_f64).collect();
            let ttft_s = of(ttfts)?;
            let output_tokens = of(outputs)?;
            let e2el_s = latencies.and_then(of).unwrap_or_else(|| ttft_s + gaps_s.iter().sum::<f64>());
            let whole = error.is_none_or(str::is_empty) && 0.0 < output_tokens;
            whole.then_some(Answer {
                sent_s: of(starts)?,
                ttft_s,
                gaps_s,
                e2el_s,
                input_tokens: of(inputs)?,
                output_tokens,
            })
        };
        let mut answers: Vec<Answer> = (0..starts.len()).filter_map(answer).collect();
        answers.sort_by(|one, two| one.sent_s.total_cmp(&two.sent_s));
        answers
    }

    /// End-to-end latencies of completed requests in their order, which a file without other lists has, too.
    fn e2el_ms(&self) -> Vec<Vec<f64>> {
        let list = self.keys.get("latencies").and_then(Value::as_array);
        let seconds = list.into_iter().flatten().filter_map(Value::as_f64).filter(|seconds| 0.0 < *seconds);
        seconds.map(|seconds| vec![1e3 * seconds]).collect()
    }

    fn throughputs(&self, requests: &[Answer]) -> Vec<Quantity> {
        let begin = requests.first().map_or(0.0, |first| first.sent_s);
        let end = |answer: &Answer| answer.sent_s + answer.e2el_s;
        let last = requests.iter().map(end).fold(begin, f64::max);
        // Which requests were good no file tells.
        let rate = |name: [&'static str; 3], value: Option<f64>, weight: Option<fn(&Answer) -> f64>| {
            let came = |weight: fn(&Answer) -> f64| {
                requests.iter().map(|one| (end(one), weight(one))).collect::<Vec<_>>()
            };
            let interval = weight
                .filter(|_| value.is_some())
                .and_then(|weight| rate_interval(&came(weight), (begin, last)));
            Quantity::throughput(name, Definition::Vllm, value, interval)
        };
        // Older versions have a colon in the key.
        let good = self.number("request_goodput").or_else(|| self.number("request_goodput:"));
        vec![
            rate(REQUESTS, self.number(REQUESTS[0]), Some(|_| 1.0)),
            rate(OUTPUT, self.number(OUTPUT[0]), Some(|one| one.output_tokens)),
            rate(TOTAL, self.number(TOTAL[0]), Some(|one| one.input_tokens + one.output_tokens)),
            rate(GOOD, good, None),
        ]
    }

    /// A metric's statistics: vLLM's own where the file has them, else from its lists.
    fn latencies(&self, metric: &Metric, ok: usize, requests: &[Answer]) -> (Vec<Quantity>, Vec<TooFew>) {
        let Some(names) = metric.vllm.filter(|names| names.needs == VllmNeeds::Nothing) else {
            return (Vec::new(), Vec::new());
        };
        let values: Vec<Vec<f64>> = match requests.is_empty() && metric.key == "e2el" {
            true => self.e2el_ms(),
            false => requests.iter().map(|answer| answer.values_ms(metric.key)).collect(),
        };
        let percentiles: Vec<f64> = PERCENTILES.iter().map(|(_, p)| *p).collect();
        let made = Distribution::of(values.iter().flatten().copied().collect(), &percentiles);
        let (mut quantities, mut too_few) = Quantity::latencies(metric, Definition::Vllm, &made, &values);
        for quantity in &mut quantities {
            let statistic = if quantity.what.statistic == "p50" { "median" } else { quantity.what.statistic };
            // vLLM writes 0 where there is no value.
            let own = self.number(&format!("{statistic}_{}_ms", names.key)).filter(|value| 0.0 < *value);
            let backed = !values.is_empty() || statistic != "p99" || enough(metric, ok);
            if values.is_empty() {
                quantity.value = own.filter(|_| backed);
            }
            if own.is_some() && !backed {
                too_few.push(TooFew { name: format!("{} p99", metric.short), count: ok, needs: P99_NEEDS });
            }
        }
        (quantities, too_few)
    }

    fn facts(&self, ok: usize, own: Option<&Own>) -> Vec<Fact> {
        let mean = |key| Some(self.number(key)? / ok as f64).filter(|_| 0 < ok);
        let (prompt_tokens, output_tokens) = (mean("total_input_tokens"), mean("total_output_tokens"));
        let Some(own) = own else {
            let told = Told { verb: Some("serve"), prompt_tokens, output_tokens, ..Told::default() };
            let mut facts = told.facts();
            let set = [
                (Weight::Void, "model", "model_id"),
                (Weight::Limits, "request rate", "request_rate"),
                (Weight::Limits, "burstiness", "burstiness"),
                (Weight::Limits, "concurrency limit", "max_concurrency"),
                (Weight::Limits, "requests", "num_prompts"),
                (Weight::Limits, "API", "backend"),
            ];
            for (weight, name, key) in set {
                if let Some(fact) = facts.iter_mut().find(|fact| fact.name == name) {
                    *fact = text(weight, name, self.word(key));
                }
            }
            return facts;
        };
        let (settings, target): (Option<Settings>, Option<TargetFacts>) =
            (self.of_own("settings", &own.manifest), self.of_own("target", &own.manifest));
        let (dataset, host): (Option<DatasetFacts>, Option<Host>) =
            (self.of_own("dataset", &own.manifest), self.of_own("host", &own.manifest));
        let (verb, version): (Option<String>, Option<String>) =
            (self.of_own("verb", &own.manifest), self.of_own("version", &own.manifest));
        let (state, stamps): (Option<State>, Option<Stamps>) =
            (self.of_own("state", &own.manifest), self.of_own("stamps", &own.manifest));
        let told = Told {
            verb: verb.as_deref(),
            state,
            version: version.as_deref(),
            host: host.as_ref(),
            stamps,
            settings: settings.as_ref(),
            target: target.as_ref(),
            dataset: dataset.as_ref(),
            simulator: None,
            task: None,
            prompt_tokens,
            output_tokens,
        };
        told.facts()
    }
}

/// Requests that a p99 takes.
const P99_NEEDS: usize = 299;

/// Whether so many requests back a p99.
fn enough(metric: &Metric, ok: usize) -> bool {
    metric.per == Per::Gap || P99_NEEDS <= ok
}

impl Answer {
    fn values_ms(&self, key: &str) -> Vec<f64> {
        match key {
            "ttft" => vec![1e3 * self.ttft_s],
            "itl" => self.gaps_s.iter().map(|gap| 1e3 * gap).collect(),
            "e2el" => vec![1e3 * self.e2el_s],
            "tpot" if 1.0 < self.output_tokens => {
                vec![1e3 * (self.e2el_s - self.ttft_s) / (self.output_tokens - 1.0)]
            }
            _ => Vec::new(),
        }
    }
}
