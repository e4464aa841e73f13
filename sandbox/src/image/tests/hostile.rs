//! Archives that attack whoever unpacks them. Each case says what must come of it; a directory
//! beside the store stands for the host, and nothing in it may change.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use tar::EntryType;

use super::fixture::{Archive, Bench, gzip, listing, message, zstd};
use crate::{Fault, image::ImportOptions};

enum Expect {
    /// The import fails as the image's fault, and the message holds this.
    Refused(&'static str),
    /// The layer holds exactly this.
    Unpacks(&'static str),
}
use Expect::{Refused, Unpacks};

struct Case {
    name: &'static str,
    archive: Vec<u8>,
    expect: Expect,
    options: ImportOptions,
}

fn case(name: &'static str, archive: Vec<u8>, expect: Expect) -> Case {
    Case { name, archive, expect, options: ImportOptions::default() }
}

fn limited(
    name: &'static str,
    archive: Vec<u8>,
    expect: Expect,
    limit: impl FnOnce(&mut crate::image::ImportLimits),
) -> Case {
    let mut case = case(name, archive, expect);
    limit(&mut case.options.limits);
    case
}

/// Runs every case in a store of its own beside the victim that `cases` is told the path of.
fn check(cases: impl Fn(&str) -> Vec<Case>) {
    let bench = Bench::new();
    let victim = bench.path("victim");
    fs::create_dir_all(victim.join("sub")).unwrap();
    fs::write(victim.join("file"), "untouched").unwrap();
    fs::write(victim.join("sub/file"), "untouched").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o750)).unwrap();
    let before = state(&victim);
    let mut failures = Vec::new();
    for Case { name, archive, expect, options } in cases(victim.to_str().unwrap()) {
        let path = bench.source(&archive);
        let outcome = bench.import_with(&path, &options);
        match (outcome, expect) {
            (Err(error), Refused(part)) => {
                let text = message(&error);
                if !text.contains(part) || error.fault() != Fault::Pipeline {
                    failures.push(format!("{name}: refused for another reason: {text}"));
                }
            }
            (Ok(image), Unpacks(expected)) => {
                let found = listing(&image.layers[0].path);
                if found != expected {
                    failures.push(format!("{name}: unpacked to\n{found}\nand not to\n{expected}"));
                }
            }
            (Ok(image), Refused(part)) => failures.push(format!(
                "{name}: not refused for `{part}`, unpacked to\n{}",
                listing(&image.layers[0].path)
            )),
            (Err(error), Unpacks(_)) => {
                failures.push(format!("{name}: refused: {}", message(&error)));
            }
        }
        if state(&victim) != before {
            failures.push(format!("{name}: the victim changed"));
        }
        bench.assert_whole();
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// All that could change of the victim.
fn state(path: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut next = vec![path.to_owned()];
    while let Some(path) = next.pop() {
        let metadata = path.symlink_metadata().unwrap();
        let content = if metadata.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        lines.push(format!(
            "{} {:o} {}:{} {} {} {content:?} {:?}",
            path.display(),
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.nlink(),
            metadata.mtime_nsec(),
            metadata.modified().unwrap(),
        ));
        if metadata.is_dir() {
            next.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    lines.sort();
    lines
}

#[test]
fn names_that_leave() {
    check(|victim| {
        let a = Archive::new;
        vec![
            case("parent", a().file("../victim/file", b"x").end(), Refused("leaves the archive")),
            case(
                "inner parent",
                a().file("a/../../victim/file", b"x").end(),
                Refused("leaves the archive"),
            ),
            case("parent as directory", a().dir("../victim/").end(), Refused("leaves the archive")),
            case("parent at the end", a().dir("a/..").end(), Refused("leaves the archive")),
            case(
                "absolute",
                a().file("/abs/file", b"x").end(),
                Unpacks("abs/ 755 0:0\nabs/file 644 0:0 \"x\""),
            ),
            case(
                "hard link to parent",
                a().hardlink("h", "../victim/file").end(),
                Refused("leaves the archive"),
            ),
            case(
                "hard link to absolute",
                a().hardlink("h", &format!("{victim}/file")).end(),
                Refused("is in no layer"),
            ),
            case("no name", a().file("", b"x").end(), Refused("it has no name")),
            case("root as link", a().symlink("./", victim).end(), Refused("root of a layer")),
            case(
                "root as file",
                a().with(EntryType::Regular, b".", b"x", |_| {}).end(),
                Refused("root of a layer"),
            ),
            case(
                "NUL in a PAX path",
                a().pax(&[("path", b"a\0b")]).file("x", b"x").end(),
                Refused("NUL byte"),
            ),
            case(
                "PAX path leaves",
                a().pax(&[("path", b"../victim/file")]).file("x", b"x").end(),
                Refused("leaves the archive"),
            ),
            case(
                "PAX link leaves",
                a().pax(&[("linkpath", b"../../victim/file")]).hardlink("x", "y").end(),
                Refused("leaves the archive"),
            ),
            case(
                "GNU long name leaves",
                a().with(EntryType::GNULongName, b"././@LongLink", b"../victim/file\0", |_| {})
                    .file("x", b"x")
                    .end(),
                Refused("leaves the archive"),
            ),
            case(
                "too long a name",
                a().pax(&[("path", &[b'a'; 256])]).file("x", b"").end(),
                Refused("more than 255 bytes"),
            ),
            case(
                "too long a path",
                a().pax(&[("path", &b"abc/".repeat(1024))]).file("x", b"").end(),
                Refused("4096 bytes or more"),
            ),
            case(
                "too deep",
                a().pax(&[("path", &b"a/".repeat(257))]).dir("x").end(),
                Refused("more than 256 directories"),
            ),
        ]
    });
}

#[test]
fn links_that_lead_out() {
    check(|victim| {
        let a = Archive::new;
        let link = || a().symlink("link", victim);
        let refused = || Refused("symbolic link");
        vec![
            case("file through a link", link().file("link/file", b"x").end(), refused()),
            case("directory through a link", link().dir("link/sub/").end(), refused()),
            case(
                "directory deep through a link",
                link().file("link/new/file", b"x").end(),
                refused(),
            ),
            case(
                "chain of links",
                a().symlink("b", victim).symlink("a", "b").file("a/file", b"x").end(),
                refused(),
            ),
            case(
                "relative link",
                a().dir("d/").symlink("d/up", "../../../..").file("d/up/file", b"x").end(),
                refused(),
            ),
            case(
                "hard link through a link",
                link().hardlink("h", "link/file").end(),
                Refused("no directory"),
            ),
            case("whiteout through a link", link().file("link/.wh.file", b"").end(), refused()),
            case("opaque through a link", link().file("link/.wh..wh..opq", b"").end(), refused()),
            case("link through a link", link().symlink("link/new", "x").end(), refused()),
            case(
                "pipe through a link",
                link().with(EntryType::Fifo, b"link/p", b"", |_| {}).end(),
                refused(),
            ),
            case(
                "file in the place of a link",
                a().symlink("f", &format!("{victim}/file")).file("f", b"new").end(),
                Unpacks("f 644 0:0 \"new\""),
            ),
            case(
                "directory in the place of a link",
                link().with(EntryType::Directory, b"link", b"", |h| h.set_mode(0o777)).end(),
                Unpacks("link/ 777 0:0"),
            ),
            case(
                "metadata of a directory that became a link",
                a().with(EntryType::Directory, b"d", b"", |h| h.set_mode(0o777))
                    .symlink("d", "../../../../../../victim")
                    .end(),
                Unpacks("d -> ../../../../../../victim"),
            ),
            case(
                "metadata below a directory that became a link",
                a().with(EntryType::Directory, b"d/sub", b"", |h| h.set_mode(0o777))
                    .symlink("d", "../../../../../../victim")
                    .end(),
                Unpacks("d -> ../../../../../../victim"),
            ),
            case(
                "hard link to a link, then a file in its place",
                a().symlink("s", "../../../../../../victim/file")
                    .hardlink("h", "s")
                    .file("h", b"new")
                    .end(),
                Unpacks("h 644 0:0 \"new\"\ns -> ../../../../../../victim/file"),
            ),
            case(
                "a directory with a link out is replaced",
                a().dir("d/").symlink("d/out", "../../../../../../victim").file("d", b"new").end(),
                Unpacks("d 644 0:0 \"new\""),
            ),
            case(
                "attributes on a link",
                a().pax(&[("SCHILY.xattr.user.evil", b"x")])
                    .symlink("s", "../../../../../../victim")
                    .end(),
                Unpacks("s -> ../../../../../../victim"),
            ),
            case(
                "a directory became a link that then is a parent",
                a().file("d/x", b"").symlink("d", victim).file("d/file", b"x").end(),
                refused(),
            ),
            case("link without target", a().symlink("s", "").end(), Refused("is no path")),
            case("hard link to itself", a().hardlink("h", "./h").end(), Refused("to itself")),
            case("hard link to the root", a().hardlink("h", "./").end(), Refused("to the root")),
            case(
                "hard link to a directory",
                a().dir("d/").hardlink("h", "d").end(),
                Refused("to a directory"),
            ),
            case(
                "hard links in a circle",
                a().hardlink("a", "b").hardlink("b", "a").end(),
                Refused("is in no layer"),
            ),
            case(
                "file below a file",
                a().file("f", b"").file("f/x", b"").end(),
                Refused("is no directory"),
            ),
        ]
    });
}

#[test]
fn whiteouts_devices_and_privileges() {
    check(|_| {
        let a = Archive::new;
        vec![
            case("whiteout of nothing", a().file(".wh.", b"").end(), Refused("that of one file")),
            case("whiteout of `.`", a().file("d/.wh..", b"").end(), Refused("that of one file")),
            case("whiteout of `..`", a().file("d/.wh...", b"").end(), Refused("that of one file")),
            case(
                "below a whiteout",
                a().file(".wh.d/file", b"").end(),
                Refused("named like a whiteout"),
            ),
            case(
                "link to a whiteout's name",
                a().file(".wh.f", b"").hardlink("h", ".wh.f").end(),
                Refused("to a whiteout"),
            ),
            case(
                "link to what a whiteout deleted",
                a().file(".wh.f", b"").hardlink("h", "f").end(),
                Refused("deleted before"),
            ),
            case(
                "whiteout",
                a().file("d/.wh.f", b"ignored").end(),
                Unpacks("d/ 755 0:0\nd/f whiteout"),
            ),
            case(
                "a whiteout spares its own layer",
                a().file("f", b"x").file(".wh.f", b"").dir("d/").file(".wh.d", b"").end(),
                Unpacks("d/ 755 0:0 opaque\nf 644 0:0 \"x\""),
            ),
            case(
                "what follows a whiteout replaces it",
                a().file(".wh.f", b"")
                    .file("f", b"x")
                    .file(".wh.d", b"")
                    .dir("d/")
                    .file(".wh.e", b"")
                    .file("e/f", b"")
                    .end(),
                Unpacks("d/ 755 0:0 opaque\ne/ 755 0:0 opaque\ne/f 644 0:0 \"\"\nf 644 0:0 \"x\""),
            ),
            case(
                "opaque without its directory",
                a().file("d/e/.wh..wh..opq", b"").end(),
                Unpacks("d/ 755 0:0\nd/e/ 755 0:0 opaque"),
            ),
            case(
                "records of aufs",
                a().dir("d/").file("d/.wh..wh.aufs", b"").end(),
                Unpacks("d/ 755 0:0"),
            ),
            case(
                "devices, also one that looks like a whiteout",
                a().with(EntryType::Char, b"null", b"", |h| {
                    h.set_device_major(1).unwrap();
                    h.set_device_minor(3).unwrap();
                })
                .with(EntryType::Block, b"disk", b"", |h| {
                    h.set_device_major(8).unwrap();
                    h.set_device_minor(0).unwrap();
                })
                .with(EntryType::Char, b"fake", b"", |h| {
                    h.set_device_major(0).unwrap();
                    h.set_device_minor(0).unwrap();
                })
                .file("f", b"")
                .end(),
                Unpacks("f 644 0:0 \"\""),
            ),
            case(
                "set-user-id and odd modes",
                a().with(EntryType::Regular, b"s", b"", |h| {
                    h.set_mode(0o104_755);
                    h.set_uid(77);
                })
                .with(EntryType::Directory, b"t", b"", |h| h.set_mode(0o41_777))
                .end(),
                Unpacks("s 4755 77:0 \"\"\nt/ 1777 0:0"),
            ),
            case(
                "user id of 2^31",
                a().with(EntryType::Regular, b"f", b"", |h| h.set_uid(1 << 31)).end(),
                Refused("2^31 or more"),
            ),
            case(
                "group id of 2^32",
                a().pax(&[("gid", b"4294967296")]).file("f", b"").end(),
                Refused("2^31 or more"),
            ),
            case(
                "negative user id",
                a().with(EntryType::Regular, b"f", b"", |h| h.as_old_mut().uid = [0xff; 8]).end(),
                Refused("no number that fits"),
            ),
            case(
                "negative time",
                a().with(EntryType::Regular, b"f", b"", |h| h.as_old_mut().mtime = [0xff; 12])
                    .end(),
                Unpacks("f 644 0:0 \"\""),
            ),
            case(
                "attribute without a name",
                a().pax(&[("SCHILY.xattr.", b"x"), ("SCHILY.xattr.user", b"x")])
                    .file("f", b"")
                    .end(),
                Unpacks("f 644 0:0 \"\""),
            ),
        ]
    });
}

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

/// A GNU sparse file with these pieces and this size.
fn sparse(pieces: &[(u64, u64)], size: u64, data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..6].copy_from_slice(b"sparse");
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_real_size(size);
    for (slot, (offset, length)) in gnu.sparse.iter_mut().zip(pieces) {
        slot.set_offset(*offset);
        slot.set_length(*length);
    }
    header.set_cksum();
    Archive::new().raw(&header, data).end()
}

/// A PAX sparse file of form 1.0 with this map text before the data.
fn sparse_1_0(map: &str, size: &str, data: &[u8]) -> Vec<u8> {
    let mut content = map.as_bytes().to_vec();
    content.resize(content.len().next_multiple_of(512), 0);
    content.extend_from_slice(data);
    Archive::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"sparse"),
            ("GNU.sparse.realsize", size.as_bytes()),
        ])
        .file("GNUSparseFile.0/sparse", &content)
        .end()
}

#[test]
fn sparse_files() {
    check(|_| {
        let good = "sparse 644 0:0 \"ab\\0\\0\\0\\0cd\\0\\0\"";
        vec![
            case("GNU", sparse(&[(0, 2), (6, 2)], 10, b"abcd"), Unpacks(good)),
            case("PAX 1.0", sparse_1_0("2\n0\n2\n6\n2\n", "10", b"abcd"), Unpacks(good)),
            case(
                "PAX 0.1",
                Archive::new()
                    .pax(&[
                        ("GNU.sparse.size", b"10"),
                        ("GNU.sparse.numblocks", b"2"),
                        ("GNU.sparse.name", b"sparse"),
                        ("GNU.sparse.map", b"0,2,6,2"),
                    ])
                    .file("x", b"abcd")
                    .end(),
                Unpacks(good),
            ),
            case(
                "PAX 0.0",
                Archive::new()
                    .pax(&[
                        ("GNU.sparse.size", b"10"),
                        ("GNU.sparse.numblocks", b"2"),
                        ("GNU.sparse.offset", b"0"),
                        ("GNU.sparse.numbytes", b"2"),
                        ("GNU.sparse.offset", b"6"),
                        ("GNU.sparse.numbytes", b"2"),
                    ])
                    .file("sparse", b"abcd")
                    .end(),
                Unpacks(good),
            ),
            case("overlap", sparse(&[(0, 4), (2, 2)], 10, b"abcdef"), Refused("overlaps")),
            case("backwards", sparse(&[(6, 2), (0, 2)], 10, b"abcd"), Refused("overlaps")),
            case("past the end", sparse(&[(8, 4)], 10, b"abcd"), Refused("leaves it")),
            case("offset of 2^63", sparse(&[(u64::MAX / 2, 4)], 10, b"abcd"), Refused("leaves it")),
            case(
                "less data than mapped",
                sparse(&[(0, 8)], 10, b"abcd"),
                Refused("maps 8 bytes and holds 4"),
            ),
            case(
                "more data than mapped",
                sparse(&[(0, 2)], 10, &[b'a'; 1024]),
                Refused("maps 2 bytes"),
            ),
            case("a hole of 1 TiB", sparse(&[(0, 2)], 1 << 40, b"ab"), Refused("bytes unpacked")),
            case(
                "map without end",
                sparse_1_0(&"1".repeat(5000), "10", b""),
                Refused("sparse file is malformed"),
            ),
            case("map of a million", sparse_1_0("1000000\n", "10", b""), Refused("too long")),
            case("map of letters", sparse_1_0("x\n", "10", b""), Refused("malformed")),
            case(
                "unknown form",
                Archive::new()
                    .pax(&[
                        ("GNU.sparse.major", b"2"),
                        ("GNU.sparse.minor", b"0"),
                        ("GNU.sparse.size", b"1"),
                    ])
                    .file("x", b"a")
                    .end(),
                Refused("form of sparse file"),
            ),
            case(
                "odd map",
                Archive::new()
                    .pax(&[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"0,2,6")])
                    .file("x", b"ab")
                    .end(),
                Refused("odd length"),
            ),
        ]
    });
}

#[test]
fn bombs() {
    check(|_| {
        let a = Archive::new;
        let zeros = || a().file("zeros", &vec![0; 3 << 20]).end();
        let size = |field: [u8; 12]| {
            a().with(EntryType::Regular, b"f", b"", |h| h.as_old_mut().size = field).end()
        };
        let mut wide = a();
        for index in 0..200 {
            wide = wide.dir(&format!("directory-{index}/"));
        }
        let wide = wide.end();
        vec![
            limited("gzip ratio", gzip(&zeros()), Refused("times the size"), |l| {
                (l.ratio, l.ratio_after) = (100, 1 << 20);
            }),
            limited("zstd ratio", zstd(&zeros()), Refused("times the size"), |l| {
                l.ratio_after = 1 << 20;
            }),
            limited("unpacked bytes", zeros(), Refused("bytes unpacked"), |l| l.unpacked = 1 << 20),
            limited("unpacked bytes, gzip", gzip(&zeros()), Refused("bytes unpacked"), |l| {
                l.unpacked = 1 << 20;
            }),
            limited("stored bytes", zeros(), Refused("are allowed"), |l| l.image = 1 << 20),
            limited("entries", wide.clone(), Refused("more than 100 files and directories"), |l| {
                l.entries = 100;
            }),
            limited("directory names", wide, Refused("bytes of directory names"), |l| {
                l.directory_names = 9000;
            }),
            case(
                "size of 2^62",
                size([0x80, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0]),
                Refused("is damaged"),
            ),
            case(
                "size of 2^63",
                size([0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]),
                Refused("no number that fits"),
            ),
            case(
                "size of 2^80",
                size([0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
                Refused("no number that fits"),
            ),
            case("negative size", size([0xff; 12]), Refused("no number that fits")),
            case(
                "PAX size of 2^64",
                a().pax(&[("size", b"18446744073709551616")]).file("f", b"").end(),
                Refused("no number that fits"),
            ),
            case(
                "extended header of 2 MiB",
                a().pax(&[("comment", &vec![b'x'; 2 << 20])]).file("f", b"").end(),
                Refused("bytes in an extended header"),
            ),
            case(
                "long name of 2 MiB",
                a().with(EntryType::GNULongName, b"L", &vec![b'x'; 2 << 20], |_| {})
                    .file("f", b"")
                    .end(),
                Refused("bytes in an extended header"),
            ),
            case("zstd window of 256 MiB", zstd_window(28), Refused("cannot be read")),
            case("gzip cut", gzip(&zeros())[..500].to_vec(), Refused("")),
            case(
                "gzip with a wrong checksum",
                {
                    let mut data = gzip(&a().file("f", b"x").end());
                    let at = data.len() - 6;
                    data[at] ^= 1;
                    data
                },
                Refused("cannot be read"),
            ),
            case(
                "garbage after gzip",
                [gzip(&a().file("f", b"x").end()), b"garbage after the end".to_vec()].concat(),
                Refused("cannot be read"),
            ),
            case("zstd cut", zstd(&zeros())[..20].to_vec(), Refused("")),
        ]
    });
}

fn zstd_window(log: u32) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(log).unwrap();
    encoder.write_all(&Archive::new().file("f", b"x").end()).unwrap();
    encoder.finish().unwrap()
}
