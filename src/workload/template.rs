use super::{DatasetError, Message};
use jiff::civil::DateTime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, escape_formatter};
use std::fmt;

/// How a conversation becomes one prompt: a model's Jinja template, rendered as transformers renders it.
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// `bos_token` and the like, as variables of the template.
    tokens: Vec<(String, String)>,
}

const NAME: &str = "chat";

const HELP: &str = "give a tokenizer whose chat template can be rendered, or send texts as they are with \
                    --skip-chat-template";

impl ChatTemplate {
    /// The template of `source`, which may use `tokens` by their names and ask what time it is.
    ///
    /// # Errors
    /// If it is no Jinja template.
    pub fn parse(source: &str, tokens: &[(String, String)], now: DateTime) -> Result<Self, DatasetError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| fault(&error))?);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_formatter(|out, state, value| match python_word(value) {
            Some(word) => out.write_str(word).map_err(Error::from),
            None => escape_formatter(out, state, value),
        });
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", move |format: String| {
            jiff::fmt::strtime::format(&format, now)
                .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
        });
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|error| fault(&error))?;
        Ok(Self { environment, tokens: tokens.to_vec() })
    }

    /// The prompt of a conversation, up to where the assistant begins to answer.
    ///
    /// # Errors
    /// If the template refuses the conversation, or does what it cannot.
    pub fn render(&self, messages: &[Message]) -> Result<String, DatasetError> {
        let template = self.environment.get_template(NAME).map_err(|error| fault(&error))?;
        let tokens = self.tokens.iter().map(|(name, token)| (name.as_str(), Value::from(token.as_str())));
        let messages: Value = messages
            .iter()
            .map(|turn| Value::from_pairs([("role", turn.role.as_str()), ("content", turn.content.as_str())]))
            .collect();
        let variables = [
            ("messages", messages),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(true)),
        ];
        template.render(Value::from_pairs(tokens.chain(variables))).map_err(|error| fault(&error))
    }

    /// The prompt of one user message.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_user(&self, text: &str) -> Result<String, DatasetError> {
        self.render(&[Message { role: "user".to_owned(), content: text.to_owned() }])
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

fn fault(error: &Error) -> DatasetError {
    DatasetError::whole(format!("the chat template fails: {error}"), HELP)
}

/// The words that Python prints otherwise than we would.
fn python_word(value: &Value) -> Option<&'static str> {
    match value.kind() {
        ValueKind::None => Some("None"),
        ValueKind::Bool => Some(if value.is_true() { "True" } else { "False" }),
        _ => None,
    }
}

/// `{% generation %}` only marks what the assistant said, for training. A block that is always taken stands in
/// for it, with the marks that strip white space.
fn without_generation_tags(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let (tag, after) = (&rest[start..start + length + 2], &rest[start + length + 2..]);
        let word = tag.trim_matches(|c: char| "{%-+}".contains(c) || c.is_whitespace());
        text.push_str(&rest[..start]);
        match word {
            "generation" => text.push_str(&tag.replacen(word, "if true", 1)),
            "endgeneration" => text.push_str(&tag.replacen(word, "endif", 1)),
            _ => text.push_str(tag),
        }
        rest = after;
    }
    text + rest
}

/// What Python's `json.dumps` is told about form.
struct Form {
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<String>,
    comma: String,
    colon: String,
}

/// The filter `tojson` as transformers defines it: Python's `json.dumps`, non-ASCII text as it is.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<Value> = options.get("indent")?;
    let indent = indent.filter(|indent| !indent.is_none()).map(|indent| match indent.as_usize() {
        Some(spaces) => " ".repeat(spaces),
        None => indent.to_string(),
    });
    let separators: Option<Vec<String>> = options.get("separators")?;
    let mut separators = separators.unwrap_or_default().into_iter();
    let comma = if indent.is_some() { "," } else { ", " };
    let form = Form {
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        comma: separators.next().unwrap_or_else(|| comma.to_owned()),
        colon: separators.next().unwrap_or_else(|| ": ".to_owned()),
        indent,
    };
    options.assert_all_used()?;
    let value = serde_json::to_value(value)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))?;
    let mut text = String::new();
    form.write(&value, 0, &mut text);
    Ok(text)
}

impl Form {
    fn write(&self, value: &serde_json::Value, depth: usize, text: &mut String) {
        use serde_json::Value as Json;
        match value {
            Json::Array(items) => {
                let items = items.iter().map(|item| (None, item));
                self.write_all(['[', ']'], items.collect(), depth, text);
            }
            Json::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().map(|(key, item)| (Some(key), item)).collect();
                if self.sort_keys {
                    fields.sort_by_key(|(key, _)| *key);
                }
                self.write_all(['{', '}'], fields, depth, text);
            }
            Json::String(string) => self.write_string(string, text),
            other => text.push_str(&other.to_string()),
        }
    }

    fn write_all(
        &self,
        brackets: [char; 2],
        items: Vec<(Option<&String>, &serde_json::Value)>,
        depth: usize,
        text: &mut String,
    ) {
        text.push(brackets[0]);
        let filled = !items.is_empty();
        for (i, (key, item)) in items.into_iter().enumerate() {
            if 0 < i {
                text.push_str(&self.comma);
            }
            self.new_line(depth + 1, text);
            if let Some(key) = key {
                self.write_string(key, text);
                text.push_str(&self.colon);
            }
            self.write(item, depth + 1, text);
        }
        if filled {
            self.new_line(depth, text);
        }
        text.push(brackets[1]);
    }

    fn new_line(&self, depth: usize, text: &mut String) {
        if let Some(indent) = &self.indent {
            text.push('\n');
            text.push_str(&indent.repeat(depth));
        }
    }

    fn write_string(&self, string: &str, text: &mut String) {
        for c in serde_json::Value::from(string).to_string().chars() {
            match c {
                c if self.ensure_ascii && !c.is_ascii() => {
                    let mut units = [0; 2];
                    c.encode_utf16(&mut units)
                        .iter()
                        .for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
                }
                c => text.push(c),
            }
        }
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
