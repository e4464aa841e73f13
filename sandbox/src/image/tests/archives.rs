//! Layers as archives again: byte for byte what came, whatever their own entries replaced.

use tar::EntryType;

use super::fixture::{Archive, Bench, message};

fn check(name: &str, archive: Vec<u8>) {
    let bench = Bench::new();
    let image = bench.import(&bench.source(&archive)).unwrap();
    let mut again = Vec::new();
    if let Err(error) = image.layers[0].write_archive(&mut again) {
        panic!("{name}: {}", message(&error));
    }
    assert!(again == archive, "{name}: it is another archive now");
}

#[test]
fn what_later_entries_replaced_is_still_there() {
    check("a file by a file", Archive::new().file("f", b"one").file("f", b"other").end());
    check(
        "thrice, and linked",
        Archive::new()
            .file("f", b"one")
            .hardlink("g", "f")
            .file("f", b"two")
            .file("f", b"three")
            .file("g", b"four")
            .end(),
    );
    check(
        "a directory by a file, and back",
        Archive::new()
            .dir("d")
            .file("d/f", b"one")
            .file("d/f", b"two")
            .file("d", b"three")
            .dir("d")
            .file("d/f", b"four")
            .end(),
    );
    check(
        "a directory by a link",
        Archive::new().file("d/e/f", b"one").symlink("d", "x").file("e/f", b"two").end(),
    );
    check(
        "names that begin alike",
        Archive::new().file("ab/f", b"1").file("a", b"2").file("a", b"3").end(),
    );
}

#[test]
fn what_stands_in_no_file_is_still_there() {
    let tail = |mut archive: Vec<u8>| {
        archive.extend_from_slice(b"what follows the end");
        archive
    };
    check("after the end", tail(Archive::new().file("f", b"one").end()));
    check("no end", Archive::new().file("f", b"one").0);
    let large = vec![b'x'; 300_000];
    check("large files", Archive::new().file("f", &large).file("g", &large).end());
    check("empty files", Archive::new().file("f", b"").dir("d").end());
    check(
        "devices, whiteouts, attributes",
        Archive::new()
            .with(EntryType::Block, b"sda", b"", |_| {})
            .file(".wh.gone", b"")
            .pax(&[("SCHILY.xattr.security.capability", b"\x01\0\0\x02")])
            .file("ping", b"pong")
            .end(),
    );
}

/// A layer whose files were changed behind the store's back is not given away as what it was.
#[test]
fn changed_files_are_noticed() {
    let bench = Bench::new();
    let image = bench.import(&bench.source(&Archive::new().file("f", b"one").end())).unwrap();
    std::fs::write(image.layers[0].path.join("f"), "two").unwrap();
    let error = image.layers[0].write_archive(&mut Vec::new()).unwrap_err();
    assert!(message(&error).contains("its files changed"), "{}", message(&error));
    std::fs::write(image.layers[0].path.join("f"), "").unwrap();
    assert!(image.layers[0].write_archive(&mut Vec::new()).is_err());
}
