//! The simulated cluster as a client meets it, in virtual time.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod api;
mod book;
mod choices;
mod client;
mod engine;
mod faults;
mod handoff;
mod leaving;
mod life;
mod nodes;
mod store;
mod timing;
mod wrong;
