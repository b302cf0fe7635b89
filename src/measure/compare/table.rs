use super::{ComparedRun, Difference, Interval, Known, Quantity, Side, Spread, Weight, What};
use crate::measure::{Definition, METRICS};

/// Sides with all their numbers beside one another.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The sides, in the order of the user.
    pub sides: Vec<Side>,
    /// The one that the others are held against.
    pub baseline: usize,
    /// Settings in which the sides differ, what makes a comparison void first.
    pub facts: Vec<DifferingFact>,
    /// Settings that some sides do not tell, with these sides.
    pub untold: Vec<(String, Vec<usize>)>,
    /// The numbers.
    pub rows: Vec<Row>,
}

/// A setting in which sides differ.
#[derive(Clone, Debug, PartialEq)]
pub struct DifferingFact {
    /// What it is.
    pub name: String,
    /// What that means.
    pub weight: Weight,
    /// What each side has: of several runs all different values; `None` where it is not told.
    pub values: Vec<Option<String>>,
}

/// One number of all sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What it is.
    pub what: What,
    /// By side.
    pub cells: Vec<Cell>,
    /// Each side against the baseline; `None` for itself, and where one of the two has no number.
    pub differences: Vec<Option<Difference>>,
}

/// One number of one side.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// The number; of several runs their mean.
    pub value: Option<f64>,
    /// Its 95 % interval: from within the run, or between five runs and more.
    pub interval: Option<Interval>,
    /// What several runs had.
    pub spread: Option<Spread>,
}

/// Relative difference above which another definition, or a latency from the schedule, stands beside the usual one.
const WORTH_SAYING: f64 = 0.05;

impl Table {
    /// Puts sides beside one another; `baseline` is the place of one of them.
    pub fn of(sides: Vec<Side>, baseline: usize) -> Self {
        let (facts, untold) = differing(&sides);
        let all = all_rows(&sides, baseline);
        let strict = are_strict(&sides);
        let rows = all.iter().filter(|row| is_worth_a_row(row, &all, strict)).cloned().collect();
        Self { sides, baseline, facts, untold, rows }
    }
}

impl Cell {
    fn of(runs: &[ComparedRun], what: &What) -> Self {
        let found =
            |run: &ComparedRun| run.quantities.iter().find(|quantity| quantity.what == *what).cloned();
        if let [run] = runs {
            let found = found(run);
            let interval = found.as_ref().and_then(|quantity| quantity.interval);
            return Self { value: found.and_then(|quantity| quantity.value), interval, spread: None };
        }
        Self::of_runs(runs.iter().map(|run| found(run).and_then(|quantity| quantity.value)).collect())
    }

    pub(super) fn of_runs(values: Vec<Option<f64>>) -> Self {
        let alone = values.iter().copied().flatten().next();
        match Spread::of(values) {
            Some(spread) => {
                Self { value: Some(spread.mean), interval: spread.interval, spread: Some(spread) }
            }
            None => Self { value: alone, interval: None, spread: None },
        }
    }
}

fn all_rows(sides: &[Side], baseline: usize) -> Vec<Row> {
    let mut whats: Vec<&What> = Vec::new();
    let runs = || sides.iter().flat_map(|side| &side.runs);
    for Quantity { what, .. } in runs().flat_map(|run| &run.quantities) {
        if !whats.contains(&what) {
            whats.push(what);
        }
    }
    whats.sort_by_key(|what| what.group);
    let row = |what: &What| {
        let cells: Vec<Cell> = sides.iter().map(|side| Cell::of(&side.runs, what)).collect();
        let against = |(nth, cell): (usize, &Cell)| {
            (nth != baseline).then(|| Difference::of(&cells[baseline], cell)).flatten()
        };
        let differences = cells.iter().enumerate().map(against).collect();
        Row { what: what.clone(), cells, differences }
    };
    whats.into_iter().map(row).collect()
}

/// Whether every run has numbers by our definitions.
fn are_strict(sides: &[Side]) -> bool {
    let is_strict = |run: &ComparedRun| {
        run.quantities.iter().any(|quantity| quantity.what.definition == Some(Definition::Strict))
    };
    sides.iter().flat_map(|side| &side.runs).all(is_strict)
}

/// Numbers are by our definitions where every run has these, else by vLLM's; by the second of the two, or from the
/// schedule, only where that says something else.
fn is_worth_a_row(row: &Row, all: &[Row], strict: bool) -> bool {
    let twin = |definition, key: &str| {
        let same = |other: &&Row| {
            (other.what.definition, other.what.key.as_str(), other.what.statistic)
                == (definition, key, row.what.statistic)
        };
        all.iter().find(same)
    };
    let by_definition = match row.what.definition {
        Some(Definition::Strict) => strict,
        Some(Definition::Vllm) if strict => {
            twin(Some(Definition::Strict), &row.what.key).is_none_or(|ours| ours.differs(row))
        }
        _ => true,
    };
    let mut metrics = METRICS.iter();
    let from_send = metrics.find(|metric| metric.from_schedule == Some(row.what.key.as_str()));
    let from_send = from_send.and_then(|metric| twin(row.what.definition, metric.key));
    let told = row.cells.iter().any(|cell| cell.value.is_some());
    told && by_definition && from_send.is_none_or(|sent| sent.differs(row))
}

impl Row {
    fn differs(&self, other: &Self) -> bool {
        let mut pairs = self.cells.iter().zip(&other.cells).map(|(one, two)| (one.value, two.value));
        pairs.any(
            |pair| matches!(pair, (Some(one), Some(two)) if WORTH_SAYING * one.abs() < (two - one).abs()),
        )
    }
}

/// Settings that are not the same on all sides, and those that a side does not tell.
fn differing(sides: &[Side]) -> (Vec<DifferingFact>, Vec<(String, Vec<usize>)>) {
    let runs = || sides.iter().flat_map(|side| &side.runs);
    let mut names: Vec<(&str, Weight)> = Vec::new();
    for fact in runs().flat_map(|run| &run.facts) {
        if !names.iter().any(|(name, _)| *name == fact.name) {
            names.push((&fact.name, fact.weight));
        }
    }
    let known = |run: &ComparedRun, name: &str| {
        run.facts.iter().find(|fact| fact.name == name).and_then(|fact| fact.known.clone())
    };
    let (mut facts, mut untold) = (Vec::new(), Vec::new());
    for (name, weight) in names {
        let told: Vec<Vec<Option<Known>>> =
            sides.iter().map(|side| side.runs.iter().map(|run| known(run, name)).collect()).collect();
        let silent = |side: &Vec<Option<Known>>| side.iter().any(Option::is_none);
        let not_told: Vec<usize> =
            told.iter().enumerate().filter(|(_, side)| silent(side)).map(|(nth, _)| nth).collect();
        if !not_told.is_empty() && not_told.len() < sides.len() {
            untold.push((name.to_owned(), not_told));
        }
        let mut flat = told.iter().flatten().flatten();
        let first = flat.next();
        if first.is_some_and(|first| flat.any(|other| !first.is_like(other))) {
            let values = told.iter().map(|side| words(side)).collect();
            facts.push(DifferingFact { name: name.to_owned(), weight, values });
        }
    }
    facts.sort_by_key(|fact| fact.weight);
    (facts, untold)
}

/// The different values of a side's runs.
fn words(side: &[Option<Known>]) -> Option<String> {
    let mut different: Vec<String> = Vec::new();
    for known in side.iter().flatten().map(Known::words) {
        if !different.contains(&known) {
            different.push(known);
        }
    }
    (!different.is_empty()).then(|| different.join(", "))
}
