use super::documents::Documents;
use super::python;
use super::shots::Sampler;
use super::task::{Task, TaskError};
use super::template::Template;
use crate::wire::python_json::{self, Ascii};
use crate::wire::sha256;
use crate::workload::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a model is asked about one document, and what is right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Number of the document within its split, from 0.
    pub doc_id: usize,
    /// The document.
    pub doc: Map<String, Value>,
    /// The gold: a text, or a list of which any is right.
    pub target: Value,
    /// The prompt, or the conversation as JSON: what is hashed.
    pub prompt: String,
    /// The conversation, where one is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<Message>>,
}

/// How a question is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One text.
    Text,
    /// A conversation, each worked example a turn of its own …
    MultiTurn,
    /// … or all of them in one user message.
    SingleTurn,
}

/// How questions are made.
#[derive(Clone, Debug)]
pub struct Questions {
    /// How each is put.
    pub form: Form,
    /// Worked examples before each.
    pub num_fewshot: usize,
    /// Seed of their draws; the sign does not matter.
    pub fewshot_seed: u64,
    /// Text before all else.
    pub system_instruction: Option<String>,
}

/// A part of a prompt, with what follows it in plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Who says it.
    pub role: &'static str,
    /// What.
    pub content: String,
    delimiter: String,
}

/// Which documents are asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Selection {
    /// All.
    All,
    /// The first so many.
    First(usize),
    /// The first ones up to this share of all, rounded up.
    Share(f64),
    /// Those with these numbers, with the worked examples that they have among all.
    These(Vec<usize>),
    /// The same, the generator advanced for them alone: as lm_eval does, with other worked examples.
    TheseAlone(Vec<usize>),
}

impl Selection {
    /// The first number that none of so many documents has.
    pub fn missing(&self, documents: usize) -> Option<usize> {
        match self {
            Self::These(ids) | Self::TheseAlone(ids) => ids.iter().copied().find(|&id| documents <= id),
            Self::All | Self::First(_) | Self::Share(_) => None,
        }
    }
}

impl Questions {
    /// The questions of a task.
    ///
    /// # Errors
    /// When a document lacks what a template wants, or there are too few worked examples.
    pub fn make(
        &self,
        task: &Task,
        documents: &Documents,
        examples: Option<&Documents>,
        selection: &Selection,
    ) -> Result<Vec<Question>, TaskError> {
        let examples = task.fewshot_split.as_ref().and(examples);
        let mut sampler = match self.num_fewshot {
            0 => None,
            _ => Some(Sampler::new(&task.shots, examples, self.fewshot_seed)?),
        };
        let same_split = task.fewshot_split.as_deref() == Some(task.test_split.as_str());
        let selection = match selection {
            Selection::Share(share) => &Selection::First((documents.len() as f64 * share).ceil() as usize),
            other => other,
        };
        let mut questions = Vec::new();
        for (doc_id, doc) in documents.iter().enumerate() {
            let (asked, advances) = match selection {
                Selection::All | Selection::Share(_) => (true, true),
                Selection::First(limit) => (doc_id < *limit, true),
                Selection::These(ids) => (ids.contains(&doc_id), true),
                Selection::TheseAlone(ids) => (ids.contains(&doc_id), ids.contains(&doc_id)),
            };
            if matches!(selection, Selection::First(limit) if *limit <= doc_id) {
                break;
            }
            let shots = match &mut sampler {
                Some(sampler) if advances => sampler.draw(self.num_fewshot, same_split.then_some(doc))?,
                _ => Vec::new(),
            };
            if asked {
                let question = self.question(task, doc_id, doc, &shots);
                questions
                    .push(question.map_err(|error| TaskError::new(format!("document {doc_id}: {error}")))?);
            }
        }
        Ok(questions)
    }

    fn question(
        &self,
        task: &Task,
        doc_id: usize,
        doc: &Map<String, Value>,
        shots: &[&Map<String, Value>],
    ) -> Result<Question, TaskError> {
        let turns = self.turns(task, doc, shots)?;
        let (prompt, messages) = match self.form {
            Form::Text => (turns.iter().flat_map(|turn| [&*turn.content, &*turn.delimiter]).collect(), None),
            Form::MultiTurn | Form::SingleTurn => {
                let turns = if self.form == Form::SingleTurn { single(turns) } else { turns };
                let message = |turn: Turn| Message { role: turn.role.to_owned(), content: turn.content };
                let messages: Vec<Message> = turns.into_iter().map(message).collect();
                let text = python_json::dumps(&messages, Ascii::AsTheyAre).expect("texts are JSON");
                (text, Some(messages))
            }
        };
        Ok(Question { doc_id, doc: doc.clone(), target: gold(&task.target, doc)?, prompt, messages })
    }

    fn turns(
        &self,
        task: &Task,
        doc: &Map<String, Value>,
        shots: &[&Map<String, Value>],
    ) -> Result<Vec<Turn>, TaskError> {
        let mut turns = Vec::with_capacity(2 * shots.len() + 2);
        let description = field(task.description.as_ref(), doc)?;
        let system =
            joined(self.system_instruction.as_deref(), description.as_deref(), &task.fewshot_delimiter);
        if !system.is_empty() {
            turns.push(Turn { role: "system", content: system, delimiter: String::new() });
        }
        let format = &task.shots;
        for shot in shots {
            let question = format.text.text(shot)?;
            let answer = match gold(&format.target, shot)? {
                Value::Array(golds) => golds.into_iter().next().unwrap_or(Value::Null),
                one => one,
            };
            let answer = answer.as_str().map_or_else(|| answer.to_string(), str::to_owned);
            let prefix = field(format.gen_prefix.as_ref(), shot)?;
            if answer.is_empty() {
                turns.extend(asked(question, prefix, &format.target_delimiter));
                continue;
            }
            let delimited = match &prefix {
                Some(prefix) if !needs_delimiter(&question, prefix) => "",
                _ => &format.target_delimiter,
            };
            turns.push(Turn { role: "user", content: question, delimiter: delimited.to_owned() });
            let answer = joined(prefix.as_deref(), Some(&answer), " ");
            turns.push(Turn {
                role: "assistant",
                content: answer,
                delimiter: format.fewshot_delimiter.clone(),
            });
        }
        turns.extend(asked(
            task.text.text(doc)?,
            field(task.gen_prefix.as_ref(), doc)?,
            &task.target_delimiter,
        ));
        Ok(turns)
    }
}

impl Question {
    /// sha256 of the document as lm_eval writes it.
    pub fn doc_hash(&self) -> String {
        sha256(python_json::dumps_indented(&self.doc).expect("an object is JSON"))
    }

    /// sha256 of the prompt.
    pub fn prompt_hash(&self) -> String {
        sha256(&self.prompt)
    }

    /// sha256 of the target.
    pub fn target_hash(&self) -> String {
        sha256(self.target_text())
    }

    /// The target as one text.
    pub fn target_text(&self) -> String {
        match &self.target {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

/// The question itself, up to where the answer begins.
fn asked(question: String, prefix: Option<String>, target_delimiter: &str) -> Vec<Turn> {
    let delimited = prefix.as_ref().is_some_and(|prefix| needs_delimiter(&question, prefix));
    let delimiter = if delimited { target_delimiter.to_owned() } else { String::new() };
    let mut turns = vec![Turn { role: "user", content: question, delimiter }];
    turns.extend(prefix.map(|content| Turn { role: "assistant", content, delimiter: String::new() }));
    turns
}

/// All turns but a system's and the beginning of the answer in one user message.
fn single(mut turns: Vec<Turn>) -> Vec<Turn> {
    let system = (turns.first().is_some_and(|turn| turn.role == "system")).then(|| turns.remove(0));
    let begun = (turns.last().is_some_and(|turn| turn.role == "assistant")).then(|| turns.pop()).flatten();
    if begun.is_none()
        && let Some(last) = turns.last_mut()
    {
        last.delimiter.clear();
    }
    let content = turns.iter().flat_map(|turn| [&*turn.content, &*turn.delimiter]).collect();
    let user = Turn { role: "user", content, delimiter: String::new() };
    system.into_iter().chain([user]).chain(begun).collect()
}

fn field(template: Option<&Template>, doc: &Map<String, Value>) -> Result<Option<String>, TaskError> {
    let text = template.map(|template| template.text(doc)).transpose()?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// The gold of a document: a template may render to a list; a field is what it is.
fn gold(template: &Template, doc: &Map<String, Value>) -> Result<Value, TaskError> {
    let value = template.value(doc)?;
    let rendered = value.as_str().filter(|_| !template.is_field_of(doc));
    let list = rendered.and_then(python::strings);
    Ok(list.map_or(value, Value::from))
}

/// True when neither text has white space where the two would meet.
fn needs_delimiter(before: &str, after: &str) -> bool {
    let open = |c: Option<char>| c.is_some_and(|c| !python::is_space(c));
    open(before.chars().next_back()) && open(after.chars().next())
}

/// Two texts, the delimiter between them where they need one.
fn joined(before: Option<&str>, after: Option<&str>, delimiter: &str) -> String {
    let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
    if before.is_empty() || after.is_empty() || !needs_delimiter(before, after) {
        return [before, after].concat();
    }
    [before, delimiter, after].concat()
}

#[cfg(test)]
#[path = "question_tests.rs"]
mod tests;
