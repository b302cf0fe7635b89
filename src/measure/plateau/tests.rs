use super::super::testing::{assert_in_authority, at, failed as failed_main, record as main_record};
use super::super::{Flag, Flags, Outcome, OutputTokensSource, RequestRecord};
use super::*;
use proptest::prelude::*;

fn on(node: &str, record: RequestRecord) -> RequestRecord {
    RequestRecord { kind: Kind::Replica, node: Some(node.to_owned()), ..record }
}

fn replica(times_ms: &str) -> RequestRecord {
    on("d0", main_record(times_ms))
}

fn failed(times_ms: &str, outcome: Outcome) -> RequestRecord {
    on("d1", failed_main(times_ms, outcome))
}

fn batch(expected: usize) -> Batch {
    Batch { expected, prompts: Prompts::Unique, nodes: Vec::new(), decode_side: None }
}

fn fold(records: &[RequestRecord]) -> Plateau {
    let plateau = Plateau::of(records, &batch(records.len()));
    for fault in &plateau.faults {
        assert!(!fault.what().is_empty() && !fault.what_to_do().is_empty());
        let json = serde_json::to_value(fault).unwrap();
        assert_in_authority(&json["fault"]);
        if json["fault"] == "no_plateau" {
            assert_in_authority(&json["why"]["because"]);
        }
    }
    for note in &plateau.notes {
        assert!(!note.text().is_empty());
        assert_in_authority(&serde_json::to_value(note).unwrap()["note"]);
    }
    plateau
}

/// A stream sent at 0 whose first token comes at `first`, and the others `step` apart, in ms.
fn steady(first: f64, step: f64, tokens: u32) -> RequestRecord {
    let events = (0..tokens).map(|nth| at(first + f64::from(nth) * step)).collect();
    let last = at(first + f64::from(tokens - 1) * step);
    RequestRecord { events, output_tokens: tokens, finished: last, ..replica("0 1") }
}

fn window_ms(plateau: &Plateau) -> Option<(f64, f64)> {
    let ms = |seconds: f64| (seconds * 1e7).round() / 1e4;
    plateau.start_s.zip(plateau.end_s).map(|(start, end)| (ms(start), ms(end)))
}

#[test]
fn the_plateau_lasts_from_the_last_second_token_to_the_first_end() {
    let plateau = fold(&[replica("0 10 20 30 40 50 60"), replica("5 15 25 35 45 55")]);
    assert_eq!(window_ms(&plateau), Some((25.0, 55.0)));
    // 3 steps of the one in [25, 55]: half of 20→30, 30→40, 40→50, half of 50→60; 3 of the other.
    assert!((plateau.tokens - 6.0).abs() < 1e-9, "{}", plateau.tokens);
    assert!((plateau.decode_tok_per_s.unwrap() - 200.0).abs() < 1e-9);
    assert_eq!((plateau.ok, plateau.streams, plateau.is_valid()), (2, 2, true));
    assert_eq!(plateau.ttft_ms.median, Some(10.0));
    assert_eq!((plateau.tpot_ms.median, plateau.itl_ms.count), (Some(10.0), 5));
    assert_eq!(plateau.itl_all_ms.count, 9);
    // 11 tokens from 0 to 60 ms, under a name of its own.
    assert!((plateau.tok_per_s_with_ramp_and_drain.unwrap() - 11.0 / 0.06).abs() < 1e-9);
}

#[test]
fn a_straggler_moves_the_start_and_a_short_answer_the_end() {
    let plateau = fold(&[steady(10.0, 10.0, 50), steady(200.0, 10.0, 50), steady(10.0, 10.0, 30)]);
    assert_eq!(window_ms(&plateau), Some((210.0, 300.0)));
    assert!((plateau.decode_tok_per_s.unwrap() - 300.0).abs() < 1e-6);
}

#[test]
fn a_straggler_after_the_first_end_leaves_no_plateau_and_both_are_named() {
    let late = on("d1", steady(500.0, 10.0, 30));
    let plateau = fold(&[steady(10.0, 10.0, 30), late.clone(), late]);
    assert_eq!((plateau.decode_tok_per_s, plateau.streams, plateau.length_s()), (None, 0, None));
    let said = "no plateau: the first stream on d0 ended at 0.300 s, when 2 had not yet two tokens, the last of \
                them on d1 at 0.510 s";
    assert_eq!(plateau.faults.iter().map(BatchFault::what).collect::<Vec<_>>(), [said]);
    assert_eq!(plateau.ttft_ms.count, 3);
}

#[test]
fn a_stream_of_one_token_means_no_plateau_and_the_others_are_still_shown() {
    let plateau = fold(&[steady(10.0, 10.0, 30), replica("0 10")]);
    let why = WhyNot::OneToken { replicas: 1 };
    assert_eq!(plateau.faults, [BatchFault::NoPlateau { why }]);
    assert_eq!((plateau.streams, window_ms(&plateau)), (1, Some((20.0, 300.0))));
}

#[test]
fn a_replica_that_is_cut_in_the_plateau_ends_it_and_names_its_node() {
    let cut = failed("0 10 20 30 40 50 60 70", Outcome::Truncated);
    let plateau = fold(&[steady(10.0, 10.0, 30), cut.clone(), cut]);
    assert_eq!((window_ms(&plateau), plateau.streams), (Some((20.0, 70.0)), 3));
    let said = "2 of 3 replicas failed, mostly as truncated: 2 on d1";
    assert_eq!(plateau.faults.iter().map(BatchFault::what).collect::<Vec<_>>(), [said]);
    let rates: Vec<_> = plateau.nodes.iter().map(|n| (n.node.as_str(), n.replicas, n.ok)).collect();
    assert_eq!(rates, [("d0", 1, 1), ("d1", 2, 0)]);
}

#[test]
fn replicas_that_failed_before_the_others_began_are_left_out_of_what_is_shown() {
    let early = failed("0 1 2", Outcome::Reset);
    let refused = failed("0", Outcome::ConnectRefused);
    let plateau = fold(&[steady(10.0, 10.0, 30), early, refused, steady(20.0, 10.0, 30)]);
    assert_eq!((window_ms(&plateau), plateau.streams), (Some((30.0, 300.0)), 2));
    assert_eq!(plateau.faults.len(), 2, "{:?}", plateau.faults);
    assert!(matches!(plateau.faults[0], BatchFault::ReplicasFailed { failed: 2, of: 4, .. }));
    assert!(matches!(plateau.faults[1], BatchFault::NoPlateau { why: WhyNot::EndedEarly { .. } }));
}

#[test]
fn replicas_without_a_record_are_missed() {
    let plateau = Plateau::of(&[steady(10.0, 10.0, 30)], &batch(3));
    assert_eq!(plateau.faults, [BatchFault::FewerReplicas { found: 1, expected: 3 }]);
    assert!(plateau.decode_tok_per_s.is_some());
    let nothing = Plateau::of(&[], &batch(1));
    assert!(matches!(nothing.faults[1], BatchFault::NoPlateau { why: WhyNot::NoStream }));
    assert_eq!((nothing.bins.len(), nothing.balance_replicas), (0, None));
}

#[test]
fn records_of_other_kinds_are_no_replicas() {
    let plateau = Plateau::of(&[steady(10.0, 10.0, 30), main_record("0 1000 2000")], &batch(1));
    assert_eq!((plateau.replicas, plateau.is_valid()), (1, true));
}

#[test]
fn answers_in_one_piece_have_no_plateau() {
    let mut whole = replica("0 100 100 100");
    whole.flags = Flags::from([(Flag::BufferedByProxy, 1)]);
    let plateau = fold(&[whole.clone(), whole]);
    assert_eq!(plateau.faults, [BatchFault::NoPlateau { why: WhyNot::Buffered { replicas: 2 } }]);
    assert_eq!(plateau.decode_tok_per_s, None);
}

#[test]
fn events_with_several_tokens_count_what_the_server_says_of_them() {
    let mut told = steady(10.0, 10.0, 4);
    (told.events_tokens, told.output_tokens) = (vec![3, 1, 4, 2], 10);
    let plateau = fold(&[told.clone()]);
    // Two tokens are there with the first event.
    assert_eq!(window_ms(&plateau), Some((10.0, 40.0)));
    assert!((plateau.tokens - 7.0).abs() < 1e-9);
    assert!((plateau.tpot_ms.median.unwrap() - 30.0 / 7.0).abs() < 1e-9);
    assert!(!plateau.notes.iter().any(|note| matches!(note, BatchNote::TokensPerEventUntold { .. })));

    told.events_tokens.clear();
    let plateau = fold(&[told]);
    assert!((plateau.tokens - 7.5).abs() < 1e-9);
    assert!(plateau.notes.contains(&BatchNote::TokensPerEventUntold { tokens: 2.5 }));
}

#[test]
fn coalesced_events_lose_no_token() {
    // Every other event came with the one before.
    let events = (0..40_u32).map(|nth| at(f64::from(nth / 2 * 20 + 20))).collect();
    let pairs = RequestRecord {
        events,
        output_tokens: 40,
        flags: Flags::from([(Flag::Coalesced, 20)]),
        ..replica("0 1")
    };
    let plateau = fold(&[pairs.clone(), pairs]);
    assert_eq!(window_ms(&plateau), Some((20.0, 400.0)));
    assert!((plateau.decode_tok_per_s.unwrap() - 200.0).abs() < 1e-9);
    assert!(plateau.notes.contains(&BatchNote::Coalesced { share: 0.5 }));
}

#[test]
fn what_is_not_as_it_seems_is_said() {
    let mut same = batch(2);
    same.prompts = Prompts::Same;
    same.decode_side = Some(DecodeSide {
        local_compute: 200.0,
        local_cache_hit: 300.0,
        external_kv_transfer: 500.0,
        preemptions: 3.0,
    });
    let mut stream = steady(10.0, 10.0, 10);
    stream.output_tokens_source = OutputTokensSource::Events;
    let notes = Plateau::of(&[stream.clone(), stream], &same).notes;
    let expected = [
        BatchNote::SamePrompts,
        BatchNote::NoUsage { replicas: 2 },
        BatchNote::ShortPlateau { steps: 8.0 },
        BatchNote::Recomputed { share: 0.2 },
        BatchNote::PrefixCacheOnDecode { share: 0.3 },
        BatchNote::Preempted { times: 3.0 },
    ];
    assert_eq!(notes, expected);
    for note in &notes {
        assert_in_authority(&serde_json::to_value(note).unwrap()["note"]);
    }
    assert!(notes[0].text().contains("identical prompts route to identical experts"));
}

#[test]
fn an_instance_without_a_replica_is_out_of_balance() {
    let mut asked = batch(3);
    asked.nodes = ["d0", "d1", "d2"].map(str::to_owned).into();
    let plateau = Plateau::of(
        &[steady(10.0, 10.0, 30), steady(10.0, 10.0, 30), on("d1", steady(10.0, 20.0, 15))],
        &asked,
    );
    assert_eq!(plateau.balance_replicas, Some(2.0));
    let rates: Vec<_> = plateau.nodes.iter().map(|node| node.decode_tok_per_s.unwrap().round()).collect();
    assert_eq!(rates, [200.0, 50.0, 0.0]);
    assert!((plateau.balance_tok_per_s.unwrap() - 200.0 / (250.0 / 3.0)).abs() < 1e-6);
    let steps: Vec<_> = plateau.nodes.iter().map(|node| node.tpot_p50_ms).collect();
    assert_eq!(steps, [Some(10.0), Some(20.0), None]);
}

#[test]
fn the_course_shows_the_batch_that_was_achieved() {
    // One of 2 s, one of 1 s, both from 1 s on.
    let plateau = fold(&[steady(1000.0, 10.0, 201), steady(1000.0, 10.0, 101)]);
    let course: Vec<_> = plateau.bins.iter().map(|bin| (bin.start_s, bin.batch, bin.tok_per_s)).collect();
    let rounded: Vec<_> = course.iter().map(|(start, batch, rate)| (*start, *batch, rate.round())).collect();
    assert_eq!(rounded, [(0.0, 0.0, 0.0), (1.0, 2.0, 202.0), (2.0, 1.0, 100.0)]);
}

proptest! {
    #[test]
    fn n_equal_streams_make_n_tokens_a_step_whatever_their_phases(
        phases in proptest::collection::vec(0.0_f64..400.0, 1..40),
        step in 1.0_f64..50.0,
    ) {
        let records: Vec<_> = phases.iter().map(|phase| steady(5.0 + phase, step, 600)).collect();
        let plateau = fold(&records);
        let expected = phases.len() as f64 / step * 1000.0;
        let found = plateau.decode_tok_per_s.unwrap();
        prop_assert!((found - expected).abs() < 1e-3 * expected, "{} for {}", found, expected);
        prop_assert!(plateau.is_valid());
    }

    #[test]
    fn the_plateau_and_the_bins_never_hold_more_tokens_than_there_are(
        streams in proptest::collection::vec(
            (0.0_f64..3000.0, proptest::collection::vec(0.0_f64..300.0, 0..40), 0_usize..26, 0_usize..3),
            0..20,
        ),
    ) {
        let records: Vec<_> = streams.iter().map(|(sent, gaps, outcome, node)| {
            let mut now = *sent;
            let events: Vec<f64> = gaps.iter().map(|gap| { now += gap; now }).collect();
            let times: Vec<String> = [*sent].iter().chain(&events).map(|ms| format!("{ms:.4}")).collect();
            let outcome = if *outcome < 20 { Outcome::Ok } else { Outcome::ALL[*outcome] };
            on(&format!("d{node}"), RequestRecord { outcome, ..main_record(&times.join(" ")) })
        }).collect();
        let plateau = fold(&records);
        let all: f64 = records.iter().map(|record| f64::from(record.output_tokens)).sum();
        prop_assert!(plateau.tokens <= all + 1e-6);
        let end = records.iter().filter_map(|record| record.events.last()).max().unwrap_or_default();
        let width = |nth: usize, bin: &BatchBin| match plateau.bins.get(nth + 1) {
            Some(next) => next.start_s - bin.start_s,
            None => end.seconds_since(plateau.origin) - bin.start_s,
        };
        let binned: f64 =
            plateau.bins.iter().enumerate().map(|(nth, bin)| bin.tok_per_s * width(nth, bin)).sum();
        prop_assert!(binned <= all + 1e-3, "{} of {}", binned, all);
        let by_node: f64 = plateau.nodes.iter().filter_map(|node| node.decode_tok_per_s).sum();
        prop_assert!((by_node - plateau.decode_tok_per_s.unwrap_or(0.0)).abs() < 1e-6 * (1.0 + by_node));
        let valid = records.iter().all(RequestRecord::is_ok) && plateau.streams == records.len();
        prop_assert_eq!(plateau.is_valid(), valid && !records.is_empty());
        let text = serde_json::to_string(&plateau).unwrap();
        let back: Plateau = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(back.faults, plateau.faults);
    }
}

/// An instance that runs `running` requests from 1 s to 5 s, each making `rate` tokens a second, sampled 5 times a second.
fn counted(node: &str, running: f64, rate: f64) -> ObservedNode {
    let sample = |nth: u32| {
        let seconds = f64::from(nth) / 5.0;
        let tokens = running * rate * (seconds - 1.0).clamp(0.0, 4.0);
        let now = if (1.0..5.0).contains(&seconds) { running } else { 0.0 };
        (at(seconds * 1000.0), tokens, now)
    };
    let tpot = TpotBuckets {
        buckets: vec![(Some(20.0), 0.0), (Some(60.0), running), (None, 0.0)],
        sum_ms: 50.0 * running,
    };
    ObservedNode {
        node: node.to_owned(),
        samples_us: (0..30).map(sample).collect(),
        requests: running,
        tpot: Some(tpot),
    }
}

#[test]
fn replicas_that_nobody_sees_are_told_by_the_instances_counters() {
    let observed =
        Observed { output_len: 80, nodes: vec![counted("d0", 6.0, 20.0), counted("d1", 2.0, 20.0)] };
    let plateau = Plateau::observed(&observed, &batch(8));
    assert_eq!((plateau.faults.len(), plateau.streams, plateau.replicas), (0, 8, 8), "{:?}", plateau.faults);
    assert!((plateau.decode_tok_per_s.unwrap() - 160.0).abs() < 1e-6);
    assert_eq!((plateau.tpot_all_ms.mean, plateau.tpot_all_ms.median), (Some(50.0), Some(40.0)));
    assert_eq!(plateau.balance_replicas, Some(1.5));
}

#[test]
fn counters_that_do_not_add_up_are_told_apart_from_a_repeat_that_did_not_fire() {
    let whats = |observed: &Observed, expected| {
        let faults = Plateau::observed(observed, &batch(expected)).faults;
        faults.iter().for_each(|fault| assert_in_authority(&serde_json::to_value(fault).unwrap()["fault"]));
        faults.iter().map(BatchFault::what).collect::<Vec<_>>()
    };
    let one = Observed { output_len: 80, nodes: vec![counted("d0", 1.0, 20.0)] };
    assert_eq!(
        whats(&one, 8),
        ["the repeat did not fire: the decode instances finished 1 requests instead of 8"]
    );
    let half = Observed { output_len: 80, nodes: vec![counted("d0", 4.0, 20.0)] };
    let said = [
        "the decode instances counted 4 requests, and 8 belong to the batch",
        "the decode instances counted 320 tokens, and 640 belong to the batch",
        "no plateau: the decode instances ran at most 4 of 8 at once, or for too short a time",
    ];
    assert_eq!(whats(&half, 8), said);
}
