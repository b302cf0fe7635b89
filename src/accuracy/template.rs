use super::pattern::Pattern;
use super::task::TaskError;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value as Rendered, escape_formatter};
use serde_json::{Map, Value};

/// How a text is made from a document: the name of one of its fields, or a Jinja template over them.
#[derive(Clone, Debug)]
pub(super) struct Template {
    source: String,
    environment: Environment<'static>,
}

const NAME: &str = "field";

impl Template {
    pub(super) fn new(source: &str) -> Result<Self, TaskError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        environment.set_syntax(syntax.expect("the usual marks do not clash"));
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_formatter(|out, state, value| match value.kind() {
            minijinja::value::ValueKind::None => out.write_str("None").map_err(Error::from),
            minijinja::value::ValueKind::Bool => {
                out.write_str(if value.is_true() { "True" } else { "False" }).map_err(Error::from)
            }
            _ => escape_formatter(out, state, value),
        });
        environment.add_filter("regex_replace", |text: String, pattern: String, with: String| {
            let pattern = Pattern::new(&pattern);
            pattern
                .map(|pattern| Rendered::from(pattern.replace(&text, &with)))
                .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
        });
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| TaskError::new(format!("`{source}` is not a template: {error}")))?;
        Ok(Self { source: source.to_owned(), environment })
    }

    /// The text for a document. A field of that very name is taken as it is, also where it is a list.
    pub(super) fn value(&self, document: &Map<String, Value>) -> Result<Value, TaskError> {
        match document.get(&self.source) {
            Some(value) => Ok(value.clone()),
            None => self.render(document).map(Value::String),
        }
    }

    /// The same, where it has to be one text.
    pub(super) fn text(&self, document: &Map<String, Value>) -> Result<String, TaskError> {
        match self.value(document)? {
            Value::String(text) => Ok(text),
            other => Err(TaskError::new(format!("`{}` is {other}, and a text is wanted", self.source))),
        }
    }

    /// Whether it is the name of a field of a document, and no template over it.
    pub(super) fn is_field_of(&self, document: &Map<String, Value>) -> bool {
        document.contains_key(&self.source)
    }

    fn render(&self, document: &Map<String, Value>) -> Result<String, TaskError> {
        let template = self.environment.get_template(NAME).map_err(|error| self.fault(&error))?;
        template.render(Serde(document)).map_err(|error| self.fault(&error))
    }

    fn fault(&self, error: &Error) -> TaskError {
        TaskError::new(format!("the template `{}` fails: {error}", self.source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rendered(source: &str, document: Value) -> Result<String, TaskError> {
        let Value::Object(document) = document else { panic!("a document is an object") };
        Template::new(source)?.text(&document)
    }

    #[test]
    fn templates_render_as_the_harness_renders_them() {
        let document = json!({"question": "a < b\n", "answer": "x #### 7 ", "n": 3, "b": true});
        let text = |source: &str| rendered(source, document.clone()).unwrap();
        assert_eq!(text("Q: {{question}}\n"), "Q: a < b\n\n");
        assert_eq!(text("question"), "a < b\n");
        assert_eq!(text("{{answer.split('####')[-1].strip() if answer is defined else target}}"), "7");
        assert_eq!(text("{{n}} {{b}} {{none}}"), "3 True None");
        assert_eq!(text("{{answer|regex_replace('x #+ ', '')}}"), "7 ");
        assert!(rendered("{{nobody}}", document).is_err());
    }
}
