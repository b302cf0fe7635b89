use std::io;

/// Why a load could not go on.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The operating system gives no thread.
    #[error("the operating system gives no thread")]
    NoThread(#[from] io::Error),
    /// A part of the load panicked; what it was at stands in the records as `internal`.
    #[error("{0} of the load panicked")]
    Panicked(&'static str),
}
