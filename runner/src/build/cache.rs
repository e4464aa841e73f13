//! Directories that programs of a build find as the last build left them.
//!
//! A cache is shown as a layer and kept as a copy, like those of jobs: a program has one of its own,
//! whatever others do at the same time, and what it did to it counts once it has passed. So a cache
//! is never half written. What it holds is a build's doing: it is no part of any key, nothing of it
//! gets into a layer by itself, and nobody else's builds ever see it.

use std::{
    fs,
    io::{self, Write as _},
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::Path,
    sync::Arc,
};

use cofferdam_jobs::dockerfile::ModeChange;
use cofferdam_sandbox::{
    Container, Error, Layer,
    cache::{Caches, Entry, Saved},
    image::{Digest, LayerDir, StepLock, Store},
};

use super::{Io, Put, Run, Stage};

/// The caches of builds, and whose they are.
#[derive(Clone, Debug)]
pub(crate) struct BuildCaches {
    caches: Caches,
    scope: String,
}

/// A cache that a program sees.
#[derive(Clone, Debug)]
pub(crate) struct CacheUse {
    /// Its name.
    pub(crate) id: String,
    /// The directory where it is seen, and what a new one is like.
    pub(crate) put: Put,
    /// Whether who has it keeps all others waiting.
    pub(crate) locked: bool,
    /// Whether what the program does to it is thrown away.
    pub(crate) read_only: bool,
}

/// What a program is shown of its caches, held for as long as it runs.
#[derive(Debug, Default)]
pub(super) struct ShownCaches {
    pub(super) layers: Vec<Layer>,
    entries: Vec<Entry>,
    directories: Vec<LayerDir>,
    locks: Vec<StepLock>,
}

impl BuildCaches {
    /// Those of `scope`, which no cache of a job has.
    pub(crate) fn new(caches: Caches, scope: &str) -> Self {
        Self { caches, scope: format!("{scope}\nbuild") }
    }

    fn find(&self, cache: &CacheUse) -> Result<Option<Entry>, Error> {
        let found = self.caches.find(&self.scope, &cache.name(), &[cache.name()])?;
        Ok(found.map(|found| found.entry))
    }

    /// Removes what was kept before, now that the program does not see it any more.
    pub(super) fn tidy(&self, used: &[CacheUse]) -> Result<(), Error> {
        used.iter().try_for_each(|cache| self.caches.keep_youngest(&self.scope, &cache.name()))
    }

    /// Keeps what a program that has passed left of its caches. Where that cannot be done, it is said,
    /// and the next build finds what was there before.
    pub(super) async fn keep(
        self,
        used: Vec<CacheUse>,
        container: Arc<Container>,
        said: Option<OwnedFd>,
    ) {
        let kept = tokio::task::spawn_blocking(move || {
            let mut said = said.map(fs::File::from);
            for cache in used.iter().filter(|cache| !cache.read_only) {
                let path = Path::new(&cache.put.to);
                let kept = self.caches.save_next(&self.scope, &cache.name(), &container, path);
                let why = match kept {
                    Ok(Saved::Kept(_) | Saved::Exists) => continue,
                    Ok(Saved::Nothing) => "it is not there any more".to_owned(),
                    Err(error) => error.in_full(),
                };
                let note = format!("the cache `{}` is not kept: {why}\n", cache.id);
                // Who reads it may have gone.
                drop(said.as_mut().map(|file| file.write_all(note.as_bytes())));
            }
        });
        // It says itself what went wrong.
        drop(kept.await);
    }
}

impl CacheUse {
    /// What all of its states are called; the same name elsewhere in the image is another cache.
    fn name(&self) -> String {
        format!("{}\n{}\n", self.id, self.put.to)
    }

    /// The id and the target in what a cache of builds is kept under; [`None`] for one of jobs.
    pub(crate) fn of_key(key: &str) -> Option<(&str, &str)> {
        let mut lines = key.split('\n');
        match (lines.next(), lines.next(), lines.next(), lines.next()) {
            (Some(id), Some(to), Some(when), None)
                if to.starts_with('/') && when.parse::<u128>().is_ok() =>
            {
                Some((id, to))
            }
            _ => None,
        }
    }

    /// Its directory, with the owner and permissions that it was left with.
    fn as_kept(&self, entry: &Entry) -> io::Result<Put> {
        let root = fs::symlink_metadata(&entry.tree)?;
        let kept = fs::symlink_metadata(entry.tree.join(self.put.to.trim_start_matches('/')))?;
        // Where a user has a single id, all files are the user's, who is root in the image.
        let inside = |id: u32, of_root: u32| if id == of_root { 0 } else { id };
        let (user, group) = (inside(kept.uid(), root.uid()), inside(kept.gid(), root.gid()));
        Ok(Put {
            owner: Some(format!("{user}:{group}")),
            mode: Some(ModeChange::Octal(kept.mode() & 0o777)),
            ..self.put.clone()
        })
    }
}

impl Stage {
    /// What there is of the caches of a program; [`None`] where it was stopped while it waited.
    pub(super) async fn caches(
        &self,
        store: &Store,
        run: &Run,
        io: &mut Io,
    ) -> Result<Option<ShownCaches>, Error> {
        let mut shown = ShownCaches::default();
        let Some(caches) = &self.engine.caches else { return Ok(Some(shown)) };
        // In one order, or two programs could wait for each other.
        let mut locked: Vec<Digest> = run
            .caches
            .iter()
            .filter(|cache| cache.locked)
            .map(|cache| Digest::of(format!("{}\n{}", caches.scope, cache.name()).as_bytes()))
            .collect();
        locked.sort();
        locked.dedup();
        for lock in &locked {
            match self.lock(store, lock, io).await? {
                Some(lock) => shown.locks.push(lock),
                None => return Ok(None),
            }
        }
        for cache in &run.caches {
            let Some(entry) = caches.find(cache)? else { continue };
            let above = cache
                .as_kept(&entry)
                .map_err(|error| Error::system(format!("read the cache `{}`", cache.id), error))?;
            shown.layers.push(Layer::Tree(entry.tree.clone()));
            shown.entries.push(entry);
            // Over it, so that directories above it are as this image has them.
            match self.put(&above, io).await? {
                Some(Some(above)) => {
                    shown.layers.push(Layer::Tree(above.path.clone()));
                    shown.directories.push(above);
                }
                Some(None) => {}
                None => return Ok(None),
            }
        }
        Ok(Some(shown))
    }
}
