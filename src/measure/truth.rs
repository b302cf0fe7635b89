//! How far a client's measurements are from what a server of known truth did.

use super::{Distribution, EventTimes, Offset, RequestRecord};

/// When a server did what a request saw, by the server's own clock.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrueTimes {
    /// The request had been read.
    pub received: Offset,
    /// Each token event was handed to the socket.
    pub writes: EventTimes,
}

/// Errors of what was measured, in milliseconds, without their signs.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuringErrors {
    /// (first event − sent) − (first write − received): the way there and back is in it.
    pub ttft_ms: Distribution,
    /// Gap between two events − gap between their writes.
    pub itl_ms: Distribution,
    /// Sent − ready: how late the client was.
    pub send_ms: Distribution,
    /// Requests that failed, that the server does not know, or of which it wrote another number of events.
    pub unmatched: usize,
}

/// What is told of each kind of error.
const PERCENTILES: [f64; 2] = [50.0, 99.0];

impl MeasuringErrors {
    /// Holds ok records against the truth about them, which is found by their id.
    pub fn of<'a>(
        records: impl IntoIterator<Item = &'a RequestRecord>,
        truth: impl Fn(&str) -> Option<&'a TrueTimes>,
    ) -> Self {
        let (mut ttft, mut itl, mut send, mut unmatched) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for record in records {
            let known = truth(&record.id).filter(|truth| truth.writes.len() == record.events.len());
            let (Some(truth), Some(sent), true) = (known, record.sent, record.is_ok()) else {
                unmatched += 1;
                continue;
            };
            send.push(1e3 * sent.seconds_since(record.ready_or_due()));
            let seen: Vec<f64> = record.events.iter().map(|at| 1e3 * at.seconds_since(sent)).collect();
            let did: Vec<f64> =
                truth.writes.iter().map(|at| 1e3 * at.seconds_since(truth.received)).collect();
            ttft.extend(seen.first().zip(did.first()).map(|(seen, did)| (seen - did).abs()));
            let gaps = seen.windows(2).zip(did.windows(2));
            itl.extend(gaps.map(|(seen, did)| ((seen[1] - seen[0]) - (did[1] - did[0])).abs()));
        }
        let of = |values| Distribution::of(values, &PERCENTILES);
        Self { ttft_ms: of(ttft), itl_ms: of(itl), send_ms: of(send), unmatched }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::super::testing::{at, failed, record};
    use super::*;

    #[test]
    fn errors_are_differences_of_spans_so_that_two_clocks_do() {
        let mut seen = record("100 130 150");
        seen.ready = Some(at(99.0));
        let truth =
            TrueTimes { received: at(5001.0), writes: [at(5030.0), at(5049.5)].into_iter().collect() };
        let errors = MeasuringErrors::of([&seen], |_| Some(&truth));
        let near = |values: &Distribution, expected: f64| {
            let mean = values.mean.unwrap();
            assert!((mean - expected).abs() < 1e-9 && values.count == 1, "{values:?}");
        };
        near(&errors.ttft_ms, 1.0);
        near(&errors.itl_ms, 0.5);
        near(&errors.send_ms, 1.0);
        assert_eq!(errors.unmatched, 0);
    }

    #[test]
    fn what_cannot_be_compared_is_counted() {
        let truth = TrueTimes { received: at(0.0), writes: [at(1.0)].into_iter().collect() };
        let records = [failed("0 1", Outcome::Reset), record("0 1 2"), record("0 1")];
        let errors = MeasuringErrors::of(&records, |_| Some(&truth));
        assert_eq!((errors.unmatched, errors.ttft_ms.count), (2, 1));
        assert_eq!(MeasuringErrors::of(&records, |_| None).unmatched, 3);
    }
}
