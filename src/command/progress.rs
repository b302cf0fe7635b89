//! How a run is coming along, while it does.

use super::Surroundings;
use crate::load::{Live, LiveView};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// How often a terminal is drawn anew …
const BAR_PERIOD: Duration = Duration::from_millis(250);
/// … and how often a line is written where there is none.
const LINE_PERIOD: Duration = Duration::from_secs(10);

/// Shows progress on standard error until `work` is done. A fault in the showing ends that alone, and is told.
pub(super) async fn shown<T>(
    work: impl Future<Output = T>,
    planned: usize,
    live: &Live,
    world: &mut Surroundings,
) -> (T, Option<String>) {
    let bar = world.progress_bar.then(|| bar(planned));
    let period = if bar.is_some() { BAR_PERIOD } else { LINE_PERIOD };
    let mut tick = interval_at(Instant::now() + period, period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut work, mut before, mut drawn) = (pin!(work), live.view(), Instant::now());
    // What was sent before this phase is not counted again.
    let origin = before;
    let mut fault = None;
    loop {
        tokio::select! {
            biased;
            done = &mut work => {
                if let Some(bar) = bar {
                    bar.finish_and_clear();
                }
                return (done, fault);
            }
            _ = tick.tick(), if fault.is_none() => {
                let now = live.view();
                let since = std::mem::replace(&mut drawn, Instant::now()).elapsed().as_secs_f64();
                let tokens_per_s = (now.tokens - before.tokens) as f64 / since.max(1e-3);
                let line = line(&now, &origin, tokens_per_s);
                let drawn = catch_unwind(AssertUnwindSafe(|| match &bar {
                    Some(bar) => {
                        bar.set_position(now.ended - origin.ended);
                        bar.set_message(line);
                    }
                    None => world.note(&format!("{} of {planned} done, {line}\n", now.ended - origin.ended)),
                }));
                fault = drawn.err().map(|_| "the progress display panicked".to_owned());
                before = now;
            }
        }
    }
}

fn line(now: &LiveView, origin: &LiveView, tokens_per_s: f64) -> String {
    let ttft = now.ttft_p50_ms.map_or("–".to_owned(), |ms| format!("{ms:.0} ms"));
    format!(
        "{} sent, {} in flight, {} failed, {tokens_per_s:.0} tok/s, TTFT p50 {ttft}",
        now.sent - origin.sent,
        now.in_flight,
        now.failed - origin.failed,
    )
}

/// A bar for so many steps.
pub(super) fn bar(planned: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(planned as u64), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {elapsed} {wide_msg}");
    bar.with_style(style.expect("the template is well-formed"))
}
