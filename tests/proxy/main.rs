//! The PD proxy between scripted instances and a raw client, in virtual time.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod admin;
mod batch;
mod client;
mod fake;
mod faults;
mod first_token;
#[path = "../common/idle.rs"]
mod idle;
mod orders;
mod relay;
mod setup;
