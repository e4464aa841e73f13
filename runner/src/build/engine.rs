//! What all builds of a process share.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use cofferdam_sandbox::{
    Error, Sandbox, ScratchKind,
    image::{Base, Image, Store},
};

use super::{BuildCaches, Configuration, Stage};

/// When images are made whose base does not say when that was made: old enough for any clock, and
/// young enough for archives that know nothing before (ZIP's time begins in 1980).
const MOMENT: u64 = 315_532_800;

/// Makes images. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    pub(super) sandbox: Sandbox,
    /// The state directory.
    pub(super) state: PathBuf,
    /// Where steps keep what they write.
    pub(super) scratch: ScratchKind,
    /// Whether steps run although they were done before.
    pub(super) afresh: bool,
    /// What mounts of the type `cache` keep; without, they begin empty.
    pub(super) caches: Option<BuildCaches>,
}

impl Engine {
    /// One that keeps layers in the store below `state`.
    pub(crate) fn new(sandbox: Sandbox, state: PathBuf, scratch: ScratchKind) -> Self {
        Self { sandbox, state, scratch, afresh: false, caches: None }
    }

    /// One that runs every step, and keeps what it comes to in place of what was kept.
    #[must_use]
    pub(crate) fn afresh(mut self, afresh: bool) -> Self {
        self.afresh = afresh;
        self
    }

    /// One whose programs find their caches as earlier ones left them.
    #[must_use]
    pub(crate) fn with_caches(mut self, caches: BuildCaches) -> Self {
        self.caches = Some(caches);
        self
    }

    /// The state directory.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// Begins a stage on an image; `name` is what messages and the history call what it makes.
    pub(crate) fn begin(&self, name: &str, image: &Arc<Image>) -> Result<Stage, Error> {
        let store = Store::open(&self.state)?;
        let base = store.base(image)?;
        self.stage(name, base)
    }

    /// Begins a stage without any file.
    pub(crate) fn begin_empty(&self, name: &str) -> Result<Stage, Error> {
        let base = Store::open(&self.state)?.empty_base();
        self.stage(name, base)
    }

    fn stage(&self, name: &str, base: Base) -> Result<Stage, Error> {
        let moment = moment(base.image());
        let configuration = Configuration::new(&base.document, base.layers());
        let configuration = configuration.map_err(|error| {
            Error::pipeline(format!("read the configuration of what `{name}` is made from"), error)
        })?;
        Ok(Stage::new(self.clone(), name.to_owned(), base, configuration, moment))
    }
}

/// When images are made that are made from this one, in seconds since 1970.
pub(super) fn moment(image: &Image) -> u64 {
    image.config.created.as_deref().and_then(seconds).unwrap_or(MOMENT)
}

/// Seconds since 1970 of an RFC 3339 time; [`None`] where it is none, is before 1980, or is not yet.
fn seconds(time: &str) -> Option<u64> {
    let seconds = u64::try_from(time.parse::<jiff::Timestamp>().ok()?.as_second()).ok()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    (MOMENT..=now).contains(&seconds).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_says_when_it_was_made() {
        for (time, expect) in [
            ("2020-01-02T03:04:05Z", Some(1_577_934_245)),
            ("2020-01-02T03:04:05.999999999Z", Some(1_577_934_245)),
            ("1970-01-01T00:00:00Z", None),
            ("9000-01-01T00:00:00Z", None),
            ("yesterday", None),
        ] {
            assert_eq!(seconds(time), expect, "{time}");
        }
    }
}
