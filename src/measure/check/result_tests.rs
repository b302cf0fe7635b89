use super::super::{Ask, At, Cause, Errand, Growth, NodeTold, RoundTold};
use super::*;
use crate::cluster::Role;
use crate::measure::testing::assert_in_authority;
use crate::measure::{Asking, EventTimes, Kind, Offset, Outcome, Reply, TokenLogprob};

/// A prefill instance (0) and a decode instance (1) with blocks of 16 tokens.
fn facts(rounds: Vec<RoundTold>) -> CheckFacts {
    let node =
        |role, address: &str| NodeTold { block_size: Some(16), ..NodeTold::named(role, address.to_owned()) };
    CheckFacts {
        dialect: Some("nixl-pull".to_owned()),
        nodes: vec![node(Role::Prefill, "p:1"), node(Role::Decode, "d:1")],
        rounds,
        ..CheckFacts::default()
    }
}

fn round(errand: Errand, prompt: usize, growth: &[(usize, Growth)]) -> RoundTold {
    RoundTold { asks: vec![Ask { errand, prompt, stops: false }], growth: growth.to_vec() }
}

/// An instance that served one request of 100 prompt tokens, so many of them from elsewhere.
fn served(external: f64) -> Growth {
    Growth {
        finished: Some(1.0),
        local_compute: Some(100.0 - external),
        local_cache_hit: Some(0.0),
        external: Some(external),
        generated: Some(1.0),
        ..Growth::default()
    }
}

/// The whole answer to request `number`: one token of this log probability.
fn answer(number: u32, text: &str, logprob: f64) -> RequestRecord {
    let token =
        TokenLogprob { token: text.to_owned(), margin: Some(3.0), logprob: Some(logprob), next: None };
    let reply = Reply { text: text.to_owned(), finish_reason: None, tokens: vec![token] };
    RequestRecord {
        outcome: Outcome::Ok,
        sent: Some(Offset::default()),
        events: EventTimes::default(),
        prompt_tokens: 100,
        text: Some(text.to_owned()),
        asking: Some(Asking { arm: 0, questions: vec![number], replies: vec![reply] }),
        ..RequestRecord::due(number, Kind::Check, number.to_string(), Offset::default())
    }
}

const PAIR: Errand = Errand::Pair { prefill: 0, decode: 1 };
const ALONE: Errand = Errand::Alone { node: 0 };

/// One request to the pair and its reference.
fn visit(decode: Growth, text: &str, logprob: f64) -> CheckResult {
    let facts =
        facts(vec![round(PAIR, 0, &[(0, served(0.0)), (1, decode)]), round(ALONE, 0, &[(0, served(0.0))])]);
    CheckResult::of(&facts, &[answer(0, text, logprob), answer(1, "yes", -0.5)])
}

#[test]
fn a_pair_works_whose_kv_moved_and_whose_text_is_right() {
    let result = visit(served(99.0), "yes", -0.5);
    assert_eq!(result.faults, []);
    assert_eq!(result.pair(0, 1).unwrap().verdict, Verdict::Ok);
    let steps: Vec<Step> = result.steps.iter().map(|step| step.step).collect();
    assert_eq!(steps, Step::ALL);
}

#[test]
fn what_a_pair_does_wrong_is_told_apart() {
    let at = || At::Links { links: vec![("prefill p:1".to_owned(), "decode d:1".to_owned())] };
    let nothing =
        CheckFault::NothingMoved { at: at(), requests: 1, of: 1, cause: Cause::NotFetched, seconds: None };
    assert_eq!(visit(served(0.0), "yes", -0.5).faults, [nothing]);
    let part = CheckFault::PartMoved { at: at(), requests: 1, of_requests: 1, moved: 32, of: 100 };
    assert_eq!(visit(served(32.0), "yes", -0.5).faults, [part]);
    let text = CheckFault::TextDiffers { at: at(), requests: 1, of: 1 };
    assert_eq!(visit(served(99.0), "no", -0.5).faults, [text]);
    let likelihood = CheckFault::LikelihoodDiffers { at: at(), requests: 1, of: 1, most: 0.75 };
    assert_eq!(visit(served(99.0), "yes", -1.25).faults, [likelihood]);
}

#[test]
fn an_instance_that_others_use_meanwhile_tells_nothing() {
    let busy = Growth { finished: Some(2.0), ..served(99.0) };
    let result = visit(busy, "yes", -0.5);
    let why = "the decode instances served other requests meanwhile".to_owned();
    assert_eq!(result.faults, [CheckFault::NotShown { why }]);
    assert_eq!(result.pair(0, 1).unwrap().verdict, Verdict::NotTold);
    let silent = visit(Growth::default(), "yes", -0.5);
    assert!(
        silent.faults[0].what().contains("no decode instance tells where"),
        "{}",
        silent.faults[0].what()
    );
}

#[test]
fn a_prefill_makes_one_token_and_says_so_if_it_makes_more() {
    let long = Growth { generated: Some(16.0), ..served(0.0) };
    let facts = facts(vec![round(PAIR, 0, &[(0, long), (1, served(99.0))])]);
    let result = CheckResult::of(&facts, &[answer(0, "yes", -0.5)]);
    assert_eq!(
        result.faults,
        [CheckFault::PrefillGoesOn { node: "prefill p:1".to_owned(), requests: 1, tokens: 16 }]
    );
}

#[test]
fn the_authority_names_every_finding_and_each_has_its_texts() {
    let at = || At::Proxy;
    let node = || "decode d:1".to_owned();
    let (requests, of, error) = (1, 2, None);
    let faults = [
        CheckFault::Silent { node: node(), why: "refused".to_owned() },
        CheckFault::Fails { node: node(), requests, outcome: Outcome::Reset, error: error.clone() },
        CheckFault::Models { told: vec![(node(), "m".to_owned())] },
        CheckFault::Lengths { told: vec![(node(), 1)] },
        CheckFault::Blocks { told: vec![(node(), 1)] },
        CheckFault::ComputesOther { node: node(), against: node(), at: 0 },
        CheckFault::MadeUp { node: node(), tokens: 1, of: 2 },
        CheckFault::PairFails { at: at(), requests, of, outcome: Outcome::Reset, error: error.clone() },
        CheckFault::NothingMoved { at: at(), requests, of, cause: Cause::Unknown, seconds: Some((9.0, 1.0)) },
        CheckFault::PartMoved { at: at(), requests, of_requests: 2, moved: 1, of: 2 },
        CheckFault::TextDiffers { at: At::Everywhere, requests, of },
        CheckFault::LikelihoodDiffers { at: At::Everywhere, requests, of, most: 1.0 },
        CheckFault::PrefillGoesOn { node: node(), requests, tokens: 9 },
        CheckFault::ProxyFails { requests, of, outcome: Outcome::Reset, error: error.clone() },
        CheckFault::ProxyPassesOver { role: Role::Prefill, requests, of },
        CheckFault::ProxyElsewhere { requests, of },
        CheckFault::StopLosesKv { outcome: None, error, tokens: Some(9) },
        CheckFault::NotShown { why: "nobody tells".to_owned() },
    ];
    for fault in faults {
        assert_in_authority(&serde_json::to_value(&fault).unwrap()["fault"]);
        assert!(!fault.what().contains('\n') && !fault.what_to_do().is_empty());
        let back: CheckFault = serde_json::from_value(serde_json::to_value(&fault).unwrap()).unwrap();
        assert_eq!(back, fault);
    }
}
