//! From an archive that is being written to a layer in the store.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::atomic::AtomicBool,
    thread,
};

use nix::fcntl::{OFlag, openat};

use super::{place::place, upper::Upper};
use crate::{
    Error, Result,
    container::State,
    error::Doing as _,
    image::{
        archive::Writer,
        digest::{Algorithm, Digest},
        import::{Import, Watched, chain_ids},
        limits::{Budget, ImportLimits},
        problem::Problem,
        store::{LayerDir, LayerKey, Scratch, Store},
    },
};

/// How layers are made.
#[derive(Clone, Copy, Debug)]
pub struct Sealing<'a> {
    /// No file of the layer is younger than this, in seconds since 1970.
    pub moment: u64,
    /// What it may take.
    pub limits: &'a ImportLimits,
    /// Set to give it up.
    pub stopped: &'a AtomicBool,
}

/// What a container was shown beside its image, and what of that is no part of its layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aside<'a> {
    /// Layers over those of the image.
    pub shown: &'a [LayerDir],
    /// Absolute paths of which nothing becomes part of the layer.
    pub paths: &'a [String],
}

/// What is being done, for messages.
const SEAL: &str = "make a layer of what a step has written";

impl Store {
    /// Makes a layer of what a container has written to its root, to lie over the layers `below`,
    /// which are those of its image; [`None`] where it changed nothing.
    ///
    /// # Errors
    /// With [`crate::Fault::Pipeline`] where what it has written is too much or cannot be part of
    /// a layer; the store is then as it was.
    pub fn seal(
        &self,
        state: &State,
        below: &[LayerDir],
        how: Sealing<'_>,
    ) -> Result<Option<LayerDir>> {
        self.seal_around(state, below, Aside::default(), how)
    }

    /// As [`Self::seal`], of a container that was shown more than its image has.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub fn seal_around(
        &self,
        state: &State,
        below: &[LayerDir],
        aside: Aside<'_>,
        how: Sealing<'_>,
    ) -> Result<Option<LayerDir>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = openat(state.mount(), "root", flags, nix::sys::stat::Mode::empty());
        let root = root.system(|| SEAL)?;
        self.seal_upper(root, below, aside, how)
    }

    pub(in crate::image) fn seal_upper(
        &self,
        root: OwnedFd,
        below: &[LayerDir],
        aside: Aside<'_>,
        how: Sealing<'_>,
    ) -> Result<Option<LayerDir>> {
        let all = below.iter().chain(aside.shown);
        let roots: Vec<BorrowedFd<'_>> = all.rev().map(LayerDir::as_fd).collect();
        let places: Result<Vec<_>, Problem> = aside
            .paths
            .iter()
            .map(|path| Ok(place(&roots, path.as_bytes(), how.limits)?.path))
            .collect();
        let places = places.map_err(|problem| problem.during(SEAL))?;
        let upper = Upper::new(&roots, how.limits).without(places);
        self.make_layer(below, how, SEAL, move |to| upper.write(root, to))
    }

    /// Takes the archive that `write` writes into the store; [`None`] where it has no entry.
    pub(super) fn make_layer(
        &self,
        below: &[LayerDir],
        how: Sealing<'_>,
        doing: &str,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), Problem> + Send,
    ) -> Result<Option<LayerDir>> {
        let scratch = Scratch::new(self)?;
        let Sealing { moment, limits, stopped } = how;
        let progress = &|_| std::ops::ControlFlow::Continue(());
        let import = Import::of_layer(self, &scratch, limits, progress);
        let budget = Budget::new(limits);
        let (reader, writer) = io::pipe().system(|| doing)?;
        let (written, unpacked) = thread::scope(|scope| {
            let writing = scope.spawn(move || {
                let mut output = BufWriter::with_capacity(64 * 1024, writer);
                let mut archive = Writer::new(&mut output, moment, limits);
                write(&mut archive)?;
                archive.finish()?;
                output.flush().map_err(Problem::Read)
            });
            let source = Watched {
                input: File::from(OwnedFd::from(reader)),
                progress,
                layer: 0,
                total: 0,
                stopped,
                write_behind: None,
            };
            let unpacked = import.unpack(source, 0, Algorithm::Sha256, None, &budget);
            let lost = || Err(Problem::Read(io::Error::other("the writing thread has panicked")));
            (writing.join().unwrap_or_else(|_| lost()), unpacked)
        });
        let unpacked = match (written, unpacked) {
            // Whoever reads has given up, and says why.
            (Err(Problem::Read(error)), Err(problem))
                if error.kind() == io::ErrorKind::BrokenPipe =>
            {
                Err(problem)
            }
            (Err(problem), _) => Err(problem),
            (Ok(()), unpacked) => unpacked,
        };
        let unpacked = unpacked.map_err(|problem| problem.during(doing))?;
        if unpacked.extracted.entries == 0 {
            return Ok(None);
        }
        let diff_id = unpacked.diff_id.clone();
        if let Some(layer) = self.lease(&LayerKey::Diff(diff_id.clone()), &diff_id)? {
            return Ok(Some(layer));
        }
        let mut present: Vec<Option<LayerDir>> = Vec::with_capacity(below.len() + 1);
        for layer in below {
            present.push(Some(layer.again()?));
        }
        let mut diff_ids: Vec<Digest> = below.iter().map(|layer| layer.diff_id.clone()).collect();
        let number = present.len();
        present.push(None);
        diff_ids.push(diff_id);
        let chain = chain_ids(&diff_ids);
        let mut layers = import.publish(present, vec![(number, unpacked)], &chain, &budget)?;
        layers.pop().map(Some).ok_or_else(|| Error::system(doing, "the layer was lost"))
    }
}
