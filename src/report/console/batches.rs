use super::super::Reported;
use super::super::fold::batch_label;
use super::super::text::{counted, decimals, fixed, number, plain, wrapped};
use super::{Paint, Style};
use crate::measure::{BatchResult, NodeShare, Way};

/// Decode instances that have a line of their own.
const NODES: usize = 16;

/// The batches of replicas: the curve first, then each batch. Empty in a run without any.
pub(super) fn batches_block(reported: &Reported<'_>, style: Style) -> String {
    let batches = &reported.summary.batches;
    if batches.is_empty() {
        return String::new();
    }
    let head = format!("{:=^50}", " Batches of replicas: the plateau ");
    let columns = format!(
        "{:>6} {:>13} {:>10} {:>12} {:>10} {:>8}  {}",
        "batch", "decode tok/s", "TPOT p50", "TTFT_D p50", "plateau", "balance", "counts"
    );
    let mut text = format!("{}\n{}\n", style.paint(Paint::Bold, &head), style.paint(Paint::Bold, &columns));
    for batch in batches {
        text += &row(batch, style);
    }
    text += "  aggregate decode throughput while all streams generate; TPOT inside the plateau, ms;\n  \
             TTFT_D: send of the decode leg to its first token, ms; plateau in s; balance: max/mean\n";
    for batch in batches {
        text += &details(reported, batch, style);
    }
    text + "\n"
}

fn row(batch: &BatchResult, style: Style) -> String {
    let plateau = &batch.plateau;
    let tpot = plateau.step_ms();
    let (word, paint) = if plateau.is_valid() { ("yes", Paint::Green) } else { ("NO", Paint::Red) };
    format!(
        "{:>6} {:>13} {:>10} {:>12} {:>10} {:>8}  {}\n",
        plateau.expected,
        fixed(plateau.decode_tok_per_s, 1),
        fixed(tpot, decimals(tpot)),
        fixed(plateau.ttft_ms.median, decimals(plateau.ttft_ms.max)),
        fixed(plateau.length_s(), 3),
        fixed(plateau.balance_tok_per_s, 2),
        style.paint(paint, word),
    )
}

fn line(label: &str, words: &str) -> String {
    wrapped(&format!("  {label:<12} {words}"), 15)
}

fn details(reported: &Reported<'_>, batch: &BatchResult, style: Style) -> String {
    let plateau = &batch.plateau;
    let way = reported.run.manifest.repeat.as_ref().map(|facts| facts.way);
    let mut text = format!("\n{}\n", style.paint(Paint::Bold, &batch_label(batch)));
    for fault in &plateau.faults {
        text += &line("INVALID", &plain(&fault.what()));
    }
    if let Some(prefill) = &batch.prefill {
        let ms = |value| fixed(value, 1);
        let words = format!(
            "{} ok of {}, {} prompt tok/s; TTFT p50 {} ms, whole leg p50 {} ms",
            prefill.ok,
            counted(prefill.requests, "request"),
            number(prefill.prompt_tok_per_s),
            ms(prefill.ttft_ms.median),
            ms(prefill.leg_ms.median),
        );
        text += &line("Prefill", &words);
    }
    let words = format!(
        "{} ok of {}, {} streams in the plateau, {} to {} s after the first send",
        plateau.ok,
        plateau.expected,
        plateau.streams,
        fixed(plateau.start_s, 3),
        fixed(plateau.end_s, 3)
    );
    text += &line("Replicas", &words);
    if way != Some(Way::External) {
        let p99 = |values: &crate::measure::Distribution| {
            fixed(values.percentile(99.0).filter(|p| p.enough(values.count)).and_then(|p| p.value), 2)
        };
        let words = format!(
            "TPOT {}, ITL {} (p99 {}) in the plateau; {} and {} (p99 {}) over all",
            fixed(plateau.tpot_ms.median, 2),
            fixed(plateau.itl_ms.median, 2),
            p99(&plateau.itl_ms),
            fixed(plateau.tpot_all_ms.median, 2),
            fixed(plateau.itl_all_ms.median, 2),
            p99(&plateau.itl_all_ms),
        );
        text += &line("p50 ms", &words);
        let whole = number(plateau.tok_per_s_with_ramp_and_drain);
        text +=
            &line("Whole window", &format!("{whole} tok/s with ramp and drain, first send to last token"));
    }
    for node in plateau.nodes.iter().take(NODES) {
        text += &node_line(node);
    }
    if NODES < plateau.nodes.len() {
        text += &line("", &format!("and {} more, see repeat.csv", plateau.nodes.len() - NODES));
    }
    for note in &plateau.notes {
        text += &line("Note", &note.text());
    }
    text
}

fn node_line(node: &NodeShare) -> String {
    let name = if node.node.is_empty() { "instance not known".to_owned() } else { plain(&node.node) };
    let words = format!(
        "{name}: {} ok of {}, {} tok/s, TPOT p50 {} ms, TTFT_D p50 {} ms",
        node.ok,
        node.replicas,
        fixed(node.decode_tok_per_s, 1),
        fixed(node.tpot_p50_ms, 2),
        fixed(node.ttft_p50_ms, 1),
    );
    line("Node", &words)
}
