use super::Totals;
use crate::runtime::lock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// How a client's request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// A whole, successful answer.
    Ok,
    /// Refused by the proxy: a bad request, or nobody there to serve it.
    Refused,
    /// An instance answered with an error status, which was passed on.
    Passed,
    /// A leg failed before the answer began.
    Failed,
    /// The answer broke off.
    Broken,
    /// The client went away.
    Aborted,
}

impl Ending {
    pub const ALL: [Ending; 6] =
        [Ending::Ok, Ending::Refused, Ending::Passed, Ending::Failed, Ending::Broken, Ending::Aborted];

    /// The word that metrics use.
    pub fn word(self) -> &'static str {
        match self {
            Ending::Ok => "ok",
            Ending::Refused => "refused",
            Ending::Passed => "upstream_status",
            Ending::Failed => "leg_failed",
            Ending::Broken => "broken",
            Ending::Aborted => "aborted_by_client",
        }
    }
}

impl Totals {
    pub(super) fn of(mut self, ending: Ending) -> u64 {
        *self.place(ending)
    }

    fn place(&mut self, ending: Ending) -> &mut u64 {
        match ending {
            Ending::Ok => &mut self.ok,
            Ending::Refused => &mut self.refused,
            Ending::Passed => &mut self.upstream_status,
            Ending::Failed => &mut self.leg_failed,
            Ending::Broken => &mut self.broken,
            Ending::Aborted => &mut self.aborted_by_client,
        }
    }
}

/// What clients had of the proxy so far.
#[derive(Debug, Default)]
pub(super) struct Front {
    in_flight: AtomicU32,
    totals: Mutex<Totals>,
}

impl Front {
    /// A request begins.
    pub fn enter(self: &Arc<Self>) -> Visit {
        self.in_flight.fetch_add(1, Relaxed);
        Visit { front: Arc::clone(self), ended: None }
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    pub fn totals(&self) -> Totals {
        *lock(&self.totals)
    }
}

/// One client's request. Dropped without an end it was aborted by the client.
#[derive(Debug)]
pub(super) struct Visit {
    front: Arc<Front>,
    ended: Option<Ending>,
}

impl Visit {
    /// Says how it ends; the first word counts.
    pub fn end(&mut self, ending: Ending) {
        self.ended.get_or_insert(ending);
    }

    pub fn is_ended(&self) -> bool {
        self.ended.is_some()
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.front.in_flight.fetch_sub(1, Relaxed);
        *lock(&self.front.totals).place(self.ended.unwrap_or(Ending::Aborted)) += 1;
    }
}
