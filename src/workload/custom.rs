use std::num::NonZeroU32;
use std::str::FromStr;

use serde::Deserialize;

use super::{DatasetError, Message, Prompt, PythonRandom, Request, Templating, TokenCounter};

/// Prompts of the user's own: a JSON object on each line. Order and repetition are those of
/// `vllm bench serve --dataset-name custom`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custom {
    /// How many prompts to make; 0 takes each line once, as vLLM does.
    pub num_prompts: usize,
    /// Seed of order and repetition, as `random.seed` takes it.
    pub seed: u32,
    /// Where output lengths come from.
    pub output_len: OutputLen,
    /// In which order lines are taken.
    pub order: Order,
    /// What happens where there are fewer lines than prompts.
    pub oversample: Oversample,
    /// What a chat template is for.
    pub templating: Templating,
}

/// Output tokens asked of each request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputLen {
    /// The line's `output_tokens`, else [`OutputLen::DEFAULT`].
    #[default]
    PerLineOrDefault,
    /// The same for all.
    Fixed(NonZeroU32),
    /// The line's `output_tokens`, which it must have; typed `-1`.
    PerLine,
}

/// In which order lines are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Shuffled by the seed.
    #[default]
    Shuffled,
    /// As they stand in the file.
    AsInFile,
}

/// What happens where there are fewer lines than prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Oversample {
    /// Lines are drawn again at random.
    #[default]
    Repeat,
    /// There are only as many prompts as lines.
    Never,
}

const SHAPE: &str =
    r#"each line needs {"prompt": "..."} or {"messages": [...]} and may have "output_tokens": 128"#;

/// What a line may hold; other keys are for other tools.
#[derive(Deserialize)]
struct Line {
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
    output_tokens: Option<NonZeroU32>,
}

impl OutputLen {
    /// vLLM's own default where no length is asked for.
    pub const DEFAULT: u32 = 256;
}

impl Default for Custom {
    /// vLLM's defaults, but for [`OutputLen::PerLineOrDefault`].
    fn default() -> Self {
        Self {
            num_prompts: 1000,
            seed: 0,
            output_len: OutputLen::default(),
            order: Order::default(),
            oversample: Oversample::default(),
            templating: Templating::default(),
        }
    }
}

impl Custom {
    /// The prompts made of the lines of `text`, which end at `\n` only. Blank lines count for nothing.
    ///
    /// # Errors
    /// If there are no lines or one of them is not as it should be; all are read, even those not taken.
    pub fn requests(&self, text: &str, counter: &TokenCounter) -> Result<Vec<Request>, DatasetError> {
        let lines = text.split('\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
        let read = lines.map(|(i, line)| self.request(line, counter).map_err(|error| error.at_line(i + 1)));
        let requests = read.collect::<Result<Vec<_>, _>>()?;
        if requests.is_empty() {
            return Err(DatasetError::whole("no lines", SHAPE));
        }
        Ok(self.select(requests))
    }

    /// The first line of `text`, from 1, that makes this request.
    pub fn line_of(&self, text: &str, request: &Request, counter: &TokenCounter) -> Option<usize> {
        let mut lines = text.split('\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
        let made = lines.find(|(_, line)| self.request(line, counter).is_ok_and(|made| made == *request));
        made.map(|(at, _)| at + 1)
    }

    /// vLLM seeds the generator, shuffles, and seeds it once more before it draws lines again.
    fn select(&self, mut requests: Vec<Request>) -> Vec<Request> {
        if self.order == Order::Shuffled {
            PythonRandom::new(self.seed.into()).shuffle(&mut requests);
        }
        if self.num_prompts == 0 {
            return requests;
        }
        let missing = self.num_prompts.saturating_sub(requests.len());
        requests.truncate(self.num_prompts);
        if self.oversample == Oversample::Repeat {
            let mut random = PythonRandom::new(self.seed.into());
            let again: Vec<Request> = (0..missing).map(|_| random.choice(&requests).clone()).collect();
            requests.extend(again);
        }
        requests
    }

    fn request(&self, line: &str, counter: &TokenCounter) -> Result<Request, DatasetError> {
        let line = parse(line)?;
        let output_tokens = match (self.output_len, line.output_tokens) {
            (OutputLen::Fixed(tokens), _) => tokens.get(),
            (_, Some(tokens)) => tokens.get(),
            (OutputLen::PerLineOrDefault, None) => OutputLen::DEFAULT,
            (OutputLen::PerLine, None) => {
                let help = r#"add "output_tokens" to each line, or ask for one output length for all"#;
                return Err(DatasetError::whole("missing field `output_tokens`", help));
            }
        };
        let prompt = match (line.prompt, line.messages) {
            (Some(text), None) if !text.is_empty() => Prompt::Text(text),
            (None, Some(turns)) if !turns.is_empty() => Prompt::Messages(turns),
            (Some(_), None) => return Err(DatasetError::whole("`prompt` is empty", SHAPE)),
            (None, Some(_)) => return Err(DatasetError::whole("`messages` is empty", SHAPE)),
            (None, None) => return Err(DatasetError::whole("missing field `prompt`", SHAPE)),
            (Some(_), Some(_)) => {
                return Err(DatasetError::whole("`prompt` and `messages` on one line", SHAPE));
            }
        };
        let (prompt, prompt_tokens) = counter.measured(prompt, self.templating)?;
        Ok(Request { prompt, prompt_tokens, output_tokens })
    }
}

impl FromStr for OutputLen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("-1", _) => Ok(OutputLen::PerLine),
            (_, Ok(tokens)) => Ok(OutputLen::Fixed(tokens)),
            _ => Err(format!(
                "`{text}` is not an output length: want tokens above 0, or -1 for each line's `output_tokens`"
            )),
        }
    }
}

fn parse(line: &str) -> Result<Line, DatasetError> {
    let text = line.trim_ascii();
    // Without this, an array would be taken as the fields in their order.
    if !text.starts_with('{') {
        return Err(DatasetError::whole("not a JSON object", SHAPE));
    }
    serde_json::from_str(line).map_err(|error| {
        let place = format!(" at line {} column {}", error.line(), error.column());
        let what = error.to_string();
        let what = what.strip_suffix(&place).unwrap_or(&what);
        DatasetError::whole(what, SHAPE).at_column(error.column())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::testing::{counter, made, vectors};

    const EXAMPLE: &str = include_str!("../../datasets/custom-example.jsonl");

    fn in_file_order() -> Custom {
        Custom { num_prompts: 0, order: Order::AsInFile, ..Custom::default() }
    }

    fn requests(custom: &Custom, text: &str) -> Result<Vec<Request>, DatasetError> {
        custom.requests(text, &TokenCounter::Estimate)
    }

    fn error_of(text: &str) -> String {
        let error = requests(&in_file_order(), text).unwrap_err();
        assert_eq!(error.help(), SHAPE);
        error.to_string()
    }

    /// Lines whose prompts are the numbers from 0.
    fn numbered(lines: usize) -> String {
        (0..lines).map(|i| format!("{{\"prompt\": \"{i}\"}}\n")).collect()
    }

    fn taken(custom: &Custom, lines: usize) -> Vec<usize> {
        let requests = requests(custom, &numbered(lines)).unwrap();
        requests.iter().map(|request| request.prompt.text().parse().unwrap()).collect()
    }

    #[derive(Deserialize)]
    struct Case {
        seed: u32,
        lines: usize,
        wanted: usize,
        shuffle: bool,
        taken: Vec<usize>,
    }

    #[test]
    fn lines_are_taken_in_the_order_that_python_draws() {
        let golden = include_str!("../../tests/golden/custom-vectors.json");
        for case in serde_json::from_str::<Vec<Case>>(golden).unwrap() {
            let order = if case.shuffle { Order::Shuffled } else { Order::AsInFile };
            let custom = Custom { num_prompts: case.wanted, seed: case.seed, order, ..Custom::default() };
            assert_eq!(taken(&custom, case.lines), case.taken, "{} of {}", case.wanted, case.lines);
        }
    }

    #[test]
    fn a_request_is_found_again_in_its_line() {
        let text = "{\"prompt\": \"a\"}\n\n{\"prompt\": \"b\", \"output_tokens\": 3}\n";
        let made = requests(&in_file_order(), text).unwrap();
        let line = |request| in_file_order().line_of(text, request, &TokenCounter::Estimate);
        assert_eq!((line(&made[0]), line(&made[1])), (Some(1), Some(3)));
        assert_eq!(line(&Request { output_tokens: 4, ..made[1].clone() }), None);
    }

    #[test]
    fn without_oversampling_there_are_no_more_prompts_than_lines() {
        let custom = Custom { oversample: Oversample::Never, ..in_file_order() };
        assert_eq!(taken(&Custom { num_prompts: 9, ..custom.clone() }, 3), [0, 1, 2]);
        assert_eq!(taken(&Custom { num_prompts: 2, ..custom }, 3), [0, 1]);
    }

    #[test]
    fn zero_prompts_take_each_line_once() {
        assert_eq!(taken(&in_file_order(), 3), [0, 1, 2]);
    }

    #[test]
    fn the_example_shows_both_forms() {
        let requests = requests(&in_file_order(), EXAMPLE).unwrap();
        assert!(10 <= requests.len());
        let conversations = requests.iter().filter(|request| matches!(request.prompt, Prompt::Messages(_)));
        assert!((3..requests.len() - 3).contains(&conversations.count()));
    }

    #[test]
    fn output_length_is_the_lines_own_unless_one_is_asked_for_all() {
        let text = "{\"prompt\": \"a\", \"output_tokens\": 7}\n{\"prompt\": \"b\"}";
        let lengths = |output_len| {
            let requests = requests(&Custom { output_len, ..in_file_order() }, text)?;
            Ok::<_, DatasetError>(requests.iter().map(|request| request.output_tokens).collect::<Vec<_>>())
        };
        assert_eq!(lengths(OutputLen::PerLineOrDefault).unwrap(), [7, 256]);
        assert_eq!(lengths("32".parse().unwrap()).unwrap(), [32, 32]);
        let error = lengths("-1".parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "line 2: missing field `output_tokens`");
        assert_eq!(error.help(), r#"add "output_tokens" to each line, or ask for one output length for all"#);
    }

    #[test]
    fn an_output_length_is_above_0_or_minus_1() {
        for text in ["0", "-2", "many", ""] {
            let error = text.parse::<OutputLen>().unwrap_err();
            assert!(error.starts_with(&format!("`{text}` is not an output length")), "{error}");
        }
    }

    #[test]
    fn a_conversation_counts_the_text_of_all_turns() {
        let text =
            r#"{"messages": [{"role": "system", "content": "abc"}, {"role": "user", "content": "wxyz"}]}"#;
        let requests = requests(&in_file_order(), text).unwrap();
        assert_eq!(requests[0].prompt_tokens, 2);
        let Prompt::Messages(turns) = &requests[0].prompt else { panic!("no conversation") };
        assert_eq!((turns[1].role.as_str(), turns[1].content.as_str()), ("user", "wxyz"));
    }

    #[test]
    fn lines_end_at_line_feeds_only() {
        let text = "{\"prompt\": \"a\u{2028}b\u{85}c\"}\r\n{\"prompt\": \"d\"}\r\n";
        let requests = requests(&in_file_order(), text).unwrap();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[0].prompt.text(), "a\u{2028}b\u{85}c");
    }

    #[test]
    fn other_keys_are_left_alone() {
        let text = r#"{"id": 1, "prompt": "a", "answer": ["b"], "output_tokens": null}"#;
        assert_eq!(requests(&in_file_order(), text).unwrap()[0].output_tokens, 256);
    }

    #[test]
    fn a_faulty_line_is_told_by_its_number() {
        let after_13 = |line: &str| error_of(&format!("{}{line}\n", numbered(13)));
        assert_eq!(after_13("{}"), "line 14: missing field `prompt`");
        assert_eq!(after_13("[\"a\"]"), "line 14: not a JSON object");
        assert_eq!(after_13(r#"{"prompt": ""}"#), "line 14: `prompt` is empty");
        assert_eq!(after_13(r#"{"messages": []}"#), "line 14: `messages` is empty");
        assert_eq!(
            after_13(r#"{"prompt": "a", "messages": []}"#),
            "line 14: `prompt` and `messages` on one line"
        );
    }

    #[test]
    fn a_faulty_value_is_told_by_its_column() {
        assert_eq!(
            error_of(r#"{"prompt": 3}"#),
            "line 1, column 12: invalid type: integer `3`, expected a string"
        );
        assert_eq!(error_of(r#"{"prompt": "a""#), "line 1, column 14: EOF while parsing an object");
        assert_eq!(
            error_of(r#"{"messages": [{"role": "user"}]}"#),
            "line 1, column 30: missing field `content`"
        );
        assert_eq!(
            error_of(r#"{"prompt": "a", "output_tokens": 0}"#),
            "line 1, column 34: invalid value: integer `0`, expected a nonzero u32"
        );
    }

    #[test]
    fn an_empty_file_is_refused() {
        assert_eq!(error_of(""), "no lines");
        assert_eq!(error_of("\n"), "no lines");
    }

    #[test]
    fn a_chat_template_is_applied_and_blank_lines_are_skipped_as_by_vllm() {
        for case in vectors().custom {
            let custom = Custom {
                num_prompts: case.num_prompts,
                seed: case.seed,
                output_len: OutputLen::PerLine,
                templating: if case.skip_chat_template { Templating::Off } else { Templating::Sent },
                ..Custom::default()
            };
            assert_eq!(made(&custom.requests(&case.text, &counter()).unwrap()), case.made);
        }
    }

    #[test]
    fn a_fault_behind_blank_lines_is_told_by_its_own_line() {
        assert_eq!(error_of("{\"prompt\": \"a\"}\n\n \n{}"), "line 4: missing field `prompt`");
    }
}
