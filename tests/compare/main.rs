//! Several runs of one plan, and runs side by side: command line in, tables out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;
mod ladder;
mod side_by_side;
