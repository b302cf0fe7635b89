//! Where a task and its documents are found: in the program, in the user's cache, in files that were named.

use super::AccuracyPlan;
use crate::accuracy::{BUILT_IN, Documents, KV_PROBE, Task, TaskError, read_documents};
use crate::command::{Error, Exit, input};
use crate::measure::DatasetFacts;
use crate::wire::sha256;
use crate::workload::{TokenCounter, decode};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The documents of a run.
pub(super) struct Sources {
    pub(super) documents: Documents,
    /// Those that worked examples are drawn from.
    pub(super) examples: Option<Documents>,
    pub(super) facts: DatasetFacts,
    /// They are the project's own.
    pub(super) own: bool,
}

/// The project's own documents, by split: written in the manner of gsm8k.
const OWN: [(&str, &str); 2] = [
    ("train", include_str!("../../../datasets/word-problems/train.jsonl")),
    ("test", include_str!("../../../datasets/word-problems/test.jsonl")),
];

/// A file that a task needs and that is not part of this program.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// The task or data set.
    pub name: &'static str,
    /// The file's place in the cache.
    pub file: &'static str,
    /// Where its authors publish it.
    pub url: &'static str,
    /// What it has to be.
    pub sha256: &'static str,
}

/// All that `dataset fetch` knows.
pub const PUBLISHED: &[Published] = &[
    Published {
        name: "gsm8k",
        file: "gsm8k/train.jsonl",
        url: "https://raw.githubusercontent.com/openai/grade-school-math/master/grade_school_math/data/train.jsonl",
        sha256: "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
    },
    Published {
        name: "gsm8k",
        file: "gsm8k/test.jsonl",
        url: "https://raw.githubusercontent.com/openai/grade-school-math/master/grade_school_math/data/test.jsonl",
        sha256: "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
    },
    Published {
        name: "gsm8k_cot",
        file: "tasks/gsm8k_cot.yaml",
        url: "https://raw.githubusercontent.com/EleutherAI/lm-evaluation-harness/v0.4.13/lm_eval/tasks/gsm8k/gsm8k-cot.yaml",
        sha256: "7c9dd2561fe334a55f62bdc6a876f045e6dc7f53714c7a9db506b89c6de6bc96",
    },
    Published {
        name: "gsm8k_cot_llama",
        file: "tasks/gsm8k_cot_llama.yaml",
        url: "https://raw.githubusercontent.com/EleutherAI/lm-evaluation-harness/v0.4.13/lm_eval/tasks/gsm8k/gsm8k-cot-llama.yaml",
        sha256: "c295bc7e942e8f3a51b91d14d5e592d2b037330c831f4ab5b2f8ddca27e031d6",
    },
];

/// The task of a run.
pub(super) fn task(plan: &AccuracyPlan) -> Result<Task, Error> {
    if let Some(file) = &plan.task_yaml {
        return from_file(file);
    }
    let name = plan.task.as_str();
    if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
        let nothing = &mut |path: &str| Err(TaskError::unreadable(path, "there is no file beside it"));
        return Task::parse(text, nothing).map_err(|error| wrong(Path::new(name), &error));
    }
    match PUBLISHED.iter().find(|published| published.name == name && published.file.ends_with(".yaml")) {
        Some(published) => {
            let file = plan.cache.as_ref().map(|cache| cache.join(published.file));
            match file.filter(|file| file.is_file()) {
                Some(file) => from_file(&file),
                None => Err(Error::new(
                    Exit::Usage,
                    format!("the worked examples of {name} are its authors' and no part of this program"),
                )
                .help(format!(
                    "`pdbench dataset fetch {name}` gets them; or name the file of an lm_eval installation with \
                     --task-yaml"
                ))),
            }
        }
        None => Err(Error::new(Exit::Usage, format!("`{}` is not a task", name.escape_debug()))
            .help(format!("want one of {}, or a file by --task-yaml", names().join(", ")))),
    }
}

/// Every task that goes by a name.
pub(super) fn names() -> Vec<&'static str> {
    let published = PUBLISHED.iter().filter(|published| published.file.ends_with(".yaml"));
    BUILT_IN.iter().map(|(name, _)| *name).chain(published.map(|published| published.name)).collect()
}

fn from_file(file: &Path) -> Result<Task, Error> {
    let text = text_of(file, "a task")?;
    let beside = |path: &str| file.parent().unwrap_or(Path::new(".")).join(path);
    let include = &mut |path: &str| {
        text_of(&beside(path), "a task").map_err(|error| TaskError::unreadable(path, &error.to_string()))
    };
    Task::parse(&text, include).map_err(|error| wrong(file, &error))
}

fn wrong(file: &Path, error: &TaskError) -> Error {
    Error::new(Exit::Usage, format!("cannot use the task `{}`: {error}", file.display()))
        .help("want a declared task that generates text, as lm_eval's generate_until tasks are")
}

fn text_of(file: &Path, what: &str) -> Result<String, Error> {
    let bytes = input::read(file, what)?;
    let text = decode(&bytes).map_err(|error| {
        Error::new(Exit::Usage, format!("cannot use `{}`: {error}", file.display()))
            .help(error.help().to_owned())
    })?;
    Ok(text.to_owned())
}

/// The documents of a task: those that were named, those of its file, those in the cache, or the project's own.
pub(super) fn documents(
    plan: &AccuracyPlan,
    task: &Task,
    shots: usize,
    counter: &TokenCounter,
) -> Result<Sources, Error> {
    if task.name == KV_PROBE && plan.dataset_path.is_none() {
        return probe(plan, counter);
    }
    let wanted_split = task.fewshot_split.clone().filter(|_| 0 < shots);
    let cached = plan.cache.as_ref().map(|cache| cache.join("gsm8k"));
    let by_name = task.dataset_path == "openai/gsm8k";
    let file = |split: &str| -> Option<PathBuf> {
        match &plan.dataset_path {
            Some(path) if path.is_dir() => Some(path.join(format!("{split}.jsonl"))),
            Some(path) if split == task.test_split => Some(path.clone()),
            Some(path) => path.parent().map(|directory| directory.join(format!("{split}.jsonl"))),
            None => match task.data_files.get(split).and_then(Value::as_str) {
                Some(file) => Some(PathBuf::from(file)),
                None => cached
                    .as_ref()
                    .filter(|_| by_name)
                    .map(|cached| cached.join(format!("{split}.jsonl")))
                    .filter(|file| file.is_file()),
            },
        }
    };
    let Some(test) = file(&task.test_split) else {
        return own(task, wanted_split.as_deref(), by_name);
    };
    let (documents, sum) = read(&test)?;
    let examples = match wanted_split.as_deref() {
        None => None,
        Some(split) if split == task.test_split => Some(documents.clone()),
        Some(split) => match file(split).filter(|file| file.is_file()) {
            Some(file) => Some(read(&file)?.0),
            None if task.has_samples() => None,
            None => {
                return Err(Error::new(
                    Exit::Usage,
                    format!(
                        "there is no `{split}.jsonl` beside `{}` to draw worked examples from",
                        test.display()
                    ),
                )
                .help("put it there, or ask without examples: --num-fewshot 0"));
            }
        },
    };
    let facts = DatasetFacts {
        name: task.name.clone(),
        path: test.display().to_string(),
        sha256: sum,
        token_counter: String::new(),
        tokenizer_load_ms: None,
        remark: None,
    };
    Ok(Sources { documents, examples, facts, own: false })
}

/// Prompts made for this run.
fn probe(plan: &AccuracyPlan, counter: &TokenCounter) -> Result<Sources, Error> {
    let documents = plan.probe.documents(counter).map_err(|error| {
        Error::new(Exit::Usage, format!("cannot make the prompts of the probe: {error}"))
            .help(error.help().to_owned())
    })?;
    let off = documents.iter().filter(|document| document["tokens"] != document["wanted_tokens"]).count();
    let remark = match counter.tokenizer() {
        None => Some(
            "lengths are estimated as 4 bytes a token: --tokenizer DIR puts them on the bounds of blocks"
                .to_owned(),
        ),
        Some(_) if 0 < off => Some(format!("{off} prompts miss their length by a few tokens")),
        Some(_) => None,
    };
    let facts = DatasetFacts {
        name: KV_PROBE.to_owned(),
        path: "generated".to_owned(),
        sha256: String::new(),
        token_counter: counter.name().to_owned(),
        tokenizer_load_ms: None,
        remark,
    };
    Ok(Sources { documents, examples: None, facts, own: false })
}

fn own(task: &Task, examples: Option<&str>, by_name: bool) -> Result<Sources, Error> {
    let missing = |split: &str| {
        Error::new(Exit::Usage, format!("there are no documents of `{}` ({split})", task.dataset_path)).help(
            "name the directory of its test.jsonl and train.jsonl, one object a line, with --dataset-path",
        )
    };
    let split = |wanted: &str| {
        let (_, text) =
            OWN.iter().find(|(split, _)| by_name && *split == wanted).ok_or_else(|| missing(wanted))?;
        let documents = read_documents(text).expect("the project's own documents are documents");
        Ok((documents, sha256(text)))
    };
    let (documents, sum) = split(&task.test_split)?;
    let examples = examples.map(|examples| split(examples).map(|(documents, _)| documents)).transpose()?;
    let facts = DatasetFacts {
        name: "word-problems".to_owned(),
        path: "embedded".to_owned(),
        sha256: sum,
        token_counter: String::new(),
        tokenizer_load_ms: None,
        remark: Some("the project's own word problems, in gsm8k's manner: scores are not gsm8k's".to_owned()),
    };
    Ok(Sources { documents, examples, facts, own: true })
}

fn read(file: &Path) -> Result<(Documents, String), Error> {
    let bytes = input::read(file, "documents")?;
    let failed = |why: String| {
        Error::new(Exit::Usage, format!("cannot use the documents of `{}`: {why}", file.display()))
            .help("want one JSON object a line")
    };
    let text = decode(&bytes).map_err(|error| failed(error.to_string()))?;
    let documents = read_documents(text).map_err(|error| failed(error.to_string()))?;
    Ok((documents, sha256(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of an expression of numbers, `+ - * /` and brackets.
    fn value(text: &str) -> f64 {
        let mut tokens = text.chars().filter(|c| !c.is_whitespace()).collect::<Vec<_>>();
        tokens.reverse();
        let value = sum(&mut tokens);
        assert!(tokens.is_empty(), "`{text}`");
        value
    }

    fn sum(rest: &mut Vec<char>) -> f64 {
        let mut value = product(rest);
        while let Some(sign) = rest.pop_if(|c| matches!(c, '+' | '-')) {
            let other = product(rest);
            value = if sign == '+' { value + other } else { value - other };
        }
        value
    }

    fn product(rest: &mut Vec<char>) -> f64 {
        let mut value = atom(rest);
        while let Some(sign) = rest.pop_if(|c| matches!(c, '*' | '/')) {
            let other = atom(rest);
            value = if sign == '*' { value * other } else { value / other };
        }
        value
    }

    fn atom(rest: &mut Vec<char>) -> f64 {
        if rest.pop_if(|c| *c == '-').is_some() {
            return -atom(rest);
        }
        if rest.pop_if(|c| *c == '(').is_some() {
            let value = sum(rest);
            assert_eq!(rest.pop(), Some(')'));
            return value;
        }
        let digits: String =
            std::iter::from_fn(|| rest.pop_if(|c| c.is_ascii_digit() || *c == '.')).collect();
        digits.parse().unwrap_or_else(|_| panic!("no number: `{digits}`"))
    }

    #[test]
    fn the_projects_own_problems_are_worked_right() {
        assert_eq!(value("(1+2)*3-4/8"), 8.5);
        let mut questions = std::collections::BTreeSet::new();
        for (split, least) in [("test", 100), ("train", 30)] {
            let (_, text) = OWN.iter().find(|(name, _)| *name == split).unwrap();
            let documents = read_documents(text).unwrap();
            assert!(least <= documents.len(), "{split}: {}", documents.len());
            for document in documents {
                let (question, answer) =
                    (document["question"].as_str().unwrap(), document["answer"].as_str().unwrap());
                assert!(questions.insert(question.to_owned()), "twice: {question}");
                let mut last = None;
                for step in answer.split("<<").skip(1) {
                    let (step, after) = step.split_once(">>").unwrap();
                    let (expression, told) = step.split_once('=').unwrap();
                    let told_value: f64 = told.parse().unwrap();
                    assert!((value(expression) - told_value).abs() < 1e-9, "{step} in {question}");
                    let shown: String = after.chars().filter(|c| *c != ',').collect();
                    assert!(shown.starts_with(told), "{step} is followed by `{after}`");
                    last = Some(told_value);
                }
                let (_, end) = answer.rsplit_once("\n#### ").unwrap();
                assert_eq!(Some(end.replace(',', "").parse().unwrap()), last, "{question}");
            }
        }
    }
}
