//! Who is asked, and how: the arms of a run, in the words of its manifest and in those of its requests.

use super::asking::{Arm, Generation, MAX_LENGTH};
use super::saved::Saved;
use super::{AccuracyPlan, Baseline, Exam, Paths, PromptFormat};
use crate::accuracy::{ARMS, Form};
use crate::command::preflight::{self, Connections};
use crate::command::serve::{Reached, descriptors, front};
use crate::command::{Error, TargetPlan};
use crate::load::Place;
use crate::measure::{AccuracyFacts, ArmFacts};
use serde_json::{Map, Value, json};

/// Who is asked, and how.
pub(super) struct AskedOf<'a> {
    pub(super) plan: &'a AccuracyPlan,
    pub(super) reached: &'a Reached,
    pub(super) against: Option<&'a Reached>,
}

impl AskedOf<'_> {
    pub(super) fn places(&self) -> Vec<Place> {
        let against = self.against.map(|against| (against, ARMS[2]));
        let place = |(reached, arm): (&Reached, &str)| {
            let place = front(reached);
            // The port of an embedded one is another in each run.
            let name = if reached.is_embedded() { arm.to_owned() } else { place.address.to_string() };
            Place { name: against.map(|_| name), ..place }
        };
        [Some((self.reached, ARMS[0])), against].into_iter().flatten().map(place).collect()
    }

    pub(super) fn facts(
        &self,
        exam: &Exam,
        generation: Map<String, Value>,
        earlier: Option<&Saved>,
    ) -> AccuracyFacts {
        let plan = self.plan;
        let baseline = match &plan.baseline {
            Some(Baseline::Deployment(serve)) => serve,
            _ => &plan.serve,
        };
        let arm = |name: usize, reached: &Reached, streamed| ArmFacts {
            name: ARMS[name].to_owned(),
            base_url: match if name < 2 { &plan.serve.target } else { &baseline.target } {
                TargetPlan::Embedded(sim) => format!("embedded {}", sim.config.topology),
                TargetPlan::Remote(_) => reached.target.base_url(),
            },
            model: reached.model.clone(),
            streamed,
        };
        let streamed = plan.paths == Paths::Streamed;
        let mut arms = vec![arm(0, self.reached, streamed)];
        if plan.paths == Paths::Both {
            arms.push(arm(1, self.reached, true));
        }
        if let Some(against) = self.against {
            arms.push(arm(2, against, streamed));
            if 1 < plan.baseline_passes {
                arms.push(arm(3, against, streamed));
            }
        }
        if let Some(first) = earlier.and_then(|earlier| earlier.facts().arms.first()) {
            arms.push(ArmFacts { name: ARMS[2].to_owned(), ..first.clone() });
        }
        let mut task = exam.task.config.clone();
        task.insert("num_fewshot".to_owned(), json!(exam.num_fewshot));
        task.insert("generation_kwargs".to_owned(), Value::Object(generation.clone()));
        AccuracyFacts {
            task,
            questions: exam.questions.len(),
            documents: exam.sources.documents.len(),
            num_fewshot: exam.num_fewshot,
            fewshot_seed: plan.fewshot_seed,
            system_instruction: plan.system_instruction.clone(),
            form: match (plan.form, plan.prompt_format) {
                (_, PromptFormat::TokenIds) => "token-ids",
                (_, PromptFormat::ChatTemplate) => "chat-template",
                (Form::Text, _) => "text",
                (Form::MultiTurn, _) => "multi-turn",
                (Form::SingleTurn, _) => "single-turn",
            }
            .to_owned(),
            generation,
            batch_size: plan.batch_size,
            num_concurrent: plan.num_concurrent,
            max_retries: plan.max_retries,
            own_documents: exam.sources.own,
            arms,
            margin: plan.margin,
            fail_under: plan.fail_under,
            max_error_rate: plan.max_error_rate,
            limit: plan.limit.clone(),
            gen_kwargs: plan.gen_kwargs.clone(),
            model_args: self.model_args(),
            shaping: Map::new(),
            key: String::new(),
        }
    }

    /// What shapes the answers beside the task, the prompts and who is asked.
    pub(super) fn shaping(&self, generation: &Generation) -> Map<String, Value> {
        let plan = self.plan;
        let baseline = match &plan.baseline {
            Some(Baseline::Deployment(serve)) => Some(&**serve),
            _ => None,
        };
        let simulators = [Some(&plan.serve), baseline].into_iter().flatten();
        let simulators: Vec<_> = simulators
            .filter_map(|serve| match &serve.target {
                TargetPlan::Embedded(sim) => Some(sim.config.to_map()),
                TargetPlan::Remote(_) => None,
            })
            .collect();
        let cut = plan.prompt_format == PromptFormat::TokenIds;
        let shaping = [
            ("path", json!(plan.serve.path)),
            ("longest answer", json!(generation.max_tokens)),
            ("stop strings", json!(generation.stop)),
            ("log probabilities", json!(plan.logprobs)),
            ("max_length", json!(cut.then_some(plan.max_length.unwrap_or(MAX_LENGTH)))),
            ("simulated clusters", json!(simulators)),
        ];
        shaping.into_iter().map(|(what, value)| (what.to_owned(), value)).collect()
    }

    /// Makes sure that there are enough open files for what so many requests to each arm keep in flight.
    pub(super) fn raise_descriptor_limit(&self, requests: usize) -> Result<(), Error> {
        let baseline = match &self.plan.baseline {
            Some(Baseline::Deployment(serve)) => Some((&serve.target, self.plan.baseline_passes)),
            _ => None,
        };
        let ways = if self.plan.paths == Paths::Both { 2 } else { 1 };
        let deployments = [Some((&self.plan.serve.target, ways)), baseline];
        let (mut connections, mut files) = (0, 0);
        for (target, arms) in deployments.into_iter().flatten() {
            let most = self.plan.num_concurrent.min(requests.saturating_mul(arms));
            connections += most;
            files += most as u64 * descriptors(target);
        }
        preflight::raise_descriptor_limit(Connections::Exactly(connections), files)
    }

    /// What lm_eval would have been told of the model, where nobody typed it.
    fn model_args(&self) -> Map<String, Value> {
        let plan = self.plan;
        if !plan.model_args.is_empty() {
            return plan.model_args.clone();
        }
        let backend = (plan.prompt_format == PromptFormat::TokenIds).then_some("huggingface");
        let base_url = match self.reached.is_embedded() {
            true => "embedded".to_owned(),
            false => self.reached.target.url(&plan.serve.path),
        };
        let arguments = [
            ("model", json!(self.reached.model)),
            ("base_url", json!(base_url)),
            ("num_concurrent", json!(plan.num_concurrent)),
            ("max_retries", json!(plan.max_retries)),
            ("tokenizer_backend", json!(backend)),
        ];
        arguments.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    pub(super) fn arms<'a>(&'a self, facts: &AccuracyFacts) -> Vec<Arm<'a>> {
        let arm = |(number, arm): (usize, &ArmFacts)| {
            let of_baseline = arm.name == ARMS[2] || arm.name == ARMS[3];
            let reached = if of_baseline { self.against? } else { self.reached };
            let serve = match &self.plan.baseline {
                Some(Baseline::Deployment(serve)) if of_baseline => serve,
                _ => &self.plan.serve,
            };
            Some(Arm {
                number,
                place: usize::from(of_baseline),
                target: &reached.target,
                model: &reached.model,
                path: &serve.path,
                endpoint: serve.endpoint,
                streamed: arm.streamed,
            })
        };
        facts.arms.iter().enumerate().filter_map(arm).collect()
    }
}
