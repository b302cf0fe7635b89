use super::super::Reported;
use super::super::check::{Checked, blind_words, checked, sides, sign};
use super::super::text::{plain, wrapped};
use super::strict::warnings;
use super::{Paint, Style};
use crate::measure::check::{StepResult, Verdict};

/// Instances of a side up to which the matrix of pairs fits 80 columns.
const WIDEST: usize = 32;

/// A check: step by step, then the pairs.
pub(super) fn check_block(reported: &Reported<'_>, style: Style) -> String {
    let Some(checked) = checked(reported) else { return String::new() };
    let head = format!("{:=^50}", " pdbench (check) ");
    let mut text = format!("{}\n", style.paint(Paint::Bold, &head));
    for step in &checked.1.steps {
        text += &line(step, style);
    }
    text += &matrix(checked);
    text += &warnings(reported, style);
    text + &wrapped(&blind_words(), 2)
}

fn line(step: &StepResult, style: Style) -> String {
    let paint = match step.verdict {
        Verdict::Ok => Paint::Green,
        Verdict::Wrong => Paint::Red,
        Verdict::NotTold => Paint::Yellow,
    };
    let head = format!("{:<18}{:<11}", step.step.title(), step.verdict.word());
    let words = wrapped(&format!("{head}{}", plain(&step.words)), 29);
    // Painted after it was broken into lines: codes have no width.
    words.replacen(step.verdict.word(), &style.paint(paint, step.verdict.word()), 1)
}

/// A row for each prefill instance, a sign for each decode instance.
fn matrix((facts, result): Checked<'_>) -> String {
    let (prefill, decode) = sides(facts);
    if prefill.is_empty() || decode.is_empty() {
        return String::new();
    }
    let head =
        "\nPairs: a row a prefill instance, a sign a decode instance (· works, X does not, ? not told)";
    let mut text = wrapped(head, 2);
    if WIDEST < prefill.len().max(decode.len()) {
        return text + "  too many to show here: report.html has them\n";
    }
    for &from in &prefill {
        let signs: Vec<&str> = decode.iter().map(|&to| sign(result.pair(from, to))).collect();
        text += &format!("  {:<28}{}\n", plain(&facts.nodes[from].place()), signs.join(" ").trim_end());
    }
    let names: Vec<String> = decode.iter().map(|&to| plain(&facts.nodes[to].address)).collect();
    text + &wrapped(&format!("  decode, from the left: {}", names.join(" ")), 4)
}
