use super::RequestRecord;

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

/// One metric, declared once: reports loop over [`METRICS`] and know none by name.
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
    /// Hands each value of one record to the sink: none, one, or one per gap.
    pub values: fn(&RequestRecord, Definition, &mut dyn FnMut(f64)),
}

/// All metrics, in the order of reports.
pub const METRICS: &[Metric] = &[];
