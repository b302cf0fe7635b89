//! What the nodes of a deployment count of themselves, as values: names that servers of several versions use for the
//! same thing, what one scrape says, and how much that grew.
//! Deliberately absent: sockets (`observe` scrapes), and what the numbers mean for a run.

mod counts;
mod delta;
mod names;

pub use counts::{HistogramCounts, NodeCounts};
pub use delta::NodeDelta;
pub use names::{CounterName, GaugeName, HistogramName, is_told};
