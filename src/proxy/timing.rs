use std::fmt::Write as _;
use std::time::Duration;
use tokio::time::Instant;

/// When the parts of one request came about; what did not happen before the answer began is left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    pub arrived: Instant,
    pub prefill_sent: Option<Instant>,
    pub prefill_ended: Option<Instant>,
    /// The wait for a notification, or for the decode instance to ask for its prefill.
    pub kv_ready: Option<Duration>,
    pub decode_sent: Option<Instant>,
    pub decode_head: Option<Instant>,
}

impl Timing {
    pub fn start() -> Self {
        Self {
            arrived: Instant::now(),
            prefill_sent: None,
            prefill_ended: None,
            kv_ready: None,
            decode_sent: None,
            decode_head: None,
        }
    }

    /// Length of the prefill leg.
    pub fn prefill_ms(&self) -> Option<f64> {
        Some(self.prefill_ended?.duration_since(self.prefill_sent?).as_secs_f64() * 1e3)
    }

    /// As `server-timing` has it: milliseconds with three decimals.
    pub fn header(&self) -> String {
        let between = |from: Option<Instant>, to: Option<Instant>| Some(to?.duration_since(from?));
        let first = match (self.prefill_sent, self.decode_sent) {
            (Some(prefill), Some(decode)) => Some(prefill.min(decode)),
            (prefill, decode) => prefill.or(decode),
        };
        let parts = [
            ("queue", between(Some(self.arrived), first)),
            ("prefill", between(self.prefill_sent, self.prefill_ended)),
            ("kv-ready", self.kv_ready),
            ("decode-head", between(self.decode_sent, self.decode_head)),
        ];
        let mut text = String::new();
        for (name, duration) in parts {
            if let Some(duration) = duration {
                let comma = if text.is_empty() { "" } else { ", " };
                // Writing to a String cannot fail.
                let _ = write!(text, "{comma}{name};dur={:.3}", duration.as_secs_f64() * 1e3);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_happen_is_left_out() {
        let mut timing = Timing::start();
        let at = |us| Some(timing.arrived + Duration::from_micros(us));
        let (sent, ended) = (at(1500), at(21_500));
        timing.prefill_sent = sent;
        assert_eq!(timing.header(), "queue;dur=1.500");
        timing.prefill_ended = ended;
        timing.decode_sent = ended;
        timing.decode_head = at(22_000).map(|at| at + Duration::from_nanos(1));
        assert_eq!(timing.header(), "queue;dur=1.500, prefill;dur=20.000, decode-head;dur=0.500");
    }
}
