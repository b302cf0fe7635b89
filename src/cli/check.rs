//! `pdbench check`.

use super::accuracy::plain_serve;
use super::serve::patience::PatienceArgs;
use super::serve::target::TargetArgs;
use super::sim::SimParameters;
use super::{Outside, at_least_one, usage};
use crate::cluster::{Node, Topology};
use crate::command::{CheckPlan, Error, Instance, ServePlan, SimPlan, is_spoken};
use crate::load::Timeouts;
use crate::sim::Config;
use crate::wire::dialect::Dialect;
use crate::wire::{Endpoint, Target};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Says whether a PD deployment works: every pair of instances, and the proxy before them.
#[derive(Debug, Args)]
#[command(
    long_about = "Says in under a minute whether a PD deployment works. Every pair of a prefill and a decode instance gets \
    requests of its own, straight and in the dialect of the connector; a few more go through the proxy. Each step has a \
    verdict: whether the instances answer and are alike, whether KV moves and how much of it (the instances' counters \
    say), whether decode says from that KV what prefill says alone, whether the proxy uses both sides.\n\n\
    Without addresses the simulated PD cluster inside this process is checked. The instances behind a pdbench proxy, or \
    another one with /status, need not be named.\n\n\
    Exit status: 0 nothing wrong, 1 something is wrong or was not shown, 2 wrong usage, 3 nothing answers, 5 results not \
    written, 130/143 stopped by SIGINT/SIGTERM."
)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    patience: PatienceArgs,

    /// Prefill instances
    #[arg(long, value_name = "HOST:PORT", num_args = 1.., help_heading = "Deployment")]
    prefill: Vec<Node>,
    /// Decode instances
    #[arg(long, value_name = "HOST:PORT", num_args = 1.., help_heading = "Deployment")]
    decode: Vec<Node>,
    /// How the legs are spoken [default: as the proxy's /status says; else pairs are those that the proxy chooses]
    #[arg(long, value_name = "NAME", help_heading = "Deployment")]
    dialect: Option<Dialect>,
    /// Metrics of the KV store's master, such as http://10.0.0.9:9003
    #[arg(long, value_name = "URL", help_heading = "Deployment")]
    store: Option<String>,
    /// An instance with the same model and without disaggregation, whose answers are right [default: each prefill
    /// instance's own]
    #[arg(long, value_name = "URL", help_heading = "Deployment")]
    baseline_url: Option<String>,

    /// Requests over all pairs of instances; every pair comes once before any comes twice [default: 4 a pair up to 32, and
    /// never less than one a pair]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "Requests")]
    requests: Option<usize>,
    /// Length of prompts, tokens of four bytes; several KV blocks, or nothing has to move. Half of what the model takes
    /// where that is less
    #[arg(long, default_value_t = 700, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Requests")]
    input_len: u32,
    /// Length of answers, tokens
    #[arg(long, default_value_t = 16, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(2..), help_heading = "Requests")]
    output_len: u32,

    /// Parent of the run's directory
    #[arg(long, default_value = "reports", value_name = "DIR", help_heading = "Results")]
    output_dir: PathBuf,
    /// A free name of the run
    #[arg(long, value_name = "TEXT", help_heading = "Results")]
    label: Option<String>,

    /// Check the embedded simulated cluster, with so many prefill and decode nodes behind the real proxy [default: 1p1d]
    #[arg(long, value_name = "TOPOLOGY", num_args = 0..=1, default_missing_value = "1p1d", help_heading = "Simulated cluster")]
    sim: Option<Topology>,
    /// How the embedded cluster's proxy speaks to its nodes
    #[arg(long, default_value = "nixl-pull", value_name = "NAME", help_heading = "Simulated cluster")]
    sim_dialect: Dialect,
    #[command(flatten)]
    parameters: SimParameters<true>,
}

/// Longest wait for an answer where none was typed: a whole check is to take no longer.
const LONGEST_ANSWER: Duration = Duration::from_secs(60);

impl CheckArgs {
    pub(super) fn plan(mut self, outside: &Outside<'_>) -> Result<CheckPlan, Error> {
        let api_key = self.target.secrets(outside)?;
        let api_key = api_key.as_deref();
        let named = !self.prefill.is_empty() || !self.decode.is_empty();
        let proxy = self.target.has_place();
        let embedded = self.sim.is_some() || !proxy && !named;
        self.check_fit(embedded)?;
        self.target.find_proxy(embedded, outside)?;
        let prefill = instances(&self.prefill, &self.target, api_key)?;
        let decode = instances(&self.decode, &self.target, api_key)?;
        let at = |flag: &str, url: &String| {
            self.target
                .at(url, api_key)
                .map_err(|error| usage(format!("{flag} cannot be used")).caused_by(error))
        };
        let baseline = self.baseline_url.as_ref().map(|url| at("--baseline-url", url)).transpose()?;
        let store = self
            .store
            .as_ref()
            .map(|url| Target::parse(url).map_err(|error| usage("--store cannot be used").caused_by(error)));
        if let Some(first) = self.decode.first().or(self.prefill.first()).filter(|_| !proxy && !embedded) {
            self.target.overlay(Some(format!("http://{first}")), None, Endpoint::Completions);
        }
        Ok(CheckPlan {
            prefill,
            decode,
            proxy,
            dialect: self.dialect,
            store: store.transpose()?,
            baseline,
            requests: self.requests,
            input_tokens: self.input_len,
            output_tokens: self.output_len,
            serve: self.serve(embedded, api_key)?,
        })
    }

    /// Refuses what does not go together.
    fn check_fit(&self, embedded: bool) -> Result<(), Error> {
        if self.target.api() == Endpoint::Chat {
            return Err(usage("a check sends completions: a chat template would stand before its prompts")
                .help("leave --backend out"));
        }
        if !embedded && self.parameters != SimParameters::default() {
            return Err(usage(
                "--sim-… flags shape the embedded cluster, and this check has a deployment of its own",
            )
            .help("leave them out, or leave the addresses out"));
        }
        if embedded && (!self.prefill.is_empty() || !self.decode.is_empty() || self.target.has_place()) {
            return Err(usage("--sim beside addresses: the embedded cluster has its own")
                .help("leave one of them out"));
        }
        if let Some(flag) = self.parameters.idle_flag() {
            return Err(usage(format!("--{flag} without answers")).help("add --sim-answers FILE"));
        }
        match self.dialect.filter(|dialect| !is_spoken(*dialect)) {
            Some(dialect) if !self.target.has_place() => {
                Err(usage(format!("dialect {} cannot be spoken without a proxy", dialect.name()))
                    .help("name the proxy with --base-url: pairs are then those that it chooses"))
            }
            _ => Ok(()),
        }
    }

    fn serve(self, embedded: bool, api_key: Option<&str>) -> Result<ServePlan, Error> {
        let config = Config {
            topology: self.sim.unwrap_or_default(),
            model: self.target.name_in_requests().unwrap_or(Config::default().model),
            ..self.parameters.config
        };
        let (dialect, answers) = (self.sim_dialect, self.parameters.answers);
        let sim = SimPlan { dialect, answers, ..SimPlan::embedded(config) };
        let target = self.target.plan(embedded.then_some(sim), api_key)?;
        let timeouts = self.patience.timeouts();
        Ok(ServePlan {
            headers: target.headers,
            trust: target.trust,
            backend: target.backend,
            model: target.model,
            served_model_name: target.served_model_name,
            wait_ready: self.patience.wait_ready,
            timeouts: Timeouts { request: timeouts.request.or(Some(LONGEST_ANSWER)), ..timeouts },
            read_limits: self.patience.read_limits(),
            ignore_eos: true,
            output_dir: self.output_dir,
            label: self.label,
            ..plain_serve(target.target)
        })
    }
}

/// Instances that are asked like the target.
fn instances(nodes: &[Node], target: &TargetArgs, api_key: Option<&str>) -> Result<Vec<Instance>, Error> {
    let one = |node: &Node| {
        Ok(Instance { node: node.clone(), target: target.at(&format!("http://{node}"), api_key)? })
    };
    nodes.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::TargetPlan;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Verb {
        #[command(flatten)]
        check: CheckArgs,
    }

    fn plan(line: &str) -> Result<CheckPlan, Error> {
        let outside = Outside { variable: &|_| None, key_file: &|_| Ok(String::new()) };
        let words = ["check"].into_iter().chain(line.split_whitespace());
        Verb::try_parse_from(words).unwrap().check.plan(&outside)
    }

    #[test]
    fn what_is_checked_is_what_was_named() {
        let nothing = plan("--sim-fault lose-kv").unwrap();
        assert!(matches!(nothing.serve.target, TargetPlan::Embedded(_)) && !nothing.proxy);
        let proxy = plan("--base-url http://10.0.0.1:8000").unwrap();
        assert!(matches!(proxy.serve.target, TargetPlan::Remote(_)) && proxy.proxy);
        let nodes =
            plan("--prefill http://a:8100 --decode b:8200 c:8200 --dialect nixl-pull --requests 9").unwrap();
        assert!((nodes.prefill.len(), nodes.decode.len(), nodes.requests) == (1, 2, Some(9)) && !nodes.proxy);
        assert!(matches!(&nodes.serve.target, TargetPlan::Remote(target) if target.host() == "b"));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (line, says) in [
            ("--base-url http://a:1 --sim-fault lose-kv", "--sim-… flags shape the embedded cluster"),
            ("--sim 1p1d --decode b:1", "the embedded cluster has its own"),
            (
                "--prefill a:1 --decode b:1 --dialect lmcache",
                "dialect lmcache cannot be spoken without a proxy",
            ),
            ("--backend openai-chat", "a check sends completions"),
            ("--store ftp://a", "--store cannot be used"),
        ] {
            let error = plan(line).unwrap_err();
            assert!(
                error.message().contains(says) && error.message().contains("help") || line.contains("ftp"),
                "{line}: {}",
                error.message()
            );
        }
    }
}
