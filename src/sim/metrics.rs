//! What a node counts, and how `/metrics` tells it: names, labels and bucket bounds of vLLM 0.30's V1
//! engine. `engine` numbers the nodes, prefill nodes first.
//! Deliberately absent: preemptions (answers reserve their KV) and local prefix hits on decode nodes.

use crate::wire::prometheus::{Histogram, Kind, Writer};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const TTFT_S: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];
const TOKEN_S: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
];
const REQUEST_S: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
];
const TOKENS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0];
const ITERATION_TOKENS: &[f64] =
    &[1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];
const TRANSFER_S: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 5.0];
const TRANSFER_BYTES: &[f64] = &[
    2048.0,
    8192.0,
    32768.0,
    131072.0,
    524288.0,
    2097152.0,
    8388608.0,
    33554432.0,
    134217728.0,
    536870912.0,
    2147483648.0,
    8589934592.0,
];

/// What one node has counted. Times in seconds.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    /// Requests in the running batch.
    pub running: u64,
    /// Requests waiting for a place in a batch.
    pub waiting: u64,
    /// Requests waiting for their KV.
    pub deferred: u64,
    /// Tokens whose KV the running batch holds.
    pub kv_tokens: u64,
    /// Prompt tokens looked up in the node's prefix cache, and found there.
    pub prefix_queries: u64,
    pub prefix_hits: u64,
    /// Prompt tokens by where their KV came from.
    pub computed: u64,
    pub cache_hit: u64,
    pub transferred: u64,
    pub generated: u64,
    pub finished_stop: u64,
    pub finished_length: u64,
    pub aborted: u64,
    pub ttft: Histogram,
    pub inter_token: Histogram,
    pub per_output_token: Histogram,
    pub e2e: Histogram,
    pub queue: Histogram,
    pub prefill: Histogram,
    pub decode: Histogram,
    pub inference: Histogram,
    pub prompt_tokens: Histogram,
    pub generation_tokens: Histogram,
    pub iteration_tokens: Histogram,
    pub transfer: Histogram,
    pub transfer_bytes: Histogram,
}

impl Counts {
    fn new() -> Self {
        Self {
            running: 0,
            waiting: 0,
            deferred: 0,
            kv_tokens: 0,
            prefix_queries: 0,
            prefix_hits: 0,
            computed: 0,
            cache_hit: 0,
            transferred: 0,
            generated: 0,
            finished_stop: 0,
            finished_length: 0,
            aborted: 0,
            ttft: Histogram::new(TTFT_S),
            inter_token: Histogram::new(TOKEN_S),
            per_output_token: Histogram::new(TOKEN_S),
            e2e: Histogram::new(REQUEST_S),
            queue: Histogram::new(REQUEST_S),
            prefill: Histogram::new(REQUEST_S),
            decode: Histogram::new(REQUEST_S),
            inference: Histogram::new(REQUEST_S),
            prompt_tokens: Histogram::new(TOKENS),
            generation_tokens: Histogram::new(TOKENS),
            iteration_tokens: Histogram::new(ITERATION_TOKENS),
            transfer: Histogram::new(TRANSFER_S),
            transfer_bytes: Histogram::new(TRANSFER_BYTES),
        }
    }
}

/// A node's counts, shared between its task and whoever scrapes.
#[derive(Clone, Debug)]
pub(super) struct Metrics(Arc<Mutex<Counts>>);

impl Metrics {
    /// All zero.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Counts::new())))
    }

    /// The counts, to change or to read.
    pub fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One more label of a series, if it has one, and its value.
type Series = (Option<(&'static str, &'static str)>, f64);

struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    series: fn(&Counts, f64) -> Vec<Series>,
}

fn one(value: u64) -> Vec<Series> {
    vec![(None, value as f64)]
}

fn by(label: &'static str, values: &[(&'static str, u64)]) -> Vec<Series> {
    values.iter().map(|(word, value)| (Some((label, *word)), *value as f64)).collect()
}

/// Counters and gauges. The second argument of each is the node's KV capacity in tokens.
const FAMILIES: &[Family] = &[
    Family {
        name: "vllm:num_requests_running",
        kind: Kind::Gauge,
        help: "Number of requests in model execution batches.",
        series: |counts, _| one(counts.running),
    },
    Family {
        name: "vllm:num_requests_waiting",
        kind: Kind::Gauge,
        help: "Number of requests waiting to be processed.",
        series: |counts, _| one(counts.waiting + counts.deferred),
    },
    Family {
        name: "vllm:num_requests_waiting_by_reason",
        kind: Kind::Gauge,
        help: "Number of waiting requests: capacity = for a place in a batch, deferred = for their KV.",
        series: |counts, _| by("reason", &[("capacity", counts.waiting), ("deferred", counts.deferred)]),
    },
    Family {
        name: "vllm:kv_cache_usage_perc",
        kind: Kind::Gauge,
        help: "KV-cache usage of running requests. 1 means 100 percent usage.",
        series: |counts, capacity| vec![(None, counts.kv_tokens as f64 / capacity)],
    },
    Family {
        name: "vllm:prefix_cache_queries_total",
        kind: Kind::Counter,
        help: "Prefix cache queries, in terms of number of queried tokens.",
        series: |counts, _| one(counts.prefix_queries),
    },
    Family {
        name: "vllm:prefix_cache_hits_total",
        kind: Kind::Counter,
        help: "Prefix cache hits, in terms of number of cached tokens.",
        series: |counts, _| one(counts.prefix_hits),
    },
    Family {
        name: "vllm:external_prefix_cache_queries_total",
        kind: Kind::Counter,
        help: "Queries for KV of other nodes, in terms of number of queried tokens.",
        series: |counts, _| one(counts.transferred),
    },
    Family {
        name: "vllm:external_prefix_cache_hits_total",
        kind: Kind::Counter,
        help: "KV found on other nodes, in terms of number of cached tokens.",
        series: |counts, _| one(counts.transferred),
    },
    Family {
        name: "vllm:num_preemptions_total",
        kind: Kind::Counter,
        help: "Cumulative number of preemption from the engine.",
        series: |_, _| one(0),
    },
    Family {
        name: "vllm:prompt_tokens_total",
        kind: Kind::Counter,
        help: "Number of prefill tokens processed.",
        series: |counts, _| one(counts.computed + counts.cache_hit + counts.transferred),
    },
    Family {
        name: "vllm:prompt_tokens_by_source_total",
        kind: Kind::Counter,
        help: "Number of prompt tokens by source.",
        series: |counts, _| {
            by(
                "source",
                &[
                    ("local_compute", counts.computed),
                    ("local_cache_hit", counts.cache_hit),
                    ("external_kv_transfer", counts.transferred),
                ],
            )
        },
    },
    Family {
        name: "vllm:prompt_tokens_cached_total",
        kind: Kind::Counter,
        help: "Number of cached prompt tokens (local + external).",
        series: |counts, _| one(counts.cache_hit + counts.transferred),
    },
    Family {
        name: "vllm:generation_tokens_total",
        kind: Kind::Counter,
        help: "Number of generation tokens processed.",
        series: |counts, _| one(counts.generated),
    },
    Family {
        name: "vllm:request_success_total",
        kind: Kind::Counter,
        help: "Count of processed requests.",
        series: |counts, _| {
            by(
                "finished_reason",
                &[
                    ("stop", counts.finished_stop),
                    ("length", counts.finished_length),
                    ("abort", counts.aborted),
                    ("error", 0),
                ],
            )
        },
    },
    Family {
        name: "vllm:nixl_num_failed_transfers_total",
        kind: Kind::Counter,
        help: "Number of failed KV cache transfers.",
        series: |_, _| one(0),
    },
    Family {
        name: "vllm:nixl_num_kv_expired_reqs_total",
        kind: Kind::Counter,
        help: "Number of requests that had their KV expire.",
        series: |_, _| one(0),
    },
];

type HistogramFamily = (&'static str, &'static str, fn(&Counts) -> &Histogram);

const HISTOGRAMS: &[HistogramFamily] = &[
    ("vllm:time_to_first_token_seconds", "Time to first token in seconds.", |counts| &counts.ttft),
    ("vllm:inter_token_latency_seconds", "Inter-token latency in seconds.", |counts| &counts.inter_token),
    (
        "vllm:request_time_per_output_token_seconds",
        "Time per output token of a request in seconds.",
        |counts| &counts.per_output_token,
    ),
    ("vllm:e2e_request_latency_seconds", "End to end request latency in seconds.", |counts| &counts.e2e),
    ("vllm:request_queue_time_seconds", "Time spent in WAITING phase for request.", |counts| &counts.queue),
    ("vllm:request_prefill_time_seconds", "Time spent in PREFILL phase for request.", |counts| {
        &counts.prefill
    }),
    ("vllm:request_decode_time_seconds", "Time spent in DECODE phase for request.", |counts| &counts.decode),
    ("vllm:request_inference_time_seconds", "Time spent in RUNNING phase for request.", |counts| {
        &counts.inference
    }),
    ("vllm:request_prompt_tokens", "Number of prefill tokens processed.", |counts| &counts.prompt_tokens),
    ("vllm:request_generation_tokens", "Number of generation tokens processed.", |counts| {
        &counts.generation_tokens
    }),
    ("vllm:iteration_tokens_total", "Number of tokens per engine_step.", |counts| &counts.iteration_tokens),
    ("vllm:nixl_xfer_time_seconds", "Duration of KV cache transfers.", |counts| &counts.transfer),
    ("vllm:nixl_bytes_transferred", "Bytes per KV cache transfer.", |counts| &counts.transfer_bytes),
];

/// The exposition of `nodes`, in the order of their `engine` numbers, each with `kv_capacity_tokens`.
pub(super) fn expose<'a>(
    nodes: impl Iterator<Item = &'a Metrics>,
    model: &str,
    kv_capacity_tokens: u64,
) -> String {
    let nodes: Vec<(String, Counts)> =
        nodes.enumerate().map(|(engine, metrics)| (engine.to_string(), metrics.lock().clone())).collect();
    let mut writer = Writer::default();
    for family in FAMILIES {
        writer.family(family.name, family.kind, family.help);
        for (engine, counts) in &nodes {
            for (label, value) in (family.series)(counts, kv_capacity_tokens as f64) {
                let mut labels = vec![("engine", engine.as_str()), ("model_name", model)];
                labels.extend(label);
                writer.sample(family.name, &labels, value);
            }
        }
    }
    for (name, help, histogram) in HISTOGRAMS {
        writer.family(name, Kind::Histogram, help);
        for (engine, counts) in &nodes {
            writer.histogram(name, &[("engine", engine), ("model_name", model)], histogram(counts));
        }
    }
    writer.finish()
}
