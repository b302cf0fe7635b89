//! What a node can be made to do wrong, for a whole run by a parameter or for one request by the header
//! `x-sim-fault`: words with commas between them, such as `cut-after=20@decode:1,slow-link=10`. Pure.

use crate::cluster::Role;
use std::fmt;
use std::str::FromStr;

/// One thing that goes wrong, and on which nodes or which link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// On nodes of this role alone: `@decode`.
    pub role: Option<Role>,
    /// On the node with this index alone: `@decode:1`.
    pub index: Option<usize>,
    /// On KV that comes from the prefill node with this index alone: `@prefill:2-decode:1`. KV that a store hands out
    /// comes from no node.
    pub from: Option<usize>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FaultKind {
    /// `status=503`: the request is answered with this status and vLLM's error object.
    Status(u16),
    /// `fail-prefill`: the prompt is computed, then the request is answered with 500; an event in a stream.
    FailPrefill,
    /// `lose-kv`: the KV that the request hands over, or fetches, is gone.
    LoseKv,
    /// `slow-link=10`: its KV takes so many times as long on the link.
    SlowLink(f64),
    /// `reset-after=5`: the connection is reset after so many events.
    ResetAfter(u32),
    /// `error-after=5`: after so many events the stream ends with an error object, its status 200.
    ErrorAfter(u32),
    /// `stall-after=5`: nothing more is sent after so many events, and the connection stays open.
    StallAfter(u32),
    /// `corrupt-kv=0.1`: for this share of prompts the KV that a decode node takes over is damaged, and the answer
    /// departs from the right one from a token on.
    CorruptKv(f64),
    /// `corrupt-kv-rising=500`: the same, for a share that is 0 at the node's first request, and 1 from the 500th
    /// after it on.
    CorruptKvRising(u32),
    /// `swap-kv=0.1`: for this share of prompts the KV that a decode node took over before is used instead, and the
    /// answer is the other prompt's.
    SwapKv(f64),
    /// `made-up-kv`: a decode node takes any prompt's KV for arrived and answers from nothing, as vLLM's
    /// DecodeBenchConnector does.
    MadeUpKv,
    /// `partial-put=96`: of each prompt no more than so many tokens get into the store.
    PartialPut(u32),
    /// `hash-seed=7`: the node names its blocks in the store by another seed, as with another `PYTHONHASHSEED`.
    HashSeed(u32),
    /// `stop-drops-kv`: KV is dropped whose prefill ended in another way than by its length.
    StopDropsKv,
    /// `other-weights`: the node serves another model under the same name.
    OtherWeights,
    /// `other-name`: the node serves its model as `NAME-other`.
    OtherName,
    /// `max-len=4096`: the node's own longest prompt and answer together, tokens.
    MaxLen(u32),
    /// `block-size=32`: the node's own tokens in a KV block.
    BlockSize(u32),
}

/// What has a value behind `=`, and what has none, as an error lists them.
const WORDS: &str = "status=NNN, fail-prefill, lose-kv, slow-link=FACTOR, reset-after=N, error-after=N, stall-after=N, \
    corrupt-kv=SHARE, corrupt-kv-rising=N, swap-kv=SHARE, made-up-kv, partial-put=TOKENS, hash-seed=N, stop-drops-kv, \
    other-weights, other-name, max-len=TOKENS or block-size=TOKENS";

/// Faults, in the order they were written; none is written `none`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Those on the node with `role` and `index`, this list's before `more`'s.
    pub fn of(&self, more: &Faults, role: Role, index: usize) -> Faults {
        let here = |fault: &&Fault| {
            fault.role.is_none_or(|only| only == role) && fault.index.is_none_or(|only| only == index)
        };
        Faults(self.0.iter().chain(&more.0).filter(here).copied().collect())
    }

    /// Those that hold for KV from the prefill node with this index, or for what comes from none.
    pub fn coming_from(&self, node: Option<usize>) -> Faults {
        let holds = |fault: &&Fault| fault.from.is_none() || fault.from == node;
        Faults(self.0.iter().filter(holds).copied().collect())
    }

    /// What the first fault that is of the kind asked for says.
    pub fn find<T>(&self, kind: impl Fn(FaultKind) -> Option<T>) -> Option<T> {
        self.0.iter().find_map(|fault| kind(fault.kind))
    }

    /// Whether one of them is this.
    pub fn has(&self, wanted: FaultKind) -> bool {
        self.0.iter().any(|fault| fault.kind == wanted)
    }

    /// Whether KV is lost.
    pub fn lose_kv(&self) -> bool {
        self.has(FaultKind::LoseKv)
    }

    /// How many times as long KV takes on the link.
    pub fn slowness(&self) -> f64 {
        self.find(|kind| if let FaultKind::SlowLink(factor) = kind { Some(factor) } else { None })
            .unwrap_or(1.0)
    }
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::default());
        }
        text.split(',').map(|word| word.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (what, place) = text.split_once('@').map_or((text, None), |(what, place)| (what, Some(place)));
        let (word, value) = what.split_once('=').map_or((what, None), |(word, value)| (word, Some(value)));
        let events = || value.and_then(|value| value.parse().ok());
        let share = || value.and_then(|value| value.parse().ok()).filter(|share| (0.0..=1.0).contains(share));
        let kind = match word {
            "status" => events()
                .filter(|status| (400..=599).contains(status))
                .map(|status| FaultKind::Status(status as u16)),
            "fail-prefill" if value.is_none() => Some(FaultKind::FailPrefill),
            "lose-kv" if value.is_none() => Some(FaultKind::LoseKv),
            "slow-link" => value
                .and_then(|value| value.parse::<f64>().ok())
                .filter(|factor| (1.0..=1e6).contains(factor))
                .map(FaultKind::SlowLink),
            "reset-after" => events().map(FaultKind::ResetAfter),
            "error-after" => events().map(FaultKind::ErrorAfter),
            "stall-after" => events().map(FaultKind::StallAfter),
            "corrupt-kv" => share().map(FaultKind::CorruptKv),
            "corrupt-kv-rising" => events().filter(|requests| 0 < *requests).map(FaultKind::CorruptKvRising),
            "swap-kv" => share().map(FaultKind::SwapKv),
            "made-up-kv" if value.is_none() => Some(FaultKind::MadeUpKv),
            "partial-put" => events().map(FaultKind::PartialPut),
            "hash-seed" => events().map(FaultKind::HashSeed),
            "stop-drops-kv" if value.is_none() => Some(FaultKind::StopDropsKv),
            "other-weights" if value.is_none() => Some(FaultKind::OtherWeights),
            "other-name" if value.is_none() => Some(FaultKind::OtherName),
            "max-len" => events().filter(|tokens| 0 < *tokens).map(FaultKind::MaxLen),
            "block-size" => events().filter(|tokens| (1..=65_536).contains(tokens)).map(FaultKind::BlockSize),
            _ => None,
        };
        let kind = kind.ok_or_else(|| {
            format!(
                "`{text}` is not a fault: want {WORDS}, each with @ROLE or @ROLE:INDEX behind it for some nodes alone"
            )
        })?;
        let Some(place) = place else { return Ok(Self { kind, role: None, index: None, from: None }) };
        let Some((from, to)) = place.split_once('-') else {
            let (role, index) = place_of(place)?;
            return Ok(Self { kind, role, index, from: None });
        };
        let link = place_of(from).ok().zip(place_of(to).ok()).filter(|_| kind.is_of_a_link());
        match link {
            Some(((Some(Role::Prefill), Some(from)), (Some(Role::Decode), Some(to)))) => {
                Ok(Self { kind, role: Some(Role::Decode), index: Some(to), from: Some(from) })
            }
            _ => Err(format!(
                "`{text}` names no link: want a fault of KV on its way, such as lose-kv@prefill:2-decode:1"
            )),
        }
    }
}

impl FaultKind {
    /// Whether it happens to KV on its way from one node to another.
    fn is_of_a_link(self) -> bool {
        matches!(
            self,
            FaultKind::LoseKv
                | FaultKind::SlowLink(_)
                | FaultKind::CorruptKv(_)
                | FaultKind::CorruptKvRising(_)
                | FaultKind::SwapKv(_)
        )
    }
}

/// `decode` or `decode:1`.
fn place_of(text: &str) -> Result<(Option<Role>, Option<usize>), String> {
    let (role, index) = text.split_once(':').map_or((text, None), |(role, index)| (role, Some(index)));
    let index = index.map(|index| index.parse::<usize>()).transpose();
    match (role_of(role), index) {
        (Some(role), Ok(index)) => Ok((Some(role), index)),
        _ => Err(format!(
            "`{text}` names no nodes: want prefill, decode or mixed, or one of them such as decode:1"
        )),
    }
}

fn role_of(text: &str) -> Option<Role> {
    [Role::Prefill, Role::Decode, Role::Mixed].into_iter().find(|role| role.to_string() == text)
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, fault) in self.0.iter().enumerate() {
            write!(f, "{}{fault}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FaultKind::Status(status) => write!(f, "status={status}"),
            FaultKind::FailPrefill => f.write_str("fail-prefill"),
            FaultKind::LoseKv => f.write_str("lose-kv"),
            FaultKind::SlowLink(factor) => write!(f, "slow-link={factor}"),
            FaultKind::ResetAfter(events) => write!(f, "reset-after={events}"),
            FaultKind::ErrorAfter(events) => write!(f, "error-after={events}"),
            FaultKind::StallAfter(events) => write!(f, "stall-after={events}"),
            FaultKind::CorruptKv(share) => write!(f, "corrupt-kv={share}"),
            FaultKind::CorruptKvRising(requests) => write!(f, "corrupt-kv-rising={requests}"),
            FaultKind::SwapKv(share) => write!(f, "swap-kv={share}"),
            FaultKind::MadeUpKv => f.write_str("made-up-kv"),
            FaultKind::PartialPut(tokens) => write!(f, "partial-put={tokens}"),
            FaultKind::HashSeed(seed) => write!(f, "hash-seed={seed}"),
            FaultKind::StopDropsKv => f.write_str("stop-drops-kv"),
            FaultKind::OtherWeights => f.write_str("other-weights"),
            FaultKind::OtherName => f.write_str("other-name"),
            FaultKind::MaxLen(tokens) => write!(f, "max-len={tokens}"),
            FaultKind::BlockSize(tokens) => write!(f, "block-size={tokens}"),
        }?;
        match (self.from, self.role, self.index) {
            (Some(from), Some(role), Some(index)) => write!(f, "@{}:{from}-{role}:{index}", Role::Prefill),
            (_, Some(role), Some(index)) => write!(f, "@{role}:{index}"),
            (_, Some(role), None) => write!(f, "@{role}"),
            _ => Ok(()),
        }
    }
}

/// When a node dies: `decode:1@12.5` is the second decode node, 12.5 s after the clock's origin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Death {
    /// Role of the node.
    pub role: Role,
    /// Its index within the role.
    pub index: usize,
    /// Seconds since the clock's origin.
    pub at_s: f64,
}

impl FromStr for Death {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('@').and_then(|(place, at)| {
            let (role, index) = place_of(place).ok()?;
            let at_s = at.parse().ok().filter(|at: &f64| (0.0..=1e9).contains(at))?;
            Some(Self { role: role?, index: index?, at_s })
        });
        parsed.ok_or_else(|| {
            format!("`{text}` is not the end of a node: want a node and seconds, such as decode:1@12.5")
        })
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}@{}", self.role, self.index, self.at_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_read_back_as_they_print() {
        for text in [
            "none",
            "status=503@decode:1,slow-link=2.5",
            "fail-prefill,lose-kv@prefill,reset-after=0",
            "corrupt-kv=0.25,corrupt-kv-rising=500@decode,swap-kv=1@decode:1",
            "lose-kv@prefill:2-decode:1,made-up-kv@decode,partial-put=96,hash-seed=7@decode:0,stop-drops-kv",
            "other-weights@decode:1,other-name@prefill,max-len=4096,block-size=32@decode",
        ] {
            assert_eq!(text.parse::<Faults>().map(|faults| faults.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(
            "mixed:0@1.5".parse::<Death>().map(|death| death.to_string()),
            Ok("mixed:0@1.5".to_owned())
        );
    }

    #[test]
    fn an_unknown_word_is_refused() {
        for text in [
            "",
            "explode",
            "status=200",
            "status",
            "lose-kv=1",
            "slow-link=0",
            "reset-after=-1",
            "corrupt-kv",
            "corrupt-kv=1.5",
            "corrupt-kv-rising=0",
            "swap-kv=NaN",
            "lose-kv@master",
            "lose-kv@prefill-decode:1",
            "lose-kv@decode:1-prefill:1",
            "status=503@prefill:0-decode:0",
            "max-len=0",
        ] {
            assert!(text.parse::<Faults>().is_err(), "{text}");
        }
        for text in ["decode@1", "decode:1", "decode:1@-1", "master:0@1"] {
            assert!(text.parse::<Death>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_fault_is_for_the_nodes_it_names() {
        let faults: Faults = "status=500@decode:1,lose-kv@prefill,slow-link=3".parse().unwrap();
        let at = |role, index| faults.of(&Faults::default(), role, index).0.len();
        assert_eq!((at(Role::Decode, 0), at(Role::Decode, 1), at(Role::Prefill, 5)), (1, 2, 2));
    }

    #[test]
    fn a_fault_of_a_link_is_for_kv_that_comes_that_way() {
        let faults: Faults = "lose-kv@prefill:2-decode:1".parse().unwrap();
        let there =
            |role, index, from| faults.of(&Faults::default(), role, index).coming_from(from).lose_kv();
        assert!(there(Role::Decode, 1, Some(2)));
        assert!(!there(Role::Decode, 1, Some(1)) && !there(Role::Decode, 1, None));
        assert!(!there(Role::Decode, 0, Some(2)) && !there(Role::Prefill, 2, Some(2)));
    }
}
