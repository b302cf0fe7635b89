use super::task::TaskError;
use fancy_regex::Regex;

/// A regular expression of Python's.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
}

/// One match as `re.findall` gives it: the whole where the pattern has no group, else its groups.
pub(super) enum Found<'t> {
    Text(&'t str),
    Groups(Vec<&'t str>),
}

impl Pattern {
    pub(super) fn new(source: &str) -> Result<Self, TaskError> {
        let regex = Regex::new(&translated(source))
            .map_err(|error| TaskError::new(format!("`{source}` is not a regular expression: {error}")))?;
        Ok(Self { regex })
    }

    /// `re.findall(pattern, text)`. A match that takes too many steps ends the list.
    pub(super) fn find_all<'t>(&self, text: &'t str) -> Vec<Found<'t>> {
        let found = self.regex.captures_iter(text).map_while(Result::ok).map(|captures| {
            let group = |index| captures.get(index).map_or("", |group| group.as_str());
            match captures.len() {
                1 => Found::Text(group(0)),
                2 => Found::Text(group(1)),
                groups => Found::Groups((1..groups).map(group).collect()),
            }
        });
        found.collect()
    }

    /// `re.sub(pattern, "", text)`.
    pub(super) fn remove(&self, text: &str) -> String {
        self.replace(text, "")
    }

    /// `re.sub(pattern, with, text)`, without references to groups in `with`.
    pub(super) fn replace(&self, text: &str, with: &str) -> String {
        let mut kept = String::with_capacity(text.len());
        let mut from = 0;
        for found in self.regex.find_iter(text).map_while(Result::ok) {
            kept.push_str(&text[from..found.start()]);
            kept.push_str(with);
            from = found.end();
        }
        kept.push_str(&text[from..]);
        kept
    }
}

/// Where the two languages differ: Python's `$` also holds before a line end that ends the text, its `\Z` is our `\z`.
fn translated(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + 8);
    // `(?m)` makes it the end of any line in both.
    let flags =
        source.strip_prefix("(?").and_then(|rest| rest.split_once(')')).map_or("", |(flags, _)| flags);
    let by_lines = flags.bytes().all(|flag| flag.is_ascii_alphabetic()) && flags.contains('m');
    let mut in_class = false;
    let mut chars = source.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('Z') => out.push_str(r"\z"),
                Some(next) => out.extend(['\\', next]),
                None => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                out.push(c);
                // A bracket that comes first is a member.
                let rest = chars.as_str();
                let negated = rest.starts_with('^');
                if negated {
                    out.push('^');
                    chars.next();
                }
                if chars.as_str().starts_with(']') {
                    out.push_str(r"\]");
                    chars.next();
                }
            }
            // Only a class in a class to us.
            '[' => out.push_str(r"\["),
            ']' => {
                in_class = false;
                out.push(c);
            }
            '$' if !in_class && !by_lines => out.push_str(r"(?=\n?\z)"),
            // Operators on sets to us, characters to Python.
            '&' | '~' if in_class => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pattern: &str, text: &str) -> Vec<String> {
        let found = Pattern::new(pattern).unwrap();
        let found = found.find_all(text);
        found
            .into_iter()
            .map(|found| match found {
                Found::Text(text) => text.to_owned(),
                Found::Groups(groups) => groups.join("|"),
            })
            .collect()
    }

    #[test]
    fn matches_are_those_of_findall() {
        assert_eq!(all(r"#### (\-?[0-9\.\,]+)", "x #### -1,234. y #### 5"), ["-1,234.", "5"]);
        assert_eq!(all(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", "7 of $8.50, -3"), ["|7", "$8.50,|", "|-3"]);
        assert_eq!(all(r"a(?!b)", "ab ac"), ["a"]);
        assert_eq!(all(r"[]x]+", "a]x]"), ["]x]"]);
    }

    #[test]
    fn a_dollar_holds_before_the_last_line_end() {
        let pattern = Pattern::new(r"\.$").unwrap();
        assert_eq!(pattern.remove("1.5."), "1.5");
        assert_eq!(pattern.remove("1.5.\n"), "1.5\n");
        assert_eq!(pattern.remove("1.\n\n"), "1.\n\n");
        assert_eq!(Pattern::new(r"(?s).*#### ").unwrap().remove("a\n#### b #### 7"), "7");
        assert_eq!(Pattern::new(r"\$").unwrap().remove("$7"), "7");
        // Only flags can make it the end of any line: these are groups with an m in them.
        for pattern in [r"(?:m|x)$", r"(?P<m>x)$", r"(?#m)x$", r"(?<=m)x$"] {
            assert_eq!(Pattern::new(pattern).unwrap().remove("mx\nb"), "mx\nb", "{pattern}");
        }
        assert_eq!(Pattern::new(r"(?im)X$").unwrap().remove("mx\nb"), "m\nb");
    }

    #[test]
    fn a_broken_pattern_is_named() {
        assert!(Pattern::new("(a").unwrap_err().to_string().contains("`(a`"));
    }
}
