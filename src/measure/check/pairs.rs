//! Pairs of instances: whether their requests end well, their KV moves, and what they say is right.

use super::alone::apart_words;
use super::compare::{Likeness, Said};
use super::evidence::{Asked, Evidence};
use super::moved::{Moved, chunk};
use super::place::places;
use super::proxied::{served, went_on};
use super::result::Found;
use super::{At, Cause, CheckFault, Errand, PairResult, Step, Verdict};
use crate::cluster::Role;
use std::collections::BTreeSet;

/// Log probabilities of equal texts further apart than this are no rounding, nats. Assumed; no source.
const APART: f64 = 0.5;

type Pair = (usize, usize);

/// One request at its pair.
struct Visit<'a> {
    asked: &'a Asked<'a>,
    pair: Pair,
    moved: Option<Moved>,
    likeness: Option<Likeness>,
}

/// Judges every pair; gives them.
pub(super) fn judge(evidence: &Evidence<'_>, found: &mut Found) -> Vec<PairResult> {
    let visits = visits(evidence);
    let told: Vec<Moved> = visits.iter().filter_map(|visit| visit.moved).collect();
    let chunk = chunk(evidence.facts, &told);
    let scene = Scene { evidence, visits: &visits, chunk };
    kv_moves(&scene, &told, found);
    one_token(&scene, found);
    texts(&scene, found);
    scene.pairs()
}

/// The requests whose pair was chosen; where none could be, those whose pair was seen.
fn visits<'a>(evidence: &'a Evidence<'a>) -> Vec<Visit<'a>> {
    let chosen = evidence.facts.dialect.is_some();
    let visit = |asked: &'a Asked<'a>| {
        let pair = match asked.ask.errand {
            Errand::Pair { prefill, decode } => (prefill, decode),
            Errand::Proxy { .. } if !chosen => served(evidence.facts, asked)?.pair()?,
            _ => return None,
        };
        let said = asked.record.and_then(Said::of);
        let likeness = evidence.right(asked.ask.prompt).zip(said).map(|(right, said)| right.likeness(&said));
        Some(Visit { asked, pair, moved: Moved::of(asked, pair.1), likeness })
    };
    let sent = evidence.asked.iter().filter(|asked| !asked.ask.stops && asked.was_sent());
    sent.filter_map(visit).collect()
}

/// Everything about the pairs.
struct Scene<'a> {
    evidence: &'a Evidence<'a>,
    visits: &'a [Visit<'a>],
    chunk: f64,
}

impl Visit<'_> {
    fn failed(&self) -> bool {
        self.asked.failed.is_some()
    }

    fn unmoved(&self, chunk: f64) -> bool {
        self.moved.is_some_and(|moved| chunk < moved.rest)
    }

    fn differs(&self) -> bool {
        matches!(self.likeness, Some(Likeness::Differs { .. })) || self.likelihood_differs()
    }

    fn likelihood_differs(&self) -> bool {
        matches!(self.likeness, Some(Likeness::Equal { apart: Some(apart) }) if APART < apart)
    }
}

impl<'a> Scene<'a> {
    /// Places where this holds of requests, each with these requests and all that were sent there.
    fn where_it(&self, is: impl Fn(&Visit<'_>) -> bool) -> Vec<(At, Vec<&'a Visit<'a>>, usize)> {
        let tried: BTreeSet<Pair> = self.visits.iter().map(|visit| visit.pair).collect();
        let bad: BTreeSet<Pair> =
            self.visits.iter().filter(|visit| is(visit)).map(|visit| visit.pair).collect();
        let of = |(at, pairs): (At, BTreeSet<Pair>)| {
            let there = || self.visits.iter().filter(|visit| pairs.contains(&visit.pair));
            (at, there().filter(|visit| is(visit)).collect(), there().count())
        };
        places(self.evidence.facts, &bad, &tried).into_iter().map(of).collect()
    }

    /// Each pair of instances that took requests.
    fn pairs(&self) -> Vec<PairResult> {
        let facts = self.evidence.facts;
        let alive = |role| facts.of(role).filter(|&node| facts.nodes[node].silent.is_none());
        let all = alive(Role::Prefill).flat_map(|p| alive(Role::Decode).map(move |d| (p, d)));
        all.map(|pair| self.pair(pair)).collect()
    }

    fn pair(&self, pair: Pair) -> PairResult {
        let visits: Vec<&Visit<'_>> = self.visits.iter().filter(|visit| visit.pair == pair).collect();
        let count = |is: &dyn Fn(&Visit<'_>) -> bool| visits.iter().filter(|visit| is(visit)).count();
        let (failed, unmoved) = (count(&|visit| visit.failed()), count(&|visit| visit.unmoved(self.chunk)));
        let moved = count(&|visit| visit.moved.is_some()) - unmoved;
        let wrong = count(&|visit| visit.differs());
        let right = count(&|visit| visit.likeness.is_some()) - wrong;
        let verdict = match (failed + unmoved + wrong, moved) {
            (0, 0) => Verdict::NotTold,
            (0, _) => Verdict::Ok,
            _ => Verdict::Wrong,
        };
        let requests = visits.len();
        PairResult {
            prefill: pair.0,
            decode: pair.1,
            requests,
            failed,
            moved,
            unmoved,
            right,
            wrong,
            verdict,
        }
    }
}

/// Failed requests, and KV that did not move, not whole, or nobody knows.
fn kv_moves(scene: &Scene<'_>, told: &[Moved], found: &mut Found) {
    let mut faults = Vec::new();
    for (at, failed, of) in scene.where_it(|visit| visit.failed()) {
        let Some(first) = failed.first().and_then(|visit| visit.asked.failed) else { continue };
        let (outcome, error) = (first.outcome, first.error.clone());
        faults.push(CheckFault::PairFails { at, requests: failed.len(), of, outcome, error });
    }
    let nothing = |visit: &Visit<'_>| {
        visit.moved.is_some_and(|moved| moved.external == 0.0) && visit.unmoved(scene.chunk)
    };
    for (at, visits, of) in scene.where_it(nothing) {
        let asked: Vec<&Asked<'_>> = visits.iter().map(|visit| visit.asked).collect();
        let (cause, seconds) = (cause(scene.evidence, &asked), scene.evidence.slow(&asked));
        faults.push(CheckFault::NothingMoved { at, requests: visits.len(), of, cause, seconds });
    }
    for (at, visits, requests) in scene.where_it(|visit| visit.unmoved(scene.chunk) && !nothing(visit)) {
        let sum = |of: fn(&Moved) -> f64| {
            visits.iter().filter_map(|visit| visit.moved.as_ref()).map(of).sum::<f64>()
        };
        let (moved, of) = (sum(|moved| moved.external) as u64, sum(|moved| moved.prompt) as u64);
        faults.push(CheckFault::PartMoved { at, requests: visits.len(), of_requests: requests, moved, of });
    }
    let words = moved_words(told, scene.chunk);
    if words.is_none() && faults.is_empty() && !found.is_wrong() {
        faults.push(CheckFault::NotShown { why: why_not_told(scene).to_owned() });
    }
    found.step(Step::KvMoves, words.ok_or("no request told"), faults);
}

fn moved_words(told: &[Moved], chunk: f64) -> Option<String> {
    let most = told.iter().map(|moved| moved.rest).reduce(f64::max)?;
    let sum = |of: fn(&Moved) -> f64| told.iter().map(of).sum::<f64>();
    let (external, prompt) = (sum(|moved| moved.external), sum(|moved| moved.prompt));
    let chunks = match chunk <= 16.0 {
        true => String::new(),
        false => format!(" (in chunks of up to {chunk})"),
    };
    Some(format!(
        "{external} of {prompt} prompt tokens of {} requests; at most {most} left to compute{chunks}",
        told.len()
    ))
}

fn why_not_told(scene: &Scene<'_>) -> &'static str {
    let facts = scene.evidence.facts;
    let told = || facts.rounds.iter().flat_map(|round| &round.growth);
    let decode = |node: &usize| facts.nodes.get(*node).is_some_and(|node| node.role == Role::Decode);
    match () {
        () if facts.of(Role::Decode).next().is_none() => "no decode instance is known",
        () if !told().any(|(node, growth)| decode(node) && growth.external.is_some()) => {
            "no decode instance tells where its prompt tokens come from (vllm:prompt_tokens_by_source)"
        }
        () if scene.visits.is_empty() => "no request was seen at a pair of instances",
        () => "the decode instances served other requests meanwhile",
    }
}

/// What the counters say of why no KV moved.
pub(super) fn cause(evidence: &Evidence<'_>, asked: &[&Asked<'_>]) -> Cause {
    let facts = evidence.facts;
    let sum = |role, of: fn(&super::Growth) -> Option<f64>| {
        let nodes = || facts.of(role);
        let told = asked.iter().flat_map(|asked| nodes().filter_map(|node| of(asked.grown(node)?)));
        told.reduce(|one, other| one + other)
    };
    let failed = |role| sum(role, |growth| growth.failed_transfers).unwrap_or(0.0);
    let by_store = facts.dialect.as_deref().is_none_or(|dialect| dialect == "plain");
    let failed_all = failed(Role::Prefill) + failed(Role::Decode);
    if let Some(why) = facts.store.as_ref().and_then(|store| store.silent.clone()).filter(|_| by_store) {
        return Cause::StoreSilent { why };
    }
    if 0.0 < failed_all {
        return if by_store {
            Cause::StoreFails { keys: failed_all }
        } else {
            Cause::TransfersFail { transfers: failed_all }
        };
    }
    let keys = facts.store.as_ref().and_then(|store| Some(store.keys_after? - store.keys_before?));
    let saved = sum(Role::Prefill, |growth| growth.saved_bytes);
    match keys.or(saved).filter(|_| by_store) {
        Some(grown) if 0.0 < grown => Cause::OtherNames,
        Some(_) => Cause::NotStored,
        None if by_store => Cause::Unknown,
        None => Cause::NotFetched,
    }
}

fn one_token(scene: &Scene<'_>, found: &mut Found) {
    let facts = scene.evidence.facts;
    let (mut faults, mut legs, mut tokens) = (Vec::new(), 0.0, 0.0);
    for node in facts.of(Role::Prefill) {
        let (mut its, mut made) = (0.0, 0.0);
        for round in &facts.rounds {
            let (count, generated) = went_on(scene.evidence, round, node);
            (its, made) = (its + count, made + generated);
        }
        if its < made {
            faults.push(CheckFault::PrefillGoesOn {
                node: facts.name(node),
                requests: its as usize,
                tokens: made as u64,
            });
        }
        (legs, tokens) = (legs + its, tokens + made);
    }
    let told = if legs == 0.0 {
        Err("no prefill instance tells what it makes")
    } else {
        Ok(format!("{tokens} tokens of {legs} requests"))
    };
    found.step(Step::OneToken, told, faults);
}

fn texts(scene: &Scene<'_>, found: &mut Found) {
    let mut faults = Vec::new();
    for (at, visits, of) in scene.where_it(|visit| matches!(visit.likeness, Some(Likeness::Differs { .. }))) {
        faults.push(CheckFault::TextDiffers { at, requests: visits.len(), of });
    }
    for (at, visits, of) in scene.where_it(|visit| visit.likelihood_differs()) {
        let apart = visits.iter().filter_map(|visit| match visit.likeness {
            Some(Likeness::Equal { apart }) => apart,
            _ => None,
        });
        let most = apart.fold(0.0, f64::max);
        faults.push(CheckFault::LikelihoodDiffers { at, requests: visits.len(), of, most });
    }
    let compared: Vec<Likeness> = scene.visits.iter().filter_map(|visit| visit.likeness).collect();
    let close = compared.iter().filter(|likeness| **likeness == Likeness::Close).count();
    let apart = compared.iter().filter_map(|likeness| match likeness {
        Likeness::Equal { apart } => *apart,
        _ => None,
    });
    let rounding = if close == 0 { String::new() } else { format!(", {close} of them but for a close call") };
    let words = format!(
        "{} of {} answers equal what was computed without KV from elsewhere{rounding}{}",
        compared.len(),
        scene.visits.len(),
        apart_words(apart.reduce(f64::max))
    );
    let told =
        if compared.is_empty() { Err("there is no right answer to hold answers against") } else { Ok(words) };
    found.step(Step::Texts, told, faults);
}
