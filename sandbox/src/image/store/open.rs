//! Opening the store: making it, checking its format and owner, clearing what dead processes left.

use std::{
    fs::{self, DirBuilder},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use super::{Scratch, Store};
use crate::{Error, Result, error::Doing as _};

/// The format that this version writes, and the only one it reads.
const VERSION: u32 = 1;

const DIRECTORIES: [&str; 8] = [
    "tmp",
    "locks",
    "names",
    "images/sha256",
    "layers/sha256",
    "layers/sha512",
    "layers/chain",
    "layers/host",
];

impl Store {
    /// Opens the store below the state directory `state`, making it where there is none.
    pub fn open(state: &Path) -> Result<Self> {
        let store = Self { root: state.join("store") };
        match fs::read_to_string(store.root.join("version")) {
            Ok(version) => store.check_version(&version)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => store.create()?,
            Err(error) => {
                return Err(Error::system(
                    format!("open the image store `{}`", store.root.display()),
                    error,
                )
                .remedy("check that the state directory belongs to this user"));
            }
        }
        store.check_owner()?;
        Scratch::sweep(&store);
        Ok(store)
    }

    fn create(&self) -> Result<()> {
        let doing = || format!("make the image store `{}`", self.root.display());
        let remedy = "choose a state directory that this user can write, on a local file system";
        for directory in DIRECTORIES {
            // Closed to others: layers hold set-user-id programs of strangers.
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(self.root.join(directory))
                .system(doing)
                .map_err(|error| error.remedy(remedy))?;
        }
        let scratch = Scratch::new(self)?;
        let version = scratch.path().join("version");
        let write = || {
            let mut file = fs::File::create_new(&version)?;
            writeln!(file, "{VERSION}")?;
            file.sync_all()?;
            // The last thing made: a store without it is one still being made.
            fs::rename(&version, self.root.join("version"))
        };
        write().system(doing)
    }

    fn check_version(&self, version: &str) -> Result<()> {
        let doing = || format!("open the image store `{}`", self.root.display());
        match version.trim_ascii_end().parse::<u32>() {
            Ok(VERSION) => Ok(()),
            Ok(found) => Err(Error::system(
                doing(),
                format!("it has format {found} and this version of cofferdam has format {VERSION}"),
            )
            .remedy("use the newer cofferdam that wrote it, or another state directory")),
            Err(_) => Err(Error::system(doing(), "its `version` file holds no number").remedy(
                "remove the directory if it is no image store, or use another state directory",
            )),
        }
    }

    fn check_owner(&self) -> Result<()> {
        let doing = || format!("open the image store `{}`", self.root.display());
        let metadata = fs::metadata(&self.root).system(doing)?;
        let user = nix::unistd::geteuid().as_raw();
        if metadata.uid() != user {
            let owner = metadata.uid();
            return Err(Error::system(
                doing(),
                format!("it belongs to user {owner}, not to {user}"),
            )
            .remedy("run as that user, or use another state directory"));
        }
        if metadata.mode() & 0o077 != 0 {
            fs::set_permissions(&self.root, fs::Permissions::from_mode(0o700)).system(doing)?;
        }
        Ok(())
    }
}
