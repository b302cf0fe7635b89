//! What a reader of the server's side has to know: conditions and texts.

use super::{Anatomy, KvStop, PartName, ServerSide};
use serde::{Deserialize, Serialize};

/// Something to know of the server's side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum ServerNote {
    /// A node did not answer the scraper, always or at times.
    NotScraped {
        /// Which.
        node: String,
        /// Scrapes without an answer.
        missed: usize,
        /// All scrapes.
        of: usize,
        /// Why the last one had none.
        why: String,
    },
    /// A node began anew in the run.
    Restarted {
        /// Which.
        node: String,
        /// How often.
        times: usize,
    },
    /// A PD deployment moved no KV: all prompts were computed on both sides.
    NoKvMoved {
        /// Prompt tokens that the decode nodes computed.
        computed_tokens: f64,
        /// Their requests.
        requests: f64,
    },
    /// KV stopped moving in the run.
    KvStopped(KvStop),
    /// The parts of the TTFT are longer than the whole.
    PartsOverlap {
        /// By how much, ms.
        ms: f64,
    },
}

/// Share of the TTFT by which the parts may be longer than the whole.
const ROUNDING: f64 = 0.05;

pub(super) fn notes(side: &ServerSide) -> Vec<ServerNote> {
    let mut notes = Vec::new();
    for node in side.nodes.iter().filter(|node| 0 < node.missed) {
        notes.push(ServerNote::NotScraped {
            node: node.node.clone(),
            missed: node.missed,
            of: node.missed + node.scrapes,
            why: node.why.clone().unwrap_or_default(),
        });
    }
    let restarted = side.nodes.iter().filter(|node| 0 < node.restarts);
    notes.extend(
        restarted.map(|node| ServerNote::Restarted { node: node.node.clone(), times: node.restarts }),
    );
    if let Some(kv) = &side.kv {
        let nothing = ServerNote::NoKvMoved { computed_tokens: kv.computed_tokens, requests: kv.requests };
        notes.extend(kv.moved_nothing().then_some(nothing));
        notes.extend(kv.stop.clone().map(ServerNote::KvStopped));
    }
    let over = |anatomy: &Anatomy| {
        let rest = anatomy.ms(PartName::Rest)?;
        (rest < -ROUNDING * anatomy.from_schedule_ms).then_some(ServerNote::PartsOverlap { ms: -rest })
    };
    notes.extend(side.anatomy.as_ref().and_then(over));
    notes
}

impl ServerNote {
    /// What happened and what it means, one line.
    pub fn text(&self) -> String {
        match self {
            ServerNote::NotScraped { node, missed, of, why } => {
                format!("{missed} of {of} scrapes of {node} failed ({why}): what it counts is missing there")
            }
            ServerNote::Restarted { node, times } => {
                let times = if *times == 1 { "once".to_owned() } else { format!("{times} times") };
                format!("{node} began anew {times} in the run: its counts are a lower bound")
            }
            ServerNote::NoKvMoved { computed_tokens, requests } => format!(
                "no KV moved: the decode nodes computed all {computed_tokens:.0} prompt tokens of {requests:.0} \
                 requests themselves, so this is no disaggregated serving"
            ),
            ServerNote::KvStopped(stop) => stopped(stop),
            ServerNote::PartsOverlap { ms } => format!(
                "the parts of the TTFT are {ms:.1} ms longer than the whole: they overlap, or were measured of \
                 further requests"
            ),
        }
    }

    /// What to try, one line.
    pub fn try_this(&self) -> &'static str {
        match self {
            ServerNote::NotScraped { .. } => {
                "look whether the address is that of the node's own HTTP server, and /metrics is open"
            }
            ServerNote::Restarted { .. } => "look into the node's log for why it went down",
            ServerNote::NoKvMoved { .. } => {
                "look at the connector's configuration and log on both sides, and at the proxy's dialect"
            }
            ServerNote::KvStopped(_) => "look whether the store's master and the prefill nodes still live",
            ServerNote::PartsOverlap { .. } => "look whether others use the nodes at the same time",
        }
    }
}

fn stopped(stop: &KvStop) -> String {
    let when = match stop.until_s {
        None => format!("KV no longer moved from t = {:.1} s on", stop.from_s),
        Some(until) => format!("no KV moved from t = {:.1} s to {until:.1} s", stop.from_s),
    };
    let cost = match (stop.ttft_before_ms, stop.ttft_during_ms) {
        (Some(before), Some(during)) => {
            format!("; the median TTFT of requests sent then is {during:.1} ms, before it was {before:.1} ms")
        }
        _ => String::new(),
    };
    format!("{when}, for {:.0} requests: the decode nodes computed their prompts{cost}", stop.requests)
}

impl ServerSide {
    /// Whether any node that serves requests was watched.
    pub fn has_engines(&self) -> bool {
        self.nodes.iter().any(|node| node.role.serves() && 0 < node.scrapes)
    }
}
