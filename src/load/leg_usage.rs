use crate::wire::openai::Usage;

/// The usage objects of a response, which a proxy may have joined from the streams of two legs.
#[derive(Default)]
pub(super) struct LegUsage {
    first: Option<(Usage, String)>,
    last: Option<(Usage, String)>,
    /// The first one came after a finish reason …
    first_after_finish: bool,
    /// … and token events came after it.
    tokens_after_first: bool,
}

/// What the usage objects of a response come to.
pub(super) struct Total {
    /// Output tokens of the whole answer.
    pub(super) completion_tokens: u32,
    /// The prefill leg's own usage, where there were two legs.
    pub(super) prefill: Option<Usage>,
    /// The last usage object.
    pub(super) last: Usage,
}

impl LegUsage {
    /// Takes a usage object, with the id of its event and whether a finish reason has been seen.
    pub(super) fn note(&mut self, usage: Usage, id: &str, finished: bool) {
        if self.first.is_none() {
            self.first = Some((usage, id.to_owned()));
            self.first_after_finish = finished;
        }
        self.last = Some((usage, id.to_owned()));
    }

    /// Tells that a token event came.
    pub(super) fn token_event(&mut self) {
        self.tokens_after_first |= self.first.is_some();
    }

    /// The sum of both legs where prefill's token is missing in decode's usage, else the last usage.
    pub(super) fn total(self, requested_tokens: Option<u32>) -> Option<Total> {
        let (last, last_id) = self.last?;
        let late_tokens = self.first_after_finish && self.tokens_after_first;
        let prefill = self.first.filter(|(_, id)| late_tokens || *id != last_id).map(|(usage, _)| usage);
        let mut completion_tokens = last.completion_tokens;
        if let Some(prefill) = prefill
            && requested_tokens == completion_tokens.checked_add(1)
        {
            completion_tokens = completion_tokens.saturating_add(prefill.completion_tokens);
        }
        Some(Total { completion_tokens, prefill, last })
    }
}
