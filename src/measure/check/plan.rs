//! Which requests a check sends, and in which order.

use serde::{Deserialize, Serialize};

/// What one request is sent for. Instances are named by their numbers in [`super::CheckFacts::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "errand", rename_all = "snake_case")]
pub enum Errand {
    /// Both its legs go straight to a pair of instances.
    Pair {
        /// Where the KV is made.
        prefill: usize,
        /// Where it has to arrive.
        decode: usize,
    },
    /// It goes whole to one instance, which has to compute the prompt by itself.
    Alone {
        /// Which.
        node: usize,
    },
    /// It goes whole to the baseline.
    Baseline,
    /// It goes through the proxy.
    Proxy {
        /// Its answer is a stream.
        streamed: bool,
    },
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// What it is sent for.
    #[serde(flatten)]
    pub errand: Errand,
    /// Number of its prompt.
    pub prompt: usize,
    /// Its first token is a stop, so that the prefill leg does not end by its length.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stops: bool,
}

/// How pairs of instances are exercised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairWay {
    /// Both legs are sent straight to them: which pair it is, is chosen.
    Direct,
    /// Through the proxy, one by one: which pair it was is seen by what the instances count.
    Proxy,
}

/// Which requests have the same prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// None: where KV is found by what the prompt is, another instance's would do.
    Nothing,
    /// Those of a round, which go to different decode instances: one reference does for all.
    Round,
}

/// What a check has to work with.
#[derive(Clone, Debug)]
pub struct Design {
    /// Prefill instances that answer.
    pub prefill: Vec<usize>,
    /// Decode instances that answer.
    pub decode: Vec<usize>,
    /// How pairs are exercised.
    pub way: PairWay,
    /// Which requests have the same prompt.
    pub sharing: Sharing,
    /// Requests over all pairs.
    pub requests: usize,
    /// There is a proxy.
    pub proxy: bool,
    /// There is a baseline.
    pub baseline: bool,
}

/// Prompts whose right answer is asked for, of those that no others share.
const MOST_REFERENCES: usize = 64;
/// Answers to one prompt from which on the most frequent is taken for right …
const MAJORITY: usize = 16;
/// … but in so many first rounds.
const FIRST_ROUNDS: usize = 4;
/// Prompts that instances compute by themselves.
const MOST_ALONE: usize = 4;
/// Requests through a proxy beside those to the pairs.
const PROXIED: usize = 4;

/// Requests over all pairs unless somebody says otherwise: four a pair up to 32, and never less than one a pair.
pub fn usual_requests(pairs: usize) -> usize {
    pairs.max((4 * pairs).min(32))
}

impl Design {
    /// The requests in rounds; those of a round are sent at once, and no instance decodes two of them, so that what it
    /// counts in a round belongs to one request. Every pair comes once before any comes twice.
    pub fn rounds(&self) -> Vec<Vec<Ask>> {
        let mut prompts = 0..;
        let mut next = || prompts.next().unwrap_or_default();
        let mut rounds = self.pairs(&mut next);
        rounds.push(self.references(&rounds));
        rounds.extend(self.alone(&mut next));
        let proxied = self.proxied(&mut next);
        let references = self.references(&proxied);
        rounds.extend(proxied);
        rounds.push(references);
        rounds.extend(self.stop(&mut next));
        rounds.retain(|round| !round.is_empty());
        rounds
    }

    /// Round after round, each decode instance with the next prefill instance.
    fn pairs(&self, next: &mut impl FnMut() -> usize) -> Vec<Vec<Ask>> {
        let (prefill, decode) = (&self.prefill, &self.decode);
        let mut rounds = Vec::new();
        if self.way != PairWay::Direct || prefill.is_empty() || decode.is_empty() {
            return rounds;
        }
        let mut left = self.requests;
        while 0 < left {
            let turn = rounds.len();
            let shared = next();
            let ask = |nth: usize| Ask {
                errand: Errand::Pair { prefill: prefill[(nth + turn) % prefill.len()], decode: decode[nth] },
                prompt: match self.sharing {
                    Sharing::Nothing if 0 < nth => next(),
                    _ => shared,
                },
                stops: false,
            };
            let round: Vec<Ask> = (0..decode.len().min(left)).map(ask).collect();
            left -= round.len();
            rounds.push(round);
        }
        rounds
    }

    /// Who computes the right answer to a prompt: the baseline, or the prefill instance that made its KV, which has it
    /// from itself.
    fn reference(&self, prompt: usize, prefill: Option<usize>) -> Option<Ask> {
        let errand = match (self.baseline, prefill) {
            (true, _) => Errand::Baseline,
            (false, Some(node)) => Errand::Alone { node },
            (false, None) => return None,
        };
        Some(Ask { errand, prompt, stops: false })
    }

    /// References of what the rounds ask, as far as they are needed.
    fn references(&self, rounds: &[Vec<Ask>]) -> Vec<Ask> {
        let of_round = |(turn, round): (usize, &Vec<Ask>)| -> Vec<Option<Ask>> {
            let first = round.first().map(|ask| ask.prompt);
            let shared = 1 < round.len() && round.iter().all(|ask| Some(ask.prompt) == first);
            if shared && MAJORITY <= round.len() && FIRST_ROUNDS <= turn {
                return Vec::new();
            }
            let needed = if shared { 1 } else { round.len() };
            let one = |ask: &Ask| match ask.errand {
                Errand::Pair { prefill, .. } => self.reference(ask.prompt, Some(prefill)),
                _ => self.reference(ask.prompt, self.prefill.first().copied()),
            };
            round.iter().take(needed).map(one).collect()
        };
        rounds.iter().enumerate().flat_map(of_round).flatten().take(MOST_REFERENCES).collect()
    }

    /// Some prompts that decode instances compute by themselves, then prefill instances and the baseline the same ones:
    /// a store may hand out only what was computed before.
    fn alone(&self, next: &mut impl FnMut() -> usize) -> Vec<Vec<Ask>> {
        let whole = |node, prompt| Ask { errand: Errand::Alone { node }, prompt, stops: false };
        let decode: Vec<Ask> = self.decode.iter().take(MOST_ALONE).map(|&node| whole(node, next())).collect();
        let prefill = self.prefill.iter().cycle().zip(&decode).map(|(&node, ask)| whole(node, ask.prompt));
        let baseline = decode.iter().filter(|_| self.baseline);
        let baseline = baseline.map(|ask| Ask { errand: Errand::Baseline, ..*ask });
        let against = prefill.chain(baseline).collect();
        vec![decode, against]
    }

    /// Through the proxy one by one, streamed and whole by turns.
    fn proxied(&self, next: &mut impl FnMut() -> usize) -> Vec<Vec<Ask>> {
        let count = match (self.proxy, self.way) {
            (false, _) => 0,
            (true, PairWay::Direct) => PROXIED,
            (true, PairWay::Proxy) => self.requests.max(PROXIED),
        };
        let ask =
            |nth| Ask { errand: Errand::Proxy { streamed: nth % 2 == 1 }, prompt: next(), stops: false };
        (0..count).map(ask).map(|ask| vec![ask]).collect()
    }

    /// A request whose first token is a stop, after somebody said what that token is.
    fn stop(&self, next: &mut impl FnMut() -> usize) -> Vec<Vec<Ask>> {
        let (prefill, decode) = (self.prefill.first().copied(), self.decode.first().copied());
        let errand = match (self.proxy, prefill, decode) {
            (true, ..) => Errand::Proxy { streamed: false },
            (false, Some(prefill), Some(decode)) if self.way == PairWay::Direct => {
                Errand::Pair { prefill, decode }
            }
            _ => return Vec::new(),
        };
        let prompt = next();
        match self.reference(prompt, prefill) {
            Some(reference) => vec![vec![reference], vec![Ask { errand, prompt, stops: true }]],
            None => Vec::new(),
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
