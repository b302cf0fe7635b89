use super::task::TaskError;
use saphyr::{LoadableYamlNode, ScalarOwned, YamlOwned};
use serde_json::{Map, Value};

/// The one mapping of a YAML text, as JSON.
///
/// # Errors
/// When it is not YAML, not one mapping, or has a tag such as `!function`: code is not run here.
pub(super) fn mapping(text: &str) -> Result<Map<String, Value>, TaskError> {
    let documents =
        YamlOwned::load_from_str(text).map_err(|error| TaskError::new(format!("not YAML: {error}")))?;
    match documents.as_slice() {
        [one] => match json("", one)? {
            Value::Object(map) => Ok(map),
            _ => Err(TaskError::new("not a mapping of keys to values")),
        },
        _ => Err(TaskError::new(format!("{} YAML documents where one is wanted", documents.len()))),
    }
}

fn json(path: &str, node: &YamlOwned) -> Result<Value, TaskError> {
    Ok(match node {
        YamlOwned::Value(scalar) => match scalar {
            ScalarOwned::Null => Value::Null,
            ScalarOwned::Boolean(value) => (*value).into(),
            ScalarOwned::Integer(value) => (*value).into(),
            ScalarOwned::FloatingPoint(value) => value.into_inner().into(),
            ScalarOwned::String(text) => text.as_str().into(),
        },
        YamlOwned::Sequence(items) => {
            let item = |(index, item)| json(&format!("{path}[{index}]"), item);
            items.iter().enumerate().map(item).collect::<Result<_, _>>()?
        }
        YamlOwned::Mapping(entries) => {
            let entry = |(key, value): (&YamlOwned, &YamlOwned)| {
                let key = match json(path, key)? {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                Ok((key, json(&path, value)?))
            };
            Value::Object(entries.iter().map(entry).collect::<Result<_, TaskError>>()?)
        }
        YamlOwned::Tagged(tag, _) if tag.suffix == "function" => {
            return Err(TaskError::new(format!(
                "`{path}` is a Python function (!function), and only declared tasks can be run"
            )));
        }
        YamlOwned::Tagged(tag, inner) if tag.handle.is_empty() || tag.is_yaml_core_schema() => {
            json(path, inner)?
        }
        YamlOwned::Tagged(tag, _) => {
            return Err(TaskError::new(format!(
                "`{path}` has the tag `!{}`, which has no meaning here",
                tag.suffix
            )));
        }
        YamlOwned::Representation(text, ..) => text.as_str().into(),
        YamlOwned::Alias(_) | YamlOwned::BadValue => {
            return Err(TaskError::new(format!("`{path}` has no value that can be read")));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_task_file_reads_as_json() {
        let text = "a: 'x'\nb:\n  - \"\\\\.$\"\n  - (?s).*#### \nc: {d: 3.0, e: true, f: null}\ng: one\n  two\n\n  three\n";
        let wanted = json!({
            "a": "x", "b": ["\\.$", "(?s).*####"], "c": {"d": 3.0, "e": true, "f": null}, "g": "one two\nthree",
        });
        assert_eq!(Value::Object(mapping(text).unwrap()), wanted);
    }

    #[test]
    fn code_is_refused_by_its_place() {
        let error = mapping("a: 1\nlist:\n  - f: !function utils.process\n").unwrap_err();
        assert!(error.to_string().contains("`list[0].f` is a Python function"), "{error}");
    }
}
