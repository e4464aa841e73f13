//! Messages with descriptors between runner, spawner and init.
//!
//! A `SOCK_SEQPACKET` socket keeps messages apart and reports the end of the other side. What is
//! too large for a datagram travels in a memory file; what has too many descriptors for one
//! datagram (`SCM_MAX_FD`) is sent in several. Both are bounded, because an init that its job has
//! taken over may send anything.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut, Read as _, Seek as _, Write as _},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{
            AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
            recvmsg, sendmsg, setsockopt, socketpair, sockopt,
        },
        time::TimeVal,
    },
};
use serde::{Serialize, de::DeserializeOwned};

use crate::sys::process;

/// Bytes of a message that still travel inside the datagram.
const INLINE: usize = 4096;
/// Largest message, in bytes.
const LARGEST: u64 = 16 * 1024 * 1024;
/// Descriptors per datagram; the kernel's limit is 253.
const DESCRIPTORS: usize = 200;
/// Datagrams that one message may be spread over.
const PARTS: usize = 8;
/// The number that the one channel of a process is moved to, behind its three streams.
const ALONE: i32 = 3;

/// First byte of a datagram: what the rest is.
mod kind {
    /// Only descriptors; the message follows.
    pub(super) const MORE: u8 = 0;
    /// The message itself.
    pub(super) const INLINE: u8 = 1;
    /// The message is in the memory file that is the last descriptor.
    pub(super) const FILE: u8 = 2;
}

/// One end of a connected pair.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// A connected pair; both ends are closed on exec.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (left, right) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(left), Self(right)))
    }

    /// Leaves nothing open in this process but its three streams and this channel.
    ///
    /// For a process that was just cloned: what its parent has open is not its own, and kept open it
    /// would hold up whoever waits for the end of a pipe. No descriptor object besides this one may
    /// be used afterwards.
    pub(crate) fn isolate(self) -> io::Result<Self> {
        self.isolate_with(None).map(|(channel, _)| channel)
    }

    /// As [`Self::isolate`], and leaves `more` open, too.
    pub(crate) fn isolate_with(self, more: Option<OwnedFd>) -> io::Result<(Self, Option<OwnedFd>)> {
        // Out of the way, so that neither is moved over the other.
        let away = |more: OwnedFd| {
            fcntl(&more, FcntlArg::F_DUPFD_CLOEXEC(ALONE + 2)).map(process::take_descriptor)
        };
        let more = more.map(away).transpose()?;
        let last = if more.is_some() { ALONE + 1 } else { ALONE };
        place(self.into(), ALONE)?;
        if let Some(more) = more {
            place(more, last)?;
        }
        process::close_from(last.cast_unsigned() + 1)?;
        let more = (last > ALONE).then(|| process::take_descriptor(last));
        Ok((Self(process::take_descriptor(ALONE)), more))
    }

    /// Sends `message` with `descriptors`, waiting for room where the socket blocks.
    pub(crate) fn send<T: Serialize>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let body = postcard::to_allocvec(message).map_err(io::Error::other)?;
        let mut descriptors: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let file;
        let (kind, inline) = if body.len() <= INLINE {
            (kind::INLINE, body.as_slice())
        } else {
            file = memory_file(&body)?;
            descriptors.push(file.as_raw_fd());
            (kind::FILE, &[][..])
        };
        let mut rest = descriptors.as_slice();
        while rest.len() > DESCRIPTORS {
            let (now, later) = rest.split_at(DESCRIPTORS);
            self.datagram(kind::MORE, &[], now)?;
            rest = later;
        }
        self.datagram(kind, inline, rest)
    }

    fn datagram(&self, kind: u8, body: &[u8], descriptors: &[RawFd]) -> io::Result<()> {
        let head = [kind];
        let parts = [IoSlice::new(&head), IoSlice::new(body)];
        let rights = [ControlMessage::ScmRights(descriptors)];
        let control = if descriptors.is_empty() { &[][..] } else { &rights[..] };
        loop {
            match sendmsg::<()>(self.0.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None) {
                Ok(_) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Receives the next message with its descriptors; `None` when the other end is closed.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut descriptors = Vec::new();
        for _ in 0..PARTS {
            let mut buffer = vec![0; INLINE + 1];
            let length = self.read_datagram(&mut buffer, &mut descriptors)?;
            let Some((kind, body)) = buffer.get(..length).and_then(<[u8]>::split_first) else {
                return Ok(None);
            };
            let message = match *kind {
                kind::MORE => continue,
                kind::INLINE => postcard::from_bytes(body),
                kind::FILE => {
                    let file = descriptors.pop().ok_or_else(|| malformed("no memory file"))?;
                    postcard::from_bytes(&read_memory_file(file)?)
                }
                _ => return Err(malformed("unknown kind of datagram")),
            };
            return Ok(Some((message.map_err(io::Error::other)?, descriptors)));
        }
        Err(malformed("too many parts"))
    }

    /// How long [`Self::receive`] waits; then it fails with `WouldBlock`.
    pub(crate) fn set_receive_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.unwrap_or(Duration::ZERO);
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        setsockopt(&self.0, sockopt::ReceiveTimeout, &TimeVal::new(seconds, 0))?;
        Ok(())
    }

    /// Makes sending and receiving fail with `WouldBlock` instead of waiting, on this end.
    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        let flags = OFlag::from_bits_truncate(fcntl(&self.0, FcntlArg::F_GETFL)?);
        fcntl(&self.0, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(())
    }

    fn read_datagram(
        &self,
        buffer: &mut [u8],
        descriptors: &mut Vec<OwnedFd>,
    ) -> io::Result<usize> {
        let mut control = nix::cmsg_space!([RawFd; DESCRIPTORS + 1]);
        let mut parts = [IoSliceMut::new(buffer)];
        let message = loop {
            match recvmsg::<()>(
                self.0.as_raw_fd(),
                &mut parts,
                Some(&mut control),
                MsgFlags::MSG_CMSG_CLOEXEC,
            ) {
                // The other end has closed with something unread, which the kernel tells once and before
                // what it had still said (unix(7)).
                Err(nix::errno::Errno::EINTR | nix::errno::Errno::ECONNRESET) => {}
                other => break other?,
            }
        };
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(received) = control {
                descriptors.extend(received.into_iter().map(process::take_descriptor));
            }
        }
        if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
            return Err(malformed("truncated datagram"));
        }
        Ok(message.bytes)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<OwnedFd> for Channel {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

/// A memory file that holds `body`, for [`read_memory_file`].
pub(crate) fn memory_file(body: &[u8]) -> io::Result<OwnedFd> {
    if body.len() as u64 > LARGEST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("message of {} bytes exceeds {LARGEST}", body.len()),
        ));
    }
    let mut file = File::from(memfd_create(c"message", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(body)?;
    Ok(file.into())
}

/// Reads a memory file from its start, up to the largest message. Anything else than a regular file
/// is refused: reading from it could wait for ever.
pub(crate) fn read_memory_file(file: OwnedFd) -> io::Result<Vec<u8>> {
    let mut file = File::from(file);
    if !file.metadata()?.is_file() {
        return Err(malformed("not a memory file"));
    }
    file.rewind()?;
    let mut body = Vec::new();
    file.take(LARGEST).read_to_end(&mut body)?;
    Ok(body)
}

/// Gives a descriptor this number.
fn place(descriptor: OwnedFd, number: RawFd) -> io::Result<()> {
    if descriptor.as_raw_fd() != number {
        process::duplicate_to(&descriptor, number)?;
    }
    // The old numbers belong to objects of the parent's copy that nobody will use again.
    std::mem::forget(descriptor);
    Ok(())
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(size: usize, count: usize) {
        let (left, right) = Channel::pair().unwrap();
        let null = File::open("/dev/null").unwrap();
        let descriptors = vec![null.as_fd(); count];
        let message = vec![7u8; size];
        left.send(&message, &descriptors).unwrap();
        let (received, received_descriptors) = right.receive::<Vec<u8>>().unwrap().unwrap();
        assert_eq!((received, received_descriptors.len()), (message, count));
    }

    #[test]
    fn messages_of_all_sizes_arrive_whole() {
        for (size, count) in [(0, 0), (1, 1), (40_000, 0), (1_000_000, 3), (10, 199), (10, 700)] {
            round_trip(size, count);
        }
    }

    #[test]
    fn the_end_of_the_other_side_is_none() {
        let (left, right) = Channel::pair().unwrap();
        drop(left);
        assert!(right.receive::<u8>().unwrap().is_none());
    }

    /// Such as why an init gives up, with a request before it that it does not come to.
    #[test]
    fn last_words_arrive() {
        let (left, right) = Channel::pair().unwrap();
        left.send(&"why", &[]).unwrap();
        right.send(&"never read", &[]).unwrap();
        drop(left);
        assert_eq!(right.receive::<String>().unwrap().unwrap().0, "why");
        assert!(right.receive::<String>().unwrap().is_none());
    }

    #[test]
    fn malformed_datagrams_are_errors() {
        for bytes in [&b"\x09x"[..], b"\x02", b"\x01"] {
            let (left, right) = Channel::pair().unwrap();
            nix::unistd::write(&left, bytes).unwrap();
            assert!(right.receive::<String>().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn only_a_memory_file_is_read() {
        let (pipe, _writer) = io::pipe().unwrap();
        let counter = nix::sys::eventfd::EventFd::new().unwrap();
        for other in [OwnedFd::from(pipe), OwnedFd::from(counter)] {
            assert!(read_memory_file(other).is_err());
        }
        assert_eq!(read_memory_file(memory_file(b"it").unwrap()).unwrap(), b"it");
    }

    #[test]
    fn a_message_over_the_limit_is_refused() {
        let (left, _right) = Channel::pair().unwrap();
        assert!(left.send(&vec![0u8; 17 * 1024 * 1024], &[]).is_err());
    }
}
