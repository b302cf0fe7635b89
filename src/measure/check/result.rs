use super::evidence::Evidence;
use super::{CheckFacts, CheckFault, alone, nodes, pairs, proxied};
use crate::measure::{RequestRecord, Run};
use serde::{Deserialize, Serialize};

/// What a check came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    /// Step by step.
    pub steps: Vec<StepResult>,
    /// Each pair of instances that answered before the first request.
    pub pairs: Vec<PairResult>,
    /// What is wrong, in the order of the steps.
    pub faults: Vec<CheckFault>,
}

/// What is said of a step, or of a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nobody told.
    #[default]
    NotTold,
    /// It is as it has to be.
    Ok,
    /// It is not.
    Wrong,
}

/// What is looked at, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Every instance takes requests and answers them.
    Answers,
    /// All serve one model, for the same lengths.
    Model,
    /// All have KV blocks of one size.
    Blocks,
    /// Every instance that computes a prompt by itself says the same, and takes no KV for it that nobody made.
    Alone,
    /// The KV of whole prompts goes from prefill to decode.
    KvMoves,
    /// A prefill makes one token.
    OneToken,
    /// Decode says from that KV what prefill says.
    Texts,
    /// The proxy answers, and uses both sides.
    Proxy,
    /// KV moves, too, of a prefill that ends at its first token.
    EarlyStop,
}

/// A step with its verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepResult {
    /// Which.
    pub step: Step,
    /// How it went.
    pub verdict: Verdict,
    /// What that rests on, or why nobody told; one line. What is wrong stands in the faults.
    pub words: String,
}

/// A prefill instance and a decode instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairResult {
    /// Number of the prefill instance.
    pub prefill: usize,
    /// Number of the decode instance.
    pub decode: usize,
    /// Requests that it was sent.
    pub requests: usize,
    /// Those of them that failed.
    pub failed: usize,
    /// Those whose KV moved whole, as far as that was told …
    pub moved: usize,
    /// … and those whose KV did not, or not whole.
    pub unmoved: usize,
    /// Answers that are right, or differ by rounding alone …
    pub right: usize,
    /// … and those that are not.
    pub wrong: usize,
    /// All of it in a word.
    pub verdict: Verdict,
}

impl Step {
    /// All of them.
    pub const ALL: [Step; 9] = [
        Step::Answers,
        Step::Model,
        Step::Blocks,
        Step::Alone,
        Step::KvMoves,
        Step::OneToken,
        Step::Texts,
        Step::Proxy,
        Step::EarlyStop,
    ];

    /// In a few words.
    pub fn title(self) -> &'static str {
        match self {
            Step::Answers => "Instances answer",
            Step::Model => "Same model",
            Step::Blocks => "Same KV blocks",
            Step::Alone => "Same alone",
            Step::KvMoves => "KV moves",
            Step::OneToken => "One token at P",
            Step::Texts => "Same text",
            Step::Proxy => "Proxy",
            Step::EarlyStop => "Early stop",
        }
    }
}

impl Verdict {
    /// In a word or two.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::NotTold => "not told",
            Verdict::Ok => "ok",
            Verdict::Wrong => "WRONG",
        }
    }
}

/// What the parts of the fold hand one another: steps and faults so far.
#[derive(Default)]
pub(super) struct Found {
    steps: Vec<StepResult>,
    faults: Vec<CheckFault>,
}

impl Found {
    /// What was seen of a step: why nobody told, or what it rests on where nothing is wrong.
    pub(super) fn step(&mut self, step: Step, told: Result<String, &str>, faults: Vec<CheckFault>) {
        let (verdict, words) = match (faults.as_slice(), told) {
            ([], Ok(words)) => (Verdict::Ok, words),
            ([], Err(why)) => (Verdict::NotTold, why.to_owned()),
            ([first, ..], _) => (Verdict::Wrong, first.what()),
        };
        self.steps.push(StepResult { step, verdict, words });
        self.faults.extend(faults);
    }

    /// Whether something was wrong so far.
    pub(super) fn is_wrong(&self) -> bool {
        !self.faults.is_empty()
    }
}

/// What came of a check; nothing of a run that is none.
pub(in crate::measure) fn check(run: &Run) -> Option<CheckResult> {
    let facts = run.manifest.check.as_ref()?;
    Some(CheckResult::of(facts, &run.records))
}

impl CheckResult {
    /// Folds what was told and what was answered.
    pub fn of(facts: &CheckFacts, records: &[RequestRecord]) -> Self {
        let evidence = Evidence::of(facts, records);
        let mut found = Found::default();
        nodes::judge(&evidence, &mut found);
        alone::judge(&evidence, &mut found);
        let pairs = pairs::judge(&evidence, &mut found);
        proxied::judge(&evidence, &mut found);
        found.steps.sort_by_key(|step| step.step);
        Self { steps: found.steps, pairs, faults: found.faults }
    }

    /// A pair's cell in the matrix.
    pub fn pair(&self, prefill: usize, decode: usize) -> Option<&PairResult> {
        self.pairs.iter().find(|pair| (pair.prefill, pair.decode) == (prefill, decode))
    }
}

#[cfg(test)]
#[path = "result_tests.rs"]
mod tests;
