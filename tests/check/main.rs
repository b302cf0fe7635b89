//! `pdbench check`: sound deployments and broken ones, command line in, run directory out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;
mod deployments;
mod embedded;
mod faults;
mod raw;
mod setup;
