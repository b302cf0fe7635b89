//! The header `Server-Timing`: what a proxy says about where its time went. Text from outside, so its size is bounded
//! and its names are letters.

use std::collections::BTreeMap;

/// Milliseconds by name, as a server told them.
pub type ServerTiming = BTreeMap<String, f64>;

/// Entries that are kept.
const MOST: usize = 16;
/// Bytes of the longest name that is kept.
const LONGEST_NAME: usize = 32;
/// Milliseconds above which a duration is none: a day.
const LONGEST_MS: f64 = 86_400_000.0;

/// Reads the value of the header: `name;dur=1.5, name;desc="…";dur=2`. What has no duration, or no plain name, is left
/// out; `None` when nothing is left.
pub fn server_timing(value: &str) -> Option<ServerTiming> {
    let entries = outside_quotes(value, ',').filter_map(entry).take(MOST);
    Some(entries.collect::<ServerTiming>()).filter(|timing| !timing.is_empty())
}

fn entry(text: &str) -> Option<(String, f64)> {
    let mut parts = outside_quotes(text, ';').map(str::trim);
    let name = parts.next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || LONGEST_NAME < name.len() || !name.chars().all(plain) {
        return None;
    }
    let mut durations = parts.filter_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case("dur").then(|| value.trim().trim_matches('"'))
    });
    let ms: f64 = durations.next()?.parse().ok()?;
    (0.0..=LONGEST_MS).contains(&ms).then(|| (name.to_ascii_lowercase(), ms))
}

/// The parts between separators that stand in no quotes.
fn outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_by_name() {
        let table: [(&str, &[(&str, f64)]); 5] = [
            ("queue;dur=0.125, prefill;dur=31.5", &[("prefill", 31.5), ("queue", 0.125)]),
            (r#"kv-ready; desc="a, b; dur=9" ; dur=2"#, &[("kv-ready", 2.0)]),
            ("Decode-Head;Dur=\"7\",miss,total;desc=x", &[("decode-head", 7.0)]),
            ("a;dur=-1, b;dur=NaN, c;dur=inf, d;dur=, <e>;dur=1, ;dur=1", &[]),
            ("", &[]),
        ];
        for (text, expected) in table {
            let found = server_timing(text).unwrap_or_default();
            let found: Vec<_> = found.iter().map(|(name, ms)| (name.as_str(), *ms)).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_server_says_stays_small_and_plain(text in ".{0,300}") {
            for (name, ms) in server_timing(&text).unwrap_or_default() {
                prop_assert!(name.len() <= LONGEST_NAME && name.is_ascii() && ms.is_finite() && 0.0 <= ms);
            }
            let many: String = (0..100).map(|n| format!("n{n};dur={n},")).collect();
            prop_assert_eq!(server_timing(&many).unwrap().len(), MOST);
        }
    }
}
