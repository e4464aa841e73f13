//! A store that all inputs of a target share, beside something that none may touch.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

use cofferdam_sandbox::image::{Reference, Store};

/// The store, and the directory that it lies in.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    pub(crate) store: Store,
}

const VICTIM: &[u8] = b"as it was";

impl Place {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Nothing outside of the store has changed, and what was taken in is let go.
    pub(crate) fn check(&self, name: &Reference) {
        assert_eq!(fs::read(self.path("victim")).ok().as_deref(), Some(VICTIM));
        let entries = names(self.directory.path());
        assert_eq!(entries, ["input", "state", "victim"], "beside the store");
        let removed = self.store.remove(name);
        assert!(removed.is_ok(), "the store is broken: {removed:?}");
        assert_eq!(names(&self.path("state/store/tmp")), [""; 0], "left in the store");
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory);
    assert!(entries.is_ok(), "`{}`: {entries:?}", directory.display());
    let entries = entries.into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Runs `with` in the one place of this process.
pub(crate) fn with(with: impl FnOnce(&Place)) {
    static PLACE: OnceLock<Mutex<Option<Place>>> = OnceLock::new();
    let place = PLACE.get_or_init(|| Mutex::new(make().ok()));
    let place = place.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(place.is_some(), "no store can be made here");
    if let Some(place) = place.as_ref() {
        with(place);
    }
}

fn make() -> Result<Place, Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("victim"), VICTIM)?;
    fs::write(directory.path().join("input"), b"")?;
    let store = Store::open(&directory.path().join("state"))?;
    Ok(Place { directory, store })
}
