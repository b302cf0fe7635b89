//! Instances that compute prompts by themselves: the same model says the same everywhere, and takes no KV for them.

use super::compare::{Likeness, Said};
use super::evidence::{Asked, Evidence};
use super::moved::Moved;
use super::result::Found;
use super::{CheckFault, Errand, Step};
use crate::cluster::Role;

/// Judges the requests that no KV was made for.
pub(super) fn judge(evidence: &Evidence<'_>, found: &mut Found) {
    let facts = evidence.facts;
    let alone = |role| {
        evidence.asked.iter().filter_map(move |asked| match asked.ask.errand {
            Errand::Alone { node } if facts.nodes.get(node)?.role == role => Some((node, asked)),
            _ => None,
        })
    };
    let made_up = alone(Role::Decode).filter_map(|(node, asked)| {
        let moved = Moved::of(asked, node).filter(|moved| 0.0 < moved.external)?;
        let (tokens, of) = (moved.external as u64, moved.prompt as u64);
        Some(CheckFault::MadeUp { node: facts.name(node), tokens, of })
    });
    let mut faults: Vec<CheckFault> = made_up.collect();
    let (mut equal, mut apart) = (0, None::<f64>);
    let against_baseline = alone(Role::Prefill).filter(|_| facts.baseline.is_some());
    for (node, asked) in alone(Role::Decode).chain(against_baseline) {
        match likeness(evidence, asked) {
            Some(Likeness::Equal { apart: its }) => {
                equal += 1;
                apart = its.into_iter().chain(apart).reduce(f64::max);
            }
            Some(Likeness::Close) => equal += 1,
            Some(Likeness::Differs { at }) => {
                let node = facts.name(node);
                if !faults.iter().any(|fault| fault.is_of(&node)) {
                    let against = against(evidence, asked.ask.prompt);
                    faults.push(CheckFault::ComputesOther { node, against, at });
                }
            }
            None => {}
        }
    }
    let words = format!("{equal} prompts, each the same text{}", apart_words(apart));
    let told = if equal == 0 { Err("nobody else computed the same prompts") } else { Ok(words) };
    found.step(Step::Alone, told, faults);
}

/// How far log probabilities were apart at most, behind what was told of the texts.
pub(super) fn apart_words(apart: Option<f64>) -> String {
    apart.map_or(String::new(), |apart| format!(", log probabilities within {apart:.3}"))
}

fn likeness(evidence: &Evidence<'_>, asked: &Asked<'_>) -> Option<Likeness> {
    let right = evidence.right(asked.ask.prompt)?;
    Some(right.likeness(&Said::of(asked.record?)?))
}

/// Who said what is right of a prompt.
fn against(evidence: &Evidence<'_>, prompt: usize) -> String {
    let facts = evidence.facts;
    if let Some(baseline) = &facts.baseline {
        return format!("the baseline {baseline}");
    }
    let prefill = evidence.asked.iter().find_map(|asked| match asked.ask.errand {
        Errand::Alone { node } if asked.ask.prompt == prompt && facts.nodes[node].role == Role::Prefill => {
            Some(facts.name(node))
        }
        _ => None,
    });
    prefill.unwrap_or_else(|| "the others".to_owned())
}
