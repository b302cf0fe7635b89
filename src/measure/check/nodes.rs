//! The instances: whether they answer, and whether they are alike.

use super::evidence::Evidence;
use super::result::Found;
use super::{CheckFault, Errand, NodeTold, Step};
use std::collections::BTreeSet;

/// Judges what the instances told of themselves, and whether they answer at all.
pub(super) fn judge(evidence: &Evidence<'_>, found: &mut Found) {
    let nodes = &evidence.facts.nodes;
    let silent = nodes.iter().filter_map(|node| {
        let why = node.silent.clone()?;
        Some(CheckFault::Silent { node: node.name(), why })
    });
    let faults: Vec<CheckFault> = silent.chain(failing(evidence)).collect();
    let told = match nodes.is_empty() {
        true => Err("no instance is known: name them with --prefill and --decode"),
        false => Ok(format!("{} of {}", nodes.len(), nodes.len())),
    };
    found.step(Step::Answers, told, faults);
    model(evidence, found);
    let sizes = || nodes.iter().filter_map(|node| Some((node.name(), node.block_size?)));
    let told = match all_alike(sizes()) {
        Ok(Some(size)) => Ok(format!("{size} tokens on {} of {}", sizes().count(), nodes.len())),
        _ => Err("no instance tells its block size (vllm:cache_config_info)"),
    };
    let faults = match all_alike(sizes()) {
        Err(told) => vec![CheckFault::Blocks { told }],
        Ok(_) => Vec::new(),
    };
    found.step(Step::Blocks, told, faults);
}

/// Instances that fail every request that goes whole to them.
fn failing(evidence: &Evidence<'_>) -> Vec<CheckFault> {
    let of = |(at, node): (usize, &NodeTold)| {
        let mine = evidence.asked.iter().filter(|asked| asked.ask.errand == Errand::Alone { node: at });
        let mine: Vec<_> = mine.filter(|asked| asked.record.is_some()).collect();
        let failed = mine.iter().find_map(|asked| asked.failed)?;
        mine.iter().all(|asked| asked.failed.is_some()).then(|| CheckFault::Fails {
            node: node.name(),
            requests: mine.len(),
            outcome: failed.outcome,
            error: failed.error.clone(),
        })
    };
    evidence.facts.nodes.iter().enumerate().filter_map(of).collect()
}

fn model(evidence: &Evidence<'_>, found: &mut Found) {
    let nodes = &evidence.facts.nodes;
    let listed: Vec<&NodeTold> = nodes.iter().filter(|node| !node.models.is_empty()).collect();
    let lengths = || nodes.iter().filter_map(|node| Some((node.name(), node.max_model_len?)));
    let mut faults = Vec::new();
    let common = listed.first().and_then(|first| {
        first.models.iter().find(|model| listed.iter().all(|node| node.models.contains(model)))
    });
    if !listed.is_empty() && common.is_none() {
        let told = listed.iter().map(|node| (node.name(), node.models.join(", "))).collect();
        faults.push(CheckFault::Models { told });
    }
    let length = all_alike(lengths()).unwrap_or_else(|told| {
        faults.push(CheckFault::Lengths { told });
        None
    });
    let told = common.map(|model| {
        let length = length.map_or(String::new(), |tokens| format!(", {tokens} tokens"));
        format!("{model} on {} of {}{length}", listed.len(), nodes.len())
    });
    found.step(Step::Model, told.ok_or("no instance lists its models"), faults);
}

/// The one value that all who tell have; all of them where they differ.
fn all_alike<T: Ord + Clone>(told: impl Iterator<Item = (String, T)>) -> Result<Option<T>, Vec<(String, T)>> {
    let told: Vec<(String, T)> = told.collect();
    let values: BTreeSet<&T> = told.iter().map(|(_, value)| value).collect();
    match values.len() {
        0 | 1 => Ok(values.first().map(|&value| value.clone())),
        _ => Err(told),
    }
}
