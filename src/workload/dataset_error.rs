use std::fmt;

/// Why a dataset makes no prompts. Displays as `line 14: missing field` and so on; whoever read the file
/// puts its path before that, and [`DatasetError::help`] below it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{what}", Place(*.line, *.column))]
pub struct DatasetError {
    /// Line of the file, from 1; `None` where the whole file or a parameter is at fault.
    pub line: Option<usize>,
    /// Byte within the line, from 1; `None` where the whole line is at fault.
    pub column: Option<usize>,
    what: String,
    help: String,
}

impl DatasetError {
    /// An error of the whole file, or of what was asked of it.
    pub(super) fn whole(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { line: None, column: None, what: what.into(), help: help.into() }
    }

    /// The same error, said of a line.
    pub(super) fn at_line(self, line: usize) -> Self {
        Self { line: Some(line), ..self }
    }

    /// The same error, said of a byte within its line.
    pub(super) fn at_column(self, column: usize) -> Self {
        Self { column: Some(column), ..self }
    }

    /// What to do about it: one sentence, without a full stop.
    pub fn help(&self) -> &str {
        &self.help
    }
}

/// The text of a dataset's bytes, without the byte order mark that some editors write.
///
/// # Errors
/// Says where the first byte is that is not UTF-8.
pub fn decode(bytes: &[u8]) -> Result<&str, DatasetError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let line = 1 + memchr::memchr_iter(b'\n', good).count();
        let column = good.len() - memchr::memrchr(b'\n', good).map_or(0, |end| end + 1) + 1;
        DatasetError::whole("not UTF-8 text", "save the file as UTF-8").at_line(line).at_column(column)
    })
}

struct Place(Option<usize>, Option<usize>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Some(line), Some(column)) => write!(f, "line {line}, column {column}: "),
            (Some(line), None) => write!(f, "line {line}: "),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_text_are_told_by_line_and_column() {
        let error = decode(b"one\ntwo \xff three").unwrap_err();
        assert_eq!(error.to_string(), "line 2, column 5: not UTF-8 text");
        assert_eq!(error.help(), "save the file as UTF-8");
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        assert_eq!(decode(b"\xef\xbb\xbfrose\n").unwrap(), "rose\n");
    }
}
