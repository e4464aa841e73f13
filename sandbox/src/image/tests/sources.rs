//! What files are copied from: links that may lead anywhere, lists, and archives that are unpacked.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use tar::EntryType;

use super::fixture::{Archive, Bench, gzip, listing, message, zstd};
use crate::image::{CopyFrom, Copying, Image, ImportLimits, Sealing, Store};

/// A directory of the host with links in it, and something beside it that must not be found.
fn context(bench: &Bench) -> PathBuf {
    let context = bench.path("context");
    fs::create_dir_all(context.join("dir/inner")).unwrap();
    fs::create_dir_all(context.join("etc")).unwrap();
    for file in ["one", "dir/a.txt", "dir/b.md", "dir/inner/c.txt", "etc/passwd"] {
        fs::write(context.join(file), file).unwrap();
    }
    fs::write(bench.path("victim"), "secret").unwrap();
    for (link, target) in [
        ("link", "dir/a.txt"),
        ("chain", "link"),
        ("absolute", "/etc/passwd"),
        ("out", "../victim"),
        ("far-out", "../../../../../../etc/hostname"),
        ("loop", "loop"),
        ("dir/up", "../one"),
        ("to-dir", "dir"),
        ("dangling", "nowhere"),
    ] {
        symlink(target, context.join(link)).unwrap();
    }
    context
}

fn everything(_: &Path, _: bool) -> bool {
    true
}

fn find(from: CopyFrom<'_>, path: &str) -> String {
    match from.find(Path::new(path)) {
        Ok(Some(seen)) => {
            format!("{}{}", seen.path.display(), if seen.is_directory { "/" } else { "" })
        }
        Ok(None) => "-".to_owned(),
        Err(error) => message(&error),
    }
}

#[test]
fn links_lead_nowhere_else() {
    let bench = Bench::new();
    let context = context(&bench);
    let archive = Archive::new()
        .dir("etc/")
        .file("etc/passwd", b"")
        .dir("lib/")
        .file("lib/libx.so.1", b"x")
        .symlink("lib/libx.so", "libx.so.1")
        .symlink("absolute", "/etc/passwd")
        .symlink("out", "../../../etc/hostname")
        .symlink("loop", "loop")
        .symlink("lib64", "lib")
        .end();
    let image = bench.import(&bench.source(&archive)).unwrap();
    let directory = CopyFrom::Directory(&context, &everything);
    for (from, path, expect) in [
        (directory, "one", "one"),
        (directory, "", "/"),
        (directory, "dir", "dir/"),
        (directory, "link", "dir/a.txt"),
        (directory, "chain", "dir/a.txt"),
        (directory, "absolute", "etc/passwd"),
        (directory, "out", "-"),
        (directory, "far-out", "-"),
        (directory, "dangling", "-"),
        (directory, "one/below", "-"),
        (directory, "dir/up", "one"),
        (directory, "to-dir/inner", "dir/inner/"),
        (directory, "loop", "too many symbolic links"),
        (directory, "../victim", "`..`"),
        (CopyFrom::Image(&image), "lib/libx.so", "lib/libx.so.1"),
        (CopyFrom::Image(&image), "lib64/libx.so", "lib/libx.so.1"),
        (CopyFrom::Image(&image), "absolute", "etc/passwd"),
        (CopyFrom::Image(&image), "out", "-"),
        (CopyFrom::Image(&image), "lib64", "lib/"),
        (CopyFrom::Image(&image), "loop", "too many symbolic links"),
    ] {
        let found = find(from, path);
        assert!(found == expect || expect.len() > 3 && found.contains(expect), "{path}: {found}");
    }
}

fn copied(bench: &Bench, from: CopyFrom<'_>, path: &str, to: &str) -> String {
    let store = Store::open(&bench.path("state")).unwrap();
    let (limits, stopped) = (ImportLimits::default(), AtomicBool::new(false));
    let how = Sealing { moment: 1_000_000_000, limits: &limits, stopped: &stopped };
    let paths = [PathBuf::from(path)];
    let copying =
        Copying { from, paths: &paths, to, owner: Some((0, 0)), mode: None, alone: false };
    listing(&store.copy_in(copying, &[], how).unwrap().unwrap().path)
}

#[test]
fn a_link_that_is_named_becomes_what_it_leads_to() {
    let bench = Bench::new();
    let context = context(&bench);
    let from = CopyFrom::Directory(&context, &everything);
    let shown = copied(&bench, from, "chain", "/new/");
    assert!(shown.contains("new/chain") && shown.contains("dir/a.txt"), "{shown}");
    // Those in a directory that is copied stay.
    let shown = copied(&bench, from, "to-dir", "/new/");
    assert!(shown.contains("../one") && shown.contains("inner/c.txt"), "{shown}");
}

#[test]
fn lists_go_as_deep_as_is_asked_for() {
    let bench = Bench::new();
    let context = context(&bench);
    let archive = Archive::new()
        .dir("dir/")
        .file("dir/a.txt", b"")
        .file("dir/b.md", b"")
        .symlink("dir/up", "../one")
        .dir("dir/inner/")
        .file("dir/inner/c.txt", b"")
        .file("one", b"")
        .end();
    let image = bench.import(&bench.source(&archive)).unwrap();
    for from in [CopyFrom::Directory(&context, &everything), CopyFrom::Image(&image)] {
        let list = |at: &str, parts| {
            let mut all: Vec<_> = from
                .list(Path::new(at), parts)
                .unwrap()
                .iter()
                .map(|seen| seen.path.display().to_string())
                .collect();
            all.sort();
            all.join(" ")
        };
        assert_eq!(list("dir", 2), "dir/a.txt dir/b.md dir/inner dir/up");
        assert_eq!(list("dir", 3), "dir/a.txt dir/b.md dir/inner dir/inner/c.txt dir/up");
        assert!(list("", 1).contains("dir") && !list("", 1).contains('/'), "{}", list("", 1));
        assert_eq!(list("nowhere", 2), "");
        assert_eq!(list("one", 2), "");
    }
}

#[test]
fn archives_are_told_from_files() {
    let bench = Bench::new();
    let context = bench.path("context");
    fs::create_dir(&context).unwrap();
    let archive = Archive::new().dir("d/").file("d/f", b"content").symlink("l", "/etc").end();
    let store = Store::open(&bench.path("state")).unwrap();
    let unpack = |content: &[u8]| -> Result<Option<Image>, String> {
        fs::write(context.join("file"), content).unwrap();
        store.unpacked(&context, Path::new("file")).map_err(|error| message(&error))
    };
    for content in [archive.clone(), gzip(&archive), zstd(&archive)] {
        let image = unpack(&content).unwrap().unwrap();
        let shown = listing(&image.layers[0].path);
        assert!(shown.contains("d/f") && shown.contains("/etc"), "{shown}");
    }
    for content in [&b""[..], b"text", &gzip(b"text"), &[0; 2048], &archive[..100], b"\x1f\x8b"] {
        assert!(unpack(content).unwrap().is_none(), "{:?}", &content[..content.len().min(20)]);
    }
    for (content, expect) in [(&b"BZh91AY"[..], "bzip2"), (b"\xfd7zXZ\0", "xz")] {
        let told = unpack(content).unwrap_err();
        assert!(told.contains(expect), "{told}");
    }
    // A directory, and what is not there.
    assert!(store.unpacked(&context, Path::new("")).unwrap().is_none());
    assert!(store.unpacked(&context, Path::new("none")).unwrap().is_none());
    // Cut in the middle of an entry.
    assert!(unpack(&archive[..600]).is_err());
    bench.assert_whole();
}

#[test]
fn what_an_archive_tries_is_refused() {
    let bench = Bench::new();
    let context = bench.path("context");
    fs::create_dir(&context).unwrap();
    fs::write(bench.path("victim"), "secret").unwrap();
    let store = Store::open(&bench.path("state")).unwrap();
    let victim = bench.path("victim").display().to_string();
    for (what, archive) in [
        ("a path above", Archive::new().file("../../victim", b"x").end()),
        ("a link and through it", Archive::new().symlink("l", "/").file("l/victim", b"x").end()),
        ("a hard link out", Archive::new().hardlink("h", "../../victim").end()),
        ("a whiteout above", Archive::new().file(".wh...", b"").end()),
        ("a hard link to an absolute path", Archive::new().hardlink("h", &victim).end()),
    ] {
        fs::write(context.join("file"), &archive).unwrap();
        let outcome = store.unpacked(&context, Path::new("file"));
        assert!(outcome.is_err(), "{what}");
        assert_eq!(fs::read(bench.path("victim")).unwrap(), b"secret", "{what}");
    }
    // Devices are left out.
    let archive = Archive::new().link(EntryType::Char, "null", "").file("f", b"").end();
    fs::write(context.join("file"), &archive).unwrap();
    let image = store.unpacked(&context, Path::new("file")).unwrap().unwrap();
    assert!(!image.layers[0].path.join("null").exists());
    // The file itself is behind a link that leads out.
    fs::write(bench.path("outside.tar"), &archive).unwrap();
    symlink("../outside.tar", context.join("link")).unwrap();
    assert!(store.unpacked(&context, Path::new("link")).unwrap().is_none());
    bench.assert_whole();
}
