//! The floor of a proxy: for each event one read and one write, of bytes that it does not look at. It has one leg only.

use crate::Flags;
use crate::system::{self, Poll, Tell};
use std::io;
use std::os::fd::OwnedFd;

/// What was asked for.
pub struct Plan {
    port: u16,
    to: u16,
}

impl Plan {
    pub fn take(flags: &mut Flags) -> Result<Self, String> {
        Ok(Self {
            port: flags.number("port")?.unwrap_or(0) as u16,
            to: flags.number("to")?.ok_or("--to is missing")? as u16,
        })
    }
}

/// A client's connection and the one behind it; the socket with number `n` is side `n % 2` of pair `n / 2 - 1`.
type Pair = [OwnedFd; 2];

/// Relays until it is killed.
pub fn run(plan: Plan) -> Result<(), String> {
    system::raise_file_limit();
    let told = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let (listener, port) = system::listen(plan.port).map_err(told("cannot listen"))?;
    println!("{port}");
    let mut poll = Poll::new().map_err(told("cannot poll"))?;
    poll.add(&listener, 0, Tell::WhileReadable).map_err(told("cannot poll"))?;
    let mut pairs: Vec<Option<Pair>> = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let mut ready = Vec::new();
    loop {
        ready.clear();
        ready.extend(poll.wait(None));
        for &number in &ready {
            let Some(place) = (number as usize / 2).checked_sub(1) else {
                let both = system::accept(&listener)
                    .and_then(|client| Ok([client, system::connect(plan.to, false)?]));
                let both = both.map_err(told("cannot open a pair"))?;
                for (side, socket) in both.iter().enumerate() {
                    let number = (pairs.len() + 1) * 2 + side;
                    poll.add(socket, number as u64, Tell::WhileReadable).map_err(told("cannot poll"))?;
                }
                pairs.push(Some(both));
                continue;
            };
            let side = number as usize % 2;
            if let Some(pair) = &pairs[place]
                && !pass(&pair[side], &pair[1 - side], &mut buffer)
            {
                pairs[place] = None;
            }
        }
    }
}

/// Passes on what is there; false when there will be nothing more.
fn pass(from: &OwnedFd, to: &OwnedFd, buffer: &mut [u8]) -> bool {
    let count = match system::receive(from, buffer) {
        Ok(count) => count,
        Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
    };
    let mut left = &buffer[..count];
    while !left.is_empty() {
        match system::send(to, left) {
            Ok(sent) => left = &left[sent..],
            // Only where the other end does not read as fast as the events come: none does here.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(_) => return false,
        }
    }
    0 < count
}
