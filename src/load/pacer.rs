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
    lanes: Vec<Lane>,
    /// The lane of each request; empty where there is one for all.
    lane_of: Vec<usize>,
    sent: usize,
    in_flight: usize,
    /// No request goes out from here on.
    send_until: Option<Offset>,
    budget: Option<Budget>,
    stopped: Option<Ending>,
}

/// Requests that share places in flight. One lane does not wait for another.
#[derive(Debug)]
struct Lane {
    /// Its next request, or the number of all.
    next: usize,
    slots: Slots,
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
#[derive(Clone, Debug, Default)]
pub(super) struct PassLimits {
    /// Most requests in flight of each lane.
    pub(super) max_concurrency: Option<usize>,
    /// The lane of each request; empty where there is one for all.
    pub(super) lanes: Vec<usize>,
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
        let slots = || {
            let free =
                |most: usize| (0..most.min(schedule.len())).map(|_| Reverse(Offset::default())).collect();
            limits.max_concurrency.map_or(Slots::Unlimited, |most| Slots::Free(free(most)))
        };
        let lane_of = limits.lanes;
        let lanes = 0..=lane_of.iter().copied().max().unwrap_or(0);
        let first = |lane| lane_of.iter().position(|&of| of == lane).unwrap_or(lane_of.len());
        Self {
            lanes: lanes.map(|lane| Lane { next: first(lane), slots: slots() }).collect(),
            lane_of,
            schedule,
            start,
            sent: 0,
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
        let waiting = || self.lanes.iter().filter(|lane| lane.next < self.schedule.len());
        if waiting().next().is_none() {
            return Step::Done(Ending::Complete);
        }
        if self.send_until.is_some_and(|end| end <= now) {
            self.stopped = Some(Ending::DurationOver);
            return Step::Done(Ending::DurationOver);
        }
        let Some(index) = waiting().filter(|lane| lane.slots.any()).map(|lane| lane.next).min() else {
            return self.send_until.map_or(Step::WaitForEnd, Step::WaitUntil);
        };
        let scheduled = self.start + self.schedule[index];
        if now < scheduled {
            return Step::WaitUntil(self.send_until.map_or(scheduled, |end| end.min(scheduled)));
        }
        self.sent += 1;
        self.in_flight += 1;
        Step::Send(Turn { index, scheduled, ready: self.take(index).max(scheduled) })
    }

    /// Takes a place for a request, which becomes its lane's last; since when it was free.
    fn take(&mut self, index: usize) -> Offset {
        let number = self.lane(index);
        let after = |&next: &usize| self.lane_of.get(next).is_none_or(|&lane| lane == number);
        let next = (index + 1..self.schedule.len()).find(after).unwrap_or(self.schedule.len());
        let lane = &mut self.lanes[number];
        lane.next = next;
        match &mut lane.slots {
            Slots::Unlimited => Offset::default(),
            Slots::Free(free) => free.pop().map_or(Offset::default(), |Reverse(since)| since),
        }
    }

    fn lane(&self, index: usize) -> usize {
        self.lane_of.get(index).copied().unwrap_or(0)
    }

    /// Takes note that the request of this number ended.
    pub(super) fn ended(&mut self, index: usize, at: Offset, failed: bool) {
        self.in_flight -= 1;
        let lane = self.lane(index);
        if let Slots::Free(free) = &mut self.lanes[lane].slots {
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
        self.sent
    }
}

impl Slots {
    fn any(&self) -> bool {
        match self {
            Slots::Unlimited => true,
            Slots::Free(free) => !free.is_empty(),
        }
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
        pacer.ended(0, ms(150), false);
        // Noticed 3 ms later: the lateness is the client's, not the queue's.
        assert_eq!(pacer.step(ms(153)), send(1, 101, 150));
        pacer.ended(1, ms(160), false);
        assert_eq!(pacer.step(ms(161)), Step::WaitUntil(ms(190)));
        assert_eq!(pacer.step(ms(190)), send(2, 190, 190));
    }

    #[test]
    fn one_lane_does_not_wait_for_the_places_of_another() {
        let limits =
            PassLimits { max_concurrency: Some(1), lanes: vec![0, 1, 1, 0, 0], ..Default::default() };
        let mut pacer = pacer(&[0, 0, 0, 0, 20], limits);
        assert_eq!(pacer.step(ms(100)), send(0, 100, 100));
        assert_eq!(pacer.step(ms(100)), send(1, 100, 100));
        assert_eq!(pacer.step(ms(100)), Step::WaitForEnd);
        pacer.ended(0, ms(110), false);
        assert_eq!(pacer.step(ms(110)), send(3, 100, 110));
        pacer.ended(3, ms(115), false);
        assert_eq!(pacer.step(ms(115)), Step::WaitUntil(ms(120)));
        assert_eq!(pacer.step(ms(120)), send(4, 120, 120));
        assert_eq!((pacer.step(ms(120)), pacer.sent()), (Step::WaitForEnd, 4));
        pacer.ended(1, ms(130), true);
        assert_eq!(pacer.step(ms(130)), send(2, 100, 130));
        assert_eq!(pacer.step(ms(130)), Step::Done(Ending::Complete));
        assert_eq!(pacer.in_flight(), 2);
    }

    #[test]
    fn nothing_goes_out_when_the_time_is_over() {
        let limits = PassLimits {
            max_concurrency: Some(1),
            max_duration: Some(Duration::from_millis(50)),
            ..Default::default()
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
            pacer.ended(k, ms(100), k % 2 == 0);
        }
        assert!(matches!(pacer.step(ms(100)), Step::Send(_)), "too few to judge");
        pacer.ended(49, ms(100), true);
        assert_eq!(pacer.step(ms(100)), Step::Done(Ending::OverBudget { failed: 26, of: 50 }));
    }

    #[test]
    fn failures_that_left_the_window_are_forgotten() {
        let limits = PassLimits { max_error_rate: Some(0.05), ..Default::default() };
        let mut pacer = pacer(&[0; 2000], limits);
        for k in 0..1000 {
            assert!(matches!(pacer.step(ms(100)), Step::Send(_)), "{k}");
            pacer.ended(k, ms(100), k % 20 == 19);
        }
    }
}
