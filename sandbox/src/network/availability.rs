//! Whether this host can give containers a way out, found out without changing anything.

use std::{fs, io, os::fd::AsFd as _, thread};

use nix::sched::{CloneFlags, unshare};

use super::{
    CONTAINER_LINK, LINK_PREFIX, forwarding,
    netlink::{Place, route},
    table,
    uplink::Program,
};
use crate::ids::is_root;

/// Why not, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unavailable {
    pub(crate) why: String,
    pub(crate) remedy: &'static str,
}

/// How this user's containers get a way out, in words.
pub(crate) fn of_host() -> Result<String, Unavailable> {
    if is_root() { of_root() } else { of_user() }
}

fn of_root() -> Result<String, Unavailable> {
    let unavailable = |why: String| Unavailable {
        why,
        remedy: "use a kernel with virtual Ethernet (CONFIG_VETH), nftables (CONFIG_NF_TABLES with \
                 inet, nat, fib, reject and connection limits) and CONFIG_NET_SCH_TBF",
    };
    // In a namespace that ends with its thread.
    let tried = thread::spawn(try_kernel).join();
    tried
        .map_err(|_| unavailable("a bug".to_owned()))?
        .map_err(|(what, error)| unavailable(format!("{what}: {error}")))?;
    let forwarding = match forwarding::is_on() {
        Ok(true) => "packets are passed on already",
        _ => "packets are passed on while a run needs it",
    };
    Ok(format!("virtual links, nftables and rate limits; {forwarding}"))
}

type Tried = Result<(), (&'static str, io::Error)>;

fn try_kernel() -> Tried {
    let place = Place::Here;
    let link = format!("{LINK_PREFIX}probe");
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| ("network namespaces", error.into()))?;
    table::make(&place, "probe", true).map_err(|error| ("nftables", error))?;
    let namespace = fs::File::open("/proc/thread-self/ns/net").map_err(|error| ("/proc", error))?;
    let pair = route::make_pair(&place, &link, CONTAINER_LINK, namespace.as_fd(), 1500);
    pair.map_err(|error| ("virtual links", error))?;
    let limit = route::link(&place, &link)
        .and_then(|link| route::limit_rate(&place, link.index, 1_000_000));
    limit.map_err(|error| ("rate limits", error))
}

fn of_user() -> Result<String, Unavailable> {
    let Some((program, path)) = Program::find() else {
        return Err(Unavailable {
            why: "neither `pasta` nor `slirp4netns` is installed".to_owned(),
            remedy: "install the package `passt` or `slirp4netns`",
        });
    };
    match fs::File::options().read(true).write(true).open(TUN) {
        Ok(_) => Ok(format!("by `{}`, {}", program.name(), path.display())),
        Err(error) => Err(Unavailable {
            why: format!("`{TUN}` cannot be opened, which `{}` needs: {error}", program.name()),
            remedy: "have root run `modprobe tun` and `chmod 666 /dev/net/tun`, as udev does",
        }),
    }
}

const TUN: &str = "/dev/net/tun";
