//! A batch over time.

use super::super::timeline::wide_enough;
use super::super::{Offset, RequestRecord};
use super::window::{Window, steps};
use serde::{Deserialize, Serialize};

/// What happened within one second of a batch; within more of them where there are too many.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BatchBin {
    /// Where it begins, seconds from the first send.
    pub start_s: f64,
    /// Streams between their first and their last token, mean over the bin: the batch that was achieved.
    pub batch: f64,
    /// Tokens of all replicas, whatever became of them, per second. A step that an edge cuts is in both bins.
    pub tok_per_s: f64,
}

const SECOND: u64 = 10_000_000;

/// The bins from the first send to the last token. The last one ends with it.
pub(super) fn bins(replicas: &[&RequestRecord], origin: Offset) -> Vec<BatchBin> {
    let Some(end) = replicas.iter().filter_map(|record| record.events.last()).max() else {
        return Vec::new();
    };
    let length = end.tenths().saturating_sub(origin.tenths());
    let width = if length <= 600 * SECOND { SECOND } else { wide_enough(length) };
    let window = |nth: u64| {
        let start = origin.tenths() + nth * width;
        Window {
            start: Offset::from_tenths(start),
            end: Offset::from_tenths((start + width).min(end.tenths())),
        }
    };
    let count = length.div_ceil(width).max(1);
    let mut bins: Vec<BatchBin> = (0..count)
        .map(|nth| BatchBin { start_s: (nth * width) as f64 / 1e7, ..BatchBin::default() })
        .collect();
    let nth_of = |at: Offset| (at.tenths().saturating_sub(origin.tenths()) / width).min(count - 1);
    for record in replicas {
        if let (Some(first), Some(last)) = (record.events.first(), record.events.last()) {
            for nth in nth_of(first)..=nth_of(last) {
                bins[nth as usize].batch += overlap_s(window(nth), first, last);
            }
        }
        for (from, to, tokens) in steps(record) {
            if from == to {
                bins[nth_of(to) as usize].tok_per_s += tokens;
                continue;
            }
            for nth in nth_of(from)..=nth_of(to) {
                bins[nth as usize].tok_per_s += tokens * window(nth).share(from, to);
            }
        }
    }
    for (nth, bin) in bins.iter_mut().enumerate() {
        let seconds = window(nth as u64).seconds();
        if 0.0 < seconds {
            bin.batch /= seconds;
            bin.tok_per_s /= seconds;
        }
    }
    bins
}

fn overlap_s(window: Window, from: Offset, to: Offset) -> f64 {
    to.min(window.end).seconds_since(from.max(window.start)).max(0.0)
}
