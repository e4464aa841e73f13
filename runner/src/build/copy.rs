//! Puts files into an image.

use cofferdam_sandbox::{
    Error,
    image::{CopyFrom, Copying, LayerDir},
};

use super::{Io, Put, Source, Stage};

impl Stage {
    /// The layer of the files; [`None`] where it was stopped.
    pub(super) async fn put(
        &self,
        put: &Put,
        io: &mut Io,
    ) -> Result<Option<Option<LayerDir>>, Error> {
        let owner = match &put.owner {
            Some(owner) => Some(self.image()?.ids_of(owner)?),
            None => None,
        };
        let put = put.clone();
        let made = self.blocking(&mut io.stop, move |store, below, how| {
            put.with_ids(owner, |copying| store.copy_in(copying, below, how))
        });
        made.await
    }
}

impl Put {
    /// The directory `path`, made where it is missing.
    pub(super) fn directory(path: &str) -> Self {
        let from = Source::Files(Vec::new());
        let (paths, to) = (Vec::new(), path.to_owned());
        Self { from, paths, to, owner: None, mode: None, alone: false }
    }

    /// Does something with what is copied, whose owner's ids are known.
    pub(super) fn with_ids<T>(
        &self,
        owner: Option<(u32, u32)>,
        act: impl FnOnce(Copying<'_>) -> T,
    ) -> T {
        let from = match &self.from {
            Source::Directory(root, selects) => CopyFrom::Directory(root, selects.as_ref()),
            Source::Image(image) => CopyFrom::Image(image),
            Source::Files(files) => CopyFrom::Files(files),
            Source::Link(target) => CopyFrom::Link(target),
        };
        let (paths, to) = (self.paths.as_slice(), self.to.as_str());
        let mode = self
            .mode
            .as_ref()
            .map(|change| move |mode: u32, is_directory: bool| change.apply(mode, is_directory));
        let mode = mode.as_ref().map(|mode| mode as &(dyn Fn(u32, bool) -> u32 + Sync));
        act(Copying { from, paths, to, owner, mode, alone: self.alone })
    }
}
