//! A netlink socket: one request and its acknowledgement, a dump, or a batch that holds as a whole.
//!
//! A socket belongs to the network namespace that it was opened in, whoever uses it. In this
//! thread's own, each request has a socket of its own; in another, they share one that was opened
//! there, one after the other. Numbers tell the answers of a request from those of an earlier one.

use std::{
    io,
    ops::{Deref, DerefMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv,
            send, setsockopt, socket, sockopt,
        },
        time::{TimeVal, TimeValLike as _},
    },
};

use super::message::{Message, Received, messages, number_u32};
use crate::sys::readiness;

/// `NLM_F_ACK`: say when it is done.
const ACKNOWLEDGE: u16 = 4;
/// `NLM_F_ROOT | NLM_F_MATCH`: all there are.
const DUMP: u16 = 0x300;
/// `NLMSG_ERROR`, which with error 0 is an acknowledgement.
const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
const DONE: u16 = 3;
/// Largest datagram that the kernel sends.
const DATAGRAM: usize = 64 * 1024;
/// Largest batch that is sent.
const BATCH: usize = 4 * 1024 * 1024;
/// The kernel answers within the call; this is for what must not happen.
const PATIENCE_SECONDS: i64 = 10;

/// The network namespace that requests are about.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// That of the calling thread.
    Here,
    /// Another one, by the sockets that were opened there.
    There(Arc<Sockets>),
}

/// Sockets that were opened in one network namespace.
#[derive(Debug)]
pub(crate) struct Sockets {
    route: Mutex<Socket>,
    netfilter: Mutex<Socket>,
}

impl Place {
    /// The namespace in which `sockets` were opened, by [`open_here`].
    pub(crate) fn there(sockets: [OwnedFd; 2]) -> Self {
        let [route, netfilter] = sockets.map(|descriptor| Mutex::new(Socket::of(descriptor)));
        Self::There(Arc::new(Sockets { route, netfilter }))
    }

    /// A socket for links, addresses and routes (`rtnetlink(7)`).
    pub(super) fn route(&self) -> io::Result<Lease<'_>> {
        match self {
            Self::Here => Ok(Lease::Own(Socket::of(open(SockProtocol::NetlinkRoute)?))),
            Self::There(sockets) => Ok(Lease::shared(&sockets.route)),
        }
    }

    /// A socket for packet filters.
    pub(super) fn netfilter(&self) -> io::Result<Lease<'_>> {
        match self {
            Self::Here => Ok(Lease::Own(Socket::of(open(SockProtocol::NetlinkNetFilter)?))),
            Self::There(sockets) => Ok(Lease::shared(&sockets.netfilter)),
        }
    }
}

/// Opens what makes this thread's namespace a [`Place`] for others: for links, and for filters.
pub(crate) fn open_here() -> io::Result<[OwnedFd; 2]> {
    Ok([open(SockProtocol::NetlinkRoute)?, open(SockProtocol::NetlinkNetFilter)?])
}

fn open(protocol: SockProtocol) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECONDS))?;
    Ok(socket)
}

/// A socket that is told of every change of a kind in the namespace that it was opened in.
#[derive(Debug)]
pub(crate) struct Changes(OwnedFd);

impl Changes {
    /// Listens to these groups (`RTMGRP_*`) of this thread's namespace from now on.
    pub(crate) fn listen(groups: libc::c_int) -> io::Result<Self> {
        let socket = open(SockProtocol::NetlinkRoute)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups.cast_unsigned()))?;
        Ok(Self(socket))
    }

    /// Waits for a change, and takes those that there are off the socket; `false` when none came by
    /// then.
    pub(crate) fn wait(&self, until: Instant) -> io::Result<bool> {
        if !readiness::wait(&self.0, until)? {
            return Ok(false);
        }
        self.clear().map(|()| true)
    }

    /// Takes the changes that there are off the socket.
    pub(crate) fn clear(&self) -> io::Result<()> {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                // More came than it holds: something has changed all the same.
                Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Changes {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<OwnedFd> for Changes {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl From<Changes> for OwnedFd {
    fn from(changes: Changes) -> Self {
        changes.0
    }
}

/// A socket for one request.
#[derive(Debug)]
pub(super) enum Lease<'a> {
    /// Closed afterwards.
    Own(Socket),
    /// Used by others before and after.
    Shared(MutexGuard<'a, Socket>),
}

impl<'a> Lease<'a> {
    fn shared(socket: &'a Mutex<Socket>) -> Self {
        Self::Shared(socket.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Deref for Lease<'_> {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        match self {
            Self::Own(socket) => socket,
            Self::Shared(socket) => socket,
        }
    }
}

impl DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut Socket {
        match self {
            Self::Own(socket) => socket,
            Self::Shared(socket) => socket,
        }
    }
}

/// A socket to one netlink family.
#[derive(Debug)]
pub(crate) struct Socket {
    descriptor: OwnedFd,
    /// The number of the last message that was sent.
    last: u32,
}

impl Socket {
    fn of(descriptor: OwnedFd) -> Self {
        Self { descriptor, last: 0 }
    }

    fn number(&mut self) -> u32 {
        self.last = self.last.wrapping_add(1);
        self.last
    }

    /// Sends one request and waits until the kernel has done it.
    pub(super) fn request(&mut self, message: Message) -> io::Result<()> {
        let number = self.number();
        self.send(&message.finish(number, ACKNOWLEDGE))?;
        self.acknowledged(number, number)
    }

    /// Sends one request, and returns the body of the one message that answers it.
    pub(super) fn ask(&mut self, message: Message) -> io::Result<Vec<u8>> {
        let number = self.number();
        self.send(&message.finish(number, 0))?;
        let mut answer = None;
        self.each(number, |received| {
            check(received)?;
            answer = Some(received.body.to_vec());
            Ok(true)
        })?;
        answer.ok_or_else(|| io::Error::from_raw_os_error(libc::EPROTO))
    }

    /// Asks for everything of a kind, and hands each message's body to `take`.
    pub(super) fn dump(&mut self, message: Message, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let number = self.number();
        self.send(&message.finish(number, DUMP))?;
        self.each(number, |received| {
            check(received)?;
            if received.kind == DONE {
                return Ok(true);
            }
            take(received.body);
            Ok(false)
        })
    }

    /// Sends several messages that hold together or not at all, between `begin` and `end`.
    pub(super) fn batch(
        &mut self,
        begin: Message,
        messages: Vec<Message>,
        end: Message,
    ) -> io::Result<()> {
        let first = self.number();
        let mut bytes = begin.finish(first, 0);
        let count = messages.len();
        for (index, message) in messages.into_iter().enumerate() {
            let flags = if index + 1 == count { ACKNOWLEDGE } else { 0 };
            bytes.extend(message.finish(self.number(), flags));
        }
        let last = self.last;
        bytes.extend(end.finish(self.number(), 0));
        if bytes.len() > DATAGRAM
            && let Err(error) = setsockopt(&self.descriptor, sockopt::SndBufForce, &BATCH)
        {
            // Only root of the host may: others keep their batches small.
            tracing::debug!(%error, "a large batch of changes of a packet filter");
        }
        self.send(&bytes)?;
        // Refusals come in the order of the messages, so what is refused is known by the time
        // that the last message is acknowledged.
        self.acknowledged(first, last)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        send(self.descriptor.as_raw_fd(), bytes, MsgFlags::empty())?;
        Ok(())
    }

    fn acknowledged(&self, first: u32, last: u32) -> io::Result<()> {
        self.each(first, |received| {
            check(received)?;
            Ok(received.kind == ERROR && received.sequence == last)
        })
    }

    /// Hands over what answers the messages from `first` on, until `take` says that this was the
    /// last.
    fn each(
        &self,
        first: u32,
        mut take: impl FnMut(Received<'_>) -> io::Result<bool>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let length = match recv(self.descriptor.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let datagram =
                buffer.get(..length).ok_or_else(|| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
            for received in messages(datagram) {
                // An answer that an earlier request did not wait for.
                let late = received.sequence.wrapping_sub(first) > u32::MAX / 2;
                if !late && take(received)? {
                    return Ok(());
                }
            }
        }
    }
}

/// The kernel's refusal, where this is one.
fn check(received: Received<'_>) -> io::Result<()> {
    if received.kind != ERROR {
        return Ok(());
    }
    match number_u32(received.body, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(error.wrapping_neg())),
        None => Err(io::Error::from_raw_os_error(libc::EPROTO)),
    }
}
