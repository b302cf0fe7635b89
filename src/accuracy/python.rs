//! What Python's strings do, where Rust's do otherwise.

/// `char.isspace()`: what Unicode calls white space, and four separators of ASCII besides.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `text.strip()`.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// A list of strings as Python writes it, such as `['a', "b's"]`: what a target's template may render to. `None`
/// for anything else.
pub(super) fn strings(text: &str) -> Option<Vec<String>> {
    let mut rest = text.strip_prefix('[')?.strip_suffix(']')?.trim();
    let mut items = Vec::new();
    while !rest.is_empty() {
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let mut item = String::new();
        let mut chars = rest[1..].char_indices();
        let end = loop {
            match chars.next()? {
                (at, c) if c == quote => break at + 1,
                (_, '\\') => match chars.next()?.1 {
                    'n' => item.push('\n'),
                    't' => item.push('\t'),
                    'r' => item.push('\r'),
                    c @ ('\\' | '\'' | '"') => item.push(c),
                    _ => return None,
                },
                (_, c) => item.push(c),
            }
        };
        items.push(item);
        rest = rest[end + 1..].trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.is_empty() => {}
            None => return None,
        }
    }
    Some(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_pythons() {
        assert_eq!(strip("\u{1f} \u{a0}a b\u{2028}\n"), "a b");
    }

    #[test]
    fn a_list_reads_as_python_writes_it() {
        let list = |items: &[&str]| Some(items.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(strings(r#"['a', "b's", 'c\'d\n']"#), list(&["a", "b's", "c'd\n"]));
        assert_eq!(strings("[]"), list(&[]));
        for odd in ["[a]", "['a' 'b']", "['a", "[1, 2]", "text"] {
            assert_eq!(strings(odd), None, "{odd}");
        }
    }
}
