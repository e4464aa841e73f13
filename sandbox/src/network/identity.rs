//! Network namespaces by their numbers, which the kernel gives to another once one is gone.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

/// The number of this process's network namespace.
pub(crate) fn current() -> io::Result<u64> {
    Ok(fs::metadata("/proc/thread-self/ns/net")?.ino())
}

/// Whether a thread of this machine, as far as this process may look, is in the namespace with this
/// number.
pub(crate) fn has_processes(number: u64) -> bool {
    let list = |path: &Path| fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    let number_of = |thread: &Path| fs::metadata(thread.join("ns/net")).map(|it| it.ino()).ok();
    list(Path::new("/proc"))
        .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
        .flat_map(|process| list(&process.path().join("task")))
        .any(|thread| number_of(&thread.path()) == Some(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_own_has_processes() {
        assert!(has_processes(current().unwrap()));
        assert!(!has_processes(1));
    }
}
