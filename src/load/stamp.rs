use crate::measure::{Offset, Stamps};
use crate::runtime::Clock;
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;

/// Tells when bytes arrived. The kernel stamps a packet before this process is woken; its stamp is wall-clock
/// time and is carried over to the run's clock by an offset that is measured again as soon as the two clocks part.
#[derive(Debug)]
pub(super) struct StampClock {
    clock: Clock,
    stamps: Stamps,
    /// Run clock minus wall clock, nanoseconds.
    offset_ns: AtomicI64,
    /// The wall clock, nanoseconds since 1970.
    wall_ns: fn() -> Option<i64>,
}

/// A kernel stamp further than this from the moment of reading is not believed.
const BELIEVED: Duration = Duration::from_secs(5);

/// The wall clock was set when it has moved by more than this against the run's clock. (A thread that loses its
/// processor between reading one and the other looks the same; measuring again does no harm.)
const STEP_NS: u64 = 500_000;

/// What one read gave.
pub(super) struct Arrived {
    /// Bytes; none at the end of the stream.
    pub(super) count: usize,
    /// When the last of them came.
    pub(super) at: Offset,
    /// Who says so.
    pub(super) stamps: Stamps,
}

/// Bytes read by one shard at a time, and the space for the kernel's control message beside them.
pub(super) struct ReadBuffer {
    bytes: Vec<u8>,
    /// What lay encrypted in them; without TLS it stays empty.
    plaintext: Vec<u8>,
    control: Vec<u8>,
}

impl ReadBuffer {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; 64 << 10], plaintext: Vec::new(), control: cmsg_space!(TimeSpec) }
    }

    pub(super) fn bytes(&self, len: usize) -> &[u8] {
        &self.bytes[..len]
    }

    /// The bytes read, and room for what lies encrypted in them.
    pub(super) fn ciphertext_and_plaintext(&mut self, len: usize) -> (&[u8], &mut Vec<u8>) {
        (&self.bytes[..len], &mut self.plaintext)
    }
}

impl StampClock {
    pub(super) fn new(clock: Clock, stamps: Stamps) -> Self {
        Self::by(clock, stamps, system_wall_ns)
    }

    fn by(clock: Clock, stamps: Stamps, wall_ns: fn() -> Option<i64>) -> Self {
        let stamp_clock = Self { clock, stamps, offset_ns: AtomicI64::new(0), wall_ns };
        stamp_clock.measure_offset();
        stamp_clock
    }

    pub(super) fn now(&self) -> Offset {
        self.clock.now().into()
    }

    pub(super) fn stamps(&self) -> Stamps {
        self.stamps
    }

    /// Measures the offset between the run's clock and the wall clock anew: of three tries the one in which
    /// the wall clock was read in the shortest time.
    pub(super) fn measure_offset(&self) {
        if self.stamps == Stamps::User {
            return;
        }
        let tries = (0..3).filter_map(|_| {
            let before = self.clock.now();
            let wall = (self.wall_ns)()?;
            let after = self.clock.now();
            let middle = (before + after) / 2;
            Some((after - before, middle.as_nanos() as i64 - wall))
        });
        if let Some((_, offset)) = tries.min() {
            self.offset_ns.store(offset, Ordering::Relaxed);
        }
    }

    /// Asks the kernel to stamp what this socket receives.
    pub(super) fn prepare(&self, socket: &impl AsFd) {
        if self.stamps == Stamps::Kernel {
            // Without the option there is no control message, and `read` stamps by itself.
            let _ = setsockopt(socket, sockopt::ReceiveTimestampns, &true);
        }
    }

    /// Reads without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing to read; the connection's own errors.
    pub(super) fn try_read(&self, stream: &TcpStream, buffer: &mut ReadBuffer) -> io::Result<Arrived> {
        let mut got = None;
        let tried = stream.try_io(tokio::io::Interest::READABLE, || {
            let count = got.insert(self.receive(stream, buffer)?).count;
            // A read that did not fill the buffer has drained the socket: say so now and save the call that
            // would find out. (New bytes raise a new event, and a close is never forgotten.)
            if 0 < count && count < buffer.bytes.len() {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(())
            }
        });
        match (got, tried) {
            (Some(read), _) => Ok(read),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn receive(&self, stream: &TcpStream, buffer: &mut ReadBuffer) -> io::Result<Arrived> {
        let mut parts = [IoSliceMut::new(&mut buffer.bytes)];
        let control = (self.stamps == Stamps::Kernel).then_some(buffer.control.as_mut_slice());
        let received = recvmsg::<()>(stream.as_raw_fd(), &mut parts, control, MsgFlags::empty())?;
        let now = self.clock.now();
        let stamp = received.cmsgs().ok().into_iter().flatten().find_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(wall) => self.on_run_clock(wall, now),
            _ => None,
        });
        let count = received.bytes;
        Ok(match stamp {
            Some(at) => Arrived { count, at: at.into(), stamps: Stamps::Kernel },
            None => Arrived { count, at: now.into(), stamps: Stamps::User },
        })
    }

    /// A wall-clock stamp on the run's clock; `None` when it cannot be true.
    fn on_run_clock(&self, wall: TimeSpec, now: Duration) -> Option<Duration> {
        let wall_now = (self.wall_ns)()?;
        let apart = now.as_nanos() as i64 - wall_now;
        if STEP_NS < apart.abs_diff(self.offset_ns.load(Ordering::Relaxed)) {
            self.measure_offset();
        }
        let since_origin = nanoseconds(wall) + self.offset_ns.load(Ordering::Relaxed);
        let at = Duration::from_nanos(u64::try_from(since_origin).ok()?).min(now);
        (now - at < BELIEVED).then_some(at)
    }
}

fn system_wall_ns() -> Option<i64> {
    Some(nanoseconds(clock_gettime(ClockId::CLOCK_REALTIME).ok()?))
}

fn nanoseconds(time: TimeSpec) -> i64 {
    time.tv_sec() * 1_000_000_000 + time.tv_nsec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tokio::time::advance;

    const HOUR_NS: i64 = 3_600_000_000_000;
    /// Some day, nanoseconds since 1970.
    const DAY_NS: i64 = 20_000 * 24 * HOUR_NS;

    thread_local! {
        static WALL_NS: Cell<i64> = const { Cell::new(DAY_NS) };
    }

    /// Both clocks go on.
    async fn pass_ms(ms: u64) {
        advance(Duration::from_millis(ms)).await;
        set_by(ms as i64 * 1_000_000);
    }

    /// Somebody sets the wall clock.
    fn set_by(ns: i64) {
        WALL_NS.set(WALL_NS.get() + ns);
    }

    /// What a packet is stamped with that comes now.
    fn kernel_stamp() -> TimeSpec {
        TimeSpec::new(WALL_NS.get() / 1_000_000_000, WALL_NS.get() % 1_000_000_000)
    }

    fn stamp_clock() -> StampClock {
        WALL_NS.set(DAY_NS);
        StampClock::by(Clock::start(), Stamps::Kernel, || Some(WALL_NS.get()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_stamp_is_the_instant_at_which_the_packet_came() {
        let stamps = stamp_clock();
        pass_ms(70).await;
        let stamp = kernel_stamp();
        pass_ms(3).await;
        assert_eq!(stamps.on_run_clock(stamp, stamps.clock.now()), Some(Duration::from_millis(70)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_that_is_set_moves_no_stamp_that_is_made_after() {
        for step in [HOUR_NS, -HOUR_NS, 700_000, -700_000, 3 * 24 * HOUR_NS] {
            let stamps = stamp_clock();
            pass_ms(70).await;
            set_by(step);
            pass_ms(30).await;
            let stamp = kernel_stamp();
            pass_ms(2).await;
            assert_eq!(
                stamps.on_run_clock(stamp, stamps.clock.now()),
                Some(Duration::from_millis(100)),
                "{step}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stamp_of_before_the_step_is_read_as_the_moment_of_reading_or_not_at_all() {
        for (step, read) in [(HOUR_NS, None), (-HOUR_NS, Some(Duration::from_millis(102)))] {
            let stamps = stamp_clock();
            pass_ms(100).await;
            let stamp = kernel_stamp();
            set_by(step);
            pass_ms(2).await;
            assert_eq!(stamps.on_run_clock(stamp, stamps.clock.now()), read, "{step}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_wall_clock_there_is_no_stamp_of_the_kernel() {
        let stamps = StampClock::by(Clock::start(), Stamps::Kernel, || None);
        assert_eq!(stamps.on_run_clock(kernel_stamp(), stamps.clock.now()), None);
    }
}
