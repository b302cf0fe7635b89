use super::super::Reported;
use super::super::fold::{applies, is_twin, lag_words};
use super::super::text::{counted, fixed, plain};
use super::Section;
use super::charts::{distribution, gallery};
use super::markup::{Html, note, pairs};
use crate::measure::{ClientState, METRICS, Metric, VllmNeeds};

/// How late the client was and whether that can be seen in the numbers.
pub(super) fn client(reported: &Reported<'_>) -> Option<Section> {
    let (lateness, verdict) = (&reported.summary.lateness, &reported.summary.client);
    let mut state = Html::new();
    state.raw(match verdict.state {
        ClientState::Ok => "<span class=\"state good\">OK</span>",
        ClientState::Degraded => "<span class=\"state warn\">DEGRADED</span>",
        ClientState::Saturated => "<span class=\"state bad\">SATURATED</span>",
    });
    if !verdict.evidence.is_empty() {
        state.raw("<ul class=\"plain\">");
        for evidence in &verdict.evidence {
            state.add(Html::of(&plain(evidence)).within("<li>", "</li>"));
        }
        state.raw("</ul>");
    }
    let late = format!(
        "{} above 1 ms, {} above 10 ms, {} above 100 ms",
        counted(lateness.above_1_ms, "request"),
        lateness.above_10_ms,
        lateness.above_100_ms
    );
    let mut rows = vec![
        ("Client verdict", state),
        ("Client lag", Html::of(&lag_words(&lateness.client_lag_ms))),
        ("Late sends", Html::of(&late)),
        ("Worst 10 s", Html::of(&format!("mean {} ms", fixed(lateness.worst_10_s_mean_ms, 3)))),
    ];
    if let Some(spread) = lateness.burst_spread_ms {
        let size = counted(lateness.burst_size, "request");
        rows.push(("Largest burst", Html::of(&format!("{size} sent within {} ms", fixed(Some(spread), 3)))));
    }
    let mut body = note(
        "Lag is the time between the instant at which a request could have been sent and its send, over all \
         sent requests. It is the client’s share of a latency from the schedule.",
    );
    body.add(pairs(rows));
    let ours = |metric: &&Metric| metric.vllm.is_none_or(|names| names.needs == VllmNeeds::Limit);
    let metrics = METRICS.iter().filter(ours).filter(|metric| !is_twin(metric) && applies(metric, reported));
    let waited = |key| reported.summary.strict.distribution(key).and_then(|values| values.max);
    let shown = metrics.filter(|metric| waited(metric.key).is_some_and(|max| 0.0 < max));
    body.add(gallery(shown.filter_map(|metric| distribution(reported, metric)).collect()));
    Some(Section { id: "client", title: "The client", body })
}
