use super::check::CheckFacts;
use super::{
    AccuracyFacts, AccuracyResult, Comparison, Offset, RepeatFacts, RequestRecord, Slo, Stamps, Summary,
};
use serde::{Deserialize, Serialize};

/// The version of `run.json` and `records.jsonl` that this program writes.
pub const SCHEMA: u32 = 1;

/// The artefact: what was asked for and what happened. Every report is a fold over it.
#[derive(Clone, Debug)]
pub struct Run {
    /// What was asked for, where and with what.
    pub manifest: Manifest,
    /// What happened to each request, by `i`.
    pub records: Vec<RequestRecord>,
    /// What the answers were worth, where that was asked.
    pub accuracy: Option<AccuracyResult>,
}

/// The content of `run.json`: the manifest from the start of the run on, the summary from its end on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunFile {
    /// What was asked for.
    #[serde(flatten)]
    pub manifest: Manifest,
    /// What came out of it; absent while the run goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// What an accuracy run came to. The manifest beside it has what it asked, as `accuracy`.
    #[serde(rename = "accuracy_result", default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<AccuracyResult>,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It goes on, or died without a word.
    Running,
    /// It came to its planned end.
    Complete,
    /// It was stopped, by a signal or by the error budget.
    Interrupted,
}

/// What was asked for, where and with what: enough to judge the records and to run it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name of the run and of its directory.
    pub run_id: String,
    /// The verb that made it, such as `serve`.
    pub verb: String,
    /// How far it has come.
    pub state: State,
    /// Why it was interrupted, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupted_by: Option<String>,
    /// Parts of pdbench that failed, other than on a request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<String>,
    /// The command line, secrets redacted.
    pub command_line: Vec<String>,
    /// What the command line meant.
    pub settings: Settings,
    /// Name, version and commit of the program.
    pub version: String,
    /// The machine the client ran on.
    pub host: Host,
    /// Wall-clock time of the run's origin, RFC 3339 with microseconds.
    pub started: String,
    /// The same in microseconds since 1970.
    pub started_unix_us: u64,
    /// When the main load began; main requests are scheduled from here on.
    #[serde(rename = "main_start_us")]
    pub main_start: Offset,
    /// When the main load had ended, drained; absent while it goes on.
    #[serde(rename = "main_end_us", default, skip_serializing_if = "Option::is_none")]
    pub main_end: Option<Offset>,
    /// Where the requests went.
    pub target: TargetFacts,
    /// The instances of the deployment, as far as they were named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeFacts>,
    /// The batches of replicas of such a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<RepeatFacts>,
    /// What an accuracy run asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<AccuracyFacts>,
    /// What a functional check sent, and what the instances told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckFacts>,
    /// Which clock stamped what came from the sockets.
    pub stamps: Stamps,
    /// Where the prompts came from.
    pub dataset: DatasetFacts,
    /// Earlier runs beside this one that sent the same prompts to the same target: ids, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sent_before: Vec<String>,
    /// Half of the requests went through this proxy, half past it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
    /// The simulator's parameters, by flag name, where the target was our own simulated cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulator: Option<serde_json::Map<String, serde_json::Value>>,
    /// What a clock beside the load saw of the client itself; absent where none ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticker: Option<TickerFacts>,
    /// Main requests in flight, counted by the sender and sampled apart from the records: instant and count.
    #[serde(rename = "in_flight_us", default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<Vec<(Offset, u32)>>,
}

/// An instance of the deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// `prefill`, `decode` or `proxy`.
    pub role: String,
    /// `host:port`.
    pub address: String,
}

/// What a 1 ms ticker on a thread of its own saw of the client during the main load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TickerFacts {
    /// How late its ticks were at the 99th percentile, milliseconds.
    pub p99_late_ms: f64,
    /// Processor share of the busiest worker thread, in [0, 1], deliberate spinning left out.
    pub worker_cpu_share: f64,
    /// Scheduling periods in which the process was throttled by its control group, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled_periods: Option<u64>,
}

/// The machine the client ran on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Operating system and kernel release.
    pub kernel: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// Physical memory in bytes, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

/// Where the requests went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetFacts {
    /// Base URL without credentials, or `embedded`.
    pub base_url: String,
    /// Path of the measured requests.
    pub endpoint: String,
    /// `openai` (completions) or `openai-chat`.
    pub backend: String,
    /// Model name in the requests.
    pub model: String,
    /// The model that is behind it, where that has another name: a path, say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_id: Option<String>,
    /// Addresses that the host name stood for; the first one was used. Empty for `embedded`.
    pub addresses: Vec<String>,
    /// The HTTP proxy on the way, without credentials; the addresses are its.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_proxy: Option<String>,
    /// The server's certificate was checked; `false` by `--insecure`, absent without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_verified: Option<bool>,
    /// True when the answers came from a simulator of ours: no statement about real hardware.
    pub simulated: bool,
    /// Topology of the simulated cluster, such as `1p1d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<String>,
}

/// Where the prompts came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetFacts {
    /// `random`, `sonnet`, `sharegpt` or `custom`.
    pub name: String,
    /// File, `embedded`, or `generated`.
    pub path: String,
    /// SHA-256 of the file, in hexadecimal; empty where there is none.
    pub sha256: String,
    /// How prompt lengths were counted: `estimate` (four bytes a token) or a tokenizer's name.
    pub token_counter: String,
    /// How long the tokenizer took to load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer_load_ms: Option<f64>,
    /// What is particular about the prompts, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
}

/// What the command line meant, as far as judging the records needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Requests planned for the main load.
    pub num_prompts: usize,
    /// Requests per second; `None` for `inf`.
    pub request_rate: Option<f64>,
    /// Rates of a run that raised its load; `request_rate` then is `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp_up: Option<RampUp>,
    /// Shape of the gaps' gamma distribution; `None` for constant gaps.
    pub burstiness: Option<f64>,
    /// Most requests in flight at a time; `None` for no limit.
    pub max_concurrency: Option<usize>,
    /// Longest time of sending, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration_s: Option<f64>,
    /// Seed of prompts and arrivals.
    pub seed: u64,
    /// Requests sent before the main load, apart from the probe.
    pub num_warmups: usize,
    /// Input length asked of the dataset, tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_len: Option<u32>,
    /// Output length asked for, tokens; `None` when each line of the dataset has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_len: Option<u32>,
    /// Length of the prefix that all prompts share, tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_len: Option<u32>,
    /// The server was told to ignore the end-of-sequence token.
    pub ignore_eos: bool,
    /// Percentiles of vLLM's block, each in [0, 100], once, in the order in which they were asked for.
    pub percentiles: Vec<f64>,
    /// Metrics of vLLM's block, by key.
    pub percentile_metrics: Vec<String>,
    /// Service-level objectives; empty when goodput was not asked for.
    pub slo: Slo,
    /// Share of failed requests above which the run is invalid.
    pub max_error_rate: f64,
    /// Answers whose mean length is off make the run invalid.
    #[serde(default)]
    pub strict_osl: bool,
    /// A free name of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What the user wants to remember of the run, in the order in which it was typed.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Text in front of each prompt, so that no cache knows it from an earlier run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// What vLLM's result file holds; absent when none was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vllm_result: Option<Detail>,
}

/// How much of a run a result file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    /// Numbers of the whole run.
    Summary,
    /// Lists with a value for each request, too.
    Detailed,
}

/// A rate that changed from the first request to the last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RampUp {
    /// `linear` or `exponential`.
    pub strategy: String,
    /// Requests per second at the first request.
    pub start_rps: f64,
    /// Requests per second at the last.
    pub end_rps: f64,
}

/// Percentiles that every distribution has, besides the median.
const USUAL_PERCENTILES: [f64; 2] = [90.0, 99.0];

impl Settings {
    /// The usual percentiles and those asked for, ascending.
    pub fn all_percentiles(&self) -> Vec<f64> {
        let mut all: Vec<f64> = USUAL_PERCENTILES.iter().chain(&self.percentiles).copied().collect();
        all.sort_by(f64::total_cmp);
        all.dedup();
        all
    }
}

impl Run {
    /// The records of the measured load.
    pub fn main(&self) -> impl Iterator<Item = &RequestRecord> {
        self.records.iter().filter(|record| record.is_main())
    }
}
