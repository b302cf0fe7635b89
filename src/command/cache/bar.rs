//! How a download is coming along.

use crate::command::Surroundings;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;
use tokio::time::Instant;

/// How often a line is written where there is no terminal.
const LINE_PERIOD: Duration = Duration::from_secs(10);

/// Shows on standard error how much of a file has come.
pub(super) struct Bar<'a> {
    bar: Option<ProgressBar>,
    shown: bool,
    file: &'a str,
    told: Instant,
    world: &'a mut Surroundings,
}

impl<'a> Bar<'a> {
    /// Of a file; not shown at all where nobody wants to see it.
    pub(super) fn new(shown: bool, file: &'a str, world: &'a mut Surroundings) -> Self {
        let bar = (shown && world.progress_bar).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:24} {bytes}/{total_bytes} {elapsed} {wide_msg}");
            bar.with_style(style.expect("the template is well-formed")).with_message(file.to_owned())
        });
        Self { bar, shown, file, told: Instant::now(), world }
    }

    /// So many bytes have come, of so many where that is known.
    pub(super) fn show(&mut self, bytes: u64, total: Option<u64>) {
        if let Some(bar) = &self.bar {
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_position(bytes);
        } else if self.shown && LINE_PERIOD <= self.told.elapsed() {
            self.told = Instant::now();
            let of = total.map_or(String::new(), |total| format!(" of {total}"));
            self.world.note(&format!("{}: {bytes}{of} bytes\n", self.file));
        }
    }

    /// Takes it away.
    pub(super) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
