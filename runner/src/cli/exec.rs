//! `cofferdam exec`.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use cofferdam_jobs::model::quantity;

use super::{MountArgument, Pull};
use crate::{network, scratch::Scratch};

/// Arguments of `exec`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Exec {
    /// The image: a name such as debian:12, or `host`
    pub(crate) image: String,

    /// When the image is pulled from its registry
    #[arg(long, value_enum, default_value_t = Pull::Missing, value_name = "WHEN")]
    pub(crate) pull: Pull,

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

Exit status: the command's own; 124 timed out, 125 the container could not be put up, or
the host ended it; 126 the command cannot be executed, 127 there is no such command, 128+N killed
by signal N.";

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
