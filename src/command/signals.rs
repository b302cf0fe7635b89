//! What signals ask a run for, one after the other.

use super::{Exit, Interrupt, InterruptedBy};
use crate::runtime::Stop;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// How long requests in flight may take to end after SIGINT …
const DRAIN_AFTER_INTERRUPT: Duration = Duration::from_secs(10);
/// … and after SIGTERM.
const DRAIN_AFTER_TERMINATE: Duration = Duration::from_secs(5);

impl Interrupt {
    /// Does what signals ask for, as they come. The first stops the sending; the second, or patience running out, cuts
    /// what is in flight; whoever asks a third time does not want to wait for the reports: then this returns, and the
    /// process is to end with that exit status.
    pub async fn obey(&self, mut signals: UnboundedReceiver<InterruptedBy>, say: impl Fn(&str)) -> Exit {
        let Some(by) = signals.recv().await else { return std::future::pending().await };
        let (exit, patience) = match by {
            InterruptedBy::Interrupt => (Exit::Interrupted, DRAIN_AFTER_INTERRUPT),
            InterruptedBy::Terminate => (Exit::Terminated, DRAIN_AFTER_TERMINATE),
        };
        self.handle(by).ask(Stop::Drain);
        say(&format!(
            "stopping: {} s for what is in flight; once more ends it at once\n",
            patience.as_secs()
        ));
        let _ = tokio::time::timeout(patience, signals.recv()).await;
        self.handle(by).ask(Stop::Now);
        match signals.recv().await {
            Some(_) => exit,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::unbounded_channel;
    use tokio::time::{Instant, sleep};

    #[tokio::test(start_paused = true)]
    async fn patience_after_the_first_signal_is_that_of_its_kind() {
        for (by, seconds) in [(InterruptedBy::Interrupt, 10), (InterruptedBy::Terminate, 5)] {
            let (interrupt, (sender, receiver)) = (Interrupt::default(), unbounded_channel());
            let obeying = interrupt.clone();
            let task = tokio::spawn(async move { obeying.obey(receiver, |_| {}).await });
            let began = Instant::now();
            sender.send(by).unwrap();
            interrupt.signal().reached(Stop::Drain).await;
            assert_eq!((interrupt.by(), began.elapsed()), (Some(by), Duration::ZERO));
            interrupt.signal().reached(Stop::Now).await;
            assert_eq!(began.elapsed().as_secs(), seconds);
            task.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_cuts_and_a_third_ends_the_process_as_the_first_said() {
        let (interrupt, (sender, receiver)) = (Interrupt::default(), unbounded_channel());
        let obeying = interrupt.clone();
        let task = tokio::spawn(async move { obeying.obey(receiver, |_| {}).await });
        let began = Instant::now();
        sender.send(InterruptedBy::Terminate).unwrap();
        sender.send(InterruptedBy::Interrupt).unwrap();
        interrupt.signal().reached(Stop::Now).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        sleep(Duration::from_secs(3600)).await;
        assert!(!task.is_finished(), "two signals leave time for the reports");
        sender.send(InterruptedBy::Interrupt).unwrap();
        assert_eq!(task.await.unwrap(), Exit::Terminated);
        assert_eq!(interrupt.by(), Some(InterruptedBy::Terminate));
    }
}
