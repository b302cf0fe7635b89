use super::leg_usage::LegUsage;
use crate::measure::{Flag, Offset, OutputTokensSource, PromptTokensSource, RequestRecord};
use crate::wire::openai::Usage;
use std::borrow::Cow;

/// Counts the tokens of one response: when their events came, how many there are by every account that the
/// server gives, and where these accounts contradict each other.
pub(super) struct Tally {
    keep_text: bool,
    /// Reads from the socket so far; events of one read share a stamp.
    reads: u32,
    first_token_read: u32,
    last_token_read: u32,
    text_events: u32,
    told: Told,
    /// An empty-text event with a finish reason: a token only if usage says so.
    held: Option<Held>,
    usage: LegUsage,
}

/// Whether the server tells the tokens of each event, by token ids or running usage.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    NotYet,
    Always { by_usage: u32 },
    Contradicted,
}

/// An event that may turn out to be a token.
struct Held {
    at: Offset,
    read: u32,
    usage: Option<Usage>,
}

/// A token event, apart from when it came.
#[derive(Default)]
pub(super) struct TokenEvent<'a> {
    pub(super) text: Cow<'a, str>,
    /// How many token ids it told.
    pub(super) ids: Option<u32>,
    /// The running usage beside it.
    pub(super) usage: Option<Usage>,
}

impl Tally {
    pub(super) fn new(keep_text: bool) -> Self {
        Self {
            keep_text,
            reads: 0,
            first_token_read: 0,
            last_token_read: 0,
            text_events: 0,
            told: Told::NotYet,
            held: None,
            usage: LegUsage::default(),
        }
    }

    /// Tells that a further read from the socket begins.
    pub(super) fn read(&mut self) {
        self.reads += 1;
    }

    /// Takes a usage object, with the id of its event and whether a finish reason has been seen.
    pub(super) fn usage(&mut self, usage: Usage, id: &str, finished: bool) {
        self.usage.note(usage, id, finished);
    }

    /// Takes an event without text that ends the answer: whether it is a token is known at the end.
    pub(super) fn hold(&mut self, usage: Option<Usage>, at: Offset) {
        self.held = Some(Held { at, read: self.reads, usage });
    }

    /// Takes a token event.
    pub(super) fn token(&mut self, record: &mut RequestRecord, event: &TokenEvent<'_>, at: Offset) {
        self.held = None;
        if record.events.is_empty() {
            self.first_token_read = self.reads;
        } else if self.last_token_read == self.reads {
            record.flag(Flag::Coalesced);
        }
        self.last_token_read = self.reads;
        self.usage.token_event();
        record.events.push(at);
        if event.text.is_empty() {
            record.flag(Flag::EmptyText);
        } else {
            self.text_events += 1;
            if self.keep_text {
                record.text.get_or_insert_with(String::new).push_str(&event.text);
            }
        }
        self.tokens_of_event(record, event);
    }

    /// Notes how many tokens the event carries, as long as every event so far has told.
    fn tokens_of_event(&mut self, record: &mut RequestRecord, event: &TokenEvent<'_>) {
        let so_far = match self.told {
            Told::NotYet if record.events.len() == 1 => 0,
            Told::Always { by_usage } => by_usage,
            _ => return,
        };
        let total = event.usage.map(|usage| usage.completion_tokens);
        let tokens = event.ids.or(total.and_then(|total| total.checked_sub(so_far)));
        self.told = match tokens {
            Some(tokens) => {
                record.events_tokens.push(tokens);
                Told::Always { by_usage: total.unwrap_or(so_far) }
            }
            None => {
                record.events_tokens.clear();
                Told::Contradicted
            }
        };
    }

    /// Writes the counts into the record: prompt and output tokens from the last usage where there is one, and
    /// what is odd about them. Gives the output tokens by usage.
    pub(super) fn close(mut self, record: &mut RequestRecord) -> Option<u32> {
        let total = std::mem::take(&mut self.usage).total(record.requested_tokens);
        if let Some(total) = &total {
            let told = match self.told {
                Told::Always { .. } => sum(&record.events_tokens),
                _ => record.events.len() as u32,
            };
            if let Some(held) = self.held.take().filter(|_| told < total.completion_tokens) {
                self.reads = held.read;
                let event = TokenEvent { usage: held.usage, ..TokenEvent::default() };
                self.token(record, &event, held.at);
            }
        }
        if 2 <= record.events.len() && self.first_token_read == self.last_token_read {
            record.flag(Flag::BufferedByProxy);
        }
        let Some(total) = total else {
            record.output_tokens = record.events.len() as u32;
            record.output_tokens_source = OutputTokensSource::Events;
            return None;
        };
        let tokens = total.completion_tokens;
        record.prefill_usage = total.prefill;
        record.output_tokens = tokens;
        record.output_tokens_source = OutputTokensSource::Usage;
        record.cached_tokens = total.last.cached_tokens;
        if 0 < total.last.prompt_tokens {
            record.prompt_tokens = total.last.prompt_tokens;
            record.prompt_tokens_source = PromptTokensSource::Usage;
        }
        let contradicted = !record.events_tokens.is_empty() && sum(&record.events_tokens) != tokens;
        let too_many = record.ignore_eos && record.requested_tokens.is_some_and(|most| most < tokens);
        if tokens < self.text_events || contradicted || too_many {
            record.flag(Flag::Mismatch);
        }
        Some(tokens)
    }
}

fn sum(tokens: &[u32]) -> u32 {
    tokens.iter().fold(0, |sum, &more| sum.saturating_add(more))
}
