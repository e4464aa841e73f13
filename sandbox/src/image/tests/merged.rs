//! Several layers as one tree: compared, and written out.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use tar::EntryType;

use super::fixture::{Archive, Bench, Stored, layout, listing, message, name, owned, pack};
use crate::image::{Image, ImportOptions, Kind, Store};

fn import(bench: &Bench, as_name: &str, layers: &[Vec<u8>]) -> Image {
    let source = bench.path(&format!("{as_name}.tar"));
    fs::write(&source, pack(&layout(layers, Stored::Plain))).unwrap();
    let store = Store::open(&bench.path("state")).unwrap();
    store
        .import(&source, &name(as_name), &ImportOptions::default(), &|_| {
            std::ops::ControlFlow::Continue(())
        })
        .unwrap()
}

fn base() -> Vec<u8> {
    Archive::new()
        .dir("etc/")
        .file("etc/a", b"one")
        .file("etc/b", b"two")
        .dir("gone/")
        .file("gone/x", b"x")
        .dir("opaque/")
        .file("opaque/below", b"below")
        .file("program", b"program")
        .hardlink("program-too", "program")
        .symlink("link", "etc/a")
        .end()
}

fn change() -> Vec<u8> {
    Archive::new()
        .dir("etc/")
        .file("etc/.wh.a", b"")
        .file("etc/b", b"TWO")
        .file("etc/c", b"three")
        .file(".wh.gone", b"")
        .dir("opaque/")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/above", b"above")
        .symlink("link", "etc/b")
        .end()
}

fn differences(before: &Image, after: &Image) -> Vec<String> {
    let mut lines = Vec::new();
    before
        .compare(after, |it| {
            let sign = match it.kind {
                Kind::Added => '+',
                Kind::Changed => '~',
                Kind::Deleted => '-',
            };
            lines.push(format!("{sign} {} {} {}", it.path.display(), it.before, it.after));
            Ok(())
        })
        .unwrap();
    lines
}

#[test]
fn images_differ_in_what_their_containers_see() {
    let bench = Bench::new();
    let (before, after) =
        (import(&bench, "a", &[base()]), import(&bench, "b", &[base(), change()]));
    let forward = [
        "- etc/a 3 0",
        "~ etc/b 3 3",
        "+ etc/c 0 5",
        "- gone 0 0",
        "- gone/x 1 0",
        "~ link 0 0",
        "+ opaque/above 0 5",
        "- opaque/below 5 0",
    ];
    assert_eq!(differences(&before, &after), forward);
    let backward: Vec<_> =
        differences(&after, &before).iter().map(|line| line.chars().next().unwrap()).collect();
    assert_eq!(backward, ['+', '~', '-', '+', '+', '~', '-', '+']);
    assert!(differences(&after, &after).is_empty());
    // Other layers with the same files are no difference: times do not count.
    let merged = Archive::new()
        .dir("etc/")
        .file("etc/b", b"TWO")
        .file("etc/c", b"three")
        .symlink("link", "etc/b")
        .dir("opaque/")
        .file("opaque/above", b"above")
        .file("program", b"program")
        .hardlink("program-too", "program")
        .end();
    assert!(differences(&after, &import(&bench, "c", &[merged])).is_empty());
}

#[test]
fn an_image_is_written_out_as_one_tree() {
    let bench = Bench::new();
    let image = import(&bench, "b", &[base(), change()]);
    let target = bench.path("out");
    let written = image.write_out(&target).unwrap();
    insta::assert_snapshot!(owned(&listing(&target)), @r#"
    etc/ 755 0:0
    etc/b 644 0:0 "TWO"
    etc/c 644 0:0 "three"
    link -> etc/b
    opaque/ 755 0:0
    opaque/above 644 0:0 "above"
    program 644 0:0 links=2 "program"
    program-too 644 0:0 links=2 "program"
    "#);
    assert_eq!((written.entries, written.bytes), (8, 20));
    let inode = |path: &str| fs::metadata(target.join(path)).unwrap().ino();
    assert_eq!(inode("program"), inode("program-too"));
    let again = image.write_out(&target).unwrap_err();
    assert!(message(&again).contains("the directory is not empty"), "{}", message(&again));
}

/// Who owns a directory could exchange what is written into it for links, which root would follow.
#[test]
fn directories_get_their_owners_when_all_is_written() {
    let bench = Bench::new();
    let mut theirs = Archive::header(EntryType::Directory, b"theirs/", 0);
    theirs.set_uid(1000);
    theirs.set_gid(1000);
    theirs.set_cksum();
    let archive = Archive::new().raw(&theirs, b"").dir("theirs/below/").file("theirs/below/f", b"");
    let image = import(&bench, "theirs", &[archive.end()]);
    let target = bench.path("out");
    let filled = image.fill(&target).unwrap();
    let (me, directory) = (nix::unistd::geteuid(), target.join("theirs"));
    let found = fs::metadata(&directory).unwrap();
    assert_eq!((found.uid(), found.mode() & 0o7777), (me.as_raw(), 0o700));
    filled.finish().unwrap();
    let found = fs::metadata(&directory).unwrap();
    let owner = if me.is_root() { 1000 } else { me.as_raw() };
    assert_eq!((found.uid(), found.mode() & 0o7777), (owner, 0o755));
}

/// As deep as an archive may be, under more layers than one directory may be open in.
#[test]
fn deep_trees_of_many_layers_are_walked() {
    let bench = Bench::new();
    let deep = "d/".repeat(200);
    let layers: Vec<_> = (0..10)
        .map(|layer| {
            let mut archive = Archive::new();
            for depth in 1..=200 {
                archive = archive.pax(&[("path", "d/".repeat(depth).as_bytes())]).dir("d/");
            }
            archive.pax(&[("path", format!("{deep}{layer}").as_bytes())]).file("f", b"x").end()
        })
        .collect();
    let image = import(&bench, "deep", &layers);
    let target = bench.path("out");
    let written = image.write_out(&target).unwrap();
    assert_eq!(written.entries, 210);
    assert_eq!(fs::read_dir(target.join(Path::new(&deep))).unwrap().count(), 10);
}
