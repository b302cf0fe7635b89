use super::pattern::{Found, Pattern};
use super::python::strip;
use super::task::TaskError;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// How answers are read before they are scored: steps, one after another.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) name: String,
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Regex { pattern: Pattern, select: i64, fallback: String },
    TakeFirst,
    TakeFirstK(usize),
    MajorityVote,
    RemoveWhitespace,
    Lowercase,
    Uppercase,
    Map { words: Map<String, Value>, default: Value },
}

impl Pipeline {
    /// Those of `filter_list`; without one the first answer is taken as it is.
    pub(super) fn all(list: &Value) -> Result<Vec<Self>, TaskError> {
        let list = match list {
            Value::Null => {
                return Ok(vec![Self { name: "none".to_owned(), steps: vec![Step::TakeFirst] }]);
            }
            Value::Array(list) => list,
            _ => return Err(TaskError::new("`filter_list` wants a list")),
        };
        list.iter().enumerate().map(|(index, one)| Self::one(&format!("filter_list[{index}]"), one)).collect()
    }

    fn one(path: &str, pipeline: &Value) -> Result<Self, TaskError> {
        let name = pipeline["name"].as_str();
        let name = name.ok_or_else(|| TaskError::new(format!("`{path}` has no name")))?;
        let steps = pipeline["filter"].as_array();
        let steps = steps.ok_or_else(|| TaskError::new(format!("`{path}.filter` wants a list")))?;
        let steps = steps.iter().map(|step| Step::of(path, step)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { name: name.to_owned(), steps })
    }

    /// What is made of the answers to one document, its first one first.
    pub(super) fn apply(&self, answers: &[String]) -> Filtered {
        Self::through(&self.steps, answers)
    }

    /// What is left of one answer in which the last pattern finds nothing; `None` without a pattern.
    pub(super) fn nothing(&self) -> Option<Value> {
        let found = self.steps.iter().enumerate().rev().find_map(|(at, step)| match step {
            Step::Regex { fallback, .. } => Some((at, fallback.clone())),
            _ => None,
        });
        let (at, fallback) = found?;
        Some(Self::through(&self.steps[at + 1..], &[fallback]).value())
    }

    fn through(steps: &[Step], answers: &[String]) -> Filtered {
        let all = Filtered::Many(answers.iter().map(|text| Value::String(text.clone())).collect());
        steps.iter().fold(all, |so_far, step| step.apply(so_far))
    }
}

/// What a pipeline leaves: one answer once a step has chosen it, all of them before.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Filtered {
    One(Value),
    Many(Vec<Value>),
}

impl Filtered {
    /// As it is written down: a list where several are left.
    pub(super) fn value(self) -> Value {
        match self {
            Filtered::One(one) => one,
            Filtered::Many(many) => Value::Array(many),
        }
    }
}

impl Step {
    fn of(path: &str, step: &Value) -> Result<Self, TaskError> {
        let text = |key: &str| step[key].as_str();
        let word =
            text("function").ok_or_else(|| TaskError::new(format!("a step of `{path}` has no function")))?;
        Ok(match word {
            "regex" => Step::Regex {
                pattern: Pattern::new(text("regex_pattern").unwrap_or(r"#### (\-?[0-9\.\,]+)"))?,
                select: step["group_select"].as_i64().unwrap_or(0),
                fallback: text("fallback").unwrap_or("[invalid]").to_owned(),
            },
            "take_first" => Step::TakeFirst,
            "take_first_k" => {
                let k = step["k"].as_u64().filter(|&k| 0 < k);
                Step::TakeFirstK(
                    k.ok_or_else(|| TaskError::new(format!("take_first_k of `{path}` wants k")))? as usize,
                )
            }
            "majority_vote" => Step::MajorityVote,
            "remove_whitespace" => Step::RemoveWhitespace,
            "lowercase" => Step::Lowercase,
            "uppercase" => Step::Uppercase,
            "map" => Step::Map {
                words: step["mapping_dict"].as_object().cloned().unwrap_or_default(),
                default: step["default_value"].clone(),
            },
            other => {
                return Err(TaskError::new(format!(
                    "`{path}` uses the filter `{other}`, which is not supported: there are regex, take_first, \
                     take_first_k, majority_vote, remove_whitespace, lowercase, uppercase and map"
                )));
            }
        })
    }

    fn apply(&self, so_far: Filtered) -> Filtered {
        let many = match so_far {
            Filtered::Many(many) => many,
            // A text that was chosen goes letter by letter through what follows, in Python; nobody means that.
            Filtered::One(one) => vec![one],
        };
        let texts = |change: &dyn Fn(&str) -> Value| {
            Filtered::Many(many.iter().map(|one| one.as_str().map_or(Value::Null, change)).collect())
        };
        match self {
            Step::Regex { pattern, select, fallback } => Filtered::Many(
                many.iter().map(|one| extract(pattern, *select, fallback, one).into()).collect(),
            ),
            Step::TakeFirst => Filtered::One(many.into_iter().next().unwrap_or(Value::Null)),
            Step::TakeFirstK(k) => Filtered::Many(many.into_iter().take(*k).collect()),
            Step::MajorityVote => Filtered::Many(most_common(many).into_iter().collect()),
            Step::RemoveWhitespace => texts(&|text| strip(text).into()),
            Step::Lowercase => texts(&|text| text.to_lowercase().into()),
            Step::Uppercase => texts(&|text| text.to_uppercase().into()),
            Step::Map { words, default } => texts(&|text| words.get(text).unwrap_or(default).clone()),
        }
    }
}

fn extract(pattern: &Pattern, select: i64, fallback: &str, answer: &Value) -> String {
    let text = answer.as_str().unwrap_or_default();
    let mut found = pattern.find_all(text);
    if found.is_empty() {
        return fallback.to_owned();
    }
    let at = if select < 0 { found.len() as i64 + select } else { select };
    let chosen = usize::try_from(at).ok().filter(|&at| at < found.len()).map(|at| found.swap_remove(at));
    match chosen {
        Some(Found::Text(text)) => strip(text).to_owned(),
        Some(Found::Groups(groups)) => {
            strip(groups.into_iter().find(|group| !group.is_empty()).unwrap_or(fallback)).to_owned()
        }
        None => fallback.to_owned(),
    }
}

/// The value that comes most often; of several the one that came first.
fn most_common(values: Vec<Value>) -> Option<Value> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for value in &values {
        *counts.entry(value.to_string()).or_default() += 1;
    }
    let most = counts.values().copied().max()?;
    values.into_iter().find(|value| counts[&value.to_string()] == most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn filtered(steps: Value, answers: &[&str]) -> Filtered {
        let list = json!([{"name": "f", "filter": steps}]);
        let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
        Pipeline::all(&list).unwrap()[0].apply(&answers)
    }

    fn one(text: &str) -> Filtered {
        Filtered::One(text.into())
    }

    #[test]
    fn strict_takes_the_first_match_and_flexible_the_last() {
        let strict = json!([
            {"function": "regex", "regex_pattern": "#### (\\-?[0-9\\.\\,]+)"}, {"function": "take_first"},
        ]);
        let flexible = json!([
            {"function": "regex", "group_select": -1, "regex_pattern": "(-?[$0-9.,]{2,})|(-?[0-9]+)"},
            {"function": "take_first"},
        ]);
        for (answer, strictly, flexibly) in [
            ("1+1 #### 18\n#### 19", "18", "19"),
            ("it is $1,250.", "[invalid]", "$1,250."),
            ("#### $18", "[invalid]", "$18"),
            ("", "[invalid]", "[invalid]"),
            ("#### 18.00", "18.00", "18.00"),
            ("so 7 is it", "[invalid]", "7"),
        ] {
            assert_eq!(filtered(strict.clone(), &[answer]), one(strictly), "{answer}");
            assert_eq!(filtered(flexible.clone(), &[answer]), one(flexibly), "{answer}");
        }
    }

    #[test]
    fn votes_count_and_ties_go_to_the_first() {
        let steps = json!([
            {"function": "take_first_k", "k": 4}, {"function": "remove_whitespace"},
            {"function": "majority_vote"}, {"function": "take_first"},
        ]);
        assert_eq!(filtered(steps.clone(), &["a", " b", "b ", "c", "c", "c"]), one("b"));
        assert_eq!(filtered(steps, &["x", "y"]), one("x"));
    }

    #[test]
    fn what_a_pattern_leaves_of_nothing_is_its_own_fallback() {
        let nothing =
            |steps: Value| Pipeline::all(&json!([{"name": "f", "filter": steps}])).unwrap()[0].nothing();
        let pattern = json!({"function": "regex", "regex_pattern": "(x)"});
        let own = json!({"function": "regex", "regex_pattern": "(x)", "fallback": "None Found"});
        let (first, lower) = (json!({"function": "take_first"}), json!({"function": "lowercase"}));
        assert_eq!(nothing(json!([pattern, first])), Some(json!("[invalid]")));
        assert_eq!(nothing(json!([own, lower, first])), Some(json!("none found")));
        assert_eq!(nothing(json!([own])), Some(json!(["None Found"])));
        assert_eq!(nothing(json!([first])), None);
    }

    #[test]
    fn an_unknown_filter_is_named() {
        let error =
            Pipeline::all(&json!([{"name": "f", "filter": [{"function": "regex_pos"}]}])).unwrap_err();
        assert!(error.to_string().contains("`regex_pos`"), "{error}");
    }
}
