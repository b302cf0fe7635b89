use super::super::Reported;
use super::super::fold::{
    FailurePlaces, Row, added_words, columns, lag_words, objectives, percentile_cell, proxy_words, rows,
    steady_words, token_words, too_few,
};
use super::super::text::{bare, counted, decimals, fixed, number, plain, wrapped};
use super::server::server_block;
use super::{Paint, Style};
use crate::measure::{ClientState, Definition, Metric};

/// Percentile columns that one table has room for.
const COLUMNS_PER_TABLE: usize = 3;

/// Our own block: outcomes, strict latencies, rates, how the client did, and what else to know.
pub fn strict_block(reported: &Reported<'_>, style: Style) -> String {
    let parts = [
        format!("{}\n", style.paint(Paint::Bold, &format!("{:=^50}", " pdbench (strict definitions) "))),
        outcomes(reported),
        latencies(reported, style),
        rates(reported),
        proxy_cost(reported, style),
        server_block(reported, style),
        client(reported, style),
        warnings(reported, style),
        how_to_read().to_owned(),
    ];
    parts.concat()
}

/// A line of a block: a label in a column of its own, and words that are wrapped beside it.
pub(super) fn line(label: &str, words: &str) -> String {
    wrapped(&format!("{label:<14} {words}"), 15)
}

fn outcomes(reported: &Reported<'_>) -> String {
    let counts = &reported.summary.counts;
    let mut words = format!("{} planned, {} sent: {} ok", counts.planned, counts.sent, counts.ok);
    words += &format!(", {} failed", counts.failed);
    if 0 < counts.cancelled {
        words += &format!(", {} cancelled at the end", counts.cancelled);
    }
    if 0 < counts.not_sent {
        words += &format!("; {} not sent", counts.not_sent);
    }
    let mut lines = line("Requests", &words);
    let failures = counts.by_outcome.iter().filter(|(outcome, _)| outcome.is_failure());
    let failures: Vec<_> = failures.map(|(outcome, n)| format!("{n} {}", outcome.word())).collect();
    if !failures.is_empty() {
        lines += &line("Failures", &failures.join(", "));
        let places = FailurePlaces::of(reported.run).all().into_iter().filter(|(.., n)| 0 < *n);
        let places: Vec<_> = places.map(|(place, hint, n)| format!("{n} {place} ({hint})")).collect();
        lines += &line("", &places.join(", "));
    }
    lines + &line("Tokens", &token_words(reported))
}

pub(super) fn latencies(reported: &Reported<'_>, style: Style) -> String {
    let rows = rows(reported, Definition::Strict);
    let percentiles = columns(&rows);
    let first = percentiles.len().min(COLUMNS_PER_TABLE);
    let mut tables = vec![table(reported, &rows, &percentiles[..first], Frame::Whole)];
    let further = percentiles[first..].chunks(COLUMNS_PER_TABLE + 4);
    tables.extend(further.map(|percentiles| table(reported, &rows, percentiles, Frame::Percentiles)));
    let mut text = String::new();
    for table in tables {
        let (head, body) = table.split_once('\n').unwrap_or((&table, ""));
        text += &format!("\n{}\n{body}", style.paint(Paint::Bold, head));
    }
    text + &notes(&rows)
}

/// What a table has beside its percentiles.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// Mean and median before them, maximum and count behind.
    Whole,
    /// Nothing: there was no room for all percentiles in the table above.
    Percentiles,
}

/// A table of at most 80 columns, its head in the first line.
fn table(reported: &Reported<'_>, rows: &[Row<'_>], percentiles: &[f64], frame: Frame) -> String {
    let row_text = |name: &str, mut cells: Vec<String>, before: [String; 2], behind: [String; 2]| {
        if frame == Frame::Whole {
            cells.splice(0..0, before);
            cells.extend(behind);
        }
        let cells: String = cells.iter().map(|cell| format!(" {cell:>8}")).collect();
        format!("{name:<16}{cells}\n")
    };
    let names = percentiles.iter().map(|&p| format!("p{}", bare(p))).collect();
    let mut text =
        row_text("Latency", names, ["mean", "p50"].map(str::to_owned), ["max", "n"].map(str::to_owned));
    for row in rows {
        let values = row.distribution;
        let places = decimals(values.max);
        let cells = percentiles.iter().map(|&p| percentile_cell(reported, row, p, places).figure()).collect();
        let before = [fixed(values.mean, places), fixed(values.median, places)];
        let behind = [fixed(values.max, places), values.count.to_string()];
        text += &row_text(&name(row), cells, before, behind);
    }
    text
}

fn name(row: &Row<'_>) -> String {
    match row.from_schedule {
        true => "  from schedule".to_owned(),
        false => format!("{} ({})", row.metric.short, row.metric.unit.word()),
    }
}

/// Why a percentile has no figure, once for all rows with the same count.
fn notes(rows: &[Row<'_>]) -> String {
    let mut notes: Vec<(String, Vec<&str>)> = Vec::new();
    for row in rows.iter().filter(|row| !row.from_schedule && 0 < row.distribution.count) {
        let values = row.distribution;
        for percentile in values.percentiles.iter().filter(|p| p.p != 50.0 && !p.enough(values.count)) {
            let note = too_few(values.count, percentile);
            match notes.iter_mut().find(|(known, _)| *known == note) {
                Some((_, names)) => names.push(row.metric.short),
                None => notes.push((note, vec![row.metric.short])),
            }
        }
    }
    let lines = notes.iter().map(|(note, names)| wrapped(&format!("  {note}: {}", names.join(", ")), 4));
    lines.collect::<String>() + "\n"
}

fn rates(reported: &Reported<'_>) -> String {
    let (summary, view) = (reported.summary, &reported.summary.strict);
    let offered = summary.rates.offered_per_s;
    let mut words = format!("offered {}", if offered.is_none() { "inf".to_owned() } else { number(offered) });
    for (name, rate) in [
        ("admitted", summary.rates.admitted_per_s),
        ("sent", summary.rates.sent_per_s),
        ("achieved", summary.rates.achieved_per_s),
    ] {
        words += &format!(", {name} {}", number(rate));
    }
    let mut lines = line("Rate (req/s)", &words);
    let words = format!(
        "{} req/s, {} output tok/s, {} total tok/s over {} s",
        number(view.request_throughput_per_s),
        number(view.output_throughput_per_s),
        number(view.total_token_throughput_per_s),
        number(view.duration_s),
    );
    lines += &line("Throughput", &words);
    let (tokens, requests) = (view.max_output_tokens_per_s, view.max_concurrent_requests);
    lines += &line("Peak", &format!("{} output tok/s, {} in flight", number(tokens), fixed(requests, 0)));
    if let Some(steady) = &summary.steady {
        lines += &line("Steady state", &steady_words(steady));
    }
    if let Some(objectives) = objectives(&reported.run.manifest.settings) {
        lines += &line("Goodput", &format!("{} req/s with {objectives}", number(view.request_goodput_per_s)));
    }
    lines
}

/// What the proxy costs, where half of the load went past it.
fn proxy_cost(reported: &Reported<'_>, style: Style) -> String {
    let Some(cost) = &reported.summary.proxy_cost else { return String::new() };
    let head = format!("{:<16}{:>12}{:>12}{:>20}\n", "Proxy cost (ms)", "through", "direct", "added");
    let mut text = format!("\n{}", style.paint(Paint::Bold, head.trim_end())) + "\n";
    for added in &cost.added {
        let name = Metric::find(&added.metric).map_or("", |metric| metric.short);
        let [through, direct] = [added.through_ms, added.direct_ms].map(|ms| fixed(Some(ms), 3));
        let name = format!("{name} p{}", bare(added.p));
        text += &format!("{name:<16}{through:>12}{direct:>12}{:>20}\n", added_words(added));
    }
    text += &line("", &proxy_words(cost));
    text + "\n"
}

pub(super) fn client(reported: &Reported<'_>, style: Style) -> String {
    let (lateness, verdict) = (&reported.summary.lateness, &reported.summary.client);
    let mut lines = line("Client lag", &lag_words(&lateness.client_lag_ms));
    let late = format!(
        "{} above 1 ms, {} above 10 ms, {} above 100 ms; worst 10 s: mean {} ms",
        lateness.above_1_ms,
        lateness.above_10_ms,
        lateness.above_100_ms,
        fixed(lateness.worst_10_s_mean_ms, 3),
    );
    lines += &line("", &late);
    if let Some(spread) = lateness.burst_spread_ms {
        let size = counted(lateness.burst_size, "request");
        lines += &line("Largest burst", &format!("{size} sent within {} ms", fixed(Some(spread), 3)));
    }
    let (word, paint) = match verdict.state {
        ClientState::Ok => ("OK", Paint::Green),
        ClientState::Degraded => ("DEGRADED", Paint::Yellow),
        ClientState::Saturated => ("SATURATED", Paint::Red),
    };
    lines += &format!("{:<14} {}\n", "Client", style.paint(paint, word));
    verdict.evidence.iter().fold(lines, |lines, evidence| lines + &line("", &plain(evidence)))
}

pub(super) fn warnings(reported: &Reported<'_>, style: Style) -> String {
    let mut lines = String::new();
    for warning in &reported.summary.warnings {
        let text = wrapped(&format!("warning: {}", plain(&warning.text())), 9);
        lines += &text.replacen("warning:", &style.paint(Paint::Yellow, "warning:"), 1);
        lines += &wrapped(&format!("    try: {}", warning.try_this()), 9);
    }
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

fn how_to_read() -> &'static str {
    "
Latencies are of ok requests, in ms, from the send; where the schedule tells
another story it stands below (`from schedule`: what a user who does not wait
for the client would see). `–` is a value that does not exist. METRICS.md has
every definition, and how vLLM's block above differs.
"
}
