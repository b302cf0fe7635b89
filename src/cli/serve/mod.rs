//! `pdbench serve`, with the flags of `vllm bench serve`.

mod arrivals;
mod dataset;
mod output;
pub(super) mod patience;
mod repeat;
mod sampling;
pub(super) mod target;
#[cfg(test)]
mod tests;

use super::sim::SimParameters;
use super::{Outside, at_least_one, usage};
use crate::command::{
    DatasetPlan, Error, Existing, LadderPlan, Plan, ProbePrompt, RepeatPlan, ResultPlan, Salt, ServePlan,
    SimPlan, WarmupPrompts, WatchPlan,
};
use crate::sim::Config;
use crate::wire::dialect::Dialect;
use clap::{Args, ValueEnum};

/// Loads a server, or the embedded simulated cluster, and measures it.
#[derive(Debug, Args)]
#[command(long_about = "Loads a server, or the embedded simulated PD cluster, and measures it.\n\n\
    Without a target (--base-url, --host, --port, --model, --tokenizer, --endpoint) the load goes to a simulated cluster inside \
    this process: dataset sonnet, 200 prompts, 8 requests/s. With one, defaults are those of `vllm bench serve`: \
    http://127.0.0.1:8000, dataset random, 1000 prompts, all at once.\n\n\
    Exit status: 0 valid, 1 invalid or a threshold missed, 2 wrong usage or dataset, 3 target not usable, 4 given up \
    during the load, 5 results not written, 130/143 stopped by SIGINT/SIGTERM with the results saved.")]
pub(super) struct ServeArgs {
    #[command(flatten)]
    target: target::TargetArgs,
    #[command(flatten)]
    dataset: dataset::DatasetArgs,
    #[command(flatten)]
    arrivals: arrivals::ArrivalArgs,
    #[command(flatten)]
    sampling: sampling::SamplingArgs,
    #[command(flatten)]
    patience: patience::PatienceArgs,
    #[command(flatten)]
    output: output::OutputArgs,
    #[command(flatten)]
    repeat: repeat::RepeatArgs,

    /// Requests sent before the clock of the main load starts
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Load")]
    num_warmups: usize,
    /// What warm-ups send: texts of their own, or the first prompt as `vllm bench serve` does
    #[arg(long, default_value = "own", value_name = "WHICH", help_heading = "Load")]
    warmup_prompts: Warmups,
    /// What the one request before the load sends; with --num-prompts 1 it is the first prompt
    #[arg(long, value_name = "WHICH", help_heading = "Load")]
    probe: Option<Probe>,
    /// Put a text in front of each prompt, so that no cache knows it from an earlier run; one of the run's own
    /// unless TEXT is given. The prompts then are not those of `vllm bench serve`
    #[arg(long, value_name = "TEXT", num_args = 0..=1, default_missing_value = "", help_heading = "Load")]
    salt: Option<String>,
    /// Threads that read answers [default: one per processor, up to 16]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "Load")]
    workers: Option<usize>,

    /// Use the embedded simulated cluster, with so many prefill and decode nodes behind the real proxy, or with so many
    /// nodes that do both (2m) [default: 1p1d]
    #[arg(long, value_name = "TOPOLOGY", num_args = 0..=1, default_missing_value = "1p1d", help_heading = "Simulated cluster")]
    sim: Option<crate::cluster::Topology>,
    /// How the proxy speaks to the embedded cluster's nodes
    #[arg(long, default_value = "nixl-pull", value_name = "NAME", help_heading = "Simulated cluster")]
    sim_dialect: Dialect,
    #[command(flatten)]
    parameters: SimParameters<true>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Probe {
    None,
    Own,
    First,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Warmups {
    Own,
    First,
}

impl Probe {
    fn prompt(typed: Option<Self>, num_prompts: usize) -> ProbePrompt {
        match typed {
            Some(Probe::None) => ProbePrompt::None,
            Some(Probe::Own) => ProbePrompt::Own,
            Some(Probe::First) => ProbePrompt::First,
            None if num_prompts == 1 => ProbePrompt::First,
            None => ProbePrompt::Own,
        }
    }
}

impl Warmups {
    fn prompts(self) -> WarmupPrompts {
        match self {
            Warmups::Own => WarmupPrompts::Own,
            Warmups::First => WarmupPrompts::First,
        }
    }
}

/// Several runs of one load.
fn ladder(serve: ServePlan, several: arrivals::Several) -> Result<Plan, Error> {
    let replaces = |result: &ResultPlan| result.name.is_some() && result.existing == Existing::Replace;
    if serve.result.as_ref().is_some_and(replaces) {
        return Err(usage(
            "--result-filename with several runs: each would replace the file of the one before",
        )
        .help("add --append-result, or leave --result-filename out: each run then has a name of its own"));
    }
    let arrivals::Several { arrivals, runs, pause, prompts } = several;
    Ok(Plan::Ladder(Box::new(LadderPlan { serve, arrivals, runs, pause, prompts })))
}

/// `--salt` without a text is empty.
fn salt(text: String) -> Salt {
    if text.is_empty() { Salt::OfTheRun } else { Salt::Text(text) }
}

impl ServeArgs {
    /// What the flags mean together: a load, or batches of replicas.
    pub(super) fn any_plan(mut self, outside: &Outside<'_>) -> Result<Plan, Error> {
        let api_key = self.target.secrets(outside)?;
        let api_key = api_key.as_deref();
        if let Some(url) = self.repeat.target_url()?.filter(|_| !self.target.has_place()) {
            self.target.base_url = Some(url);
        }
        self.target.find_proxy(self.is_embedded(), outside)?;
        self.check_way()?;
        let watch = self.repeat.watch()?;
        let Some(batches) = self.repeat.batches(&self.target, api_key)? else {
            if self.repeat.names_instances() && !self.target.is_named() {
                return Err(usage(
                    "--prefill and --decode name instances, and nothing says where requests go",
                )
                .help(
                    "add --pd-proxy URL or --base-url URL, or --repeat-d-times N for batches of replicas",
                ));
            }
            let direct = self.repeat.direct(&self.target, api_key)?;
            let embedded = self.is_embedded();
            let several = self.arrivals.several(self.arrivals.process(embedded)?.0)?;
            let serve = repeat::fits(ServePlan { watch, direct, ..self.plan(api_key)? })?;
            return match several {
                Some(several) => ladder(serve, several),
                None => Ok(Plan::Serve(serve)),
            };
        };
        let first = self.arrivals.process(self.is_embedded())?.0;
        if self.arrivals.several(first)?.is_some() {
            return Err(usage(
                "several rates or --runs with batches of replicas: they have no rate, and one run",
            )
            .help("start pdbench once for each run; `pdbench compare` puts them side by side"));
        }
        if self.dataset.num_prompts.is_some() {
            return Err(usage(
                "--num-prompts with batches of replicas: their number is that of --repeat-d-times",
            ));
        }
        self.dataset.num_prompts = Some(batches.num_prompts());
        let repeat::Batches { times, prompts, settle, ramp, way } = batches;
        let serve = ServePlan { watch, ..self.plan(api_key)? };
        Ok(Plan::Repeat(Box::new(RepeatPlan { serve, times, prompts, settle, ramp, way })))
    }

    fn is_embedded(&self) -> bool {
        self.sim.is_some() || !self.target.is_named()
    }

    /// An HTTP proxy stands before one target outside, and before nothing else.
    fn check_way(&self) -> Result<(), Error> {
        match self.target.is_proxied() && self.repeat.goes_to_instances() {
            true => Err(usage("--http-proxy is for one target, and these requests go to instances, too")
                .help("leave --http-proxy out")),
            false => Ok(()),
        }
    }

    /// What the flags of a load mean together.
    pub(super) fn plan(self, api_key: Option<&str>) -> Result<ServePlan, Error> {
        let embedded = self.is_embedded();
        if !embedded && self.parameters != SimParameters::default() {
            return Err(usage(
                "--sim-… flags shape the embedded cluster, and this run has a target of its own",
            )
            .help("leave them out, or add --sim to use the embedded cluster"));
        }
        if let Some(flag) = self.parameters.idle_flag() {
            return Err(usage(format!("--{flag} without answers")).help("add --sim-answers FILE"));
        }
        let seed = self.arrivals.seed;
        let num_prompts = self.dataset.num_prompts.unwrap_or(if embedded { 200 } else { 1000 });
        let (arrivals, burstiness) = self.arrivals.process(embedded)?;
        let (dataset_sha256, skip_length_check) =
            (self.dataset.dataset_sha256.clone(), self.dataset.skip_length_check);
        let dataset = self.dataset.plan(embedded, num_prompts, seed, self.target.api())?;
        let config = Config {
            topology: self.sim.unwrap_or_default(),
            seed: u64::from(seed),
            model: self.target.name_in_requests().unwrap_or(Config::default().model),
            ..self.parameters.config
        };
        let tokenizer = self.target.tokenizer();
        let (dialect, answers) = (self.sim_dialect, self.parameters.answers);
        let sim = SimPlan { dialect, answers, ..SimPlan::embedded(config) };
        let target = self.target.plan(embedded.then_some(sim), api_key)?;
        Ok(ServePlan {
            target: target.target,
            headers: target.headers,
            trust: target.trust,
            endpoint: target.endpoint,
            path: target.path,
            backend: target.backend,
            model: target.model,
            served_model_name: target.served_model_name,
            request_id_prefix: target.request_id_prefix,
            // Random tokens end an answer at random; `vllm bench serve` does not let them either.
            ignore_eos: self.sampling.ignore_eos || matches!(dataset, DatasetPlan::Random(_)),
            dataset,
            dataset_sha256,
            skip_length_check,
            tokenizer,
            arrivals,
            burstiness,
            normalise: self.arrivals.normalise(),
            seed,
            max_concurrency: self.arrivals.max_concurrency,
            max_duration: self.arrivals.max_duration,
            pacing_spin: self.arrivals.spin(),
            num_warmups: self.num_warmups,
            warmup_prompts: self.warmup_prompts.prompts(),
            probe: Probe::prompt(self.probe, num_prompts),
            wait_ready: self.patience.wait_ready,
            timeouts: self.patience.timeouts(),
            read_limits: self.patience.read_limits(),
            logprobs: self.sampling.logprobs,
            chat_tokens_field: self.sampling.chat_tokens_field(),
            chat_content: self.sampling.chat_content(),
            extra_body: self.sampling.extra_body()?,
            slo: self.output.slo()?,
            percentiles: self.output.percentiles(),
            percentile_metrics: self.output.percentile_metrics(),
            max_error_rate: self.output.max_error_rate,
            strict_osl: self.output.strict_osl,
            strict: self.output.strict,
            save_text: self.output.save_text(),
            metadata: self.output.metadata()?,
            result: self.output.result(),
            salt: self.salt.map(salt),
            watch: WatchPlan::default(),
            direct: None,
            output_dir: self.output.output_dir,
            label: self.output.label,
            progress: !self.output.disable_tqdm,
            shards: self.workers,
        })
    }
}
