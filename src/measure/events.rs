use super::Offset;
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The instants of one stream's token events, in order, as varint-coded gaps: three bytes an event
/// below 0.2 s apart, four below 26 s. Serialised as `[first, gap, gap…]` in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventTimes {
    /// LEB128 of: the first instant, then each gap, in tenths of a microsecond.
    coded: Vec<u8>,
    count: u32,
    first: Offset,
    last: Offset,
}

impl EventTimes {
    /// Adds the next event. An instant before the last one (a stepped kernel stamp) counts as the last one.
    pub fn push(&mut self, at: Offset) {
        let at = at.max(self.last);
        let mut gap = at.tenths() - self.last.tenths();
        while 0x80 <= gap {
            self.coded.push(gap as u8 | 0x80);
            gap >>= 7;
        }
        self.coded.push(gap as u8);
        if self.count == 0 {
            self.first = at;
        }
        self.last = at;
        self.count += 1;
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// True when no token came.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The first event's instant.
    pub fn first(&self) -> Option<Offset> {
        (0 < self.count).then_some(self.first)
    }

    /// The last event's instant.
    pub fn last(&self) -> Option<Offset> {
        (0 < self.count).then_some(self.last)
    }

    /// Every event's instant, in order.
    pub fn iter(&self) -> impl Iterator<Item = Offset> + '_ {
        let mut at = 0_u64;
        self.steps().map(move |step| {
            at += step;
            Offset::from_tenths(at)
        })
    }

    /// The first instant, then the gaps, in tenths of a microsecond.
    fn steps(&self) -> impl Iterator<Item = u64> + '_ {
        let mut bytes = self.coded.iter();
        std::iter::from_fn(move || {
            let (mut step, mut shift) = (0_u64, 0);
            loop {
                let byte = *bytes.next()?;
                step |= u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    return Some(step);
                }
                shift += 7;
            }
        })
    }

    /// Gives back memory that was taken ahead.
    pub fn shrink(&mut self) {
        self.coded.shrink_to_fit();
    }
}

impl FromIterator<Offset> for EventTimes {
    fn from_iter<I: IntoIterator<Item = Offset>>(instants: I) -> Self {
        let mut times = Self::default();
        instants.into_iter().for_each(|at| times.push(at));
        times
    }
}

impl Serialize for EventTimes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.len()))?;
        for step in self.steps() {
            list.serialize_element(&Offset::from_tenths(step))?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for EventTimes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let steps = Vec::<Offset>::deserialize(deserializer)?;
        let mut at = 0_u64;
        let too_long =
            || serde::de::Error::custom("the times of the events add up to more than there is time");
        let instants = steps.into_iter().map(|step| {
            at = at.checked_add(step.tenths()).ok_or_else(too_long)?;
            Ok(Offset::from_tenths(at))
        });
        instants.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn event_times_survive_coding_and_json(gaps in proptest::collection::vec(0_u64..1 << 34, 0..50)) {
            let instants: Vec<Offset> = gaps
                .iter()
                .scan(0, |at, gap| { *at += gap; Some(Offset::from_tenths(*at)) })
                .collect();
            let times: EventTimes = instants.iter().copied().collect();
            prop_assert_eq!(times.iter().collect::<Vec<_>>(), instants.clone());
            prop_assert_eq!((times.first(), times.last()), (instants.first().copied(), instants.last().copied()));
            let text = serde_json::to_string(&times).unwrap();
            prop_assert_eq!(serde_json::from_str::<EventTimes>(&text).unwrap(), times);
        }
    }

    #[test]
    fn tokens_50_ms_apart_cost_three_bytes_each() {
        let times: EventTimes = (0..1000).map(|i| Offset::from_tenths(i * 500_000)).collect();
        assert!(times.coded.len() <= 3 * times.len());
    }
}
