//! (room report)

pub mod chart;
mod journal;
mod run_file;
#[cfg(test)]
mod testing;
mod writer;

pub use journal::{BrokenLine, Journal, JournalSink, ReadBack, read_journal};
pub use run_file::{RunFileError, read_run_file, run_file_bytes};
pub use writer::{WriteError, create_run_directory, probe_writable, write_atomic};
