use super::target::TargetArgs;
use crate::cli::{at_least_one, seconds_or_zero, usage};
use crate::cluster::Node;
use crate::command::{DirectPlan, Error, Instance, RepeatWay, ServePlan, TargetPlan, WatchPlan};
use crate::measure::{Prompts, ServerRole};
use crate::wire::Target;
use crate::wire::dialect::{Dialect, Order};
use clap::{Args, ValueEnum};
use std::time::Duration;

/// The instances of the deployment, and batches of equal decode requests.
#[derive(Debug, Args)]
#[command(next_help_heading = "Prefill, decode and batches of replicas")]
pub(super) struct RepeatArgs {
    /// Prefill instances
    #[arg(long, value_name = "HOST:PORT", num_args = 1..)]
    prefill: Vec<Node>,
    /// Decode instances
    #[arg(long, value_name = "HOST:PORT", num_args = 1..)]
    decode: Vec<Node>,
    /// URL of the proxy in front of them; the target, unless --base-url names another
    #[arg(long, value_name = "URL")]
    pd_proxy: Option<String>,
    /// Hold N + 1 equal decode requests in flight at once and measure the plateau; a list makes the batch curve. Sent
    /// straight to --decode after their prompts went through --prefill, by --pd-proxy if there is one, and without
    /// either to the embedded cluster
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = at_least_one)]
    repeat_d_times: Vec<usize>,
    /// What the replicas of a batch send: all the same prompt, or each its own [default: same; unique where a dialect
    /// binds the KV to one request]
    #[arg(long, value_name = "WHICH", requires = "repeat_d_times")]
    repeat_prompts: Option<RepeatPrompts>,
    /// Rest between the arrival of the KV and the replicas, seconds
    #[arg(long, default_value = "0", value_name = "SECONDS", value_parser = seconds_or_zero)]
    repeat_settle: Duration,
    /// Let a batch in over so many seconds; 0 releases all at once
    #[arg(long, default_value = "0", value_name = "SECONDS", value_parser = seconds_or_zero)]
    repeat_ramp: Duration,
    /// How the legs are spoken without a proxy [default: plain; as its proxy does, to the embedded cluster]
    #[arg(long, value_name = "NAME")]
    dialect: Option<Dialect>,
    /// Send both legs of each request straight to --prefill and --decode, past the proxy. With --through-proxy every
    /// other request, and the report says what the proxy costs
    #[arg(long, conflicts_with_all = ["repeat_d_times", "expect_replicas"])]
    direct: bool,
    /// Send requests through the proxy, as without this flag
    #[arg(long, conflicts_with_all = ["repeat_d_times", "expect_replicas"])]
    through_proxy: bool,
    /// Metrics of the KV store (mooncake_master), to watch it and to see the KV arrive, such as
    /// http://127.0.0.1:9003/metrics
    #[arg(long, visible_alias = "store", value_name = "URL")]
    store_metrics: Option<String>,
    /// Look at /metrics of --prefill, --decode, --store-metrics and a pdbench --pd-proxy so often, in 1/s; 0 looks
    /// before and after the load only [default: 1; 5 with batches of replicas]
    #[arg(long, value_name = "HZ", value_parser = looks_per_second)]
    scrape_hz: Option<f64>,
    /// What --pd-proxy is: pdbench's, or one whose replicas only the metrics of --decode show
    #[arg(long, value_name = "WHOSE", requires = "pd_proxy")]
    repeat_proxy: Option<RepeatProxy>,
    /// Replicas that a foreign proxy sends besides its client's request
    #[arg(long, value_name = "N", value_parser = at_least_one, conflicts_with = "repeat_d_times")]
    expect_replicas: Option<usize>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RepeatPrompts {
    Same,
    Unique,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RepeatProxy {
    Pdbench,
    External,
}

/// Most looks a second.
const MOST_HZ: f64 = 100.0;

fn looks_per_second(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(hz) if (0.0..=MOST_HZ).contains(&hz) => Ok(hz),
        _ => Err(format!("`{text}` is not a number of looks a second: want 0 to {MOST_HZ}")),
    }
}

/// What the flags of batches mean.
pub(super) struct Batches {
    pub(super) times: Vec<usize>,
    pub(super) prompts: Prompts,
    pub(super) settle: Duration,
    pub(super) ramp: Duration,
    pub(super) way: RepeatWay,
}

impl RepeatArgs {
    /// The nodes that were named, and how often they are looked at.
    pub(super) fn watch(&self) -> Result<WatchPlan, Error> {
        let at = |role: ServerRole, flag: &str, url: &str| {
            let target = Target::parse(url);
            target
                .map(|target| (role, target))
                .map_err(|error| usage(format!("{flag} cannot be used")).caused_by(error))
        };
        let instance =
            |role, flag: &'static str| move |node: &Node| at(role, flag, &format!("http://{node}"));
        let prefill = self.prefill.iter().map(instance(ServerRole::Prefill, "--prefill"));
        let decode = self.decode.iter().map(instance(ServerRole::Decode, "--decode"));
        let store = self.store_metrics.iter().map(|url| at(ServerRole::Store, "--store-metrics", url));
        let proxy = self.pd_proxy.iter().map(|url| at(ServerRole::Proxy, "--pd-proxy", url));
        let nodes = prefill.chain(decode).chain(store).chain(proxy).collect::<Result<_, _>>()?;
        Ok(WatchPlan { nodes, scrape_hz: self.scrape_hz })
    }

    /// True when instances, or the proxy before them, were named.
    pub(super) fn names_instances(&self) -> bool {
        !self.prefill.is_empty() || !self.decode.is_empty() || self.pd_proxy.is_some()
    }

    /// True when requests go to more than the one target.
    pub(super) fn goes_to_instances(&self) -> bool {
        self.direct || !self.repeat_d_times.is_empty() || self.expect_replicas.is_some()
    }

    /// The URL of the run's target, where these flags name it.
    pub(super) fn target_url(&self) -> Result<Option<String>, Error> {
        let repeats = !self.repeat_d_times.is_empty() || (self.direct && !self.through_proxy);
        match (&self.pd_proxy, self.decode.first()) {
            (Some(proxy), _) => Ok(Some(proxy.clone())),
            (None, Some(node)) if repeats => Ok(Some(format!("http://{node}"))),
            _ => Ok(None),
        }
    }

    /// The batches, if any were asked for.
    pub(super) fn batches(
        &self,
        target: &TargetArgs,
        api_key: Option<&str>,
    ) -> Result<Option<Batches>, Error> {
        let times = match (self.expect_replicas, self.repeat_proxy) {
            (Some(replicas), Some(RepeatProxy::External)) => vec![replicas],
            (Some(_), _) => return Err(usage("--expect-replicas goes with --repeat-proxy external")),
            (None, Some(RepeatProxy::External)) => {
                return Err(usage("--repeat-proxy external wants to know what to expect")
                    .help("add --expect-replicas N, the N of the proxy's --repeat_d_times"));
            }
            (None, _) if self.repeat_d_times.is_empty() => return Ok(None),
            (None, _) => self.repeat_d_times.clone(),
        };
        let way = self.way(target, api_key)?;
        let prompts = self.prompts(&way)?;
        Ok(Some(Batches { times, prompts, settle: self.repeat_settle, ramp: self.repeat_ramp, way }))
    }

    /// The dialect that was typed, if a client can speak it.
    fn spoken(&self) -> Result<Option<Dialect>, Error> {
        match self.dialect {
            Some(dialect) if dialect.order() != Order::PrefillFirst || dialect == Dialect::Lmcache => {
                Err(usage(format!("dialect {} cannot be spoken without a proxy", dialect.name()))
                    .help("start `pdbench proxy --benchmark-mode` and name it with --pd-proxy"))
            }
            dialect => Ok(dialect),
        }
    }

    /// Requests past the proxy, if any were asked for.
    pub(super) fn direct(
        &self,
        target: &TargetArgs,
        api_key: Option<&str>,
    ) -> Result<Option<DirectPlan>, Error> {
        if !self.direct {
            return Ok(None);
        }
        let help = "add --prefill HOST:PORT… and --decode HOST:PORT…";
        let [prefill, decode] = self.both_sides(target, api_key).and_then(|sides| {
            sides.ok_or_else(|| usage("--direct wants to know both kinds of instances").help(help))
        })?;
        if self.through_proxy && !decode.is_empty() && self.pd_proxy.is_none() && !target.is_named() {
            return Err(usage("--through-proxy wants to know the proxy").help("add --pd-proxy URL"));
        }
        let dialect = self.spoken()?;
        Ok(Some(DirectPlan { prefill, decode, dialect, by_turns: self.through_proxy }))
    }

    /// The instances of both roles: some of each, or none for the embedded cluster; `None` where they go together
    /// badly.
    fn both_sides(
        &self,
        target: &TargetArgs,
        api_key: Option<&str>,
    ) -> Result<Option<[Vec<Instance>; 2]>, Error> {
        let bad = self.prefill.is_empty() != self.decode.is_empty()
            || (self.decode.is_empty() && target.is_named());
        let sides = [instances(&self.prefill, target, api_key)?, instances(&self.decode, target, api_key)?];
        Ok((!bad).then_some(sides))
    }

    fn way(&self, target: &TargetArgs, api_key: Option<&str>) -> Result<RepeatWay, Error> {
        if self.repeat_proxy == Some(RepeatProxy::External) {
            let decode = instances(&self.decode, target, api_key)?;
            return match decode.is_empty() {
                true => {
                    Err(usage("the replicas of a foreign proxy show in the decode instances' metrics only")
                        .help("name the instances with --decode HOST:PORT…"))
                }
                false => Ok(RepeatWay::External { decode }),
            };
        }
        if self.pd_proxy.is_some() {
            return Ok(RepeatWay::Proxy);
        }
        let help = "add --prefill HOST:PORT… and --decode HOST:PORT…, or --pd-proxy URL";
        let [prefill, decode] = self.both_sides(target, api_key).and_then(|sides| {
            sides
                .ok_or_else(|| usage("--repeat-d-times wants both kinds of instances, or a proxy").help(help))
        })?;
        let dialect = self.spoken()?.unwrap_or_default();
        let store_metrics = self.store_metrics.as_ref().map(|url| {
            Target::parse(url).map_err(|error| usage("--store-metrics cannot be used").caused_by(error))
        });
        Ok(RepeatWay::Direct { prefill, decode, dialect, store_metrics: store_metrics.transpose()? })
    }

    fn prompts(&self, way: &RepeatWay) -> Result<Prompts, Error> {
        let bound = matches!(way, RepeatWay::Direct { dialect, .. } if !dialect.kv_outlives_its_request());
        match (self.repeat_prompts, way) {
            (Some(RepeatPrompts::Same), _) if bound => {
                let name = self.dialect.unwrap_or_default().name();
                Err(usage(format!(
                    "dialect {name} binds the KV of a prefill to one decode: N + 1 decodes cannot share one prompt's"
                ))
                .help("leave --repeat-prompts out: each replica then has a prompt and a prefill of its own"))
            }
            (Some(RepeatPrompts::Unique), RepeatWay::Proxy | RepeatWay::External { .. }) => {
                Err(usage("a proxy repeats the request that sets it off: its replicas have one prompt")
                    .help("send them straight to the instances with --prefill and --decode"))
            }
            (Some(RepeatPrompts::Unique), _) => Ok(Prompts::Unique),
            (None, _) if bound => Ok(Prompts::Unique),
            (Some(RepeatPrompts::Same) | None, _) => Ok(Prompts::Same),
        }
    }
}

/// Instances that are asked like the target.
fn instances(nodes: &[Node], target: &TargetArgs, api_key: Option<&str>) -> Result<Vec<Instance>, Error> {
    let one = |node: &Node| {
        let target = target.at(&format!("http://{node}"), api_key)?;
        Ok(Instance { node: node.clone(), target })
    };
    nodes.iter().map(one).collect()
}

/// A load whose parts go together: instances are spoken to in the clear.
pub(super) fn fits(plan: ServePlan) -> Result<ServePlan, Error> {
    match (&plan.direct, &plan.target) {
        (Some(_), TargetPlan::Remote(target)) if target.tls().is_some() => {
            Err(usage("--direct goes to the instances by http, and the target is https")
                .help("name the proxy by http, or measure the two in runs of their own"))
        }
        _ => Ok(plan),
    }
}

impl Batches {
    /// How many prompts they need.
    pub(super) fn num_prompts(&self) -> usize {
        match self.prompts {
            Prompts::Same => self.times.len(),
            Prompts::Unique => self.times.iter().map(|times| times + 1).sum(),
        }
    }
}
