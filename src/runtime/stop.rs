use tokio::sync::watch;

/// How urgently a run is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stop {
    /// Go on.
    #[default]
    No,
    /// Send nothing more, let what is in flight end.
    Drain,
    /// Cut what is in flight, keep what is recorded.
    Now,
}

/// The end that asks; dropping it asks for nothing.
#[derive(Clone, Debug)]
pub struct StopHandle(watch::Sender<Stop>);

/// The end that listens.
#[derive(Clone, Debug)]
pub struct StopSignal(watch::Receiver<Stop>);

/// A pair of ends.
pub fn stop_channel() -> (StopHandle, StopSignal) {
    let (sender, receiver) = watch::channel(Stop::No);
    (StopHandle(sender), StopSignal(receiver))
}

impl StopHandle {
    /// Raises the urgency to at least `stop`; it never falls back.
    pub fn ask(&self, stop: Stop) {
        self.0.send_if_modified(|now| {
            let raised = *now < stop;
            *now = stop.max(*now);
            raised
        });
    }

    /// What has been asked for so far.
    pub fn asked(&self) -> Stop {
        *self.0.borrow()
    }
}

impl StopSignal {
    /// What has been asked for so far.
    pub fn asked(&self) -> Stop {
        *self.0.borrow()
    }

    /// Waits until at least `stop` is asked for; for ever when the other end is gone without asking.
    pub async fn reached(&mut self, stop: Stop) {
        if self.0.wait_for(|now| stop <= *now).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn urgency_only_rises() {
        let (handle, mut signal) = stop_channel();
        handle.ask(Stop::Now);
        handle.ask(Stop::Drain);
        assert_eq!(signal.asked(), Stop::Now);
        signal.reached(Stop::Drain).await;
    }
}
