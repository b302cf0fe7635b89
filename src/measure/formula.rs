//! The formulas of the metric table: values of one record, in milliseconds.

use super::{Definition, Flag, Offset, RequestRecord};

/// The first event that counts: vLLM takes a role-only chunk for one.
fn first_event(record: &RequestRecord, definition: Definition) -> Option<Offset> {
    match definition {
        Definition::Vllm => record.role.or(record.events.first()),
        Definition::Strict => record.events.first(),
    }
}

/// The last event that counts.
fn last_event(record: &RequestRecord, definition: Definition) -> Option<Offset> {
    record.events.last().or(first_event(record, definition))
}

/// True when the stamps inside the answer mean something: of an answer that a proxy held back and
/// sent in one piece, strictly only the end does.
fn is_streamed(record: &RequestRecord, definition: Definition) -> bool {
    record.is_ok() && (definition == Definition::Vllm || !record.has(Flag::BufferedByProxy))
}

pub(super) fn ttft(record: &RequestRecord, definition: Definition) -> Option<f64> {
    if !is_streamed(record, definition) {
        return None;
    }
    Some(first_event(record, definition)?.ms_since(record.sent?))
}

/// `None` below two tokens, where the quotient has no meaning; strictly also below two token events,
/// where there is no time between tokens to be seen.
pub(super) fn tpot(record: &RequestRecord, definition: Definition) -> Option<f64> {
    if !is_streamed(record, definition) || (definition == Definition::Strict && record.events.len() < 2) {
        return None;
    }
    let gaps = record.output_tokens.checked_sub(1).filter(|&gaps| 0 < gaps)?;
    let (first, last) = (first_event(record, definition)?, last_event(record, definition)?);
    Some(last.ms_since(first) / f64::from(gaps))
}

pub(super) fn itl(record: &RequestRecord, definition: Definition, sink: &mut dyn FnMut(f64)) {
    if !is_streamed(record, definition) {
        return;
    }
    let mut before = record.role.filter(|_| definition == Definition::Vllm);
    for at in record.events.iter() {
        if let Some(before) = before {
            sink(at.ms_since(before));
        }
        before = Some(at);
    }
}

pub(super) fn e2el(record: &RequestRecord, definition: Definition) -> Option<f64> {
    if !record.is_ok() {
        return None;
    }
    Some(last_event(record, definition)?.ms_since(record.sent?))
}

/// Ready and sent. What the client did to a request does not depend on its outcome; vLLM has it for
/// completed ones only.
fn client_side(record: &RequestRecord, definition: Definition) -> Option<(Offset, Offset)> {
    let counts = record.is_ok() || definition == Definition::Strict;
    record.sent.filter(|_| counts).map(|sent| (record.ready_or_due(), sent))
}

pub(super) fn queue_time(record: &RequestRecord, definition: Definition) -> Option<f64> {
    client_side(record, definition).map(|(ready, _)| ready.ms_since(record.scheduled).max(0.0))
}

/// Never below zero: the `finished` stamp of a slot can be later than the send that took it.
pub(super) fn client_lag(record: &RequestRecord, definition: Definition) -> Option<f64> {
    client_side(record, definition).map(|(ready, sent)| sent.ms_since(ready).max(0.0))
}

/// What a proxy tells about an ok request under this name.
pub(super) fn proxy_time(record: &RequestRecord, name: &str) -> Option<f64> {
    record.server_timing.as_ref().filter(|_| record.is_ok())?.get(name).copied()
}

/// A latency from the send as one from the schedule.
pub(super) fn since_due(record: &RequestRecord, from_send: Option<f64>) -> Option<f64> {
    Some(from_send? + record.sent?.ms_since(record.scheduled))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, failed, record};
    use super::super::{Metric, Outcome};
    use super::*;
    use Definition::{Strict, Vllm};

    fn values(key: &str, record: &RequestRecord, definition: Definition) -> Vec<f64> {
        Metric::find(key).unwrap().collect([record], definition)
    }

    #[test]
    fn a_plain_stream_has_the_same_numbers_by_both_definitions() {
        for definition in [Strict, Vllm] {
            let record = record("10 110 150 210");
            assert_eq!(values("ttft", &record, definition), [100.0]);
            assert_eq!(values("tpot", &record, definition), [50.0]);
            assert_eq!(values("itl", &record, definition), [40.0, 60.0]);
            assert_eq!(values("e2el", &record, definition), [200.0]);
        }
    }

    #[test]
    fn a_role_chunk_is_vllms_first_event_but_not_a_token() {
        let record = RequestRecord { role: Some(at(30.0)), ..record("10 110 150 210") };
        assert_eq!(
            (values("ttft", &record, Strict), values("ttft", &record, Vllm)),
            (vec![100.0], vec![20.0])
        );
        assert_eq!(values("itl", &record, Strict), [40.0, 60.0]);
        assert_eq!(values("itl", &record, Vllm), [80.0, 40.0, 60.0]);
        assert_eq!(
            (values("tpot", &record, Strict), values("tpot", &record, Vllm)),
            (vec![50.0], vec![90.0])
        );
        assert_eq!(values("e2el", &record, Vllm), [200.0]);
    }

    #[test]
    fn tpot_of_one_token_is_undefined() {
        for definition in [Strict, Vllm] {
            assert_eq!(values("tpot", &record("0 100"), definition), [0.0; 0]);
        }
    }

    #[test]
    fn tpot_counts_tokens_and_not_events() {
        let record = RequestRecord { output_tokens: 9, ..record("0 100 180") };
        assert_eq!(values("tpot", &record, Strict), [10.0]);
    }

    #[test]
    fn tokens_that_all_came_in_one_event_have_no_tpot_of_0() {
        let record = RequestRecord { output_tokens: 9, ..record("0 100") };
        assert_eq!(values("tpot", &record, Strict), [0.0; 0]);
    }

    #[test]
    fn a_coalesced_event_is_a_gap_of_0() {
        assert_eq!(values("itl", &record("0 100 100 150"), Strict), [0.0, 50.0]);
    }

    #[test]
    fn only_ok_answers_have_latencies() {
        let cut = failed("0 100 150", Outcome::Truncated);
        for definition in [Strict, Vllm] {
            for key in ["ttft", "tpot", "itl", "e2el", "ttft_from_schedule", "e2el_from_schedule"] {
                assert_eq!(values(key, &cut, definition), [0.0; 0], "{key}");
            }
        }
        assert_eq!(
            (values("queue_time", &cut, Strict), values("queue_time", &cut, Vllm)),
            (vec![0.0], vec![])
        );
    }

    #[test]
    fn a_buffered_answer_strictly_has_an_end_only() {
        let mut buffered = record("0 100 100");
        buffered.flags.insert(Flag::BufferedByProxy, 1);
        for key in ["ttft", "tpot", "itl", "ttft_from_schedule"] {
            assert_eq!(values(key, &buffered, Strict), [0.0; 0], "{key}");
        }
        assert_eq!(values("e2el", &buffered, Strict), [100.0]);
        assert_eq!(values("ttft", &buffered, Vllm), [100.0]);
    }

    #[test]
    fn what_a_proxy_tells_counts_for_ok_answers() {
        let timing = [("queue".to_owned(), 0.5), ("decode-head".to_owned(), 7.25)].into_iter().collect();
        let told = RequestRecord { server_timing: Some(timing), ..record("0 100 150") };
        let cut = RequestRecord { outcome: Outcome::Truncated, ..told.clone() };
        assert_eq!(values("proxy_queue", &told, Strict), [0.5]);
        assert_eq!(values("proxy_decode_head", &told, Strict), [7.25]);
        for (key, record) in [("proxy_prefill", &told), ("proxy_kv_ready", &told), ("proxy_queue", &cut)] {
            assert_eq!(values(key, record, Strict), [0.0; 0], "{key}");
        }
    }

    #[test]
    fn the_wait_in_the_client_is_told_apart_from_the_server() {
        let late = RequestRecord { scheduled: at(0.0), ready: Some(at(300.0)), ..record("302 402 452") };
        let table = [
            ("queue_time", 300.0),
            ("client_lag", 2.0),
            ("ttft", 100.0),
            ("ttft_from_schedule", 402.0),
            ("e2el_from_schedule", 452.0),
            ("e2el_including_client_queue", 450.0),
        ];
        for (key, value) in table {
            assert_eq!(values(key, &late, Strict), [value], "{key}");
        }
    }
}
