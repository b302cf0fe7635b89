//! What each piece of work costs on the simulated cluster: pure arithmetic over stated parameters.
//! The defaults describe Llama-3.1-8B in bf16 (8.03e9 parameters, 32 layers, 8 KV heads of 128, as
//! its published configuration says) on one accelerator per node with 80 GB, 989 TFLOP/s and
//! 3.35 TB/s (data sheet of the H100 SXM). Deliberately absent: noise; draws belong to the answers.

use std::ops::Range;
use std::time::Duration;

/// The cost model's parameters. Every field can be set by name, see [`super::PARAMETERS`].
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Prefill speed in tokens per second. 2 × 8.03e9 FLOP per token at 989 TFLOP/s are 61,600
    /// tokens/s; 40 % of that is assumed to be reached. Default 25,000.
    pub prefill_tokens_per_s: f64,
    /// Fixed time of one prefill step in milliseconds. Assumed; no source. Default 5.
    pub prefill_overhead_ms: f64,
    /// Most uncached tokens in one prefill step; a longer prompt takes several steps. Default 8,192,
    /// vLLM's `max_num_batched_tokens` for its API server on accelerators of this size.
    pub prefill_batch_tokens: u64,
    /// Bandwidth of the link between prefill and decode nodes in GB/s (1e9 bytes). Default 25: one
    /// 200 Gbit/s adapter.
    pub link_gb_per_s: f64,
    /// Time from a transfer's last byte sent to its arrival in milliseconds; it does not occupy the
    /// link. Assumed; no source. Default 1.
    pub link_latency_ms: f64,
    /// Bytes of keys and values per token. Default 131,072: 32 layers × 8 heads × 128 × 2 (key and
    /// value) × 2 bytes.
    pub kv_bytes_per_token: u64,
    /// Fixed time of one decode step in milliseconds. Reading 16.06 GB of weights at 3.35 TB/s takes
    /// 4.8 ms; 1.7 ms of launches and sampling are assumed. Default 6.5.
    pub decode_step_ms: f64,
    /// Added to a decode step for each sequence in it, in microseconds. Assumed; no source. Default 8.
    pub decode_sequence_us: f64,
    /// Added to a decode step for each 1,000 tokens of context in it, in microseconds. Default 39:
    /// 131,072,000 bytes read at 3.35 TB/s.
    pub decode_context_us: f64,
    /// Most sequences in one decode step. Default 1,024, vLLM's `max_num_seqs` for its API server on
    /// accelerators of this size.
    pub max_num_seqs: u64,
    /// KV cache of one node in tokens. Default 400,000: what 90 % of 80 GB leaves beside the weights
    /// (426,000 tokens), less an assumed reserve for activations.
    pub kv_capacity_tokens: u64,
    /// Tokens in one KV block, the unit of the prefix cache. Default 16, as in vLLM.
    pub block_tokens: u64,
    /// Longest prompt and answer together, in tokens. Default 131,072, the model's own limit.
    pub max_model_len: u64,
}

impl Default for Cost {
    fn default() -> Self {
        Self {
            prefill_tokens_per_s: 25_000.0,
            prefill_overhead_ms: 5.0,
            prefill_batch_tokens: 8192,
            link_gb_per_s: 25.0,
            link_latency_ms: 1.0,
            kv_bytes_per_token: 131_072,
            decode_step_ms: 6.5,
            decode_sequence_us: 8.0,
            decode_context_us: 39.0,
            max_num_seqs: 1024,
            kv_capacity_tokens: 400_000,
            block_tokens: 16,
            max_model_len: 131_072,
        }
    }
}

impl Cost {
    /// Time of prefilling `uncached_tokens`: steps × overhead + tokens / speed, with one step for each
    /// started [`Cost::prefill_batch_tokens`] and at least one.
    pub fn prefill(&self, uncached_tokens: u64) -> Duration {
        let steps = uncached_tokens.div_ceil(self.prefill_batch_tokens).max(1);
        let overhead_s = steps as f64 * self.prefill_overhead_ms / 1e3;
        Duration::from_secs_f64(overhead_s + uncached_tokens as f64 / self.prefill_tokens_per_s)
    }

    /// Bytes of KV that `tokens` take on the link.
    pub fn kv_bytes(&self, tokens: u64) -> u64 {
        tokens * self.kv_bytes_per_token
    }

    /// Time that the KV of `tokens` occupies the link: bytes / bandwidth.
    pub fn link_occupied(&self, tokens: u64) -> Duration {
        Duration::from_secs_f64(self.kv_bytes(tokens) as f64 / (self.link_gb_per_s * 1e9))
    }

    /// Time from the link's last byte of a transfer to its arrival.
    pub fn link_latency(&self) -> Duration {
        Duration::from_secs_f64(self.link_latency_ms / 1e3)
    }

    /// Time of one decode step: base + sequences × per sequence + context / 1000 × per 1,000 tokens,
    /// with `context_tokens` summed over the sequences at the start of the step.
    pub fn decode_step(&self, sequences: u64, context_tokens: u64) -> Duration {
        let us = self.decode_step_ms * 1e3
            + sequences as f64 * self.decode_sequence_us
            + context_tokens as f64 / 1e3 * self.decode_context_us;
        Duration::from_secs_f64(us / 1e6)
    }

    /// Time to the first token of a lone request on an idle cluster: prefill, link, one decode step.
    pub fn lone_ttft(&self, prompt_tokens: u64, cached_tokens: u64) -> Duration {
        self.prefill(prompt_tokens - cached_tokens)
            + self.link_occupied(prompt_tokens)
            + self.link_latency()
            + self.decode_step(1, prompt_tokens)
    }

    /// What a decode node makes while `sequences` equal sequences run: tokens / Σ steps, over the steps that make
    /// the tokens with the numbers of `tokens` (1 is the first), each of a prompt of `prompt_tokens`. Tokens per
    /// second of the whole node; what a measured plateau is held against. 0 without steps, or without costs.
    pub fn plateau_tokens_per_s(&self, sequences: u64, prompt_tokens: u64, tokens: Range<u64>) -> f64 {
        let steps = tokens.clone().map(|token| {
            let context = sequences * (prompt_tokens + token.saturating_sub(1));
            self.decode_step(sequences, context).as_secs_f64()
        });
        let (count, length) = (tokens.clone().count() as f64, steps.sum::<f64>());
        if 0.0 < length { sequences as f64 * count / length } else { 0.0 }
    }

    /// Time to the first token of a lone request that finds its whole blocks in the KV store: prefill, the way
    /// into the store, the way out of it, one decode step.
    pub fn lone_ttft_by_store(&self, prompt_tokens: u64) -> Duration {
        let stored = prompt_tokens.saturating_sub(1) / self.block_tokens * self.block_tokens;
        let put = prompt_tokens / self.block_tokens * self.block_tokens;
        self.prefill(prompt_tokens)
            + self.link_occupied(put)
            + self.link_occupied(stored)
            + self.link_latency() * 2
            + self.decode_step(1, prompt_tokens)
    }

    /// Longest prompt and answer together that a node can hold, in tokens: the model's limit or a
    /// node's KV cache, whichever is smaller.
    pub fn context_limit(&self) -> u64 {
        self.max_model_len.min(self.kv_capacity_tokens / self.block_tokens * self.block_tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_follow_their_formulas() {
        let cost = Cost::default();
        assert_eq!(cost.prefill(2500), Duration::from_millis(105));
        assert_eq!(cost.prefill(0), Duration::from_millis(5));
        assert_eq!(cost.prefill(8193), Duration::from_micros(10_000 + 327_720));
        assert_eq!(cost.link_occupied(2500), Duration::from_nanos(13_107_200));
        assert_eq!(cost.decode_step(0, 0), Duration::from_micros(6500));
        assert_eq!(cost.decode_step(100, 50_000), Duration::from_micros(6500 + 800 + 1950));
    }

    #[test]
    fn a_plateau_is_tokens_by_the_time_of_their_steps() {
        let flat =
            Cost { decode_step_ms: 10.0, decode_sequence_us: 0.0, decode_context_us: 0.0, ..Cost::default() };
        assert!((flat.plateau_tokens_per_s(4, 100, 2..50) - 400.0).abs() < 1e-9);
        let grows = Cost { decode_context_us: 1000.0, ..flat };
        // Steps of 10.1 and 10.102 ms make tokens 1 and 2.
        let rate = grows.plateau_tokens_per_s(2, 50, 1..3);
        assert!((rate - 4.0 / (0.0101 + 0.010_102)).abs() < 1e-6, "{rate}");
        assert_eq!(grows.plateau_tokens_per_s(2, 50, 1..1), 0.0);
    }

    #[test]
    fn kv_bytes_are_those_of_llama_3_1_8b() {
        assert_eq!(Cost::default().kv_bytes(1), 32 * 8 * 128 * 2 * 2);
    }
}
