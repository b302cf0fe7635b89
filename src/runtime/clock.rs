use std::time::Duration;
use tokio::time::Instant;

/// The one monotonic clock of a run: time since the run's origin. On a paused runtime it is tokio's
/// virtual clock, elsewhere the operating system's.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose origin is now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Time since the origin.
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The instant that lies `offset` after the origin, to sleep until.
    pub fn at(&self, offset: Duration) -> Instant {
        self.origin + offset
    }
}
