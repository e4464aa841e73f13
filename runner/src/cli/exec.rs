//! `cofferdam exec`.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::Args;
use cofferdam_jobs::model::quantity;

use crate::{network, scratch::Scratch};

/// Arguments of `exec`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Exec {
    /// The image: a name from `cofferdam image ls`, or `host`
    pub(crate) image: String,

    /// The command and its arguments; without one, the image's own
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,

    /// Set a variable; NAME alone takes the value from this environment
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,

    /// Set the variables of a file with lines NAME=VALUE
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,

    /// Hand over a variable of this environment, masked in everything that comes out
    #[arg(long, value_name = "NAME")]
    pub(crate) secret: Vec<String>,

    /// Show a part of this host inside
    #[arg(long, value_name = "SRC:DST[:ro]")]
    pub(crate) mount: Vec<MountArgument>,

    /// Show a directory at /workspace; what is changed there is thrown away
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,

    /// What can be reached: `none`, `full`, the destinations that are listed, or `learn`, which
    /// is `full` and prints the list that would have been enough
    #[arg(long, value_name = "none|full|learn|HOST:PORT,…", default_value = "none")]
    pub(crate) network: network::Argument,

    /// Bring files out afterwards; relative to the working directory
    #[arg(long, value_name = "GLOB")]
    pub(crate) artifact: Vec<String>,

    /// Where artifacts go
    #[arg(long, value_name = "DIR", default_value = "cofferdam-out")]
    pub(crate) out: PathBuf,

    /// Run as this user of the image
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,

    /// Start here [default: the image's, or /workspace]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,

    /// Host name inside
    #[arg(long, value_name = "NAME", default_value = "sandbox")]
    pub(crate) hostname: String,

    /// Give the command this terminal
    #[arg(short, long)]
    pub(crate) tty: bool,

    /// Pass standard input on
    #[arg(short, long)]
    pub(crate) interactive: bool,

    /// Write the outcome as JSON to a file, or to an open descriptor by number
    #[arg(long, value_name = "FILE|FD")]
    pub(crate) json: Option<String>,

    // Last, because the heading holds for every argument after it.
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
}

const EXAMPLES: &str = "\
Examples:
  cofferdam exec host -- sh -c 'echo hello'
  cofferdam exec debian:12 --workspace . --memory 1GiB --timeout 5m -- make test
  cofferdam exec debian:12 --workspace . --artifact 'dist/*' --out out -- make dist
  cofferdam exec debian:12 --network deb.debian.org:80 -- apt-get update
  TOKEN=… cofferdam exec host --secret TOKEN -- ./deploy --dry-run
  cofferdam exec debian:12 --tty -- bash

Exit status: the command's own; 124 timed out, 125 the container could not be put up,
126 the command cannot be executed, 127 there is no such command, 128+N killed by signal N.";

/// Limits of one container.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArguments {
    /// Processors, such as 1.5
    #[arg(long, value_name = "N", value_parser = quantity::millicpus)]
    pub(crate) cpus: Option<u64>,
    /// Memory, such as 512MiB
    #[arg(short, long, value_name = "SIZE", value_parser = quantity::size)]
    pub(crate) memory: Option<u64>,
    /// Processes and threads
    #[arg(long, value_name = "N", value_parser = quantity::count)]
    pub(crate) pids: Option<u64>,
    /// Bytes in everything writable
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    pub(crate) disk: Option<u64>,
    /// Files in everything writable
    #[arg(long, value_name = "N", value_parser = quantity::count)]
    pub(crate) inodes: Option<u64>,
    /// Bytes of /dev/shm, part of its memory
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    pub(crate) shm: Option<u64>,
    /// Bytes per second from each disk, such as 50MiB/s
    #[arg(long, value_name = "RATE", value_parser = quantity::byte_rate)]
    pub(crate) io_read: Option<u64>,
    /// Bytes per second to each disk
    #[arg(long, value_name = "RATE", value_parser = quantity::byte_rate)]
    pub(crate) io_write: Option<u64>,
    /// Where what it writes is kept [default: the configuration's, or auto]
    #[arg(long, value_enum, value_name = "WHERE")]
    pub(crate) scratch: Option<Scratch>,
    /// Open files per process
    #[arg(long, value_name = "N", value_parser = quantity::open_files)]
    pub(crate) nofile: Option<u64>,
    /// Wall time, such as 90s or 15m
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    pub(crate) timeout: Option<Duration>,
    /// What a `--network HOST:PORT,…` may carry each way, such as 20Mbit
    #[arg(long, value_name = "RATE", value_parser = quantity::bit_rate)]
    pub(crate) bandwidth: Option<u64>,
    /// Output that is passed on
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    pub(crate) log_limit: Option<u64>,
}

/// `SRC:DST[:ro]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountArgument {
    /// Path on the host.
    pub(crate) source: PathBuf,
    /// Absolute path inside.
    pub(crate) target: String,
    /// Whether it cannot be changed from inside.
    pub(crate) read_only: bool,
}

impl FromStr for MountArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, read_only) = match parts.as_slice() {
            [source, target] | [source, target, "rw"] => (source, target, false),
            [source, target, "ro"] => (source, target, true),
            [_, _, mode] => return Err(format!("`{mode}` is neither `ro` nor `rw`")),
            _ => return Err("expected SRC:DST or SRC:DST:ro".to_owned()),
        };
        if source.is_empty() {
            return Err("the part before the first `:` is the path on this host".to_owned());
        }
        let components: Vec<&str> = target.split('/').filter(|part| !part.is_empty()).collect();
        if !target.starts_with('/') || components.is_empty() || components.contains(&"..") {
            return Err(format!("`{target}` is not an absolute path below `/`"));
        }
        if matches!(components.first(), Some(&"proc" | &"sys" | &"dev")) {
            return Err(format!("nothing can be mounted on `{target}`"));
        }
        Ok(Self { source: source.into(), target: (*target).to_owned(), read_only })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_or_refused_with_a_reason() {
        let mount = |source: &str, target: &str, read_only| {
            Ok(MountArgument { source: source.into(), target: target.to_owned(), read_only })
        };
        let check = |text: &str, expected: Result<MountArgument, &str>| {
            assert_eq!(text.parse(), expected.map_err(str::to_owned), "{text}");
        };
        check("/a:/b", mount("/a", "/b", false));
        check("a:/b:ro", mount("a", "/b", true));
        check("a:/b:rw", mount("a", "/b", false));
        check("/a:/b:rx", Err("`rx` is neither `ro` nor `rw`"));
        check("/a", Err("expected SRC:DST or SRC:DST:ro"));
        check(":/b", Err("the part before the first `:` is the path on this host"));
        for target in ["b", "/", "/b/../c", ""] {
            let expected = format!("`{target}` is not an absolute path below `/`");
            check(&format!("/a:{target}"), Err(&expected));
        }
        check("/a:/proc/self", Err("nothing can be mounted on `/proc/self`"));
        check("/a://dev", Err("nothing can be mounted on `//dev`"));
    }
}
