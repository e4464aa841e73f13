//! The way out of an unprivileged user's networks: a program that carries packets between the
//! keeper's network namespace and sockets of the host.
//!
//! pasta (of passt) or slirp4netns, whichever is there. To it, all containers of a run are one host
//! behind the link [`LINK`]. What they may reach is decided before, in the keeper's namespace, by
//! the same packet filter as root's; the program is told to offer nothing by itself: no way to the
//! host's loopback, no names, no ports.

use std::{
    fs::File,
    io::{self, Read as _},
    net::Ipv4Addr,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::{io::AsyncReadExt as _, net::unix::pipe, task::JoinHandle};

use super::{
    keeper::Keeper,
    loss::Loss,
    netlink::{Changes, Place, route},
};
use crate::{
    error::{Doing as _, Error, Result},
    host_program,
    spawner::{Spawned, Spawner},
    sys::process,
};

/// The program's link in the keeper's namespace.
pub(super) const LINK: &str = "up0";
/// Largest packet: what both programs take, so that bulk transfers cost few turns.
pub(super) const MTU: u32 = 65_520;
/// Bits of the program's network.
const PREFIX_LENGTH: u8 = 24;
/// How long a program may take to make its link, in milliseconds; ordinarily 5 to 50.
const PATIENCE: u16 = 15_000;
/// Bytes of a program's message that are passed on.
const MESSAGE: u64 = 4096;

/// A program that can do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// pasta(1)
    Pasta,
    /// slirp4netns(1)
    Slirp4netns,
}

impl Program {
    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pasta => "pasta",
            Self::Slirp4netns => "slirp4netns",
        }
    }

    /// What it does, for people.
    fn carries(self) -> &'static str {
        match self {
            Self::Pasta => "`pasta`, which carries the containers' packets",
            Self::Slirp4netns => "`slirp4netns`, which carries the containers' packets",
        }
    }

    /// The one that this host has.
    pub(crate) fn find() -> Option<(Self, PathBuf)> {
        [Self::Pasta, Self::Slirp4netns]
            .into_iter()
            .find_map(|program| Some((program, host_program::find(program.name())?)))
    }

    /// Its command line for the namespaces of the process `target`, in the network `network`.
    fn command(self, target: i32, network: Ipv4Addr) -> Vec<String> {
        let target = target.to_string();
        let arguments = match self {
            Self::Pasta => format!(
                "--foreground --quiet --ipv4-only --no-map-gw --no-dhcp --no-dhcpv6 --no-ra \
                 --tcp-ports none --udp-ports none --tcp-ns none --udp-ns none \
                 --address {} --netmask {PREFIX_LENGTH} --gateway {} --ns-ifname {LINK} {target}",
                guest(network),
                gateway(network),
            ),
            Self::Slirp4netns => format!(
                "--disable-host-loopback --disable-dns --enable-sandbox --enable-seccomp \
                 --mtu={MTU} --cidr={network}/{PREFIX_LENGTH} {target} {LINK}"
            ),
        };
        let name = std::iter::once(self.name());
        name.chain(arguments.split_whitespace()).map(str::to_owned).collect()
    }
}

/// What slirp4netns calls the gateway, and pasta answers for.
fn gateway(network: Ipv4Addr) -> Ipv4Addr {
    (u32::from(network) + 2).into()
}

/// What slirp4netns expects its one client to be.
fn guest(network: Ipv4Addr) -> Ipv4Addr {
    (u32::from(network) + 100).into()
}

/// A running program, which is ended when this is dropped.
#[derive(Debug)]
pub(super) struct Uplink {
    process: Spawned,
    /// Reads what it says.
    said: Option<JoinHandle<()>>,
}

impl Drop for Uplink {
    fn drop(&mut self) {
        if let Some(said) = self.said.take() {
            said.abort();
        }
        // It may have ended already.
        drop(process::pidfd_send_signal(&self.process.pidfd, libc::SIGKILL));
    }
}

impl Uplink {
    /// Connects the keeper's namespace, which is `place`, within a runtime; `network` is one that nobody else uses
    /// there, and `changes` tells of new links.
    pub(super) fn start(
        spawner: &Spawner,
        keeper: &Keeper,
        (place, changes): (&Place, &Changes),
        network: Ipv4Addr,
        loss: Loss,
    ) -> Result<Self> {
        let doing = "connect a container to the network";
        let Some((program, path)) = Program::find() else {
            let why = "without root this takes a program, `pasta` or `slirp4netns`, and neither is \
                       installed";
            return Err(Error::system(doing, why).remedy(
                "install the package `passt` or `slirp4netns`, run it with `sudo`, or run it \
                 without a network",
            ));
        };
        let (reading, writing) = io::pipe().system(|| doing)?;
        let command = program.command(keeper.pid().as_raw(), network);
        let process = spawner.run(program.carries(), &path, command, writing.as_fd())?;
        let mut uplink = Self { process, said: None };
        drop(writing);
        let reading = File::from(OwnedFd::from(reading));
        let index = uplink.wait_for_link(program, place, changes, &reading)?;
        let set_up = || -> io::Result<()> {
            route::set_mtu(place, index, MTU)?;
            route::add_address(place, index, guest(network), PREFIX_LENGTH)?;
            route::bring_up(place, index)?;
            route::add_default_route(place, index, gateway(network))
        };
        set_up().system(|| format!("set up the link of `{}`", program.name()))?;
        uplink.said.replace(tokio::spawn(listen(program, reading, loss)));
        Ok(uplink)
    }

    /// Returns the link's number.
    fn wait_for_link(
        &self,
        program: Program,
        place: &Place,
        changes: &Changes,
        said: &File,
    ) -> Result<u32> {
        let doing = || format!("connect containers to the network with `{}`", program.name());
        loop {
            match route::link(place, LINK) {
                Ok(link) => return Ok(link.index),
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => return Err(Error::system(doing(), error)),
            }
            let mut waited = [changes.as_fd(), self.process.pidfd.as_fd()]
                .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN));
            let count = poll(&mut waited, PollTimeout::from(PATIENCE)).system(doing)?;
            let [changed, ended] = waited.map(|each| each.any().unwrap_or(false));
            if count == 0 {
                return Err(Error::system(doing(), "it made no link in 15 s"));
            }
            if ended {
                let mut message = String::new();
                said.take(MESSAGE).read_to_string(&mut message).ok();
                let message = match message.trim() {
                    "" => "it ended without a word; the system's log may say why",
                    message => message,
                };
                return Err(Error::system(doing(), message).remedy(
                    "see that this user may open `/dev/net/tun`, and that the host has a default \
                     route",
                ));
            }
            if changed {
                changes.clear().system(doing)?;
            }
        }
    }
}

/// Reads what a program says, so that it neither waits nor ends for want of a reader.
async fn listen(program: Program, said: File, loss: Loss) {
    let Ok(mut said) = pipe::Receiver::from_owned_fd(said.into()) else { return };
    let mut buffer = [0; 1024];
    loop {
        match said.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => {
                let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
                tracing::debug!(program = program.name(), "{}", text.trim());
            }
        }
    }
    loss.report(format!("`{}` has ended, which carries their packets", program.name()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_offer_nothing_by_themselves() {
        let network = Ipv4Addr::new(10, 213, 127, 0);
        for (program, expected) in [
            (
                Program::Pasta,
                "pasta --foreground --quiet --ipv4-only --no-map-gw --no-dhcp --no-dhcpv6 --no-ra \
                 --tcp-ports none --udp-ports none --tcp-ns none --udp-ns none \
                 --address 10.213.127.100 --netmask 24 --gateway 10.213.127.2 --ns-ifname up0 7",
            ),
            (
                Program::Slirp4netns,
                "slirp4netns --disable-host-loopback --disable-dns --enable-sandbox \
                 --enable-seccomp --mtu=65520 --cidr=10.213.127.0/24 7 up0",
            ),
        ] {
            assert_eq!(program.command(7, network).join(" "), expected);
        }
    }
}
