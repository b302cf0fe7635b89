//! The program as a process: exit statuses, signals, files and what is left of them when something breaks. In real
//! time against scripted servers; what is waited for is an event, never a time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;

mod durability;
mod faults;
mod program;
mod selftest;
mod signals;
mod streams;
