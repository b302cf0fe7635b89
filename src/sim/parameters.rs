//! The table of the simulator's parameters: each is declared once, with its unit, range and help, and
//! command lines, manifests and truth logs loop over it. Defaults are those of [`Config::default`].

use super::{Config, Emission, Routing};
use serde_json::Value;

/// One parameter of the simulated cluster.
#[derive(Debug)]
pub struct Parameter {
    /// Its name, in words joined by dashes.
    pub name: &'static str,
    /// Unit of its value; empty for a pure number, a word or a switch.
    pub unit: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
    /// Spellings on a command line.
    pub flag: FlagNames,
    kind: Kind,
}

/// How a parameter is spelled on a command line, without the leading dashes.
#[derive(Debug)]
pub struct FlagNames {
    /// `decode-step-ms`
    pub plain: &'static str,
    /// `decode_step_ms`
    pub plain_underscored: &'static str,
    /// `sim-decode-step-ms`
    pub prefixed: &'static str,
    /// `sim_decode_step_ms`
    pub prefixed_underscored: &'static str,
}

#[derive(Debug)]
enum Kind {
    Number { get: fn(&Config) -> f64, set: fn(&mut Config, f64), range: (f64, f64) },
    Count { get: fn(&Config) -> u64, set: fn(&mut Config, u64), range: (u64, u64) },
    Word { get: fn(&Config) -> &'static str, set: fn(&mut Config, &str), words: &'static [&'static str] },
    Switch { get: fn(&Config) -> bool, set: fn(&mut Config, bool) },
    Text { get: fn(&Config) -> String, set: fn(&mut Config, &str) -> Result<(), String> },
}

macro_rules! parameter {
    ($name:literal, $ident:ident, $unit:literal, $help:literal, $kind:expr) => {
        Parameter {
            name: $name,
            unit: $unit,
            help: $help,
            flag: FlagNames {
                plain: $name,
                plain_underscored: stringify!($ident),
                prefixed: concat!("sim-", $name),
                prefixed_underscored: concat!("sim_", stringify!($ident)),
            },
            kind: $kind,
        }
    };
}

macro_rules! number {
    ($name:literal, $ident:ident, $($path:ident).+, $unit:literal, $low:literal ..= $high:literal, $help:literal) => {
        parameter!(
            $name,
            $ident,
            $unit,
            $help,
            Kind::Number {
                get: |config| config.$($path).+,
                set: |config, value| config.$($path).+ = value,
                range: ($low, $high),
            }
        )
    };
    ($name:literal, $ident:ident, $unit:literal, $low:literal ..= $high:literal, $help:literal) => {
        number!($name, $ident, cost.$ident, $unit, $low..=$high, $help)
    };
}

macro_rules! count {
    ($name:literal, $ident:ident, $($path:ident).+, $unit:literal, $low:literal ..= $high:literal, $help:literal) => {
        parameter!(
            $name,
            $ident,
            $unit,
            $help,
            Kind::Count {
                get: |config| config.$($path).+,
                set: |config, value| config.$($path).+ = value,
                range: ($low, $high),
            }
        )
    };
    ($name:literal, $ident:ident, $unit:literal, $low:literal ..= $high:literal, $help:literal) => {
        count!($name, $ident, cost.$ident, $unit, $low..=$high, $help)
    };
}

/// Every parameter that can be set by name.
pub const PARAMETERS: &[Parameter] = &[
    number!(
        "prefill-tokens-per-s",
        prefill_tokens_per_s,
        "tokens/s",
        1.0..=1e12,
        "Prefill speed of one node"
    ),
    number!("prefill-overhead-ms", prefill_overhead_ms, "ms", 0.0..=1e5, "Fixed time of one prefill step"),
    count!(
        "prefill-batch-tokens",
        prefill_batch_tokens,
        "tokens",
        1..=10_000_000,
        "Most uncached tokens in one prefill step"
    ),
    number!(
        "link-gb-per-s",
        link_gb_per_s,
        "GB/s",
        1e-6..=1e6,
        "Bandwidth of the one link that carries KV to the decode nodes"
    ),
    number!(
        "link-latency-ms",
        link_latency_ms,
        "ms",
        0.0..=1e5,
        "Time from a transfer's last byte to its arrival"
    ),
    count!(
        "kv-bytes-per-token",
        kv_bytes_per_token,
        "bytes",
        0..=1_000_000_000,
        "KV bytes of one token on the link"
    ),
    number!("decode-step-ms", decode_step_ms, "ms", 0.0..=1e5, "Fixed time of one decode step"),
    number!(
        "decode-sequence-us",
        decode_sequence_us,
        "us",
        0.0..=1e6,
        "Added to a decode step for each sequence in it"
    ),
    number!(
        "decode-context-us",
        decode_context_us,
        "us",
        0.0..=1e6,
        "Added to a decode step for each 1,000 tokens of context in it"
    ),
    count!("max-num-seqs", max_num_seqs, "sequences", 1..=1_000_000, "Most sequences in one decode step"),
    count!("kv-capacity-tokens", kv_capacity_tokens, "tokens", 1..=1_000_000_000_000, "KV cache of one node"),
    count!("block-tokens", block_tokens, "tokens", 1..=65_536, "Tokens in one KV block"),
    count!("max-model-len", max_model_len, "tokens", 1..=1_000_000_000, "Longest prompt and answer together"),
    parameter!(
        "routing",
        routing,
        "",
        "How the proxy before the nodes chooses one for a request",
        Kind::Word {
            get: |config| match config.routing {
                Routing::LeastInFlight => "least-in-flight",
                Routing::RoundRobin => "round-robin",
            },
            set: |config, word| {
                config.routing =
                    if word == "round-robin" { Routing::RoundRobin } else { Routing::LeastInFlight };
            },
            words: &["least-in-flight", "round-robin"],
        }
    ),
    number!(
        "eos-probability",
        eos_probability,
        eos_probability,
        "",
        0.0..=1.0,
        "Chance that an answer ends by itself after any one token, unless ignore_eos is set"
    ),
    count!(
        "answer-tokens",
        answer_tokens,
        answer_tokens,
        "tokens",
        1..=1_000_000_000,
        "Length of a chat answer whose request has no limit"
    ),
    parameter!(
        "stagger",
        stagger,
        "",
        "Let each stream emit at a phase of its own within the decode step instead of all at its end",
        Kind::Switch {
            get: |config| config.emission == Emission::Staggered,
            set: |config, on| {
                config.emission = if on { Emission::Staggered } else { Emission::Together };
            },
        }
    ),
    parameter!(
        "no-prefix-cache",
        no_prefix_cache,
        "",
        "Compute every prompt in full, without reuse of equal beginnings",
        Kind::Switch { get: |config| !config.prefix_cache, set: |config, off| config.prefix_cache = !off }
    ),
    parameter!(
        "no-kv-store",
        no_kv_store,
        "",
        "Leave out the KV store: KV goes from node to node alone",
        Kind::Switch { get: |config| !config.kv.store, set: |config, off| config.kv.store = !off }
    ),
    count!(
        "store-capacity-tokens",
        store_capacity_tokens,
        kv.store_capacity_tokens,
        "tokens",
        0..=1_000_000_000_000,
        "Tokens that the KV store holds"
    ),
    number!(
        "store-lease-s",
        store_lease_s,
        kv.store_lease_s,
        "s",
        0.0..=1e9,
        "How long the KV store keeps what was looked up"
    ),
    number!("kv-hold-s", kv_hold_s, kv.hold_s, "s", 0.0..=1e9, "How long KV is held that nobody fetches"),
    number!(
        "kv-wait-s",
        kv_wait_s,
        kv.wait_s,
        "s",
        0.0..=1e9,
        "How long a decode node waits for promised KV"
    ),
    parameter!(
        "kill-store",
        kill_store,
        "s",
        "When the KV store dies, in seconds after the start",
        Kind::Text {
            get: |config| config.kv.store_dies_s.map_or_else(|| "none".to_owned(), |at| at.to_string()),
            set: |config, text| {
                let seconds = text.parse().ok().filter(|at: &f64| (0.0..=1e9).contains(at));
                config.kv.store_dies_s = match (text, seconds) {
                    ("none", _) => None,
                    (_, Some(seconds)) => Some(seconds),
                    _ => {
                        return Err(format!(
                            "`{text}` is not the end of the store: want seconds, such as 12.5"
                        ));
                    }
                };
                Ok(())
            },
        }
    ),
    number!(
        "store-timeout-s",
        store_timeout_s,
        kv.store_timeout_s,
        "s",
        0.0..=1e6,
        "How long a request waits at each node for a store that has died"
    ),
    parameter!(
        "fault",
        fault,
        "words",
        "What goes wrong with every request, such as status=503@decode:1 or reset-after=20",
        Kind::Text {
            get: |config| config.faults.to_string(),
            set: |config, text| text.parse().map(|faults| config.faults = faults),
        }
    ),
    parameter!(
        "kill-node",
        kill_node,
        "node@s",
        "A node that dies, and when: decode:1@12.5 is 12.5 s after the start",
        Kind::Text {
            get: |config| config.death.map_or_else(|| "none".to_owned(), |death| death.to_string()),
            set: |config, text| {
                config.death = if text == "none" { None } else { Some(text.parse()?) };
                Ok(())
            },
        }
    ),
];

impl Parameter {
    /// Its value in `config`: a number, a word, or true or false for a switch.
    pub fn value(&self, config: &Config) -> Value {
        match self.kind {
            Kind::Number { get, .. } => get(config).into(),
            Kind::Count { get, .. } => get(config).into(),
            Kind::Word { get, .. } => get(config).into(),
            Kind::Switch { get, .. } => get(config).into(),
            Kind::Text { get, .. } => get(config).into(),
        }
    }

    /// Its default as it would be typed, such as `6.5` or `least-in-flight`.
    pub fn default_text(&self) -> String {
        match self.value(&Config::default()) {
            Value::String(word) => word,
            Value::Number(number) if number.as_f64().is_some_and(|n| n.fract() == 0.0) => {
                format!("{}", number.as_f64().unwrap_or_default())
            }
            other => other.to_string(),
        }
    }

    /// True for a parameter that takes no value on a command line.
    pub fn is_switch(&self) -> bool {
        matches!(self.kind, Kind::Switch { .. })
    }

    /// The words it can be, for a parameter that is neither number nor switch.
    pub fn words(&self) -> &'static [&'static str] {
        if let Kind::Word { words, .. } = self.kind { words } else { &[] }
    }

    /// Sets it in `config` from `text`; a switch takes `true` or `false`.
    ///
    /// # Errors
    /// A sentence with the range or the words that would do.
    pub fn set(&self, config: &mut Config, text: &str) -> Result<(), String> {
        let want = |what: String| format!("`{text}` is not a value of {}: want {what}", self.name);
        let unit = if self.unit.is_empty() { String::new() } else { format!(" in {}", self.unit) };
        match self.kind {
            Kind::Number { set, range: (low, high), .. } => {
                let number = text.parse::<f64>().ok().filter(|n| (low..=high).contains(n));
                set(config, number.ok_or_else(|| want(format!("a number{unit} from {low} to {high}")))?);
            }
            Kind::Count { set, range: (low, high), .. } => {
                let count = text.parse::<u64>().ok().filter(|n| (low..=high).contains(n));
                set(config, count.ok_or_else(|| want(format!("a whole number{unit} from {low} to {high}")))?);
            }
            Kind::Word { set, words, .. } => {
                let known = words.iter().find(|word| **word == text);
                set(config, known.ok_or_else(|| want(words.join(" or ")))?);
            }
            Kind::Switch { set, .. } => {
                set(config, text.parse().map_err(|_| want("true or false".to_owned()))?);
            }
            Kind::Text { set, .. } => set(config, text)?,
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "parameters_tests.rs"]
mod tests;
