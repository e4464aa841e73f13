//! `cofferdam image`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use cofferdam_sandbox::image::Platform;

/// Arguments of `image`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Image {
    #[command(subcommand)]
    pub(crate) command: ImageCommand,
}

/// What to do with images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Take an image from a registry
    Pull(PullImage),
    /// Take an image from a file or directory
    #[command(after_help = IMPORT_EXAMPLES)]
    Import {
        /// An OCI image layout (directory or tar), a `docker save` archive, or the tar of a root
        /// file system
        path: PathBuf,
        /// What it shall be called, such as debian:12
        name: String,
        /// Print the image as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the images that are here
    #[command(after_help = LS_EXAMPLES)]
    Ls {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Forget images; their layers go with the last image that has them
    #[command(after_help = RM_EXAMPLES)]
    Rm {
        /// Names from `cofferdam image ls`
        #[arg(required = true)]
        name: Vec<String>,
    },
}

/// Arguments of `image pull`.
#[derive(Debug, Args)]
#[command(after_help = PULL_EXAMPLES)]
pub(crate) struct PullImage {
    /// The image, such as debian:12 or registry.example:5000/team/app@sha256:…
    pub(crate) name: String,
    /// What the image is to be for, where there are several [default: this host]
    #[arg(long, value_name = "linux/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,
    /// Print nothing but the image's id
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print the image as JSON
    #[arg(long, conflicts_with = "quiet")]
    pub(crate) json: bool,
}

const PULL_EXAMPLES: &str = "\
Examples:
  cofferdam image pull debian:12
  cofferdam image pull registry.example:5000/team/app@sha256:…
  cofferdam image pull --platform linux/arm64 debian:12

Credentials are those of `docker login` and `podman login`. Proxies are those of HTTPS_PROXY and
NO_PROXY.";

const EXAMPLES: &str = "\
Examples:
  cofferdam image pull debian:12
  cofferdam image import debian.tar debian:12
  cofferdam image ls
  cofferdam image rm debian:12

The image `host`, this machine's /usr, is always there.";

const LS_EXAMPLES: &str = "\
Examples:
  cofferdam image ls
  cofferdam image ls --json";

const RM_EXAMPLES: &str = "\
Examples:
  cofferdam image rm debian:11 debian:12";

const IMPORT_EXAMPLES: &str = "\
Examples:
  skopeo copy docker://debian:12 oci:debian && cofferdam image import debian debian:12
  docker save debian:12 -o debian.tar && cofferdam image import debian.tar debian:12
  mmdebstrap --variant=minbase bookworm root.tar && cofferdam image import root.tar debian:12";
