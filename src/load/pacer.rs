use crate::measure::Offset;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

/// Decides when the next request goes out. It is told the time and what has ended, and never asks a clock.
#[derive(Debug)]
pub(super) struct Pacer {
    /// Due times from the start of the pass, ascending.
    schedule: Vec<Duration>,
    start: Offset,
    next: usize,
    in_flight: usize,
    slots: Slots,
    /// No request goes out from here on.
    send_until: Option<Offset>,
    budget: Option<Budget>,
    stopped: Option<Ending>,
}

/// Places in flight.
#[derive(Debug)]
enum Slots {
    Unlimited,
    /// Since when each free place has been free.
    Free(BinaryHeap<Reverse<Offset>>),
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send this request.
    Send(Turn),
    /// Nothing before this instant.
    WaitUntil(Offset),
    /// Nothing before a request ends.
    WaitForEnd,
    /// Nothing more at all.
    Done(Ending),
}

/// A request's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Number within the pass.
    pub(super) index: usize,
    /// When it was due.
    pub(super) scheduled: Offset,
    /// When it could go: when due, or when the place that it takes became free.
    pub(super) ready: Offset,
}

/// Why a pass sent nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every request was sent.
    Complete,
    /// `--max-duration` was over.
    DurationOver,
    /// It was asked to stop.
    Stopped,
    /// Too many of the last requests failed.
    OverBudget {
        /// Failures among the last …
        failed: usize,
        /// … so many requests that ended.
        of: usize,
    },
}

/// What a pass may do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PassLimits {
    pub(super) max_concurrency: Option<usize>,
    pub(super) max_duration: Option<Duration>,
    /// Share of failures in the last [`WINDOW`] ended requests above which the pass gives up.
    pub(super) max_error_rate: Option<f64>,
}

/// Ended requests over which the failure share is watched …
const WINDOW: usize = 200;
/// … as soon as so many have ended.
const WINDOW_LEAST: usize = 50;

#[derive(Debug)]
struct Budget {
    max_error_rate: f64,
    /// True for each failure.
    window: VecDeque<bool>,
    failed: usize,
}

impl Pacer {
    pub(super) fn new(schedule: Vec<Duration>, start: Offset, limits: PassLimits) -> Self {
        let free = |places| (0..places).map(|_| Reverse(Offset::default())).collect();
        Self {
            slots: limits
                .max_concurrency
                .map_or(Slots::Unlimited, |most| Slots::Free(free(most.min(schedule.len())))),
            schedule,
            start,
            next: 0,
            in_flight: 0,
            send_until: limits.max_duration.map(|most| start + most),
            budget: limits.max_error_rate.map(|max_error_rate| Budget {
                max_error_rate,
                window: VecDeque::with_capacity(WINDOW),
                failed: 0,
            }),
            stopped: None,
        }
    }

    /// What to do at `now`. A `Send` is a promise: the request counts as in flight from here on.
    pub(super) fn step(&mut self, now: Offset) -> Step {
        if let Some(ending) = self.stopped {
            return Step::Done(ending);
        }
        let Some(&due) = self.schedule.get(self.next) else {
            return Step::Done(Ending::Complete);
        };
        let scheduled = self.start + due;
        let over = self.send_until.filter(|&end| end <= now);
        if over.is_some() {
            self.stopped = Some(Ending::DurationOver);
            return Step::Done(Ending::DurationOver);
        }
        if now < scheduled {
            return Step::WaitUntil(self.send_until.map_or(scheduled, |end| end.min(scheduled)));
        }
        let free_since = match &mut self.slots {
            Slots::Unlimited => None,
            Slots::Free(free) => match free.pop() {
                Some(Reverse(since)) => Some(since),
                None => return self.send_until.map_or(Step::WaitForEnd, Step::WaitUntil),
            },
        };
        let turn = Turn {
            index: self.next,
            scheduled,
            ready: free_since.map_or(scheduled, |since| since.max(scheduled)),
        };
        self.next += 1;
        self.in_flight += 1;
        Step::Send(turn)
    }

    /// Takes note that a request ended.
    pub(super) fn ended(&mut self, at: Offset, failed: bool) {
        self.in_flight -= 1;
        if let Slots::Free(free) = &mut self.slots {
            free.push(Reverse(at));
        }
        let Some(budget) = &mut self.budget else { return };
        if budget.window.len() == WINDOW && budget.window.pop_front() == Some(true) {
            budget.failed -= 1;
        }
        budget.window.push_back(failed);
        budget.failed += usize::from(failed);
        let of = budget.window.len();
        if WINDOW_LEAST <= of && budget.max_error_rate * (of as f64) < budget.failed as f64 {
            self.stopped.get_or_insert(Ending::OverBudget { failed: budget.failed, of });
        }
    }

    /// Sends nothing more.
    pub(super) fn stop(&mut self) {
        self.stopped.get_or_insert(Ending::Stopped);
    }

    /// Requests that were sent and have not ended.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Requests sent so far.
    pub(super) fn sent(&self) -> usize {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Offset {
        Offset::from_tenths(ms * 10_000)
    }

    fn pacer(due_ms: &[u64], limits: PassLimits) -> Pacer {
        let schedule = due_ms.iter().map(|&ms| Duration::from_millis(ms)).collect();
        Pacer::new(schedule, ms(100), limits)
    }

    fn send(index: usize, scheduled: u64, ready: u64) -> Step {
        Step::Send(Turn { index, scheduled: ms(scheduled), ready: ms(ready) })
    }

    #[test]
    fn each_request_waits_for_its_time_and_none_is_skipped() {
        let mut pacer = pacer(&[5, 7, 7], PassLimits::default());
        assert_eq!(pacer.step(ms(100)), Step::WaitUntil(ms(105)));
        assert_eq!(pacer.step(ms(105)), send(0, 105, 105));
        assert_eq!(pacer.step(ms(105)), Step::WaitUntil(ms(107)));
        // Late by 900 ms: both go at once, and their due times stay what they were.
        assert_eq!(pacer.step(ms(1007)), send(1, 107, 107));
        assert_eq!(pacer.step(ms(1007)), send(2, 107, 107));
        assert_eq!(pacer.step(ms(1007)), Step::Done(Ending::Complete));
        assert_eq!((pacer.sent(), pacer.in_flight()), (3, 3));
    }

    #[test]
    fn a_request_without_a_place_is_ready_when_its_place_became_free() {
        let limits = PassLimits { max_concurrency: Some(1), ..Default::default() };
        let mut pacer = pacer(&[0, 1, 90], limits);
        assert_eq!(pacer.step(ms(100)), send(0, 100, 100));
        assert_eq!(pacer.step(ms(101)), Step::WaitForEnd);
        pacer.ended(ms(150), false);
        // Noticed 3 ms later: the lateness is the client's, not the queue's.
        assert_eq!(pacer.step(ms(153)), send(1, 101, 150));
        pacer.ended(ms(160), false);
        assert_eq!(pacer.step(ms(161)), Step::WaitUntil(ms(190)));
        assert_eq!(pacer.step(ms(190)), send(2, 190, 190));
    }

    #[test]
    fn nothing_goes_out_when_the_time_is_over() {
        let limits = PassLimits {
            max_concurrency: Some(1),
            max_duration: Some(Duration::from_millis(50)),
            max_error_rate: None,
        };
        let mut pacer = pacer(&[0, 10, 20], limits);
        assert_eq!(pacer.step(ms(100)), send(0, 100, 100));
        assert_eq!(pacer.step(ms(110)), Step::WaitUntil(ms(150)));
        assert_eq!(pacer.step(ms(150)), Step::Done(Ending::DurationOver));
        assert_eq!(pacer.in_flight(), 1);
    }

    #[test]
    fn too_many_failures_among_the_last_end_the_pass() {
        let limits = PassLimits { max_error_rate: Some(0.1), ..Default::default() };
        let mut pacer = pacer(&[0; 300], limits);
        for k in 0..49 {
            pacer.step(ms(100));
            pacer.ended(ms(100), k % 2 == 0);
        }
        assert!(matches!(pacer.step(ms(100)), Step::Send(_)), "too few to judge");
        pacer.ended(ms(100), true);
        assert_eq!(pacer.step(ms(100)), Step::Done(Ending::OverBudget { failed: 26, of: 50 }));
    }

    #[test]
    fn failures_that_left_the_window_are_forgotten() {
        let limits = PassLimits { max_error_rate: Some(0.05), ..Default::default() };
        let mut pacer = pacer(&[0; 2000], limits);
        for k in 0..1000 {
            assert!(matches!(pacer.step(ms(100)), Step::Send(_)), "{k}");
            pacer.ended(ms(100), k % 20 == 19);
        }
    }
}
