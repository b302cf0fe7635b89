use crate::command::{Instance, ServePlan};
use crate::wire::Target;
use crate::wire::dialect::Dialect;

/// What `check` was asked to do.
#[derive(Debug)]
pub struct CheckPlan {
    /// How the proxy, or the embedded cluster, is reached. Nothing is said of a load.
    pub serve: ServePlan,
    /// Whether the target is a proxy to be checked; else it is the first instance, which stands for the deployment.
    pub proxy: bool,
    /// Prefill instances; none for those that the proxy names.
    pub prefill: Vec<Instance>,
    /// Decode instances; none for those that the proxy names.
    pub decode: Vec<Instance>,
    /// How the legs are spoken; `None` as the proxy says, and through it where it does not.
    pub dialect: Option<Dialect>,
    /// Metrics of the KV store's master.
    pub store: Option<Target>,
    /// An instance that serves the same model without disaggregation.
    pub baseline: Option<Target>,
    /// Requests over all pairs; `None` for as many as they need.
    pub requests: Option<usize>,
    /// Length of prompts, tokens.
    pub input_tokens: u32,
    /// Length of answers, tokens.
    pub output_tokens: u32,
}
