//! What the nodes tell while `pdbench serve` runs: node by node, and where the time to the first token went.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../serve/cluster.rs"]
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod kv;
mod page;
mod truth;
mod watched;
