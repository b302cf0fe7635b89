use super::{Error, Exit};
use crate::measure::Host;
use crate::runtime::{StopHandle, StopSignal, Workers, stop_channel};
use jiff::Zoned;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

/// What an environment variable of this name holds.
pub type Environment = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Finds the addresses of a host name, with a port for each.
pub type Resolver = Box<dyn Fn(&str, u16) -> Resolving + Send + Sync>;
/// Addresses that are being looked for.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Everything that a run takes from the world besides its command line and its target. Injected, so that a
/// whole run can be repeated to the byte.
pub struct Surroundings {
    /// The command line as typed, program name first.
    pub arguments: Vec<String>,
    /// What an environment variable holds.
    pub environment: Environment,
    /// Finds the addresses of host names.
    pub resolver: Resolver,
    /// This program's file, to start it again.
    pub executable: PathBuf,
    /// Wall-clock time.
    pub wall_clock: Box<dyn Fn() -> Zoned + Send + Sync>,
    /// The machine.
    pub host: Host,
    /// Name, version and commit of the program.
    pub version: String,
    /// Four hexadecimal digits that keep two runs of one second apart.
    pub run_id_suffix: String,
    /// Where the parts of a run live.
    pub workers: Workers,
    /// Asks the run to stop.
    pub interrupt: Interrupt,
    /// Results go here.
    pub stdout: Box<dyn Write + Send>,
    /// Progress and warnings go here.
    pub stderr: Box<dyn Write + Send>,
    /// Standard output shows colours.
    pub colour: bool,
    /// Standard error is a terminal.
    pub progress_bar: bool,
}

/// A request from outside to stop, and who made it.
#[derive(Clone, Debug)]
pub struct Interrupt {
    handle: StopHandle,
    signal: StopSignal,
    by: Arc<Mutex<Option<InterruptedBy>>>,
}

/// Who stopped a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptedBy {
    /// SIGINT, Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Default for Interrupt {
    fn default() -> Self {
        let (handle, signal) = stop_channel();
        Self { handle, signal, by: Arc::default() }
    }
}

impl Interrupt {
    /// The end that a run listens to.
    pub fn signal(&self) -> StopSignal {
        self.signal.clone()
    }

    /// The end that asks, after saying who does.
    pub fn handle(&self, by: InterruptedBy) -> &StopHandle {
        if let Ok(mut first) = self.by.lock() {
            first.get_or_insert(by);
        }
        &self.handle
    }

    /// Who has asked the run to stop, if anybody.
    pub fn by(&self) -> Option<InterruptedBy> {
        self.by.lock().ok().and_then(|by| *by)
    }

    /// The exit status of a program that was asked to stop.
    pub fn exit(&self) -> Option<Exit> {
        Some(match self.by()? {
            InterruptedBy::Interrupt => Exit::Interrupted,
            InterruptedBy::Terminate => Exit::Terminated,
        })
    }
}

impl Surroundings {
    /// Prints results. A reader that has gone away is no error: the files hold everything.
    ///
    /// # Errors
    /// When standard output refuses, as where its disk is full.
    pub fn print(&mut self, text: &str) -> Result<(), Error> {
        match self.stdout.write_all(text.as_bytes()).and_then(|()| self.stdout.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Error::new(Exit::NotWritten, "cannot print the result").caused_by(error))
            }
            _ => Ok(()),
        }
    }

    /// Prints progress or a warning.
    pub fn note(&mut self, text: &str) {
        let _ = self.stderr.write_all(text.as_bytes()).and_then(|()| self.stderr.flush());
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").field("version", &self.version).finish_non_exhaustive()
    }
}
