//! (room wire)

pub mod prometheus;
