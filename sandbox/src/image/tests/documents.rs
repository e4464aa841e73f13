//! Layouts and archives whose documents lie, and what is said to them.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};

use super::fixture::{
    Archive, Bench, CONFIG, Files, INDEX, MANIFEST, Stored, add_blob, config, descriptor, docker,
    gzip, index, layout, manifest, message, name, pack,
};
use crate::{
    Fault,
    image::{Digest, ImportOptions, platform},
};

fn layer() -> Vec<u8> {
    Archive::new().file("f", b"x").end()
}

/// Imports a layout and compares the refusal; digests and paths are scrubbed.
fn refused(bench: &Bench, files: &Files) -> String {
    let directory = bench.source_directory(files);
    let error = bench.import(&directory).unwrap_err();
    assert_eq!(error.fault(), Fault::Pipeline, "{}", message(&error));
    bench.assert_whole();
    assert_eq!(bench.store.list().unwrap(), []);
    // The same as an archive: the refusal does not depend on how the files are packed.
    let archived = bench.import(&bench.source(&pack(files))).unwrap_err();
    assert_eq!(archived.fault(), Fault::Pipeline, "{}", message(&archived));
    bench.assert_whole();
    scrub(&message(&error), &directory.display().to_string())
}

fn scrub(text: &str, directory: &str) -> String {
    let size = format!("`{}`", gzip(&layer()).len());
    let text = text
        .replace(&size, "`SIZE`")
        .replace(directory, "LAYOUT")
        .replace(platform::architecture(), "HOST");
    let mut scrubbed = String::new();
    let mut hex = String::new();
    for character in text.chars().chain(['\n']) {
        if character.is_ascii_digit() || ('a'..='f').contains(&character) {
            hex.push(character);
            continue;
        }
        scrubbed.push_str(if hex.len() >= 64 { "HEX" } else { &hex });
        hex.clear();
        scrubbed.push(character);
    }
    scrubbed.trim_end().to_owned()
}

/// A layout of one gzip layer, whose manifest `change` may falsify before it is hashed.
fn with_manifest(change: impl FnOnce(&mut Value, &mut Files)) -> Files {
    let mut files = Files::new();
    let manifest = manifest(&mut files, &[layer()], Stored::Gzip);
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    change(&mut manifest, &mut files);
    let manifest = manifest.to_string().into_bytes();
    add_blob(&mut files, &manifest);
    index(&mut files, &[descriptor(MANIFEST, &manifest)]);
    files
}

/// The same with the configuration falsified.
fn with_config(change: impl FnOnce(&mut Value)) -> Files {
    with_manifest(|manifest, files| {
        let mut document: Value =
            serde_json::from_str(&config(&[layer()], platform::architecture())).unwrap();
        change(&mut document);
        let document = document.to_string();
        add_blob(files, document.as_bytes());
        manifest["config"] = descriptor(CONFIG, document.as_bytes());
    })
}

/// The same with the index falsified.
fn with_index(change: impl FnOnce(&mut Value)) -> Files {
    let mut files = layout(&[layer()], Stored::Gzip);
    let mut index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    change(&mut index);
    files.insert("index.json".to_owned(), index.to_string().into_bytes());
    files
}

#[test]
fn layouts_that_lie() {
    let zeros = "0".repeat(64);
    let other = if platform::architecture() == "s390x" { "amd64" } else { "s390x" };
    let cases: Vec<(&str, Files)> = vec![
        (
            "layer digest",
            with_manifest(|manifest, files| {
                let blob = gzip(&Archive::new().file("f", b"other").end());
                let path = manifest["layers"][0]["digest"].as_str().unwrap().replace(':', "/");
                manifest["layers"][0]["size"] = json!(blob.len());
                files.insert(format!("blobs/{path}"), blob);
            }),
        ),
        ("layer size", with_manifest(|manifest, _| manifest["layers"][0]["size"] = json!(7))),
        (
            "diff id",
            with_config(|config| {
                config["rootfs"]["diff_ids"][0] = json!(format!("sha256:{zeros}"));
            }),
        ),
        (
            "layer missing",
            with_manifest(|manifest, _| {
                manifest["layers"][0]["digest"] = json!(format!("sha256:{zeros}"));
            }),
        ),
        (
            "manifest missing",
            with_index(|index| {
                index["manifests"][0]["digest"] = json!(format!("sha256:{zeros}"));
            }),
        ),
        ("manifest size", with_index(|index| index["manifests"][0]["size"] = json!(5))),
        (
            "gzip called plain",
            with_manifest(|manifest, _| {
                manifest["layers"][0]["mediaType"] =
                    json!("application/vnd.oci.image.layer.v1.tar");
            }),
        ),
        (
            "gzip called zstd",
            with_manifest(|manifest, _| {
                manifest["layers"][0]["mediaType"] =
                    json!("application/vnd.oci.image.layer.v1.tar+zstd");
            }),
        ),
        (
            "unknown layer",
            with_manifest(|manifest, _| {
                manifest["layers"][0]["mediaType"] = json!("application/x-evil\u{1b}[2J");
            }),
        ),
        (
            "foreign URLs",
            with_manifest(|manifest, _| {
                manifest["layers"][0]["urls"] = json!(["http://169.254.169.254/"]);
            }),
        ),
        (
            "not distributable",
            with_manifest(|manifest, _| {
                manifest["layers"][0]["mediaType"] =
                    json!("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
            }),
        ),
        ("no layers", with_manifest(|manifest, _| manifest["layers"] = json!([]))),
        ("layers and manifests", with_manifest(|manifest, _| manifest["manifests"] = json!([]))),
        (
            "manifest called index",
            with_manifest(|manifest, _| manifest["mediaType"] = json!(INDEX)),
        ),
        (
            "index as manifest",
            with_index(|index| index["manifests"][0]["mediaType"] = json!(INDEX)),
        ),
        ("schema 1", with_manifest(|manifest, _| manifest["schemaVersion"] = json!(1))),
        (
            "no image",
            with_manifest(|manifest, _| {
                manifest["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json");
            }),
        ),
        (
            "digest as path",
            with_index(|index| {
                index["manifests"][0]["digest"] = json!("sha256:../../../../etc/passwd");
            }),
        ),
        ("another architecture", with_config(|config| config["architecture"] = json!(other))),
        ("another system", with_config(|config| config["os"] = json!("windows"))),
        ("no architecture", with_config(|config| config["architecture"] = json!(""))),
        (
            "another platform in the index",
            with_index(|index| {
                index["manifests"][0]["platform"] = json!({"architecture": other, "os": "linux"});
            }),
        ),
        ("more layers than ids", with_config(|config| config["rootfs"]["diff_ids"] = json!([]))),
        (
            "working directory",
            with_config(|config| {
                config["config"]["WorkingDir"] = json!("/proc/self/fd/7\0");
            }),
        ),
        ("layout version", {
            let mut files = layout(&[layer()], Stored::Gzip);
            files.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"2.0.0"}"#.to_vec());
            files
        }),
        ("index of 5 MiB", {
            let mut files = layout(&[layer()], Stored::Gzip);
            files.get_mut("index.json").unwrap().resize(5 << 20, b' ');
            files
        }),
        ("a key twice", {
            let mut files = layout(&[layer()], Stored::Gzip);
            let index = String::from_utf8(files["index.json"].clone()).unwrap();
            let index = index.replacen('{', r#"{"manifests":[],"#, 1);
            files.insert("index.json".to_owned(), index.into_bytes());
            files
        }),
        ("nested deeply", {
            let mut files = layout(&[layer()], Stored::Gzip);
            for _ in 0..4 {
                let inner = files["index.json"].clone();
                add_blob(&mut files, &inner);
                index(&mut files, &[descriptor(INDEX, &inner)]);
            }
            files
        }),
    ];
    let bench = Bench::new();
    let messages: BTreeMap<_, _> =
        cases.iter().map(|(case, files)| (*case, refused(&bench, files))).collect();
    let text: Vec<_> = messages.iter().map(|(case, text)| format!("{case}: {text}")).collect();
    insta::assert_snapshot!(text.join("\n"), @r#"
    a key twice: failed to read the image layout `LAYOUT`: an index or manifest is malformed: duplicate field `manifests` at line 1 column 99
    another architecture: failed to read the image layout `LAYOUT`: the image is for `linux/s390x` and this host is `linux/HOST`
    another platform in the index: failed to read the image layout `LAYOUT`: it holds images for `linux/s390x` and this host is `linux/HOST`
    another system: failed to read the image layout `LAYOUT`: the image is for `windows/HOST` and this host is `linux/HOST`
    diff id: failed to unpack layer `sha256:HEX` of `LAYOUT`: its diff id is `sha256:HEX` where `sha256:HEX` was promised
    digest as path: failed to read the image layout `LAYOUT`: `sha256:../../../../etc/passwd` is not a digest; a digest is `sha256:` and 64, or `sha512:` and 128, lowercase hexadecimal digits
    foreign URLs: failed to read the image layout `LAYOUT`: a descriptor names foreign URLs, which are never fetched
    gzip called plain: failed to unpack layer `sha256:HEX` of `LAYOUT`: its compression is `gzip` where `none` was promised
    gzip called zstd: failed to unpack layer `sha256:HEX` of `LAYOUT`: its compression is `gzip` where `zstd` was promised
    index as manifest: failed to read the image layout `LAYOUT`: a document of type `application/vnd.oci.image.index.v1+json` says that it is `application/vnd.oci.image.manifest.v1+json`
    index of 5 MiB: failed to read `index.json` in `LAYOUT`: it has 5242880 bytes, 4194304 are allowed
    layer digest: failed to unpack layer `sha256:HEX` of `LAYOUT`: its digest is `sha256:HEX` where `sha256:HEX` was promised
    layer missing: failed to open `blobs/sha256/HEX` in `LAYOUT`: No such file or directory (os error 2)
    layer size: failed to unpack layer `sha256:HEX` of `LAYOUT`: its size is `SIZE` where `7` was promised
    layers and manifests: failed to read the image layout `LAYOUT`: an index or manifest does not have the shape that its type promises
    layout version: failed to read the image layout `LAYOUT`: it has layout version `2.0.0` and 1.x is understood
    manifest called index: failed to read the image layout `LAYOUT`: a document of type `application/vnd.oci.image.manifest.v1+json` says that it is `application/vnd.oci.image.index.v1+json`
    manifest missing: failed to open `blobs/sha256/HEX` in `LAYOUT`: No such file or directory (os error 2)
    manifest size: failed to read `sha256:HEX` of `LAYOUT`: its size is `400` where `5` was promised
    more layers than ids: failed to read the image layout `LAYOUT`: the manifest has 1 layers, the configuration 0
    nested deeply: failed to read the image layout `LAYOUT`: indexes are nested more than 3 deep
    no architecture: failed to read the image layout `LAYOUT`: the image is for `linux/unknown` and this host is `linux/HOST`
    no image: failed to read the image layout `LAYOUT`: `application/vnd.cncf.helm.config.v1+json` is no image configuration: this is no image to run
    no layers: failed to read the image layout `LAYOUT`: the image has no layers
    not distributable: failed to read the image layout `LAYOUT`: a layer is not distributable: its content lies elsewhere and is never fetched
    schema 1: failed to read the image layout `LAYOUT`: an index or manifest does not have schema version 2
    unknown layer: failed to read the image layout `LAYOUT`: `application/x-evil\x1b[2J` is no layer that can be unpacked
    working directory: failed to read the image layout `LAYOUT`: the image's WorkingDir holds a NUL byte
    "#);
}

#[test]
fn links_and_pipes_in_a_layout() {
    let bench = Bench::new();
    let secret = bench.path("secret");
    fs::write(&secret, "secret").unwrap();
    let files = layout(&[layer()], Stored::Gzip);
    let directory = bench.source_directory(&files);
    let index = directory.join("index.json");
    fs::remove_file(&index).unwrap();
    std::os::unix::fs::symlink(&secret, &index).unwrap();
    let error = message(&bench.import(&directory).unwrap_err());
    assert!(error.contains("lacks `oci-layout` or `index.json`"), "{error}");
    fs::remove_file(&index).unwrap();
    // Opening it must not wait for someone to write.
    nix::unistd::mkfifo(&index, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(bench.import(&directory).is_err());
    assert!(bench.import(&index).is_err());
    assert!(bench.import(&bench.path("absent")).is_err());
    bench.assert_whole();
}

/// A layout of several images needs a choice, and a layout of several platforms makes it.
#[test]
fn several_images() {
    let bench = Bench::new();
    let mut files = Files::new();
    let other = if platform::architecture() == "s390x" { "amd64" } else { "s390x" };
    let mut manifests = Vec::new();
    for (tag, content) in [("one", b"1"), ("two", b"2")] {
        let layer = Archive::new().file(tag, content).end();
        let manifest = manifest(&mut files, &[layer], Stored::Zstd);
        add_blob(&mut files, &manifest);
        let mut descriptor = descriptor(MANIFEST, &manifest);
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        manifests.push(descriptor);
    }
    index(&mut files, &manifests);
    let directory = bench.source_directory(&files);
    let error = message(&bench.import(&directory).unwrap_err());
    assert!(error.contains("several images: `one`, `two`"), "{error}");
    let select = |select: &str| ImportOptions {
        select: Some(select.to_owned()),
        ..ImportOptions::default()
    };
    let image = bench.import_with(&directory, &select("two")).unwrap();
    assert!(image.layers[0].path.join("two").exists());
    let error = message(&bench.import_with(&directory, &select("three")).unwrap_err());
    assert!(error.contains("no image `three`; it holds `one`, `two`"), "{error}");

    manifests[0]["platform"] = json!({"architecture": other, "os": "linux"});
    manifests[1]["platform"] = json!({"architecture": platform::architecture(), "os": "linux"});
    index(&mut files, &manifests);
    let image = bench.import(&bench.source_directory(&files)).unwrap();
    assert!(image.layers[0].path.join("two").exists());
}

#[test]
fn docker_archives_that_lie() {
    let bench = Bench::new();
    let good = docker(&[layer()]);
    let manifest = |change: &dyn Fn(&mut Value)| {
        let mut files = good.clone();
        let mut manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        change(&mut manifest);
        files.insert("manifest.json".to_owned(), manifest.to_string().into_bytes());
        pack(&files)
    };
    let member = format!("{}/layer.tar", Digest::of(&layer()).hex());
    let without_layer = || {
        let mut files = good.clone();
        files.remove(&member);
        let mut archive = pack(&files);
        archive.truncate(archive.len() - 1024);
        Archive(archive)
    };
    let link = |target: &str| without_layer().symlink(&member, target).end();
    for (case, archive, expected) in [
        (
            "config outside",
            manifest(&|m| m[0]["Config"] = json!("../../../etc/passwd")),
            "does not hold it",
        ),
        (
            "layer outside",
            manifest(&|m| m[0]["Layers"][0] = json!("/etc/passwd")),
            "does not hold it",
        ),
        ("no layers", manifest(&|m| m[0]["Layers"] = json!(null)), "no layers"),
        ("no images", manifest(&|m| *m = json!([])), "no such image"),
        ("not a list", manifest(&|m| *m = json!({})), "malformed"),
        ("several", manifest(&|m| *m = json!([m[0], m[0]])), "several images"),
        ("layer twice", manifest(&|m| m[0]["Layers"] = json!([member, member])), "2 layers"),
        ("link outside", link("../../../../../../etc/passwd"), "does not hold it"),
        ("link to itself", link("layer.tar"), "does not hold it"),
        (
            "layer is a device",
            without_layer().with(tar::EntryType::Char, member.as_bytes(), b"", |_| {}).end(),
            "plain files",
        ),
        (
            "member twice",
            Archive([pack(&good)[..pack(&good).len() - 1024].to_vec(), pack(&good)].concat()).0,
            "holds it twice",
        ),
    ] {
        let error = bench.import(&bench.source(&archive)).unwrap_err();
        assert!(message(&error).contains(expected), "{case}: {}", message(&error));
        assert_eq!(error.fault(), Fault::Pipeline, "{case}");
        bench.assert_whole();
    }
    // A link to another member is how older versions write a layer twice.
    let stored = "0".repeat(64) + "/layer.tar";
    let archive = without_layer().file(&stored, &layer()).symlink(&member, &format!("../{stored}"));
    bench.import(&bench.source(&archive.end())).unwrap();
}

#[test]
fn names_that_are_taken_or_pinned() {
    let bench = Bench::new();
    let path = bench.source_directory(&layout(&[layer()], Stored::Gzip));
    let import = |text: &str| {
        let options = ImportOptions::default();
        bench.store.import(&path, &name(text), &options, &|_| std::ops::ControlFlow::Continue(()))
    };
    assert!(message(&import("host").unwrap_err()).contains("belongs to the embedded image"));
    let wrong = format!("app@sha256:{}", "0".repeat(64));
    assert!(message(&import(&wrong).unwrap_err()).contains("its manifest has the digest"));
    let index: Value = serde_json::from_slice(&fs::read(path.join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    import("app:v1").unwrap();
    for found in [digest.to_owned(), format!("app@{digest}"), format!("app:other@{digest}")] {
        assert!(bench.store.find(&found).unwrap().is_some(), "{found}");
    }
    assert!(bench.store.find(&format!("another@{digest}")).unwrap().is_none());
}
