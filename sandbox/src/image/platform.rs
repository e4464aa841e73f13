//! Which processor and system an image is for, and whether this host is one.

use std::env::consts;

/// The operating system of every image that can run here, as Go's `GOOS` names it.
pub(crate) const OS: &str = "linux";

/// This host's architecture, as Go's `GOARCH` names it (OCI image index, "platform").
pub(crate) fn architecture() -> &'static str {
    match consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// Checks an image's own word on what it is for; the error names both sides.
pub(crate) fn check(os: &str, of_architecture: &str) -> Result<(), String> {
    let here = architecture();
    if (os, of_architecture) == (OS, here) {
        return Ok(());
    }
    let named = |value: &str| {
        if value.is_empty() {
            "unknown".to_owned()
        } else {
            super::problem::shown(value.as_bytes())
        }
    };
    Err(format!(
        "the image is for `{}/{}` and this host is `{OS}/{here}`",
        named(os),
        named(of_architecture)
    ))
}
