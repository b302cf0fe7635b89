//! Who runs and by which clock: the seam between a production run (threads, real time) and a test
//! (one paused runtime, virtual time). `load`, `sim` and `proxy` ask it and never build a runtime.
//! Deliberately absent: thread pools and work stealing.

mod clock;
mod locking;
mod serving;
mod stop;
mod workers;

pub use clock::Clock;
pub use locking::lock;
pub use serving::serve;
pub use stop::{Stop, StopHandle, StopSignal, stop_channel};
pub use workers::{Worker, Workers};
