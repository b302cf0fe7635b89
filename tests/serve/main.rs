//! `pdbench serve` as a whole: command line in, run directory out.

#[path = "../common/mod.rs"]
mod common;
mod refusals;
mod results;
mod truth;
