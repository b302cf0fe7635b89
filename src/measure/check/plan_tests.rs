use super::*;
use std::collections::{BTreeMap, BTreeSet};

fn design(prefill: usize, decode: usize, sharing: Sharing) -> Design {
    Design {
        prefill: (0..prefill).collect(),
        decode: (prefill..prefill + decode).collect(),
        way: PairWay::Direct,
        sharing,
        requests: usual_requests(prefill * decode),
        proxy: true,
        baseline: false,
    }
}

fn all(design: &Design) -> Vec<Ask> {
    design.rounds().into_iter().flatten().collect()
}

/// How often each pair is exercised within the first requests.
fn pairs(asks: &[Ask]) -> BTreeMap<(usize, usize), usize> {
    let mut times = BTreeMap::new();
    for ask in asks.iter().filter(|ask| !ask.stops) {
        if let Errand::Pair { prefill, decode } = ask.errand {
            *times.entry((prefill, decode)).or_default() += 1;
        }
    }
    times
}

#[test]
fn every_pair_comes_as_often_as_any_other() {
    for (prefill, decode, each) in
        [(1, 1, 4), (1, 3, 4), (3, 1, 4), (2, 4, 4), (3, 5, 2), (5, 3, 2), (8, 8, 1)]
    {
        for sharing in [Sharing::Nothing, Sharing::Round] {
            let times = pairs(&all(&design(prefill, decode, sharing)));
            assert_eq!(times.len(), prefill * decode, "{prefill}p{decode}d");
            assert!(times.values().all(|&times| times == each || (15 == prefill * decode && 2 <= times)));
        }
    }
}

#[test]
fn every_pair_of_32_by_32_is_among_the_first_1024_requests() {
    for sharing in [Sharing::Nothing, Sharing::Round] {
        let asks = all(&design(32, 32, sharing));
        assert_eq!(pairs(&asks[..1024]).len(), 1024);
        assert!(asks.len() <= 1024 + 90, "{}", asks.len());
    }
    // With fewer requests as many pairs, spread over all instances.
    let few = pairs(&all(&Design { requests: 100, ..design(32, 32, Sharing::Round) }));
    let of = |side: fn(&(usize, usize)) -> usize| few.keys().map(side).collect::<BTreeSet<_>>().len();
    assert_eq!((few.len(), of(|pair| pair.0), of(|pair| pair.1)), (100, 32, 32));
}

#[test]
fn in_a_round_no_instance_decodes_two_and_none_meets_a_prompt_again() {
    for (prefill, decode) in [(1, 1), (2, 4), (5, 3), (32, 32)] {
        for sharing in [Sharing::Nothing, Sharing::Round] {
            let mut met = BTreeSet::new();
            for round in design(prefill, decode, sharing).rounds() {
                let mut busy = BTreeSet::new();
                for ask in round {
                    if let Errand::Pair { decode, .. } = ask.errand {
                        assert!(busy.insert(decode) && met.insert((decode, ask.prompt)));
                    }
                }
            }
        }
    }
}

#[test]
fn prompts_are_shared_where_that_hides_nothing() {
    let prompts = |sharing| {
        let asks = all(&design(2, 4, sharing));
        let pairs = asks.iter().filter(|ask| matches!(ask.errand, Errand::Pair { .. }));
        pairs.map(|ask| ask.prompt).collect::<BTreeSet<_>>().len()
    };
    assert_eq!((prompts(Sharing::Nothing), prompts(Sharing::Round)), (32, 8));
}

#[test]
fn every_prompt_has_a_reference_or_a_majority() {
    for (prefill, decode, sharing) in
        [(1, 1, Sharing::Nothing), (2, 4, Sharing::Round), (32, 32, Sharing::Round)]
    {
        let rounds = design(prefill, decode, sharing).rounds();
        let alone: BTreeSet<usize> = rounds
            .iter()
            .flatten()
            .filter(|ask| matches!(ask.errand, Errand::Alone { .. }))
            .map(|ask| ask.prompt)
            .collect();
        for round in &rounds {
            for ask in
                round.iter().filter(|ask| matches!(ask.errand, Errand::Pair { .. } | Errand::Proxy { .. }))
            {
                assert!(alone.contains(&ask.prompt) || MAJORITY <= round.len(), "{ask:?}");
            }
        }
    }
}

#[test]
fn what_is_missing_is_not_asked() {
    let baseline = Design { baseline: true, ..design(1, 1, Sharing::Nothing) };
    let whole = |asks: &[Ask]| asks.iter().filter(|ask| ask.errand == Errand::Baseline).count();
    assert_eq!(whole(&all(&baseline)), 4 + 1 + 4 + 1);
    let alone = Design { proxy: false, prefill: Vec::new(), ..design(0, 1, Sharing::Nothing) };
    assert_eq!(all(&alone).len(), 1);
    let proxy = Design { way: PairWay::Proxy, requests: 6, ..design(1, 1, Sharing::Nothing) };
    let through = all(&proxy).iter().filter(|ask| matches!(ask.errand, Errand::Proxy { .. })).count();
    assert_eq!((through, pairs(&all(&proxy)).len()), (6 + 1, 0));
}
