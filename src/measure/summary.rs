use super::check::{self, CheckResult};
use super::{
    BatchResult, ClientVerdict, Definition, Distribution, Flag, METRICS, Outcome, ProxyCost, RequestRecord,
    Run, ServerSide, Steady, ToldBy, Validity, Warning, accuracy, notice, repeat, span,
};
use serde::{Deserialize, Serialize};

/// The numbers of one run: a pure fold over its records, made by [`Summary::of`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Whether the run counts, and if not why.
    pub validity: Validity,
    /// How many requests went which way.
    pub counts: Counts,
    /// Tokens of the ok requests.
    pub tokens: TokenTotals,
    /// Our own definitions.
    pub strict: View,
    /// The definitions of `vllm bench serve`.
    pub vllm: View,
    /// Offered, admitted and achieved load.
    pub rates: Rates,
    /// The settled part of the run, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steady: Option<Steady>,
    /// What the proxy costs, where that was compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_cost: Option<ProxyCost>,
    /// How late the client was.
    pub lateness: Lateness,
    /// Whether the client or the server was measured.
    pub client: ClientVerdict,
    /// What came of each batch of replicas, in a run of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub batches: Vec<BatchResult>,
    /// What the nodes tell, where they were watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerSide>,
    /// What came of a functional check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckResult>,
    /// What else a reader should know.
    pub warnings: Vec<Warning>,
}

/// How many requests of the main load went which way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Planned.
    pub planned: usize,
    /// Sent: they have a record.
    pub sent: usize,
    /// Planned but never sent, because the run ended first.
    pub not_sent: usize,
    /// Whole answers.
    pub ok: usize,
    /// Failures: sent, neither ok nor cancelled.
    pub failed: usize,
    /// Cut by the end of the run.
    pub cancelled: usize,
    /// Every outcome that occurred, with its count, in the order of [`Outcome::ALL`].
    pub by_outcome: Vec<(Outcome, usize)>,
}

/// Tokens of the ok requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenTotals {
    /// Prompt tokens.
    pub input: u64,
    /// Generated tokens.
    pub output: u64,
    /// Prompt tokens that came from a cache; `None` when no server told.
    pub cached: Option<u64>,
    /// Prompt tokens whose KV a decode node was handed, where it counts them as cached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_over: Option<u64>,
    /// Output tokens per token event; above 1 with several tokens an event.
    pub per_event: Option<f64>,
    /// Share of the token events that shared a packet, and so a stamp, with the one before.
    #[serde(default)]
    pub coalesced_share: Option<f64>,
}

/// All metrics under one set of definitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// The span that throughputs are divided by, seconds.
    pub duration_s: Option<f64>,
    /// Ok requests per second.
    pub request_throughput_per_s: Option<f64>,
    /// Ok requests per second that meet every objective; `None` without objectives.
    pub request_goodput_per_s: Option<f64>,
    /// Output tokens per second.
    pub output_throughput_per_s: Option<f64>,
    /// Prompt and output tokens per second.
    pub total_token_throughput_per_s: Option<f64>,
    /// Most output tokens in any one second.
    pub max_output_tokens_per_s: Option<f64>,
    /// Most requests in flight at a time.
    pub max_concurrent_requests: Option<f64>,
    /// A distribution for each metric of the table, in its order.
    pub metrics: Vec<Measured>,
}

/// A metric's distribution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Key of the metric in the table.
    pub key: String,
    /// Its distribution, in the metric's unit.
    pub distribution: Distribution,
}

/// The load that was wanted, allowed and reached, requests per second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// By the schedule; `None` for `inf`.
    pub offered_per_s: Option<f64>,
    /// By the ready instants: what the concurrency limit let through.
    pub admitted_per_s: Option<f64>,
    /// By the send instants.
    pub sent_per_s: Option<f64>,
    /// By completions, all outcomes but cancelled.
    pub achieved_per_s: Option<f64>,
}

/// How late the client was, over the sent requests of the main load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lateness {
    /// Sent minus ready, ms, outside bursts.
    pub client_lag_ms: Distribution,
    /// How many of these were sent more than 1 ms after they were ready.
    pub above_1_ms: usize,
    /// … more than 10 ms.
    pub above_10_ms: usize,
    /// … more than 100 ms.
    pub above_100_ms: usize,
    /// Mean lag of the worst window of 10 s, ms.
    pub worst_10_s_mean_ms: Option<f64>,
    /// Spread of the largest burst (requests with the same ready instant): last minus first sent, ms.
    pub burst_spread_ms: Option<f64>,
    /// Requests in that burst.
    pub burst_size: usize,
}

impl Summary {
    /// Folds the records of a run's main load.
    pub fn of(run: &Run) -> Self {
        let counts = Counts::of(run);
        let strict = View::of(run, Definition::Strict);
        let lateness = Lateness::of(run);
        let median_ttft_ms = strict.distribution("ttft").and_then(|ttft| ttft.median);
        let median_ms = match run.accuracy {
            Some(_) => accuracy::median_answer_ms(run),
            None => median_ttft_ms,
        };
        let client = ClientVerdict::of(run, &lateness, median_ms);
        let batches = repeat::batches(run);
        let check = check::check(run);
        let validity = match &check {
            Some(check) => Validity::of_check(run, &counts, check),
            None => Validity::of(run, &counts, &client, &batches),
        };
        let mut summary = Self {
            validity,
            counts,
            tokens: TokenTotals::of(run),
            strict,
            vllm: View::of(run, Definition::Vllm),
            rates: Rates::of(run),
            steady: Steady::of(run),
            proxy_cost: ProxyCost::of(run),
            lateness,
            client,
            batches,
            server: ServerSide::of(run),
            check,
            warnings: Vec::new(),
        };
        summary.warnings = notice::warnings(run, &summary);
        summary
    }

    /// The view of one set of definitions.
    pub fn view(&self, definition: Definition) -> &View {
        match definition {
            Definition::Vllm => &self.vllm,
            Definition::Strict => &self.strict,
        }
    }
}

impl Counts {
    fn of(run: &Run) -> Self {
        let count_of = |outcome| run.main().filter(|record| record.outcome == outcome).count();
        let by_outcome: Vec<_> = Outcome::ALL
            .into_iter()
            .map(|outcome| (outcome, count_of(outcome)))
            .filter(|&(_, count)| 0 < count)
            .collect();
        let planned = run.manifest.settings.num_prompts;
        let sent = run.main().count();
        Self {
            planned,
            sent,
            not_sent: planned.saturating_sub(sent),
            ok: count_of(Outcome::Ok),
            failed: run.main().filter(|record| record.outcome.is_failure()).count(),
            cancelled: count_of(Outcome::CancelledAtEnd),
            by_outcome,
        }
    }

    /// How many requests had this outcome; `None` for none.
    pub fn having(&self, outcome: Outcome) -> Option<usize> {
        self.by_outcome.iter().find(|(had, _)| *had == outcome).map(|&(_, count)| count)
    }
}

impl TokenTotals {
    fn of(run: &Run) -> Self {
        let ok = || run.main().filter(|record| record.is_ok());
        let total = |tokens: fn(&RequestRecord) -> u32| ok().map(|record| u64::from(tokens(record))).sum();
        let cached = ok().filter_map(|record| record.cached_tokens).map(u64::from);
        let cached = cached.reduce(|one, other| one + other);
        let handed_over = counts_what_it_was_handed(run);
        let streamed = || ok().filter(|record| !record.events.is_empty());
        let events: usize = streamed().map(|record| record.events.len()).sum();
        let share = |count: u64| (0 < events).then(|| count as f64 / events as f64);
        let coalesced =
            |record: &RequestRecord| record.flags.get(&Flag::Coalesced).copied().map_or(0, u64::from);
        Self {
            input: total(|record| record.prompt_tokens),
            output: total(|record| record.output_tokens),
            cached: cached.filter(|_| !handed_over),
            handed_over: cached.filter(|_| handed_over),
            per_event: share(streamed().map(|record| u64::from(record.output_tokens)).sum()),
            coalesced_share: share(streamed().map(coalesced).sum()),
        }
    }
}

/// Whether the server counts KV that came from a prefill node as cached. Then all but the last token of each prompt is
/// cached, which a prefix cache gives only where a prompt's last token stands alone in its block.
fn counts_what_it_was_handed(run: &Run) -> bool {
    let told = || {
        let ok = run.main().filter(|record| record.is_ok());
        ok.filter_map(|record| Some((record.cached_tokens?, record.prompt_tokens)))
    };
    let all_but_one = |&(cached, prompt): &(u32, u32)| 0 < cached && cached + 1 == prompt;
    let (of, count) = (told().count(), told().filter(all_but_one).count());
    0 < count
        && HANDED_SHARE * of as f64 <= count as f64
        && told().filter(all_but_one).any(|(cached, _)| cached % BLOCK_TOKENS != 0)
}

/// Share of the requests that must show it.
const HANDED_SHARE: f64 = 0.95;
/// Tokens in a block of vLLM's KV cache.
const BLOCK_TOKENS: u32 = 16;

impl View {
    fn of(run: &Run, definition: Definition) -> Self {
        let settings = &run.manifest.settings;
        let ok = || run.main().filter(|record| record.is_ok());
        let duration_s = span::duration_s(run, definition);
        let per_s = |count: u64| duration_s.map(|seconds| count as f64 / seconds);
        let output: u64 = ok().map(|record| u64::from(record.output_tokens)).sum();
        let input: u64 = ok().map(|record| u64::from(record.prompt_tokens)).sum();
        let good = || ok().filter(|record| settings.slo.met_by(record, definition)).count() as u64;
        let percentiles = settings.all_percentiles();
        let metrics = METRICS.iter().filter_map(|metric| {
            let values = metric.collect(run.main(), definition);
            let told = metric.told_by == ToldBy::Stamps || !values.is_empty();
            let distribution = || Distribution::of(values, &percentiles);
            told.then(|| Measured { key: metric.key.to_owned(), distribution: distribution() })
        });
        Self {
            duration_s,
            request_throughput_per_s: per_s(ok().count() as u64),
            request_goodput_per_s: if settings.slo.is_empty() { None } else { per_s(good()) },
            output_throughput_per_s: per_s(output),
            total_token_throughput_per_s: per_s(input + output),
            max_output_tokens_per_s: span::peak_tokens_per_s(run, definition),
            max_concurrent_requests: span::peak_concurrency(run, definition),
            metrics: metrics.collect(),
        }
    }

    /// The distribution of the metric with this key.
    pub fn distribution(&self, key: &str) -> Option<&Distribution> {
        self.metrics.iter().find(|measured| measured.key == key).map(|measured| &measured.distribution)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{failed, record, run};
    use super::super::{Metric, Slo};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tokens_that_a_decode_node_was_handed_are_no_cache_hits() {
        let mut run = run((0..20).map(|_| record("0 100 150")).collect());
        for record in &mut run.records {
            (record.prompt_tokens, record.cached_tokens) = (10, Some(9));
        }
        let tokens = Summary::of(&run).tokens;
        assert_eq!((tokens.cached, tokens.handed_over), (None, Some(180)));
        for record in &mut run.records {
            (record.prompt_tokens, record.cached_tokens) = (17, Some(16));
        }
        let tokens = Summary::of(&run).tokens;
        assert_eq!((tokens.cached, tokens.handed_over), (Some(320), None));
    }

    #[test]
    fn counts_and_tokens_are_those_of_the_main_load() {
        let mut run = run(vec![
            record("0 100 150"),
            failed("0 100 150", Outcome::Reset),
            failed("0 100 150", Outcome::CancelledAtEnd),
            record("0 100 150"),
        ]);
        run.records[3].kind = super::super::Kind::Warmup;
        run.records[0].cached_tokens = Some(4);
        run.manifest.settings.num_prompts = 5;
        let summary = Summary::of(&run);
        let by_outcome = vec![(Outcome::Ok, 1), (Outcome::Reset, 1), (Outcome::CancelledAtEnd, 1)];
        let expected =
            Counts { planned: 5, sent: 3, not_sent: 2, ok: 1, failed: 1, cancelled: 1, by_outcome };
        assert_eq!(summary.counts, expected);
        let tokens = TokenTotals {
            input: 10,
            output: 2,
            cached: Some(4),
            handed_over: None,
            per_event: Some(1.0),
            coalesced_share: Some(0.0),
        };
        assert_eq!(summary.tokens, tokens);
    }

    #[test]
    fn an_empty_run_has_a_summary_without_numbers() {
        let summary = Summary::of(&run(vec![]));
        assert!(!summary.validity.valid);
        for view in [&summary.strict, &summary.vllm] {
            assert_eq!((view.duration_s, view.max_output_tokens_per_s), (None, None));
            assert!(view.metrics.iter().all(|measured| measured.distribution.mean.is_none()));
        }
    }

    #[test]
    fn both_views_have_every_metric_in_the_tables_order_and_a_proxys_where_one_told_them() {
        let plain = Summary::of(&run(vec![record("0 100 150")]));
        let ours = METRICS.iter().filter(|metric| metric.told_by == ToldBy::Stamps).count();
        assert_eq!(plain.strict.metrics.len(), ours);
        let names = ["queue", "prefill", "kv-ready", "decode-head"];
        let timing = names.map(|name| (name.to_owned(), 1.0)).into_iter().collect();
        let told = RequestRecord { server_timing: Some(timing), ..record("0 100 150") };
        let summary = Summary::of(&run(vec![told]));
        for view in [&summary.strict, &summary.vllm] {
            let keys: Vec<&str> = view.metrics.iter().map(|measured| measured.key.as_str()).collect();
            assert_eq!(keys, METRICS.iter().map(|metric| metric.key).collect::<Vec<_>>());
        }
        assert_eq!(summary.strict.distribution("ttft").and_then(|ttft| ttft.median), Some(100.0));
    }

    proptest! {
        #[test]
        fn goodput_is_at_most_throughput_and_order_does_not_matter(
            requests in proptest::collection::vec((0_u32..40_000, 1_u32..500, 0_u32..90, 0_usize..30), 1..60),
            limit in 0_u32..500,
        ) {
            let made = requests.iter().map(|&(sent, ttft, gap, outcome)| RequestRecord {
                outcome: Outcome::ALL.get(outcome).copied().filter(|_| 24 < outcome).unwrap_or(Outcome::Ok),
                ..record(&format!("{sent} {} {}", sent + ttft, sent + ttft + gap))
            });
            let mut run = run(made.collect());
            run.manifest.settings.slo = Slo::parse(&[format!("ttft:{limit}")]).unwrap();
            let summary = Summary::of(&run);
            let met = run.main().filter(|record| {
                Metric::find("ttft").and_then(|ttft| ttft.value(record, Definition::Strict))
                    .is_some_and(|ttft| ttft <= f64::from(limit))
            });
            let seconds = summary.strict.duration_s;
            prop_assert_eq!(summary.strict.request_goodput_per_s, seconds.map(|s| met.count() as f64 / s));
            for view in [&summary.strict, &summary.vllm] {
                prop_assert!(view.request_goodput_per_s <= view.request_throughput_per_s);
                prop_assert!(view.output_throughput_per_s <= view.total_token_throughput_per_s);
            }
            run.records.reverse();
            prop_assert_eq!(&Summary::of(&run), &summary);
            let back: Summary = serde_json::from_str(&serde_json::to_string(&summary).unwrap()).unwrap();
            prop_assert_eq!(back.counts, summary.counts);
        }
    }
}
