use crate::measure::{AccuracyFacts, DatasetFacts, Host, Manifest, Settings, Stamps, State, TargetFacts};
use serde_json::{Map, Value};

/// A setting under which a run's numbers came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// What it is, in the words of a report.
    pub name: String,
    /// What it means when two runs differ in it.
    pub weight: Weight,
    /// What the run had; `None` where it does not tell.
    pub known: Option<Known>,
}

/// What a difference in a setting means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// The runs measured different things: their numbers cannot be held against one another.
    Void,
    /// Some of the difference in the numbers may be its own.
    Limits,
    /// It is what is being compared.
    Compared,
}

/// What a run had.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// A word or a number that was set.
    Text(String),
    /// A number that came about, and is like another within 2 %.
    About(f64),
}

/// How far numbers that came about may be apart and still be alike.
const ALIKE: f64 = 0.02;

/// Everything that a run may tell of its settings.
#[derive(Default)]
pub(super) struct Told<'a> {
    pub(super) verb: Option<&'a str>,
    pub(super) state: Option<State>,
    pub(super) version: Option<&'a str>,
    pub(super) host: Option<&'a Host>,
    pub(super) stamps: Option<Stamps>,
    pub(super) settings: Option<&'a Settings>,
    pub(super) target: Option<&'a TargetFacts>,
    pub(super) dataset: Option<&'a DatasetFacts>,
    pub(super) simulator: Option<&'a Map<String, Value>>,
    pub(super) task: Option<String>,
    /// Prompt tokens of an ok request, on average.
    pub(super) prompt_tokens: Option<f64>,
    /// Output tokens of an ok request, on average.
    pub(super) output_tokens: Option<f64>,
}

impl<'a> Told<'a> {
    pub(super) fn by(manifest: &'a Manifest) -> Self {
        Self {
            verb: Some(&manifest.verb),
            state: Some(manifest.state),
            version: Some(&manifest.version),
            host: Some(&manifest.host),
            stamps: Some(manifest.stamps),
            settings: Some(&manifest.settings),
            target: Some(&manifest.target),
            dataset: Some(&manifest.dataset),
            simulator: manifest.simulator.as_ref(),
            task: manifest.accuracy.as_ref().map(task),
            prompt_tokens: None,
            output_tokens: None,
        }
    }

    /// The facts in the order of a report.
    pub(super) fn facts(&self) -> Vec<Fact> {
        let mut facts = self.void();
        facts.extend(self.limiting());
        facts.extend(self.compared());
        facts
    }

    fn void(&self) -> Vec<Fact> {
        let (target, settings) = (self.target, self.settings);
        let model = target.map(|target| target.model_id.as_ref().unwrap_or(&target.model).clone());
        let dataset = self.dataset.map(|dataset| match dataset.sha256.get(..8) {
            Some(sum) => format!("{} ({sum})", dataset.name),
            None => dataset.name.clone(),
        });
        let length = |of: fn(&Settings) -> Option<u32>| settings.map(|settings| or_none(of(settings)));
        let about = |name: &str, tokens: Option<f64>| Fact {
            name: name.to_owned(),
            weight: Weight::Void,
            known: tokens.map(Known::About),
        };
        let text = |name, known| text(Weight::Void, name, known);
        let mut facts = vec![
            text("what was measured", self.verb.map(str::to_owned)),
            text("model", model),
            text("dataset", dataset),
            text("input length asked for", length(|settings| settings.input_len)),
            text("output length asked for", length(|settings| settings.output_len)),
            text("prefix length", length(|settings| settings.prefix_len)),
            about("prompt tokens a request", self.prompt_tokens),
            about("output tokens a request", self.output_tokens),
            text("simulated", target.map(|target| yes_or_no(target.simulated))),
        ];
        if let Some(task) = &self.task {
            facts.push(text("task", Some(task.clone())));
        }
        facts
    }

    fn limiting(&self) -> Vec<Fact> {
        let text = |name, known| text(Weight::Limits, name, known);
        let set = |of: fn(&Settings) -> String| self.settings.map(of);
        let host = self.host.map(|host| format!("{}, {} cores", host.kernel, host.cores));
        vec![
            text("request rate", set(request_rate)),
            text("burstiness", set(|settings| or(settings.burstiness, "constant"))),
            text("concurrency limit", set(|settings| or_none(settings.max_concurrency))),
            text("requests", set(|settings| settings.num_prompts.to_string())),
            text("time limit, s", set(|settings| or_none(settings.max_duration_s))),
            text("seed", set(|settings| settings.seed.to_string())),
            text("salt in front of prompts", set(|settings| yes_or_no(settings.salt.is_some()))),
            text("warm-ups", set(|settings| settings.num_warmups.to_string())),
            text("end of sequence ignored", set(|settings| yes_or_no(settings.ignore_eos))),
            text("objectives of goodput", set(objectives)),
            text("API", self.target.map(|target| target.backend.clone())),
            text("HTTP proxy on the way", self.target.map(|target| or_none(target.http_proxy.clone()))),
            text("prompts counted by", self.dataset.map(|dataset| dataset.token_counter.clone())),
            text("came to its end", self.state.map(|state| yes_or_no(state == State::Complete))),
            text("client's machine", host),
            text("time stamps", self.stamps.map(stamps)),
            text("pdbench", self.version.map(str::to_owned)),
        ]
    }

    fn compared(&self) -> Vec<Fact> {
        let text = |name: &str, known| text(Weight::Compared, name, known);
        let mut facts = vec![text("target", self.target.map(|target| target.base_url.clone()))];
        if let Some(topology) = self.target.and_then(|target| target.topology.clone()) {
            facts.push(text("topology", Some(topology)));
        }
        // These three stand above already.
        let known = |name: &str| ["topology", "model", "seed"].contains(&name);
        for (name, value) in self.simulator.into_iter().flatten().filter(|(name, _)| !known(name)) {
            facts.push(text(&format!("simulator: {name}"), Some(plain_value(value))));
        }
        facts
    }
}

/// A setting that is a word.
pub(super) fn text(weight: Weight, name: &str, known: Option<String>) -> Fact {
    Fact { name: name.to_owned(), weight, known: known.map(Known::Text) }
}

impl Known {
    /// Whether two runs have the same.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Known::About(one), Known::About(two)) => (one - two).abs() <= ALIKE * one.abs().max(two.abs()),
            _ => self == other,
        }
    }

    /// It in words.
    pub fn words(&self) -> String {
        match self {
            Known::Text(text) => text.clone(),
            Known::About(number) => format!("{number:.1}"),
        }
    }
}

impl Weight {
    /// The word that reports use.
    pub fn word(self) -> &'static str {
        match self {
            Weight::Void => "void",
            Weight::Limits => "limits",
            Weight::Compared => "compared",
        }
    }
}

fn task(facts: &AccuracyFacts) -> String {
    let name = facts.task.get("task").map_or(String::new(), plain_value);
    format!("{name}, {} examples, {} questions as {}", facts.num_fewshot, facts.questions, facts.form)
}

fn request_rate(settings: &Settings) -> String {
    match &settings.ramp_up {
        Some(ramp) => format!("{} from {} to {}", ramp.strategy, ramp.start_rps, ramp.end_rps),
        None => or(settings.request_rate, "inf"),
    }
}

fn objectives(settings: &Settings) -> String {
    let limits: Vec<String> = settings.slo.0.iter().map(|(key, limit)| format!("{key}:{limit}")).collect();
    if limits.is_empty() { "none".to_owned() } else { limits.join(" ") }
}

fn stamps(stamps: Stamps) -> String {
    match stamps {
        Stamps::Kernel => "kernel",
        Stamps::User => "user",
    }
    .to_owned()
}

fn plain_value(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn or(value: Option<impl ToString>, otherwise: &str) -> String {
    value.map_or(otherwise.to_owned(), |value| value.to_string())
}

fn or_none(value: Option<impl ToString>) -> String {
    or(value, "none")
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}
