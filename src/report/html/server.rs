use super::super::Reported;
use super::super::chart::{
    BLUE, Colour, GREEN, LineChart, NEUTRAL, ORANGE, PURPLE, Piece, Series, StackedBar,
};
use super::super::text::{fixed, number, plain};
use super::Section;
use super::charts::{figure, gallery};
use super::markup::{Align, Html, note, paragraph, table};
use crate::measure::{
    Anatomy, NodeSide, PartName, RoleCourse, RolePoint, ServerRole, ServerSide, role_courses,
};

/// Where the time to the first token went, in a run whose nodes were watched.
pub(super) fn anatomy(reported: &Reported<'_>) -> Option<Section> {
    let server = reported.summary.server.as_ref()?;
    let anatomy = server.anatomy.as_ref()?;
    let mut body = note(
        "Means over the ok requests, from the schedule to the first token, as the client, the proxy and the nodes \
         measured them. What nobody measured is shown as it is and never spread over the others.",
    );
    if let Some(diagnosis) = &server.diagnosis {
        body.add(paragraph(&format!("{}. To try: {}.", capital(&diagnosis.text()), diagnosis.try_this())));
    }
    let pieces: Vec<Piece> = anatomy
        .parts
        .iter()
        .map(|part| {
            let (colour, pale) = colour(part.name);
            Piece { name: part.name.words(), colour, pale, value: part.ms }
        })
        .collect();
    let caption = "Mean time to first token";
    let lead = format!("{} ms from the schedule", number(Some(anatomy.from_schedule_ms)));
    if let Some(svg) = (StackedBar { label: caption, unit: "ms", pieces: &pieces }).svg() {
        body.add(figure(caption, &lead, &svg));
    }
    body.add(parts(anatomy));
    body.add(note(anatomy.way.words()));
    if anatomy.kv_wait_in_queue {
        body.add(note(anatomy.kv_words()));
    }
    Some(Section { id: "anatomy", title: "Where the time goes", body })
}

fn capital(text: &str) -> String {
    let mut letters = plain(text);
    if let Some(first) = letters.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    letters
}

fn colour(part: PartName) -> (Colour, bool) {
    match part {
        PartName::Client => (NEUTRAL, false),
        PartName::Proxy => (PURPLE, false),
        PartName::PrefillQueue => (BLUE, true),
        PartName::PrefillCompute => (BLUE, false),
        PartName::NodeOverhead => (PURPLE, true),
        PartName::KvTransfer => (ORANGE, false),
        PartName::DecodeQueue => (GREEN, true),
        PartName::DecodeFirstStep => (GREEN, false),
        PartName::Rest => (NEUTRAL, true),
    }
}

fn heads(names: &[&str], words: usize) -> Vec<(String, Align)> {
    let align = |nth| if nth < words { Align::Left } else { Align::Right };
    names.iter().enumerate().map(|(nth, name)| ((*name).to_owned(), align(nth))).collect()
}

fn parts(anatomy: &Anatomy) -> Html {
    let head = heads(&["Part", "Told by", "Mean, ms", "Share"], 2);
    let row = |cells: [&str; 4]| cells.into_iter().map(Html::of).collect::<Vec<_>>();
    let mut rows: Vec<Vec<Html>> = anatomy
        .parts
        .iter()
        .map(|part| {
            let share = format!("{:.1} %", 100.0 * anatomy.share(part.name));
            row([part.name.words(), part.source.words(), &fixed(Some(part.ms), 3), &share])
        })
        .collect();
    let whole = fixed(Some(anatomy.from_schedule_ms), 3);
    rows.push(row(["from the schedule", "client's records", &whole, "100.0 %"]));
    table(&head, rows)
}

/// Each node, and the course of the roles.
pub(super) fn nodes(reported: &Reported<'_>) -> Option<Section> {
    let server = reported.summary.server.as_ref()?;
    let mut body = note(
        "What the nodes counted over the main load, by their own /metrics. Running and waiting: mean / most of the \
         looks; KV: the most of its cache in use; external: share of the prompt tokens whose KV came from elsewhere. \
         A + means that a node began anew, and counted at least that.",
    );
    body.add(node_table(server));
    for role in &server.roles {
        if let (Some(requests), Some(tokens)) = (role.balance_requests, role.balance_tokens) {
            body.add(note(&format!(
                "Balance of {} {} nodes, most over mean: requests {}, tokens {}.",
                role.nodes,
                role.role,
                number(Some(requests)),
                number(Some(tokens))
            )));
        }
    }
    let figures = course(&role_courses(reported.run));
    if !figures.is_empty() {
        body.add(gallery(figures));
    }
    Some(Section { id: "nodes", title: "Nodes", body })
}

fn node_table(server: &ServerSide) -> Html {
    let head = heads(
        &[
            "Node",
            "Role",
            "Engines",
            "Requests",
            "Prompt tokens",
            "Output tokens",
            "Queue, ms",
            "Prefill, ms",
            "TTFT, ms",
            "Running",
            "Waiting",
            "KV",
            "Preempted",
            "External",
            "Looks",
        ],
        2,
    );
    let row = |node: &NodeSide| {
        let percent = |share: Option<f64>| fixed(share.map(|share| 100.0 * share), 1) + " %";
        let pair = |mean, most| format!("{} / {}", fixed(mean, 1), fixed(most, 0));
        let least = |value| fixed(value, 0) + if 0 < node.restarts { "+" } else { "" };
        [
            plain(&node.node),
            node.role.to_string(),
            node.engines.to_string(),
            least(node.requests),
            least(node.prompt_tokens),
            least(node.generation_tokens),
            fixed(node.queue_ms, 2),
            fixed(node.prefill_ms, 2),
            fixed(node.ttft_ms, 2),
            pair(node.running_mean, node.running_peak),
            pair(node.waiting_mean, node.waiting_peak),
            percent(node.kv_usage_peak),
            least(node.preemptions),
            percent(node.external_share()),
            format!("{} of {}", node.scrapes, node.scrapes + node.missed),
        ]
        .iter()
        .map(|cell| Html::of(cell))
        .collect()
    };
    table(&head, server.nodes.iter().map(row).collect())
}

fn course(courses: &[RoleCourse]) -> Vec<Html> {
    let of = |caption: &str, unit: &'static str, value: fn(&RolePoint) -> Option<f64>| {
        let series: Vec<Series<'_>> = courses
            .iter()
            .map(|course| {
                let (name, colour) = match course.role {
                    ServerRole::Prefill => ("prefill", BLUE),
                    ServerRole::Decode => ("decode", GREEN),
                    _ => ("mixed", PURPLE),
                };
                let points = course.points.iter().map(|point| (point.at_s, value(point))).collect();
                Series { name, colour, points }
            })
            .collect();
        let svg = LineChart { label: caption, unit, across: "s", series: &series }.svg()?;
        Some(figure(caption, "all nodes of a role", &svg))
    };
    [
        of("Requests running on the nodes", "requests", |point| point.running),
        of("Requests waiting on the nodes", "requests", |point| point.waiting),
        of("KV cache in use", "%", |point| point.kv_usage.map(|share| 100.0 * share)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{watched, with};
    use super::super::report_html;

    #[test]
    fn a_watched_run_has_its_sections_and_hostile_names_stay_text() {
        with(watched, |reported| {
            let page = report_html(reported);
            for part in
                ["id=\"anatomy\"", "id=\"nodes\"", "aria-label=\"Mean time to first token\"", "not measured"]
            {
                assert!(page.contains(part), "{part}");
            }
            assert_eq!(page.matches("<script").count(), 1, "the data block alone");
        });
        with(|_, _| (), |reported| assert!(!report_html(reported).contains("id=\"nodes\"")));
    }
}
