use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ops::{Add, Sub};
use std::time::Duration;

/// An instant of a run: the time since its origin in whole tenths of a microsecond, the resolution
/// that records and files keep. Serialised as microseconds with one decimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(u64);

impl Offset {
    /// From tenths of a microsecond.
    pub const fn from_tenths(tenths: u64) -> Self {
        Self(tenths)
    }

    /// In tenths of a microsecond.
    pub const fn tenths(self) -> u64 {
        self.0
    }

    /// In microseconds.
    pub fn as_us(self) -> f64 {
        self.0 as f64 / 10.0
    }

    /// In seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e7
    }

    /// Time from `earlier` to this instant; zero when `earlier` is later.
    pub fn since(self, earlier: Offset) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0) * 100)
    }

    /// Seconds from `earlier` to this instant, negative when `earlier` is later.
    pub fn seconds_since(self, earlier: Offset) -> f64 {
        (self.0 as f64 - earlier.0 as f64) / 1e7
    }

    /// Milliseconds from `earlier` to this instant, negative when `earlier` is later.
    pub fn ms_since(self, earlier: Offset) -> f64 {
        (self.0 as f64 - earlier.0 as f64) / 1e4
    }
}

impl From<Duration> for Offset {
    /// Rounds down to a tenth of a microsecond.
    fn from(since_origin: Duration) -> Self {
        Self((since_origin.as_nanos() / 100) as u64)
    }
}

impl From<Offset> for Duration {
    fn from(offset: Offset) -> Self {
        Duration::from_nanos(offset.0 * 100)
    }
}

impl Add<Duration> for Offset {
    type Output = Offset;

    fn add(self, later: Duration) -> Offset {
        Offset(self.0 + (later.as_nanos() / 100) as u64)
    }
}

impl Sub for Offset {
    type Output = Duration;

    /// Same as [`Offset::since`].
    fn sub(self, earlier: Offset) -> Duration {
        self.since(earlier)
    }
}

impl Serialize for Offset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_us())
    }
}

/// Longest offset that a file may tell: 14 years, of which each tenth of a microsecond is a number of its own.
const LONGEST_US: f64 = (1_u64 << 52) as f64 / 10.0;

impl<'de> Deserialize<'de> for Offset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let us = f64::deserialize(deserializer)?;
        if (0.0..=LONGEST_US).contains(&us) {
            Ok(Self((us * 10.0).round() as u64))
        } else {
            Err(serde::de::Error::custom(format!("{us} is not an offset in microseconds")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_offset_survives_json(tenths in 0_u64..1 << 52) {
            let offset = Offset::from_tenths(tenths);
            let text = serde_json::to_string(&offset).unwrap();
            prop_assert_eq!(serde_json::from_str::<Offset>(&text).unwrap(), offset);
        }
    }
}
