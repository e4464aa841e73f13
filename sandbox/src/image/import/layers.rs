//! Unpacking the layers of one import side by side, each verified while it streams.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use super::{Import, Open, Progress, Receiver, ahead::ahead, write_behind::WriteBehind};
use crate::{
    Result,
    error::Doing as _,
    image::{
        archive::Archive,
        compression::{Compressed, Decompressed},
        digest::{Algorithm, Digest, HashingReader},
        limits::Budget,
        pack::{REPLACED, Recorder},
        problem::Problem,
        source::Blob,
        unpack::{Extracted, Tree, extract},
    },
};

/// What is done when the disk refuses.
pub(super) const WRITING: &str = "write the image's layers to disk";

/// A layer that was unpacked below the scratch directory.
#[derive(Debug)]
pub(in crate::image) struct Unpacked<'a> {
    pub(in crate::image) tree: Tree<'a>,
    pub(in crate::image) path: PathBuf,
    pub(in crate::image) diff_id: Digest,
    pub(in crate::image) bytes: u64,
    pub(in crate::image) extracted: Extracted,
}

impl<'a> Import<'a> {
    /// Unpacks the missing layers on as many threads as there are processors. The first failure
    /// stops the others.
    pub(super) fn unpack_all<'b>(
        &self,
        missing: &[(usize, &Blob, &Digest)],
        budget: &'b Budget<'b>,
        open: Open<'_>,
    ) -> Result<Vec<(usize, Unpacked<'b>)>>
    where
        'a: 'b,
    {
        let next = AtomicUsize::new(0);
        let stopped = AtomicBool::new(false);
        let done = Mutex::new(Vec::new());
        let failure = Mutex::new(None);
        let work = |write_behind: &WriteBehind| {
            while !stopped.load(Ordering::Relaxed)
                && let Some((layer, blob, diff_id)) =
                    missing.get(next.fetch_add(1, Ordering::Relaxed))
            {
                let outcome = open(blob).and_then(|input| {
                    let watched = Watched {
                        input,
                        progress: self.progress,
                        layer: *layer,
                        total: blob.size,
                        stopped: &stopped,
                        write_behind: Some(write_behind),
                    };
                    self.unpack(watched, *layer, diff_id.algorithm(), Some((blob, diff_id)), budget)
                        .map_err(|problem| {
                            let source = &self.source;
                            let layer = blob.name();
                            problem.during(format!("unpack layer `{layer}` of `{source}`"))
                        })
                });
                match outcome {
                    Ok(unpacked) => lock(&done).push((*layer, unpacked)),
                    Err(error) => {
                        // Those that are stopped because of it fail later.
                        stopped.store(true, Ordering::Relaxed);
                        lock(&failure).get_or_insert(error);
                    }
                }
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(missing.len());
        WriteBehind::during(self.scratch.file(), |write_behind| {
            thread::scope(|scope| {
                for _ in 1..threads {
                    scope.spawn(|| work(write_behind));
                }
                work(write_behind);
            });
        })
        .system(|| WRITING)?;
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_unstable_by_key(|(layer, _)| *layer);
        Ok(done)
    }

    /// Unpacks one layer and checks it against everything that was promised of it.
    pub(in crate::image) fn unpack<'b, R: Read + Send>(
        &self,
        source: Watched<'_, R>,
        layer: usize,
        algorithm: Algorithm,
        promised: Option<(&Blob, &Digest)>,
        budget: &'b Budget<'b>,
    ) -> Result<Unpacked<'b>, Problem> {
        let path = self.scratch.path().join(format!("layer-{layer}"));
        let (root, keep) = create(&path).map_err(|error| Problem::write(b"layer", error))?;
        let blob = promised.map(|(blob, _)| blob);
        let blob_algorithm = blob.and_then(|blob| blob.digest.as_ref()).map(Digest::algorithm);
        let hashing = HashingReader::new(source, blob_algorithm.unwrap_or(Algorithm::Sha256));
        let compressed = Compressed::new(hashing)?;
        if let Some(expected) = blob.and_then(|blob| blob.compression)
            && expected != compressed.compression
        {
            return Err(Problem::Mismatch {
                what: "its compression",
                expected: expected.as_str().to_owned(),
                actual: compressed.compression.as_str().to_owned(),
            });
        }
        let plain = HashingReader::new(Decompressed::new(compressed, budget)?, algorithm);
        let recorder = Recorder::create(&path);
        let recorder = recorder.map_err(|error| Problem::write(b"the recipe", error))?;
        let mut tree = Tree::new(root, budget.limits).keeping(keep);
        let (extracted, plain) = ahead(plain, |pieces| {
            let mut archive = Archive::new(pieces, budget.limits).record(recorder);
            let extracted = extract(&mut archive, &mut tree, budget)?;
            // What follows the end of the archive is part of what was promised.
            archive.finish()?;
            Ok(extracted)
        })?;
        let (decompressed, diff_id, bytes) = plain.finish();
        let (_, digest, size) = decompressed.into_source().finish();
        if let Some((blob, expected)) = promised {
            let mismatch = |what, expected: String, actual: String| {
                Err(Problem::Mismatch { what, expected, actual })
            };
            if size != blob.size {
                return mismatch("its size", blob.size.to_string(), size.to_string());
            }
            if let Some(expected) = &blob.digest
                && *expected != digest
            {
                return mismatch("its digest", expected.to_string(), digest.to_string());
            }
            if *expected != diff_id {
                return mismatch("its diff id", expected.to_string(), diff_id.to_string());
            }
        }
        self.tell(Progress::Unpacked { layer })?;
        Ok(Unpacked { tree, path, diff_id, bytes, extracted })
    }
}

/// Makes the directories of a layer's files, and of those that it replaces itself.
fn create(path: &Path) -> io::Result<(OwnedFd, OwnedFd)> {
    let make = |name: &str| {
        let directory = path.join(name);
        fs::create_dir(&directory)?;
        Ok::<OwnedFd, io::Error>(File::open(directory)?.into())
    };
    fs::create_dir(path)?;
    Ok((make("diff")?, make(REPLACED)?))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A source that reports what is read from it, and ends when the import is stopped.
pub(in crate::image) struct Watched<'a, R> {
    pub(in crate::image) input: R,
    pub(in crate::image) progress: Receiver<'a>,
    pub(in crate::image) layer: usize,
    pub(in crate::image) total: u64,
    pub(in crate::image) stopped: &'a AtomicBool,
    /// Told of what was read, where what is unpacked is to be on disk in the end.
    pub(in crate::image) write_behind: Option<&'a WriteBehind>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(Problem::Cancelled.into());
        }
        let read = self.input.read(buffer)?;
        if let Some(write_behind) = self.write_behind {
            write_behind.count(read as u64);
        }
        let event = Progress::Read { layer: self.layer, bytes: read as u64, total: self.total };
        if (self.progress)(event).is_break() {
            return Err(Problem::Cancelled.into());
        }
        Ok(read)
    }
}
