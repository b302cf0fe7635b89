//! Values as Python shows them.

use serde_json::Value;

/// A float as `str` prints it: `10.0`, `1e-05`, `1e+16`.
pub(super) fn float(value: f64) -> String {
    let text = format!("{value:?}");
    match text.split_once('e') {
        None => text,
        Some((digits, exponent)) => {
            let (sign, figures) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
            format!("{digits}e{sign}{figures:0>2}")
        }
    }
}

/// A value as `repr` prints it.
pub(super) fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) if number.is_f64() => number.as_f64().map(float).unwrap_or_default(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(values) => format!("[{}]", values.iter().map(repr).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let pair = |(key, value): (&String, &Value)| format!("{}: {}", quoted(key), repr(value));
            format!("{{{}}}", map.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
    }
}

/// A text in the quotes that it has fewer of.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => quoted += "\\\\",
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\t' => quoted += "\\t",
            c if c == quote => quoted.extend(['\\', c]),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => quoted += &format!("\\x{:02x}", c as u32),
            c => quoted.push(c),
        }
    }
    quoted.push(quote);
    quoted
}

/// A value whose innermost parts are texts: what lm_eval does before it writes answers.
pub(super) fn strings(value: &Value) -> Value {
    match value {
        Value::Array(values) => Value::Array(values.iter().map(strings).collect()),
        Value::String(text) => Value::String(text.clone()),
        other => Value::String(repr(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_look_as_in_python() {
        let table = [
            (json!({"a": null, "b": [true, 1, 1.0, 1e-5]}), "{'a': None, 'b': [True, 1, 1.0, 1e-05]}"),
            (json!("it's"), "\"it's\""),
            (json!("a\"'\n\\"), "'a\"\\'\\n\\\\'"),
            (json!({}), "{}"),
            (json!(1e16), "1e+16"),
        ];
        for (value, text) in table {
            assert_eq!(repr(&value), text);
        }
        assert_eq!(strings(&json!(["a", 1, [null]])), json!(["a", "1", ["None"]]));
    }
}
