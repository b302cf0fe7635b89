use super::connection::Connection;
use super::live::Live;
use super::pacer::{Ending, Pacer, PassLimits, Step, Turn};
use super::shard::Job;
use super::stream::Open;
use super::{Idle, Pacing, PassReport, PassShared};
use crate::measure::{Offset, RequestRecord};
use crate::runtime::{Clock, Stop, StopSignal};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::sleep_until;

/// A request has ended; its place is free.
pub(super) struct Ended {
    /// Number within the pass.
    pub(super) index: usize,
    pub(super) at: Offset,
    pub(super) failed: bool,
    /// Its record, if it was a probe that failed.
    pub(super) probe: Option<Box<RequestRecord>>,
    /// Its connections that can carry another request.
    pub(super) idle: [Option<Idle>; 2],
}

/// The sending side: carries out what the pacer decides.
pub(super) struct Driver {
    pub(super) clock: Clock,
    pub(super) pacing: Pacing,
    pub(super) shards: Vec<UnboundedSender<Job>>,
    pub(super) ended: UnboundedReceiver<Ended>,
    /// Open connections to each place, the one that was used last on top.
    pub(super) idle: Vec<Vec<Idle>>,
    pub(super) live: Arc<Live>,
    pub(super) drain_timeout: Duration,
    /// The record of a probe that failed.
    pub(super) failed_probe: Option<Box<RequestRecord>>,
}

/// Distance to the next send from which the thread waits for nothing else: tokio's timer may be late by two
/// of its steps of 1 ms.
const NEAR: Duration = Duration::from_millis(3);

impl Driver {
    /// Sends a whole pass and waits until every request of it has ended.
    pub(super) async fn run(
        mut self,
        pass: Arc<PassShared>,
        schedule: Vec<Duration>,
        limits: PassLimits,
        mut stop: StopSignal,
    ) -> (Self, PassReport) {
        self.pacing.prepare_thread();
        let start = Offset::from(self.clock.now());
        let last_send = limits.max_duration.map(|most| start + most);
        let mut pacer = Pacer::new(schedule, start, limits);
        let mut end = start;
        let ending = loop {
            while let Ok(ended) = self.ended.try_recv() {
                end = end.max(ended.at);
                self.note(ended, &mut pacer);
            }
            if stop.asked() != Stop::No {
                pacer.stop();
            }
            match pacer.step(self.clock.now().into()) {
                Step::Send(turn) => {
                    if !self.send(&pass, turn) {
                        pacer.ended(turn.index, turn.ready, true);
                        pacer.stop();
                    }
                }
                Step::WaitUntil(due) => end = end.max(self.wait(Some(due), &mut pacer, &mut stop).await),
                Step::WaitForEnd => end = end.max(self.wait(None, &mut pacer, &mut stop).await),
                Step::Done(ending) => break ending,
            }
        };
        end = end.max(self.drain(&mut pacer, ending, last_send, &mut stop).await);
        let failed_probe = self.failed_probe.take();
        (self, PassReport { start, end, sent: pacer.sent(), ending, failed_probe, watch: None })
    }

    fn note(&mut self, ended: Ended, pacer: &mut Pacer) {
        pacer.ended(ended.index, ended.at, ended.failed);
        for idle in ended.idle.into_iter().flatten() {
            self.idle[idle.place].push(idle);
        }
        if ended.probe.is_some() {
            self.failed_probe = ended.probe;
        }
    }

    /// Stamps and writes the request on an open connection, or leaves both to a shard, under TLS always; false when
    /// no shard could take it.
    fn send(&mut self, pass: &Arc<PassShared>, turn: Turn) -> bool {
        let request = &pass.requests[turn.index];
        let (place, bytes) = match &request.lead {
            Some(lead) => (lead.place, &lead.bytes),
            None => (request.place, &request.bytes),
        };
        while let Some(Idle { shard, connection, .. }) = self.idle[place].pop() {
            if !connection.is_quiet() {
                continue;
            }
            let (sent, written) = match &connection {
                Connection::Tls(_) => (None, 0),
                Connection::Plain(socket) => {
                    let sent = Offset::from(self.clock.now());
                    match socket.try_write(bytes) {
                        Ok(written) => (Some(sent), written),
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => (Some(sent), 0),
                        Err(_) => continue,
                    }
                }
            };
            if sent.is_some() {
                self.live.sent();
            }
            let second = request.lead.as_ref().and_then(|_| self.quiet(shard, request.place));
            return self.start(shard, pass, turn, Some(Open { connection, sent, written, second }));
        }
        let shard = turn.index % self.shards.len();
        self.start(shard, pass, turn, None)
    }

    /// An open connection of this shard to this place, for what follows a lead.
    fn quiet(&mut self, shard: usize, place: usize) -> Option<Connection> {
        let idle = &mut self.idle[place];
        while let Some(at) = idle.iter().rposition(|idle| idle.shard == shard) {
            let connection = idle.remove(at).connection;
            if connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// Leaves a request to its shard; false when the shard is no more.
    fn start(&self, shard: usize, pass: &Arc<PassShared>, turn: Turn, open: Option<Open>) -> bool {
        self.shards[shard].send(Job::Start(Arc::clone(pass), turn, open)).is_ok()
    }

    /// Waits until `due`, or until something happens before; when the last request noted ended.
    async fn wait(&mut self, due: Option<Offset>, pacer: &mut Pacer, stop: &mut StopSignal) -> Offset {
        let wake = due.map(Duration::from).map(|due| match self.pacing {
            Pacing::Runtime => due,
            Pacing::Thread { .. } => due.saturating_sub(NEAR),
        });
        if let (Some(wake), Some(due), Pacing::Thread { spin }) = (wake, due, self.pacing)
            && wake <= self.clock.now()
        {
            wait_exactly(self.clock, due.into(), spin);
            return Offset::default();
        }
        let timer = async {
            match wake {
                Some(wake) => sleep_until(self.clock.at(wake)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(ended) = self.ended.recv() => {
                let at = ended.at;
                self.note(ended, pacer);
                at
            }
            () = stop.reached(Stop::Drain) => Offset::default(),
            () = timer => Offset::default(),
        }
    }

    /// Waits for what is in flight, or cuts it when the time for that is over; when the last request ended.
    /// `last_send` is when sending had to end at the latest.
    async fn drain(
        &mut self,
        pacer: &mut Pacer,
        ending: Ending,
        last_send: Option<Offset>,
        stop: &mut StopSignal,
    ) -> Offset {
        let limit = match ending {
            Ending::Complete => last_send.map(|last| Duration::from(last) + self.drain_timeout),
            _ => Some(self.clock.now() + self.drain_timeout),
        };
        let mut end = Offset::default();
        let mut cut = false;
        while 0 < pacer.in_flight() {
            let timer = async {
                match limit.filter(|_| !cut) {
                    Some(limit) => sleep_until(self.clock.at(limit)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                ended = self.ended.recv() => match ended {
                    Some(ended) => {
                        end = end.max(ended.at);
                        self.note(ended, pacer);
                    }
                    None => break,
                },
                () = stop.reached(Stop::Now), if !cut => {
                    cut = true;
                    self.cancel();
                }
                () = timer => {
                    cut = true;
                    self.cancel();
                }
            }
        }
        end
    }

    fn cancel(&self) {
        for shard in &self.shards {
            let _ = shard.send(Job::Cancel);
        }
    }
}

impl Pacing {
    /// Makes this thread's sleeps end when they should, where it is the pacer's own.
    fn prepare_thread(self) {
        if let Pacing::Thread { .. } = self {
            // Without it a sleep ends up to 50 µs later; nothing else changes.
            let _ = nix::sys::prctl::set_timerslack(1);
        }
    }
}

/// Sleeps until shortly before `due`, then spins.
fn wait_exactly(clock: Clock, due: Duration, spin: Duration) {
    loop {
        let left = due.saturating_sub(clock.now());
        if left.is_zero() {
            return;
        } else if spin < left {
            std::thread::sleep(left - spin);
        } else {
            std::hint::spin_loop();
        }
    }
}
