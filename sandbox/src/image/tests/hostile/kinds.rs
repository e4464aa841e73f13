//! Whiteouts, devices, ids, modes and attributes.

use tar::EntryType;

use super::{Refused, Unpacks, case, check};
use crate::image::tests::fixture::Archive;

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
