use super::filter::Filtered;
use super::pattern::Pattern;
use super::task::{Task, TaskError};
use serde_json::Value;

/// `exact_match` with its options: the only metric there is.
#[derive(Debug)]
pub(super) struct Metric {
    ignore: Vec<Pattern>,
    ignore_case: bool,
    ignore_punctuation: bool,
    ignore_numbers: bool,
}

/// What one way of reading made of the answers to a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// What was read from them: a text, or a list where the task keeps several.
    pub extracted: Value,
    /// Whether it is the gold.
    pub right: bool,
}

/// Scores answers by a task's rules.
#[derive(Clone, Copy, Debug)]
pub struct Scoring<'a> {
    task: &'a Task,
}

impl<'a> Scoring<'a> {
    /// By the rules of `task`.
    pub fn new(task: &'a Task) -> Self {
        Self { task }
    }

    /// What each way of reading, in the order of the task's, makes of the answers to a document with this target.
    pub fn score(&self, target: &Value, answers: &[String]) -> Vec<Scored> {
        let one = |pipeline: &super::filter::Pipeline| {
            let filtered = pipeline.apply(answers);
            let right = match &filtered {
                Filtered::One(one) => self.task.metric.matches(target, one),
                Filtered::Many(many) => {
                    self.task.metric.matches(target, many.first().unwrap_or(&Value::Null))
                }
            };
            Scored { extracted: filtered.value(), right }
        };
        self.task.pipelines.iter().map(one).collect()
    }
}

/// What is not a letter, digit or space of ASCII: Python's `string.punctuation`.
const PUNCTUATION: &str = r##"!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~"##;

impl Metric {
    pub(super) fn of(list: &Value) -> Result<Self, TaskError> {
        let none = Vec::new();
        let list = list.as_array().unwrap_or(&none);
        let given = match list.as_slice() {
            [] => &Value::Null,
            [one] if one["metric"] == "exact_match" => one,
            [one] => {
                return Err(TaskError::new(format!(
                    "the metric {} is not supported: there is exact_match",
                    one["metric"]
                )));
            }
            _ => return Err(TaskError::new("several metrics in `metric_list`: there is exact_match alone")),
        };
        if let Some(other) = given["aggregation"].as_str().filter(|&word| word != "mean") {
            return Err(TaskError::new(format!("the aggregation `{other}` is not supported: there is mean")));
        }
        let flag = |key: &str| given[key].as_bool().unwrap_or(false);
        let patterns = given["regexes_to_ignore"].as_array().unwrap_or(&none);
        let pattern = |pattern: &Value| {
            let text = pattern.as_str();
            Pattern::new(text.ok_or_else(|| TaskError::new("`regexes_to_ignore` wants texts"))?)
        };
        Ok(Self {
            ignore: patterns.iter().map(pattern).collect::<Result<_, _>>()?,
            ignore_case: flag("ignore_case"),
            ignore_punctuation: flag("ignore_punctuation"),
            ignore_numbers: flag("ignore_numbers"),
        })
    }

    /// Whether a prediction is the gold, or one of several.
    fn matches(&self, gold: &Value, prediction: &Value) -> bool {
        let prediction = self.reduced(&text(prediction));
        match gold {
            Value::Array(golds) => golds.iter().any(|gold| self.reduced(&text(gold)) == prediction),
            gold => self.reduced(&text(gold)) == prediction,
        }
    }

    /// A text without what does not count.
    fn reduced(&self, text: &str) -> String {
        let mut text = self.ignore.iter().fold(text.to_owned(), |text, pattern| pattern.remove(&text));
        if self.ignore_case {
            text = text.to_lowercase();
        }
        if self.ignore_punctuation {
            text.retain(|c| !PUNCTUATION.contains(c));
        }
        if self.ignore_numbers {
            text.retain(|c| !c.is_ascii_digit());
        }
        text
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "None".to_owned(),
        other => other.to_string(),
    }
}

/// Σx / n, summed from the left, as lm_eval does; `None` without values.
pub fn mean(values: &[f64]) -> Option<f64> {
    let sum: f64 = values.iter().fold(0.0, |sum, value| sum + value);
    (!values.is_empty()).then(|| sum / values.len() as f64)
}

/// Standard error of the mean as lm_eval has it: √(Σ(x − µ)² / (n − 1)) / √n. `None` below two values.
pub fn stderr(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| 1 < values.len())?;
    // Python's `x ** 2` is C's pow, which is exact for squares.
    let squares = values.iter().fold(0.0, |sum, value| sum + (value - mean) * (value - mean));
    Some((squares / (values.len() - 1) as f64).sqrt() / (values.len() as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn gsm8k() -> Metric {
        Metric::of(&json!([{
            "metric": "exact_match", "aggregation": "mean", "ignore_case": true, "ignore_punctuation": false,
            "regexes_to_ignore": [",", "\\$", "(?s).*#### ", "\\.$"],
        }]))
        .unwrap()
    }

    #[test]
    fn a_number_matches_as_it_is_written() {
        let gold = json!("It is <<9*2=18>>18 each.\n#### 1,800");
        for (prediction, right) in [
            ("1800", true),
            ("1,800.", true),
            ("$1800", true),
            ("1800.00", false),
            ("-1800", false),
            ("[invalid]", false),
        ] {
            assert_eq!(gsm8k().matches(&gold, &json!(prediction)), right, "{prediction}");
        }
    }

    #[test]
    fn one_of_several_golds_is_enough() {
        let metric = Metric::of(&json!([{"metric": "exact_match", "ignore_punctuation": true}])).unwrap();
        assert!(metric.matches(&json!(["a", "b!"]), &json!("b")));
        assert!(!metric.matches(&json!(["a", "b!"]), &json!("B")));
    }

    #[test]
    fn mean_and_standard_error_are_those_of_lm_eval() {
        let values: Vec<f64> = (0..1319).map(|i| f64::from(u8::from(i % 3 == 0))).collect();
        assert_eq!(mean(&values), Some(440.0 / 1319.0));
        assert_eq!((mean(&[]), stderr(&[1.0])), (None, None));
        assert!((stderr(&[0.0, 1.0]).unwrap() - 0.5).abs() < 1e-15);
    }
}
