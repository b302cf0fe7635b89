use super::super::Reported;
use super::super::chart::{BLUE, Colour, GREEN, LineChart, ORANGE, PURPLE, Series};
use super::super::fold::batch_label;
use super::super::text::{fixed, number, plain};
use super::Section;
use super::charts::{figure, gallery};
use super::markup::{Align, Html, note, table};
use crate::measure::{BatchResult, NodeShare};

/// The batches of replicas, in a run of them: the curve over the batch, each batch, and its course.
pub(super) fn batches(reported: &Reported<'_>) -> Option<Section> {
    let batches = &reported.summary.batches;
    if batches.is_empty() {
        return None;
    }
    let mut body = note(
        "The plateau of a batch: from when every stream has two tokens until the first has its last. Decode throughput \
         is that of all streams together inside it; ramp and drain are in the last column only, which measures no \
         decoding. TTFT is that of the decode leg.",
    );
    body.add(curve_table(batches));
    let mut figures = if 1 < batches.len() { curve(batches) } else { Vec::new() };
    figures.extend(batches.iter().flat_map(course));
    if !figures.is_empty() {
        body.add(gallery(figures));
    }
    for batch in batches {
        body.add(details(batch));
    }
    Some(Section { id: "batches", title: "Batches of replicas", body })
}

fn heads(names: &[&str]) -> Vec<(String, Align)> {
    let align = |nth| if nth == 0 { Align::Left } else { Align::Right };
    names.iter().enumerate().map(|(nth, name)| ((*name).to_owned(), align(nth))).collect()
}

fn curve_table(batches: &[BatchResult]) -> Html {
    let head = heads(&[
        "Batch",
        "Counts",
        "Decode tok/s",
        "TPOT p50, ms",
        "TTFT p50, ms",
        "Plateau, s",
        "Streams",
        "Balance",
        "With ramp and drain, tok/s",
    ]);
    let row = |batch: &BatchResult| {
        let plateau = &batch.plateau;
        [
            plateau.expected.to_string(),
            if plateau.is_valid() { "yes" } else { "NO" }.to_owned(),
            fixed(plateau.decode_tok_per_s, 1),
            fixed(plateau.step_ms(), 3),
            fixed(plateau.ttft_ms.median, 2),
            fixed(plateau.length_s(), 3),
            format!("{} of {}", plateau.streams, plateau.expected),
            fixed(plateau.balance_tok_per_s, 3),
            number(plateau.tok_per_s_with_ramp_and_drain),
        ]
        .iter()
        .map(|cell| Html::of(cell))
        .collect()
    };
    table(&head, batches.iter().map(row).collect())
}

/// Throughput and step time over the batch.
fn curve(batches: &[BatchResult]) -> Vec<Html> {
    let mut sorted: Vec<&BatchResult> = batches.iter().collect();
    sorted.sort_by_key(|batch| batch.plateau.expected);
    let of = |caption: &str, unit, name, colour: Colour, value: &dyn Fn(&BatchResult) -> Option<f64>| {
        let points = sorted.iter().map(|batch| (batch.plateau.expected as f64, value(batch))).collect();
        let series = [Series { name, colour, points }];
        let svg = LineChart { label: caption, unit, across: "", series: &series }.svg()?;
        Some(figure(caption, "over the batch", &svg))
    };
    [
        of("Decode throughput", "tok/s", "in the plateau", BLUE, &|batch| batch.plateau.decode_tok_per_s),
        of("Step time", "ms", "TPOT p50", ORANGE, &|batch| batch.plateau.step_ms()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The course of one batch: what it achieved, and what came out.
fn course(batch: &BatchResult) -> Vec<Html> {
    let plateau = &batch.plateau;
    // Of one or two seconds there is no course.
    if plateau.bins.len() < 3 {
        return Vec::new();
    }
    let title = batch_label(batch);
    let middle = match plateau.bins.get(..2) {
        Some([one, two]) => (two.start_s - one.start_s) / 2.0,
        _ => 0.0,
    };
    let lead = match (plateau.start_s, plateau.end_s) {
        (Some(start), Some(end)) => format!("plateau from {start:.3} to {end:.3} s"),
        _ => "no plateau".to_owned(),
    };
    let of = |what: &str, unit, colour: Colour, value: &dyn Fn(&crate::measure::BatchBin) -> f64| {
        let points = plateau.bins.iter().map(|bin| (bin.start_s + middle, Some(value(bin)))).collect();
        let series = [Series { name: "mean of the bin", colour, points }];
        let caption = format!("{title}: {what}");
        let svg = LineChart { label: &caption, unit, across: "s", series: &series }.svg()?;
        Some(figure(&caption, &lead, &svg))
    };
    [
        of("streams generating", "streams", PURPLE, &|bin| bin.batch),
        of("tokens", "tok/s", GREEN, &|bin| bin.tok_per_s),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn details(batch: &BatchResult) -> Html {
    let plateau = &batch.plateau;
    let mut html = Html::new();
    html.raw("<h3>").text(&batch_label(batch)).raw("</h3>\n");
    for fault in &plateau.faults {
        html.add(note(&format!("Does not count: {}. {}.", plain(&fault.what()), fault.what_to_do())));
    }
    if let Some(prefill) = &batch.prefill {
        html.add(note(&format!(
            "Prefill: {} ok of {}, TTFT p50 {} ms, whole leg p50 {} ms, {} prompt tok/s.",
            prefill.ok,
            prefill.requests,
            fixed(prefill.ttft_ms.median, 1),
            fixed(prefill.leg_ms.median, 1),
            number(prefill.prompt_tok_per_s)
        )));
    }
    for line in &plateau.notes {
        html.add(note(&line.text()));
    }
    let head = heads(&["Decode instance", "Replicas", "Ok", "Decode tok/s", "TPOT p50, ms", "TTFT p50, ms"]);
    let row = |node: &NodeShare| {
        let name = if node.node.is_empty() { "not known".to_owned() } else { plain(&node.node) };
        [
            name,
            node.replicas.to_string(),
            node.ok.to_string(),
            fixed(node.decode_tok_per_s, 1),
            fixed(node.tpot_p50_ms, 3),
            fixed(node.ttft_p50_ms, 2),
        ]
        .iter()
        .map(|cell| Html::of(cell))
        .collect()
    };
    html.add(table(&head, plateau.nodes.iter().map(row).collect()));
    html
}
