//! How `/metrics` tells what nodes count: names and labels of vLLM 0.30's V1 engine. Each node is `engine` 0 of
//! its own. What a connector counts is there once that connector worked.

use super::Config;
use super::counts::{Counts, StoreOperations};
use crate::runtime;
use crate::wire::prometheus::{Histogram, Kind, Writer};
use std::sync::{Arc, Mutex, MutexGuard};

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
        runtime::lock(&self.0)
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
        series: |counts, _| one(counts.external_queries),
    },
    Family {
        name: "vllm:external_prefix_cache_hits_total",
        kind: Kind::Counter,
        help: "KV found on other nodes, in terms of number of cached tokens.",
        series: |counts, _| one(counts.external_hits),
    },
    Family {
        name: "vllm:num_preemptions_total",
        kind: Kind::Counter,
        help: "Cumulative number of preemption from the engine.",
        series: |counts, _| one(counts.preemptions),
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
                    ("error", counts.failed),
                ],
            )
        },
    },
    Family {
        name: "vllm:nixl_num_failed_transfers_total",
        kind: Kind::Counter,
        help: "Number of failed KV cache transfers.",
        series: |counts, _| if counts.nixl { one(counts.failed_transfers) } else { Vec::new() },
    },
    Family {
        name: "vllm:nixl_num_kv_expired_reqs_total",
        kind: Kind::Counter,
        help: "Number of requests that had their KV expire.",
        series: |counts, _| if counts.nixl { one(counts.kv_expired) } else { Vec::new() },
    },
    Family {
        name: "pdbench_sim:kv_wrong_requests_total",
        kind: Kind::Counter,
        help: "Number of requests served from KV that was made to be wrong.",
        series: |counts, _| by("how", &[("corrupted", counts.kv_corrupted), ("swapped", counts.kv_swapped)]),
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

/// The exposition of a node of `config`.
pub(super) fn expose(counts: &Counts, config: &Config) -> String {
    let (model, kv_capacity_tokens) = (config.model.as_str(), config.cost.kv_capacity_tokens);
    let mut writer = Writer::default();
    for family in FAMILIES {
        let series = (family.series)(counts, kv_capacity_tokens as f64);
        if series.is_empty() {
            continue;
        }
        writer.family(family.name, family.kind, family.help);
        for (label, value) in series {
            let mut labels = vec![ENGINE, ("model_name", model)];
            labels.extend(label);
            writer.sample(family.name, &labels, value);
        }
    }
    for (name, help, histogram) in
        HISTOGRAMS.iter().filter(|(name, ..)| counts.nixl || !name.contains("nixl"))
    {
        writer.family(name, Kind::Histogram, help);
        writer.histogram(name, &[ENGINE, ("model_name", model)], histogram(counts));
    }
    expose_store(&mut writer, counts, model);
    expose_cache(&mut writer, config);
    writer.finish()
}

/// The facts about the KV cache, which vLLM tells as labels.
fn expose_cache(writer: &mut Writer, config: &Config) {
    let block = config.cost.block_tokens;
    let (size, blocks) = (block.to_string(), (config.cost.kv_capacity_tokens / block).to_string());
    let prefix_caching = if config.prefix_cache { "True" } else { "False" };
    writer.family("vllm:cache_config_info", Kind::Gauge, "Information of the LLMEngine CacheConfig");
    let labels = [
        ("block_size", size.as_str()),
        ("enable_prefix_caching", prefix_caching),
        ENGINE,
        ("num_gpu_blocks", blocks.as_str()),
    ];
    writer.sample("vllm:cache_config_info", &labels, 1.0);
}

const ENGINE: (&str, &str) = ("engine", "0");

type StoreFamily = (&'static str, &'static str, fn(&StoreOperations) -> u64);

const STORE: &[StoreFamily] = &[
    ("vllm:mooncake_store_operation_total", "Number of KV store operations.", |store| store.calls),
    ("vllm:mooncake_store_operation_keys_total", "Number of keys touched by KV store operations.", |store| {
        store.keys
    }),
    ("vllm:mooncake_store_operation_bytes_total", "Bytes moved by KV store operations.", |store| store.bytes),
    ("vllm:mooncake_store_operation_failed_keys_total", "Number of keys that failed.", |store| {
        store.failed_keys
    }),
];

fn expose_store(writer: &mut Writer, counts: &Counts, model: &str) {
    if counts.store.is_empty() {
        return;
    }
    let series = || {
        counts.store.iter().map(|((operation, status), counted)| {
            ([ENGINE, ("model_name", model), ("operation", *operation), ("status", *status)], counted)
        })
    };
    for (name, help, value) in STORE {
        writer.family(name, Kind::Counter, help);
        series().for_each(|(labels, counted)| writer.sample(name, &labels, value(counted) as f64));
    }
    let name = "vllm:mooncake_store_operation_time_seconds";
    writer.family(name, Kind::Histogram, "Time of KV store operations in seconds.");
    series().for_each(|(labels, counted)| writer.histogram(name, &labels, &counted.time));
}
