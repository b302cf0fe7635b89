//! `pdbench accuracy`, with the flags that users of lm_eval type.

mod flags;

use super::dataset::cache;
use super::serve::patience::PatienceArgs;
use super::serve::target::TargetArgs;
use super::sim::{DEFAULT_RIGHT, SimParameters};
use super::{Outside, usage};
use crate::accuracy::{Form, KV_PROBE};
use crate::cluster::Topology;
use crate::command::{
    AccuracyPlan, Baseline, DatasetPlan, Error, Paths, ProbePrompt, PromptFormat, ServePlan, SimPlan,
    TargetPlan, TokenizerPlan, TrustPlan, WarmupPrompts,
};
use crate::load::{KeepText, ReadLimits, Timeouts};
use crate::measure::Slo;
use crate::sim::Config;
use crate::wire::Endpoint;
use crate::wire::dialect::Dialect;
use crate::wire::openai::{ChatContent, TokensField};
use crate::workload::{ArrivalProcess, Burstiness, Normalise};
use clap::Args;
use flags::{AgainstArgs, Api, AskingArgs, Format, PathsWord, QuestionArgs, ResultArgs, pairs};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// Asks a task's questions, scores the answers as lm_eval does, and holds a deployment against another.
#[derive(Debug, Args)]
#[command(
    long_about = "Asks the questions of a task, gsm8k say, and scores the answers: the same prompts, the same \
    scores, the same files as lm_eval, but many at a time, through faults, and resumable. With --baseline-url each \
    question is also asked of a deployment without disaggregation, and a paired test says whether the first answers \
    worse.\n\n\
    Without a target the simulated PD cluster inside this process is asked; without documents of the task, the \
    project's own.\n\n\
    Exit status: 0 valid, 1 invalid, worse than the baseline or below a threshold, 2 wrong usage or documents, 3 target \
    not usable, 4 given up, 5 results not written, 130/143 stopped by SIGINT/SIGTERM: go on with --resume."
)]
pub(super) struct AccuracyArgs {
    /// The task: gsm8k, gsm8k_cot, gsm8k_cot_zeroshot, gsm8k_cot_llama, gsm8k_platinum or kv-probe
    #[arg(value_name = "TASK")]
    task: Option<String>,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    patience: PatienceArgs,
    #[command(flatten)]
    questions: QuestionArgs,
    #[command(flatten)]
    asking: AskingArgs,
    #[command(flatten)]
    against: AgainstArgs,
    #[command(flatten)]
    results: ResultArgs,

    /// Use the embedded simulated cluster, such as 2p4d, or 2m for nodes that do both [default: 1p1d]
    #[arg(long, value_name = "TOPOLOGY", num_args = 0..=1, default_missing_value = "1p1d", help_heading = "Simulated cluster")]
    sim: Option<Topology>,
    /// How the proxy speaks to the embedded cluster's nodes
    #[arg(long, default_value = "nixl-pull", value_name = "NAME", help_heading = "Simulated cluster")]
    sim_dialect: Dialect,
    #[command(flatten)]
    parameters: SimParameters<true>,
}

/// Longest wait for an answer where none was typed: lm_eval's.
const LONGEST_ANSWER: Duration = Duration::from_secs(300);
/// Requests in flight where nobody says.
const USUAL_CONCURRENCY: usize = 32;
/// What `--model` means to lm_eval.
const MODEL_TYPES: [(&str, Api); 2] =
    [("local-completions", Api::Completions), ("local-chat-completions", Api::Chat)];

impl AccuracyArgs {
    pub(super) fn plan(mut self, outside: &Outside<'_>) -> Result<AccuracyPlan, Error> {
        let arguments =
            self.asking.model_args.as_deref().map_or(Ok(Map::new()), |text| pairs("--model-args", text))?;
        let api = self.take_model_args(&arguments)?;
        let api_key = self.target.secrets(outside)?;
        let chat = api == Api::Chat;
        let templated = self.asking.apply_chat_template.is_some();
        let form = match (chat || templated, self.asking.fewshot_as_multiturn) {
            (false, _) => Form::Text,
            (true, true) => Form::MultiTurn,
            (true, false) => Form::SingleTurn,
        };
        let prompt_format = match (self.asking.prompt_format, templated && !chat) {
            (Format::TokenIds, _) if chat => {
                return Err(usage("token ids cannot be sent in a chat").help("use --api completions"));
            }
            (Format::TokenIds, true) => {
                return Err(usage("--prompt-format token-ids with --apply-chat-template is not supported")
                    .help("send the rendered text: leave --prompt-format out"));
            }
            (Format::TokenIds, false) => PromptFormat::TokenIds,
            (Format::Text, true) => PromptFormat::ChatTemplate,
            (Format::Text, false) => PromptFormat::Text,
        };
        let number = |key: &str| arguments.get(key).and_then(Value::as_u64).map(|number| number as usize);
        let batch_size = self.asking.batch_size.unwrap_or(1);
        if chat && 1 < batch_size {
            return Err(usage("a chat asks one question a request").help("leave --batch-size out"));
        }
        let paths = match (self.asking.stream, self.asking.paths) {
            (true, _) | (_, Some(PathsWord::Streamed)) => Paths::Streamed,
            (false, Some(PathsWord::Both)) => Paths::Both,
            (false, Some(PathsWord::Whole) | None) => Paths::Whole,
        };
        if paths != Paths::Whole && (1 < batch_size || self.asking.logprobs) {
            return Err(usage("streamed answers come one by one and without log probabilities")
                .help("leave --batch-size and --logprobs out, or --stream and --paths"));
        }
        let max_tokens = self.asking.max_tokens.map(|most| most as u32);
        let task = self.task.take().or(self.questions.tasks.take());
        let task = match (task, &self.questions.task_yaml) {
            (Some(task), _) => task,
            (None, Some(_)) => String::new(),
            (None, None) => {
                return Err(usage("no task was named").help("want one, such as: pdbench accuracy gsm8k"));
            }
        };
        let max_retries =
            self.asking.max_retries.or(number("max_retries").map(|tries| tries as u32)).unwrap_or(3);
        let num_concurrent =
            self.asking.num_concurrent.or(number("num_concurrent")).unwrap_or(USUAL_CONCURRENCY);
        let seed = self.questions.seed()?;
        // A probe's texts mean something only beside how often the baseline's differ by themselves.
        let usual_passes = if task == KV_PROBE { 2 } else { 1 };
        let baseline_passes = usize::from(self.against.baseline_passes.unwrap_or(usual_passes));
        let plan = AccuracyPlan {
            task,
            cache: cache(outside),
            selection: self.questions.selection(),
            limit: self
                .questions
                .limit
                .map(|limit| if limit.fract() == 0.0 { json!(limit as u64) } else { json!(limit) }),
            num_fewshot: self.questions.num_fewshot,
            fewshot_seed: seed,
            form,
            prompt_format,
            system_instruction: self.questions.system_instruction.take(),
            gen_kwargs: self
                .asking
                .gen_kwargs
                .as_deref()
                .map_or(Ok(Map::new()), |text| pairs("--gen-kwargs", text))?,
            probe: self.questions.probe(seed),
            max_tokens,
            batch_size,
            num_concurrent: num_concurrent.max(1),
            max_retries,
            paths,
            logprobs: self.asking.logprobs,
            baseline_passes,
            margin: self.against.margin,
            fail_under: self.against.fail_under,
            max_error_rate: self.against.max_error_rate,
            output_path: self.results.output_path.take(),
            log_samples: self.results.log_samples,
            as_lm_eval: self.asking.compat.is_some(),
            resume: self.results.resume.take(),
            right: self.parameters.right.unwrap_or(DEFAULT_RIGHT),
            task_yaml: self.questions.task_yaml.take(),
            dataset_path: self.questions.dataset_path.take(),
            model_args: arguments,
            baseline: self.baseline(api_key.as_deref())?,
            serve: self.serve(api_key.as_deref(), max_tokens)?,
        };
        Ok(plan)
    }

    /// Takes what `--model_args` and lm_eval's `--model` say of the target; gives the API.
    fn take_model_args(&mut self, arguments: &Map<String, Value>) -> Result<Api, Error> {
        const KNOWN: [&str; 13] = [
            "model",
            "pretrained",
            "base_url",
            "num_concurrent",
            "max_retries",
            "tokenizer",
            "tokenizer_backend",
            "tokenized_requests",
            "timeout",
            "max_length",
            "max_gen_toks",
            "seed",
            "verify_certificate",
        ];
        if let Some(key) = arguments.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            return Err(usage(format!("--model-args: `{}` is not known", key.escape_debug()))
                .help(format!("want some of {}", KNOWN.join(", "))));
        }
        let text = |key: &str| arguments.get(key).and_then(Value::as_str).map(str::to_owned);
        let url = text("base_url").or(self.target.base_url.clone());
        let typed = self.target.model.as_deref();
        let by_type = MODEL_TYPES.iter().find(|(word, _)| Some(*word) == typed).map(|(_, api)| *api);
        if by_type.is_some() {
            // It is no model's name: the name is in the arguments.
            self.target.model = None;
        }
        let by_url = url.as_ref().filter(|url| url.trim_end_matches('/').ends_with("/chat/completions"));
        let api =
            self.asking.api.or(by_type).or(by_url.map(|_| Api::Chat)).unwrap_or(match self.target.api() {
                Endpoint::Chat => Api::Chat,
                Endpoint::Completions => Api::Completions,
            });
        let model = text("model").or(text("pretrained"));
        self.target.overlay(text("base_url"), model, api == Api::Chat);
        self.target.suggest_tokenizer(text("tokenizer"));
        if arguments.contains_key("tokenizer") && self.asking.prompt_format == Format::Text {
            let backend = text("tokenizer_backend").unwrap_or_default();
            if backend == "huggingface" {
                self.asking.prompt_format = Format::TokenIds;
            }
        }
        Ok(api)
    }

    fn embedded(&self) -> bool {
        self.sim.is_some() || !self.target.is_named()
    }

    fn baseline(&self, api_key: Option<&str>) -> Result<Option<Baseline>, Error> {
        let against = &self.against;
        if let Some(directory) = &against.baseline_run {
            return Ok(Some(Baseline::Run(directory.clone())));
        }
        let target = match (&against.baseline_url, against.baseline_sim) {
            (Some(url), _) => TargetPlan::Remote(self.target.at(url, api_key)?),
            (None, Some(topology)) => {
                let config = Config { topology, seed: self.parameters.config.seed, ..Config::default() };
                TargetPlan::Embedded(Box::new(SimPlan::embedded(config)))
            }
            (None, None) if against.baseline_passes.is_some_and(|passes| 1 < passes) => {
                return Err(usage("--baseline-passes without a baseline").help("add --baseline-url URL"));
            }
            (None, None) => return Ok(None),
        };
        let model = against.baseline_model.clone().or(self.target.name_in_requests());
        let remote = matches!(target, TargetPlan::Remote(_));
        let mut serve = plain_serve(target, self.asking.max_tokens.map(|most| most as u32));
        serve.model = model.filter(|_| remote);
        serve.trust = self.target.trust(&serve.target).unwrap_or(TrustPlan::Authorities(None));
        serve.endpoint = self.target.api();
        serve.path = serve.endpoint.path().to_owned();
        serve.wait_ready = self.patience.wait_ready;
        Ok(Some(Baseline::Deployment(Box::new(serve))))
    }

    fn serve(self, api_key: Option<&str>, max_tokens: Option<u32>) -> Result<ServePlan, Error> {
        let embedded = self.embedded();
        if !embedded && self.parameters != SimParameters::default() {
            return Err(usage(
                "--sim-… flags shape the embedded cluster, and this run has a target of its own",
            )
            .help("leave them out, or add --sim to use the embedded cluster"));
        }
        let config = Config {
            topology: self.sim.unwrap_or_default(),
            model: self.target.name_in_requests().unwrap_or(Config::default().model),
            ..self.parameters.config
        };
        let (dialect, answers) = (self.sim_dialect, self.parameters.answers);
        let sim = SimPlan { dialect, answers, ..SimPlan::embedded(config) };
        let tokenizer = self.target.tokenizer();
        let target = self.target.plan(embedded.then_some(sim), api_key)?;
        let timeouts = self.patience.timeouts();
        Ok(ServePlan {
            headers: target.headers,
            trust: target.trust,
            endpoint: target.endpoint,
            path: target.path,
            backend: target.backend,
            model: target.model,
            served_model_name: target.served_model_name,
            request_id_prefix: target.request_id_prefix,
            tokenizer,
            wait_ready: self.patience.wait_ready,
            timeouts: Timeouts { request: timeouts.request.or(Some(LONGEST_ANSWER)), ..timeouts },
            read_limits: self.patience.read_limits(),
            output_dir: self.results.output_dir,
            label: self.results.label,
            progress: !self.results.disable_tqdm,
            ..plain_serve(target.target, max_tokens)
        })
    }
}

/// A plan that says nothing of a load.
pub(super) fn plain_serve(target: TargetPlan, max_tokens: Option<u32>) -> ServePlan {
    let endpoint = Endpoint::Completions;
    ServePlan {
        target,
        headers: Vec::new(),
        trust: TrustPlan::Authorities(None),
        endpoint,
        path: endpoint.path().to_owned(),
        backend: "openai".to_owned(),
        model: None,
        served_model_name: None,
        dataset: DatasetPlan::Questions { max_tokens: max_tokens.unwrap_or(256) },
        tokenizer: TokenizerPlan::Estimate,
        arrivals: ArrivalProcess::AllAtOnce,
        burstiness: Burstiness::Shape(1.0),
        normalise: Normalise::Never,
        seed: 0,
        max_concurrency: None,
        max_duration: None,
        num_warmups: 0,
        warmup_prompts: WarmupPrompts::Own,
        probe: ProbePrompt::None,
        wait_ready: Duration::ZERO,
        ignore_eos: false,
        logprobs: None,
        chat_tokens_field: TokensField::MaxTokens,
        chat_content: ChatContent::Text,
        extra_body: Map::new(),
        request_id_prefix: None,
        slo: Slo::default(),
        percentiles: vec![99.0],
        percentile_metrics: Vec::new(),
        max_error_rate: 1.0,
        strict_osl: false,
        strict: false,
        timeouts: Timeouts { request: Some(LONGEST_ANSWER), ..Timeouts::default() },
        read_limits: ReadLimits::default(),
        save_text: KeepText::All,
        shards: None,
        pacing_spin: Duration::ZERO,
        output_dir: PathBuf::new(),
        label: None,
        metadata: Map::new(),
        result: None,
        salt: None,
        dataset_sha256: None,
        skip_length_check: true,
        nodes: Vec::new(),
        direct: None,
        progress: true,
    }
}
