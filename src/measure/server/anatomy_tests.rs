use super::super::{NodeSide, Observation, Series, ServerNote, ServerSide, UP};
use super::*;
use crate::measure::Run;
use crate::measure::testing::{at, record, run};
use std::sync::Arc;

/// What one node tells before the load and after it: names without `vllm:` and `_seconds`, sums in ms, counts.
type Told<'a> = (&'a str, ServerRole, &'a [(&'a str, f64, f64)]);

/// Ten requests with this TTFT, ms, and nodes that counted meanwhile.
fn ran(ttft_ms: f64, nodes: &[Told<'_>]) -> Run {
    let mut run =
        run((0..10).map(|_| record(&format!("100 {} {}", 100.0 + ttft_ms, 200.0 + ttft_ms))).collect());
    run.manifest.main_start = at(50.0);
    run.manifest.main_end = Some(at(1000.0));
    for (node, role, values) in nodes {
        let line = |when: f64, name: &str, value: f64| {
            let (node, name) = ((*node).to_owned(), name.to_owned());
            let series = Series { node, role: *role, name, labels: [].into() };
            Observation { at: at(when), series: Arc::new(series), value: Some(value) }
        };
        for (when, share) in [(40.0, 0.0), (1010.0, 1.0)] {
            run.observations.push(line(when, UP, 1.0));
            for (name, sum_ms, count) in *values {
                run.observations.push(line(when, &format!("vllm:{name}_seconds_sum"), 1e-3 * sum_ms * share));
                run.observations.push(line(when, &format!("vllm:{name}_seconds_count"), count * share));
            }
        }
    }
    run
}

const P: &[(&str, f64, f64)] = &[
    ("request_queue_time", 200.0, 10.0),
    ("request_prefill_time", 300.0, 10.0),
    ("time_to_first_token", 510.0, 10.0),
    ("e2e_request_latency", 520.0, 10.0),
];
const D: &[(&str, f64, f64)] = &[
    ("request_queue_time", 150.0, 10.0),
    ("request_prefill_time", 80.0, 10.0),
    ("time_to_first_token", 240.0, 10.0),
    ("nixl_xfer_time", 100.0, 10.0),
];

fn parts(run: &Run) -> (TokenWay, Vec<(&'static str, f64)>) {
    let anatomy = ServerSide::of(run).unwrap().anatomy.unwrap();
    let sum: f64 = anatomy.parts.iter().map(|part| part.ms).sum();
    assert!((sum - anatomy.from_schedule_ms).abs() < 1e-9);
    let rounded = |ms: f64| (1e6 * ms).round() / 1e6;
    (anatomy.way, anatomy.parts.iter().map(|part| (part.name.key(), rounded(part.ms))).collect())
}

#[test]
fn legs_that_follow_one_another_are_told_apart_and_the_rest_is_shown() {
    let (way, parts) = parts(&ran(80.0, &[("p", ServerRole::Prefill, P), ("d", ServerRole::Decode, D)]));
    assert_eq!(way, TokenWay::DecodeAfterPrefill);
    let expected = [
        ("client", 0.0),
        ("prefill_queue", 20.0),
        ("prefill_compute", 30.0),
        // 2 ms at the prefill node, 1 ms at the decode node.
        ("node_overhead", 3.0),
        ("kv_transfer", 10.0),
        ("decode_queue", 5.0),
        ("decode_first_step", 8.0),
        ("rest", 4.0),
    ];
    assert_eq!(parts, expected);
}

#[test]
fn several_nodes_of_a_role_are_one_pool() {
    let idle = [("request_queue_time", 0.0, 10.0), ("request_prefill_time", 300.0, 10.0)];
    let nodes =
        [("p", ServerRole::Prefill, P), ("q", ServerRole::Prefill, &idle[..]), ("d", ServerRole::Decode, D)];
    let (_, parts) = parts(&ran(80.0, &nodes));
    assert_eq!((parts[1], parts[2]), (("prefill_queue", 10.0), ("prefill_compute", 30.0)));
}

#[test]
fn a_decode_leg_as_long_as_the_ttft_ran_beside_the_prefill() {
    let beside = [
        ("request_queue_time", 700.0, 10.0),
        ("request_prefill_time", 80.0, 10.0),
        ("time_to_first_token", 785.0, 10.0),
    ];
    let run = ran(80.0, &[("p", ServerRole::Prefill, P), ("d", ServerRole::Decode, &beside)]);
    let (way, parts) = parts(&run);
    assert_eq!(way, TokenWay::DecodeBesidePrefill);
    // 52 ms of its queue are the prefill node's.
    assert!(
        parts.contains(&("decode_queue", 18.0)) && parts.contains(&("decode_first_step", 8.0)),
        "{parts:?}"
    );
    assert!(ServerSide::of(&run).unwrap().anatomy.unwrap().kv_wait_in_queue);
}

#[test]
fn a_prefill_leg_as_long_as_the_ttft_gave_the_first_token() {
    let run = ran(53.0, &[("p", ServerRole::Prefill, P), ("d", ServerRole::Decode, D)]);
    let (way, parts) = parts(&run);
    assert_eq!(way, TokenWay::Prefill);
    assert_eq!(parts.last(), Some(&("rest", 2.0)));
    assert!(!parts.iter().any(|(name, _)| name.starts_with("decode")));
}

#[test]
fn kv_that_takes_longer_than_the_queue_was_loaded_within_the_first_step() {
    let within = [
        ("request_queue_time", 10.0, 10.0),
        ("request_prefill_time", 220.0, 10.0),
        ("time_to_first_token", 230.0, 10.0),
        // Every request on four ranks at once.
        ("nixl_xfer_time", 600.0, 40.0),
    ];
    let (_, parts) = parts(&ran(80.0, &[("p", ServerRole::Prefill, P), ("d", ServerRole::Decode, &within)]));
    for part in [("kv_transfer", 15.0), ("decode_queue", 1.0), ("decode_first_step", 7.0)] {
        assert!(parts.contains(&part), "{parts:?}");
    }
}

#[test]
fn what_one_side_does_not_tell_is_in_the_rest() {
    let (way, parts) = parts(&ran(80.0, &[("d", ServerRole::Decode, D)]));
    assert_eq!(way, TokenWay::DecodeAfterPrefill);
    assert_eq!(parts.last(), Some(&("rest", 56.0)));
    let nobody = ran(80.0, &[("s", ServerRole::Store, &[])]);
    assert!(ServerSide::of(&nobody).unwrap().anatomy.is_none());
    assert!(ServerSide::of(&ran(80.0, &[])).is_none());
}

#[test]
fn parts_that_cannot_be_are_told_of() {
    let run = ran(20.0, &[("p", ServerRole::Prefill, P), ("d", ServerRole::Decode, D)]);
    let side = ServerSide::of(&run).unwrap();
    assert!(matches!(side.notes[..], [ServerNote::PartsOverlap { .. }]), "{:?}", side.notes);
    assert!(side.anatomy.unwrap().ms(PartName::Rest).unwrap() < 0.0 && side.diagnosis.is_none());
}

#[test]
fn the_diagnosis_names_the_pool_that_costs_most() {
    let run = ran(80.0, &[("p", ServerRole::Prefill, P), ("d", ServerRole::Decode, D)]);
    let side = ServerSide::of(&run).unwrap();
    let diagnosis = side.diagnosis.unwrap();
    assert_eq!(diagnosis.greatest, PartName::PrefillCompute);
    assert!(diagnosis.text().contains("the bottleneck is the prefill pool: prefill queue is 25 %"));
    let full = |node: NodeSide| NodeSide { kv_usage_peak: Some(0.99), preemptions: Some(3.0), ..node };
    let nodes: Vec<NodeSide> =
        side.nodes.into_iter().filter(|node| node.role == ServerRole::Decode).map(full).collect();
    let mut anatomy = side.anatomy.unwrap();
    anatomy.parts.retain(|part| part.name != PartName::PrefillQueue);
    let text = super::super::Diagnosis::of(&anatomy, &nodes).unwrap().text();
    assert!(text.contains("the decode pool: KV cache up to 99 % full, 3 preemptions"), "{text}");
}

#[test]
fn looks_outside_the_load_bound_it() {
    let run = ran(80.0, &[("p", ServerRole::Prefill, P)]);
    let node = &ServerSide::of(&run).unwrap().nodes[0];
    assert_eq!((node.scrapes, node.running_mean, node.queue_ms), (2, None, Some(20.0)));
}
