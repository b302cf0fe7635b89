use std::future::Future;
use std::io;
use std::thread;
use tokio::sync::oneshot;

/// Where the parts of a run live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// Production: each worker is a named thread with a `current_thread` runtime of its own.
    Threads,
    /// Tests: every worker is a task on the runtime that is already there, paused or not.
    Local,
}

/// A worker that has been started; its future's value can be awaited.
#[derive(Debug)]
pub struct Worker<T>(oneshot::Receiver<T>);

impl Workers {
    /// Starts `work` on a worker of its own. Inside a tokio runtime only.
    ///
    /// # Errors
    /// When the operating system gives no thread or no reactor.
    pub fn start<T, F>(self, name: &str, work: F) -> io::Result<Worker<T>>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (done, receiver) = oneshot::channel();
        match self {
            Workers::Local => {
                tokio::spawn(async move {
                    // The receiver may be gone: then nobody waits for the value.
                    let _ = done.send(work.await);
                });
            }
            Workers::Threads => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                thread::Builder::new().name(name.to_owned()).spawn(move || {
                    // After a panic, whoever waits hears of it when nothing of the work is left: last in, first out.
                    let done = done;
                    let runtime = runtime;
                    let value = runtime.block_on(work);
                    drop(runtime);
                    let _ = done.send(value);
                })?;
            }
        }
        Ok(Worker(receiver))
    }
}

impl<T> Worker<T> {
    /// The worker's value; `None` when it panicked.
    pub async fn join(self) -> Option<T> {
        self.0.await.ok()
    }
}
