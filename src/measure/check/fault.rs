//! What a check finds: its texts.

use super::{At, Cause, Step};
use crate::cluster::Role;
use crate::measure::Outcome;
use serde::{Deserialize, Serialize};

/// Something that is wrong with a deployment, or that could not be shown to be right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum CheckFault {
    /// An instance takes no connection, or says that it is not well.
    Silent {
        /// Its name.
        node: String,
        /// Why, in the words of who asked.
        why: String,
    },
    /// An instance takes requests and fails all that go to it alone.
    Fails {
        /// Its name.
        node: String,
        /// Requests.
        requests: usize,
        /// How the first ended.
        outcome: Outcome,
        /// What it said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// No model is served by all.
    Models {
        /// Instance and models.
        told: Vec<(String, String)>,
    },
    /// Instances take prompts of different lengths.
    Lengths {
        /// Instance and tokens.
        told: Vec<(String, u64)>,
    },
    /// KV blocks are of different sizes.
    Blocks {
        /// Instance and tokens.
        told: Vec<(String, u64)>,
    },
    /// An instance computes other text than another one.
    ComputesOther {
        /// Its name.
        node: String,
        /// The other's.
        against: String,
        /// The token, from 0, at which they part.
        at: usize,
    },
    /// An instance counts KV as arrived that nobody made.
    MadeUp {
        /// Its name.
        node: String,
        /// Tokens of that KV …
        tokens: u64,
        /// … of a prompt of so many.
        of: u64,
    },
    /// Requests to pairs fail.
    PairFails {
        /// Where.
        at: At,
        /// Those that failed …
        requests: usize,
        /// … of so many there.
        of: usize,
        /// How the first ended.
        outcome: Outcome,
        /// What was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// No KV arrives: decode computes whole prompts again.
    NothingMoved {
        /// Where.
        at: At,
        /// Such requests …
        requests: usize,
        /// … of so many there.
        of: usize,
        /// What the counters say of why.
        cause: Cause,
        /// Seconds that such a request takes, and one that no KV goes with, where that is far apart.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<(f64, f64)>,
    },
    /// A part of the KV arrives.
    PartMoved {
        /// Where.
        at: At,
        /// Such requests …
        requests: usize,
        /// … of so many there.
        of_requests: usize,
        /// Tokens that moved …
        moved: u64,
        /// … of so many of their prompts.
        of: u64,
    },
    /// Decode says other text than what is right.
    TextDiffers {
        /// Where.
        at: At,
        /// Such answers …
        requests: usize,
        /// … of so many there.
        of: usize,
    },
    /// The text is right, and its likelihood is not.
    LikelihoodDiffers {
        /// Where.
        at: At,
        /// Such answers …
        requests: usize,
        /// … of so many there.
        of: usize,
        /// Log probabilities of one token apart at most, nats.
        most: f64,
    },
    /// Prefill instances make more than a token of a request.
    PrefillGoesOn {
        /// Its name.
        node: String,
        /// Requests.
        requests: usize,
        /// Tokens that it made.
        tokens: u64,
    },
    /// Requests through the proxy fail.
    ProxyFails {
        /// Those that failed …
        requests: usize,
        /// … of so many.
        of: usize,
        /// How the first ended.
        outcome: Outcome,
        /// What it said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// The proxy leaves one side out.
    ProxyPassesOver {
        /// Which.
        role: Role,
        /// Such requests …
        requests: usize,
        /// … of so many.
        of: usize,
    },
    /// Requests through the proxy reach none of the instances.
    ProxyElsewhere {
        /// Such requests …
        requests: usize,
        /// … of so many.
        of: usize,
    },
    /// A request whose first token is a stop fails, or its KV is lost.
    StopLosesKv {
        /// How it ended, where it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outcome: Option<Outcome>,
        /// What was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// Tokens that decode computed again, where it did not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tokens: Option<u64>,
    },
    /// Nobody told whether KV moves at all.
    NotShown {
        /// Why.
        why: String,
    },
}

impl CheckFault {
    /// The step that it belongs to.
    pub fn step(&self) -> Step {
        match self {
            CheckFault::Silent { .. } | CheckFault::Fails { .. } => Step::Answers,
            CheckFault::Models { .. } | CheckFault::Lengths { .. } => Step::Model,
            CheckFault::Blocks { .. } => Step::Blocks,
            CheckFault::ComputesOther { .. } | CheckFault::MadeUp { .. } => Step::Alone,
            CheckFault::NothingMoved { at: At::Proxy, .. }
            | CheckFault::PartMoved { at: At::Proxy, .. }
            | CheckFault::TextDiffers { at: At::Proxy, .. }
            | CheckFault::ProxyFails { .. }
            | CheckFault::ProxyPassesOver { .. }
            | CheckFault::ProxyElsewhere { .. } => Step::Proxy,
            CheckFault::PairFails { .. }
            | CheckFault::NothingMoved { .. }
            | CheckFault::PartMoved { .. }
            | CheckFault::NotShown { .. } => Step::KvMoves,
            CheckFault::TextDiffers { .. } | CheckFault::LikelihoodDiffers { .. } => Step::Texts,
            CheckFault::PrefillGoesOn { .. } => Step::OneToken,
            CheckFault::StopLosesKv { .. } => Step::EarlyStop,
        }
    }

    /// Whether it is about what this instance computes alone.
    pub(super) fn is_of(&self, name: &str) -> bool {
        match self {
            CheckFault::MadeUp { node, .. } | CheckFault::ComputesOther { node, .. } => node == name,
            _ => false,
        }
    }

    /// What is wrong, with figures, one line.
    pub fn what(&self) -> String {
        match self {
            CheckFault::Silent { node, why } => format!("{node} does not answer: {why}"),
            CheckFault::Fails { node, requests, outcome, error } => {
                format!(
                    "{node} fails {requests} of {requests} requests sent to it alone ({})",
                    ended(*outcome, error)
                )
            }
            CheckFault::Models { told } => format!("the instances serve different models: {}", listed(told)),
            CheckFault::Lengths { told } => {
                format!("the instances take different lengths, in tokens: {}", listed(told))
            }
            CheckFault::Blocks { told } => {
                format!("the instances have KV blocks of different sizes, in tokens: {}", listed(told))
            }
            CheckFault::ComputesOther { node, against, at } => {
                format!(
                    "{node} says other text than {against} from token {at} on, each computing the prompt by itself"
                )
            }
            CheckFault::MadeUp { node, tokens, of } => {
                format!(
                    "{node} counts KV of {tokens} of {of} prompt tokens as arrived, and nobody had made any: it is made up"
                )
            }
            CheckFault::PairFails { at, requests, of, outcome, error } => {
                format!("{requests} of {of} requests fail {} ({})", at.words(), ended(*outcome, error))
            }
            CheckFault::NothingMoved { at, requests, of, cause, seconds } => {
                let seconds = seconds.map_or(String::new(), |(took, usual)| {
                    format!("; each takes {took:.1} s in place of {usual:.2} s, as long as a time-out")
                });
                format!(
                    "no KV moves {}: {requests} of {of} prompts were computed again{}{seconds}",
                    at.words(),
                    cause.words()
                )
            }
            CheckFault::PartMoved { at, requests, of_requests, moved, of } => format!(
                "KV moves in part {}: {moved} of {of} prompt tokens, in {requests} of {of_requests} requests",
                at.words()
            ),
            CheckFault::TextDiffers { at, requests, of } => {
                format!("{requests} of {of} answers are wrong {}", at.words())
            }
            CheckFault::LikelihoodDiffers { at, requests, of, most } => format!(
                "{requests} of {of} answers have the right text with other log probabilities {}, up to {most:.2} apart",
                at.words()
            ),
            CheckFault::PrefillGoesOn { node, requests, tokens } => {
                format!(
                    "{node} makes {tokens} tokens for {requests} requests: one each is what a prefill needs"
                )
            }
            CheckFault::ProxyFails { requests, of, outcome, error } => {
                format!("{requests} of {of} requests through the proxy fail ({})", ended(*outcome, error))
            }
            CheckFault::ProxyPassesOver { role, requests, of } => {
                format!(
                    "the proxy uses no {role} instance for {requests} of {of} requests: the other side does all of the work"
                )
            }
            CheckFault::ProxyElsewhere { requests, of } => {
                format!("{requests} of {of} requests through the proxy reach none of these instances")
            }
            CheckFault::StopLosesKv { outcome: Some(outcome), error, .. } => {
                format!("a request whose first token is a stop fails ({})", ended(*outcome, error))
            }
            CheckFault::StopLosesKv { tokens, .. } => format!(
                "the KV of a prefill that ends at its first token is lost: {} prompt tokens were computed again",
                tokens.map_or("all".to_owned(), |tokens| tokens.to_string())
            ),
            CheckFault::NotShown { why } => format!("it is not shown that any KV moves: {why}"),
        }
    }

    /// What to do about it, one line.
    pub fn what_to_do(&self) -> &'static str {
        match self {
            CheckFault::Silent { .. } => "start it and wait for its /health, or leave it out of the list",
            CheckFault::Fails { .. } => "send one completion to it by hand and look into its log",
            CheckFault::Models { .. } => "start all instances with one model and one --served-model-name",
            CheckFault::Lengths { .. } => {
                "start all instances with one --max-model-len: what prefill takes and decode refuses fails late"
            }
            CheckFault::Blocks { .. } => {
                "start all instances with one --block-size: KV is named, and moved, by blocks"
            }
            CheckFault::ComputesOther { .. } => {
                "compare weights, revision, dtype and quantisation of the two; a connector that fills in KV by itself \
                 shows here, too"
            }
            CheckFault::MadeUp { .. } => {
                "take DecodeBenchConnector, or what else fills in KV, out of its --kv-transfer-config: its answers mean \
                 nothing"
            }
            CheckFault::PairFails { at, .. } => match at {
                At::Links { .. } => {
                    "look at the network between the two: ports of the connector, firewall, RDMA devices"
                }
                _ => "look into the log of the instance that is common to them, and check --dialect",
            },
            CheckFault::NothingMoved { cause, .. } => cause.what_to_do(),
            CheckFault::PartMoved { .. } => {
                "look at failed puts in the prefill log: a client that left less than 10 s ago is still on the store's \
                 list, and a full store refuses keys; then run again"
            }
            CheckFault::TextDiffers { at, .. } => match at {
                At::Proxy => {
                    "compare with the pairs: if these are right, the proxy changes prompts or joins streams wrongly"
                }
                _ => {
                    "the KV arrives damaged: compare connector versions, tensor parallel sizes, KV dtype and layout of \
                     both sides; `pdbench accuracy kv-probe` says how often"
                }
            },
            CheckFault::LikelihoodDiffers { .. } => {
                "compare KV dtype and attention backend of both sides: rounding alone does not go that far"
            }
            CheckFault::PrefillGoesOn { .. } => {
                "have the proxy lower max_tokens (and in chats max_completion_tokens) to 1 on the prefill leg"
            }
            CheckFault::ProxyFails { .. } => {
                "look into the proxy's log, and whether all of its instances are up; a status 200 may hide an error"
            }
            CheckFault::ProxyPassesOver { .. } => {
                "check the list of instances that the proxy was started with"
            }
            CheckFault::ProxyElsewhere { .. } => {
                "check that --prefill and --decode name the instances behind this proxy"
            }
            CheckFault::StopLosesKv { .. } => {
                "send ignore_eos or min_tokens with requests, or use a proxy that sets min_tokens 1 on the prefill leg: \
                 some connectors hand over only what ended by its length"
            }
            CheckFault::NotShown { .. } => {
                "name --prefill and --decode instances whose /metrics can be read, and let nobody else use them meanwhile"
            }
        }
    }
}

fn ended(outcome: Outcome, error: &Option<String>) -> String {
    let said: String = error.as_deref().unwrap_or_default().chars().take(200).collect();
    if said.is_empty() { outcome.word().to_owned() } else { format!("{}: {said}", outcome.word()) }
}

/// Instances that are named with what they told.
const NAMED: usize = 6;

fn listed<T: std::fmt::Display>(told: &[(String, T)]) -> String {
    let named = told.iter().take(NAMED).map(|(node, value)| format!("{node} {value}"));
    let more = told.len().saturating_sub(NAMED);
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    named.collect::<Vec<_>>().join(", ") + &rest
}
