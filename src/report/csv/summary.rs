use super::super::Reported;
use super::super::fold::throughputs;
use super::super::text::bare;
use super::{csv_bytes, number_cell, text_cell};
use crate::measure::{Definition, Distribution, METRICS, Metric};

/// A row: definition, metric, unit, statistic, value, count.
pub(super) type Row = [String; 6];

/// Every number of the summary in a row of its own. The first row is the verdict.
pub fn summary_csv(reported: &Reported<'_>) -> Vec<u8> {
    let head = ["definition", "metric", "unit", "statistic", "value", "count"].map(str::to_owned);
    let mut rows = vec![verdict(reported)];
    rows.extend(
        reported
            .summary
            .validity
            .reasons
            .iter()
            .map(|reason| ["", "validity", "", "reason", &text_cell(&reason.what()), ""].map(str::to_owned)),
    );
    let simulated = reported.run.manifest.target.simulated.to_string();
    rows.push(["", "target", "", "simulated", &simulated, ""].map(str::to_owned));
    rows.extend(counts(reported));
    for definition in [Definition::Strict, Definition::Vllm] {
        rows.extend(view(reported, definition));
    }
    rows.extend(steady(reported));
    rows.extend(proxy_cost(reported));
    rows.extend(super::accuracy::accuracy(reported));
    rows.extend(lateness(reported));
    csv_bytes(&head, rows.into_iter().map(Vec::from))
}

fn verdict(reported: &Reported<'_>) -> Row {
    let word = if reported.summary.validity.valid { "VALID" } else { "INVALID" };
    ["", "validity", "", "verdict", word, ""].map(str::to_owned)
}

/// A row for a value that exists; none for one that does not.
pub(super) fn row(place: [&str; 4], value: Option<f64>, count: Option<usize>) -> Option<Row> {
    let [definition, metric, unit, statistic] = place.map(str::to_owned);
    let value = number_cell(Some(value.filter(|value| value.is_finite())?), 6);
    let value = value.trim_end_matches('0').trim_end_matches('.').to_owned();
    Some([definition, metric, unit, statistic, value, super::cell(count)])
}

fn counts(reported: &Reported<'_>) -> Vec<Row> {
    let summary = reported.summary;
    let counts = &summary.counts;
    let whole = [
        ("planned", counts.planned),
        ("sent", counts.sent),
        ("not_sent", counts.not_sent),
        ("ok", counts.ok),
        ("failed", counts.failed),
        ("cancelled", counts.cancelled),
    ];
    let outcomes = counts.by_outcome.iter().map(|(outcome, n)| ("outcome", outcome.word(), *n as f64));
    let rates = [
        ("offered", summary.rates.offered_per_s),
        ("admitted", summary.rates.admitted_per_s),
        ("sent", summary.rates.sent_per_s),
        ("achieved", summary.rates.achieved_per_s),
    ];
    let tokens = [
        ("input", Some(summary.tokens.input as f64)),
        ("output", Some(summary.tokens.output as f64)),
        ("cached", summary.tokens.cached.map(|n| n as f64)),
        ("handed_over", summary.tokens.handed_over.map(|n| n as f64)),
        ("per_event", summary.tokens.per_event),
        ("coalesced_share", summary.tokens.coalesced_share),
    ];
    let whole = whole.map(|(name, n)| ("requests", name, n as f64)).into_iter().chain(outcomes);
    let whole = whole.filter_map(|(metric, name, n)| row(["", metric, "", name], Some(n), None));
    let rates = rates.into_iter().filter_map(|(name, rate)| row(["", "rate", "per_s", name], rate, None));
    let tokens = tokens.into_iter().filter_map(|(name, n)| row(["", "tokens", "", name], n, None));
    whole.chain(rates).chain(tokens).collect()
}

fn view(reported: &Reported<'_>, definition: Definition) -> Vec<Row> {
    let view = reported.summary.view(definition);
    let throughputs = throughputs(view).into_iter();
    let mut rows: Vec<Row> = throughputs
        .filter_map(|(name, unit, value)| row([definition.word(), name, unit, "value"], value, None))
        .collect();
    for metric in METRICS {
        if let Some(distribution) = view.distribution(metric.key) {
            rows.extend(statistics(definition.word(), metric, distribution));
        }
    }
    rows
}

/// What the proxy costs, under a definition of its own.
fn proxy_cost(reported: &Reported<'_>) -> Vec<Row> {
    let Some(cost) = &reported.summary.proxy_cost else { return Vec::new() };
    let added = cost.added.iter().flat_map(|added| {
        let p = bare(added.p);
        let figures = [
            (format!("p{p}_through"), Some(added.through_ms)),
            (format!("p{p}_direct"), Some(added.direct_ms)),
            (format!("p{p}_added"), Some(added.added_ms)),
            (format!("p{p}_added_plus_minus"), added.plus_minus_ms),
        ];
        figures.into_iter().filter_map(|(name, value)| {
            row(["proxy_cost", &added.metric, "ms", &name], value, Some(cost.through.min(cost.direct)))
        })
    });
    let cpu = row(["proxy_cost", "cpu", "ms", "per_request"], cost.cpu_ms_per_request, Some(cost.through));
    added.chain(cpu).collect()
}

/// The settled part of the run, under a definition of its own.
fn steady(reported: &Reported<'_>) -> Vec<Row> {
    let Some(steady) = &reported.summary.steady else { return Vec::new() };
    let figures = [
        ("from_s", "s", steady.from_s),
        ("to_s", "s", steady.to_s),
        ("requests", "", steady.requests as f64),
        ("request_throughput_per_s", "per_s", steady.request_throughput_per_s),
        ("output_throughput_per_s", "per_s", steady.output_throughput_per_s),
    ];
    let figures = figures
        .into_iter()
        .filter_map(|(metric, unit, value)| row(["steady", metric, unit, "value"], Some(value), None));
    let metrics = METRICS.iter().filter_map(|metric| Some((metric, steady.distribution(metric.key)?)));
    figures.chain(metrics.flat_map(|(metric, values)| statistics("steady", metric, values))).collect()
}

fn statistics(definition: &str, metric: &Metric, values: &Distribution) -> Vec<Row> {
    let mut named = vec![
        ("mean".to_owned(), values.mean),
        ("std".to_owned(), values.std),
        ("min".to_owned(), values.min),
        ("median".to_owned(), values.median),
    ];
    for percentile in &values.percentiles {
        let name = format!("p{}", bare(percentile.p));
        let (low, high) = percentile.interval.unzip();
        named.push((name.clone(), percentile.value));
        named.push((format!("{name}_low"), low));
        named.push((format!("{name}_high"), high));
        named.push((format!("{name}_needs_count"), Some(percentile.needs as f64)));
    }
    named.push(("max".to_owned(), values.max));
    let place = |name| [definition, metric.key, metric.unit.word(), name];
    named.iter().filter_map(|(name, value)| row(place(name), *value, Some(values.count))).collect()
}

fn lateness(reported: &Reported<'_>) -> Vec<Row> {
    let lateness = &reported.summary.lateness;
    let table = [
        ("requests", "above_1_ms", Some(lateness.above_1_ms as f64)),
        ("requests", "above_10_ms", Some(lateness.above_10_ms as f64)),
        ("requests", "above_100_ms", Some(lateness.above_100_ms as f64)),
        ("ms", "worst_10_s_mean", lateness.worst_10_s_mean_ms),
        ("ms", "burst_spread", lateness.burst_spread_ms),
        ("requests", "burst_size", Some(lateness.burst_size as f64)),
    ];
    table
        .into_iter()
        .filter_map(|(unit, name, value)| row(["", "lateness", unit, name], value, None))
        .collect()
}
