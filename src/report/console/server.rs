use super::super::Reported;
use super::super::text::{count, fixed, number, plain, wrapped};
use super::{Paint, Style};
use crate::measure::{NodeSide, RoleSide, ServerSide};

/// Nodes that have a line of their own.
const NODES: usize = 24;

/// What the nodes tell: where the time to the first token went, what that means, and each node.
pub(super) fn server_block(reported: &Reported<'_>, style: Style) -> String {
    let Some(server) = &reported.summary.server else { return String::new() };
    anatomy(server, style) + &nodes(server, style)
}

fn anatomy(server: &ServerSide, style: Style) -> String {
    let Some(anatomy) = &server.anatomy else { return String::new() };
    let head = format!("{:<24}{:>12}{:>10}  {}", "Time to first token", "mean, ms", "share", "told by");
    let mut text = format!("\n{}\n", style.paint(Paint::Bold, &head));
    for part in &anatomy.parts {
        text += &format!(
            "{:<24}{:>12}{:>8.1} %  {}\n",
            format!("  {}", part.name.words()),
            fixed(Some(part.ms), 3),
            100.0 * anatomy.share(part.name),
            part.source.words(),
        );
    }
    text += &format!(
        "{:<24}{:>12}{:>8.1} %  of {} requests\n",
        "  from the schedule",
        fixed(Some(anatomy.from_schedule_ms), 3),
        100.0,
        anatomy.requests,
    );
    let from_send = fixed(Some(anatomy.ttft_ms), 3);
    text += &wrapped(&format!("  From the send on {from_send} ms. {}", anatomy.way.words()), 2);
    if anatomy.kv_wait_in_queue {
        text += &wrapped(&format!("  {}", anatomy.kv_words()), 2);
    }
    if let Some(diagnosis) = &server.diagnosis {
        let sentence = wrapped(&format!("Diagnosis: {}", plain(&diagnosis.text())), 11);
        text += &sentence.replacen("Diagnosis:", &style.paint(Paint::Bold, "Diagnosis:"), 1);
        text += &wrapped(&format!("    try: {}", diagnosis.try_this()), 9);
    }
    text
}

fn nodes(server: &ServerSide, style: Style) -> String {
    if !server.has_engines() {
        return String::new();
    }
    let head = format!(
        "{:<18}{:>8}{:>9}{:>10}{:>11}{:>9}{:>6}{:>9}",
        "Node", "requests", "queue", "TTFT", "running", "waiting", "KV", "external"
    );
    let mut text = format!("\n{}\n", style.paint(Paint::Bold, &head));
    let engines: Vec<&NodeSide> = server.nodes.iter().filter(|node| node.role.serves()).collect();
    engines.iter().take(NODES).for_each(|node| text += &row(node));
    if NODES < engines.len() {
        text += &format!("  and {} more: nodes.csv has them all\n", engines.len() - NODES);
    }
    text += "  queue, TTFT: means at the node, ms; running, waiting: mean/most; KV: most of\n  \
             its cache in use; external: share of the prompt's KV that came from elsewhere\n";
    for role in &server.roles {
        text += &balance(role);
    }
    let preempted: f64 = engines.iter().filter_map(|node| node.preemptions).sum();
    if 0.0 < preempted {
        text += &format!("  {} preemptions\n", count(preempted as u64));
    }
    text + "\n"
}

fn row(node: &NodeSide) -> String {
    let percent = |share: Option<f64>| fixed(share.map(|share| 100.0 * share), 0) + " %";
    let pair = |mean: Option<f64>, most: Option<f64>| format!("{}/{}", number_1(mean), fixed(most, 0));
    let name: String = plain(&node.node).chars().take(24).collect();
    let name = if node.engines < 2 { name } else { format!("{name} ({} engines)", node.engines) };
    // A long name takes a line of its own.
    let name = if name.chars().count() < 18 { format!("{name:<18}") } else { format!("{name}\n{:<18}", "") };
    let requests = fixed(node.requests, 0) + if 0 < node.restarts { "+" } else { "" };
    format!(
        "{name}{requests:>8}{:>9}{:>10}{:>11}{:>9}{:>6}{:>9}\n",
        fixed(node.queue_ms, 1),
        fixed(node.ttft_ms, 1),
        pair(node.running_mean, node.running_peak),
        pair(node.waiting_mean, node.waiting_peak),
        percent(node.kv_usage_peak),
        percent(node.external_share()),
    )
}

fn number_1(value: Option<f64>) -> String {
    fixed(value, 1)
}

fn balance(role: &RoleSide) -> String {
    let (Some(requests), Some(tokens)) = (role.balance_requests, role.balance_tokens) else {
        return String::new();
    };
    format!(
        "  balance of {} {} nodes (most/mean): requests {}, tokens {}\n",
        role.nodes,
        role.role,
        number(Some(requests)),
        number(Some(tokens))
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{watched, with};
    use super::*;

    #[test]
    fn the_block_fits_80_columns_and_says_what_nobody_told() {
        with(watched, |reported| {
            let block = server_block(reported, Style::Plain);
            for line in block.lines() {
                assert!(line.chars().count() <= 80, "{line}");
                assert!(!line.contains(['\u{1b}', '\u{202e}', '\u{2028}']), "{line}");
            }
            for said in ["prefill queue", "not measured", "residual", "(2 engines)", "2.0/2", "–/–", "– %"]
            {
                assert!(block.contains(said), "{said}: {block}");
            }
        });
        with(|_, _| (), |reported| assert_eq!(server_block(reported, Style::Plain), ""));
    }
}
