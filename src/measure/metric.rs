use super::formula::{client_lag, e2el, itl, proxy_time, queue_time, since_due, tpot, ttft};
use super::{Distribution, RequestRecord};

/// Whose definition of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Definition {
    /// `vllm bench serve`'s.
    Vllm,
    /// Ours: token events only, coalesced events known, nothing counted as zero.
    Strict,
}

/// What a metric's values are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Milliseconds.
    Ms,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Better {
    /// Small values.
    Lower,
    /// Great values.
    Higher,
}

/// How many values a record has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Per {
    /// At most one.
    Request,
    /// One for each gap between events.
    Gap,
}

/// When `vllm bench serve` has a metric to print, besides being asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VllmNeeds {
    /// Nothing.
    Nothing,
    /// A concurrency limit.
    Limit,
    /// A concurrency limit and a finite rate.
    LimitAndRate,
}

/// Who tells the values of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToldBy {
    /// Our own stamps: every run has it.
    Stamps,
    /// A proxy, in the header `Server-Timing`: a run has it where one did.
    Proxy,
}

/// What `vllm bench serve` calls a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VllmNames {
    /// Key in `--percentile-metrics` and, as `mean_KEY_ms`, in the result file.
    pub key: &'static str,
    /// Words of its lines on the console, such as `TTFT` in `Mean TTFT (ms):`.
    pub label: &'static str,
    /// Heading of its part of the console block.
    pub heading: &'static str,
    /// What a run must have for vLLM to print it.
    pub needs: VllmNeeds,
}

/// One metric, declared once: reports loop over [`METRICS`] and know none by name.
#[derive(Debug)]
pub struct Metric {
    /// Key in files and flags, such as `ttft`.
    pub key: &'static str,
    /// Short name, such as `TTFT`.
    pub short: &'static str,
    /// Name in headings.
    pub name: &'static str,
    /// Unit of its values.
    pub unit: Unit,
    /// Which way is better.
    pub better: Better,
    /// Formula in words, for tables and tooltips.
    pub formula: &'static str,
    /// How many values a record has.
    pub per: Per,
    /// Who tells them.
    pub told_by: ToldBy,
    /// What vLLM calls it; `None` where vLLM has no such metric.
    pub vllm: Option<VllmNames>,
    /// Key of the metric that measures the same from the schedule instead of the send.
    pub from_schedule: Option<&'static str>,
    /// The value that vLLM's goodput takes for an ok request that has none.
    pub vllm_goodput_default: Option<f64>,
    /// Hands each value of one record to the sink: none, one, or one per gap.
    pub values: fn(&RequestRecord, Definition, &mut dyn FnMut(f64)),
}

/// A metric whose declaration says only what is special about it.
const PLAIN: Metric = Metric {
    key: "",
    short: "",
    name: "",
    unit: Unit::Ms,
    better: Better::Lower,
    formula: "",
    per: Per::Request,
    told_by: ToldBy::Stamps,
    vllm: None,
    from_schedule: None,
    vllm_goodput_default: None,
    values: |_, _, _| {},
};

/// A part of the latency that a proxy tells.
const BY_PROXY: Metric = Metric { told_by: ToldBy::Proxy, ..PLAIN };

/// All metrics, in the order of reports. METRICS.md has the whole definitions.
pub const METRICS: &[Metric] = &[
    Metric {
        key: "ttft",
        short: "TTFT",
        name: "Time to first token",
        formula: "first token event − sent",
        vllm: vllm("ttft", "TTFT", "Time to First Token", VllmNeeds::Nothing),
        from_schedule: Some("ttft_from_schedule"),
        values: |record, definition, sink| one(ttft(record, definition), sink),
        ..PLAIN
    },
    Metric {
        key: "tpot",
        short: "TPOT",
        name: "Time per output token after the first",
        formula: "(last token event − first token event) / (output tokens − 1), at least 2 tokens",
        vllm: vllm("tpot", "TPOT", "Time per Output Token (excl. 1st token)", VllmNeeds::Nothing),
        vllm_goodput_default: Some(0.0),
        values: |record, definition, sink| one(tpot(record, definition), sink),
        ..PLAIN
    },
    Metric {
        key: "itl",
        short: "ITL",
        name: "Inter-token latency",
        formula: "gap between two token events; 0 where both came in one packet",
        per: Per::Gap,
        vllm: vllm("itl", "ITL", "Inter-token Latency", VllmNeeds::Nothing),
        values: itl,
        ..PLAIN
    },
    Metric {
        key: "e2el",
        short: "E2EL",
        name: "End-to-end latency",
        formula: "last token event − sent",
        vllm: vllm("e2el", "E2EL", "End-to-end Latency", VllmNeeds::Nothing),
        from_schedule: Some("e2el_from_schedule"),
        values: |record, definition, sink| one(e2el(record, definition), sink),
        ..PLAIN
    },
    Metric {
        key: "queue_time",
        short: "Queue",
        name: "Queue time in the client",
        formula: "ready − scheduled: the wait for a slot of the concurrency limit",
        vllm: vllm("client_queue_time", "Client Queue Time", "Client-side Queueing", VllmNeeds::Limit),
        values: |record, definition, sink| one(queue_time(record, definition), sink),
        ..PLAIN
    },
    Metric {
        key: "client_lag",
        short: "Lag",
        name: "Client lag",
        formula: "sent − ready: how late the client was",
        values: |record, definition, sink| one(client_lag(record, definition), sink),
        ..PLAIN
    },
    Metric {
        key: "ttft_from_schedule",
        short: "TTFT*",
        name: "Time to first token, from schedule",
        formula: "first token event − scheduled",
        values: |record, definition, sink| one(since_due(record, ttft(record, definition)), sink),
        ..PLAIN
    },
    Metric {
        key: "e2el_from_schedule",
        short: "E2EL*",
        name: "End-to-end latency, from schedule",
        formula: "last token event − scheduled",
        values: |record, definition, sink| one(since_due(record, e2el(record, definition)), sink),
        ..PLAIN
    },
    Metric {
        key: "e2el_including_client_queue",
        short: "E2EL+Q",
        name: "End-to-end latency with the client's queue",
        formula: "E2EL + queue time, as vLLM adds them: without the client's lag",
        vllm: vllm(
            "e2el_including_client_queue",
            "E2EL incl. Client Queue",
            "Queue-inclusive End-to-end Latency",
            VllmNeeds::LimitAndRate,
        ),
        values: |record, definition, sink| {
            let both = queue_time(record, definition).zip(e2el(record, definition));
            one(both.map(|(queue, e2el)| queue + e2el), sink);
        },
        ..PLAIN
    },
    Metric {
        key: "proxy_queue",
        short: "Px queue",
        name: "Proxy: queue",
        formula: "Server-Timing `queue`: from the request's arrival to the first leg's send",
        values: |record, _, sink| one(proxy_time(record, "queue"), sink),
        ..BY_PROXY
    },
    Metric {
        key: "proxy_prefill",
        short: "Px prefill",
        name: "Proxy: prefill leg",
        formula: "Server-Timing `prefill`: the prefill leg from its send to its end",
        values: |record, _, sink| one(proxy_time(record, "prefill"), sink),
        ..BY_PROXY
    },
    Metric {
        key: "proxy_kv_ready",
        short: "Px KV",
        name: "Proxy: KV ready",
        formula: "Server-Timing `kv-ready`: the wait for word that the KV is there",
        values: |record, _, sink| one(proxy_time(record, "kv-ready"), sink),
        ..BY_PROXY
    },
    Metric {
        key: "proxy_decode_head",
        short: "Px decode",
        name: "Proxy: decode head",
        formula: "Server-Timing `decode-head`: from the decode leg's send to its response head",
        values: |record, _, sink| one(proxy_time(record, "decode-head"), sink),
        ..BY_PROXY
    },
];

impl Metric {
    /// The metric with this key of ours.
    pub fn find(key: &str) -> Option<&'static Metric> {
        METRICS.iter().find(|metric| metric.key == key)
    }

    /// The metric that `vllm bench serve` knows by this key.
    pub fn find_vllm(key: &str) -> Option<&'static Metric> {
        METRICS.iter().find(|metric| metric.vllm.is_some_and(|names| names.key == key))
    }

    /// The one value of a record; `None` where it has none, or where the metric has one per gap.
    pub fn value(&self, record: &RequestRecord, definition: Definition) -> Option<f64> {
        if self.per == Per::Gap {
            return None;
        }
        let mut value = None;
        (self.values)(record, definition, &mut |found| value = Some(found));
        value
    }

    /// The values of many records, in their order.
    pub fn collect<'a>(
        &self,
        records: impl IntoIterator<Item = &'a RequestRecord>,
        definition: Definition,
    ) -> Vec<f64> {
        let mut values = Vec::new();
        for record in records {
            (self.values)(record, definition, &mut |value| values.push(value));
        }
        values
    }

    /// The distribution of the values of many records.
    pub fn distribution<'a>(
        &self,
        records: impl IntoIterator<Item = &'a RequestRecord>,
        definition: Definition,
        percentiles: &[f64],
    ) -> Distribution {
        Distribution::of(self.collect(records, definition), percentiles)
    }
}

impl Unit {
    /// What stands after a number: `ms`.
    pub fn word(self) -> &'static str {
        match self {
            Unit::Ms => "ms",
        }
    }
}

impl Definition {
    /// The word that files use: `strict` or `vllm`.
    pub fn word(self) -> &'static str {
        match self {
            Definition::Vllm => "vllm",
            Definition::Strict => "strict",
        }
    }
}

const fn vllm(
    key: &'static str,
    label: &'static str,
    heading: &'static str,
    needs: VllmNeeds,
) -> Option<VllmNames> {
    Some(VllmNames { key, label, heading, needs })
}

fn one(value: Option<f64>, sink: &mut dyn FnMut(f64)) {
    if let Some(value) = value {
        sink(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unique_and_each_sibling_from_schedule_exists() {
        for (nth, metric) in METRICS.iter().enumerate() {
            assert!(METRICS[..nth].iter().all(|other| other.key != metric.key), "{}", metric.key);
            assert!(metric.from_schedule.is_none_or(|key| Metric::find(key).is_some()), "{}", metric.key);
            let by_vllm = metric.vllm.map(|names| Metric::find_vllm(names.key).unwrap().key);
            assert!(by_vllm.is_none_or(|key| key == metric.key));
        }
    }
}
