//! How reports write numbers and foreign text.

/// What stands where there is no value.
pub(super) const MISSING: &str = "–";

/// Columns of a terminal that every line of the console fits in, where its words allow it.
const COLUMNS: usize = 80;

/// Text of a server or a user without the characters that steer a terminal or turn a line round:
/// control characters, line separators and the marks of writing direction.
pub fn plain(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{feff}')
            || ('\u{202a}'..='\u{202e}').contains(&c)
            || ('\u{2066}'..='\u{2069}').contains(&c)
    };
    text.chars().filter(|&c| !steers(c)).collect()
}

/// The same, line by line.
pub(super) fn plain_lines(text: &str) -> String {
    text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}

/// Decimals that leave about four figures of a row whose greatest value is `greatest`.
pub(super) fn decimals(greatest: Option<f64>) -> usize {
    match greatest.unwrap_or(0.0).abs() {
        huge if 1000.0 <= huge => 1,
        large if 10.0 <= large => 2,
        _ => 3,
    }
}

/// A number with that many decimals; [`MISSING`] for none.
pub(super) fn fixed(value: Option<f64>, decimals: usize) -> String {
    match value {
        Some(value) if value.is_finite() => format!("{value:.decimals$}"),
        _ => MISSING.to_owned(),
    }
}

/// A number by its own size.
pub(super) fn number(value: Option<f64>) -> String {
    fixed(value, decimals(value))
}

/// A share as a percentage; [`MISSING`] of nothing.
pub(super) fn percent(part: usize, whole: usize) -> String {
    if whole == 0 { MISSING.to_owned() } else { format!("{:.1} %", 100.0 * part as f64 / whole as f64) }
}

/// A count in groups of three figures, as `12,345`; four figures stay together.
pub(super) fn count(n: u64) -> String {
    let figures = n.to_string();
    if figures.len() <= 4 {
        return figures;
    }
    let mut grouped = String::new();
    for (at, figure) in figures.chars().enumerate() {
        if 0 < at && (figures.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(figure);
    }
    grouped
}

/// `1 request`, `2 requests`.
pub(super) fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// `99` or `99.9`: a percentile's number, without decimals where it needs none.
pub(super) fn bare(p: f64) -> String {
    format!("{p}")
}

/// Breaks a line at spaces so that it fits the terminal; further lines start with `indent` spaces.
/// A number is not parted from the `%` or `ms` behind it.
pub(super) fn wrapped(text: &str, indent: usize) -> String {
    let words = text.trim_start();
    let mut lines = text[..text.len() - words.len()].to_owned();
    let mut used = lines.len();
    let glued = words.replace(" %", "\u{a0}%").replace(" ms", "\u{a0}ms").replace(" s,", "\u{a0}s,");
    for (at, word) in glued.split(' ').enumerate() {
        let width = word.chars().count();
        if 0 < at && COLUMNS < used + 1 + width {
            lines = lines.trim_end().to_owned() + "\n" + &" ".repeat(indent);
            used = indent;
        } else if 0 < at {
            lines.push(' ');
            used += 1;
        }
        lines.push_str(word);
        used += width;
    }
    lines.replace('\u{a0}', " ") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_steer_a_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\r\n\tc\u{7f}\u{9b}d\u{202e}e\u{2028}é–漢"), "a[31mbcdeé–漢");
    }

    #[test]
    fn numbers_keep_about_four_figures() {
        let table = [
            (Some(0.04), "0.040"),
            (Some(9.87654), "9.877"),
            (Some(59.551), "59.55"),
            (Some(12_345.67), "12345.7"),
            (Some(f64::NAN), MISSING),
            (None, MISSING),
        ];
        for (value, text) in table {
            assert_eq!(number(value), text);
        }
        assert_eq!([0, 9999, 10_000, 1_234_567].map(count), ["0", "9999", "10,000", "1,234,567"]);
        assert_eq!([99.0, 99.9, 50.0].map(bare), ["99", "99.9", "50"]);
    }

    #[test]
    fn a_long_line_is_broken_at_spaces_and_indented() {
        let text = wrapped(&["word"; 40].join(" "), 4);
        assert!(text.lines().all(|line| line.chars().count() <= 80));
        assert!(text.lines().skip(1).all(|line| line.starts_with("    word")));
        assert_eq!(text.split_whitespace().count(), 40);
        assert_eq!(wrapped("  short", 4), "  short\n");
        assert_eq!(
            wrapped(&format!("{} 2.8 %", "x".repeat(75)), 2),
            format!("{}\n  2.8 %\n", "x".repeat(75))
        );
    }
}
