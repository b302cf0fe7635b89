//! `pdbench serve` as a whole: command line in, run directory out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;
mod compatibility;
mod faults;
mod patience;
mod refusals;
mod results;
mod truth;
