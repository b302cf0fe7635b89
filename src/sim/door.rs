//! The way into a node: jobs and cancellations go to the node's own task by one queue, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// What a node's task is told.
#[derive(Debug)]
pub(super) enum Command<J> {
    /// A job, under the number of its slot.
    Submit(u64, J),
    /// Nobody waits for the job of this slot any more.
    Cancel(u64),
}

/// The node's end of the queue.
#[derive(Debug)]
pub(super) struct Inbox<J>(mpsc::UnboundedReceiver<Command<J>>);

/// What ends a wait for an instant.
#[derive(Debug)]
pub(super) enum Next<J> {
    /// A command, before the instant.
    Command(Command<J>),
    /// The instant.
    Due,
    /// Nobody is left to give commands.
    Gone,
}

impl<J> Inbox<J> {
    /// The next command; `None` when nobody is left to give any.
    pub async fn recv(&mut self) -> Option<Command<J>> {
        self.0.recv().await
    }

    /// The next command that is there already.
    pub fn at_hand(&mut self) -> Option<Command<J>> {
        self.0.try_recv().ok()
    }

    /// The next command, or `due`; commands that are there come before an instant that is over.
    pub async fn until(&mut self, due: Instant) -> Next<J> {
        tokio::select! {
            biased;
            command = self.0.recv() => command.map_or(Next::Gone, Next::Command),
            () = sleep_until(due) => Next::Due,
        }
    }
}

/// The callers' end: hands out slots.
#[derive(Debug)]
pub(super) struct Door<J> {
    commands: mpsc::UnboundedSender<Command<J>>,
    slots: AtomicU64,
}

impl<J> Door<J> {
    /// Both ends.
    pub fn open() -> (Arc<Self>, Inbox<J>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        (Arc::new(Self { commands, slots: AtomicU64::new(0) }), Inbox(receiver))
    }

    /// A slot for a job to come.
    pub fn enter(self: &Arc<Self>) -> Slot<J> {
        let number = self.slots.fetch_add(1, Ordering::Relaxed);
        Slot { door: Arc::clone(self), number, submitted: false }
    }

    /// Tells the node; false when its task is gone.
    pub fn tell(&self, command: Command<J>) -> bool {
        self.commands.send(command).is_ok()
    }
}

/// One request's place in a node. Dropping it before [`Slot::finish`] cancels the job.
#[derive(Debug)]
pub(super) struct Slot<J> {
    door: Arc<Door<J>>,
    number: u64,
    submitted: bool,
}

impl<J> Slot<J> {
    /// Hands in the job; false when the node's task is gone.
    pub fn submit(&mut self, job: J) -> bool {
        self.submitted = true;
        self.door.tell(Command::Submit(self.number, job))
    }

    /// The job is done: nothing is left to cancel.
    pub fn finish(&mut self) {
        self.submitted = false;
    }
}

impl<J> Drop for Slot<J> {
    fn drop(&mut self) {
        if self.submitted {
            self.door.tell(Command::Cancel(self.number));
        }
    }
}
