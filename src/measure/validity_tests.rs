use super::*;
use crate::measure::Summary;
use crate::measure::testing::{assert_in_authority, at, failed, record, run};

fn reasons(run: &Run) -> Vec<Reason> {
    let validity = Summary::of(run).validity;
    assert_eq!(validity.valid, validity.reasons.is_empty());
    for reason in &validity.reasons {
        assert!(!reason.what().is_empty() && !reason.what_to_do().is_empty());
        assert_in_authority(&serde_json::to_value(reason).unwrap()["reason"]);
    }
    validity.reasons
}

/// A second apart: `ok` answers of 100 ms, then these outcomes after 300 ms each.
fn load(ok: usize, others: &[Outcome]) -> Run {
    let times = |nth: usize, took: usize| format!("{} {} {}", 1000 * nth, 1000 * nth + 50, 1000 * nth + took);
    let good = (0..ok).map(|nth| record(&times(nth, 100)));
    let bad = others.iter().enumerate().map(|(nth, &outcome)| failed(&times(ok + nth, 300), outcome));
    run(good.chain(bad).collect())
}

#[test]
fn a_clean_run_is_valid() {
    assert_eq!(reasons(&load(100, &[])), []);
}

#[test]
fn no_ok_request_is_a_reason_even_without_failures() {
    assert_eq!(reasons(&run(vec![])), [Reason::NoOkRequest]);
    assert_eq!(reasons(&load(0, &[Outcome::CancelledAtEnd])), [Reason::NoOkRequest]);
}

#[test]
fn failures_count_against_the_budget_and_cancelled_requests_do_not() {
    assert_eq!(reasons(&load(95, &[Outcome::Reset; 5])), []);
    let expected = Reason::FailureShare { failed: 6, of: 100, limit: 0.05 };
    let found = reasons(&load(94, &[Outcome::Reset; 6]));
    assert_eq!(found, [expected]);
    assert_eq!(found[0].what(), "6 of 100 requests failed (6.0 %), more than the 5.0 % allowed");
    assert_eq!(reasons(&load(5, &[Outcome::CancelledAtEnd; 50])), []);
}

#[test]
fn one_failure_of_the_client_itself_is_too_many() {
    assert_eq!(reasons(&load(99, &[Outcome::ClientPorts])), [Reason::ClientPorts { requests: 1 }]);
    let mut run = load(99, &[Outcome::Internal]);
    assert_eq!(reasons(&run), [Reason::Internal { requests: 1, parts: vec![] }]);
    run.manifest.broken = vec!["the pacer panicked".to_owned()];
    let said = reasons(&run)[0].what();
    assert_eq!(said, "pdbench itself failed on 1 requests: the pacer panicked");
    run.records.pop();
    assert_eq!(reasons(&run)[0].what(), "pdbench itself failed: the pacer panicked");
}

#[test]
fn a_saturated_client_makes_a_run_invalid() {
    let mut run = load(10, &[]);
    for record in &mut run.records {
        record.ready = Some(Offset::default() + std::time::Duration::from_millis(u64::from(record.i)));
    }
    assert!(matches!(reasons(&run)[..], [Reason::ClientSaturated { .. }]));
}

#[test]
fn more_than_1_percent_of_mismatches_is_too_many() {
    for (mismatched, expected) in [(1, vec![]), (2, vec![Reason::TokenMismatch { requests: 2, of: 100 }])] {
        let mut run = load(100, &[]);
        for record in &mut run.records[..mismatched] {
            record.flags.insert(Flag::Mismatch, 3);
        }
        assert_eq!(reasons(&run), expected);
    }
}

#[test]
fn a_p99_among_timeouts_is_censored() {
    let mut run = load(99, &[Outcome::TimeoutIdle]);
    let censored = |p| Reason::CensoredPercentile { p, timeouts: 1, of: 100, at_least_s: 0.3 };
    assert_eq!(reasons(&run), [censored(99.0)]);
    run.manifest.settings.percentiles = vec![50.0, 90.0];
    assert_eq!(reasons(&run), []);
    assert_eq!(reasons(&load(199, &[Outcome::TimeoutRequest])), []);
    assert_eq!(reasons(&load(99, &[Outcome::Reset])), []);
    let said = "1 of 100 requests were cut by a time-out, so p99 is only known to be at least 0.3 s";
    assert_eq!(censored(99.0).what(), said);
}

#[test]
fn the_number_in_flight_must_agree_with_the_senders_counter() {
    // Each second one request for 100 ms: 0.1 in flight.
    let mut run = load(100, &[]);
    let sampled = |in_flight: u32| {
        (0..10_000).map(move |k| (at(f64::from(k) * 10.0), if k % 100 < 10 { in_flight } else { 0 }))
    };
    run.manifest.in_flight = Some(sampled(1).collect());
    assert_eq!(reasons(&run), []);
    run.manifest.in_flight = Some(sampled(2).collect());
    let said = "the sender counted 0.20 requests in flight on average, the records say 0.10";
    assert_eq!(reasons(&run).iter().map(Reason::what).collect::<Vec<_>>(), [said]);
    run.records.pop();
    assert_eq!(reasons(&run), []);
}
