//! The names. Of several for one thing the first that a node tells counts: vLLM's V1 engine of today, then older ones
//! and the V0 engine. `_total` at the end of a counter's name is optional everywhere.
//! Sources: `/metrics` of vLLM 0.30 with NixlConnector and MooncakeStoreConnector, vLLM's `metrics.py` of 0.6 to 0.11,
//! `mooncake_master` 0.3.13, `src/proxy/metrics.rs`.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::LazyLock;

/// A number that only grows, apart from restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CounterName {
    /// Tokens of prompts that were processed.
    PromptTokens,
    /// Those of them that the node computed itself.
    LocalCompute,
    /// Those of them that its prefix cache had.
    LocalCacheHit,
    /// Those of them whose KV came from another node or a store.
    ExternalKv,
    /// Tokens of answers.
    GenerationTokens,
    /// Requests that ended by themselves.
    FinishedStop,
    /// Requests that ended at their limit.
    FinishedLength,
    /// Requests whose client went away.
    FinishedAbort,
    /// Requests that failed.
    FinishedError,
    /// Requests that were ended for repeating themselves.
    FinishedRepetition,
    /// Requests that lost their place in the batch.
    Preemptions,
    /// Tokens looked up in the node's prefix cache.
    PrefixQueries,
    /// Tokens found there.
    PrefixHits,
    /// Tokens looked for outside the node.
    ExternalQueries,
    /// Tokens found there.
    ExternalHits,
    /// NIXL: transfers that failed.
    NixlFailedTransfers,
    /// NIXL: notifications that failed.
    NixlFailedNotifications,
    /// NIXL: requests whose KV nobody fetched in time.
    NixlKvExpired,
    /// Mooncake store: bytes loaded by this node.
    StoreBytesLoaded,
    /// Mooncake store: bytes saved by this node.
    StoreBytesSaved,
    /// Mooncake store: keys of which this node's operations failed.
    StoreFailedKeys,
    /// `mooncake_master`: objects that were begun.
    MasterPuts,
    /// `mooncake_master`: objects that found no place.
    MasterPutFailures,
    /// `mooncake_master`: objects that were asked for, one by one.
    MasterGets,
    /// `mooncake_master`: of those, objects that were not there.
    MasterGetFailures,
    /// `mooncake_master`: objects that were asked for in batches.
    MasterBatchGets,
    /// `mooncake_master`: of those, objects that were not there.
    MasterBatchGetFailures,
    /// `mooncake_master`: keys thrown out for want of room.
    MasterEvictedKeys,
    /// `pdbench proxy`: requests of clients that ended.
    ProxyRequests,
}

/// A number that goes up and down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GaugeName {
    /// Requests in the batch.
    Running,
    /// Requests that wait, for whatever reason.
    Waiting,
    /// Those of them that wait for a place in the batch.
    WaitingForPlace,
    /// Those of them that wait for something else, such as their KV.
    WaitingForKv,
    /// Share of the KV cache in use, in [0, 1]; of several engines the fullest.
    KvUsage,
    /// `mooncake_master`: keys in the store.
    MasterKeys,
    /// `mooncake_master`: bytes in use.
    MasterAllocatedBytes,
    /// `mooncake_master`: bytes there are.
    MasterCapacityBytes,
    /// `mooncake_master`: clients that are connected.
    MasterClients,
    /// `pdbench proxy`: requests of clients in flight.
    ProxyInFlight,
    /// When the process began, seconds since 1970.
    ProcessStart,
}

/// Values that are counted by size. Times are in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistogramName {
    /// From a request's entry into the engine to its first step: the wait for KV from elsewhere is in it.
    Queue,
    /// From its first step to its first token.
    Prefill,
    /// From its arrival at the node to its first token.
    Ttft,
    /// From its first token to its last.
    Decode,
    /// From its arrival to its last token.
    E2e,
    /// Between two tokens.
    InterToken,
    /// Mean of a request's gaps between tokens.
    TimePerOutputToken,
    /// NIXL: one transfer, from its start to its end.
    NixlTransfer,
    /// NIXL: bytes of one transfer.
    NixlBytes,
    /// Mooncake store: one load.
    StoreLoad,
    /// Mooncake store: one save.
    StoreSave,
}

/// What of a family's lines is meant: those with this label.
pub(super) type Label = Option<(&'static str, &'static str)>;

/// One thing that is told, the names it goes by without `_total`, and the label of its lines.
type Known<N> = (N, &'static [&'static str], Label);

const SOURCE: &[&str] = &["vllm:prompt_tokens_by_source"];
const FINISHED: &[&str] = &["vllm:request_success"];
const STORE_BYTES: &[&str] = &["vllm:mooncake_store_operation_bytes"];
const WAITING_BY: &[&str] = &["vllm:num_requests_waiting_by_reason"];
const STORE_SECONDS: &[&str] = &["vllm:mooncake_store_operation_time_seconds"];

const COUNTERS: &[Known<CounterName>] = &[
    (CounterName::PromptTokens, &["vllm:prompt_tokens"], None),
    (CounterName::LocalCompute, SOURCE, Some(("source", "local_compute"))),
    (CounterName::LocalCacheHit, SOURCE, Some(("source", "local_cache_hit"))),
    (CounterName::ExternalKv, SOURCE, Some(("source", "external_kv_transfer"))),
    (CounterName::GenerationTokens, &["vllm:generation_tokens"], None),
    (CounterName::FinishedStop, FINISHED, Some(("finished_reason", "stop"))),
    (CounterName::FinishedLength, FINISHED, Some(("finished_reason", "length"))),
    (CounterName::FinishedAbort, FINISHED, Some(("finished_reason", "abort"))),
    (CounterName::FinishedError, FINISHED, Some(("finished_reason", "error"))),
    (CounterName::FinishedRepetition, FINISHED, Some(("finished_reason", "repetition"))),
    (CounterName::Preemptions, &["vllm:num_preemptions"], None),
    (CounterName::PrefixQueries, &["vllm:prefix_cache_queries", "vllm:gpu_prefix_cache_queries"], None),
    (CounterName::PrefixHits, &["vllm:prefix_cache_hits", "vllm:gpu_prefix_cache_hits"], None),
    (CounterName::ExternalQueries, &["vllm:external_prefix_cache_queries"], None),
    (CounterName::ExternalHits, &["vllm:external_prefix_cache_hits"], None),
    (CounterName::NixlFailedTransfers, &["vllm:nixl_num_failed_transfers"], None),
    (CounterName::NixlFailedNotifications, &["vllm:nixl_num_failed_notifications"], None),
    (CounterName::NixlKvExpired, &["vllm:nixl_num_kv_expired_reqs"], None),
    (CounterName::StoreBytesLoaded, STORE_BYTES, Some(("operation", "load_get"))),
    (CounterName::StoreBytesSaved, STORE_BYTES, Some(("operation", "save_put"))),
    (CounterName::StoreFailedKeys, &["vllm:mooncake_store_operation_failed_keys"], None),
    (CounterName::MasterPuts, &["master_put_start_requests"], None),
    (CounterName::MasterPutFailures, &["master_put_start_failures"], None),
    (CounterName::MasterGets, &["master_get_replica_list_requests"], None),
    (CounterName::MasterGetFailures, &["master_get_replica_list_failures"], None),
    (CounterName::MasterBatchGets, &["master_batch_get_replica_list_items"], None),
    (CounterName::MasterBatchGetFailures, &["master_batch_get_replica_list_failed_items"], None),
    (CounterName::MasterEvictedKeys, &["master_evicted_key_count"], None),
    (CounterName::ProxyRequests, &["pdbench_proxy_requests"], None),
];

const GAUGES: &[Known<GaugeName>] = &[
    (GaugeName::Running, &["vllm:num_requests_running"], None),
    (GaugeName::Waiting, &["vllm:num_requests_waiting"], None),
    (GaugeName::WaitingForPlace, WAITING_BY, Some(("reason", "capacity"))),
    (GaugeName::WaitingForKv, WAITING_BY, Some(("reason", "deferred"))),
    (GaugeName::KvUsage, &["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"], None),
    (GaugeName::MasterKeys, &["master_key_count"], None),
    (GaugeName::MasterAllocatedBytes, &["master_allocated_bytes"], None),
    (GaugeName::MasterCapacityBytes, &["master_total_capacity_bytes"], None),
    (GaugeName::MasterClients, &["master_active_clients"], None),
    (GaugeName::ProxyInFlight, &["pdbench_proxy_requests_in_flight"], None),
    (GaugeName::ProcessStart, &["process_start_time_seconds"], None),
];

const HISTOGRAMS: &[Known<HistogramName>] = &[
    (HistogramName::Queue, &["vllm:request_queue_time_seconds", "vllm:time_in_queue_requests"], None),
    (HistogramName::Prefill, &["vllm:request_prefill_time_seconds"], None),
    (HistogramName::Ttft, &["vllm:time_to_first_token_seconds"], None),
    (HistogramName::Decode, &["vllm:request_decode_time_seconds"], None),
    (HistogramName::E2e, &["vllm:e2e_request_latency_seconds"], None),
    (
        HistogramName::InterToken,
        &["vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"],
        None,
    ),
    (HistogramName::TimePerOutputToken, &["vllm:request_time_per_output_token_seconds"], None),
    (HistogramName::NixlTransfer, &["vllm:nixl_xfer_time_seconds"], None),
    (HistogramName::NixlBytes, &["vllm:nixl_bytes_transferred"], None),
    (HistogramName::StoreLoad, STORE_SECONDS, Some(("operation", "load_get"))),
    (HistogramName::StoreSave, STORE_SECONDS, Some(("operation", "save_put"))),
];

impl GaugeName {
    /// Of several engines the greatest counts, not the sum.
    pub(super) fn is_greatest(self) -> bool {
        matches!(self, GaugeName::KvUsage | GaugeName::ProcessStart)
    }
}

/// What a line may say: which thing, by which of its names (the lower the better), with which label.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meaning {
    pub(super) what: What,
    pub(super) rank: usize,
    pub(super) label: Label,
}

/// A thing that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Counter(CounterName),
    Gauge(GaugeName),
    Histogram(HistogramName),
}

/// What lines may say, by the name of their family.
static MEANINGS: LazyLock<HashMap<&str, Vec<Meaning>>> = LazyLock::new(|| {
    let mut meanings: HashMap<&str, Vec<Meaning>> = HashMap::new();
    let mut all = |what: What, names: &'static [&'static str], label: Label| {
        for (rank, name) in names.iter().enumerate() {
            meanings.entry(name).or_default().push(Meaning { what, rank, label });
        }
    };
    COUNTERS.iter().for_each(|(name, names, label)| all(What::Counter(*name), names, *label));
    GAUGES.iter().for_each(|(name, names, label)| all(What::Gauge(*name), names, *label));
    HISTOGRAMS.iter().for_each(|(name, names, label)| all(What::Histogram(*name), names, *label));
    meanings
});

/// What a line with this name may say.
pub(super) fn meanings(line: &str) -> &'static [Meaning] {
    let parts = ["_total", "_sum", "_count", "_bucket"];
    let family = parts.iter().find_map(|part| line.strip_suffix(part));
    // A histogram's name is told by its parts alone, and no part is one of a counter's or a gauge's.
    let found = MEANINGS.get(line).or_else(|| MEANINGS.get(family?));
    found.map_or(&[], Vec::as_slice)
}

/// Whether a line of a scrape with this name says something known here.
pub fn is_told(name: &str) -> bool {
    !meanings(name).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lines_of_named_families_are_told() {
        for told in [
            "vllm:generation_tokens_total",
            "vllm:generation_tokens",
            "vllm:request_queue_time_seconds_bucket",
            "vllm:gpu_cache_usage_perc",
            "master_key_count",
            "pdbench_proxy_requests_total",
        ] {
            assert!(is_told(told), "{told}");
        }
        for other in ["vllm:generation_tokens_created", "python_info", "vllm:iteration_tokens_total_sum", ""]
        {
            assert!(!is_told(other), "{other}");
        }
    }
}
