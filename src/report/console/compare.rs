use super::super::compared::{
    finding_words, heading, letter, notes, range_words, row_name, standing_words, weight_words,
};
use super::super::text::{MISSING, counted, decimals, fixed, plain, wrapped};
use super::{Paint, Style};
use crate::measure::compare::{Difference, DifferingFact, Row, Table};

/// Two or more runs side by side: their verdicts, the settings that differ, then a table for each side against the
/// baseline.
pub fn compare_console(table: &Table, style: Style) -> String {
    let mut text = sides(table, style) + &settings(table, style);
    for nth in (0..table.sides.len()).filter(|nth| *nth != table.baseline) {
        text += &against(table, nth, style);
    }
    text.push('\n');
    text + &notes(table).iter().map(|note| wrapped(note, 2)).collect::<String>()
}

fn sides(table: &Table, style: Style) -> String {
    let mut text = String::new();
    for (nth, side) in table.sides.iter().enumerate() {
        let mut words = format!("{}  {}", letter(nth), plain(&side.name));
        if nth == table.baseline {
            words += "  (baseline)";
        }
        if 1 < side.runs.len() {
            words += &format!(", {}", counted(side.runs.len(), "run"));
        }
        text += &format!("{}\n", style.paint(Paint::Bold, &words));
        for run in &side.runs {
            let name = if 1 < side.runs.len() { format!("{}: ", plain(&run.name)) } else { String::new() };
            let words = wrapped(&format!("   {name}{}", standing_words(run)), 5);
            text += &match run.standing.valid {
                Some(false) => words.replacen("INVALID", &style.paint(Paint::Red, "INVALID"), 1),
                _ => words,
            };
        }
    }
    text
}

fn settings(table: &Table, style: Style) -> String {
    let mut text = format!("\n{}\n", style.paint(Paint::Bold, "Settings that differ"));
    if table.facts.is_empty() {
        text += "  none of those that are recorded\n";
    }
    let mut before = None;
    for fact in &table.facts {
        if before != Some(fact.weight) {
            let words = weight_words(fact.weight.word());
            let (word, rest) = words.split_once(':').unwrap_or((words, ""));
            let paint = if word == "void" { Paint::Red } else { Paint::Bold };
            text += &wrapped(&format!("  {word}:{rest}"), 4).replacen(word, &style.paint(paint, word), 1);
            before = Some(fact.weight);
        }
        text += &wrapped(&format!("    {}: {}", plain(&fact.name), values(fact)), 6);
    }
    let untold = table.untold.iter().map(|(name, sides)| {
        let letters: Vec<String> = sides.iter().map(|&nth| letter(nth)).collect();
        format!("{name} ({})", letters.join(", "))
    });
    let untold: Vec<String> = untold.collect();
    if untold.is_empty() { text } else { text + &wrapped(&format!("  not told: {}", untold.join("; ")), 4) }
}

fn values(fact: &DifferingFact) -> String {
    let value = |(nth, value): (usize, &Option<String>)| {
        format!("{} ({})", plain(value.as_deref().unwrap_or(MISSING)), letter(nth))
    };
    fact.values.iter().enumerate().map(value).collect::<Vec<_>>().join(", ")
}

/// One side against the baseline, in 80 columns.
fn against(table: &Table, nth: usize, style: Style) -> String {
    let (from, to) = (letter(table.baseline), letter(nth));
    let head = format!("{to} against {from}");
    let minus = format!("{to}-{from}");
    let head = format!("{head:<17}{from:>8}{to:>8}{minus:>8}{:>8}{:>17} {}", "%", "95 %, in %", "difference");
    let mut text = format!("\n{}\n", style.paint(Paint::Bold, &head));
    let mut before = None;
    for row in &table.rows {
        if before != Some(row.what.group) {
            text += &format!("{}\n", heading(row.what.group));
            before = Some(row.what.group);
        }
        text += &line(table, row, nth, style);
    }
    text
}

fn line(table: &Table, row: &Row, nth: usize, style: Style) -> String {
    let (from, to) = (row.cells[table.baseline].value, row.cells[nth].value);
    let places = decimals(from.into_iter().chain(to).reduce(f64::max));
    let difference = row.differences[nth].as_ref();
    let interval = difference.and_then(interval_words).unwrap_or(MISSING.to_owned());
    let words = difference.and_then(|difference| finding_words(difference, row.what.better));
    let words = words.unwrap_or(MISSING.to_owned()).replace("no difference found", "none found");
    let paint = difference.and_then(|difference| difference.is_better(row.what.better));
    let words = match paint {
        Some(true) => style.paint(Paint::Green, &words),
        Some(false) => style.paint(Paint::Red, &words),
        None => words,
    };
    let relative = difference.and_then(|difference| difference.relative).map(|share| 100.0 * share);
    let relative_places = usize::from(relative.is_none_or(|relative| relative.abs() < 1000.0));
    format!(
        "  {:<15}{:>8}{:>8}{:>8}{:>8}{interval:>17} {words}\n",
        row_name(table, row),
        fixed(from, places),
        fixed(to, places),
        signed(difference.map(|difference| difference.absolute), places),
        signed(relative, relative_places),
    )
}

/// The interval in percent of the baseline, or whether ranges meet.
fn interval_words(difference: &Difference) -> Option<String> {
    let in_percent = |(low, high): (f64, f64)| {
        let (low, high) = (100.0 * low, 100.0 * high);
        let places = usize::from(low.abs().max(high.abs()) < 100.0);
        format!("[{low:+.places$}, {high:+.places$}]")
    };
    range_words(difference).map(str::to_owned).or_else(|| difference.relative_interval.map(in_percent))
}

/// A number with its sign, but for one that is shown as 0.
fn signed(value: Option<f64>, places: usize) -> String {
    let Some(value) = value else { return MISSING.to_owned() };
    match format!("{:.places$}", value.abs()) {
        zero if zero.chars().all(|c| c == '0' || c == '.') => zero,
        other => format!("{}{other}", if value < 0.0 { '-' } else { '+' }),
    }
}
