use super::filter::Pipeline;
use super::score::Metric;
use super::template::Template;
use super::yaml;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// What is wrong with a task file, or with a document under it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TaskError(String);

impl TaskError {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    /// A file that is included cannot be read, and why.
    pub fn unreadable(path: &str, why: &str) -> Self {
        Self(format!("it includes `{path}`: {why}"))
    }
}

/// A task: how its documents become questions, and how answers are scored. Declared, never code.
#[derive(Debug)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// What tables call it.
    pub alias: String,
    /// Its version, as the file gives it.
    pub version: Value,
    /// Its whole declaration with all defaults, as lm_eval dumps it.
    pub config: Map<String, Value>,
    /// Where its documents come from, such as `openai/gsm8k`.
    pub dataset_path: String,
    /// Files of its splits, where the declaration names them.
    pub data_files: Map<String, Value>,
    /// The split that is asked.
    pub test_split: String,
    /// The split that worked examples are drawn from.
    pub fewshot_split: Option<String>,
    /// Worked examples before each question, unless told otherwise.
    pub num_fewshot: usize,
    /// Answers wanted to each question.
    pub repeats: usize,
    /// What is generated: `until`, `max_gen_toks`, `temperature` and what else the file says.
    pub generation: Map<String, Value>,
    pub(super) text: Template,
    pub(super) target: Template,
    pub(super) description: Option<Template>,
    pub(super) gen_prefix: Option<Template>,
    pub(super) target_delimiter: String,
    pub(super) fewshot_delimiter: String,
    pub(super) shots: ShotFormat,
    pub(super) pipelines: Vec<Pipeline>,
    pub(super) metric: Metric,
}

/// How worked examples are chosen and written.
#[derive(Debug)]
pub(super) struct ShotFormat {
    pub(super) first_n: bool,
    pub(super) indices: Option<Vec<usize>>,
    pub(super) samples: Option<Vec<Map<String, Value>>>,
    pub(super) text: Template,
    pub(super) target: Template,
    pub(super) gen_prefix: Option<Template>,
    pub(super) target_delimiter: String,
    pub(super) fewshot_delimiter: String,
}

/// Keys of a declaration in the order in which lm_eval dumps them, with their defaults; `null` ones are not dumped.
const KEYS: &[(&str, &str)] = &[
    ("task", "null"),
    ("task_alias", "null"),
    ("tag", "null"),
    ("dataset_path", "null"),
    ("dataset_name", "null"),
    ("dataset_kwargs", "null"),
    ("training_split", "null"),
    ("validation_split", "null"),
    ("test_split", "null"),
    ("fewshot_split", "null"),
    ("doc_to_text", "null"),
    ("doc_to_target", "null"),
    ("unsafe_code", "false"),
    ("description", "\"\""),
    ("target_delimiter", "\" \""),
    ("fewshot_delimiter", "\"\\n\\n\""),
    ("fewshot_config", "null"),
    ("num_fewshot", "null"),
    ("metric_list", "null"),
    ("output_type", "\"generate_until\""),
    ("generation_kwargs", "null"),
    ("repeats", "1"),
    ("filter_list", "null"),
    ("should_decontaminate", "false"),
    ("gen_prefix", "null"),
    ("metadata", "null"),
];

/// Keys that mean code, pictures or choices: what this program has no means for.
const NOT_HERE: &[&str] = &[
    "process_docs",
    "process_results",
    "doc_to_choice",
    "doc_to_image",
    "doc_to_audio",
    "use_prompt",
    "custom_dataset",
    "doc_to_decontamination_query",
    "class",
];

impl Task {
    /// The task of a YAML file as lm_eval's are; `include` gives the text of a file that it includes.
    ///
    /// # Errors
    /// When it is not such a file, or needs what is not declared: Python functions, choices, pictures.
    pub fn parse(
        text: &str,
        include: &mut dyn FnMut(&str) -> Result<String, TaskError>,
    ) -> Result<Self, TaskError> {
        Self::from_declaration(included(text, include, 0)?)
    }

    /// The task of what [`Task::config`] held.
    ///
    /// # Errors
    /// As [`Task::parse`].
    pub fn from_declaration(mut given: Map<String, Value>) -> Result<Self, TaskError> {
        if let Some(key) = NOT_HERE.iter().find(|key| given.get(**key).is_some_and(|value| !value.is_null()))
        {
            return Err(TaskError::new(format!(
                "`{key}` is not supported: only declared tasks that generate are"
            )));
        }
        let known: BTreeSet<&str> =
            KEYS.iter().map(|(key, _)| *key).chain(NOT_HERE.iter().copied()).collect();
        if let Some(key) = given.keys().find(|key| !known.contains(key.as_str())) {
            return Err(TaskError::new(format!("`{key}` is not a key of a task")));
        }
        let mut config = Map::new();
        for (key, default) in KEYS {
            let default = || serde_json::from_str(default).expect("defaults are JSON");
            let value = given.shift_remove(*key).filter(|value| !value.is_null()).unwrap_or_else(default);
            config.insert((*key).to_owned(), value);
        }
        let output = config["output_type"].as_str().unwrap_or_default();
        if output != "generate_until" {
            return Err(TaskError::new(format!(
                "output_type is `{output}`, and only generate_until is supported"
            )));
        }
        let delimiter = text_of(&config, "fewshot_delimiter")?.unwrap_or_default();
        let generation = generation(config.get("generation_kwargs"), &delimiter)?;
        config.insert("generation_kwargs".to_owned(), Value::Object(generation.clone()));
        let fewshot = fewshot_config(&config)?;
        config.insert("fewshot_config".to_owned(), Value::Object(fewshot.clone()));
        let metric = Metric::of(&config["metric_list"])?;
        let task = Self {
            name: wanted(&config, "task")?,
            alias: text_of(&config, "task_alias")?.map_or_else(|| wanted(&config, "task"), Ok)?,
            version: config["metadata"].get("version").cloned().unwrap_or(json!("Yaml")),
            dataset_path: text_of(&config, "dataset_path")?.unwrap_or_default(),
            data_files: match &config["dataset_kwargs"]["data_files"] {
                Value::Object(files) => files.clone(),
                _ => Map::new(),
            },
            test_split: text_of(&config, "test_split")?
                .or(text_of(&config, "validation_split")?)
                .ok_or_else(|| TaskError::new("neither `test_split` nor `validation_split` is given"))?,
            fewshot_split: text_of(&fewshot, "split")?,
            num_fewshot: count(&config, "num_fewshot")?.unwrap_or(0),
            repeats: count(&config, "repeats")?.unwrap_or(1).max(1),
            generation,
            text: Template::new(&wanted(&config, "doc_to_text")?)?,
            target: Template::new(&wanted(&config, "doc_to_target")?)?,
            description: template(&config, "description")?,
            gen_prefix: template(&config, "gen_prefix")?,
            target_delimiter: text_of(&config, "target_delimiter")?.unwrap_or_default(),
            fewshot_delimiter: delimiter,
            shots: ShotFormat::of(&fewshot)?,
            pipelines: Pipeline::all(&config["filter_list"])?,
            metric,
            config: Map::new(),
        };
        config.retain(|_, value| !value.is_null());
        Ok(Self { config, ..task })
    }

    /// Whether the declaration has worked examples of its own.
    pub fn has_samples(&self) -> bool {
        self.shots.samples.is_some()
    }

    /// Names of the ways in which answers are read, in the order of the file.
    pub fn filters(&self) -> impl Iterator<Item = &str> {
        self.pipelines.iter().map(|pipeline| pipeline.name.as_str())
    }
}

impl ShotFormat {
    fn of(config: &Map<String, Value>) -> Result<Self, TaskError> {
        let sampler = wanted(config, "sampler")?;
        let first_n = match sampler.as_str() {
            "default" => false,
            "first_n" => true,
            other => {
                return Err(TaskError::new(format!("`{other}` is not a sampler: want default or first_n")));
            }
        };
        let indices = match &config["fewshot_indices"] {
            Value::Array(indices) => {
                let index = |index: &Value| index.as_u64().map(|index| index as usize);
                let all = indices.iter().map(index).collect::<Option<Vec<_>>>();
                Some(all.ok_or_else(|| TaskError::new("`fewshot_indices` wants whole numbers"))?)
            }
            _ => None,
        };
        let samples = match &config["samples"] {
            Value::Array(samples) => {
                let sample = |sample: &Value| sample.as_object().cloned();
                let all = samples.iter().map(sample).collect::<Option<Vec<_>>>();
                Some(all.ok_or_else(|| TaskError::new("`samples` wants mappings"))?)
            }
            _ => None,
        };
        Ok(Self {
            first_n,
            indices,
            samples,
            text: Template::new(&wanted(config, "doc_to_text")?)?,
            target: Template::new(&wanted(config, "doc_to_target")?)?,
            gen_prefix: template(config, "gen_prefix")?,
            target_delimiter: text_of(config, "target_delimiter")?.unwrap_or_default(),
            fewshot_delimiter: text_of(config, "fewshot_delimiter")?.unwrap_or_default(),
        })
    }
}

/// A declaration over those that it includes.
fn included(
    text: &str,
    include: &mut dyn FnMut(&str) -> Result<String, TaskError>,
    depth: usize,
) -> Result<Map<String, Value>, TaskError> {
    let mut own = yaml::mapping(text)?;
    let Some(base) = own.shift_remove("include") else { return Ok(own) };
    let base = base.as_str().filter(|_| depth < 8).map(str::to_owned);
    let base =
        base.ok_or_else(|| TaskError::new("`include` wants the name of one file, in at most 8 steps"))?;
    let mut whole = included(&include(&base)?, include, depth + 1)?;
    whole.extend(own);
    Ok(whole)
}

/// What an answer may be, with what lm_eval adds to it.
fn generation(given: Option<&Value>, delimiter: &str) -> Result<Map<String, Value>, TaskError> {
    let mut generation = match given {
        Some(Value::Object(given)) => given.clone(),
        Some(Value::Null) | None => {
            return Ok(Map::from_iter([
                ("temperature".to_owned(), json!(0.0)),
                ("do_sample".to_owned(), json!(false)),
                ("max_gen_toks".to_owned(), json!(256)),
                ("until".to_owned(), json!([delimiter])),
            ]));
        }
        Some(_) => return Err(TaskError::new("`generation_kwargs` wants a mapping")),
    };
    if let Some(temperature) = generation.get_mut("temperature") {
        *temperature = json!(temperature.as_f64());
    }
    if !generation.contains_key("until") {
        generation.insert("until".to_owned(), json!([delimiter]));
    }
    Ok(generation)
}

/// How worked examples are written: as the questions, where nothing else is said.
fn fewshot_config(config: &Map<String, Value>) -> Result<Map<String, Value>, TaskError> {
    let inherited = |key: &str| config[key].clone();
    let mut all = Map::new();
    for (key, value) in [
        ("sampler", json!("default")),
        ("split", inherited("fewshot_split")),
        ("process_docs", Value::Null),
        ("fewshot_indices", Value::Null),
        ("samples", Value::Null),
        ("doc_to_text", inherited("doc_to_text")),
        ("doc_to_choice", Value::Null),
        ("doc_to_target", inherited("doc_to_target")),
        ("gen_prefix", inherited("gen_prefix")),
        ("fewshot_delimiter", inherited("fewshot_delimiter")),
        ("target_delimiter", inherited("target_delimiter")),
    ] {
        all.insert(key.to_owned(), value);
    }
    match &config["fewshot_config"] {
        Value::Null => {}
        Value::Object(own) => {
            for (key, value) in own {
                match all.get_mut(key) {
                    Some(slot) => *slot = value.clone(),
                    None => {
                        return Err(TaskError::new(format!("`fewshot_config.{key}` is not a key of a task")));
                    }
                }
            }
        }
        _ => return Err(TaskError::new("`fewshot_config` wants a mapping")),
    }
    Ok(all)
}

fn text_of(config: &Map<String, Value>, key: &str) -> Result<Option<String>, TaskError> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(TaskError::new(format!("`{key}` is {other}, and a text is wanted"))),
    }
}

fn wanted(config: &Map<String, Value>, key: &str) -> Result<String, TaskError> {
    text_of(config, key)?.ok_or_else(|| TaskError::new(format!("`{key}` is missing")))
}

fn template(config: &Map<String, Value>, key: &str) -> Result<Option<Template>, TaskError> {
    text_of(config, key)?.filter(|text| !text.is_empty()).map(|text| Template::new(&text)).transpose()
}

fn count(config: &Map<String, Value>, key: &str) -> Result<Option<usize>, TaskError> {
    match &config[key] {
        Value::Null => Ok(None),
        value => value
            .as_u64()
            .map(|count| Some(count as usize))
            .ok_or_else(|| TaskError::new(format!("`{key}` is {value}, and a whole number is wanted"))),
    }
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
