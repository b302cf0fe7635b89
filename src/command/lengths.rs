//! Whether the model takes what is about to be sent: prompts and answers together, where the target tells its limit.

use super::dataset::Dataset;
use super::{DatasetPlan, Error, Exit, ServePlan, input};
use crate::measure::PromptTokensSource;
use crate::workload::{Request, decode};

/// Refuses the run when a request is longer than the model takes; `added` tokens go before each prompt.
pub(super) fn check(
    plan: &ServePlan,
    dataset: &Dataset,
    added: u32,
    limit: Option<u64>,
) -> Result<(), Error> {
    let Some(limit) = limit.filter(|_| !plan.skip_length_check) else { return Ok(()) };
    let prompt = |request: &Request| u64::from(request.prompt_tokens) + u64::from(added);
    let too_long = |request: &&Request| limit < prompt(request) + output_tokens(plan, request);
    let count = dataset.requests.iter().filter(too_long).count();
    let Some(nth) = dataset.requests.iter().position(|request| too_long(&request)) else { return Ok(()) };
    let request = &dataset.requests[nth];
    let mut what = format!(
        "{} is longer than the model takes: {} prompt tokens{} and {} output tokens, and its max_model_len is {limit}",
        place(plan, dataset, nth),
        prompt(request),
        match dataset.prompt_tokens_source() {
            PromptTokensSource::Estimate => " (estimated as 4 bytes a token)",
            _ => "",
        },
        output_tokens(plan, request),
    );
    if 1 < count {
        what += &format!("; so are {} other requests", count - 1);
    }
    Err(Error::new(Exit::Usage, what).help(match dataset.prompt_tokens_source() {
        PromptTokensSource::Estimate => {
            "ask for fewer tokens, or have them counted with --tokenizer DIR; --skip-length-check sends it all the same"
        }
        _ => "ask for fewer tokens, or leave it out; --skip-length-check sends it all the same",
    }))
}

/// What a request asks for, unless the body says otherwise last.
fn output_tokens(plan: &ServePlan, request: &Request) -> u64 {
    let said = ["max_tokens", "max_completion_tokens"]
        .into_iter()
        .find_map(|key| plan.extra_body.get(key)?.as_u64());
    said.unwrap_or(u64::from(request.output_tokens))
}

/// Where a request comes from: file and line, where it is one line's.
fn place(plan: &ServePlan, dataset: &Dataset, nth: usize) -> String {
    let line = match &plan.dataset {
        DatasetPlan::Custom { path, custom } => input::read(path, "prompts").ok().and_then(|bytes| {
            let line = custom.line_of(decode(&bytes).ok()?, &dataset.requests[nth], &dataset.counter)?;
            Some(format!("`{}`, line {line},", path.display()))
        }),
        _ => None,
    };
    line.unwrap_or_else(|| format!("request {} of {}", nth + 1, dataset.requests.len()))
}
