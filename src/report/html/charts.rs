use super::super::Reported;
use super::super::chart::{
    BLUE, Colour, DistributionChart, GREEN, LineChart, Marker, ORANGE, PURPLE, Series,
};
use super::super::fold::{is_latency, is_twin};
use super::super::text::bare;
use super::Section;
use super::markup::{Html, note};
use crate::measure::{Bin, Definition, METRICS, Metric, Per, Percentile};

/// Percentiles that are marked in a distribution, beside the median.
const MARKED: usize = 3;

/// How the values of each latency are spread.
pub(super) fn distributions(reported: &Reported<'_>) -> Option<Section> {
    let metrics = METRICS.iter().filter(|metric| is_latency(metric) && !is_twin(metric));
    let figures: Vec<Html> = metrics.filter_map(|metric| distribution(reported, metric)).collect();
    let lead = "Strict definitions, ok requests of the main load.";
    section("distributions", "Distributions", lead, figures)
}

/// The distribution of one metric as a figure; `None` without a value.
pub(super) fn distribution(reported: &Reported<'_>, metric: &Metric) -> Option<Html> {
    let each = |sink: &mut dyn FnMut(f64)| {
        for record in reported.run.main() {
            (metric.values)(record, Definition::Strict, sink);
        }
    };
    let (caption, counted) = (format!("{} ({})", metric.name, metric.short), counted(metric));
    let markers = markers(reported, metric);
    let chart = DistributionChart {
        label: &caption,
        unit: metric.unit.word(),
        counted,
        values: &each,
        markers: &markers,
    };
    Some(figure(&caption, metric.formula, &chart.svg()?))
}

fn counted(metric: &Metric) -> &'static str {
    match metric.per {
        Per::Request => "requests",
        Per::Gap => "gaps",
    }
}

/// The median, and the highest percentiles that have enough values.
fn markers(reported: &Reported<'_>, metric: &Metric) -> Vec<Marker> {
    let Some(values) = reported.summary.strict.distribution(metric.key) else { return Vec::new() };
    let marker = |label: String, value: Option<f64>| value.map(|value| Marker { label, value });
    let enough = |percentile: &&Percentile| 50.0 < percentile.p && percentile.enough(values.count);
    let high = values.percentiles.iter().filter(enough);
    let high: Vec<_> =
        high.map(|percentile| marker(format!("p{}", bare(percentile.p)), percentile.value)).collect();
    let shown = &high[high.len().saturating_sub(MARKED)..];
    std::iter::once(marker("p50".to_owned(), values.median)).chain(shown.iter().cloned()).flatten().collect()
}

/// The run over time.
pub(super) fn course(reported: &Reported<'_>) -> Option<Section> {
    let per_second = |n: f64| Some(n / reported.timeline.bin_s);
    let series = |name, colour: Colour, value: &dyn Fn(&Bin) -> Option<f64>| {
        let middle = reported.timeline.bin_s / 2.0;
        let points = reported.timeline.bins.iter().map(|bin| (bin.start_s + middle, value(bin))).collect();
        Series { name, colour, points }
    };
    let failed = reported.timeline.bins.iter().any(|bin| 0 < bin.failed);
    let mut rates = vec![
        series("sent", BLUE, &|bin| per_second(bin.sent as f64)),
        series("done ok", GREEN, &|bin| per_second(bin.finished_ok as f64)),
    ];
    if failed {
        rates.push(series("failed", ORANGE, &|bin| per_second(bin.failed as f64)));
    }
    let charts = [
        ("Request rate", "req/s", rates),
        ("In flight", "requests", vec![series("mean of the bin", PURPLE, &|bin| Some(bin.in_flight))]),
        (
            "Output tokens",
            "tok/s",
            vec![series("of ok requests", BLUE, &|bin| per_second(bin.output_tokens))],
        ),
        ("Median time to first token", "ms", vec![series("by first token", ORANGE, &|bin| bin.ttft_p50_ms)]),
    ];
    // Answers that are not streamed have no token with a time of its own.
    let says = |series: &[Series<'_>]| {
        let values = || series.iter().flat_map(|series| &series.points).filter_map(|point| point.1);
        reported.run.accuracy.is_none() || values().any(|value| value != 0.0)
    };
    let figures = charts.iter().filter(|(.., series)| says(series)).filter_map(|(caption, unit, series)| {
        let svg = LineChart { label: caption, unit, across: "s", series }.svg()?;
        Some(figure(caption, "", &svg))
    });
    let lead =
        format!("Seconds from the start of the main load, in bins of {} s.", bare(reported.timeline.bin_s));
    section("course", "Course of the run", &lead, figures.collect())
}

fn section(id: &'static str, title: &'static str, lead: &str, figures: Vec<Html>) -> Option<Section> {
    if figures.is_empty() {
        return None;
    }
    let mut body = note(lead);
    body.add(gallery(figures));
    Some(Section { id, title, body })
}

/// Figures side by side where there is room.
pub(super) fn gallery(figures: Vec<Html>) -> Html {
    let mut html = Html::new();
    figures.into_iter().for_each(|figure| {
        html.add(figure);
    });
    html.within("<div class=\"figures\">\n", "</div>\n")
}

/// A chart with its caption.
pub(super) fn figure(caption: &str, small: &str, svg: &str) -> Html {
    let mut html = Html::new();
    html.raw("<figure><figcaption>").text(caption);
    if !small.is_empty() {
        html.raw("<small>").text(small).raw("</small>");
    }
    html.raw("</figcaption><div class=\"chart\">\n").trusted(svg).raw("</div></figure>\n");
    html
}
