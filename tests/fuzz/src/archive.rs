//! Bytes as an archive: a root file system, an image in a file, or refused; the store is whole
//! afterwards and nothing outside of it has changed.
//!
//! Headers carry a sum, which hides most of what the fuzzer changes. So it is made right first,
//! block by block, wherever a block could be a header.

use std::{fs, ops::ControlFlow};

use cofferdam_sandbox::image::{ImportLimits, ImportOptions, Reference};

use crate::store;

const BLOCK: usize = 512;
const SUM: std::ops::Range<usize> = 148..156;

pub(crate) fn run(input: &[u8]) {
    let Ok(name) = "fuzz:1".parse::<Reference>() else { return };
    store::with(|place| {
        let path = place.path("input");
        let written = fs::write(&path, summed(input));
        assert!(written.is_ok(), "the input cannot be written: {written:?}");
        let limits = ImportLimits { unpacked: 1 << 20, entries: 1000, ..ImportLimits::default() };
        let options = ImportOptions { limits, ..ImportOptions::default() };
        let progress = &|_| ControlFlow::Continue(());
        // Refused or taken in: both are fine.
        place.store.import(&path, &name, &options, progress).ok();
        place.check(&name);
    });
}

/// With the sum of every block that says that it is a header.
fn summed(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for block in bytes.chunks_exact_mut(BLOCK) {
        if block.get(257..262) != Some(b"ustar") {
            continue;
        }
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| u32::from(if SUM.contains(&at) { b' ' } else { *byte }))
            .sum();
        if let Some(field) = block.get_mut(SUM) {
            field.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    bytes
}
