//! The course of a run by role: who ran, who waited, how full the KV caches were.

use super::observation::{History, Look, histories};
use super::side::span;
use super::{GaugeName, NodeCounts, ServerRole};
use crate::measure::Run;

/// One role over the main load.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleCourse {
    /// The role.
    pub role: ServerRole,
    /// Look by look.
    pub points: Vec<RolePoint>,
}

/// All nodes of a role at one look; what not all of them told is missing.
#[derive(Clone, Debug, PartialEq)]
pub struct RolePoint {
    /// When, seconds from the start of the main load.
    pub at_s: f64,
    /// Requests in the batches.
    pub running: Option<f64>,
    /// Requests waiting.
    pub waiting: Option<f64>,
    /// Mean share of the KV caches in use, in [0, 1].
    pub kv_usage: Option<f64>,
}

/// The course of each role that serves requests. All nodes are looked at at once, so that looks of one instant are one
/// point.
pub fn role_courses(run: &Run) -> Vec<RoleCourse> {
    let histories = histories(&run.observations);
    let (start, end) = span(run);
    let of = |role: ServerRole| {
        let nodes: Vec<&History> = histories.iter().filter(|history| history.role == role).collect();
        let (first, others) = nodes.split_first()?;
        let looks = first.looks.iter().filter(|look| start <= look.at && look.at <= end);
        let points = looks.map(|look| {
            let beside = others.iter().map(|node| {
                let at = node.looks.binary_search_by_key(&look.at, |other| other.at).ok()?;
                told(&node.looks[at])
            });
            let all: Option<Vec<&NodeCounts>> = std::iter::once(told(look)).chain(beside).collect();
            let sum = |name| all.as_ref()?.iter().map(|counts| counts.gauge(name)).sum::<Option<f64>>();
            RolePoint {
                at_s: look.at.seconds_since(start),
                running: sum(GaugeName::Running),
                waiting: sum(GaugeName::Waiting),
                kv_usage: sum(GaugeName::KvUsage).map(|usage| usage / nodes.len() as f64),
            }
        });
        Some(RoleCourse { role, points: points.collect() })
    };
    [ServerRole::Prefill, ServerRole::Decode, ServerRole::Mixed].into_iter().filter_map(of).collect()
}

fn told(look: &Look) -> Option<&NodeCounts> {
    look.told.as_ref().ok()
}
