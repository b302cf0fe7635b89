//! What a run was, written down before it starts.

use super::secrets::redacted;
use super::{DatasetPlan, ServePlan, Surroundings, TargetPlan};
use crate::measure::{
    DatasetFacts, Manifest, Offset, RampUp, RequestRecord, SCHEMA, Settings, Stamps, State, TargetFacts,
};
use crate::wire::{HttpProxy, Target, Tls};
use crate::workload::{ArrivalProcess, Burstiness, OutputLen};
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
    pub(super) verb: &'static str,
    pub(super) run_id: String,
    pub(super) started: &'a Zoned,
    pub(super) target: &'a Target,
    pub(super) addresses: &'a [SocketAddr],
    /// It is a simulator of ours.
    pub(super) simulated: bool,
    pub(super) model: String,
    pub(super) model_id: Option<String>,
    pub(super) salt: Option<String>,
    pub(super) dataset: DatasetFacts,
    pub(super) num_prompts: usize,
    pub(super) stamps: Stamps,
}

/// The manifest of a `serve` run that is about to start.
pub(super) fn manifest(known: Known<'_>, world: &Surroundings) -> Manifest {
    let started = known.started;
    Manifest {
        schema: SCHEMA,
        run_id: known.run_id.clone(),
        verb: known.verb.to_owned(),
        state: State::Running,
        interrupted_by: None,
        broken: Vec::new(),
        command_line: redacted(&world.arguments),
        settings: Settings { salt: known.salt.clone(), ..settings(known.plan, known.num_prompts) },
        version: world.version.clone(),
        host: world.host.clone(),
        started: started.strftime("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string(),
        started_unix_us: u64::try_from(started.timestamp().as_microsecond()).unwrap_or(0),
        main_start: Offset::default(),
        main_end: None,
        target: target_facts(&known),
        nodes: known.plan.nodes.clone(),
        repeat: None,
        accuracy: None,
        check: None,
        stamps: known.stamps,
        comparison: None,
        simulator: match &known.plan.target {
            TargetPlan::Embedded(sim) => Some(sim.config.to_map()),
            TargetPlan::Remote(_) => None,
        },
        dataset: known.dataset,
        sent_before: Vec::new(),
        ticker: None,
        in_flight: None,
    }
}

fn target_facts(known: &Known<'_>) -> TargetFacts {
    let topology = match &known.plan.target {
        TargetPlan::Embedded(sim) => Some(sim.config.topology.to_string()),
        TargetPlan::Remote(_) => None,
    };
    let embedded = topology.is_some();
    TargetFacts {
        base_url: if embedded { "embedded".to_owned() } else { known.target.base_url() },
        endpoint: known.plan.path.clone(),
        backend: known.plan.backend.clone(),
        model: known.model.clone(),
        model_id: known.model_id.clone(),
        addresses: match embedded {
            true => Vec::new(),
            false => known.addresses.iter().map(ToString::to_string).collect(),
        },
        http_proxy: known.target.http_proxy().map(HttpProxy::url),
        tls_verified: known.target.tls().map(Tls::verified),
        simulated: known.simulated,
        topology,
    }
}

fn settings(plan: &ServePlan, num_prompts: usize) -> Settings {
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
        DatasetPlan::Questions { max_tokens } => (None, Some(*max_tokens), None),
        DatasetPlan::Custom { custom, .. } => match custom.output_len {
            OutputLen::Fixed(len) => (None, Some(len.get()), None),
            OutputLen::PerLineOrDefault | OutputLen::PerLine => (None, None, None),
        },
    };
    Settings {
        num_prompts,
        request_rate: plan.arrivals.rate(),
        ramp_up: match plan.arrivals {
            ArrivalProcess::Ramp(ramp) => Some(RampUp {
                strategy: ramp.shape().word().to_owned(),
                start_rps: ramp.start(),
                end_rps: ramp.end(),
            }),
            _ => None,
        },
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
        strict_osl: plan.strict_osl,
        label: plan.label.clone(),
        metadata: plan.metadata.clone(),
        salt: None,
        vllm_result: plan.result.as_ref().map(|result| result.detail),
    }
}

/// The span of a main load whose end was never told, from its records.
pub(super) fn recover_span(manifest: &mut Manifest, records: &[RequestRecord]) {
    let main = || records.iter().filter(|record| record.is_main());
    manifest.main_start = main().filter_map(|record| record.sent).min().unwrap_or_default();
    manifest.main_end = main().map(|record| record.finished).max();
}

/// Says in the manifest whose stamps the records have: one of our own in one place is one to know of.
pub(super) fn who_stamped(manifest: &mut Manifest, records: &[RequestRecord]) {
    if records.iter().any(|record| record.is_main() && record.stamps == Stamps::User) {
        manifest.stamps = Stamps::User;
    }
}
