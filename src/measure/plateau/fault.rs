//! Why a batch does not count: conditions and texts.

use super::super::{Outcome, RequestRecord};
use super::{Batch, name_of};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Why a batch does not count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum BatchFault {
    /// Replicas did not end ok.
    ReplicasFailed {
        /// How many did not.
        failed: usize,
        /// Of so many with a record.
        of: usize,
        /// The most frequent way.
        most: Outcome,
        /// The instances where they were, with how many, most first.
        nodes: Vec<(String, usize)>,
    },
    /// There are fewer records than replicas.
    FewerReplicas {
        /// Records.
        found: usize,
        /// Replicas.
        expected: usize,
    },
    /// The replicas were never all generating at once.
    NoPlateau {
        /// Why.
        why: WhyNot,
    },
    /// Prompts were not prefilled: their replicas, if any, made them up by themselves.
    PrefillFailed {
        /// How many were not.
        failed: usize,
        /// Of so many.
        of: usize,
    },
    /// A foreign proxy sent no replicas at all.
    DidNotFire {
        /// Requests that the decode instances finished.
        finished: f64,
        /// Replicas that there should have been.
        expected: usize,
    },
    /// The decode instances' counters do not add up to the batch.
    CountsOff {
        /// `requests` or `tokens`.
        what: String,
        /// What was counted.
        found: f64,
        /// What there should have been.
        expected: f64,
    },
}

/// Why there was no plateau.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum WhyNot {
    /// No stream had two tokens.
    NoStream,
    /// Streams ended with fewer than two tokens.
    OneToken {
        /// How many.
        replicas: usize,
    },
    /// The decode instances never ran so many at once for long enough to tell a rate.
    NeverFull {
        /// Most requests that ran at once, by their own count.
        most: f64,
        /// Replicas that should have.
        expected: usize,
    },
    /// Answers came in one piece, so that nobody knows when their tokens were made.
    Buffered {
        /// How many.
        replicas: usize,
    },
    /// The first stream had ended when the last had not yet two tokens.
    EndedEarly {
        /// The instance of the one that ended first.
        ended: String,
        /// When it ended, seconds from the first send.
        ended_s: f64,
        /// Streams that had not two tokens before then.
        late: usize,
        /// The instance of the latest of these.
        latest: String,
        /// When that one had two tokens.
        latest_s: f64,
    },
}

/// All faults of a batch.
pub(super) fn faults(replicas: &[&RequestRecord], batch: &Batch, why_not: Option<WhyNot>) -> Vec<BatchFault> {
    let (found, expected) = (replicas.len(), batch.expected);
    let fewer = (found < expected).then_some(BatchFault::FewerReplicas { found, expected });
    let no_plateau = why_not.map(|why| BatchFault::NoPlateau { why });
    failed(replicas).into_iter().chain(fewer).chain(no_plateau).collect()
}

fn failed(replicas: &[&RequestRecord]) -> Option<BatchFault> {
    let failed = || replicas.iter().filter(|record| !record.is_ok());
    let (mut nodes, mut outcomes) = (BTreeMap::new(), BTreeMap::new());
    for record in failed() {
        *nodes.entry(name_of(record)).or_insert(0_usize) += 1;
        *outcomes.entry(record.outcome).or_insert(0_usize) += 1;
    }
    let (most, _) = outcomes.into_iter().rev().max_by_key(|&(_, count)| count)?;
    let mut nodes: Vec<(String, usize)> = nodes.into_iter().map(|(node, n)| (node.to_owned(), n)).collect();
    nodes.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    Some(BatchFault::ReplicasFailed { failed: failed().count(), of: replicas.len(), most, nodes })
}

/// Instances that a text names.
const NAMED: usize = 4;

impl BatchFault {
    /// What is wrong, with figures, one line.
    pub fn what(&self) -> String {
        match self {
            BatchFault::ReplicasFailed { failed, of, most, nodes } => {
                let named = nodes.iter().filter(|(node, _)| !node.is_empty()).take(NAMED);
                let named: Vec<String> = named.map(|(node, count)| format!("{count} on {node}")).collect();
                let more = if NAMED < nodes.len() { ", …" } else { "" };
                let places =
                    if named.is_empty() { String::new() } else { format!(": {}{more}", named.join(", ")) };
                format!("{failed} of {of} replicas failed, mostly as {}{places}", most.word())
            }
            BatchFault::FewerReplicas { found, expected } => {
                format!("only {found} of {expected} replicas are known of")
            }
            BatchFault::PrefillFailed { failed, of } => format!("{failed} of {of} prefill requests failed"),
            BatchFault::NoPlateau { why } => format!("no plateau: {}", why.words()),
            BatchFault::DidNotFire { finished, expected } => format!(
                "the repeat did not fire: the decode instances finished {finished} requests instead of {expected}"
            ),
            BatchFault::CountsOff { what, found, expected } => {
                format!("the decode instances counted {found} {what}, and {expected} belong to the batch")
            }
        }
    }

    /// What to do about it, one line.
    pub fn what_to_do(&self) -> &'static str {
        match self {
            BatchFault::ReplicasFailed { .. } => {
                "look at their errors in records.jsonl (kind replica); what is shown is what was left of the batch"
            }
            BatchFault::PrefillFailed { .. } => "look at their errors in records.jsonl (kind prefill)",
            BatchFault::FewerReplicas { .. } => "let the run come to its end, or ask for fewer replicas",
            BatchFault::NoPlateau { why } => why.what_to_do(),
            BatchFault::DidNotFire { .. } => {
                "start the proxy anew with its benchmark mode: it fires once in its life, on its second request"
            }
            BatchFault::CountsOff { .. } => {
                "keep other load off the instances, and look at the proxy's log: its replicas fail in silence"
            }
        }
    }
}

impl WhyNot {
    fn words(&self) -> String {
        match self {
            WhyNot::NoStream => "no replica had two tokens".to_owned(),
            WhyNot::OneToken { replicas } => {
                format!("{replicas} replicas ended with fewer than two tokens")
            }
            WhyNot::NeverFull { most, expected } => {
                format!(
                    "the decode instances ran at most {most} of {expected} at once, or for too short a time"
                )
            }
            WhyNot::Buffered { replicas } => format!("{replicas} answers came in one piece"),
            WhyNot::EndedEarly { ended, ended_s, late, latest, latest_s } => format!(
                "the first stream{} ended at {ended_s:.3} s, when {late} had not yet two tokens, the last of \
                 them{} at {latest_s:.3} s",
                on(ended),
                on(latest)
            ),
        }
    }

    fn what_to_do(&self) -> &'static str {
        match self {
            WhyNot::NoStream => "look at the replicas' errors, and ask for more output tokens",
            WhyNot::OneToken { .. } => "ask for more output tokens, and add --ignore-eos",
            WhyNot::Buffered { .. } => "look for what holds the streams back between the instances and here",
            WhyNot::NeverFull { .. } | WhyNot::EndedEarly { .. } => {
                "the instances do not hold so many at once (max_num_seqs, KV room), or the answers are too short: \
                 ask for more output tokens or fewer replicas"
            }
        }
    }
}

fn on(node: &str) -> String {
    if node.is_empty() { String::new() } else { format!(" on {node}") }
}
