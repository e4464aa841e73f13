//! `cofferdam image build`.

use std::path::PathBuf;

use clap::Args;

use super::{LimitArguments, Pull};
use crate::network;

/// Arguments of `image build`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BuildImage {
    /// The directory whose files `COPY` takes
    pub(crate) context: PathBuf,

    /// The Dockerfile [default: the context's Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// Name the image; can be repeated
    #[arg(short, long, value_name = "NAME")]
    pub(crate) tag: Vec<String>,

    /// Build this stage [default: the last one]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,

    /// The value of an `ARG`; NAME alone takes it from this environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<String>,

    /// A secret that `RUN --mount=type=secret` can ask for, from a file or a variable; id alone is
    /// the variable of that name
    #[arg(long, value_name = "id=NAME[,src=FILE|,env=VARIABLE]")]
    pub(crate) secret: Vec<String>,

    /// Run every step, also where it was done before
    #[arg(long)]
    pub(crate) no_cache: bool,

    /// When the images that stages start from are pulled
    #[arg(long, value_enum, default_value_t = Pull::Missing, value_name = "WHEN")]
    pub(crate) pull: Pull,

    /// What `RUN` can reach: `none`, `full`, or the destinations that are listed
    #[arg(long, value_name = "none|full|HOST:PORT,…", default_value = "none")]
    pub(crate) network: network::Argument,

    /// Print nothing but the image's id
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print the image as JSON
    #[arg(long, conflicts_with = "quiet")]
    pub(crate) json: bool,

    // Last, because the heading holds for every argument after it.
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
}

const EXAMPLES: &str = "\
Examples:
  cofferdam image build -t app:1 .
  cofferdam image build -t app:1 --network deb.debian.org:80 .
  cofferdam image build -f ci.Dockerfile --target test --build-arg VERSION=1.2 .
  cofferdam image build -t app:1 --secret id=npmrc,src=$HOME/.npmrc --secret id=TOKEN .
  cofferdam image build -t app:1 --memory 4GiB --cpus 4 --timeout 1h .

Steps run in containers like jobs do: without privileges, within limits, and without a network unless
`--network` gives them one. What a step came to is kept and not done again while nothing that it
depends on has changed. docs/images.md has what is supported of Dockerfiles, and what differs.";
