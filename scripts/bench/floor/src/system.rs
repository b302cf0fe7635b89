//! The calls of the operating system that both ends need, each made safe to call.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// What a call gave, or the error of the system.
fn checked(result: i64) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Nanoseconds of the wall clock, by which the kernel stamps packets.
pub fn wall_ns() -> i64 {
    let mut time: libc::timespec = unsafe { zeroed() };
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut time) };
    nanoseconds(time)
}

fn nanoseconds(time: libc::timespec) -> i64 {
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// As many open files as there may be.
pub fn raise_file_limit() {
    let mut limit: libc::rlimit = unsafe { zeroed() };
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

fn loopback(port: u16) -> libc::sockaddr_in {
    let mut address: libc::sockaddr_in = unsafe { zeroed() };
    address.sin_family = libc::AF_INET as u16;
    address.sin_port = port.to_be();
    address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
    address
}

const ADDRESS_LEN: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

fn set(fd: RawFd, level: i32, option: i32) {
    let yes = 1_i32;
    unsafe {
        libc::setsockopt(fd, level, option, (&raw const yes).cast(), size_of::<i32>() as libc::socklen_t)
    };
}

fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let fd = checked(unsafe { libc::socket(libc::AF_INET, kind, 0) } as i64)?;
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Listens on loopback, with the kernel's stamps on what its connections receive; the socket and its port.
pub fn listen(port: u16) -> io::Result<(OwnedFd, u16)> {
    let socket = socket()?;
    set(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR);
    set(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS);
    let mut address = loopback(port);
    let mut len = ADDRESS_LEN;
    unsafe {
        checked(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) as i64)?;
        checked(libc::listen(socket.as_raw_fd(), 8192) as i64)?;
        checked(libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &mut len) as i64)?;
    }
    Ok((socket, u16::from_be(address.sin_port)))
}

/// A connection that waits to be accepted.
pub fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let (address, len) = (std::ptr::null_mut(), std::ptr::null_mut());
    let fd = checked(unsafe { libc::accept4(listener.as_raw_fd(), address, len, flags) } as i64)?;
    set(fd as RawFd, libc::IPPROTO_TCP, libc::TCP_NODELAY);
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Waits until a socket can be written to, or has failed.
pub fn wait_writable(socket: &OwnedFd) {
    let mut waited = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    unsafe { libc::poll(&mut waited, 1, -1) };
}

/// Opens a connection to loopback; it is open at once unless the server has too many to accept.
pub fn connect(port: u16, kernel_stamps: bool) -> io::Result<OwnedFd> {
    let socket = socket()?;
    set(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY);
    if kernel_stamps {
        set(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS);
    }
    let address = loopback(port);
    match checked(
        unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS_LEN) } as i64
    ) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// Writes without waiting.
pub fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    checked(unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) } as i64)
}

/// Reads without waiting.
pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    checked(unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) } as i64)
}

/// Reads without waiting: bytes, and the kernel's stamp of the last of them, wall-clock nanoseconds.
pub fn receive_stamped(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<(usize, Option<i64>)> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = [0_u64; 8];
    unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        let count = checked(libc::recvmsg(socket.as_raw_fd(), &mut message, 0) as i64)?;
        let header = libc::CMSG_FIRSTHDR(&message);
        let stamped = !header.is_null() && (*header).cmsg_type == libc::SCM_TIMESTAMPNS;
        Ok((
            count,
            stamped.then(|| nanoseconds(libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned())),
        ))
    }
}

/// When a socket counts as ready.
pub enum Tell {
    /// As long as there is something to read.
    WhileReadable,
    /// Once for whatever can newly be read or written.
    OfNews,
}

/// Sockets that are waited for, each under a number.
pub struct Poll {
    epoll: OwnedFd,
    ready: Vec<libc::epoll_event>,
}

impl Poll {
    pub fn new() -> io::Result<Self> {
        let fd = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } as i64)?;
        let epoll = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
        Ok(Self { epoll, ready: vec![unsafe { zeroed() }; 1024] })
    }

    /// Waits for a socket too, under a number.
    pub fn add(&self, socket: &OwnedFd, number: u64, tell: Tell) -> io::Result<()> {
        let events = match tell {
            Tell::WhileReadable => libc::EPOLLIN,
            Tell::OfNews => libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET,
        } as u32;
        let mut event = libc::epoll_event { events, u64: number };
        let (epoll, fd) = (self.epoll.as_raw_fd(), socket.as_raw_fd());
        checked(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) } as i64).map(drop)
    }

    /// Waits until a socket is ready, a signal came, or so many nanoseconds are over; the numbers of the ready ones.
    pub fn wait(&mut self, at_most_ns: Option<i64>) -> impl Iterator<Item = u64> {
        let left = at_most_ns.unwrap_or(0).max(0);
        let time = libc::timespec { tv_sec: left / 1_000_000_000, tv_nsec: left % 1_000_000_000 };
        let time = if at_most_ns.is_some() { &raw const time } else { std::ptr::null() };
        let (epoll, events, most) =
            (self.epoll.as_raw_fd(), self.ready.as_mut_ptr(), self.ready.len() as i32);
        let mut count = unsafe { libc::epoll_pwait2(epoll, events, most, time, std::ptr::null()) };
        if count < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
            // Older valgrinds do not know it.
            let ms = at_most_ns.map_or(-1, |_| (left as u64).div_ceil(1_000_000) as i32);
            count = unsafe { libc::epoll_wait(epoll, events, most, ms) };
        }
        self.ready[..usize::try_from(count).unwrap_or(0)].iter().map(|event| event.u64)
    }
}
