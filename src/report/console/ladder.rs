use super::super::text::{bare, counted, fixed, number, plain, wrapped};
use super::{Paint, Style};
use crate::measure::compare::Spread;
use crate::measure::ladder::{ATTAINED, COLUMNS, Ladder, Rung};
use crate::measure::{ClientState, RunFile};

/// All runs of a ladder in a table of 80 columns, what those of one rate have in common, and where latency breaks.
pub fn ladder_console(ladder: &Ladder, style: Style) -> String {
    let mut head = format!("{:<6}", "Rate");
    let mut units = format!("{:<6}", "req/s");
    for column in COLUMNS {
        head += &format!("{:>9}", column.short);
        units += &format!("{:>9}", column.unit);
    }
    let mut text = format!("{}\n{units}\n", style.paint(Paint::Bold, &format!("{head} Verdict")));
    for rung in &ladder.rungs {
        for run in &rung.runs {
            text += &line(rung, run, style);
        }
        text += &together(rung, style);
    }
    text.push('\n');
    text + &conclusions(ladder).iter().map(|words| wrapped(words, 2)).collect::<String>()
}

/// What a rung is called: its rate.
pub(in super::super) fn rate_word(rung: &Rung) -> String {
    let ramp = rung.runs.first().is_some_and(|run| run.manifest.settings.ramp_up.is_some());
    rung.rate.map_or(if ramp { "ramp" } else { "inf" }.to_owned(), bare)
}

fn line(rung: &Rung, run: &RunFile, style: Style) -> String {
    let word = run.standing_word();
    let paint = if word == "VALID" { Paint::Green } else { Paint::Red };
    let failed = failed_words(run);
    let cells: String = COLUMNS.iter().map(|column| format!("{:>9}", number(column.value_of(run)))).collect();
    format!("{:<6}{cells} {}{failed}\n", rate_word(rung), style.paint(paint, word))
}

/// `, 3 failed` of a run in which some did.
pub(in super::super) fn failed_words(run: &RunFile) -> String {
    let failed = run.summary.as_ref().map_or(0, |summary| summary.counts.failed);
    if failed == 0 { String::new() } else { format!(", {failed} failed") }
}

/// Mean and interval, or range, of the runs of one rate.
fn together(rung: &Rung, style: Style) -> String {
    if rung.runs.len() < 2 {
        return String::new();
    }
    let spreads: Vec<Option<Spread>> = COLUMNS.iter().map(|column| rung.spread(column)).collect();
    let row = |name: &str, value: &dyn Fn(&Spread) -> Option<f64>| {
        let cell = |spread: &Option<Spread>| format!("{:>9}", number(spread.as_ref().and_then(value)));
        format!("{name:<6}{}", spreads.iter().map(cell).collect::<String>())
    };
    let mean = style.paint(Paint::Bold, &row("mean", &|spread| Some(spread.mean)));
    if spreads.iter().flatten().any(|spread| spread.interval.is_some()) {
        let half = |spread: &Spread| spread.interval.map(|(_, high)| high - spread.mean);
        return format!("{mean}\n{}\n", row("± 95 %", &half));
    }
    let (least, greatest) =
        (row("least", &|spread| Some(spread.range.0)), row("most", &|spread| Some(spread.range.1)));
    format!("{mean}\n{least}\n{greatest}\n")
}

/// What a reader should take along: where it breaks, and what limits the numbers.
pub(in super::super) fn conclusions(ladder: &Ladder) -> Vec<String> {
    let mut words = Vec::new();
    let done = ladder.runs().count();
    if let Some(why) = &ladder.stopped {
        words.push(format!("STOPPED after {done} of {}: {}.", counted(ladder.planned, "run"), plain(why)));
    }
    words.extend(stability(ladder));
    if ladder.runs().any(|run| run.manifest.target.simulated) {
        words.push("SIMULATED: no real model, no real hardware.".to_owned());
    }
    match ladder.within_objectives() {
        Some(Some(rate)) => words.push(format!(
            "At least {:.0} % of the requests keep the objectives up to {} req/s.",
            100.0 * ATTAINED,
            bare(rate)
        )),
        Some(None) => words.push(format!(
            "Not even at the lowest rate do {:.0} % of the requests keep the objectives.",
            100.0 * ATTAINED
        )),
        None => {}
    }
    let slow: Vec<String> = clients(ladder, ClientState::Degraded);
    if !slow.is_empty() {
        words
            .push(format!("The client itself can be seen in the numbers (DEGRADED) at {}.", slow.join(", ")));
    }
    let lost: Vec<String> = clients(ladder, ClientState::Saturated);
    if !lost.is_empty() {
        words.push(format!("The numbers are the client's own (SATURATED) at {}.", lost.join(", ")));
    }
    words.extend(ladder.rungs.iter().filter_map(outliers));
    let most = ladder.rungs.iter().map(|rung| rung.runs.len()).max().unwrap_or(0);
    if (2..5).contains(&most) {
        words.push("Below five runs no interval is told, only the range.".to_owned());
    }
    words
}

fn stability(ladder: &Ladder) -> Option<String> {
    let unstable = ladder.unstable();
    let few = ladder.runs().all(|run| run.summary.as_ref().is_none_or(|summary| summary.counts.sent < 100));
    match unstable.first() {
        None if few => {
            Some("With fewer than 100 requests a run, nobody can tell where it becomes UNSTABLE.".to_owned())
        }
        None => None,
        Some(&first) if ladder.unstable_from(first) => Some(format!(
            "UNSTABLE from {} req/s on: more is offered than the server takes, and latencies depend on the run's length.",
            bare(first)
        )),
        Some(_) => {
            let at: Vec<String> = unstable.iter().map(|&rate| bare(rate)).collect();
            Some(format!("UNSTABLE at {} req/s, but not at every rate above.", at.join(", ")))
        }
    }
}

/// Rates at which the client was in a state.
fn clients(ladder: &Ladder, state: ClientState) -> Vec<String> {
    let was = |run: &RunFile| run.summary.as_ref().is_some_and(|summary| summary.client.state == state);
    let rungs = ladder.rungs.iter().filter(|rung| rung.runs.iter().any(was));
    rungs.map(|rung| format!("{} req/s", rate_word(rung))).collect()
}

fn outliers(rung: &Rung) -> Option<String> {
    let of = |column| {
        let spread = rung.spread(column)?;
        let runs: Vec<String> = spread.outliers.iter().map(|&nth| format!("run {}", nth + 1)).collect();
        let value = |&nth: &usize| fixed(spread.values[nth], 2);
        let values: Vec<String> = spread.outliers.iter().map(value).collect();
        (!runs.is_empty()).then(|| format!("{} {} ({})", column.short, runs.join(", "), values.join(", ")))
    };
    let far: Vec<String> = COLUMNS.iter().filter_map(of).collect();
    (!far.is_empty()).then(|| {
        format!(
            "Far from the other runs at {} req/s, and kept in the mean: {}.",
            rate_word(rung),
            far.join("; ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_measured_is_a_table_without_rows() {
        let ladder = Ladder::of("id", "pdbench", 3, Some("SIGINT".to_owned()), Vec::new());
        let text = ladder_console(&ladder, Style::Plain);
        assert!(text.contains("STOPPED after 0 of 3 runs: SIGINT."), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
