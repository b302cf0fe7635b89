//! The whole stack in virtual time: a client, the real proxy, and simulated nodes that really hold KV and hand it
//! over in every dialect.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

#[path = "../proxy/client.rs"]
#[allow(dead_code, reason = "the proxy's own tests read chunk by chunk")]
mod client;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/idle.rs"]
mod idle;

mod dialects;
mod faults;
mod first_token;
mod notify;
mod restarts;
mod runs;
mod said;
mod setup;
