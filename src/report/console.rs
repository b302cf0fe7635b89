//! The summary of a run on a terminal: the verdict first, then the block that `vllm bench serve` prints,
//! byte for byte, then our own. Plain text in 80 columns.
//! Deliberately absent: progress, and printing itself.

mod accuracy;
mod batches;
mod check;
mod strict;
#[cfg(test)]
mod tests;
mod vllm;

pub use strict::strict_block;
pub use vllm::vllm_block;

use super::Reported;
use super::fold::{bill, interruption, verdict};
use super::text::wrapped;

/// Whether the text may carry colour codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text only.
    Plain,
    /// With codes for a terminal that shows colours.
    Colour,
}

/// Everything that a run prints when it has ended. The first line is the verdict.
pub fn console(reported: &Reported<'_>, style: Style) -> String {
    if reported.run.accuracy.is_some() {
        return verdict_lines(reported, style) + &accuracy::accuracy_block(reported, style);
    }
    if reported.summary.check.is_some() {
        return verdict_lines(reported, style) + &check::check_block(reported, style);
    }
    // vLLM's block has nothing to say about batches: its throughput would be that of ramp and drain.
    let middle = match reported.summary.batches.is_empty() {
        true => vllm_block(reported),
        false => batches::batches_block(reported, style),
    };
    format!("{}{middle}{}", verdict_lines(reported, style), strict_block(reported, style))
}

/// The verdict, and under it what to do about each reason and how far an interrupted run came.
pub fn verdict_lines(reported: &Reported<'_>, style: Style) -> String {
    let (word, reasons) = (verdict(reported), &reported.summary.validity.reasons);
    let paint = if word == "VALID" { Paint::Green } else { Paint::Red };
    // The first line stays one line, however long, for what reads only it.
    let first = reasons.first().map(|reason| super::plain(&reason.what()) + "; ").unwrap_or_default();
    let mut lines = format!("{}: {first}{}\n", style.paint(paint, word), bill(reported));
    for (at, reason) in reasons.iter().enumerate() {
        if 0 < at {
            lines += &wrapped(&format!("  also: {}", super::plain(&reason.what())), 8);
        }
        lines += &wrapped(&format!("  help: {}", reason.what_to_do()), 8);
    }
    if let Some(words) = interruption(reported) {
        lines += &wrapped(&words, 2);
    }
    lines
}

/// What a piece of text stands out by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paint {
    Bold,
    Green,
    Red,
    Yellow,
}

impl Style {
    fn paint(self, paint: Paint, text: &str) -> String {
        let code = match (self, paint) {
            (Style::Plain, _) => return text.to_owned(),
            (Style::Colour, Paint::Bold) => "1",
            (Style::Colour, Paint::Green) => "1;32",
            (Style::Colour, Paint::Red) => "1;31",
            (Style::Colour, Paint::Yellow) => "33",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}
