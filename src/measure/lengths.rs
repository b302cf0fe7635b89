use super::RequestRecord;
use serde::{Deserialize, Serialize};

/// Answers that are longer or shorter than asked for, and how their lengths lie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputLength {
    /// Mean output tokens of the ok requests.
    pub mean: f64,
    /// Mean asked for.
    pub requested: f64,
    /// How many answers have which part of the length that was asked for; bins without answers are left out.
    #[serde(default)]
    pub lengths: Vec<LengthBin>,
}

/// Answers that have about the same part of the length that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LengthBin {
    /// Percent of that length, from here on …
    pub from_percent: u32,
    /// … up to below here; absent for the last bin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below_percent: Option<u32>,
    /// How many answers.
    pub requests: usize,
}

/// How far the mean output length may be off, as a share of what was asked for.
const SHARE: f64 = 0.10;
/// Where bins begin, percent of what was asked for.
const EDGES: [u32; 7] = [0, 10, 25, 50, 75, 90, 111];

impl OutputLength {
    /// Lengths of ok answers whose mean is too far from what was asked for.
    pub(super) fn of<'a>(ok: impl Iterator<Item = &'a RequestRecord>) -> Option<Self> {
        let lengths: Vec<(u32, u32)> =
            ok.filter_map(|record| Some((record.output_tokens, record.requested_tokens?))).collect();
        let count = lengths.len() as f64;
        let mean = lengths.iter().map(|&(got, _)| f64::from(got)).sum::<f64>() / count;
        let requested = lengths.iter().map(|&(_, asked)| f64::from(asked)).sum::<f64>() / count;
        (SHARE * requested < (mean - requested).abs()).then(|| Self {
            mean,
            requested,
            lengths: bins(&lengths),
        })
    }

    /// The figures in words.
    pub(super) fn text(&self) -> String {
        format!("answers have {:.1} tokens on average where {:.1} were asked for", self.mean, self.requested)
    }

    /// How many answers have which part of what was asked for; empty where that is not known.
    pub(super) fn histogram(&self) -> String {
        let bins = self.lengths.iter().map(|bin| {
            let requests = bin.requests;
            match (bin.from_percent, bin.below_percent) {
                (0, Some(below)) => format!("{requests} below {below} %"),
                (from, Some(below)) => format!("{requests} of {from}-{} %", below - 1),
                (from, None) => format!("{requests} above {} %", from - 1),
            }
        });
        let bins: Vec<String> = bins.collect();
        if bins.is_empty() { String::new() } else { format!(" (by their share of it: {})", bins.join(", ")) }
    }
}

fn bins(lengths: &[(u32, u32)]) -> Vec<LengthBin> {
    let percent = |&(got, asked): &(u32, u32)| 100 * u64::from(got) / u64::from(asked.max(1));
    let bins = EDGES.iter().enumerate().map(|(nth, &from)| {
        let below = EDGES.get(nth + 1).copied();
        let within = |percent: &u64| {
            u64::from(from) <= *percent && below.is_none_or(|below| *percent < u64::from(below))
        };
        let requests = lengths.iter().map(percent).filter(within).count();
        LengthBin { from_percent: from, below_percent: below, requests }
    });
    bins.filter(|bin| 0 < bin.requests).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::record;
    use super::*;

    fn told(lengths: &[(u32, u32)]) -> Option<String> {
        let one = |&(output_tokens, asked): &(u32, u32)| RequestRecord {
            output_tokens,
            requested_tokens: Some(asked),
            ..record("0 10")
        };
        let records: Vec<RequestRecord> = lengths.iter().map(one).collect();
        OutputLength::of(records.iter()).map(|length| length.text() + &length.histogram())
    }

    #[test]
    fn lengths_within_10_percent_on_average_are_not_told() {
        assert_eq!(told(&[(90, 100), (110, 100)]), None);
        assert_eq!(told(&[(0, 100), (200, 100)]), None);
        assert_eq!(told(&[]), None);
    }

    #[test]
    fn each_answer_is_counted_by_its_share_of_what_it_was_asked_for() {
        let lengths =
            [(0, 100), (9, 100), (10, 100), (1, 4), (99, 200), (5, 10), (89, 100), (90, 100), (110, 100)];
        assert_eq!(
            told(&lengths).unwrap(),
            "answers have 45.9 tokens on average where 90.4 were asked for (by their share of it: 2 below 10 %, \
             1 of 10-24 %, 2 of 25-49 %, 1 of 50-74 %, 1 of 75-89 %, 2 of 90-110 %)"
        );
        let said = "answers have 300.0 tokens on average where 100.0 were asked for (by their share of it: 1 above 110 %)";
        assert_eq!(told(&[(300, 100)]).unwrap(), said);
    }
}
