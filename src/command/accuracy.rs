//! `pdbench accuracy`: asks a task's questions, scores the answers, and compares deployments question by question.

mod arms;
mod asking;
mod plan;
mod rounds;
mod saved;
pub(super) mod sources;

pub use plan::{AccuracyPlan, Baseline, Paths, PromptFormat};
pub(super) use saved::judged;

use super::client::Client;
use super::ending::{Closing, ended_early, finish};
use super::manifest::{Known, manifest, run_id};
use super::recorder::{Recorder, RunDirectory};
use super::serve::{Reached, load_config, reach_or_stop};
use super::{Error, Exit, ServePlan, Surroundings, TargetPlan, input, secrets};
use crate::accuracy::{ARMS, Question, Questions, Task, fold};
use crate::load::{KeepText, Live, Load};
use crate::measure::{AccuracyFacts, ArmFacts, Manifest};
use crate::report::{self, plain};
use crate::runtime::Clock;
use crate::wire::{Secret, sha256};
use crate::workload::{TokenCounter, Tokenizer};
use arms::AskedOf;
use asking::{Asker, Generation, MAX_LENGTH};
use rounds::{Heard, Rounds};
use saved::Saved;
use serde_json::{Value, json};
use sources::Sources;
use std::path::Path;
use std::sync::Arc;

/// What is asked, before anybody is there to be asked.
struct Exam {
    task: Task,
    sources: Sources,
    questions: Vec<Question>,
    tokenizer: Option<Arc<Tokenizer>>,
    num_fewshot: usize,
}

/// Runs a whole accuracy check and prints its result.
pub(super) async fn accuracy(mut plan: AccuracyPlan, world: &mut Surroundings) -> Result<Exit, Error> {
    let started = (world.wall_clock)();
    let exam = Exam::prepare(&plan, started.datetime())?;
    let saved = plan.resume.as_deref().map(Saved::read).transpose()?;
    let earlier = match &plan.baseline {
        Some(Baseline::Run(directory)) => Some(Saved::read(directory)?),
        _ => None,
    };
    writable(&plan)?;
    exam.teach(&mut plan);
    let clock = saved.as_ref().map_or_else(Clock::start, |saved| Clock::after(saved.end()));
    let reached = reach_or_stop(&plan.serve, &started, clock, world).await?;
    let against = match &plan.baseline {
        Some(Baseline::Deployment(serve)) => Some(reach_or_stop(serve, &started, clock, world).await?),
        _ => None,
    };
    let eos = exam.tokenizer.as_ref().and_then(|tokenizer| tokenizer.eos_token().map(str::to_owned));
    let eos = eos.filter(|_| plan.as_lm_eval && plan.num_concurrent == 1);
    let (generation, declared) = Generation::of(&plan, &exam.task, eos.as_deref());
    let asked_of = AskedOf { plan: &plan, reached: &reached, against: against.as_ref() };
    let mut facts = asked_of.facts(&exam, declared, earlier.as_ref());
    facts.shaping = asked_of.shaping(&generation);
    facts.key = key(&facts, &exam.questions);
    let run_id = match &saved {
        Some(saved) => saved.check(&facts)?,
        None => run_id("accuracy", &started, &world.run_id_suffix),
    };
    if let Some(earlier) = &earlier {
        earlier.check_questions(&exam.questions)?;
    }
    let max_tokens = generation.max_tokens;
    let asker = Asker {
        questions: &exam.questions,
        token_ids: exam.token_ids(&plan, max_tokens, world)?,
        generation,
        logprobs: plan.logprobs,
        id_prefix: plan.serve.request_id_prefix.clone().unwrap_or_else(|| format!("{run_id}-")),
    };
    let arms = asked_of.arms(&facts);
    let rounds =
        Rounds { plan: &plan, asker: &asker, arms: &arms, facts: &facts, repeats: exam.task.repeats };
    if let Some(saved) = &saved {
        rounds.check_left(&saved.records())?;
    }

    let live = Arc::new(Live::default());
    let recorder = Recorder::default();
    let heard = Heard::new(saved.as_ref().map_or_else(Vec::new, Saved::records));
    let places = asked_of.places();
    let cores = world.host.cores.saturating_sub(usize::from(reached.is_embedded()));
    let mut config = load_config(&plan.serve, &reached.target, places, cores, clock, world);
    config.keep_text = KeepText::All;
    let deployments = || [Some(&reached), against.as_ref()].into_iter().flatten();
    let of = |reached: &Reached| secrets::of(&reached.target, &plan.serve.extra_body);
    let mut hidden: Vec<Secret> = deployments().flat_map(of).collect();
    // A longer secret may hold a shorter one.
    hidden.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
    config.secrets = hidden.into();
    let stamps = config.stamps;
    let requests = exam.questions.len().saturating_mul(exam.task.repeats);
    asked_of.raise_descriptor_limit(requests)?;
    let mut load = Load::start(config, Arc::clone(&live), &heard.and(recorder.sink()))
        .map_err(|error| Error::new(Exit::Preflight, "cannot start the load").caused_by(error))?;
    let known = Known {
        plan: &plan.serve,
        verb: "accuracy",
        run_id: run_id.clone(),
        started: &started,
        target: &reached.target,
        addresses: &reached.addresses,
        simulated: reached.is_simulated(),
        model: reached.model.clone(),
        model_id: None,
        salt: None,
        dataset: exam.sources.facts.clone(),
        num_prompts: exam.questions.len(),
        stamps,
    };
    let mut manifest = manifest(known, world);
    manifest.accuracy = Some(facts.clone());
    manifest.settings.max_concurrency = Some(plan.num_concurrent);
    manifest.settings.output_len = Some(max_tokens);
    let directory = open_directory(&plan, &mut manifest, &exam, saved, earlier, &mut load, &recorder)?;
    announce(&plan, &exam, &manifest, directory.path(), world);
    let throttled_before = input::throttled_periods();
    let clients: Vec<&Client> = deployments().map(Reached::client).collect();
    let ran = rounds.run(&mut load, &heard, &clients, &live, world).await;
    let ran = ran.map(|(report, fault)| {
        manifest.broken.extend(fault);
        report
    });
    let ended = load.finish().await;
    for mut reached in [Some(reached), against].into_iter().flatten() {
        manifest.broken.extend(reached.end_embedded().await);
    }
    let ran = ran.and_then(|report| ended.map(|()| report).map_err(ended_early));
    let closing = Closing {
        plan: &plan.serve,
        manifest: &mut manifest,
        directory,
        throttled_before,
        judge: Some(&|manifest, records| {
            let facts = manifest.accuracy.as_ref().expect("it was noted when the run began");
            fold(facts, &exam.task, &exam.questions, records)
        }),
        lm_eval: plan.output_path.as_deref().map(|path| (path, plan.log_samples)),
    };
    finish(closing, ran, world)
}

/// Shows that results will have a place.
fn writable(plan: &AccuracyPlan) -> Result<(), Error> {
    let places =
        [(Some(&plan.serve.output_dir), "--output-dir"), (plan.output_path.as_ref(), "--output-path")];
    for (place, flag) in places {
        let Some(place) = place else { continue };
        report::probe_writable(place).map_err(|error| {
            Error::new(Exit::NotWritten, "the results would have no place")
                .caused_by(error)
                .help(format!("name a writable directory with {flag}"))
        })?;
    }
    Ok(())
}

/// The run's directory: a new one with the questions in it, or that of the run to go on with.
fn open_directory(
    plan: &AccuracyPlan,
    manifest: &mut Manifest,
    exam: &Exam,
    saved: Option<Saved>,
    earlier: Option<Saved>,
    load: &mut Load,
    recorder: &Recorder,
) -> Result<RunDirectory, Error> {
    if let Some(saved) = saved {
        // Its time went on when this run began.
        manifest.started.clone_from(&saved.manifest.started);
        manifest.started_unix_us = saved.manifest.started_unix_us;
        load.take_numbers(saved.next_number());
        return RunDirectory::reopen(&saved.directory, manifest, recorder);
    }
    let directory = RunDirectory::create(&plan.serve.output_dir, manifest, recorder)?;
    let questions = saved::questions_bytes(&exam.questions);
    report::write_atomic(&directory.path().join(saved::QUESTIONS), &questions)
        .map_err(|error| Error::new(Exit::NotWritten, "cannot keep the questions").caused_by(error))?;
    if let Some(earlier) = earlier {
        let arm = manifest
            .accuracy
            .as_ref()
            .and_then(|facts| facts.arms.iter().position(|arm| arm.name == ARMS[2]));
        let first = load.take_numbers(earlier.answers());
        recorder.sink()(earlier.as_baseline(arm.unwrap_or(1), first));
    }
    Ok(directory)
}

impl Exam {
    fn prepare(plan: &AccuracyPlan, now: jiff::civil::DateTime) -> Result<Self, Error> {
        let (found, _) = input::found_tokenizer(&plan.serve.tokenizer)?;
        let counter = super::dataset::counter(&found, now)?;
        let tokenizer = match &counter {
            TokenCounter::Tokenizer(tokenizer) => Some(Arc::clone(tokenizer)),
            TokenCounter::Estimate => None,
        };
        if plan.prompt_format != PromptFormat::Text && tokenizer.is_none() {
            return Err(Error::new(Exit::Usage, "this form of prompts needs the model's tokenizer")
                .help("name its directory with --tokenizer"));
        }
        let task = sources::task(plan)?;
        let num_fewshot = plan.num_fewshot.unwrap_or(task.num_fewshot);
        let sources = sources::documents(plan, &task, num_fewshot, &counter)?;
        let count = sources.documents.len();
        if let Some(number) = plan.selection.missing(count) {
            return Err(Error::new(Exit::Usage, format!("there is no document {number}"))
                .help(format!("--samples wants numbers from 0 to {}", count.saturating_sub(1))));
        }
        let asks = Questions {
            form: plan.form,
            num_fewshot,
            fewshot_seed: plan.fewshot_seed.unsigned_abs(),
            system_instruction: plan.system_instruction.clone(),
        };
        let made = asks.make(&task, &sources.documents, sources.examples.as_ref(), &plan.selection);
        let mut questions = made.map_err(|error| {
            Error::new(Exit::Usage, format!("cannot make questions of `{}`: {error}", sources.facts.path))
                .help("check that the documents are those of the task, and --num-fewshot")
        })?;
        if questions.is_empty() {
            return Err(
                Error::new(Exit::Usage, "no document was selected").help("check --limit and --samples")
            );
        }
        if plan.prompt_format == PromptFormat::ChatTemplate {
            let tokenizer = tokenizer.as_ref().expect("it was asked for above");
            questions.iter_mut().try_for_each(|question| rendered(question, tokenizer))?;
        }
        Ok(Self { task, sources, questions, tokenizer, num_fewshot })
    }

    /// What stands for the prompts where they are sent as token ids.
    fn token_ids(
        &self,
        plan: &AccuracyPlan,
        max_tokens: u32,
        world: &mut Surroundings,
    ) -> Result<Vec<Vec<u32>>, Error> {
        let Some(tokenizer) =
            self.tokenizer.as_ref().filter(|_| plan.prompt_format == PromptFormat::TokenIds)
        else {
            return Ok(Vec::new());
        };
        let max_length = plan.max_length.unwrap_or(MAX_LENGTH);
        let (ids, cut) = asking::token_ids(&self.questions, tokenizer, max_tokens, max_length)?;
        if 0 < cut {
            world.note(&format!(
                "warning: {cut} prompts are longer than {max_length} tokens allow, and lose their beginning\n"
            ));
        }
        Ok(ids)
    }

    /// Tells embedded clusters the answers.
    fn teach(&self, plan: &mut AccuracyPlan) {
        let text = |document: &serde_json::Map<String, Value>, key: &str| {
            document.get(key).and_then(Value::as_str).map(str::to_owned)
        };
        let pair = |document| Some((text(document, "question")?, text(document, "answer")?));
        let right = plan.right;
        let learn = |serve: &mut ServePlan| {
            if let TargetPlan::Embedded(sim) = &mut serve.target {
                if sim.config.book.is_some() {
                    return;
                }
                let pairs = self.sources.documents.iter().filter_map(pair);
                sim.config.book = Some(Arc::new(crate::sim::Book::new(pairs, right)));
            }
        };
        learn(&mut plan.serve);
        if let Some(Baseline::Deployment(serve)) = &mut plan.baseline {
            learn(serve);
        }
    }
}

/// A conversation as the model's chat template writes it.
fn rendered(question: &mut Question, tokenizer: &Tokenizer) -> Result<(), Error> {
    let missing = || {
        Error::new(Exit::Usage, format!("the tokenizer `{}` has no chat template", plain(tokenizer.name())))
            .help("use --api chat, where the server renders it")
    };
    let template = tokenizer.chat_template().ok_or_else(missing)?;
    if let Some(messages) = question.messages.take() {
        question.prompt = template.render(&messages).map_err(|error| {
            Error::new(Exit::Usage, format!("cannot render document {}", question.doc_id))
                .help(error.help().to_owned())
                .caused_by(error)
        })?;
    }
    Ok(())
}

/// sha256 over all that shapes the answers.
fn key(facts: &AccuracyFacts, questions: &[Question]) -> String {
    let prompts = sha256(questions.iter().map(Question::prompt_hash).collect::<String>());
    let shaping = json!({
        "task": facts.task, "prompts": prompts, "form": facts.form, "batch_size": facts.batch_size, "arms": facts.arms,
        "shaping": facts.shaping,
    });
    sha256(shaping.to_string())
}

/// Says what is about to happen.
fn announce(
    plan: &AccuracyPlan,
    exam: &Exam,
    manifest: &Manifest,
    directory: &Path,
    world: &mut Surroundings,
) {
    let Some(facts) = &manifest.accuracy else { return };
    let arm = |arm: &ArmFacts| format!("{} {}", arm.name, plain(&arm.base_url));
    let arms: Vec<String> = facts.arms.iter().map(arm).collect();
    world.note(&format!(
        "{} questions of {}, {}-shot, {} at a time, to {}{}\nresults go to {}\n",
        exam.questions.len(),
        exam.task.name,
        exam.num_fewshot,
        plan.num_concurrent,
        arms.join(" and "),
        if manifest.target.simulated { " (SIMULATED: no real model, no real hardware)" } else { "" },
        directory.display(),
    ));
    if let Some(remark) = &exam.sources.facts.remark {
        world.note(&format!("documents: {remark}\n"));
    }
}
