use super::super::Reported;
use super::{cell, csv_bytes, number_cell, text_cell};
use crate::measure::NodeSide;

/// A row for each part of the mean time to the first token; only the head where nothing was watched.
pub fn anatomy_csv(reported: &Reported<'_>) -> Vec<u8> {
    let head = ["part", "mean_ms", "share", "source"].map(str::to_owned);
    let anatomy = reported.summary.server.iter().filter_map(|server| server.anatomy.as_ref());
    let rows = anatomy.flat_map(|anatomy| {
        anatomy.parts.iter().map(|part| {
            vec![
                part.name.key().to_owned(),
                number_cell(Some(part.ms), 4),
                number_cell(Some(anatomy.share(part.name)), 6),
                part.source.words().to_owned(),
            ]
        })
    });
    csv_bytes(&head, rows)
}

type Column = (&'static str, fn(&NodeSide) -> Option<f64>, usize);

const COLUMNS: &[Column] = &[
    ("requests", |node| node.requests, 0),
    ("prompt_tokens", |node| node.prompt_tokens, 0),
    ("computed_tokens", |node| node.computed_tokens, 0),
    ("cached_tokens", |node| node.cached_tokens, 0),
    ("external_tokens", |node| node.external_tokens, 0),
    ("external_share", NodeSide::external_share, 6),
    ("generation_tokens", |node| node.generation_tokens, 0),
    ("preemptions", |node| node.preemptions, 0),
    ("kv_bytes", |node| node.kv_bytes, 0),
    ("failed_transfers", |node| node.failed_transfers, 0),
    ("queue_ms", |node| node.queue_ms, 4),
    ("prefill_ms", |node| node.prefill_ms, 4),
    ("ttft_ms", |node| node.ttft_ms, 4),
    ("e2e_ms", |node| node.e2e_ms, 4),
    ("itl_ms", |node| node.itl_ms, 4),
    ("transfer_ms", |node| node.transfer_ms, 4),
    ("running_mean", |node| node.running_mean, 4),
    ("running_peak", |node| node.running_peak, 0),
    ("waiting_mean", |node| node.waiting_mean, 4),
    ("waiting_peak", |node| node.waiting_peak, 0),
    ("kv_usage_mean", |node| node.kv_usage_mean, 6),
    ("kv_usage_peak", |node| node.kv_usage_peak, 6),
];

/// A row for each node that was watched; only the head where none was.
pub fn nodes_csv(reported: &Reported<'_>) -> Vec<u8> {
    let first = ["node", "role", "engines", "scrapes", "missed", "why_missed", "restarts"];
    let columns = COLUMNS.iter().map(|(name, ..)| *name);
    let head: Vec<String> = first.into_iter().chain(columns).map(str::to_owned).collect();
    let row = |node: &NodeSide| {
        let mut row = vec![
            text_cell(&node.node),
            node.role.to_string(),
            node.engines.to_string(),
            node.scrapes.to_string(),
            node.missed.to_string(),
            text_cell(&cell(node.why.as_ref())),
            node.restarts.to_string(),
        ];
        row.extend(COLUMNS.iter().map(|(_, value, decimals)| number_cell(value(node), *decimals)));
        row
    };
    let nodes = reported.summary.server.iter().flat_map(|server| &server.nodes);
    csv_bytes(&head, nodes.map(row))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{watched, with};
    use super::*;

    fn rows(bytes: &[u8]) -> Vec<Vec<String>> {
        let mut reader = ::csv::ReaderBuilder::new().has_headers(false).from_reader(bytes);
        reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
    }

    #[test]
    fn the_authority_names_every_column_and_part() {
        let authority = include_str!("../../../METRICS.md");
        with(watched, |reported| {
            let (nodes, anatomy) = (rows(&nodes_csv(reported)), rows(&anatomy_csv(reported)));
            let parts = anatomy.iter().skip(1).map(|row| &row[0]);
            for word in nodes[0].iter().chain(&anatomy[0]).chain(parts) {
                assert!(authority.contains(word.as_str()), "METRICS.md has no {word}");
            }
        });
    }

    #[test]
    fn a_node_has_a_row_and_what_it_does_not_tell_an_empty_cell() {
        with(watched, |reported| {
            let nodes = rows(&nodes_csv(reported));
            let cell = |row: usize, name: &str| {
                nodes[row][nodes[0].iter().position(|column| column == name).unwrap()].as_str()
            };
            assert_eq!(nodes.len(), 4);
            assert!(cell(2, "node").starts_with("'=decode-with"), "{}", cell(2, "node"));
            assert_eq!(
                (cell(1, "generation_tokens"), cell(1, "restarts"), cell(1, "queue_ms")),
                ("200", "0", "10.0000")
            );
            // From 300 down to 200 and 100, each counted from 0.
            assert_eq!((cell(2, "generation_tokens"), cell(2, "restarts")), ("500", "2"));
            assert_eq!((cell(1, "external_tokens"), cell(3, "requests"), cell(3, "missed")), ("", "", "3"));
            let whole: f64 =
                rows(&anatomy_csv(reported)).iter().skip(1).map(|row| row[2].parse::<f64>().unwrap()).sum();
            assert!((whole - 1.0).abs() < 1e-4, "{whole}");
        });
    }
}
