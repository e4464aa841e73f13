//! What builds need from the world, fetched once per build directory by the scripts in
//! `fixtures/fetch/`, with this host's own package tools and their configuration.

use std::{collections::BTreeMap, ffi::OsStr, fs, path::PathBuf, sync::Mutex};

use crate::{
    binary::{fixture, program, scratch},
    images::{debian, run_script},
};

/// The mount, as `--mount` takes it, of what is fetched under this name: `/mirror/NAME` inside. Of
/// `rust`, it is the toolchain that this host builds with, at `/opt/rust`.
pub(crate) fn fetched(name: &str) -> Result<String, String> {
    if name == "rust" {
        let output = program("rustc").args(["--print", "sysroot"]).output();
        let output = output.map_err(|source| format!("`rustc` did not start: {source}"))?;
        return Ok(format!("{}:/opt/rust:ro", String::from_utf8_lossy(&output.stdout).trim()));
    }
    Ok(format!("{}:/mirror/{name}:ro", directory(name)?.display()))
}

fn directory(name: &str) -> Result<PathBuf, String> {
    static MADE: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    // Held while one is fetched: they would only share the way out.
    let mut made = MADE.lock().expect("what was fetched");
    if let Some(directory) = made.get(name) {
        return Ok(directory.clone());
    }
    let script = fixture(&format!("fetch/{name}.sh"));
    let text = fs::read(&script).map_err(|error| format!("`{}`: {error}", script.display()))?;
    let parent = scratch().join("fetched");
    fs::create_dir_all(&parent).expect("a directory");
    let (directory, stamp) = (parent.join(name), parent.join(format!("{name}.sh")));
    if fs::read(&stamp).ok().as_ref() != Some(&text) {
        let new = tempfile::tempdir_in(&parent).expect("a directory");
        let root = (name == "apt").then(|| debian().with_file_name("debian.tar"));
        let inside = new.path().join(name);
        let arguments: Vec<&OsStr> =
            [inside.as_os_str()].into_iter().chain(root.iter().map(|it| it.as_os_str())).collect();
        run_script(&script, &arguments)?;
        fs::remove_dir_all(&directory).ok();
        fs::rename(&inside, &directory).expect("rename");
        fs::write(&stamp, &text).expect("write");
    }
    made.insert(name.to_owned(), directory.clone());
    Ok(directory)
}
