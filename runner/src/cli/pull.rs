//! When images are pulled, for `exec` and `run` alike.

use clap::ValueEnum;
use cofferdam_jobs::model::PullPolicy;

/// When an image is pulled from its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pull {
    /// When it is not here
    Missing,
    /// Every time
    Always,
    /// Never: it has to be here
    Never,
}

impl From<Pull> for PullPolicy {
    fn from(pull: Pull) -> Self {
        match pull {
            Pull::Missing => Self::Missing,
            Pull::Always => Self::Always,
            Pull::Never => Self::Never,
        }
    }
}
