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
    let p99 = lags.percentile(99.0)?.value?;
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
