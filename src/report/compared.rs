//! What the formats of a comparison say in the same way.

use super::text::{counted, plain};
use crate::measure::compare::{Basis, ComparedRun, Difference, Finding, Group, Row, Standing, Table};
use crate::measure::{Better, Definition};

/// What a within-run interval is worth, for every output that shows one.
pub(super) const WITHIN_RUN: &str = "95 % interval within the runs (20 batches in send order): a lower limit of the uncertainty, \
     which leaves out what differs from run to run";
/// What the other ways to judge are worth.
pub(super) const BETWEEN_RUNS: &str = "95 % interval between runs (Student's t, Welch)";
pub(super) const RANGES: &str = "three or four runs a side: higher or lower where their ranges do not meet, which of \
     twice three equal runs a tenth does";

/// What a side is called in a table: A, B, C …
pub(super) fn letter(nth: usize) -> String {
    match u8::try_from(nth).ok().filter(|&nth| nth < 26) {
        Some(nth) => char::from(b'A' + nth).to_string(),
        None => format!("#{}", nth + 1),
    }
}

/// The heading of a part of the table.
pub(super) fn heading(group: Group) -> &'static str {
    match group {
        Group::Failures => "Failures",
        Group::Throughput => "Throughput",
        Group::Latency => "Latency (ms)",
        Group::Batches => "Batches of replicas",
        Group::Accuracy => "Right answers",
    }
}

/// What a row is called: `TTFT p50`; vLLM's definition is named where ours stands in the table, too.
pub(super) fn row_name(table: &Table, row: &Row) -> String {
    let what = &row.what;
    let mut name = plain(&what.short);
    if !what.statistic.is_empty() {
        name += &format!(" {}", what.statistic);
    } else if what.group != Group::Batches {
        name += &format!(" {}", what.unit);
    }
    if what.definition == Some(Definition::Vllm) && is_strict(table) {
        name += " (vllm)";
    }
    name
}

/// Whether some numbers are by our definitions.
pub(super) fn is_strict(table: &Table) -> bool {
    table.rows.iter().any(|row| row.what.definition == Some(Definition::Strict))
}

/// The finding in words, and whether it is for the better: `lower, better`.
pub(super) fn finding_words(difference: &Difference, better: Better) -> Option<String> {
    let finding = difference.finding?;
    Some(match difference.is_better(better) {
        None => finding.words().to_owned(),
        Some(true) => format!("{}, better", finding.words()),
        Some(false) => format!("{}, worse", finding.words()),
    })
}

/// Where ranges decide: whether they meet.
pub(super) fn range_words(difference: &Difference) -> Option<&'static str> {
    let meet = difference.finding.filter(|_| difference.basis == Basis::Ranges)? == Finding::NoneFound;
    Some(if meet { "ranges meet" } else { "ranges apart" })
}

/// A run's verdict and how its requests went.
pub(super) fn standing_words(run: &ComparedRun) -> String {
    let Standing { valid, reasons, interrupted, unstable, client, ok, failed, simulated, summary_only } =
        &run.standing;
    let mut words = match valid {
        Some(true) => "VALID".to_owned(),
        Some(false) => format!("INVALID ({})", plain(&reasons.join("; "))),
        None => "not judged (a result file of vLLM)".to_owned(),
    };
    if *interrupted {
        words += ", INTERRUPTED";
    }
    if *unstable {
        words += ", UNSTABLE: latencies depend on the run's length";
    }
    words += &format!(", {ok} ok");
    words += &failed.map_or(String::new(), |failed| format!(", {failed} failed"));
    words += &client.map_or(String::new(), |client| format!(", client {}", client.word()));
    if *simulated {
        words += ", simulated";
    }
    if *summary_only {
        words += ", a summary alone: no intervals";
    }
    words
}

/// What each kind of difference in the settings means.
pub(super) fn weight_words(word: &str) -> &'static str {
    match word {
        "void" => {
            "void: the runs measured different things; their numbers cannot be held against one another"
        }
        "limits" => "limits: a part of the differences may come of it",
        _ => "compared: what the numbers are about",
    }
}

/// What else to know of a comparison, a sentence each.
pub(super) fn notes(table: &Table) -> Vec<String> {
    let mut notes = Vec::new();
    if !is_strict(table) && table.rows.iter().any(|row| row.what.definition.is_some()) {
        notes
            .push("By the definitions of `vllm bench serve`: not every side has the strict ones.".to_owned());
    }
    let differences = || table.rows.iter().flat_map(|row| &row.differences).flatten();
    for (basis, says) in
        [(Basis::WithinRuns, WITHIN_RUN), (Basis::BetweenRuns, BETWEEN_RUNS), (Basis::Ranges, RANGES)]
    {
        if differences().any(|difference| difference.basis == basis) {
            notes.push(format!("{}{}.", says[..1].to_uppercase(), &says[1..]));
        }
    }
    let judged = differences().filter(|difference| difference.finding.is_some()).count();
    if 20 <= judged {
        notes.push(format!(
            "Of {judged} numbers that are judged one by one, one in twenty differs by chance."
        ));
    }
    if differences().any(|difference| difference.finding.is_none()) {
        notes.push(
            "Without an interval nothing is said of a difference: it takes 100 requests with their records, or several runs \
             (--runs)."
                .to_owned(),
        );
    }
    for (nth, side) in table.sides.iter().enumerate() {
        notes.extend(too_few(&side.runs, nth));
        notes.extend(outliers(table, nth));
    }
    notes
}

/// Percentiles that a side has too few values for: `A: too few values (200; it takes 299) for TTFT p99, TPOT p99.`
fn too_few(runs: &[ComparedRun], nth: usize) -> Vec<String> {
    let mut groups: Vec<((usize, usize), Vec<&str>)> = Vec::new();
    for few in runs.iter().flat_map(|run| &run.too_few) {
        match groups.iter_mut().find(|(counts, _)| *counts == (few.count, few.needs)) {
            Some((_, names)) if names.contains(&few.name.as_str()) => {}
            Some((_, names)) => names.push(&few.name),
            None => groups.push(((few.count, few.needs), vec![&few.name])),
        }
    }
    let words = |((count, needs), names): &((usize, usize), Vec<&str>)| {
        format!("{}: too few values ({count}; it takes {needs}) for {}.", letter(nth), names.join(", "))
    };
    groups.iter().map(words).collect()
}

/// Runs that lie far from the others of their side.
fn outliers(table: &Table, nth: usize) -> Option<String> {
    let mut far: Vec<(usize, Vec<String>)> = Vec::new();
    for row in &table.rows {
        for &run in row.cells[nth].spread.iter().flat_map(|spread| &spread.outliers) {
            let name = row_name(table, row);
            match far.iter_mut().find(|(known, _)| *known == run) {
                Some((_, names)) => names.push(name),
                None => far.push((run, vec![name])),
            }
        }
    }
    let words = far
        .iter()
        .map(|(run, names)| format!("{} in {}", plain(&table.sides[nth].runs[*run].name), names.join(", ")));
    let words: Vec<String> = words.collect();
    let runs = counted(far.len(), "run");
    (!far.is_empty()).then(|| {
        format!("{}: {runs} far from the others, and kept in the mean: {}.", letter(nth), words.join("; "))
    })
}
