//! Reads a Rust source just far enough to know its paths (`a::b::c`, use trees unfolded), its macro calls, and
//! which of them are test code. Comments and texts do not count. Deliberately absent: types, and macros'
//! meanings.

use std::collections::BTreeSet;

/// A source file of `src/`.
pub struct Source {
    /// From the root of the tree, such as `src/load/pacer.rs`.
    pub file: String,
    /// Every path and every lone name in it.
    pub paths: Vec<Path>,
    /// Module files that only tests see, from the root of the tree.
    pub test_files: Vec<String>,
    /// Lines in all.
    pub lines: usize,
}

/// A path as it is written, with all of its parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    pub line: usize,
    /// `crate`, `load`, `Pacer`; a glob is `*`.
    pub parts: Vec<String>,
    /// Called as a macro.
    pub is_macro: bool,
    /// Followed by `as`.
    pub renamed: bool,
    /// Inside an item under `#[cfg(test)]`.
    pub in_test: bool,
    /// The module it stands in, from the root of the crate.
    pub module: Vec<String>,
}

impl Source {
    pub fn parse(file: &str, text: &str) -> Self {
        let tokens = tokens(text);
        let in_test = test_spans(&tokens);
        let mut reader =
            Reader { tokens: &tokens, in_test: &in_test, module: module_of(file), paths: vec![] };
        reader.read();
        Self {
            file: file.to_owned(),
            paths: reader.paths,
            test_files: test_files(file, &tokens, &in_test),
            lines: text.lines().count(),
        }
    }
}

impl Path {
    /// The path from the root of the crate, without `crate`; `None` when it leads into another crate or does
    /// not leave its module.
    pub fn in_crate(&self) -> Option<Vec<String>> {
        let first = self.parts.first()?.as_str();
        let supers = self.parts.iter().take_while(|part| *part == "super").count();
        match first {
            _ if self.parts.len() == 1 => None,
            "crate" | "pdbench" => Some(self.parts[1..].to_vec()),
            "self" => Some([&self.module, &self.parts[1..]].concat()),
            "super" => {
                let up = self.module.len().checked_sub(supers)?;
                Some([&self.module[..up], &self.parts[supers..]].concat())
            }
            // In the root itself a module's name is enough.
            _ if self.module.is_empty() => Some(self.parts.clone()),
            _ => None,
        }
    }

    /// True when the path has these parts side by side.
    pub fn contains(&self, wanted: &[&str]) -> bool {
        self.parts.windows(wanted.len()).any(|window| window == wanted)
    }

    pub fn text(&self) -> String {
        let bang = if self.is_macro { "!" } else { "" };
        self.parts.join("::") + bang
    }
}

/// `src/load/pacer.rs` is `load::pacer`, `src/load/mod.rs` is `load`, `src/lib.rs` the root.
fn module_of(file: &str) -> Vec<String> {
    let inner = file.trim_start_matches("src/").trim_end_matches(".rs");
    let mut module: Vec<_> = inner.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        module.pop();
    }
    module
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Name(String),
    Text(String),
    /// `::`
    Joint,
    Mark(char),
}

#[derive(Clone, Debug)]
struct Token {
    line: usize,
    kind: Kind,
}

impl Token {
    fn is(&self, mark: char) -> bool {
        self.kind == Kind::Mark(mark)
    }

    fn name(&self) -> Option<&str> {
        match &self.kind {
            Kind::Name(name) => Some(name),
            _ => None,
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let (mut tokens, mut i, mut line) = (Vec::new(), 0, 1);
    while i < chars.len() {
        let start = i;
        let kind = match at(i) {
            c if c.is_whitespace() => {
                i += 1;
                None
            }
            '/' if at(i + 1) == '/' => {
                i += chars[i..].iter().take_while(|&&c| c != '\n').count();
                None
            }
            '/' if at(i + 1) == '*' => {
                i = end_of_comment(&chars, i);
                None
            }
            '"' => {
                i = end_of_text(&chars, i + 1);
                Some(Kind::Text(chars[start + 1..(i - 1).max(start + 1)].iter().collect()))
            }
            '\'' if at(i + 1) == '\\' => {
                i += 3;
                i += chars[i.min(chars.len())..].iter().take_while(|&&c| c != '\'').count() + 1;
                None
            }
            '\'' if at(i + 2) == '\'' => {
                i += 3;
                None
            }
            // A lifetime.
            '\'' => {
                i += 1 + chars[i + 1..].iter().take_while(|&&c| is_word(c)).count();
                None
            }
            c if is_word(c) => {
                i += chars[i..].iter().take_while(|&&c| is_word(c)).count();
                let word: String = chars[start..i].iter().collect();
                match raw_text_end(&chars, i, &word) {
                    Some(end) => {
                        i = end;
                        None
                    }
                    None if word == "r" && at(i) == '#' => {
                        i += 1; // a raw name: the name itself follows
                        None
                    }
                    None if c.is_ascii_digit() => None,
                    None => Some(Kind::Name(word)),
                }
            }
            ':' if at(i + 1) == ':' => {
                i += 2;
                Some(Kind::Joint)
            }
            c => {
                i += 1;
                Some(Kind::Mark(c))
            }
        };
        i = i.min(chars.len());
        tokens.extend(kind.map(|kind| Token { line, kind }));
        line += chars[start..i].iter().filter(|&&c| c == '\n').count();
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Behind the closing quote of a text whose inside begins at `i`.
fn end_of_text(chars: &[char], mut i: usize) -> usize {
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

/// Comments nest.
fn end_of_comment(chars: &[char], mut i: usize) -> usize {
    let mut depth = 0;
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                i += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                i += 2;
            }
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

/// Behind a raw text such as `r#"…"#` whose prefix `word` ends at `i`.
fn raw_text_end(chars: &[char], i: usize, word: &str) -> Option<usize> {
    if !["r", "br", "cr"].contains(&word) {
        return None;
    }
    let hashes = chars[i..].iter().take_while(|&&c| c == '#').count();
    if chars.get(i + hashes) != Some(&'"') {
        return None;
    }
    let inside = i + hashes + 1;
    let closes = |&at: &usize| {
        chars[at] == '"' && chars[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes
    };
    Some((inside..chars.len()).find(closes).map_or(chars.len(), |at| at + 1 + hashes))
}

/// For each token, whether it belongs to an item under `#[cfg(test)]`.
fn test_spans(tokens: &[Token]) -> Vec<bool> {
    let mut in_test = vec![false; tokens.len()];
    for i in 0..tokens.len() {
        if !in_test[i] && is_cfg_test(&tokens[i..]) {
            let end = end_of_item(tokens, i);
            in_test[i..end].fill(true);
        }
    }
    in_test
}

fn is_cfg_test(tokens: &[Token]) -> bool {
    let kinds = tokens.iter().take(7).map(|token| match &token.kind {
        Kind::Name(name) => name.clone(),
        Kind::Mark(mark) => mark.to_string(),
        Kind::Text(_) | Kind::Joint => String::new(),
    });
    kinds.collect::<String>() == "#[cfg(test)]"
}

/// Behind the item that follows the attribute at `i`: its `;` or its closing brace.
fn end_of_item(tokens: &[Token], mut i: usize) -> usize {
    let mut depth = 0;
    while i < tokens.len() {
        match tokens[i].kind {
            Kind::Mark('{' | '(' | '[') => depth += 1,
            Kind::Mark(')' | ']') => depth -= 1,
            Kind::Mark('}') => {
                depth -= 1;
                if depth == 0 {
                    return i + 1;
                }
            }
            Kind::Mark(';') if depth == 0 => return i + 1,
            _ => {}
        }
        i += 1;
    }
    i
}

/// The files of modules that are declared under `#[cfg(test)]`.
fn test_files(file: &str, tokens: &[Token], in_test: &[bool]) -> Vec<String> {
    let directory = file.rsplit_once('/').map_or("", |(directory, _)| directory);
    let stem = file.trim_end_matches(".rs");
    let is_root = ["mod", "lib", "main"].contains(&stem.rsplit('/').next().unwrap_or_default());
    let below = if is_root { directory } else { stem };
    let mut files = BTreeSet::new();
    let mut path = None;
    for (i, token) in tokens.iter().enumerate().filter(|(i, _)| in_test[*i]) {
        match &token.kind {
            Kind::Text(text) if 2 <= i && tokens[i - 1].is('=') && tokens[i - 2].name() == Some("path") => {
                path = Some(text.clone());
            }
            Kind::Mark(';') if 2 <= i && tokens[i - 2].name() == Some("mod") => {
                let name = tokens[i - 1].name().unwrap_or_default();
                match path.take() {
                    Some(path) => files.insert(format!("{directory}/{path}")),
                    None => {
                        files.insert(format!("{below}/{name}.rs")) && files.insert(format!("{below}/{name}/"))
                    }
                };
            }
            Kind::Mark('}') => path = None,
            _ => {}
        }
    }
    files.into_iter().collect()
}

struct Reader<'a> {
    tokens: &'a [Token],
    in_test: &'a [bool],
    module: Vec<String>,
    paths: Vec<Path>,
}

impl Reader<'_> {
    fn read(&mut self) {
        // Depths at which the modules written inside this file began.
        let (mut i, mut depth, mut inner) = (0, 0, Vec::new());
        while let Some(token) = self.tokens.get(i) {
            match &token.kind {
                Kind::Mark('{') => {
                    depth += 1;
                    if 2 <= i
                        && self.tokens[i - 2].name() == Some("mod")
                        && let Some(name) = self.tokens[i - 1].name()
                    {
                        inner.push(depth);
                        self.module.push(name.to_owned());
                    }
                }
                Kind::Mark('}') => {
                    if inner.last() == Some(&depth) {
                        inner.pop();
                        self.module.pop();
                    }
                    depth -= 1;
                }
                Kind::Name(_) if self.begins_path(i) => {
                    i = self.tree(i, &[]);
                    continue;
                }
                _ => {}
            }
            i += 1;
        }
    }

    /// False for methods, fields, what follows a `<T as A>::`, and the `use` of `use ::a`.
    fn begins_path(&self, i: usize) -> bool {
        if self.tokens[i].name() == Some("use") {
            return false;
        }
        let before = |n: usize| i.checked_sub(n).map(|at| &self.tokens[at]);
        match before(1).map(|token| &token.kind) {
            Some(Kind::Mark('.')) => false,
            // `use ::other` begins a path, `a::b` and `<T>::b` go on with one.
            Some(Kind::Joint) => before(2).is_none_or(|token| match token.name() {
                Some(name) => name == "use",
                None => !token.is('>'),
            }),
            _ => true,
        }
    }

    /// Reads a path or a use tree whose next token is at `i`; gives the place behind it.
    fn tree(&mut self, mut i: usize, prefix: &[String]) -> usize {
        let mut parts = prefix.to_vec();
        let line = self.tokens[i].line;
        loop {
            match self.tokens.get(i).map(|token| &token.kind) {
                Some(Kind::Name(name)) => {
                    // `{self}` stands for the path before the brace.
                    if name != "self" || parts.is_empty() {
                        parts.push(name.clone());
                    }
                    i += 1;
                }
                Some(Kind::Mark('*')) => {
                    parts.push("*".to_owned());
                    self.found(line, parts, i + 1);
                    return i + 1;
                }
                Some(Kind::Mark('{')) => {
                    i += 1;
                    while let Some(token) = self.tokens.get(i) {
                        match token.kind {
                            Kind::Mark('}') => return i + 1,
                            Kind::Name(_) | Kind::Mark('{' | '*') => i = self.tree(i, &parts),
                            _ => i += 1,
                        }
                    }
                    return i;
                }
                _ => {
                    self.found(line, parts, i);
                    return i;
                }
            }
            let joined = self.tokens.get(i).is_some_and(|token| token.kind == Kind::Joint);
            // Inside a tree the new name behind `as` is no path.
            let renamed = self.tokens.get(i).is_some_and(|token| token.name() == Some("as"));
            if joined {
                i += 1;
            } else if renamed && parts == ["crate"] {
                parts.push("*".to_owned());
                self.found(line, parts, i);
                return i + 2;
            } else {
                self.found(line, parts, i);
                return if renamed && !prefix.is_empty() { i + 2 } else { i };
            }
        }
    }

    fn found(&mut self, line: usize, parts: Vec<String>, next: usize) {
        let opens = |token: &Token| token.is('(') || token.is('[') || token.is('{');
        let is_macro = self.tokens.get(next).is_some_and(|token| token.is('!'))
            && self.tokens.get(next + 1).is_some_and(opens);
        let renamed = self.tokens.get(next).is_some_and(|token| token.name() == Some("as"));
        let in_test = self.in_test[next.min(self.in_test.len()) - 1];
        self.paths.push(Path { line, parts, is_macro, renamed, in_test, module: self.module.clone() });
    }
}
