//! Nodes that were watched in the made-up run: a prefill node, a decode node with two engines and a hostile name that began
//! anew, and a store that could not be asked.

use super::HOSTILE;
use crate::measure::*;
use std::sync::Arc;

/// Puts what they told into a run and its summary.
pub fn watched(run: &mut Run, summary: &mut Summary) {
    let decode = format!("=decode-with-a-long-name:8200{HOSTILE}");
    for (tenths, share) in [(9_000_000, 1.0), (15_000_000, 2.0), (24_000_000, 3.0)] {
        let mut line = |node: &str, role, name: &str, labels: &[(&str, &str)], value: f64| {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let series = Series { node: node.to_owned(), role, name: name.to_owned(), labels };
            let at = Offset::from_tenths(tenths);
            run.observations.push(Observation { at, series: Arc::new(series), value: Some(value) });
        };
        for (node, role, engines) in
            [("p:8100", ServerRole::Prefill, &["0"][..]), (&decode, ServerRole::Decode, &["0", "1"])]
        {
            line(node, role, UP, &[], 1.0);
            for engine in engines {
                let labels = [("engine", *engine)];
                for (name, each) in [("request_queue_time", 0.01), ("request_prefill_time", 0.012)] {
                    line(node, role, &format!("vllm:{name}_seconds_sum"), &labels, 5.0 * share * each);
                    line(node, role, &format!("vllm:{name}_seconds_count"), &labels, 5.0 * share);
                }
                line(node, role, "vllm:time_to_first_token_seconds_sum", &labels, 0.11 * share);
                line(node, role, "vllm:time_to_first_token_seconds_count", &labels, 5.0 * share);
                line(node, role, "vllm:num_requests_running", &labels, 2.0);
                // The decode node's second engine began anew.
                let made = if *engine == "1" { 4.0 - share } else { share };
                line(node, role, "vllm:generation_tokens_total", &labels, 100.0 * made);
            }
        }
        line("store:9003", ServerRole::Store, UP, &[("why", HOSTILE)], 0.0);
    }
    summary.server = ServerSide::of(run);
}
