//! A netlink socket: one request and its acknowledgement, a dump, or a batch that holds as a whole.
//!
//! Each request has a socket of its own: no answer of an earlier one can be taken for its own, and
//! threads need no lock.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt,
            socket, sockopt,
        },
        time::{TimeVal, TimeValLike as _},
    },
};

use super::message::{Message, Received, messages, number_u32};

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

/// A socket to one netlink family.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// A socket for links, addresses and routes (`rtnetlink(7)`), in this thread's namespace.
    pub(crate) fn route() -> io::Result<Self> {
        Self::open(SockProtocol::NetlinkRoute)
    }

    /// A socket for netfilter, in this thread's namespace.
    pub(crate) fn netfilter() -> io::Result<Self> {
        Self::open(SockProtocol::NetlinkNetFilter)
    }

    fn open(protocol: SockProtocol) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECONDS))?;
        Ok(Self(socket))
    }

    /// Sends one request and waits until the kernel has done it.
    pub(crate) fn request(self, message: Message) -> io::Result<()> {
        self.send(&message.finish(1, ACKNOWLEDGE))?;
        self.acknowledged(1)
    }

    /// Sends one request, and returns the body of the one message that answers it.
    pub(crate) fn ask(self, message: Message) -> io::Result<Vec<u8>> {
        self.send(&message.finish(1, 0))?;
        let mut answer = None;
        self.each(|received| {
            check(received)?;
            answer = Some(received.body.to_vec());
            Ok(true)
        })?;
        answer.ok_or_else(|| io::Error::from_raw_os_error(libc::EPROTO))
    }

    /// Asks for everything of a kind, and hands each message's body to `take`.
    pub(crate) fn dump(self, message: Message, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        self.send(&message.finish(1, DUMP))?;
        self.each(|received| {
            check(received)?;
            if received.kind == DONE {
                return Ok(true);
            }
            take(received.body);
            Ok(false)
        })
    }

    /// Sends several messages that hold together or not at all, between `begin` and `end`.
    pub(crate) fn batch(
        self,
        begin: Message,
        messages: Vec<Message>,
        end: Message,
    ) -> io::Result<()> {
        let mut bytes = begin.finish(0, 0);
        let last = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        for (sequence, message) in (1..).zip(messages) {
            let flags = if sequence == last { ACKNOWLEDGE } else { 0 };
            bytes.extend(message.finish(sequence, flags));
        }
        bytes.extend(end.finish(0, 0));
        if bytes.len() > DATAGRAM {
            setsockopt(&self.0, sockopt::SndBufForce, &BATCH)?;
        }
        self.send(&bytes)?;
        // Refusals come in the order of the messages, so what is refused is known by the time
        // that the last message is acknowledged.
        self.acknowledged(last)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        send(self.0.as_raw_fd(), bytes, MsgFlags::empty())?;
        Ok(())
    }

    fn acknowledged(&self, last: u32) -> io::Result<()> {
        self.each(|received| {
            check(received)?;
            Ok(received.kind == ERROR && received.sequence == last)
        })
    }

    /// Hands over what comes in, until `take` says that this was the last.
    fn each(&self, mut take: impl FnMut(Received<'_>) -> io::Result<bool>) -> io::Result<()> {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let length = match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let datagram =
                buffer.get(..length).ok_or_else(|| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
            for received in messages(datagram) {
                if take(received)? {
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
