//! The PD proxy between scripted instances and a raw client, in virtual time.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod client;
mod fake;
mod faults;
mod relay;
mod setup;
