//! Requests, records and counts brought together.

use super::compare::Said;
use super::{ANSWER, Ask, CheckFacts, Errand, Growth, RoundTold};
use crate::cluster::Role;
use crate::measure::RequestRecord;
use std::collections::BTreeMap;

/// Everything that a check has seen.
pub(super) struct Evidence<'a> {
    pub(super) facts: &'a CheckFacts,
    pub(super) asked: Vec<Asked<'a>>,
    references: BTreeMap<usize, &'a RequestRecord>,
    majorities: BTreeMap<usize, Said<'a>>,
}

/// A request with what came of it.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) ask: Ask,
    /// Its answer; `None` where it was not sent.
    pub(super) record: Option<&'a RequestRecord>,
    /// A leg of it that failed, the answer's own or the one beside it.
    pub(super) failed: Option<&'a RequestRecord>,
    pub(super) round: &'a RoundTold,
}

/// Answers to one prompt from which on the most frequent may stand for the right one.
const MAJORITY: usize = 4;

impl<'a> Evidence<'a> {
    pub(super) fn of(facts: &'a CheckFacts, records: &'a [RequestRecord]) -> Self {
        let mut by_number: BTreeMap<(usize, usize), &RequestRecord> = BTreeMap::new();
        for record in records {
            let Some(asking) = &record.asking else { continue };
            let number = asking.questions.first().map_or(usize::MAX, |&number| number as usize);
            by_number.insert((number, asking.arm), record);
        }
        let mut asked = Vec::new();
        for round in &facts.rounds {
            for ask in &round.asks {
                let legs: Vec<&RequestRecord> = by_number
                    .range((asked.len(), 0)..(asked.len() + 1, 0))
                    .map(|(_, record)| *record)
                    .collect();
                let record = by_number.get(&(asked.len(), ANSWER)).copied();
                let failed = legs.into_iter().find(|record| record.outcome.is_failure());
                asked.push(Asked { ask: *ask, record, failed, round });
            }
        }
        let mut evidence = Self { facts, asked, references: BTreeMap::new(), majorities: BTreeMap::new() };
        evidence.references = evidence.find_references();
        evidence.majorities = evidence.find_majorities();
        evidence
    }

    /// The right answer to each prompt that has one: the baseline's before a prefill instance's.
    fn find_references(&self) -> BTreeMap<usize, &'a RequestRecord> {
        let mut found = BTreeMap::new();
        let is_prefill =
            |node: usize| self.facts.nodes.get(node).is_some_and(|node| node.role == Role::Prefill);
        for asked in &self.asked {
            let Some(record) = asked.record.filter(|record| record.is_ok()) else { continue };
            match asked.ask.errand {
                Errand::Baseline => {
                    found.insert(asked.ask.prompt, record);
                }
                Errand::Alone { node } if is_prefill(node) => {
                    found.entry(asked.ask.prompt).or_insert(record);
                }
                _ => {}
            }
        }
        found
    }

    /// What more than half of many instances say to one prompt.
    fn find_majorities(&self) -> BTreeMap<usize, Said<'a>> {
        let mut by_prompt: BTreeMap<usize, Vec<Said<'a>>> = BTreeMap::new();
        for asked in self.asked.iter().filter(|asked| matches!(asked.ask.errand, Errand::Pair { .. })) {
            by_prompt.entry(asked.ask.prompt).or_default().extend(asked.record.and_then(Said::of));
        }
        let majority = |(prompt, said): (usize, Vec<Said<'a>>)| {
            let times = |one: &Said<'_>| said.iter().filter(|other| other.text == one.text).count();
            let most = said.iter().find(|one| MAJORITY <= said.len() && said.len() < 2 * times(one))?;
            Some((prompt, *most))
        };
        by_prompt.into_iter().filter_map(majority).collect()
    }

    /// The right answer to a prompt.
    pub(super) fn right(&self, prompt: usize) -> Option<Said<'a>> {
        let reference = self.references.get(&prompt).and_then(|record| Said::of(record));
        reference.or(self.majorities.get(&prompt).copied())
    }

    /// What references took from their sending to their end, at the median, seconds.
    pub(super) fn usual_seconds(&self) -> Option<f64> {
        let alone = self
            .asked
            .iter()
            .filter(|asked| matches!(asked.ask.errand, Errand::Alone { .. } | Errand::Baseline));
        median(alone.filter_map(|asked| seconds(asked.record?)).collect())
    }

    /// What the requests of some kind took at the median, where that is far more than they need: a time-out.
    pub(super) fn slow(&self, asked: &[&Asked<'_>]) -> Option<(f64, f64)> {
        let took = median(asked.iter().filter_map(|asked| seconds(asked.record?)).collect())?;
        let usual = self.usual_seconds()?;
        (usual + SLOW_S < took).then_some((took, usual))
    }
}

/// Seconds beyond what a request takes elsewhere that are more than a transfer of KV. Assumed; no source. LMCache without
/// its plugin takes 6 s, a store that died 8.7 s.
const SLOW_S: f64 = 3.0;

/// From the send to the end of an ok answer.
fn seconds(record: &RequestRecord) -> Option<f64> {
    Some(record.finished.seconds_since(record.sent?)).filter(|_| record.is_ok())
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

impl<'a> Asked<'a> {
    /// What an instance counted in its round.
    pub(super) fn grown(&self, node: usize) -> Option<&'a Growth> {
        self.round.growth.iter().find(|(at, _)| *at == node).map(|(_, growth)| growth)
    }

    /// Whether any leg of it was sent.
    pub(super) fn was_sent(&self) -> bool {
        self.record.is_some() || self.failed.is_some()
    }

    /// Whether it was answered whole.
    pub(super) fn is_ok(&self) -> bool {
        self.failed.is_none() && self.record.is_some_and(RequestRecord::is_ok)
    }

    /// Tokens of its prompt, as the server counts them.
    pub(super) fn prompt_tokens(&self) -> Option<f64> {
        Some(f64::from(self.record?.prompt_tokens))
    }
}
