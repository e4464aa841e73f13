//! The record on disk: written whole or not at all, and read again by versions that know its form.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{RunRecord, SCHEMA};

/// The name of the record in the run's directory.
pub(crate) const FILE_NAME: &str = "run.json";

/// A record that could not be written or read; names the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// The file system failed.
    #[error("failed to {doing} `{}`", path.display())]
    File {
        /// "write" or "read".
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is no record.
    #[error("`{}` is not the record of a run", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// The file is of another version.
    #[error(
        "`{}` has schema {schema}, this cofferdam reads {SCHEMA}; read it with the version that \
         wrote it", path.display()
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// The version that it has.
        schema: u32,
    },
}

impl RunRecord {
    /// Writes `run.json` into `directory`: whole, or not at all.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), RecordError> {
        let path = directory.join(FILE_NAME);
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|source| RecordError::Form { path: path.clone(), source })?;
        text.push(b'\n');
        write_whole(&path, &text)
    }

    /// Reads the record in `directory`.
    pub(crate) fn read(directory: &Path) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let path = directory.join(FILE_NAME);
        let text = std::fs::read(&path).map_err(|source| RecordError::File {
            doing: "read",
            path: path.clone(),
            source,
        })?;
        let form = |source| RecordError::Form { path: path.clone(), source };
        let Version { schema } = serde_json::from_slice(&text).map_err(form)?;
        if schema != SCHEMA {
            return Err(RecordError::Schema { path, schema });
        }
        serde_json::from_slice(&text).map_err(form)
    }
}

/// Puts `content` at `path` so that a reader sees the old file or the new one, also after a
/// crash.
pub(in crate::report) fn write_whole(path: &Path, content: &[u8]) -> Result<(), RecordError> {
    let write = || {
        let directory = path.parent().unwrap_or_else(|| Path::new("."));
        let mut file = tempfile::Builder::new()
            .prefix(".writing-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(directory)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|source| RecordError::File { doing: "write", path: path.to_owned(), source })
}
