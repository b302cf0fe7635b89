//! JSON as Python's `json.dumps` writes it, where others compare the bytes or their checksums.

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::io::{self, Write};

/// `{"a": 1, "b": [1, 2]}`: a blank after each comma and colon. [`Ascii::Escaped`] keeps every byte ASCII, so that no
/// text breaks the line.
struct PythonForm(Ascii);

/// What becomes of characters beyond ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ascii {
    /// They are escaped: `ensure_ascii=True`.
    Escaped,
    /// They stay: `ensure_ascii=False`.
    AsTheyAre,
}

/// A value on one line.
///
/// # Errors
/// When it has no JSON form: a map whose keys are no texts.
pub fn dumps(value: &impl Serialize, ascii: Ascii) -> serde_json::Result<String> {
    written(value, PythonForm(ascii))
}

/// A value over several lines, `indent=2` and `ensure_ascii=False`.
///
/// # Errors
/// As [`dumps`].
pub fn dumps_indented(value: &impl Serialize) -> serde_json::Result<String> {
    written(value, PrettyFormatter::with_indent(b"  "))
}

fn written(value: &impl Serialize, form: impl Formatter) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, form))?;
    Ok(String::from_utf8(bytes).expect("JSON is UTF-8"))
}

impl Formatter for PythonForm {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, text: &str) -> io::Result<()> {
        if self.0 == Ascii::AsTheyAre {
            return writer.write_all(text.as_bytes());
        }
        for piece in text.split_inclusive(|c: char| !c.is_ascii()) {
            let (ascii, other) = match piece.chars().next_back().filter(|c| !c.is_ascii()) {
                Some(c) => (&piece[..piece.len() - c.len_utf8()], Some(c)),
                None => (piece, None),
            };
            writer.write_all(ascii.as_bytes())?;
            for unit in other.iter().flat_map(|c| c.encode_utf16(&mut [0; 2]).to_vec()) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_are_pythons() {
        let value = json!({"a": ["é\n", 1.5, []], "b": {}});
        assert_eq!(dumps(&value, Ascii::Escaped).unwrap(), r#"{"a": ["\u00e9\n", 1.5, []], "b": {}}"#);
        assert_eq!(dumps(&value, Ascii::AsTheyAre).unwrap(), r#"{"a": ["é\n", 1.5, []], "b": {}}"#);
        let odd = json!(["a\u{2028}b🚲"]);
        assert_eq!(dumps(&odd, Ascii::Escaped).unwrap(), r#"["a\u2028b\ud83d\udeb2"]"#);
        let indented = "{\n  \"a\": [\n    \"é\\n\",\n    1.5,\n    []\n  ],\n  \"b\": {}\n}";
        assert_eq!(dumps_indented(&value).unwrap(), indented);
    }
}
