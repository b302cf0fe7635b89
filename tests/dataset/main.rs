//! `pdbench dataset`: files come whole or not at all, and a download that broke off is gone on with.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "what it does besides is for other tests")]
#[path = "../serve/front.rs"]
mod front;

mod coming;
mod server;
mod typed;
