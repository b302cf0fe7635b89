//! The path that users take: through the proxy.

use super::compare::{Likeness, Said};
use super::evidence::{Asked, Evidence};
use super::moved::{Moved, chunk, served_one};
use super::pairs::cause;
use super::result::Found;
use super::{At, CheckFacts, CheckFault, Errand, RoundTold, Step};
use crate::cluster::Role;
use std::collections::BTreeSet;

/// Which instances served a request that nobody else's was beside.
#[derive(Clone, Debug, Default)]
pub(super) struct Served {
    pub(super) prefill: Vec<usize>,
    pub(super) decode: Vec<usize>,
}

impl Served {
    /// The one pair that it was.
    pub(super) fn pair(&self) -> Option<(usize, usize)> {
        match (self.prefill.as_slice(), self.decode.as_slice()) {
            ([prefill], [decode]) => Some((*prefill, *decode)),
            _ => None,
        }
    }
}

/// Who counted something while a request went through the proxy; `None` where not everybody tells, or an instance
/// served more than the one.
pub(super) fn served(facts: &CheckFacts, asked: &Asked<'_>) -> Option<Served> {
    let mut all = Served::default();
    for (at, node) in facts.nodes.iter().enumerate().filter(|(_, node)| node.silent.is_none()) {
        let growth = asked.grown(at)?;
        if !growth.is_some() {
            continue;
        }
        if !served_one(growth) {
            return None;
        }
        if node.role == Role::Prefill { &mut all.prefill } else { &mut all.decode }.push(at);
    }
    Some(all)
}

/// Prefill legs that an instance had in a round, and the tokens that it made of them; nothing where it served others
/// besides, or does not tell.
pub(super) fn went_on(evidence: &Evidence<'_>, round: &RoundTold, node: usize) -> (f64, f64) {
    let none = (0.0, 0.0);
    let legs =
        round.asks.iter().filter(|ask| matches!(ask.errand, Errand::Pair { prefill, .. } if prefill == node));
    let proxied = round.asks.iter().any(|ask| matches!(ask.errand, Errand::Proxy { .. }));
    let Some((_, growth)) = round.growth.iter().find(|(at, _)| *at == node) else { return none };
    let Some((finished, made)) = growth.finished.zip(growth.generated) else { return none };
    let expected = if proxied && growth.is_some() { 1.0 } else { legs.count() as f64 };
    let decodes = evidence.facts.of(Role::Decode);
    let decoded =
        decodes.filter(|at| round.growth.iter().any(|(node, growth)| node == at && growth.is_some()));
    // A proxy that uses one side only is another fault.
    if finished != expected || proxied && decoded.count() == 0 { none } else { (expected, made) }
}

/// Judges the requests through the proxy, and the one whose first token is its last.
pub(super) fn judge(evidence: &Evidence<'_>, found: &mut Found) {
    let facts = evidence.facts;
    let sent =
        |stops: bool| evidence.asked.iter().filter(move |asked| asked.ask.stops == stops && asked.was_sent());
    let proxied: Vec<&Asked<'_>> =
        sent(false).filter(|asked| matches!(asked.ask.errand, Errand::Proxy { .. })).collect();
    let faults = faults(evidence, &proxied);
    let mut used = [BTreeSet::new(), BTreeSet::new()];
    for served in proxied.iter().filter_map(|asked| served(facts, asked)) {
        used[0].extend(served.prefill);
        used[1].extend(served.decode);
    }
    let told = match (&facts.proxy, proxied.len()) {
        (None, _) => Err("no proxy is known: name it with --base-url"),
        (_, 0) => Err("nothing was sent through it"),
        (_, count) => Ok(format!(
            "{count} of {count} requests ok, streamed and whole; seen at {} prefill and {} decode instances",
            used[0].len(),
            used[1].len()
        )),
    };
    found.step(Step::Proxy, told, faults);
    let stops: Vec<&Asked<'_>> = sent(true).collect();
    early_stop(evidence, &stops, found);
}

fn faults(evidence: &Evidence<'_>, proxied: &[&Asked<'_>]) -> Vec<CheckFault> {
    let facts = evidence.facts;
    let mut faults = Vec::new();
    let failed: Vec<_> = proxied.iter().filter_map(|asked| asked.failed).collect();
    if let Some(first) = failed.first() {
        let (requests, of) = (failed.len(), proxied.len());
        let (outcome, error) = (first.outcome, first.error.clone());
        faults.push(CheckFault::ProxyFails { requests, of, outcome, error });
    }
    let ok: Vec<_> = proxied.iter().filter(|asked| asked.is_ok()).collect();
    let seen: Vec<(&Asked<'_>, Served)> =
        ok.iter().filter_map(|asked| Some((**asked, served(facts, asked)?))).collect();
    let count = |is: fn(&Served) -> bool| seen.iter().filter(|(_, served)| is(served)).count();
    let nobody = count(|served| served.prefill.is_empty() && served.decode.is_empty());
    let no_prefill = count(|served| served.prefill.is_empty() && !served.decode.is_empty());
    let no_decode = count(|served| !served.prefill.is_empty() && served.decode.is_empty());
    let of = seen.len();
    for (role, requests) in [(Role::Prefill, no_prefill), (Role::Decode, no_decode)] {
        if 0 < requests {
            faults.push(CheckFault::ProxyPassesOver { role, requests, of });
        }
    }
    if 0 < nobody {
        faults.push(CheckFault::ProxyElsewhere { requests: nobody, of });
    }
    if facts.dialect.is_some() {
        faults.extend(kv_faults(evidence, &seen));
    }
    let differs = |asked: &Asked<'_>| {
        let said = asked.record.and_then(Said::of);
        let right = evidence.right(asked.ask.prompt);
        right.zip(said).is_some_and(|(right, said)| matches!(right.likeness(&said), Likeness::Differs { .. }))
    };
    let (requests, of) = (ok.iter().filter(|asked| differs(asked)).count(), proxied.len());
    if 0 < requests {
        faults.push(CheckFault::TextDiffers { at: At::Proxy, requests, of });
    }
    faults
}

/// KV that did not move, or not whole, on the way through the proxy to both sides.
fn kv_faults(evidence: &Evidence<'_>, seen: &[(&Asked<'_>, Served)]) -> Vec<CheckFault> {
    let moved = |(asked, served): &(&'_ Asked<'_>, Served)| {
        let (_, decode) = served.pair()?;
        Moved::of(asked, decode)
    };
    let told: Vec<Moved> =
        evidence.asked.iter().filter_map(told_of_pair).chain(seen.iter().filter_map(moved)).collect();
    let chunk = chunk(evidence.facts, &told);
    let unmoved: Vec<(&Asked<'_>, Moved)> =
        seen.iter().filter_map(|one| Some((one.0, moved(one).filter(|moved| chunk < moved.rest)?))).collect();
    let (nothing, part): (Vec<_>, Vec<_>) = unmoved.into_iter().partition(|(_, moved)| moved.external == 0.0);
    let mut faults = Vec::new();
    if !nothing.is_empty() {
        let asked: Vec<&Asked<'_>> = nothing.iter().map(|(asked, _)| *asked).collect();
        let (cause, seconds) = (cause(evidence, &asked), evidence.slow(&asked));
        faults.push(CheckFault::NothingMoved {
            at: At::Proxy,
            requests: asked.len(),
            of: seen.len(),
            cause,
            seconds,
        });
    }
    if !part.is_empty() {
        let sum = |of: fn(&Moved) -> f64| part.iter().map(|(_, moved)| of(moved)).sum::<f64>();
        let (moved, of) = (sum(|moved| moved.external) as u64, sum(|moved| moved.prompt) as u64);
        faults.push(CheckFault::PartMoved {
            at: At::Proxy,
            requests: part.len(),
            of_requests: seen.len(),
            moved,
            of,
        });
    }
    faults
}

fn told_of_pair(asked: &Asked<'_>) -> Option<Moved> {
    match asked.ask.errand {
        Errand::Pair { decode, .. } if !asked.ask.stops => Moved::of(asked, decode),
        _ => None,
    }
}

fn early_stop(evidence: &Evidence<'_>, stops: &[&Asked<'_>], found: &mut Found) {
    let facts = evidence.facts;
    let mut faults = Vec::new();
    let mut told = Err("nothing was sent whose first token is a stop");
    for asked in stops {
        if let Some(failed) = asked.failed {
            let (outcome, error) = (Some(failed.outcome), failed.error.clone());
            faults.push(CheckFault::StopLosesKv { outcome, error, tokens: None });
            continue;
        }
        let decode = match asked.ask.errand {
            Errand::Pair { decode, .. } => Some(decode),
            _ => served(facts, asked).and_then(|served| Some(served.pair()?.1)),
        };
        let whole = evidence.asked.iter().filter_map(told_of_pair).any(|moved| 0.0 < moved.external)
            || facts.dialect.is_none();
        match decode.and_then(|decode| Moved::of(asked, decode)) {
            Some(moved) if moved.external == 0.0 && whole => {
                let tokens = Some(moved.prompt as u64);
                faults.push(CheckFault::StopLosesKv { outcome: None, error: None, tokens });
            }
            Some(moved) if 0.0 < moved.external => {
                told = Ok(format!("{} of {} prompt tokens moved", moved.external, moved.prompt));
            }
            Some(_) => told = Err("no KV moves at all"),
            None => told = Err("nobody told whether its KV moved"),
        }
    }
    found.step(Step::EarlyStop, told, faults);
}
