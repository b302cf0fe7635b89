//! A run of pdbench as a comparison takes it.

use super::facts::Told;
use super::quantity::{GOOD, OUTPUT, Quantity, REQUESTS, TOTAL};
use super::within::rate_interval;
use super::{ComparedRun, Interval, Standing, TooFew};
use crate::measure::{
    Definition, METRICS, Metric, RequestRecord, Run, State, Summary, View, VllmNeeds, Warning,
};

impl ComparedRun {
    /// From a run and its summary; without records, no number has an interval.
    pub fn of_run(name: &str, run: &Run, summary: &Summary) -> Self {
        let manifest = &run.manifest;
        let per_ok = |tokens: u64| (0 < summary.counts.ok).then(|| tokens as f64 / summary.counts.ok as f64);
        let told = Told {
            prompt_tokens: per_ok(summary.tokens.input),
            output_tokens: per_ok(summary.tokens.output),
            ..Told::by(manifest)
        };
        let mut quantities = vec![Quantity::failure_share(summary.counts.ok, Some(summary.counts.failed))];
        let mut too_few = Vec::new();
        for definition in [Definition::Strict, Definition::Vllm] {
            quantities.extend(throughputs(run, summary.view(definition), definition));
            let (latencies, few) = latencies(run, summary.view(definition), definition);
            quantities.extend(latencies);
            too_few.extend(few.into_iter().filter(|_| definition == Definition::Strict));
        }
        quantities.extend(summary.batches.iter().flat_map(Quantity::of_batch));
        quantities.extend(run.accuracy.iter().flat_map(Quantity::of_accuracy));
        Self {
            name: name.to_owned(),
            facts: told.facts(),
            standing: standing(run, summary),
            quantities,
            too_few,
        }
    }
}

fn standing(run: &Run, summary: &Summary) -> Standing {
    Standing {
        valid: Some(summary.validity.valid),
        reasons: summary.validity.reasons.iter().map(crate::measure::Reason::what).collect(),
        interrupted: run.manifest.state != State::Complete,
        unstable: summary.warnings.iter().any(|warning| matches!(warning, Warning::Unstable(_))),
        client: Some(summary.client.state),
        ok: summary.counts.ok,
        failed: Some(summary.counts.failed),
        simulated: run.manifest.target.simulated,
        summary_only: run.records.is_empty(),
    }
}

fn throughputs(run: &Run, view: &View, definition: Definition) -> Vec<Quantity> {
    let slo = &run.manifest.settings.slo;
    let output = |record: &RequestRecord| f64::from(record.output_tokens);
    let total = |record: &RequestRecord| f64::from(record.prompt_tokens) + output(record);
    let good = |record: &RequestRecord| if slo.met_by(record, definition) { 1.0 } else { 0.0 };
    let rate = |name, value: Option<f64>, weight: &dyn Fn(&RequestRecord) -> f64| {
        let came = || ok(run).map(|record| (came_at(record), weight(record))).collect::<Vec<_>>();
        let interval = value.and_then(|_| rate_interval(&came(), span(run, definition)?));
        Quantity::throughput(name, definition, value, interval)
    };
    vec![
        rate(REQUESTS, view.request_throughput_per_s, &|_| 1.0),
        rate(OUTPUT, view.output_throughput_per_s, &output),
        rate(TOTAL, view.total_token_throughput_per_s, &total),
        rate(GOOD, view.request_goodput_per_s, &good),
    ]
}

fn ok(run: &Run) -> impl Iterator<Item = &RequestRecord> {
    run.main().filter(|record| record.is_ok())
}

/// When an answer was there, seconds from the origin.
fn came_at(record: &RequestRecord) -> f64 {
    record.events.last().unwrap_or(record.finished).as_secs_f64()
}

/// The span that throughputs are divided by.
fn span(run: &Run, definition: Definition) -> Option<Interval> {
    let last = ok(run).map(came_at).max_by(f64::total_cmp)?;
    match definition {
        Definition::Strict => Some((ok(run).filter_map(|record| record.sent).min()?.as_secs_f64(), last)),
        Definition::Vllm => {
            let end = run.manifest.main_end.map_or(last, |end| end.as_secs_f64());
            Some((run.manifest.main_start.as_secs_f64(), end))
        }
    }
}

fn latencies(run: &Run, view: &View, definition: Definition) -> (Vec<Quantity>, Vec<TooFew>) {
    let mut sent: Vec<&RequestRecord> = run.main().collect();
    sent.sort_by_key(|record| record.sent.unwrap_or(record.scheduled));
    let (mut quantities, mut too_few) = (Vec::new(), Vec::new());
    for metric in METRICS.iter().filter(|metric| is_latency(metric)) {
        let Some(values) = view.distribution(metric.key) else { continue };
        let requests: Vec<Vec<f64>> =
            sent.iter().map(|record| metric.collect([*record], definition)).collect();
        let (of_metric, few) = Quantity::latencies(metric, definition, values, &requests);
        quantities.extend(of_metric);
        too_few.extend(few.into_iter().filter(|_| is_from_send(metric)));
    }
    (quantities, too_few)
}

/// What the server does to a request, from the send.
fn is_from_send(metric: &Metric) -> bool {
    metric.vllm.is_some_and(|names| names.needs == VllmNeeds::Nothing)
}

/// The same, from the send or from the schedule.
fn is_latency(metric: &Metric) -> bool {
    is_from_send(metric) || METRICS.iter().any(|other| other.from_schedule == Some(metric.key))
}
