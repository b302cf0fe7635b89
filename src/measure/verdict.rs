use super::{Lateness, Run, TickerFacts, lateness};
use serde::{Deserialize, Serialize};

/// Whether the client kept up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ClientState {
    /// The client's share of the numbers is negligible.
    Ok,
    /// The client's share can be seen in the numbers.
    Degraded,
    /// The numbers are the client's, not the server's.
    Saturated,
}

/// Whether the client or the server was measured, with the evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientVerdict {
    /// The verdict.
    pub state: ClientState,
    /// What it rests on, in words with figures.
    pub evidence: Vec<String>,
}

/// Client lag p99 above which the client is degraded, ms, where no TTFT asks for more patience.
const LAG_MS: f64 = 1.0;
/// The same as a share of the median TTFT.
const LAG_SHARE: f64 = 0.01;
/// How much worse than degraded is saturated.
const SATURATED_FACTOR: f64 = 10.0;
/// Requests that must be that late: one alone is a hiccup of the machine.
const SATURATED_REQUESTS: usize = 2;
/// Spread of the largest burst above which the client is degraded, as a share of the median TTFT.
const SPREAD_SHARE: f64 = 0.25;
/// Lateness of the ticker at p99 above which the process did not get the processor, ms.
const TICKER_LATE_MS: f64 = 5.0;
/// Processor share of a worker above which it has no room left.
const WORKER_SHARE: f64 = 0.9;

impl ClientState {
    /// The word that reports use.
    pub fn word(self) -> &'static str {
        match self {
            ClientState::Ok => "OK",
            ClientState::Degraded => "DEGRADED",
            ClientState::Saturated => "SATURATED",
        }
    }
}

impl ClientVerdict {
    /// Judges lag, bursts and, where one ran, the ticker; the worst of the three counts.
    pub(super) fn of(run: &Run, lateness: &Lateness, median_ttft_ms: Option<f64>) -> Self {
        let findings = [
            judge_lag(run, lateness, median_ttft_ms),
            judge_burst(lateness, median_ttft_ms),
            run.manifest.ticker.as_ref().map(judge_ticker),
        ];
        let (states, evidence): (Vec<_>, Vec<_>) = findings.into_iter().flatten().unzip();
        Self { state: states.into_iter().max().unwrap_or(ClientState::Ok), evidence }
    }
}

fn judge_lag(run: &Run, lateness: &Lateness, ttft_ms: Option<f64>) -> Option<(ClientState, String)> {
    let lags = &lateness.client_lag_ms;
    let p99 = lags.value(99.0)?;
    let degraded = LAG_MS.max(LAG_SHARE * ttft_ms.unwrap_or(0.0));
    let saturated = SATURATED_FACTOR * degraded;
    let state = if p99 <= degraded {
        ClientState::Ok
    } else if p99 <= saturated || lateness::late_by_more(run, saturated) < SATURATED_REQUESTS {
        ClientState::Degraded
    } else {
        ClientState::Saturated
    };
    let evidence = format!(
        "client lag p99 {p99:.3} ms over {} requests outside bursts (degraded above {degraded:.1} ms, \
         saturated above {saturated:.1} ms)",
        lags.count
    );
    Some((state, evidence))
}

fn judge_burst(lateness: &Lateness, ttft_ms: Option<f64>) -> Option<(ClientState, String)> {
    let spread = lateness.burst_spread_ms?;
    let sent = format!("the burst of {} requests was sent within {spread:.3} ms", lateness.burst_size);
    let Some(ttft) = ttft_ms else { return Some((ClientState::Ok, sent)) };
    let limit = SPREAD_SHARE * ttft;
    let state = if limit < spread { ClientState::Degraded } else { ClientState::Ok };
    Some((state, format!("{sent} (degraded above {limit:.1} ms, a quarter of the median TTFT)")))
}

fn judge_ticker(ticker: &TickerFacts) -> (ClientState, String) {
    let throttled = ticker.throttled_periods.filter(|&periods| 0 < periods);
    let starved = WORKER_SHARE < ticker.worker_cpu_share || throttled.is_some();
    let state =
        if TICKER_LATE_MS < ticker.p99_late_ms && starved { ClientState::Saturated } else { ClientState::Ok };
    let mut evidence = format!(
        "a 1 ms ticker was {:.3} ms late at p99, the busiest worker took {:.0} % of a core",
        ticker.p99_late_ms,
        100.0 * ticker.worker_cpu_share
    );
    if let Some(periods) = throttled {
        evidence.push_str(&format!(", throttled in {periods} periods"));
    }
    (state, format!("{evidence} (saturated above 5 ms with 90 % or throttling)"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, record, run};
    use super::super::{RequestRecord, Summary};
    use super::*;
    use ClientState::{Degraded, Ok, Saturated};

    /// `count` answers, one a second, of which the last `late` are sent `lag_ms` late; TTFT 200 ms.
    fn lagging(count: u32, late: u32, lag_ms: f64) -> Run {
        let one = |nth: u32| {
            let due = f64::from(nth) * 1000.0;
            let sent = if count - nth <= late { due + lag_ms } else { due };
            let times = format!("{sent} {} {}", sent + 200.0, sent + 250.0);
            RequestRecord { scheduled: at(due), ready: Some(at(due)), ..record(&times) }
        };
        run((0..count).map(one).collect())
    }

    fn state(run: &Run) -> ClientState {
        Summary::of(run).client.state
    }

    #[test]
    fn lag_is_judged_by_its_p99_against_1_percent_of_ttft() {
        // Limits: 2 ms (1 % of 200 ms) and 20 ms.
        let table = [
            (100, 0.0, Ok),
            (100, 2.0, Ok),
            (100, 2.1, Degraded),
            (100, 20.0, Degraded),
            (100, 20.1, Saturated),
        ];
        for (late, lag_ms, expected) in table {
            assert_eq!(state(&lagging(100, late, lag_ms)), expected, "{late} requests {lag_ms} ms late");
        }
        assert_eq!(state(&lagging(1000, 9, 500.0)), Ok);
        assert_eq!(state(&lagging(1000, 11, 500.0)), Saturated);
    }

    #[test]
    fn one_late_request_in_a_short_run_is_a_hiccup_and_not_saturation() {
        assert_eq!(state(&lagging(50, 1, 500.0)), Degraded);
        assert_eq!(state(&lagging(50, 2, 500.0)), Saturated);
        assert_eq!(state(&lagging(1, 1, 500.0)), Degraded);
    }

    #[test]
    fn a_burst_degrades_but_never_saturates() {
        let burst = |spread_ms: f64| {
            let one = |sent: f64| {
                let times = format!("{sent} {} {}", sent + 200.0, sent + 250.0);
                RequestRecord { scheduled: at(0.0), ready: Some(at(0.0)), ..record(&times) }
            };
            run(vec![one(0.0), one(spread_ms / 2.0), one(spread_ms)])
        };
        for (spread_ms, expected) in [(50.0, Ok), (50.1, Degraded), (90_000.0, Degraded)] {
            assert_eq!(state(&burst(spread_ms)), expected, "{spread_ms} ms");
        }
    }

    #[test]
    fn a_late_ticker_saturates_only_with_a_full_worker_or_throttling() {
        let table = [
            (6.0, 0.95, None, Saturated),
            (6.0, 0.5, Some(3), Saturated),
            (6.0, 0.5, Some(0), Ok),
            (4.0, 1.0, Some(3), Ok),
        ];
        for (p99_late_ms, worker_cpu_share, throttled_periods, expected) in table {
            let mut run = lagging(10, 0, 0.0);
            run.manifest.ticker = Some(TickerFacts { p99_late_ms, worker_cpu_share, throttled_periods });
            assert_eq!(state(&run), expected, "{:?}", run.manifest.ticker);
        }
    }

    #[test]
    fn the_evidence_has_the_figures() {
        let client = Summary::of(&lagging(100, 100, 3.0)).client;
        let said = "client lag p99 3.000 ms over 100 requests outside bursts (degraded above 2.0 ms, \
                    saturated above 20.0 ms)";
        assert_eq!(client.evidence, [said]);
    }
}
