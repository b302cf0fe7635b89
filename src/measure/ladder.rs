//! Several runs of one plan: at one offered rate after another, or the same rate again and again with fresh seeds. Where
//! latency breaks, and what the runs of one rate have in common.

use super::compare::Spread;
use super::{Counts, Distribution, RunFile, State, Summary, Warning};

/// The runs of one plan.
#[derive(Clone, Debug)]
pub struct Ladder {
    /// Name of the ladder and of its directory.
    pub id: String,
    /// Name, version and commit of the program.
    pub version: String,
    /// Runs that were planned.
    pub planned: usize,
    /// Why it ended before them.
    pub stopped: Option<String>,
    /// Its rungs, in the order in which they were typed.
    pub rungs: Vec<Rung>,
}

/// The runs at one rate.
#[derive(Clone, Debug)]
pub struct Rung {
    /// Offered, requests per second; `None` for `inf` and for ramps.
    pub rate: Option<f64>,
    /// At least one run, in their order.
    pub runs: Vec<RunFile>,
}

/// A number that a ladder shows of each run.
#[derive(Debug)]
pub struct Column {
    /// Key in files.
    pub key: &'static str,
    /// Short name in tables.
    pub short: &'static str,
    /// Unit.
    pub unit: &'static str,
    /// Its value.
    pub value: fn(&Summary) -> Option<f64>,
}

/// All numbers of a ladder, strict definitions, in the order of its tables.
pub const COLUMNS: &[Column] = &[
    Column {
        key: "achieved_per_s",
        short: "Achieved",
        unit: "req/s",
        value: |summary| summary.rates.achieved_per_s,
    },
    Column { key: "ttft_p50_ms", short: "TTFT p50", unit: "ms", value: |summary| median(summary, "ttft") },
    Column { key: "ttft_p99_ms", short: "TTFT p99", unit: "ms", value: |summary| p99(summary, "ttft") },
    Column { key: "tpot_p50_ms", short: "TPOT p50", unit: "ms", value: |summary| median(summary, "tpot") },
    Column { key: "tpot_p99_ms", short: "TPOT p99", unit: "ms", value: |summary| p99(summary, "tpot") },
    Column {
        key: "output_throughput_per_s",
        short: "Output",
        unit: "tok/s",
        value: |summary| summary.strict.output_throughput_per_s,
    },
    Column {
        key: "request_goodput_per_s",
        short: "Goodput",
        unit: "req/s",
        value: |summary| summary.strict.request_goodput_per_s,
    },
];

/// Share of the sent requests that must keep the objectives for a rate to be within them.
pub const ATTAINED: f64 = 0.9;

impl Ladder {
    /// Puts finished runs together by their rates.
    pub fn of(id: &str, version: &str, planned: usize, stopped: Option<String>, runs: Vec<RunFile>) -> Self {
        let mut rungs: Vec<Rung> = Vec::new();
        for run in runs {
            let rate = run.manifest.settings.request_rate;
            match rungs.iter_mut().find(|rung| rung.rate == rate) {
                Some(rung) => rung.runs.push(run),
                None => rungs.push(Rung { rate, runs: vec![run] }),
            }
        }
        Self { id: id.to_owned(), version: version.to_owned(), planned, stopped, rungs }
    }

    /// All runs, rung by rung.
    pub fn runs(&self) -> impl Iterator<Item = &RunFile> {
        self.rungs.iter().flat_map(|rung| &rung.runs)
    }

    /// Rates at which any run was unstable, ascending.
    pub fn unstable(&self) -> Vec<f64> {
        self.rates(|rung| rung.runs.iter().any(is_unstable))
    }

    /// Whether every finite rate from `rate` on was unstable.
    pub fn unstable_from(&self, rate: f64) -> bool {
        let above = self.rates(|rung| rung.rate.is_some_and(|other| rate <= other));
        above == self.unstable().into_iter().filter(|other| rate <= *other).collect::<Vec<f64>>()
    }

    /// The greatest rate up to which, on every rung, 90 % of the sent requests keep the objectives: `Some(None)` where
    /// not even the lowest does; `None` without objectives or rates.
    pub fn within_objectives(&self) -> Option<Option<f64>> {
        let attained = |rung: &Rung| {
            let mut shares = rung.runs.iter().map(|run| attainment(run.summary.as_ref()?));
            shares.all(|share| share.is_some_and(|share| ATTAINED <= share))
        };
        let judged = self.rates(|rung| rung.runs.iter().any(|run| !run.manifest.settings.slo.is_empty()));
        let within = self.rates(attained);
        if judged.is_empty() {
            return None;
        }
        Some(judged.into_iter().take_while(|rate| within.contains(rate)).last())
    }

    /// Finite rates of the rungs that are so, ascending.
    fn rates(&self, is_so: impl Fn(&Rung) -> bool) -> Vec<f64> {
        let mut rates: Vec<f64> =
            self.rungs.iter().filter(|rung| is_so(rung)).filter_map(|rung| rung.rate).collect();
        rates.sort_unstable_by(f64::total_cmp);
        rates
    }
}

impl Rung {
    /// What its runs have of a number, where there are several.
    pub fn spread(&self, column: &Column) -> Option<Spread> {
        Spread::of(self.runs.iter().map(|run| column.value_of(run)).collect())
    }
}

impl Column {
    /// Its value in a run.
    pub fn value_of(&self, run: &RunFile) -> Option<f64> {
        run.summary.as_ref().and_then(self.value)
    }
}

impl RunFile {
    /// The verdict of one run in a word: `VALID`, `UNSTABLE` where it is valid and its latencies depend on its length,
    /// `INVALID`, or `STOPPED` before its end.
    pub fn standing_word(&self) -> &'static str {
        match &self.summary {
            _ if self.manifest.state != State::Complete => "STOPPED",
            Some(summary) if !summary.validity.valid => "INVALID",
            Some(_) if is_unstable(self) => "UNSTABLE",
            Some(_) => "VALID",
            None => "STOPPED",
        }
    }
}

/// More was offered in this run than the server takes.
pub fn is_unstable(run: &RunFile) -> bool {
    let warnings = run.summary.iter().flat_map(|summary| &summary.warnings);
    warnings.into_iter().any(|warning| matches!(warning, Warning::Unstable(_)))
}

fn median(summary: &Summary, key: &str) -> Option<f64> {
    summary.strict.distribution(key)?.median
}

/// The p99 of a latency, where enough values back it.
fn p99(summary: &Summary, key: &str) -> Option<f64> {
    let values: &Distribution = summary.strict.distribution(key)?;
    values.percentile(99.0).filter(|percentile| percentile.enough(values.count))?.value
}

/// Share of the sent requests that keep the objectives.
fn attainment(summary: &Summary) -> Option<f64> {
    let Counts { sent, .. } = summary.counts;
    let good = summary.strict.request_goodput_per_s? * summary.strict.duration_s?;
    (0 < sent).then(|| good / sent as f64)
}

#[cfg(test)]
mod tests {
    use super::super::Slo;
    use super::super::testing::{record, run};
    use super::*;

    /// A run of 200 requests at a rate, each of which waits `growth` ms longer than the one before.
    fn rung(rate: f64, growth: f64) -> RunFile {
        let one = |nth: u32| {
            let sent = f64::from(nth) * 1e3 / rate;
            let first = sent + 50.0 + growth * f64::from(nth);
            record(&format!("{sent} {first} {}", first + 10.0))
        };
        let mut run = run((0..200).map(one).collect());
        run.manifest.settings.request_rate = Some(rate);
        run.manifest.settings.slo = Slo::parse(&["ttft:100"]).unwrap();
        RunFile { manifest: run.manifest.clone(), summary: Some(Summary::of(&run)), accuracy: None }
    }

    fn ladder(runs: Vec<RunFile>) -> Ladder {
        Ladder::of("id", "pdbench", runs.len(), None, runs)
    }

    #[test]
    fn a_ladder_says_from_which_rate_on_it_is_unstable_and_within_objectives() {
        let ladder = ladder(vec![rung(1.0, 0.0), rung(8.0, 80.0), rung(2.0, 0.1), rung(4.0, 60.0)]);
        assert_eq!(ladder.unstable(), [8.0]);
        assert!(ladder.unstable_from(8.0) && !ladder.unstable_from(4.0));
        assert_eq!(ladder.within_objectives(), Some(Some(2.0)));
        let words: Vec<&str> = ladder.runs().map(RunFile::standing_word).collect();
        assert_eq!(words, ["VALID", "UNSTABLE", "VALID", "VALID"]);
    }

    #[test]
    fn without_objectives_nothing_is_within_them_and_without_requests_no_rate() {
        let mut plain = rung(1.0, 0.0);
        plain.manifest.settings.slo = Slo::default();
        assert_eq!(ladder(vec![plain]).within_objectives(), None);
        assert_eq!(ladder(vec![rung(1.0, 10.0)]).within_objectives(), Some(None));
        assert_eq!(ladder(Vec::new()).unstable(), Vec::<f64>::new());
    }

    #[test]
    fn runs_of_one_rate_are_one_rung() {
        let ladder = ladder(vec![rung(1.0, 0.0), rung(2.0, 0.0), rung(1.0, 0.2)]);
        assert_eq!(ladder.rungs.iter().map(|rung| rung.runs.len()).collect::<Vec<_>>(), [2, 1]);
        let spread = ladder.rungs[0].spread(&COLUMNS[1]).unwrap();
        assert_eq!((spread.count(), spread.interval), (2, None));
        assert!(ladder.rungs[1].spread(&COLUMNS[1]).is_none());
    }
}
