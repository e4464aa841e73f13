//! SHA-256 digests of files and bytes, written as OCI writes them: `sha256:` and hexadecimal.

use std::{fs::File, io::Read as _, path::Path};

use sha2::{Digest as _, Sha256};

use crate::hexadecimal;

/// Bytes that are read at once.
const CHUNK: usize = 256 * 1024;

/// The digest of bytes.
pub(in crate::execute) fn of_bytes(bytes: &[u8]) -> String {
    format!("sha256:{}", hexadecimal::lower(&Sha256::digest(bytes)))
}

/// The digest of a file's content; of a link, that of what it leads to.
pub(in crate::execute) fn of_file(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(format!("sha256:{}", hexadecimal::lower(&hash.finalize())));
        }
        hash.update(buffer.get(..read).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_its_bytes_have_the_same_digest() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of_bytes(b"abc"), expected);
        assert_eq!(of_file(file.path()).unwrap(), expected);
    }
}
