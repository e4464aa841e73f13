//! Links that lead out of the layer, and entries that go through them.

use tar::EntryType;

use super::{Refused, Unpacks, case, check};
use crate::image::tests::fixture::Archive;

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
