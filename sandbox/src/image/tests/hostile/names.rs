//! Names that lead out of the layer, or are no names.

use tar::EntryType;

use super::{Refused, Unpacks, case, check};
use crate::image::tests::fixture::Archive;

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
