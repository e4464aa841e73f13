//! Base images for the tests, made once per build directory by the scripts in `fixtures/images/`.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::binary::{Cofferdam, fixture, program, scratch};

/// The files that `fixtures/images/busybox.sh` makes.
pub(crate) struct Busybox {
    /// A plain root file system.
    pub(crate) rootfs: PathBuf,
    /// The same as an OCI image layout.
    pub(crate) layout: PathBuf,
}

/// The busybox image, or why this host cannot make it.
pub(crate) fn busybox() -> Result<&'static Busybox, String> {
    static MADE: OnceLock<Result<Busybox, String>> = OnceLock::new();
    MADE.get_or_init(make_busybox).as_ref().map_err(Clone::clone)
}

fn make_busybox() -> Result<Busybox, String> {
    let directory = scratch().join("images");
    script("busybox.sh", &[directory.as_os_str()])?;
    Ok(Busybox { rootfs: directory.join("busybox.tar"), layout: directory.join("busybox.oci") })
}

/// A minimal Debian as an OCI image layout, made by `fixtures/images/debian.sh` where it is not there.
pub(crate) fn debian() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let directory = scratch().join("images");
        let layout = directory.join("debian.oci");
        if !layout.join("index.json").exists() {
            script("debian.sh", &[directory.as_os_str()]).expect("a Debian image");
        }
        layout
    };
    MADE.get_or_init(make).clone()
}

/// Runs a script of `fixtures/images/`; its message on failure.
pub(crate) fn script(name: &str, arguments: &[&OsStr]) -> Result<(), String> {
    run_script(&fixture("images").join(name), arguments)
}

/// Runs a script; its message on failure.
pub(crate) fn run_script(script: &Path, arguments: &[&OsStr]) -> Result<(), String> {
    let output = program(script)
        .args(arguments)
        .output()
        .map_err(|source| format!("`{}` did not start: {source}", script.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{}`: {}: {}", script.display(), output.status, said.trim()))
}

impl Cofferdam {
    /// An instance that has the image `busybox`.
    pub(crate) fn with_busybox() -> Self {
        let cofferdam = Self::new();
        let layout = &busybox().expect("a busybox image").layout;
        cofferdam
            .run(["image".as_ref(), "import".as_ref(), layout.as_os_str(), OsStr::new("busybox")])
            .expect(0);
        cofferdam
    }
}
