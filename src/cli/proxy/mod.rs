//! The flags of `pdbench proxy`: its own, and those of the scripts that it stands in for, as they are typed there.

mod instances;
#[cfg(test)]
mod tests;

use super::{at_least_one, seconds, usage};
use crate::command::{Error, ProxyPlan};
use crate::proxy::{Admin, Allowed, Benchmark, Config, FirstToken, Health, Policy, Timeouts, Trigger};
use crate::wire::dialect::Dialect;
use clap::{Args, ValueEnum};
use instances::{Instances, Way};
use std::path::PathBuf;
use std::time::Duration;

/// Serves one OpenAI address in front of prefill and decode instances, until it is stopped.
#[derive(Clone, Debug, Args)]
#[command(
    long_about = "Serves one OpenAI address in front of prefill and decode instances. It takes the command lines of \
    the scripts in use: `--prefill IP:PORT… --decode IP:PORT…` (vLLM's disagg_proxy_demo and its kin), \
    `--prefiller-hosts … --prefiller-ports … --decoder-hosts … --decoder-ports …` (vLLM's toy proxy, vllm-ascend), \
    `--prefiller-host … --decoder-host …` (LMCache). The instances need not be up yet.\n\n\
    Keys come from the environment: OPENAI_API_KEY for the instances, ADMIN_API_KEY for /instances/add and \
    /instances/remove, which are not there without it."
)]
pub(super) struct ProxyArgs {
    /// Address to listen on: an address, or a name of this machine
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Model name for /v1/models while no instance answers
    #[arg(long, short)]
    model: Option<String>,
    /// How the legs are spoken [default: lmcache after --prefiller-host or --decoder-host, nixl-pull after
    /// --prefiller-hosts or --decoder-hosts, nixl-push after --prefill-engine-id, else plain]
    #[arg(long, value_name = "NAME", long_help = dialect_help())]
    dialect: Option<Dialect>,
    /// How instances are chosen: round-robin, least-in-flight, least-tokens, ascend-score, random [default:
    /// ascend-score with the Ascend dialects, else round-robin]
    #[arg(long, value_name = "NAME", value_parser = policy)]
    policy: Option<Policy>,
    /// The same as --policy round-robin
    #[arg(long, conflicts_with = "policy")]
    roundrobin: bool,
    /// Seed of the random policy and of the ids that are made up [default: another each time]
    #[arg(long)]
    seed: Option<u64>,
    /// Which leg the client's first token comes from [default: prefill with dialect lmcache, else decode]
    #[arg(long, value_enum)]
    first_token: Option<FirstTokenWord>,
    /// The same as --first-token prefill
    #[arg(long, conflicts_with = "first_token")]
    generator_on_p_node: bool,
    /// Longest context of every instance, in tokens; requests are kept from instances that cannot hold them
    #[arg(long, value_name = "TOKENS")]
    max_model_len: Option<u64>,
    /// Whether the decode leg waits until the KV is told to have arrived [default: zmq with dialect lmcache, else
    /// none]
    #[arg(long, value_enum)]
    kv_notify: Option<KvNotify>,
    /// Address on which notifications are taken [default: that of --host]
    #[arg(long, alias = "proxy-host")]
    notify_host: Option<String>,
    /// Port on which notifications are taken [default: 8500]
    #[arg(long, alias = "proxy-port", value_name = "PORT")]
    notify_port: Option<u16>,
    /// Where decode instances reach this proxy's /v1/metaserver (dialect ascend-layerwise) [default: made of --host
    /// and --port]
    #[arg(long, value_name = "URL", value_parser = http_url)]
    metaserver_url: Option<String>,
    /// Instances that may be added while it runs, beside those of the start: a host or a network, then `:port` or
    /// `:first-last`; repeatable
    #[arg(long, value_name = "HOST", num_args = 1..)]
    allow_instance: Vec<Allowed>,
    /// File with the key for /instances/add and /instances/remove, instead of ADMIN_API_KEY
    #[arg(long, value_name = "FILE")]
    admin_key_file: Option<PathBuf>,
    /// Honours the header x-pdbench-repeat-d-times, and the two flags below
    #[arg(long)]
    benchmark_mode: bool,
    /// Requests that pass before one fires copies by itself [default: 1]
    #[arg(long, value_name = "N", requires = "benchmark_mode")]
    repeat_p_request: Option<u32>,
    /// Copies of that request's decode leg
    #[arg(long, value_name = "N", requires = "benchmark_mode")]
    repeat_d_times: Option<u32>,
    /// Accepted and without effect: what failed is not sent again
    #[arg(long, value_name = "N")]
    max_retries: Option<u32>,
    /// Accepted and without effect: what failed is not sent again
    #[arg(long, value_name = "SECONDS")]
    retry_delay: Option<f64>,
    #[command(flatten)]
    instances: Instances,
    #[command(flatten)]
    patience: Patience,
}

/// How long is waited for what.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Patience")]
struct Patience {
    /// Between two checks of an instance that is up, in seconds [default: 5]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    health_interval: Option<Duration>,
    /// Longest wait for the answer to a check, in seconds [default: 5]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    health_timeout: Option<Duration>,
    /// Longest wait for a connection to an instance, in seconds [default: 5]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    connect_timeout: Option<Duration>,
    /// Longest wait for the head of an instance's answer, in seconds [default: 3600]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    head_timeout: Option<Duration>,
    /// Longest wait between two pieces of an answer, in seconds [default: 600]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    idle_timeout: Option<Duration>,
    /// Longest wait for a notification, or for a decode instance's call, in seconds [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    kv_ready_timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FirstTokenWord {
    Prefill,
    Decode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KvNotify {
    None,
    Zmq,
}

/// Port on which LMCache's proxy takes notifications.
const NOTIFY_PORT: u16 = 8500;

fn dialect_help() -> String {
    let names: Vec<_> = Dialect::ALL.iter().map(|dialect| dialect.name()).collect();
    format!(
        "How the legs are spoken: {}. [default: lmcache after --prefiller-host or --decoder-host, nixl-pull after \
         --prefiller-hosts or --decoder-hosts, nixl-push after --prefill-engine-id, else plain]",
        names.join(", ")
    )
}

/// `ascend-score` is the policy whose short name is `ascend`.
fn policy(text: &str) -> Result<Policy, String> {
    if text == "ascend-score" { Ok(Policy::Ascend) } else { text.parse() }
}

fn http_url(text: &str) -> Result<String, String> {
    let parsed = url::Url::parse(text).ok().filter(|url| url.scheme() == "http" && url.host().is_some());
    parsed.map(|_| text.to_owned()).ok_or_else(|| {
        format!("`{text}` is no place to call: want one such as `http://10.0.0.9:8000/v1/metaserver`")
    })
}

impl ProxyArgs {
    pub(super) fn plan(self) -> Result<ProxyPlan, Error> {
        let (way, mut nodes) = self.instances.nodes(self.allow_instance.is_empty())?;
        let dialect = match self.dialect {
            Some(dialect) => dialect,
            None => way.dialect()?,
        };
        self.instances.facts(dialect, &mut nodes)?;
        let first_token = self.first_token(dialect)?;
        let benchmark = self.benchmark_mode.then(|| Benchmark {
            trigger: self.repeat_d_times.filter(|&copies| 0 < copies).map(|repeat_d_times| Trigger {
                repeat_p_request: self.repeat_p_request.unwrap_or(1),
                repeat_d_times,
            }),
        });
        let triggered = benchmark.as_ref().is_some_and(|benchmark| benchmark.trigger.is_some());
        if triggered && !dialect.kv_outlives_its_request() {
            return Err(usage(format!(
                "--repeat-d-times with dialect {dialect}, which binds the KV of a prefill to one request"
            ))
            .help("the repeat mode needs a KV store: --dialect plain"));
        }
        let policy = match dialect {
            _ if self.roundrobin => Policy::RoundRobin,
            Dialect::Ascend | Dialect::AscendLayerwise => self.policy.unwrap_or(Policy::Ascend),
            _ => self.policy.unwrap_or_default(),
        };
        let config = Config {
            dialect,
            policy,
            first_token,
            prefill: nodes.prefill,
            decode: nodes.decode,
            model: self.model.clone(),
            admin: Admin { key: None, allowed: self.allow_instance.clone() },
            max_model_len: self.max_model_len,
            health: self.patience.health(),
            timeouts: self.patience.timeouts(),
            benchmark,
            metaserver_url: self.metaserver(dialect)?,
            ..Config::default()
        };
        Ok(ProxyPlan {
            config,
            seed: self.seed,
            kv_notify: self.kv_notify(dialect)?,
            notes: self.notes(&way),
            host: self.host,
            port: self.port,
            admin_key_file: self.admin_key_file,
        })
    }

    fn first_token(&self, dialect: Dialect) -> Result<FirstToken, Error> {
        let asked = match self.first_token {
            None if self.generator_on_p_node => Some(FirstTokenWord::Prefill),
            asked => asked,
        };
        match asked {
            Some(FirstTokenWord::Prefill) if !dialect.shows_first_token() => {
                Err(usage(format!("dialect {dialect} has no first token from the prefill instance"))
                    .help("its prefill leg does not end before the decode leg begins; leave the flag out"))
            }
            Some(FirstTokenWord::Decode) if dialect.continues_prefill() => {
                Err(usage(format!("dialect {dialect} always shows the prefill instance's token"))
                    .help("--dialect plain asks the decode instance for all tokens"))
            }
            None if dialect.continues_prefill() => Ok(FirstToken::Prefill),
            Some(FirstTokenWord::Prefill) => Ok(FirstToken::Prefill),
            _ => Ok(FirstToken::Decode),
        }
    }

    /// Where notifications are taken.
    fn kv_notify(&self, dialect: Dialect) -> Result<Option<(String, u16)>, Error> {
        let lmcache = dialect == Dialect::Lmcache;
        let wanted = self.kv_notify.unwrap_or(if lmcache { KvNotify::Zmq } else { KvNotify::None });
        if wanted == KvNotify::Zmq && !lmcache {
            return Err(usage(format!("dialect {dialect} has no notifications"))
                .help("leave --kv-notify out, or choose --dialect lmcache"));
        }
        if wanted == KvNotify::None && (self.notify_host.is_some() || self.notify_port.is_some()) {
            return Err(usage("a place for notifications, and none are taken")
                .help("--notify-host and --notify-port belong to --dialect lmcache with --kv-notify zmq"));
        }
        let host = self.notify_host.as_ref().unwrap_or(&self.host).clone();
        Ok((wanted == KvNotify::Zmq).then(|| (host, self.notify_port.unwrap_or(NOTIFY_PORT))))
    }

    fn metaserver(&self, dialect: Dialect) -> Result<Option<String>, Error> {
        let layerwise = dialect == Dialect::AscendLayerwise;
        if self.metaserver_url.is_some() && !layerwise {
            return Err(
                usage("--metaserver-url with a dialect whose decode instances call nobody").help(format!(
                    "it belongs to ascend-layerwise, and the dialect is {dialect}: add --dialect ascend-layerwise"
                )),
            );
        }
        let everywhere = ["0.0.0.0", "::", "[::]"].contains(&self.host.as_str());
        if layerwise && everywhere && self.metaserver_url.is_none() {
            return Err(usage(format!(
                "--host {} is no address that decode instances could call",
                self.host
            ))
            .help("add --metaserver-url http://ADDRESS:PORT/v1/metaserver, as they reach this machine"));
        }
        Ok(self.metaserver_url.clone())
    }

    /// What the user may not expect of what was typed.
    fn notes(&self, way: &Way) -> Vec<String> {
        let mut notes = Vec::new();
        if self.dialect.is_none() {
            notes.push(format!("dialect chosen by {} (--dialect NAME for another)", way.words()));
        }
        if self.max_retries.is_some() || self.retry_delay.is_some() {
            notes.push(
                "--max-retries and --retry-delay have no effect: what failed is not sent again".to_owned(),
            );
        }
        if self.benchmark_mode && self.repeat_p_request.is_some() && self.repeat_d_times.is_none() {
            notes.push("--repeat-p-request has no effect without --repeat-d-times".to_owned());
        }
        notes
    }
}

impl Patience {
    fn health(&self) -> Health {
        let default = Health::default();
        let interval = self.health_interval.unwrap_or(default.interval);
        Health {
            interval,
            interval_down: default.interval_down.min(interval),
            timeout: self.health_timeout.unwrap_or(default.timeout),
        }
    }

    fn timeouts(&self) -> Timeouts {
        let default = Timeouts::default();
        Timeouts {
            connect: self.connect_timeout.unwrap_or(default.connect),
            head: self.head_timeout.unwrap_or(default.head),
            idle: self.idle_timeout.unwrap_or(default.idle),
            kv_ready: self.kv_ready_timeout.unwrap_or(default.kv_ready),
        }
    }
}
