//! Where the plateau lies, and what of a stream lies in it.

use super::super::span::token_events;
use super::super::{Flag, Offset, RequestRecord};
use super::fault::WhyNot;

/// A stretch of time with a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) start: Offset,
    pub(super) end: Offset,
}

/// The streams that a plateau is measured on, and where it is.
pub(super) struct Found<'a> {
    pub(super) streams: Vec<&'a RequestRecord>,
    pub(super) window: Option<Window>,
    /// Why the whole batch has no plateau. A part of it may have one all the same.
    pub(super) why_not: Option<WhyNot>,
}

/// When a stream had two tokens, and when it had its last.
struct Life<'a> {
    record: &'a RequestRecord,
    second: Offset,
    last: Offset,
}

/// Rounding room of a sum of shares of tokens.
const ROUNDING: f64 = 1e-9;

impl Window {
    pub(super) fn seconds(self) -> f64 {
        self.end.seconds_since(self.start)
    }

    fn holds(self, at: Offset) -> bool {
        (self.start..=self.end).contains(&at)
    }

    /// The share of a step, from the token before to this one, that lies inside. A step without a length lies where it
    /// is; the one at the very start belongs to what was before.
    pub(super) fn share(self, from: Offset, to: Offset) -> f64 {
        if from == to {
            return f64::from(u8::from(self.start < to && to <= self.end));
        }
        let inside = to.min(self.end).tenths().saturating_sub(from.max(self.start).tenths());
        inside as f64 / (to.tenths() - from.tenths()) as f64
    }
}

/// Looks for the plateau of all streams, a failed one counting as live until its last token. Where there is none, for
/// that of those that ended well: what is left is shown, and the fault says that it is not the batch.
pub(super) fn find<'a>(replicas: &[&'a RequestRecord]) -> Found<'a> {
    let buffered = replicas.iter().filter(|record| record.has(Flag::BufferedByProxy)).count();
    let told = || replicas.iter().filter(|record| !record.has(Flag::BufferedByProxy));
    let lives: Vec<Life<'_>> = told().filter_map(|record| Life::of(record)).collect();
    let short = told().filter(|record| record.is_ok() && Life::of(record).is_none()).count();
    let early = why_not(&lives);
    let why_not = match (replicas.len(), buffered, short) {
        (_, 1.., _) => Some(WhyNot::Buffered { replicas: buffered }),
        (_, 0, 1..) => Some(WhyNot::OneToken { replicas: short }),
        (_, 0, 0) => early.clone(),
    };
    let lives =
        if early.is_some() { lives.into_iter().filter(|life| life.record.is_ok()).collect() } else { lives };
    Found { window: window(&lives), streams: lives.iter().map(|life| life.record).collect(), why_not }
}

impl<'a> Life<'a> {
    /// `None` for a stream that never had two tokens.
    fn of(record: &'a RequestRecord) -> Option<Self> {
        let mut tokens = 0.0;
        let mut second = None;
        for (at, more) in token_events(record).take(record.events.len()) {
            tokens += more;
            if 2.0 - ROUNDING <= tokens {
                second = Some(at);
                break;
            }
        }
        Some(Self { record, second: second?, last: record.events.last()? })
    }
}

fn window(lives: &[Life<'_>]) -> Option<Window> {
    let start = lives.iter().map(|life| life.second).max()?;
    let end = lives.iter().map(|life| life.last).min()?;
    (start < end).then_some(Window { start, end })
}

fn why_not(lives: &[Life<'_>]) -> Option<WhyNot> {
    if window(lives).is_some() {
        return None;
    }
    let Some(first) = lives.iter().min_by_key(|life| life.last) else { return Some(WhyNot::NoStream) };
    let late = lives.iter().filter(|life| first.last <= life.second).count();
    let origin = lives.iter().filter_map(|life| life.record.sent).min().unwrap_or_default();
    let last = lives.iter().max_by_key(|life| life.second).unwrap_or(first);
    Some(WhyNot::EndedEarly {
        ended: super::name_of(first.record).to_owned(),
        ended_s: first.last.seconds_since(origin),
        late,
        latest: super::name_of(last.record).to_owned(),
        latest_s: last.second.seconds_since(origin),
    })
}

/// Each token event as a step: from the event before, with its tokens. The first has no length.
pub(super) fn steps(record: &RequestRecord) -> impl Iterator<Item = (Offset, Offset, f64)> + '_ {
    let mut before = None;
    token_events(record).map(move |(at, tokens)| (before.replace(at).unwrap_or(at), at, tokens))
}

/// The tokens of a stream that were generated inside.
pub(super) fn tokens_within(record: &RequestRecord, window: Window) -> f64 {
    steps(record).map(|(from, to, tokens)| tokens * window.share(from, to)).sum()
}

/// Time per output token inside, ms; `None` below two events there.
pub(super) fn tpot_within(record: &RequestRecord, window: Window) -> Option<f64> {
    let mut inside = token_events(record).filter(|(at, _)| window.holds(*at));
    let (first, _) = inside.next()?;
    let (last, tokens) = inside.fold((first, 0.0), |(_, sum), (at, tokens)| (at, sum + tokens));
    (0.0 < tokens).then(|| last.ms_since(first) / tokens)
}

/// The gaps between events inside, ms.
pub(super) fn gaps_within(record: &RequestRecord, window: Window) -> Vec<f64> {
    let inside: Vec<Offset> = record.events.iter().filter(|&at| window.holds(at)).collect();
    inside.windows(2).map(|pair| pair[1].ms_since(pair[0])).collect()
}
