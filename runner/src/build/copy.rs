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
            let from = match &put.from {
                Source::Directory(root, selects) => CopyFrom::Directory(root, selects.as_ref()),
                Source::Image(image) => CopyFrom::Image(image),
                Source::Files(files) => CopyFrom::Files(files),
            };
            let (paths, to) = (put.paths.as_slice(), put.to.as_str());
            let mode = put.mode.as_ref().map(|change| {
                move |mode: u32, is_directory: bool| change.apply(mode, is_directory)
            });
            let mode = mode.as_ref().map(|mode| mode as &(dyn Fn(u32, bool) -> u32 + Sync));
            let copying = Copying { from, paths, to, owner, mode, alone: put.alone };
            store.copy_in(copying, below, how)
        });
        made.await
    }
}
