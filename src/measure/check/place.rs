use super::CheckFacts;
use crate::cluster::Role;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Where a fault is seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case")]
pub enum At {
    /// At every pair that was exercised.
    Everywhere,
    /// At every pair with this prefill instance.
    From {
        /// Its name.
        prefill: String,
    },
    /// At every pair with this decode instance.
    To {
        /// Its name.
        decode: String,
    },
    /// At these pairs alone.
    Links {
        /// Names of prefill and decode instances.
        links: Vec<(String, String)>,
    },
    /// At requests through the proxy.
    Proxy,
}

/// Links that are named one by one.
const NAMED: usize = 8;

type Pair = (usize, usize);

impl At {
    /// In words that go behind a verb.
    pub(super) fn words(&self) -> String {
        match self {
            At::Everywhere => "at every pair of instances".to_owned(),
            At::From { prefill } => format!("from {prefill} to any decode instance"),
            At::To { decode } => format!("from any prefill instance to {decode}"),
            At::Links { links } => {
                let named = links.iter().take(NAMED).map(|(from, to)| format!("from {from} to {to}"));
                let named: Vec<String> = named.collect();
                let more = links.len().saturating_sub(NAMED);
                let rest = if more == 0 { String::new() } else { format!(" and {more} more links") };
                named.join(", ") + &rest
            }
            At::Proxy => "through the proxy".to_owned(),
        }
    }
}

/// The bad ones of the pairs that were tried, named as briefly as can be, each with its pairs: all, whole rows, whole
/// columns, and the links that are left.
pub(super) fn places(
    facts: &CheckFacts,
    bad: &BTreeSet<Pair>,
    tried: &BTreeSet<Pair>,
) -> Vec<(At, BTreeSet<Pair>)> {
    if bad.is_empty() {
        return Vec::new();
    }
    if bad == tried && 1 < tried.len() {
        return vec![(At::Everywhere, bad.clone())];
    }
    let mut left = bad.clone();
    let mut found = Vec::new();
    for role in [Role::Prefill, Role::Decode] {
        let of = |pair: &Pair| if role == Role::Prefill { pair.0 } else { pair.1 };
        let other = |pair: &Pair| if role == Role::Prefill { pair.1 } else { pair.0 };
        // With one partner for all, the instance is what differs between a bad pair and the good ones.
        let one_partner = tried.iter().map(other).collect::<BTreeSet<usize>>().len() == 1;
        for node in tried.iter().map(of).collect::<BTreeSet<usize>>() {
            let its: BTreeSet<Pair> = tried.iter().filter(|pair| of(pair) == node).copied().collect();
            let enough = 1 < its.len() || one_partner && 1 < tried.len();
            if enough && its.is_subset(bad) && !its.is_disjoint(&left) {
                left.retain(|pair| !its.contains(pair));
                let name = facts.name(node);
                let at = match role {
                    Role::Prefill => At::From { prefill: name },
                    _ => At::To { decode: name },
                };
                found.push((at, its));
            }
        }
    }
    if !left.is_empty() {
        let links = left.iter().map(|&(from, to)| (facts.name(from), facts.name(to))).collect();
        found.push((At::Links { links }, left));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(bad: &[Pair], prefill: usize, decode: usize) -> Vec<String> {
        let tried: BTreeSet<Pair> =
            (0..prefill).flat_map(|p| (0..decode).map(move |d| (p, prefill + d))).collect();
        let bad: BTreeSet<Pair> = bad.iter().map(|&(p, d)| (p, prefill + d)).collect();
        let found = places(&CheckFacts::default(), &bad, &tried);
        let covered: BTreeSet<Pair> = found.iter().flat_map(|(_, pairs)| pairs.clone()).collect();
        assert_eq!(covered, bad);
        found.iter().map(|(at, _)| at.words()).collect()
    }

    #[test]
    fn bad_pairs_are_named_by_what_they_have_in_common() {
        assert_eq!(named(&[], 2, 2), [""; 0]);
        assert_eq!(named(&[(0, 0), (0, 1), (1, 0), (1, 1)], 2, 2), ["at every pair of instances"]);
        assert_eq!(named(&[(0, 0), (0, 1)], 2, 2), ["from instance 0 to any decode instance"]);
        assert_eq!(named(&[(0, 1), (1, 1)], 2, 2), ["from any prefill instance to instance 3"]);
        assert_eq!(named(&[(0, 1)], 2, 2), ["from instance 0 to instance 3"]);
        assert_eq!(named(&[(0, 1)], 1, 2), ["from any prefill instance to instance 2"]);
        assert_eq!(named(&[(1, 0)], 2, 1), ["from instance 1 to any decode instance"]);
        assert_eq!(named(&[(0, 0)], 1, 1), ["from instance 0 to instance 1"]);
        assert_eq!(
            named(&[(0, 0), (0, 1), (0, 2), (1, 1)], 3, 3),
            ["from instance 0 to any decode instance", "from instance 1 to instance 4"]
        );
    }

    #[test]
    fn many_links_are_counted() {
        let bad: Vec<Pair> = (0..10).map(|n| (n, n)).collect();
        let words = named(&bad, 12, 12).remove(0);
        assert!(words.ends_with("from instance 7 to instance 19 and 2 more links"), "{words}");
    }
}
