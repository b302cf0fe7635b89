use super::super::Reported;
use super::super::fold::has;
use super::super::text::bare;
use crate::measure::{Distribution, METRICS};

/// The block that `vllm bench serve` prints, byte for byte with its trailing spaces: scripts read it.
/// Python's `"{:<40} {:<10}"` and `"{s:{c}^{n}}"`; a missing value is vLLM's 0.
pub fn vllm_block(reported: &Reported<'_>) -> String {
    let settings = &reported.run.manifest.settings;
    let mut block = format!("{:=^50}\n", " Serving Benchmark Result ");
    block += &totals(reported);
    for metric in METRICS {
        let Some(names) = metric.vllm else { continue };
        let asked = settings.percentile_metrics.iter().any(|key| key == names.key);
        if !asked || !has(names.needs, settings) {
            continue;
        }
        block += &format!("{:-^50}\n", names.heading);
        let none = Distribution::default();
        let distribution = reported.summary.vllm.distribution(metric.key).unwrap_or(&none);
        let unit = metric.unit.word();
        block += &decimal(&format!("Mean {} ({unit}):", names.label), distribution.mean);
        block += &decimal(&format!("Median {} ({unit}):", names.label), distribution.median);
        for &p in &settings.percentiles {
            let value = distribution.value(p);
            block += &decimal(&format!("P{} {} ({unit}):", bare(p), names.label), value);
        }
    }
    block + &"=".repeat(50) + "\n"
}

fn totals(reported: &Reported<'_>) -> String {
    let settings = &reported.run.manifest.settings;
    let (summary, view) = (reported.summary, &reported.summary.vllm);
    let mut lines = whole("Successful requests:", summary.counts.ok);
    lines += &whole("Failed requests:", summary.counts.failed);
    if let Some(limit) = settings.max_concurrency {
        lines += &whole("Maximum request concurrency:", limit);
    }
    if settings.request_rate.is_some() {
        lines += &decimal("Request rate configured (RPS):", settings.request_rate);
    }
    lines += &decimal("Benchmark duration (s):", view.duration_s);
    lines += &whole("Total input tokens:", summary.tokens.input);
    lines += &whole("Total generated tokens:", summary.tokens.output);
    lines += &decimal("Request throughput (req/s):", view.request_throughput_per_s);
    if !settings.slo.is_empty() {
        lines += &decimal("Request goodput (req/s):", view.request_goodput_per_s);
    }
    lines += &decimal("Output token throughput (tok/s):", view.output_throughput_per_s);
    lines += &decimal("Peak output token throughput (tok/s):", view.max_output_tokens_per_s);
    lines += &decimal("Peak concurrent requests:", view.max_concurrent_requests);
    lines + &decimal("Total token throughput (tok/s):", view.total_token_throughput_per_s)
}

fn whole(label: &str, value: impl std::fmt::Display) -> String {
    format!("{label:<40} {:<10}\n", value.to_string())
}

fn decimal(label: &str, value: Option<f64>) -> String {
    format!("{label:<40} {:<10.2}\n", value.unwrap_or(0.0))
}
