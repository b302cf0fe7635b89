//! What one node counts, with the bucket bounds of vLLM 0.30's V1 engine and of its Mooncake connector.

use crate::wire::prometheus::Histogram;
use std::collections::BTreeMap;
use std::time::Duration;

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
const STORE_S: &[f64] =
    &[1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 1e-1, 2e-1, 3e-1, 4e-1, 5e-1, 7.5e-1, 1.0, 1.5, 2.0];
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
    /// Prompt tokens looked for outside the node, and found there.
    pub external_queries: u64,
    pub external_hits: u64,
    /// Sequences that lost their place to others.
    pub preemptions: u64,
    /// Prompt tokens by where their KV came from.
    pub computed: u64,
    pub cache_hit: u64,
    pub transferred: u64,
    pub generated: u64,
    pub finished_stop: u64,
    pub finished_length: u64,
    pub aborted: u64,
    /// Requests that the node failed.
    pub failed: u64,
    /// Whether KV ever went from node to node here.
    pub nixl: bool,
    /// Transfers that came to nothing.
    pub failed_transfers: u64,
    /// Requests whose KV nobody fetched in time.
    pub kv_expired: u64,
    /// Requests whose KV came from elsewhere and was damaged, or another's.
    pub kv_corrupted: u64,
    pub kv_swapped: u64,
    /// What was asked of the KV store, by operation and status.
    pub store: BTreeMap<(&'static str, &'static str), StoreOperations>,
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
    /// All zero.
    pub fn new() -> Self {
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
            failed: 0,
            external_queries: 0,
            external_hits: 0,
            preemptions: 0,
            nixl: false,
            failed_transfers: 0,
            kv_expired: 0,
            kv_corrupted: 0,
            kv_swapped: 0,
            store: BTreeMap::new(),
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

/// One kind of operation of the KV store, as one node asked for it.
#[derive(Clone, Debug)]
pub(super) struct StoreOperations {
    pub calls: u64,
    pub keys: u64,
    pub bytes: u64,
    pub failed_keys: u64,
    pub time: Histogram,
}

/// One operation of the KV store.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StoreOperation {
    pub keys: u64,
    pub bytes: u64,
    pub failed_keys: u64,
    pub time: Duration,
}

impl Counts {
    /// Counts one operation: `lookup_exists`, `save_put` or `load_get`, as vLLM's connector calls them.
    pub fn store_operation(&mut self, name: &'static str, operation: StoreOperation) {
        let status = if operation.failed_keys == 0 { "ok" } else { "error" };
        let new =
            StoreOperations { calls: 0, keys: 0, bytes: 0, failed_keys: 0, time: Histogram::new(STORE_S) };
        let counted = self.store.entry((name, status)).or_insert(new);
        counted.calls += 1;
        counted.keys += operation.keys;
        counted.bytes += operation.bytes;
        counted.failed_keys += operation.failed_keys;
        counted.time.observe(operation.time.as_secs_f64());
    }
}
