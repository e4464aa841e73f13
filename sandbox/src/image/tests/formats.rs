//! Every kind of source gives the same image, and names, layers and leases behave.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use super::fixture::{
    Archive, Bench, Stored, attribute, docker, gzip, layout, listing, message, name, owned, pack,
    zstd,
};

/// Two layers with ids, modes, links, whiteouts and an opaque directory.
fn layers() -> Vec<Vec<u8>> {
    vec![
        Archive::new()
            .dir("./")
            .dir("etc/")
            .file("etc/passwd", b"root")
            .file("etc/old", b"old")
            .dir("data/")
            .file("data/below", b"below")
            .with(tar::EntryType::Regular, b"su", b"prog", |header| header.set_mode(0o4755))
            .with(tar::EntryType::Regular, b"mine", b"1000", |header| {
                header.set_uid(1000);
                header.set_gid(100_000);
            })
            .hardlink("etc/passwd-", "etc/passwd")
            .symlink("bin", "usr/bin")
            .end(),
        Archive::new()
            .dir("etc/")
            .file("etc/.wh.old", b"")
            .dir("data/")
            .file("data/.wh..wh..opq", b"")
            .file("data/above", b"above")
            .end(),
    ]
}

const LOWER: &str = r#"bin -> usr/bin
data/ 755 0:0
data/below 644 0:0 "below"
etc/ 755 0:0
etc/old 644 0:0 "old"
etc/passwd 644 0:0 links=2 "root"
etc/passwd- 644 0:0 links=2 "root"
mine 644 1000:100000 "1000"
su 4755 0:0 "prog""#;

const UPPER: &str = r#"data/ 755 0:0 opaque
data/above 644 0:0 "above"
etc/ 755 0:0
etc/old whiteout"#;

fn check(bench: &Bench, path: &Path) {
    let image = bench.import(path).unwrap();
    let listings: Vec<_> = image.layers.iter().map(|layer| listing(&layer.path)).collect();
    assert_eq!(listings, [owned(LOWER), owned(UPPER)]);
    assert_eq!(image.config.env, [("A".to_owned(), "b".to_owned())]);
    assert_eq!((image.config.user.as_str(), image.config.working_dir.as_str()), ("1000", "/work"));
    let found = bench.store.find("test/image:v1").unwrap().unwrap();
    assert_eq!(found.digest, image.digest);
    assert_eq!(found.layers.len(), 2);
    let by_id = bench.store.find(&image.digest.to_string()).unwrap().unwrap();
    assert_eq!(by_id.digest, image.digest);
    bench.assert_whole();
}

#[test]
fn layouts_as_directories_and_archives() {
    for stored in [Stored::Plain, Stored::Gzip, Stored::Zstd] {
        let files = layout(&layers(), stored);
        let bench = Bench::new();
        check(&bench, &bench.source_directory(&files));
        check(&bench, &bench.source(&pack(&files)));
        let bench = Bench::new();
        check(&bench, &bench.source(&pack(&files)));
        let bench = Bench::new();
        check(&bench, &bench.source(&gzip(&pack(&files))));
    }
}

/// The entry of a hard link says what the file is, as in containerd and Docker; of a symbolic link,
/// only whose. Neither follows it.
#[test]
fn hard_links_say_what_the_file_is() {
    let link = |archive: Archive, name: &str, target: &str, mode: u32, owner: u64| {
        archive.with(tar::EntryType::Link, name.as_bytes(), b"", |header| {
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
            header.set_mode(mode);
            header.set_uid(owner);
            header.set_mtime(7);
        })
    };
    let archive = Archive::new()
        .with(tar::EntryType::Regular, b"file", b"owned", |header| {
            header.set_mode(0o4755);
            header.set_uid(1000);
        })
        .file("other", b"untouched")
        .symlink("symlink", "other");
    let archive = link(archive, "to-file", "file", 0o2600, 33);
    let archive = link(archive, "to-root", "to-file", 0o4711, 0);
    let archive = link(archive, "to-symlink", "symlink", 0o777, 44).end();
    let bench = Bench::new();
    let image = bench.import(&bench.source(&archive)).unwrap();
    let root = &image.layers[0].path;
    assert_eq!(
        listing(root),
        owned(
            r#"file 4711 0:0 links=3 "owned"
other 644 0:0 "untouched"
symlink -> other
to-file 4711 0:0 links=3 "owned"
to-root 4711 0:0 links=3 "owned"
to-symlink -> other"#
        )
    );
    let whose = |name: &str| fs::symlink_metadata(root.join(name)).unwrap().uid();
    if nix::unistd::geteuid().is_root() {
        assert_eq!((whose("symlink"), whose("to-symlink")), (44, 44));
    }
    assert_eq!(fs::metadata(root.join("file")).unwrap().mtime(), 7);
    let mut again = Vec::new();
    image.layers[0].write_archive(&mut again).unwrap();
    assert!(again == archive, "made again as another archive");
}

/// kaniko's layers name the root, and say where hard links lead to as seen from there.
#[test]
fn layers_as_kaniko_writes_them() {
    let first = Archive::new()
        .dir("/")
        .dir("/kaniko-made/")
        .file("/kaniko-made/tool", b"tool")
        .hardlink("/kaniko-made/twin", "/kaniko-made/tool")
        .symlink("/kaniko-made/link", "/kaniko-made/tool")
        .file("/kaniko-made/gone", b"gone")
        .end();
    let second = Archive::new()
        .dir("/")
        .dir("/kaniko-made/")
        .file("/kaniko-made/.wh.gone", b"")
        .file("/kaniko-made/new", b"new")
        .end();
    let bench = Bench::new();
    let layers = [first, second];
    for files in [layout(&layers, Stored::Gzip), docker(&layers)] {
        let image = bench.import(&bench.source(&pack(&files))).unwrap();
        let listings: Vec<_> = image.layers.iter().map(|layer| listing(&layer.path)).collect();
        assert_eq!(
            listings.join("\n--\n"),
            owned(
                r#"kaniko-made/ 755 0:0
kaniko-made/gone 644 0:0 "gone"
kaniko-made/link -> /kaniko-made/tool
kaniko-made/tool 644 0:0 links=2 "tool"
kaniko-made/twin 644 0:0 links=2 "tool"
--
kaniko-made/ 755 0:0
kaniko-made/gone whiteout
kaniko-made/new 644 0:0 "new""#
            )
        );
    }
}

#[test]
fn docker_archives() {
    let files = docker(&layers());
    let bench = Bench::new();
    check(&bench, &bench.source(&pack(&files)));
    let bench = Bench::new();
    check(&bench, &bench.source(&zstd(&pack(&files))));
}

/// `crane`, kaniko and Bazel's rules write the same with names of their own.
#[test]
fn docker_archives_of_others() {
    let mut files = docker(&layers());
    let manifest = String::from_utf8(files.remove("manifest.json").unwrap()).unwrap();
    let rename = |name: &str| match name.strip_suffix(".json") {
        Some(id) => format!("sha256:{id}"),
        None => format!("{}.tar.gz", name.trim_end_matches("/layer.tar")),
    };
    let manifest = files.keys().fold(manifest, |text, name| text.replace(name, &rename(name)));
    let mut theirs = super::fixture::Files::new();
    for (name, content) in files {
        let content = if name.ends_with(".json") { content } else { gzip(&content) };
        theirs.insert(rename(&name), content);
    }
    theirs.insert("manifest.json".to_owned(), manifest.into_bytes());
    let bench = Bench::new();
    check(&bench, &bench.source(&pack(&theirs)));
}

/// What an archive is, it says in its documents, wherever they stand and whatever the rest is called.
#[test]
fn docker_archives_with_names_of_their_own() {
    let files = docker(&layers());
    let manifest = String::from_utf8(files["manifest.json"].clone()).unwrap();
    for (config, layer, first) in [
        ("config.json", "layer-#.tar", false),
        ("config.json", "layer-#.tar", true),
        ("an image/my configuration", "an image/layers/number #", false),
        ("image.cfg", "aaa#", true),
        ("zzz/config", "zzz/#/layer.tar.gz", false),
    ] {
        let mut count = 0;
        let mut renamed = Vec::new();
        let mut text = manifest.clone();
        for (name, content) in files.iter().filter(|(name, _)| *name != "manifest.json") {
            let theirs = match name.strip_suffix(".json") {
                Some(_) => config.to_owned(),
                None => {
                    count += 1;
                    layer.replace('#', &count.to_string())
                }
            };
            text = text.replace(name.as_str(), &theirs);
            renamed.push((theirs, content.clone()));
        }
        let at = if first { 0 } else { renamed.len() };
        renamed.insert(at, ("manifest.json".to_owned(), text.into_bytes()));
        let mut builder = Archive::new();
        for directory in ["an image", "zzz"] {
            builder = builder.dir(directory);
        }
        for (name, content) in &renamed {
            builder = builder.file(name, content);
        }
        let archive = builder.end();
        for content in [archive.clone(), gzip(&archive)] {
            let bench = Bench::new();
            check(&bench, &bench.source(&content));
        }
    }
}

#[test]
fn root_file_systems_with_documents_like_those_of_images() {
    let saved = docker(&layers());
    let saved = saved["manifest.json"].as_slice();
    for (manifest, first, expect_rootfs) in [
        (b"{\"name\": \"an app\"}".as_slice(), "app", true),
        (b"[]", "app", true),
        (b"[{\"Config\": 1}]", "app", true),
        (b"no JSON", "app", true),
        // Only ever in a root file system, and before anything was said.
        (saved, "etc/motd", true),
        (saved, "app", false),
    ] {
        let archive = Archive::new()
            .file(first, b"hello\n")
            .file("manifest.json", manifest)
            .file("oci-layout", b"{}")
            .end();
        let bench = Bench::new();
        let imported = bench.import(&bench.source(&archive));
        match expect_rootfs {
            true => {
                let image = imported.unwrap();
                assert!(image.layers[0].path.join(first).is_file());
                assert!(image.layers[0].path.join("manifest.json").is_file());
            }
            false => {
                let said = message(&imported.unwrap_err());
                assert!(said.contains("the archive does not hold it"), "{said}");
            }
        }
        bench.assert_whole();
    }
    // After that many, nobody looks any further.
    let mut builder = Archive::new();
    for number in 0..=1024 {
        builder = builder.file(&format!("a{number}"), b"");
    }
    let archive = builder.file("manifest.json", saved).end();
    let bench = Bench::new();
    assert_eq!(bench.import(&bench.source(&archive)).unwrap().layers.len(), 1);
}

#[test]
fn root_file_systems() {
    let rootfs = layers().remove(0);
    let bench = Bench::new();
    let mut ids = Vec::new();
    for content in [rootfs.clone(), gzip(&rootfs), zstd(&rootfs)] {
        let image = bench.import(&bench.source(&content)).unwrap();
        assert_eq!(listing(&image.layers[0].path), owned(LOWER));
        assert_eq!(image.layers.len(), 1);
        ids.push(image.digest);
        bench.assert_whole();
    }
    // The same files are the same image, however they were packed.
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[test]
fn the_host_image_is_found_again() {
    let bench = Bench::new();
    let first = bench.store.find("host").unwrap().unwrap();
    let again = bench.store.get("host").unwrap();
    assert_eq!(first.layers[0].path, again.layers[0].path);
    let root = &first.layers[0].path;
    assert!(fs::read_to_string(root.join("etc/passwd")).unwrap().starts_with("root:x:0:0:"));
    for absent in ["etc/shadow", "etc/machine-id", "etc/ssh", "etc/hostname", "etc/ssl/private"] {
        assert!(root.join(absent).symlink_metadata().is_err(), "{absent}");
    }
    assert_eq!(first.host_mounts[0].target, "/usr");
    bench.assert_whole();
}

#[test]
fn a_missing_image_says_what_there_is() {
    let bench = Bench::new();
    bench.import(&bench.source(&layers()[0])).unwrap();
    let error = bench.store.get("debian:12").unwrap_err();
    insta::assert_snapshot!(message(&error), @"failed to find the image `debian:12`: the store has no such image; it has `host`, `test/image:v1`");
    assert!(error.remedy_text().unwrap().contains("image import"));
    assert!(bench.store.find("Debian").is_err());
    assert_eq!(bench.store.list().unwrap()[0].reference, name("test/image:v1"));
}

/// PAX names, ids, times and attributes; of the attributes only `user.*` may come through.
#[test]
fn extended_headers_are_obeyed() {
    let long = format!("{}/file", "long".repeat(40));
    let rootfs = Archive::new()
        .pax(&[
            ("path", long.as_bytes()),
            ("size", b"7"),
            ("uid", b"123456"),
            ("mtime", b"1700000000.5"),
            ("SCHILY.xattr.user.mark", b"kept"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.capability", b"\x01\0\0\x02"),
        ])
        .with(tar::EntryType::Regular, b"short", b"content", |header| header.set_size(0))
        .file("after", b"")
        .end();
    let bench = Bench::new();
    let image = bench.import(&bench.source(&rootfs)).unwrap();
    let root = &image.layers[0].path;
    let directory = "long".repeat(40);
    assert_eq!(
        listing(root).replace(&directory, "LONG"),
        owned(
            r#"after 644 0:0 ""
LONG/ 755 0:0
LONG/file 644 123456:0 "content""#
        )
    );
    let file = root.join(&long);
    assert_eq!(attribute(&file, c"user.mark").as_deref(), Some(&b"kept"[..]));
    for dropped in [
        c"user.overlay.opaque",
        c"user.overlay.redirect",
        c"trusted.overlay.opaque",
        c"security.capability",
    ] {
        assert_eq!(attribute(&file, dropped), None, "{dropped:?}");
    }
    let modified = file.metadata().unwrap().modified().unwrap();
    let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(since.as_millis(), 1_700_000_000_500);
}
