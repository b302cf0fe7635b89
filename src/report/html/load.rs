use super::super::Reported;
use super::super::fold::{added_words, objectives, proxy_words, steady_words, token_words};
use super::super::text::{bare, fixed, number};
use super::Section;
use super::markup::{Align, Html, note, pairs, table};
use crate::measure::Metric;

/// What was offered, let through and achieved, and what came out per second.
pub(super) fn throughput(reported: &Reported<'_>) -> Option<Section> {
    let (summary, view) = (reported.summary, &reported.summary.strict);
    let per_second = |value: Option<f64>, unit: &str| Html::of(&format!("{} {unit}", number(value)));
    let offered = summary.rates.offered_per_s;
    let mut rows = vec![
        (
            "Offered",
            if offered.is_some() { per_second(offered, "req/s") } else { Html::of("all at once (inf)") },
        ),
        ("Admitted", per_second(summary.rates.admitted_per_s, "req/s")),
        ("Sent", per_second(summary.rates.sent_per_s, "req/s")),
        ("Achieved", per_second(summary.rates.achieved_per_s, "req/s")),
        ("Request throughput", per_second(view.request_throughput_per_s, "req/s")),
    ];
    if let Some(objectives) = objectives(&reported.run.manifest.settings) {
        let goodput = number(view.request_goodput_per_s);
        rows.push(("Goodput", Html::of(&format!("{goodput} req/s with {objectives}"))));
    }
    rows.extend([
        ("Output throughput", per_second(view.output_throughput_per_s, "tok/s")),
        ("With the prompts", per_second(view.total_token_throughput_per_s, "tok/s")),
        ("Peak output", per_second(view.max_output_tokens_per_s, "tok/s in one second")),
        ("Peak in flight", Html::of(&format!("{} requests", fixed(view.max_concurrent_requests, 0)))),
        ("Measured over", per_second(view.duration_s, "s, from the first send to the last token")),
        ("Tokens", Html::of(&token_words(reported))),
    ]);
    if let Some(steady) = &summary.steady {
        rows.push(("Steady state", Html::of(&steady_words(steady))));
    }
    let mut body = note(
        "Offered: by the schedule. Admitted: what the concurrency limit let through. Achieved: by completions. \
         Throughput counts ok requests only.",
    );
    body.add(pairs(rows));
    Some(Section { id: "throughput", title: "Throughput and rates", body })
}

/// What the proxy costs, where half of the load went past it.
pub(super) fn proxy_cost(reported: &Reported<'_>) -> Option<Section> {
    let cost = reported.summary.proxy_cost.as_ref()?;
    let head = [
        ("Latency", Align::Left),
        ("through", Align::Right),
        ("direct", Align::Right),
        ("added", Align::Right),
    ];
    let head = head.map(|(name, align)| (name.to_owned(), align));
    let lines = cost.added.iter().map(|added| {
        let name = Metric::find(&added.metric).map_or("", |metric| metric.short);
        let figures = [added.through_ms, added.direct_ms].map(|ms| Html::of(&fixed(Some(ms), 3)));
        let mut cells = vec![Html::of(&format!("{name}, ms, p{}", bare(added.p)))];
        cells.extend(figures);
        cells.push(Html::of(&added_words(added)));
        cells
    });
    let mut body = note(&proxy_words(cost));
    body.add(table(&head, lines.collect()));
    Some(Section { id: "proxy", title: "What the proxy costs", body })
}
