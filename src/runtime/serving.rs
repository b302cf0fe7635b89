use super::{Stop, StopSignal};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Wait after a failed accept, which mostly means that this process has no file descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);

/// Takes connections until `stop` and holds each as `converse` says: `Drain` closes the listener and waits for the
/// connections that are open, `Now` drops them. Inside a tokio runtime only.
pub async fn serve<F>(listener: TcpListener, mut stop: StopSignal, converse: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.reached(Stop::Drain) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Without it the kernel may hold an event back; where it cannot be set the events are only later.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(converse(stream));
                }
                Err(_) => sleep(ACCEPT_AGAIN).await,
            },
        }
    }
    drop(listener);
    loop {
        tokio::select! {
            biased;
            () = stop.reached(Stop::Now) => break,
            ended = connections.join_next() => if ended.is_none() { return },
        }
    }
    connections.shutdown().await;
}
