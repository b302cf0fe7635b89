use super::task::TaskError;
use serde_json::{Map, Value};

/// The documents of one split, in the order of their file.
pub type Documents = Vec<Map<String, Value>>;

/// Documents of a JSONL text, one object a line, or of a JSON list of objects. Lines end at `\n` alone: a document may
/// hold any other line separator.
///
/// # Errors
/// Says which line is no object.
pub fn read_documents(text: &str) -> Result<Documents, TaskError> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text)
            .map_err(|error| TaskError::new(format!("not a JSON list of objects: {error}")));
    }
    let lines = text.split('\n').enumerate().filter(|(_, line)| !line.trim().is_empty());
    let documents = lines.map(|(number, line)| {
        serde_json::from_str(line)
            .map_err(|error| TaskError::new(format!("line {}: not a JSON object: {error}", number + 1)))
    });
    let documents: Documents = documents.collect::<Result<_, _>>()?;
    if documents.is_empty() {
        return Err(TaskError::new("it holds no document"));
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_at_a_line_feed_alone() {
        let text = "{\"a\": \"x\u{2028}y\u{85}\"}\n\n{\"a\": 2}";
        assert_eq!(read_documents(text).unwrap().len(), 2);
        assert_eq!(read_documents("[{\"a\": 1}, {\"a\": 2}]").unwrap().len(), 2);
    }

    #[test]
    fn a_line_that_is_no_object_is_named() {
        let error = read_documents("{\"a\": 1}\n[1]\n").unwrap_err();
        assert!(error.to_string().starts_with("line 2: "), "{error}");
        assert!(read_documents("\n").is_err());
    }
}
