//! `pdbench serve` as a whole: command line in, run directory out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod answers;
mod client;
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod compatibility;
mod direct;
mod embedded;
mod faults;
mod front;
mod http_proxy;
mod patience;
mod preflight;
mod refusals;
mod results;
mod secrets;
mod tls;
mod truth;
