//! A simulated server in a process of its own: this program, started again.

use super::{Error, Exit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use tokio::sync::oneshot;

/// A running server; it is killed when it is dropped before its end.
pub(super) struct SimChild {
    pub(super) address: SocketAddr,
    pid: Option<Pid>,
    log: oneshot::Receiver<Vec<String>>,
}

impl SimChild {
    /// Starts `executable sim` on a free port, its truth log on its standard output.
    pub(super) async fn start(executable: &Path, flags: &[String]) -> Result<Self, Error> {
        let failed = || {
            Error::new(Exit::Preflight, format!("cannot start a server with `{} sim`", executable.display()))
        };
        let mut child = Command::new(executable)
            .args(["sim", "--port", "0", "--truth-log", "-"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed().caused_by(error))?;
        let pid = Pid::from_raw(child.id() as i32);
        let (said, address) = oneshot::channel();
        let (done, log) = oneshot::channel();
        let reading = std::thread::Builder::new().name("truth".to_owned()).spawn(move || {
            let Some(stdout) = child.stdout.take() else { return };
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            if let Some(first) = lines.next() {
                let _ = said.send(address_in(&first));
            }
            let _ = done.send(lines.collect());
            let _ = child.wait();
        });
        reading.map_err(|error| failed().caused_by(error))?;
        let mut server = Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), pid: Some(pid), log };
        server.address = address.await.ok().flatten().ok_or_else(failed)?;
        Ok(server)
    }

    /// Ends it and gives its truth log.
    pub(super) async fn end(mut self) -> Result<Vec<String>, Error> {
        if let Some(pid) = self.pid.take() {
            let _ = kill(pid, Signal::SIGTERM);
        }
        let log = (&mut self.log).await;
        log.map_err(|error| Error::new(Exit::Aborted, "the server's log is lost").caused_by(error))
    }
}

/// The address behind the first `http://` of a line.
fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://")?;
    rest.split(|c: char| c.is_whitespace() || c == '/').next()?.parse().ok()
}

impl Drop for SimChild {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}
