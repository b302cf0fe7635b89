//! What `pdbench` is measured with. `floor serve` is a server that answers as vLLM does and logs the instant of every
//! write; `floor load` is the least that a client can do: epoll, read, count; `floor relay` the least that a proxy can. Linux only, one thread each.

mod load;
mod relay;
mod serve;
mod system;

use std::collections::BTreeMap;
use std::process::ExitCode;

const USAGE: &str = "usage:
  floor serve [--port P] [--gap-us G] [--first-us F] [--coalesce N] [--together 1] [--log FILE]
      One write each G us for each stream, the first F us after its request (default G), N events in each write
      (default 1); all streams at the same instants, or each on its own (default). The port is printed. SIGINT and SIGTERM end it; then FILE gets a line for each request.
  floor load --port P [--streams N] [--tokens T] [--rate R] [--prompt-bytes B] [--stamps user|kernel] [--log FILE]
      N requests (default 100) for T tokens (default 100), R a second (default all at once). FILE gets a line for each.
  floor relay --to P [--port P]
      Bytes from its port, which is printed, to port P and back, until it is killed.";

/// Flags with their values.
pub struct Flags(BTreeMap<String, String>);

impl Flags {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut flags = BTreeMap::new();
        let mut arguments = arguments;
        while let Some(name) = arguments.next() {
            let name = name.strip_prefix("--").ok_or_else(|| format!("`{name}` is no flag"))?.to_owned();
            let value = arguments.next().ok_or_else(|| format!("--{name} needs a value"))?;
            flags.insert(name, value);
        }
        Ok(Self(flags))
    }

    /// A text, if it is there.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// A number, if it is there.
    pub fn number(&mut self, name: &str) -> Result<Option<u64>, String> {
        let parse = |text: String| text.parse().map_err(|_| format!("--{name}: `{text}` is no whole number"));
        self.text(name).map(parse).transpose()
    }

    fn end(self) -> Result<(), String> {
        self.0.into_keys().next().map_or(Ok(()), |name| Err(format!("there is no --{name}")))
    }
}

fn run() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
    let verb = arguments.next().ok_or(USAGE)?;
    let mut flags = Flags::parse(arguments).map_err(|why| format!("{why}\n{USAGE}"))?;
    match verb.as_str() {
        "serve" => {
            let plan = serve::Plan::take(&mut flags)?;
            flags.end()?;
            serve::run(plan)
        }
        "load" => {
            let plan = load::Plan::take(&mut flags)?;
            flags.end()?;
            load::run(plan)
        }
        "relay" => {
            let plan = relay::Plan::take(&mut flags)?;
            flags.end()?;
            relay::run(plan)
        }
        _ => Err(USAGE.into()),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
