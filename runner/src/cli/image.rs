//! `cofferdam image`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use cofferdam_jobs::model::quantity;
use cofferdam_sandbox::image::{Packing, Platform};

use super::BuildImage;

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
    /// Make an image from a Dockerfile
    Build(Box<BuildImage>),
    /// Give an image to a registry
    Push(PushImage),
    /// Take an image from a file or directory
    #[command(after_help = IMPORT_EXAMPLES)]
    Import {
        /// An OCI image layout (directory or tar), a `docker save` archive, or the tar of a root
        /// file system
        path: PathBuf,
        /// Its name from now on, such as debian:12
        name: String,
        /// Print the image as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write an image to a file or directory
    Export(ExportImage),
    /// List the images that are here
    #[command(after_help = LS_EXAMPLES)]
    Ls {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what an image is: how it starts its processes, its layers
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect {
        /// The image's name, id or manifest digest
        name: String,
        /// Print it as JSON, with the whole configuration
        #[arg(long)]
        json: bool,
    },
    /// Show how an image was made, the last step first
    #[command(after_help = HISTORY_EXAMPLES)]
    History {
        /// The image's name, id or manifest digest
        name: String,
        /// Print the steps as JSON, the first one first
        #[arg(long)]
        json: bool,
    },
    /// Make an image of what a job of a run has written
    Commit(CommitImage),
    /// Show the files in which two images differ; ends with 1 when there are any
    #[command(after_help = DIFF_EXAMPLES)]
    Diff {
        /// The first image; RUN/JOB or RUN/JOB@STEP is what a run has kept
        before: String,
        /// The second one [default: what that job started from]
        after: Option<String>,
        /// Print each difference as a line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Give an image one more name
    #[command(after_help = TAG_EXAMPLES)]
    Tag {
        /// The image
        name: String,
        /// The other name; what it stood for before is let go
        new: String,
        /// Print the new name and the image's id as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write an image's files to a directory
    #[command(after_help = UNPACK_EXAMPLES)]
    Unpack {
        /// The image
        name: String,
        /// An empty or new directory
        directory: PathBuf,
        /// Print what was written as JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove what no name leads to, and images that were not used for long
    #[command(after_help = GC_EXAMPLES)]
    Gc {
        /// Bytes that may stay [default: of the configuration, or 50GiB with a tenth of the disk
        /// free]
        #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
        keep: Option<u64>,
        /// Only show what would go
        #[arg(long)]
        dry_run: bool,
        /// Print what went as JSON
        #[arg(long)]
        json: bool,
    },
    /// Forget images; their layers go with the last image that has them
    #[command(after_help = RM_EXAMPLES)]
    Rm {
        /// Names from `cofferdam image ls`
        #[arg(required = true)]
        name: Vec<String>,
        /// Print what went with each as a line of JSON
        #[arg(long)]
        json: bool,
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

/// Arguments of `image commit`.
#[derive(Debug, Args)]
#[command(after_help = COMMIT_EXAMPLES)]
pub(crate) struct CommitImage {
    /// A run's id or directory, or `last`; it was run with --keep-state
    pub(crate) run: String,
    /// The job as it ended, or JOB@STEP as it was after a step: its id, name or number
    pub(crate) job: String,
    /// What the image shall be called, such as app:1; what that stood for before is let go
    pub(crate) name: String,
    /// Print the image as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `image push`.
#[derive(Debug, Args)]
#[command(after_help = PUSH_EXAMPLES)]
pub(crate) struct PushImage {
    /// A name from `cofferdam image ls`
    pub(crate) name: String,
    /// Its name there, with the registry [default: the same]
    pub(crate) target: Option<String>,
    /// How layers are compressed that the registry does not have
    #[arg(long, value_enum, default_value_t = LayerCompression::Gzip, value_name = "HOW")]
    pub(crate) compression: LayerCompression,
    /// Print nothing but the digest of the manifest
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print name and digest as JSON
    #[arg(long, conflicts_with = "quiet")]
    pub(crate) json: bool,
}

/// Arguments of `image export`.
#[derive(Debug, Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub(crate) struct ExportImage {
    /// A name from `cofferdam image ls`
    pub(crate) name: String,
    /// Where to; nothing may be there
    pub(crate) path: PathBuf,
    /// In which form [default: oci-archive for a path that ends in .tar, oci otherwise]
    #[arg(long, value_enum, value_name = "FORM")]
    pub(crate) format: Option<ExportFormat>,
    /// How layers are compressed; those of a docker-archive are not
    #[arg(long, value_enum, default_value_t = LayerCompression::Gzip, value_name = "HOW")]
    pub(crate) compression: LayerCompression,
    /// Print name, path and digest as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// A directory with an OCI image layout
    Oci,
    /// A tar archive of one
    OciArchive,
    /// What `docker save` writes
    DockerArchive,
}

/// How layers are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LayerCompression {
    /// For every tool
    Gzip,
    /// Smaller and faster, for newer tools
    Zstd,
    /// Not at all
    None,
}

impl From<LayerCompression> for Packing {
    fn from(compression: LayerCompression) -> Self {
        match compression {
            LayerCompression::Gzip => Self::Gzip,
            LayerCompression::Zstd => Self::Zstd,
            LayerCompression::None => Self::Plain,
        }
    }
}

const COMMIT_EXAMPLES: &str = "\
The image has what the job wrote over its own image, and starts containers as that does. What the
job was shown is not in it: the workspace, caches, artifacts of other jobs.

Examples:
  cofferdam run --keep-state && cofferdam image commit last build app:1
  cofferdam run --keep-state=steps && cofferdam image commit last build@compile app:compiled
  cofferdam exec app:1 --tty -- sh";

const PUSH_EXAMPLES: &str = "\
Examples:
  cofferdam image push registry.example/team/app:1
  cofferdam image push debian:12 registry.example/mirror/debian:12

Layers that the registry has are not sent. The same image gives the same digest each time.";

const EXPORT_EXAMPLES: &str = "\
Examples:
  cofferdam image export debian:12 debian && skopeo inspect oci:debian
  cofferdam image export debian:12 debian.tar --format docker-archive && docker load -i debian.tar";

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

const INSPECT_EXAMPLES: &str = "\
Examples:
  cofferdam image inspect debian:12
  cofferdam image inspect debian:12 --json | jq .configuration.config.Env";

const HISTORY_EXAMPLES: &str = "\
Examples:
  cofferdam image history debian:12";

const DIFF_EXAMPLES: &str = "\
A: added, C: changed (type, content, permissions or owner), D: deleted.

Examples:
  cofferdam image diff last/build                what the job has changed
  cofferdam image diff last/build@2 last/build   what it has changed after its second step
  cofferdam image diff app:v1 app:v2
  cofferdam image diff app:v1 app:v2 --json | jq -r 'select(.after > 1000000).path'";

const TAG_EXAMPLES: &str = "\
Examples:
  cofferdam image tag debian:12 registry.example:5000/team/base:12
  cofferdam image tag app@sha256:… app:good";

const UNPACK_EXAMPLES: &str = "\
Owners are kept for root, and are the caller otherwise.

Examples:
  cofferdam image unpack debian:12 ./rootfs";

const GC_EXAMPLES: &str = "\
Images that came from a registry go when they were not used for longest, and so do kept build steps
and states of jobs; those that came from a file go only by `cofferdam image rm`. What runs keeps its layers. The same happens by itself
whenever something is pulled or imported.

Examples:
  cofferdam image gc
  cofferdam image gc --keep 10GiB --dry-run";

const RM_EXAMPLES: &str = "\
Examples:
  cofferdam image rm debian:11 debian:12";

const IMPORT_EXAMPLES: &str = "\
Examples:
  skopeo copy docker://debian:12 oci:debian && cofferdam image import debian debian:12
  docker save debian:12 -o debian.tar && cofferdam image import debian.tar debian:12
  mmdebstrap --variant=minbase bookworm root.tar && cofferdam image import root.tar debian:12";
