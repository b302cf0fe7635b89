use super::check::{CheckFault, CheckResult};
use super::{
    AccuracyFault, BatchFault, BatchResult, ClientState, ClientVerdict, Counts, Flag, Offset, Outcome,
    OutputLength, RequestRecord, Run, accuracy, notice,
};
use serde::{Deserialize, Serialize};

/// Whether a run counts. Valid exactly when there is no reason against it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Validity {
    /// True when the numbers may be quoted.
    pub valid: bool,
    /// Why not.
    pub reasons: Vec<Reason>,
}

/// A reason why a run does not count; its texts stand in this file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// Not one request succeeded.
    NoOkRequest,
    /// More failures than the error budget allows.
    FailureShare {
        /// Requests that failed.
        failed: usize,
        /// Requests that ended ok or failed.
        of: usize,
        /// Greatest share allowed.
        limit: f64,
    },
    /// The client did not keep up: the numbers are its own.
    ClientSaturated {
        /// What that rests on.
        evidence: Vec<String>,
    },
    /// Token counts contradict one another in too many answers.
    TokenMismatch {
        /// Requests with a contradiction.
        requests: usize,
        /// Requests that ended by themselves.
        of: usize,
    },
    /// A percentile that was asked for lies among requests that were cut by a time-out.
    CensoredPercentile {
        /// The lowest such percentile.
        p: f64,
        /// Requests that ran into a time-out.
        timeouts: usize,
        /// Requests that were ok or ran into a time-out.
        of: usize,
        /// How long the first of them to be cut was waited for, seconds: the percentile is not below.
        at_least_s: f64,
    },
    /// The mean number of requests in flight contradicts the records.
    LittlesLaw {
        /// In flight on average, as counted beside the records.
        counted: f64,
        /// In flight on average, by the records.
        recorded: f64,
    },
    /// Answers are longer or shorter than asked for, and that was to count.
    OutputLength(OutputLength),
    /// This machine ran out of ports, descriptors or socket memory.
    ClientPorts {
        /// Requests that failed of it.
        requests: usize,
    },
    /// A batch of replicas does not count.
    Repeat {
        /// Replicas of that batch.
        batch: usize,
        /// Why not.
        fault: BatchFault,
    },
    /// An accuracy run does not count, or found something against the deployment.
    Accuracy {
        /// What.
        fault: AccuracyFault,
    },
    /// A functional check found something.
    Check {
        /// What.
        fault: CheckFault,
    },
    /// pdbench itself failed.
    Internal {
        /// Requests that failed of it.
        requests: usize,
        /// Parts of the program that failed beside the requests.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        parts: Vec<String>,
    },
}

/// Share of requests with contradicting token counts above which nothing can be said about tokens.
const MISMATCH_SHARE: f64 = 0.01;
/// How far the counted and the recorded number in flight may be apart, as a share.
const LITTLE_SHARE: f64 = 0.05;
/// Seconds by which the counter may follow the records at each request, for the client's own delay.
const LITTLE_DELAY_S: f64 = 0.005;
/// Requests below which the number in flight is not compared.
const LITTLE_REQUESTS: usize = 100;
/// Samples below which it is not compared.
const LITTLE_SAMPLES: usize = 20;

impl Reason {
    /// What is wrong, with figures, one line.
    pub fn what(&self) -> String {
        match self {
            Reason::NoOkRequest => "no request succeeded".to_owned(),
            Reason::FailureShare { failed, of, limit } => format!(
                "{failed} of {of} requests failed ({}), more than the {} allowed",
                percent(*failed as f64 / *of as f64),
                percent(*limit)
            ),
            Reason::ClientSaturated { evidence } => {
                format!("the client could not keep up, the numbers are its own: {}", evidence.join("; "))
            }
            Reason::TokenMismatch { requests, of } => format!(
                "token counts contradict one another in {requests} of {of} answers ({})",
                percent(*requests as f64 / *of as f64)
            ),
            Reason::CensoredPercentile { p, timeouts, of, at_least_s } => format!(
                "{timeouts} of {of} requests were cut by a time-out, so p{p} is only known to be at least \
                 {at_least_s:.1} s"
            ),
            Reason::LittlesLaw { counted, recorded } => format!(
                "the sender counted {counted:.2} requests in flight on average, the records say {recorded:.2}"
            ),
            Reason::OutputLength(length) => {
                format!("{}, and --strict-osl was given{}", length.text(), length.histogram())
            }
            Reason::ClientPorts { requests } => {
                format!("this machine ran out of ports, descriptors or socket memory for {requests} requests")
            }
            Reason::Repeat { batch, fault } => format!("batch of {batch}: {}", fault.what()),
            Reason::Accuracy { fault } => fault.what(),
            Reason::Check { fault } => fault.what(),
            Reason::Internal { requests, parts } => internal(*requests, parts),
        }
    }

    /// What to do about it, one line.
    pub fn what_to_do(&self) -> &'static str {
        match self {
            Reason::Repeat { fault, .. } => fault.what_to_do(),
            Reason::Accuracy { fault } => fault.what_to_do(),
            Reason::Check { fault } => fault.what_to_do(),
            Reason::NoOkRequest => "look at the errors by kind below and send one request by hand",
            Reason::FailureShare { .. } => {
                "look at the errors by kind, lower the load, or allow more with --max-error-rate"
            }
            Reason::ClientSaturated { .. } => {
                "lower the rate, give the client more cores, or run it on a machine of its own; `pdbench selftest` says \
                 what this one can measure"
            }
            Reason::TokenMismatch { .. } => {
                "look at one such answer in records.jsonl; a proxy may join two streams wrongly"
            }
            Reason::CensoredPercentile { .. } => {
                "raise the time-out, lower the load, or ask for a lower percentile"
            }
            Reason::LittlesLaw { .. } => "do not trust this run; report it as a fault of pdbench",
            Reason::OutputLength(_) => "use --ignore-eos to have every answer as long as asked for",
            Reason::ClientPorts { .. } => {
                "raise `ulimit -n` and the range of local ports, or limit the load with --max-concurrency"
            }
            Reason::Internal { .. } => "report it with the errors in records.jsonl",
        }
    }
}

impl Validity {
    /// Judges the records of the main load.
    pub(super) fn of(run: &Run, counts: &Counts, client: &ClientVerdict, batches: &[BatchResult]) -> Self {
        if run.accuracy.is_some() {
            return Self::of_answers(run, counts);
        }
        let of_batch = |result: &BatchResult| {
            let batch = result.plateau.expected;
            result.faults().into_iter().map(move |fault| Reason::Repeat { batch, fault }).collect::<Vec<_>>()
        };
        let of_batches = batches.iter().flat_map(of_batch);
        let of_load = [
            (counts.ok == 0).then_some(Reason::NoOkRequest),
            failure_share(counts, run.manifest.settings.max_error_rate),
            saturated(client),
            token_mismatch(run),
            censored_percentile(run),
            littles_law(run),
            notice::output_length(run).filter(|_| run.manifest.settings.strict_osl).map(Reason::OutputLength),
            counts.having(Outcome::ClientPorts).map(|requests| Reason::ClientPorts { requests }),
            internal_fault(run, counts),
        ]
        .into_iter()
        .flatten();
        let reasons: Vec<Reason> = of_batches.chain(of_load).collect();
        Self { valid: reasons.is_empty(), reasons }
    }

    /// Judges a functional check by what it found: each request that failed is part of that.
    pub(super) fn of_check(run: &Run, counts: &Counts, check: &CheckResult) -> Self {
        let faults = check.faults.iter().cloned().map(|fault| Reason::Check { fault });
        let none = (counts.ok == 0).then_some(Reason::NoOkRequest);
        let reasons: Vec<Reason> = faults.chain(none).chain(internal_fault(run, counts)).collect();
        Self { valid: reasons.is_empty(), reasons }
    }

    /// Judges an accuracy run by its answers: a request that failed was sent again, what streams tell is not asked, and
    /// answers are no worse for a slow client.
    fn of_answers(run: &Run, counts: &Counts) -> Self {
        let answered = run.accuracy.iter().flat_map(|result| &result.arms).any(|arm| 0 < arm.answered);
        let faults = accuracy::faults(run).into_iter().map(|fault| Reason::Accuracy { fault });
        let reasons: Vec<Reason> = (!answered)
            .then_some(Reason::NoOkRequest)
            .into_iter()
            .chain(faults)
            .chain(internal_fault(run, counts))
            .collect();
        Self { valid: reasons.is_empty(), reasons }
    }
}

fn saturated(client: &ClientVerdict) -> Option<Reason> {
    let saturated = client.state == ClientState::Saturated;
    saturated.then(|| Reason::ClientSaturated { evidence: client.evidence.clone() })
}

fn internal(requests: usize, parts: &[String]) -> String {
    let on_requests = format!("pdbench itself failed on {requests} requests");
    match parts {
        [] => on_requests,
        parts if requests == 0 => format!("pdbench itself failed: {}", parts.join("; ")),
        parts => format!("{on_requests}: {}", parts.join("; ")),
    }
}

fn internal_fault(run: &Run, counts: &Counts) -> Option<Reason> {
    let (requests, parts) = (counts.having(Outcome::Internal), run.manifest.broken.clone());
    let broken = requests.is_some() || !parts.is_empty();
    broken.then(|| Reason::Internal { requests: requests.unwrap_or(0), parts })
}

/// A share as percent with one decimal.
fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn failure_share(counts: &Counts, limit: f64) -> Option<Reason> {
    let of = counts.ok + counts.failed;
    (limit * (of as f64) < counts.failed as f64).then_some(Reason::FailureShare {
        failed: counts.failed,
        of,
        limit,
    })
}

fn token_mismatch(run: &Run) -> Option<Reason> {
    let ended = || run.main().filter(|record| record.outcome != Outcome::CancelledAtEnd);
    let (of, requests) = (ended().count(), ended().filter(|record| record.has(Flag::Mismatch)).count());
    (MISMATCH_SHARE * (of as f64) < requests as f64).then_some(Reason::TokenMismatch { requests, of })
}

/// Requests cut by a time-out would have been slower than the time they got: with a share of at least
/// 1 − p of them, the percentile p lies among them.
fn censored_percentile(run: &Run) -> Option<Reason> {
    let timed_out = |record: &&RequestRecord| {
        use Outcome::{TimeoutFirstToken, TimeoutIdle, TimeoutRequest};
        matches!(record.outcome, TimeoutFirstToken | TimeoutIdle | TimeoutRequest)
    };
    let wait = |record: &RequestRecord| record.finished.since(record.sent.unwrap_or(record.scheduled));
    let at_least_s = run.main().filter(timed_out).map(wait).min()?.as_secs_f64();
    let timeouts = run.main().filter(timed_out).count();
    let of = timeouts + run.main().filter(|record| record.is_ok()).count();
    let lies_among_them = |p: &&f64| (100.0 - **p) * of as f64 <= 100.0 * timeouts as f64;
    let censored = run.manifest.settings.percentiles.iter().filter(lies_among_them);
    let p = censored.copied().min_by(f64::total_cmp)?;
    Some(Reason::CensoredPercentile { p, timeouts, of, at_least_s })
}

/// Little's law, L = λW, as a check of the bookkeeping: L from the sender's counter, λW as the mean
/// number of requests between `sent` and `finished`. Both are taken at the instants of the samples,
/// weighted by the time between these, so that how often was sampled does not matter.
fn littles_law(run: &Run) -> Option<Reason> {
    let samples = run.manifest.in_flight.as_deref()?;
    if samples.len() < LITTLE_SAMPLES || run.main().count() < LITTLE_REQUESTS {
        return None;
    }
    let counted = time_weighted(samples.iter().map(|&(at, count)| (at, f64::from(count))))?;
    let flights = || run.main().filter_map(|record| record.sent.map(|sent| (sent, record.finished)));
    let (mut begun, mut ended): (Vec<Offset>, Vec<Offset>) = flights().unzip();
    begun.sort_unstable();
    ended.sort_unstable();
    let up_to = |instants: &[Offset], at| instants.partition_point(|&instant| instant <= at);
    let in_flight = |at| up_to(&begun, at) as f64 - up_to(&ended, at) as f64;
    let recorded = time_weighted(samples.iter().map(|&(at, _)| (at, in_flight(at))))?;
    let apart = (counted - recorded).abs();
    // The counter follows an end when its task has run, the record says when the last packet came.
    let span = samples.last()?.0.seconds_since(samples.first()?.0);
    let delay = LITTLE_DELAY_S * run.main().count() as f64 / span;
    (LITTLE_SHARE * recorded + delay < apart).then_some(Reason::LittlesLaw { counted, recorded })
}

/// Mean of a sampled quantity over time, each sample standing for the time up to the next.
fn time_weighted(samples: impl Iterator<Item = (Offset, f64)> + Clone) -> Option<f64> {
    let (mut area, mut time) = (0.0, 0.0);
    for ((from, value), (to, _)) in samples.clone().zip(samples.skip(1)) {
        let seconds = to.seconds_since(from).max(0.0);
        area += value * seconds;
        time += seconds;
    }
    (0.0 < time).then(|| area / time)
}

#[cfg(test)]
#[path = "validity_tests.rs"]
mod tests;
