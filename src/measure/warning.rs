use super::{Growth, Outcome, OutputLength, ServerNote};
use serde::{Deserialize, Serialize};

/// Something a reader of the numbers should know; its texts stand in this file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "warning", rename_all = "snake_case")]
pub enum Warning {
    /// The answers came from the simulator.
    SimulatedTarget,
    /// Some requests failed, within the error budget.
    Failures {
        /// Requests that failed.
        failed: usize,
        /// Requests that ended ok or failed.
        of: usize,
        /// The most frequent way to fail.
        most: Outcome,
    },
    /// Requests were cut by the end of the run.
    Unfinished {
        /// How many.
        requests: usize,
    },
    /// The client could be seen in the numbers.
    ClientDegraded {
        /// What that rests on.
        evidence: Vec<String>,
    },
    /// The concurrency limit, not the schedule, set the pace.
    ClosedLoop {
        /// Requests per second by the schedule.
        offered_per_s: f64,
        /// Requests per second that the limit let through.
        admitted_per_s: f64,
        /// Share of the requests that waited for a slot.
        waited: f64,
    },
    /// What is in flight grew through the run: more was offered than the server can take.
    Unstable(Growth),
    /// A latency from the schedule differs from the one from the send.
    FromSchedule {
        /// Key of the metric from the send.
        key: String,
        /// `mean`, `median` or a percentile such as `p99`: where they differ most.
        statistic: String,
        /// From the send, ms.
        from_send_ms: f64,
        /// From the schedule, ms.
        from_schedule_ms: f64,
    },
    /// Too few requests for a percentile that was asked for.
    FewSamples {
        /// The percentile.
        p: f64,
        /// Ok requests.
        count: usize,
        /// Ok requests that it needs.
        needs: usize,
    },
    /// Prompt lengths are estimates.
    EstimatedTokens,
    /// Answers without usage: their tokens were counted by events.
    NoUsage {
        /// How many ok answers.
        requests: usize,
        /// Ok answers.
        of: usize,
    },
    /// Ok answers whose stream ended without `[DONE]`.
    MissingDone {
        /// How many.
        requests: usize,
    },
    /// Ok answers with data after `[DONE]`.
    AfterDone {
        /// How many.
        requests: usize,
    },
    /// Ok answers that arrived in one piece.
    BufferedByProxy {
        /// How many.
        requests: usize,
        /// Ok answers.
        of: usize,
    },
    /// Many token events shared a packet with the one before.
    Coalesced {
        /// Share of the token events.
        share: f64,
    },
    /// One event carries several tokens.
    TokensPerEvent {
        /// How many on average.
        tokens: f64,
    },
    /// Answers are longer or shorter than asked for.
    OutputLength(OutputLength),
    /// Prompt tokens came from a cache.
    CachedTokens {
        /// Share of the prompt tokens.
        share: f64,
        /// Share of the prompt tokens that all prompts have in common by intention.
        #[serde(default)]
        shared: f64,
    },
    /// The same prompts went to the same target before, and no server tells what came from a cache.
    SentBefore {
        /// How many runs in the same place sent them.
        runs: usize,
        /// The latest of them.
        latest: String,
    },
    /// The documents are the project's own, not those that the task is known for.
    OwnDocuments {
        /// The task.
        task: String,
    },
    /// Some questions have no answer, within the error budget.
    Unanswered {
        /// Who was asked.
        arm: String,
        /// Questions without an answer.
        questions: usize,
        /// Questions asked.
        of: usize,
    },
    /// Answers were cut at the limit of tokens.
    CutAnswers {
        /// Whose.
        arm: String,
        /// Share of the answers.
        share: f64,
    },
    /// Answers have no text.
    EmptyAnswers {
        /// Whose.
        arm: String,
        /// Share of the answers.
        share: f64,
    },
    /// The model does not say the codes of a probe, so that wrong ones show nothing.
    NotRecited {
        /// Codes that were said right, by the baseline where there is one.
        right: usize,
        /// Answers.
        of: usize,
        /// There is a baseline to hold the texts against.
        compared: bool,
    },
    /// What the nodes tell of themselves.
    Server(ServerNote),
    /// Requests that were sent again because a kept-alive connection had been closed.
    StaleRetries {
        /// How many.
        requests: usize,
    },
}

impl Warning {
    /// What happened and why it may be, one line.
    pub fn text(&self) -> String {
        match self {
            Warning::SimulatedTarget => {
                "the answers came from the simulator: the numbers say nothing about real hardware".to_owned()
            }
            Warning::Failures { failed, of, most } => format!(
                "{failed} of {of} requests failed, most of them with `{}`; latencies are those of the others",
                most.word()
            ),
            Warning::Unfinished { requests } => {
                format!(
                    "{requests} requests were cut by the end of the run and count neither as ok nor as failed"
                )
            }
            Warning::ClientDegraded { evidence } => {
                format!("the client itself can be seen in the numbers: {}", evidence.join("; "))
            }
            Warning::ClosedLoop { offered_per_s, admitted_per_s, waited } => {
                closed_loop(*offered_per_s, *admitted_per_s, *waited)
            }
            Warning::Unstable(growth) => unstable(growth),
            Warning::FromSchedule { key, statistic, from_send_ms, from_schedule_ms } => {
                from_schedule(&format!("{statistic} {key}"), *from_send_ms, *from_schedule_ms)
            }
            Warning::FewSamples { p, count, needs } => {
                format!("p{p} is little more than the {} of {count} (p{p} needs {needs})", extreme(*p))
            }
            Warning::EstimatedTokens => {
                "prompt lengths are estimates of four bytes a token: no tokenizer was given".to_owned()
            }
            Warning::NoUsage { requests, of } => format!(
                "{requests} of {of} ok answers came without usage; their tokens were counted by events, which is \
                 too few where one event has several"
            ),
            Warning::MissingDone { requests } => {
                format!("{requests} ok answers ended without `[DONE]`; they had a finish reason and count")
            }
            Warning::AfterDone { requests } => {
                format!("{requests} ok answers went on after `[DONE]`, as where a proxy joins two streams")
            }
            Warning::BufferedByProxy { requests, of } => format!(
                "{requests} of {of} ok answers arrived in one piece: something on the way buffers, and they have \
                 no TTFT, TPOT or ITL"
            ),
            Warning::Coalesced { share } => coalesced(*share),
            Warning::TokensPerEvent { tokens } => format!(
                "one event carries {tokens:.2} tokens on average, as with speculative decoding or a stream \
                 interval: ITL is per event, TPOT per token"
            ),
            Warning::OutputLength(length) => length.text() + &length.histogram(),
            Warning::CachedTokens { share, shared } => cached_tokens(*share, *shared),
            Warning::SentBefore { runs, latest } => sent_before(*runs, latest),
            Warning::OwnDocuments { task } => format!(
                "the questions are the project's own, in the manner of {task}: compare arms by them, and no score \
                 with a published one"
            ),
            Warning::Unanswered { arm, questions, of } => format!(
                "{arm}: {questions} of {of} questions have no answer after all tries; the score is that of the others"
            ),
            Warning::CutAnswers { arm, share } => format!(
                "{arm}: {} of the answers were cut at the limit of tokens, and may have been right",
                percent(*share)
            ),
            Warning::EmptyAnswers { arm, share } => {
                format!("{arm}: {} of the answers have no text", percent(*share))
            }
            Warning::NotRecited { right, of, compared } => {
                let rest = match compared {
                    true => "what counts is whether the texts are the baseline's",
                    false => "and without a baseline nothing else was checked",
                };
                format!("the model says {right} of {of} codes: codes show nothing of such a model, {rest}")
            }
            Warning::Server(note) => note.text(),
            Warning::StaleRetries { requests } => format!(
                "{requests} requests were sent a second time because the server had closed a kept-alive connection"
            ),
        }
    }

    /// What to try, one line.
    pub fn try_this(&self) -> &'static str {
        match self {
            Warning::SimulatedTarget => "name a server with --base-url to measure it",
            Warning::Failures { .. } => "look at the errors by kind; --strict makes any failure count",
            Warning::Unfinished { .. } => "raise --max-duration or --drain-timeout",
            Warning::ClientDegraded { .. } => {
                "lower the rate, or give the client more cores; `pdbench selftest` says what this machine can measure"
            }
            Warning::ClosedLoop { .. } => {
                "raise or drop --max-concurrency to offer the whole load; else read the numbers from the schedule"
            }
            Warning::Unstable(_) => {
                "lower the rate to what the server takes, or limit what is in flight with --max-concurrency"
            }
            Warning::FromSchedule { .. } => {
                "quote the number from the schedule when users arrive on their own"
            }
            Warning::FewSamples { .. } => "raise --num-prompts, or ask for a lower percentile",
            Warning::EstimatedTokens => "give the model's tokenizer with --tokenizer",
            Warning::NoUsage { .. } => "have the server answer to stream_options.include_usage",
            Warning::MissingDone { .. } => "look whether the proxy or the server drops the end of the stream",
            Warning::AfterDone { .. } => "compare with a run that goes to the server without the proxy",
            Warning::BufferedByProxy { .. } => "turn response buffering off in the proxy",
            Warning::Coalesced { .. } => "measure nearer to the server, or through fewer proxies",
            Warning::TokensPerEvent { .. } => "compare TPOT, not ITL, with runs that stream token by token",
            Warning::OutputLength(_) => "use --ignore-eos to have every answer as long as asked for",
            Warning::CachedTokens { .. } | Warning::SentBefore { .. } => {
                "restart the server, change --seed, or use --salt for a cold cache"
            }
            Warning::OwnDocuments { .. } => {
                "fetch the task's documents with `pdbench dataset fetch`, or name a copy with --dataset-path"
            }
            Warning::Unanswered { .. } => {
                "look at the errors by kind; --max-error-rate says how many are too many"
            }
            Warning::CutAnswers { .. } => "raise --max-tokens: a model that reasons needs more than 256",
            Warning::EmptyAnswers { .. } => {
                "look at one such answer in documents.csv: a stop string or the chat template may end it at once"
            }
            Warning::NotRecited { compared: true, .. } => {
                "look at the share of equal texts beside that of the baseline with itself, or ask a model that recites"
            }
            Warning::NotRecited { compared: false, .. } => {
                "name the same model without disaggregation by --baseline-url, or ask a model that recites"
            }
            Warning::Server(note) => note.try_this(),
            Warning::StaleRetries { .. } => "raise the keep-alive time of the server or the proxy",
        }
    }
}

fn closed_loop(offered_per_s: f64, admitted_per_s: f64, waited: f64) -> String {
    format!(
        "offered {} req/s, admitted {}: this is a closed loop ({} of the requests waited for a slot of the \
         concurrency limit)",
        figure(offered_per_s),
        figure(admitted_per_s),
        percent(waited)
    )
}

fn unstable(growth: &Growth) -> String {
    format!(
        "UNSTABLE: offered load exceeds capacity, latency depends on the run's length: in the second half of the \
         sending {} req/s were admitted and {} ended, and what is in flight grew from {} to {}",
        figure(growth.admitted_per_s),
        figure(growth.ended_per_s),
        growth.in_flight_middle,
        growth.in_flight_end
    )
}

fn from_schedule(what: &str, from_send_ms: f64, from_schedule_ms: f64) -> String {
    let (send, schedule) = (figure(from_send_ms), figure(from_schedule_ms));
    format!(
        "{what} is {schedule} ms from the schedule but {send} ms from the send: requests waited in the client \
         before the clock started"
    )
}

fn cached_tokens(share: f64, shared: f64) -> String {
    let share = percent(share);
    if shared == 0.0 {
        return format!("{share} of the prompt tokens came from a cache: TTFT is that of a warm server");
    }
    format!(
        "{share} of the prompt tokens came from a cache, and the prompts have only {} in common: TTFT is that of a \
         server that knew them from before",
        percent(shared)
    )
}

fn sent_before(runs: usize, latest: &str) -> String {
    let runs = if runs == 1 { "one run".to_owned() } else { format!("{runs} runs, the latest") };
    format!(
        "{runs} here ({latest}) sent the same prompts to this target before: unless its cache was emptied since, \
         TTFT is that of a warm server"
    )
}

fn coalesced(share: f64) -> String {
    let share = percent(share);
    format!(
        "{share} of the token events shared a packet with the one before: ITL has that many zeros, and TPOT is \
         the better number"
    )
}

/// The end of the values that a percentile is next to.
fn extreme(p: f64) -> &'static str {
    if p < 50.0 { "min" } else { "max" }
}

/// Three significant digits, without noughts that say nothing.
fn figure(value: f64) -> String {
    let text = match value.abs() {
        small if small < 1.0 => format!("{value:.3}"),
        small if small < 10.0 => format!("{value:.2}"),
        middling if middling < 100.0 => format!("{value:.1}"),
        _ => return format!("{value:.0}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
