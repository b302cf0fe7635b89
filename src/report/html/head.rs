use super::super::Reported;
use super::super::accuracy::interval_words;
use super::super::fold::{bill, differing_twin, interruption, is_latency, verdict};
use super::super::text::{bare, count, fixed, number, plain};
use super::markup::Html;
use crate::measure::check::{CheckResult, Verdict};
use crate::measure::{AccuracyResult, Counts, Distribution, METRICS, Metric, Per};

/// What was measured, where and when.
pub(super) fn masthead(reported: &Reported<'_>) -> Html {
    let manifest = &reported.run.manifest;
    let target = &manifest.target;
    let mut html = Html::new();
    html.raw("<p class=\"eyebrow\"><span>pdbench ").text(&plain(&manifest.verb)).raw("</span>");
    if let Some(label) = &manifest.settings.label {
        html.raw(" · ").text(&plain(label));
    }
    html.raw("</p>\n<h1>").text(&plain(&target.model)).raw("</h1>\n<p class=\"where\">");
    html.text(&plain(&format!("{} {}", target.base_url, target.endpoint)));
    if let Some(topology) = &target.topology {
        html.raw(" · ").text(&plain(topology));
    }
    html.raw(" · ")
        .text(&plain(&moment(&manifest.started)))
        .raw(" · ")
        .text(&plain(&manifest.run_id))
        .raw("</p>\n");
    html
}

/// An RFC 3339 instant for people: without fractions of a second, `UTC` for `Z`.
fn moment(instant: &str) -> String {
    let (seconds, rest) = instant.split_once('.').unwrap_or((instant.trim_end_matches('Z'), "Z"));
    let zone = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    format!("{} {}", seconds.replacen('T', " ", 1), if zone == "Z" { "UTC" } else { zone })
}

/// The verdict, with every reason against the run and what to do about it.
pub(super) fn banner(reported: &Reported<'_>) -> Html {
    let word = verdict(reported);
    let mut html = Html::new();
    html.raw(if word == "VALID" {
        "<div class=\"verdict valid\">\n"
    } else {
        "<div class=\"verdict invalid\">\n"
    });
    html.raw("<p class=\"word\"><strong>").text(if word == "VALID" { "✓ " } else { "✕ " }).text(word);
    html.raw("</strong> <span>").text(&bill(reported)).raw("</span></p>\n");
    if let Some(words) = interruption(reported) {
        html.add(Html::of(&words).within("<p class=\"simulated\">", "</p>\n"));
    }
    let reasons = &reported.summary.validity.reasons;
    if !reasons.is_empty() {
        html.raw("<ul>\n");
        for reason in reasons {
            html.raw("<li><b>")
                .text(&plain(&reason.what()))
                .raw("</b>")
                .text(reason.what_to_do())
                .raw("</li>\n");
        }
        html.raw("</ul>\n");
    }
    if reported.run.manifest.target.simulated {
        html.raw("<p class=\"simulated\"><span class=\"badge\">SIMULATED</span> ")
            .raw("The answers came from a simulator. This page states nothing about real hardware.</p>\n");
    }
    html.raw("</div>\n");
    html
}

/// The few numbers that a reader looks for first.
pub(super) fn cards(reported: &Reported<'_>) -> Html {
    let (counts, view) = (&reported.summary.counts, &reported.summary.strict);
    let mut html = Html::new();
    html.raw("<div class=\"cards\">\n");
    if let Some(result) = &reported.run.accuracy {
        html.add(score_cards(reported, result));
    }
    if let Some(check) = &reported.summary.check {
        return check_cards(check, counts);
    }
    for metric in METRICS.iter().filter(|metric| is_latency(metric) && metric.per == Per::Request) {
        let Some(values) = view.distribution(metric.key) else { continue };
        if reported.run.accuracy.is_some() && values.count == 0 {
            continue;
        }
        let mut more = tail(metric, values);
        if let Some((_, due)) = differing_twin(view, metric) {
            more += &format!(" · from schedule p50 {}", number(due.median));
        }
        let name = format!("{} p50", metric.short);
        html.add(card(&name, &number(values.median), metric.unit.word(), &more));
    }
    let more = format!("{} with the prompts", number(view.total_token_throughput_per_s));
    html.add(card("Output tokens", &number(view.output_throughput_per_s), "tok/s", &more));
    let more = match view.request_goodput_per_s {
        Some(goodput) => format!("{} meet all objectives", number(Some(goodput))),
        None => format!("over {} s", number(view.duration_s)),
    };
    html.add(card("Throughput", &number(view.request_throughput_per_s), "req/s", &more));
    let mut more = format!("{} failed", count(counts.failed as u64));
    if 0 < counts.cancelled {
        more += &format!(" · {} cut by the end", count(counts.cancelled as u64));
    }
    html.add(card(
        "Requests ok",
        &count(counts.ok as u64),
        &format!("of {}", count(counts.sent as u64)),
        &more,
    ));
    html.raw("</div>\n");
    html
}

/// How much of a check went well.
fn check_cards(check: &CheckResult, counts: &Counts) -> Html {
    let mut html = Html::new();
    html.raw("<div class=\"cards\">\n");
    let steps = |verdict| check.steps.iter().filter(|step| step.verdict == verdict).count();
    let more = format!("{} wrong · {} not told", steps(Verdict::Wrong), steps(Verdict::NotTold));
    html.add(card("Steps ok", &steps(Verdict::Ok).to_string(), &format!("of {}", check.steps.len()), &more));
    let pairs = |verdict| check.pairs.iter().filter(|pair| pair.verdict == verdict).count();
    let more = format!("{} wrong · {} not told", pairs(Verdict::Wrong), pairs(Verdict::NotTold));
    html.add(card(
        "Pairs that work",
        &pairs(Verdict::Ok).to_string(),
        &format!("of {}", check.pairs.len()),
        &more,
    ));
    let more = format!("{} failed", count(counts.failed as u64));
    html.add(card(
        "Requests ok",
        &count(counts.ok as u64),
        &format!("of {}", count(counts.sent as u64)),
        &more,
    ));
    html.raw("</div>\n");
    html
}

/// What the arms scored, each by its best reading.
fn score_cards(reported: &Reported<'_>, result: &AccuracyResult) -> Html {
    let mut html = Html::new();
    for (index, arm) in result.arms.iter().enumerate() {
        let name = reported.run.manifest.accuracy.as_ref().map(|facts| facts.arm_name(index));
        let Some(at) = arm.best_read() else { continue };
        let (score, filter) = (&arm.scores[at], result.filters.get(at).map_or("", |name| name));
        let much = fixed(score.mean.map(|mean| 100.0 * mean), 2);
        let more = format!("{} · {}", interval_words(score.interval), plain(filter));
        html.add(card(&plain(&name.unwrap_or_default()), &much, "% right", &more));
    }
    html
}

/// The highest percentile that has enough values, or else the maximum.
fn tail(metric: &Metric, values: &Distribution) -> String {
    let unit = metric.unit.word();
    let known = values
        .percentiles
        .iter()
        .rev()
        .find(|percentile| 50.0 < percentile.p && percentile.enough(values.count));
    match known {
        Some(percentile) => format!("p{} {} {unit}", bare(percentile.p), number(percentile.value)),
        None => format!("max {} {unit} of {}", number(values.max), fixed(Some(values.count as f64), 0)),
    }
}

fn card(what: &str, much: &str, unit: &str, more: &str) -> Html {
    let mut html = Html::new();
    html.raw("<div><span class=\"what\">").text(what).raw("</span><span class=\"much\">").text(much);
    html.raw(" <small>")
        .text(unit)
        .raw("</small></span><span class=\"more\">")
        .text(more)
        .raw("</span></div>\n");
    html
}
