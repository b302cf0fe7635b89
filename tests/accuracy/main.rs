//! `pdbench accuracy` as a whole, in virtual time: command line in, verdict and files out.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

#[path = "../common/mod.rs"]
mod common;

mod examiner;
mod setup;

mod compared;
mod corruption;
mod faults;
mod options;
mod parity;
mod resume;
mod runs;
mod target;
mod usage;
