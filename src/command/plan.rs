use super::{AccuracyPlan, AnswersPlan, CachePlan, CheckPlan, ReportPlan};
use crate::cluster::{Node, Role};
use crate::load::{KeepText, ReadLimits, Timeouts};
use crate::measure::{Detail, NodeFacts, Prompts, Slo};
use crate::proxy;
use crate::report::Existing;
use crate::sim;
use crate::wire::dialect::Dialect;
use crate::wire::openai::{ChatContent, TokensField};
use crate::wire::{Endpoint, Secret, Target};
use crate::workload::{ArrivalProcess, Burstiness, Custom, Normalise, Random, ShareGpt, Sonnet};
use serde_json::{Map, Value};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What was asked for, by verb.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
pub enum Plan {
    /// Load a target and report.
    Serve(ServePlan),
    /// Hold batches of equal decode requests in flight, and report.
    Repeat(Box<RepeatPlan>),
    /// Ask a task's questions and score the answers.
    Accuracy(Box<AccuracyPlan>),
    /// Find out whether a PD deployment works, pair by pair.
    Check(Box<CheckPlan>),
    /// Run the simulated cluster until stopped.
    Sim(SimPlan),
    /// Find out what this machine can measure.
    Selftest(SelftestPlan),
    /// Run the proxy until stopped.
    Proxy(ProxyPlan),
    /// Get published files, or say where they are.
    Dataset(CachePlan),
    /// Make the derived files of a run again.
    Report(ReportPlan),
}

/// What `selftest` was asked to do.
#[derive(Debug)]
pub struct SelftestPlan {
    /// Streams at a time, rung by rung.
    pub streams: Vec<u32>,
    /// Time between two tokens of a stream, ms.
    pub gap_ms: f64,
    /// Length of a rung.
    pub length: Duration,
    /// Bound of the TTFT error at p99, ms.
    pub ttft_bound_ms: f64,
    /// Bound of the ITL error at p99, ms; `None` goes by who stamps.
    pub itl_bound_ms: Option<f64>,
    /// Bound of how late sends are at p99, ms.
    pub send_bound_ms: f64,
}

/// What `serve` was asked to do.
#[derive(Debug)]
pub struct ServePlan {
    /// Where the requests go.
    pub target: TargetPlan,
    /// Headers of each request to an embedded cluster; a remote target has its own.
    pub headers: Vec<(String, Secret)>,
    /// Whom an https target has to convince.
    pub trust: TrustPlan,
    /// Which API they use.
    pub endpoint: Endpoint,
    /// Its path, where it is not the usual one.
    pub path: String,
    /// The word that was given for it.
    pub backend: String,
    /// Model name; `None` takes the target's first.
    pub model: Option<String>,
    /// The name that the requests have for it, where it is another.
    pub served_model_name: Option<String>,
    /// What is sent.
    pub dataset: DatasetPlan,
    /// The SHA-256 of its file, where another is to be refused.
    pub dataset_sha256: Option<String>,
    /// Send what is longer than the model takes.
    pub skip_length_check: bool,
    /// What its lengths are counted with.
    pub tokenizer: TokenizerPlan,
    /// When.
    pub arrivals: ArrivalProcess,
    /// How regular the gaps between them are, as typed.
    pub burstiness: Burstiness,
    /// How the arrival times are scaled.
    pub normalise: Normalise,
    /// Seed of prompts and arrivals.
    pub seed: u32,
    /// Most requests in flight at a time.
    pub max_concurrency: Option<usize>,
    /// Longest time of sending.
    pub max_duration: Option<Duration>,
    /// Requests before the main load.
    pub num_warmups: usize,
    /// What the warm-ups send.
    pub warmup_prompts: WarmupPrompts,
    /// What the probe sends.
    pub probe: ProbePrompt,
    /// How long to wait for the target to come up.
    pub wait_ready: Duration,
    /// Tell the server to go on past the end-of-sequence token.
    pub ignore_eos: bool,
    /// Log probabilities per token, of completions.
    pub logprobs: Option<u32>,
    /// The chat field that carries the output length.
    pub chat_tokens_field: TokensField,
    /// The form of a chat's one message.
    pub chat_content: ChatContent,
    /// Merged last into each body: sampling parameters, then what the user adds.
    pub extra_body: Map<String, Value>,
    /// What request ids begin with; `None` for the run's id.
    pub request_id_prefix: Option<String>,
    /// Objectives.
    pub slo: Slo,
    /// Percentiles of vLLM's block, as typed.
    pub percentiles: Vec<f64>,
    /// Metrics of vLLM's block, by key.
    pub percentile_metrics: Vec<String>,
    /// Share of failures above which a run is invalid.
    pub max_error_rate: f64,
    /// Answers whose mean length is off make the run invalid.
    pub strict_osl: bool,
    /// Any failure at all makes the exit status 1.
    pub strict: bool,
    /// Patience.
    pub timeouts: Timeouts,
    /// Sizes beyond which an answer is refused.
    pub read_limits: ReadLimits,
    /// Keep the answers' text in the records.
    pub save_text: KeepText,
    /// Threads that read; `None` for as many as there are processors.
    pub shards: Option<usize>,
    /// How long the pacer may spin before a send.
    pub pacing_spin: Duration,
    /// Where the run's directory is made.
    pub output_dir: PathBuf,
    /// A free name of the run.
    pub label: Option<String>,
    /// What the user wants to remember of the run.
    pub metadata: Map<String, Value>,
    /// vLLM's result file, where one was asked for.
    pub result: Option<ResultPlan>,
    /// Text in front of each prompt.
    pub salt: Option<Salt>,
    /// The instances of the deployment, as far as they were named.
    pub nodes: Vec<NodeFacts>,
    /// Requests that go past the proxy.
    pub direct: Option<DirectPlan>,
    /// Show progress.
    pub progress: bool,
}

/// Requests whose legs the client sends itself.
#[derive(Debug)]
pub struct DirectPlan {
    /// Prefill instances; none for those of the embedded cluster.
    pub prefill: Vec<Instance>,
    /// Decode instances; none for those of the embedded cluster.
    pub decode: Vec<Instance>,
    /// How the legs are spoken; `None` as the embedded cluster's proxy does.
    pub dialect: Option<Dialect>,
    /// Every other request goes through the proxy.
    pub by_turns: bool,
}

/// What `serve` was asked to do with batches of replicas.
#[derive(Debug)]
pub struct RepeatPlan {
    /// Everything that it has in common with a load. Its prompts are enough for all batches.
    pub serve: ServePlan,
    /// Extra decodes of each batch: one less than its replicas.
    pub times: Vec<usize>,
    /// What the replicas of a batch send.
    pub prompts: Prompts,
    /// Rest between the KV and the replicas.
    pub settle: Duration,
    /// Time over which a batch is let in.
    pub ramp: Duration,
    /// Who sends them.
    pub way: RepeatWay,
}

/// Who sends the replicas.
#[derive(Debug)]
pub enum RepeatWay {
    /// This program, to these instances; to the embedded cluster where there are none.
    Direct {
        /// Where the KV is made.
        prefill: Vec<Instance>,
        /// Where the replicas go.
        decode: Vec<Instance>,
        /// How the legs are spoken.
        dialect: Dialect,
        /// Metrics of the KV store.
        store_metrics: Option<Target>,
    },
    /// pdbench's proxy.
    Proxy,
    /// A proxy that keeps no record of them; what these instances count is looked at.
    External {
        /// Where its replicas go.
        decode: Vec<Instance>,
    },
}

/// An instance of the deployment.
#[derive(Clone, Debug)]
pub struct Instance {
    /// What the dialects know of it.
    pub node: Node,
    /// How it is asked.
    pub target: Target,
}

/// The result file of `vllm bench serve`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultPlan {
    /// Where it is put; `None` for the current directory.
    pub directory: Option<PathBuf>,
    /// Its name; `None` for the one that vLLM would give.
    pub name: Option<PathBuf>,
    /// What becomes of a file of that name.
    pub existing: Existing,
    /// How much it holds.
    pub detail: Detail,
}

/// What stands in front of each prompt, so that no cache knows it from an earlier run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Salt {
    /// A text of this run's own.
    OfTheRun,
    /// This text.
    Text(String),
}

/// Where requests go.
#[derive(Debug)]
pub enum TargetPlan {
    /// A simulated cluster inside this process.
    Embedded(Box<SimPlan>),
    /// A server.
    Remote(Target),
}

/// Which certificates of an https target are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustPlan {
    /// Those that the system's authorities vouch for, or those in this PEM file.
    Authorities(Option<PathBuf>),
    /// Any.
    Anyone,
}

/// Where prompts come from.
#[derive(Clone, Debug)]
pub enum DatasetPlan {
    /// Lines of verse, from a file or the text that is built in.
    Sonnet {
        /// The file.
        path: Option<PathBuf>,
        /// Lengths and number.
        sonnet: Sonnet,
    },
    /// Tokens without meaning.
    Random(Random),
    /// Recorded conversations.
    ShareGpt {
        /// The file.
        path: PathBuf,
        /// Order, number and lengths.
        sharegpt: ShareGpt,
    },
    /// The user's own prompts.
    Custom {
        /// The file.
        path: PathBuf,
        /// Order, number and lengths.
        custom: Custom,
    },
    /// The questions of a task, which an accuracy run makes by itself.
    Questions {
        /// Longest answer.
        max_tokens: u32,
    },
}

/// What prompt lengths are counted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerPlan {
    /// Four bytes a token.
    Estimate,
    /// The tokenizer of this directory.
    Directory(PathBuf),
    /// The same, if there is such a directory with a tokenizer; else the estimate.
    IfLocal(PathBuf),
}

/// What the warm-ups send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarmupPrompts {
    /// Texts of their own, as long as the first prompt, that warm no prefix cache.
    Own,
    /// The first prompt, as `vllm bench serve` does.
    First,
}

/// What the probe sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbePrompt {
    /// There is no probe.
    None,
    /// A sentence of its own.
    Own,
    /// The first prompt.
    First,
}

/// What `sim` was asked to do.
#[derive(Clone, Debug)]
pub struct SimPlan {
    /// The cluster; its book is read from `answers`, if there are some.
    pub config: sim::Config,
    /// What the model is to know.
    pub answers: Option<AnswersPlan>,
    /// Where to listen; port 0 for any. Mixed nodes take the ports from here on.
    pub address: SocketAddr,
    /// First port of the prefill nodes, the others behind it; 0 for any.
    pub prefill_port: u16,
    /// First port of the decode nodes, the others behind it; 0 for any.
    pub decode_port: u16,
    /// Whether a proxy stands before prefill and decode nodes.
    pub proxy: bool,
    /// How it speaks to them.
    pub dialect: Dialect,
    /// Which leg the first token comes from.
    pub first_token: proxy::FirstToken,
    /// Where to write what each request really met.
    pub truth_log: Option<PathBuf>,
}

impl SimPlan {
    /// A cluster of its own on free ports of this machine.
    pub fn embedded(config: sim::Config) -> Self {
        Self {
            config,
            answers: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            prefill_port: 0,
            decode_port: 0,
            proxy: true,
            dialect: Dialect::NixlPull,
            first_token: proxy::FirstToken::default(),
            truth_log: None,
        }
    }

    /// Each node's role and port, 0 for any.
    pub(super) fn ports(&self) -> impl Iterator<Item = (Role, u16)> {
        let mut next = [self.prefill_port, self.decode_port, self.address.port()];
        self.config.topology.roles().map(move |role| {
            let next = &mut next[match role {
                Role::Prefill => 0,
                Role::Decode => 1,
                Role::Mixed => 2,
            }];
            let port = *next;
            *next = if port == 0 { 0 } else { port.wrapping_add(1) };
            (role, port)
        })
    }
}

/// What `proxy` was asked to do.
#[derive(Debug)]
pub struct ProxyPlan {
    /// The proxy, without its keys, its seed and the listener for notifications.
    pub config: proxy::Config,
    /// Where to listen: an address, or a name of this machine.
    pub host: String,
    /// The port there; 0 for any.
    pub port: u16,
    /// Where to take notifications of arrived KV.
    pub kv_notify: Option<(String, u16)>,
    /// Seed of what is drawn; `None` for another each time.
    pub seed: Option<u64>,
    /// File with the key for the admin endpoints.
    pub admin_key_file: Option<PathBuf>,
    /// What to say of what was typed.
    pub notes: Vec<String>,
}
