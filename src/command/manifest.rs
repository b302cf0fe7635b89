//! What a run was, written down before it starts.

use super::{DatasetPlan, ServePlan, Surroundings, TargetPlan};
use crate::load::Prepared;
use crate::measure::{DatasetFacts, Manifest, Offset, SCHEMA, Settings, Stamps, State, TargetFacts};
use crate::wire::Target;
use crate::workload::{Burstiness, OutputLen};
use jiff::Zoned;
use std::net::SocketAddr;
use std::num::NonZeroU32;

/// The run's name: when it started, what it did, and a suffix of its own.
pub(super) fn run_id(verb: &str, started: &Zoned, suffix: &str) -> String {
    format!("{}-{verb}-{suffix}", started.strftime("%Y%m%d-%H%M%S"))
}

/// What is known about a `serve` run when its load begins.
pub(super) struct Known<'a> {
    pub(super) plan: &'a ServePlan,
    pub(super) run_id: String,
    pub(super) started: &'a Zoned,
    pub(super) target: &'a Target,
    pub(super) addresses: &'a [SocketAddr],
    /// It is a simulator of ours.
    pub(super) simulated: bool,
    pub(super) model: String,
    pub(super) dataset: DatasetFacts,
    pub(super) requests: &'a [Prepared],
    pub(super) stamps: Stamps,
}

/// The manifest of a `serve` run that is about to start.
pub(super) fn manifest(known: Known<'_>, world: &Surroundings) -> Manifest {
    let started = known.started;
    Manifest {
        schema: SCHEMA,
        run_id: known.run_id.clone(),
        verb: "serve".to_owned(),
        state: State::Running,
        interrupted_by: None,
        command_line: redacted(&world.arguments),
        settings: settings(known.plan, known.requests),
        version: world.version.clone(),
        host: world.host.clone(),
        started: started.strftime("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string(),
        started_unix_us: u64::try_from(started.timestamp().as_microsecond()).unwrap_or(0),
        main_start: Offset::default(),
        main_end: None,
        target: target_facts(&known),
        stamps: known.stamps,
        simulator: match &known.plan.target {
            TargetPlan::Embedded(config) => Some(config.to_map()),
            TargetPlan::Remote(_) => None,
        },
        dataset: known.dataset,
        ticker: None,
        in_flight: None,
    }
}

fn target_facts(known: &Known<'_>) -> TargetFacts {
    let topology = match &known.plan.target {
        TargetPlan::Embedded(config) => Some(config.topology.to_string()),
        TargetPlan::Remote(_) => None,
    };
    let embedded = topology.is_some();
    TargetFacts {
        base_url: if embedded { "embedded".to_owned() } else { known.target.base_url() },
        endpoint: known.plan.path.clone(),
        backend: known.plan.backend.clone(),
        model: known.model.clone(),
        addresses: match embedded {
            true => Vec::new(),
            false => known.addresses.iter().map(ToString::to_string).collect(),
        },
        simulated: known.simulated,
        topology,
    }
}

fn settings(plan: &ServePlan, requests: &[Prepared]) -> Settings {
    let burstiness = match plan.burstiness {
        Burstiness::Shape(shape) => Some(shape),
        Burstiness::Constant => None,
    };
    let (input_len, output_len, prefix_len) = match &plan.dataset {
        DatasetPlan::Sonnet { sonnet, .. } => {
            (Some(sonnet.input_len), Some(sonnet.output_len), Some(sonnet.prefix_len))
        }
        DatasetPlan::Random(random) => {
            (Some(random.input_len), Some(random.output_len), Some(random.prefix_len))
        }
        DatasetPlan::ShareGpt { sharegpt, .. } => (None, sharegpt.output_len.map(NonZeroU32::get), None),
        DatasetPlan::Custom { custom, .. } => match custom.output_len {
            OutputLen::Fixed(len) => (None, Some(len.get()), None),
            OutputLen::PerLineOrDefault | OutputLen::PerLine => (None, None, None),
        },
    };
    Settings {
        num_prompts: requests.len(),
        request_rate: plan.arrivals.rate(),
        burstiness,
        max_concurrency: plan.max_concurrency,
        max_duration_s: plan.max_duration.map(|most| most.as_secs_f64()),
        seed: u64::from(plan.seed),
        num_warmups: plan.num_warmups,
        input_len,
        output_len,
        prefix_len,
        ignore_eos: plan.ignore_eos,
        percentiles: plan.percentiles.clone(),
        percentile_metrics: plan.percentile_metrics.clone(),
        slo: plan.slo.clone(),
        max_error_rate: plan.max_error_rate,
        label: plan.label.clone(),
    }
}

/// Headers whose values may be shown.
const OPEN_HEADERS: [&str; 4] = ["accept", "content-type", "user-agent", "x-request-id"];

/// A command line without the values that may be secret: headers off a short list, keys of the body that look
/// like secrets, credentials in URLs.
fn redacted(arguments: &[String]) -> Vec<String> {
    let mut shown = Vec::with_capacity(arguments.len());
    let mut flag = String::new();
    for argument in arguments {
        let (name, value, joined) = match argument.split_once('=').filter(|_| argument.starts_with("--")) {
            Some((name, value)) => (name.replace('_', "-"), value, true),
            None if argument.starts_with("--") => {
                flag = argument.replace('_', "-");
                shown.push(argument.clone());
                continue;
            }
            None => (flag.clone(), argument.as_str(), false),
        };
        let value = redact_value(&name, value);
        shown.push(if joined { format!("{}={value}", &argument[..name.len()]) } else { value });
    }
    shown
}

fn redact_value(flag: &str, value: &str) -> String {
    match flag {
        "--header" => match value.split_once('=') {
            Some((name, _)) if OPEN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) => value.to_owned(),
            Some((name, _)) => format!("{name}=[redacted]"),
            None => "[redacted]".to_owned(),
        },
        "--extra-body" => match serde_json::from_str::<serde_json::Value>(value) {
            Ok(mut body) => {
                redact_json(&mut body);
                body.to_string()
            }
            Err(_) => "[redacted]".to_owned(),
        },
        _ => match (value.split_once("://"), value.rfind('@')) {
            (Some((scheme, rest)), Some(_)) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                match rest[..end].rfind('@') {
                    Some(at) => format!("{scheme}://[redacted]@{}", &rest[at + 1..]),
                    None => value.to_owned(),
                }
            }
            _ => value.to_owned(),
        },
    }
}

fn redact_json(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                let key = key.to_ascii_lowercase();
                if ["key", "token", "secret", "auth", "cookie"].iter().any(|word| key.contains(word))
                    && !value.is_number()
                {
                    *value = "[redacted]".into();
                } else {
                    redact_json(value);
                }
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(redact_json),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_command_line_holds_no_secret() {
        let typed = [
            "pdbench",
            "serve",
            "--base-url",
            "http://user:hunter2@host:1/x@y",
            "--header",
            "X-Api-Key=hunter2",
            "x-tenant=hunter2",
            "user-agent=me",
            "--extra_body={\"a\":{\"auth_token\":\"hunter2\"},\"max_tokens\":4}",
            "--label",
            "a@b",
        ];
        let shown = redacted(&typed.map(str::to_owned)).join(" ");
        assert!(!shown.contains("hunter2"), "{shown}");
        for kept in ["user-agent=me", "X-Api-Key=", "host:1/x@y", "\"max_tokens\":4", "a@b"] {
            assert!(shown.contains(kept), "{kept}: {shown}");
        }
    }
}
