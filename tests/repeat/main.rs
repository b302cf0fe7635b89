//! `pdbench serve --repeat-d-times`: batches of replicas, command line in, run directory out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;
mod direct;
mod nodes;
mod proxies;
