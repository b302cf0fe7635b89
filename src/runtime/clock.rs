use std::time::Duration;
use tokio::time::Instant;

/// The one monotonic clock of a run: time since the run's origin. On a paused runtime it is tokio's
/// virtual clock, elsewhere the operating system's.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    /// What had gone by at the origin.
    before: Duration,
}

impl Clock {
    /// A clock whose origin is now.
    pub fn start() -> Self {
        Self::after(Duration::ZERO)
    }

    /// A clock that goes on where another stopped, after so much time.
    pub fn after(before: Duration) -> Self {
        Self { origin: Instant::now(), before }
    }

    /// Time since the origin.
    pub fn now(&self) -> Duration {
        self.before + self.origin.elapsed()
    }

    /// The instant that lies `offset` after the origin, to sleep until.
    pub fn at(&self, offset: Duration) -> Instant {
        self.origin + offset.saturating_sub(self.before)
    }
}
