//! Archives that two parsers would read differently, and broken ones.

use tar::EntryType;

use super::{Refused, Unpacks, case, check};
use crate::image::tests::fixture::Archive;

/// A header and its data as they would stand in an archive of their own.
fn smuggled() -> Vec<u8> {
    Archive::new().file("smuggled", b"x").0
}

#[test]
fn two_ways_to_read_one_archive() {
    check(|_| {
        let a = Archive::new;
        let data = smuggled();
        let damaged = || Refused("is damaged");
        vec![
            case(
                "PAX size hides an entry that the header's size shows",
                a().pax(&[("size", data.len().to_string().as_bytes())])
                    .with(EntryType::Regular, b"f", &data, |h| h.set_size(0))
                    .file("g", b"")
                    .end(),
                Unpacks(
                    "f 644 0:0 \"smuggled\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\"\ng 644 0:0 \"\"",
                ),
            ),
            case(
                "PAX size shows an entry that the header's size hides",
                a().pax(&[("size", b"0")]).with(EntryType::Regular, b"f", &data, |_| {}).end(),
                Unpacks("f 644 0:0 \"\"\nsmuggled 644 0:0 \"x\""),
            ),
            case(
                "hard link with data",
                a().file("f", b"")
                    .with(EntryType::Link, b"h", &data, |h| h.set_link_name("f").unwrap())
                    .end(),
                Refused("readers disagree"),
            ),
            case(
                "directory with data",
                a().with(EntryType::Directory, b"d", &data, |_| {}).end(),
                Refused("readers disagree"),
            ),
            case(
                "file that ends in a slash, with data",
                a().with(EntryType::Regular, b"d/", &data, |_| {}).end(),
                Refused("readers disagree"),
            ),
            case(
                "two extended headers",
                a().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("f", b"").end(),
                damaged(),
            ),
            case(
                "PAX and GNU names",
                a().pax(&[("path", b"a")])
                    .with(EntryType::GNULongName, b"L", b"b\0", |_| {})
                    .file("f", b"")
                    .end(),
                damaged(),
            ),
            case(
                "two long names",
                a().with(EntryType::GNULongName, b"L", b"a\0", |_| {})
                    .with(EntryType::GNULongName, b"L", b"b\0", |_| {})
                    .file("f", b"")
                    .end(),
                damaged(),
            ),
            case(
                "malformed record",
                a().with(EntryType::XHeader, b"x", b"99 path=a\n", |_| {}).file("f", b"").end(),
                damaged(),
            ),
            case(
                "record without length",
                a().with(EntryType::XHeader, b"x", b"path=a\n", |_| {}).file("f", b"").end(),
                damaged(),
            ),
            case(
                "global header that renames",
                a().with(EntryType::XGlobalHeader, b"g", b"9 path=a\n", |_| {})
                    .file("f", b"")
                    .end(),
                Refused("readers disagree"),
            ),
            case(
                "global header with a comment",
                a().with(EntryType::XGlobalHeader, b"g", b"13 comment=x\n", |_| {})
                    .file("f", b"")
                    .end(),
                Unpacks("f 644 0:0 \"\""),
            ),
            case("extended header at the end", a().pax(&[("path", b"a")]).end(), damaged()),
            case(
                "wrong checksum",
                {
                    let mut archive = a().file("f", b"x").end();
                    archive[0] = b'g';
                    archive
                },
                Refused("checksum"),
            ),
            case(
                "lone block of zeros",
                {
                    let mut archive = a().file("f", b"").0;
                    archive.extend([0; 512]);
                    archive.extend(a().file("hidden", b"").end());
                    archive
                },
                Refused("lone block of zeros"),
            ),
            case(
                "entries after the end",
                {
                    let mut archive = a().file("f", b"").end();
                    archive.extend(a().file("hidden", b"").end());
                    archive
                },
                Unpacks("f 644 0:0 \"\""),
            ),
            case("cut in a header", a().file("f", b"").0[..300].to_vec(), damaged()),
            case("cut in data", a().file("f", &[b'x'; 2000]).0[..1024].to_vec(), damaged()),
            case("cut in padding", a().file("f", b"x").0[..900].to_vec(), damaged()),
            case(
                "padding left out",
                a().file("f", b"x").0[..513].to_vec(),
                Unpacks("f 644 0:0 \"x\""),
            ),
            case("cut after data", a().file("f", b"x").0, Unpacks("f 644 0:0 \"x\"")),
            case(
                "unknown type",
                a().with(EntryType::new(b'Z'), b"f", b"", |_| {}).end(),
                Refused("type `Z` is unknown"),
            ),
            case(
                "multi-volume",
                a().with(EntryType::new(b'M'), b"f", b"", |_| {}).end(),
                Refused("type `M` is unknown"),
            ),
            case(
                "label",
                a().with(EntryType::new(b'V'), b"label", b"", |_| {}).file("f", b"").end(),
                Unpacks("f 644 0:0 \"\""),
            ),
            case("nothing", a().end(), Refused("the archive is empty")),
            case("no archive", b"#!/bin/sh\n".repeat(100), Refused("is damaged")),
        ]
    });
}
