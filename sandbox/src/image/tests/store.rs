//! Many at once, failures midway, removal, and formats of other versions.

use std::{
    fs,
    ops::ControlFlow,
    os::fd::AsFd as _,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::fixture::{
    Archive, Bench, Stored, at_most, index, layout, listing, manifest, message, name, owned, pack,
    sweep_down_to,
};
use crate::{
    Fault,
    image::{ImportOptions, Progress, Reference, Store},
};

fn layers(count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| {
            let mut archive = Archive::new().dir("d/");
            for file in 0..20 {
                archive = archive.file(&format!("d/{number}-{file}"), &[b'x'; 3000]);
            }
            archive.end()
        })
        .collect()
}

fn count(path: &Path) -> usize {
    fs::read_dir(path).unwrap().count()
}

/// Several importers of the same layers in opposite orders: all succeed, one copy each.
#[test]
fn importing_the_same_layers_at_once() {
    let bench = Bench::new();
    let layers = layers(4);
    let reversed: Vec<_> = layers.iter().rev().cloned().collect();
    let sources: Vec<_> = [&layers, &reversed, &layers, &reversed]
        .into_iter()
        .enumerate()
        .map(|(number, layers)| {
            let path = bench.path(&format!("source-{number}"));
            fs::write(&path, pack(&layout(layers, Stored::Gzip))).unwrap();
            path
        })
        .collect();
    let unpacked = AtomicUsize::new(0);
    thread::scope(|scope| {
        for (number, source) in sources.iter().enumerate() {
            let (unpacked, state) = (&unpacked, bench.path("state"));
            scope.spawn(move || {
                // A store of its own, as another process would have.
                let store = Store::open(&state).unwrap();
                let name: Reference = format!("app:v{number}").parse().unwrap();
                let image = store.import(source, &name, &ImportOptions::default(), &|progress| {
                    if matches!(progress, Progress::Unpacked { .. }) {
                        unpacked.fetch_add(1, Ordering::Relaxed);
                    }
                    ControlFlow::Continue(())
                });
                assert_eq!(image.unwrap().layers.len(), 4);
            });
        }
    });
    assert_eq!(unpacked.into_inner(), 4);
    assert_eq!(count(&bench.store.path().join("layers/sha256")), 4);
    assert_eq!(bench.store.list().unwrap().len(), 4);
    bench.assert_whole();
}

#[test]
fn removal_spares_what_is_shared_or_in_use() {
    let bench = Bench::new();
    let layers = layers(3);
    let import = |text: &str, layers: &[Vec<u8>]| {
        let source = bench.source(&pack(&layout(layers, Stored::Plain)));
        let options = ImportOptions::default();
        bench.store.import(&source, &name(text), &options, &|_| ControlFlow::Continue(())).unwrap()
    };
    drop(import("both:v1", &layers[..2]));
    let image = import("other:v1", &layers[1..]);
    let kept = bench.store.path().join("layers/sha256");

    let removed = bench.store.remove(&name("both:v1")).unwrap().unwrap();
    assert_eq!((removed.images, removed.layers + sweep_down_to(&bench, 0)), (1, 1));
    assert_eq!(count(&kept), 2);

    // The name goes, what is in use stays whole.
    let removed = bench.store.remove(&name("other:v1")).unwrap().unwrap();
    assert_eq!((removed.images, removed.layers, removed.layers_in_use), (1, 0, 2));
    assert!(bench.store.find("other:v1").unwrap().is_none());
    assert_eq!(count(&image.layers[0].path.join("d")), 20);

    // A duplicated descriptor, as a container's init holds one, keeps its layer too.
    let duplicate = image.layers[1].as_fd().try_clone_to_owned().unwrap();
    drop(image);
    assert_eq!(bench.store.remove(&name("nothing:there")).unwrap(), None);
    assert_eq!(sweep_down_to(&bench, 1), 1);
    drop(duplicate);
    assert_eq!(bench.store.collect(at_most(u64::MAX), true).unwrap().swept.layers, 1);
    assert_eq!(sweep_down_to(&bench, 0), 1);
    assert_eq!(count(&kept), 0);
    bench.assert_whole();
}

/// A failure in one of several layers leaves none of them, and importing again works.
#[test]
fn failing_and_cancelling_leave_nothing() {
    let bench = Bench::new();
    let layers = layers(5);
    let mut files = layout(&layers, Stored::Gzip);
    let good = pack(&files);
    let blob = files
        .iter_mut()
        .filter(|(name, _)| name.starts_with("blobs/"))
        .max_by_key(|(_, blob)| blob.len());
    let (_, blob) = blob.unwrap();
    let middle = blob.len() / 2;
    blob[middle] ^= 0xff;
    let error = bench.import(&bench.source(&pack(&files))).unwrap_err();
    assert_eq!(error.fault(), Fault::Pipeline, "{}", message(&error));
    bench.assert_whole();
    assert_eq!(count(&bench.store.path().join("layers/sha256")), 0);

    let source = bench.source(&good);
    let cancel = |progress| match progress {
        Progress::Unpacked { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let options = ImportOptions::default();
    let error = bench.store.import(&source, &name("app"), &options, &cancel).unwrap_err();
    assert!(message(&error).ends_with("it was cancelled"), "{}", message(&error));
    bench.assert_whole();
    assert_eq!(bench.store.list().unwrap(), []);
    assert_eq!(bench.import(&source).unwrap().layers.len(), 5);
}

/// What a killed process leaves has no lock; what a living one has is not touched.
#[test]
fn leftovers_go_at_the_next_opening() {
    let bench = Bench::new();
    let tmp = bench.store.path().join("tmp");
    fs::create_dir_all(tmp.join("1-2-3/layer-0/diff/d")).unwrap();
    fs::write(tmp.join("1-2-3/layer-0/diff/d/f"), "x").unwrap();
    fs::create_dir(tmp.join("4-5-6")).unwrap();
    let living = fs::File::open(tmp.join("4-5-6")).unwrap();
    living.lock().unwrap();
    Store::open(&bench.path("state")).unwrap();
    assert_eq!(listing(&tmp), "4-5-6/ 755 0:0");
    drop(living);
    Store::open(&bench.path("state")).unwrap();
    bench.assert_whole();
}

#[test]
fn stores_of_other_versions_are_refused() {
    let bench = Bench::new();
    let version = bench.store.path().join("version");
    for (content, expected) in [
        ("2\n", "it has format 2 and this version of cofferdam has format 1"),
        ("", "its `version` file holds no number"),
        ("one\n", "its `version` file holds no number"),
    ] {
        fs::write(&version, content).unwrap();
        let error = Store::open(&bench.path("state")).unwrap_err();
        assert!(message(&error).contains(expected), "{}", message(&error));
        assert_eq!(error.fault(), Fault::System);
        assert!(error.remedy_text().is_some());
    }
}

#[test]
fn the_store_is_closed_to_others() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new();
    let root = bench.store.path();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(root), 0o700);
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    Store::open(&bench.path("state")).unwrap();
    assert_eq!(mode(root), 0o700);
}

/// Directories that a layer only implies look like those below; hard links into lower layers are
/// copied up, and are what the link's entry says; and such a layer is kept apart from the same layer above others.
#[test]
fn layers_that_lean_on_those_below() {
    let lower = Archive::new()
        .with(tar::EntryType::Directory, b"tmp/", b"", |header| header.set_mode(0o1777))
        .with(tar::EntryType::Directory, b"home/", b"", |header| header.set_uid(7))
        .with(tar::EntryType::Regular, b"home/f", b"below", |header| {
            header.set_mode(0o640);
            header.set_uid(1000);
        })
        .symlink("home/s", "f")
        .end();
    let upper =
        Archive::new().file("tmp/x", b"").hardlink("h", "home/f").hardlink("t", "home/s").end();
    let other = Archive::new().dir("tmp/").file("home/f", b"another").symlink("home/s", "g").end();
    let bench = Bench::new();
    let import = |text: &str, lower: &[u8], upper: &[u8]| {
        let layers = [lower.to_vec(), upper.to_vec()];
        let source = bench.source(&pack(&layout(&layers, Stored::Plain)));
        let options = ImportOptions::default();
        bench.store.import(&source, &name(text), &options, &|_| ControlFlow::Continue(()))
    };
    let image = import("a:1", &lower, &upper).unwrap();
    assert_eq!(
        listing(&image.layers[1].path),
        owned(
            r#"h 644 0:0 links=2 "below"
home/ 755 7:0
home/f 644 0:0 links=2 "below"
home/s -> f
t -> f
tmp/ 1777 0:0
tmp/x 644 0:0 """#
        )
    );
    let another = import("a:2", &other, &upper).unwrap();
    assert_eq!(
        listing(&another.layers[1].path),
        owned(
            r#"h 644 0:0 links=2 "another"
home/ 755 0:0
home/f 644 0:0 links=2 "another"
home/s -> g
t -> g
tmp/ 755 0:0
tmp/x 644 0:0 """#
        )
    );
    // Importing again finds both where they are.
    assert_eq!(import("a:3", &lower, &upper).unwrap().layers[1].path, image.layers[1].path);

    // What the layer itself hides cannot be linked to.
    for hides in ["home/.wh.f", "home/.wh..wh..opq", ".wh.home"] {
        let upper = Archive::new().hardlink("h", "home/f").file(hides, b"").end();
        let error = message(&import("a:4", &lower, &upper).unwrap_err());
        assert!(error.contains("in no layer") || error.contains("no file"), "{hides}: {error}");
    }
    bench.assert_whole();
}

/// The same layer twice in one image is one directory: overlayfs takes none twice.
#[test]
fn a_layer_twice_is_mounted_once() {
    let bench = Bench::new();
    let layers = layers(2);
    let layers = [layers[0].clone(), layers[1].clone(), layers[0].clone()];
    let mut files = super::fixture::Files::new();
    let manifest = manifest(&mut files, &layers, Stored::Gzip);
    super::fixture::add_blob(&mut files, &manifest);
    index(&mut files, &[super::fixture::descriptor(super::fixture::MANIFEST, &manifest)]);
    let image = bench.import(&bench.source(&pack(&files))).unwrap();
    let names: Vec<_> =
        image.layers.iter().map(|layer| layer.path.join("d").join("1-0").exists()).collect();
    assert_eq!(names, [true, false]);
}
