//! Layers made of what a container has written, and of files that are copied in.

use std::{
    ffi::CString,
    fs::{self, File},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use nix::sys::stat::{Mode, SFlag, mknod};

use super::fixture::{Archive, Bench, listing, message};
use crate::{
    Result,
    image::{
        Aside, CopyFrom, Copying, Digest, Image, ImportLimits, LayerDir, Sealing, Store,
        digest::{Algorithm, Hasher},
    },
    sys::beneath::set_attribute,
    tests::exchanging,
};

/// A store with an image, and an upper directory over it.
struct Scene {
    bench: Bench,
    store: Store,
    image: Image,
    upper: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let bench = Bench::new();
        let base = Archive::new()
            .dir("etc/")
            .file("etc/passwd", b"root:x:0:0::/root:/bin/sh\nbuild:x:1000:1001::/:/bin/sh\n")
            .file("etc/group", b"staff:x:50:\n")
            .dir("var/")
            .dir("var/deep/")
            .file("var/deep/gone", b"gone")
            .dir("data/")
            .symlink("lib", "var/deep")
            .symlink("loop", "loop")
            .end();
        let image = bench.import(&bench.source(&base)).unwrap();
        let upper = bench.path("upper");
        fs::create_dir(&upper).unwrap();
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)).unwrap();
        let store = Store::open(&bench.path("state")).unwrap();
        Self { bench, store, image, upper }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.upper.join(path)
    }

    fn dir(&self, path: &str) {
        fs::create_dir_all(self.at(path)).unwrap();
        let mut reached = self.upper.clone();
        for part in Path::new(path) {
            reached.push(part);
            fs::set_permissions(&reached, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn file(&self, path: &str, content: &str) {
        fs::write(self.at(path), content).unwrap();
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn attribute(&self, path: &str, name: &str, value: &[u8]) {
        let file = File::open(self.at(path)).unwrap();
        set_attribute(file.as_fd(), &CString::new(name).unwrap(), value).unwrap();
    }

    fn seal(&self) -> Result<Option<LayerDir>> {
        let limits = ImportLimits::default();
        self.seal_with(&limits)
    }

    fn seal_with(&self, limits: &ImportLimits) -> Result<Option<LayerDir>> {
        let stopped = AtomicBool::new(false);
        let how = Sealing { moment: 1_000_000_000, limits, stopped: &stopped };
        let root = OwnedFd::from(File::open(&self.upper).unwrap());
        self.store.seal_upper(root, &self.image.layers, Aside::default(), how)
    }

    fn copy(&self, copying: Copying<'_>) -> Result<Option<LayerDir>> {
        let (limits, stopped) = (ImportLimits::default(), AtomicBool::new(false));
        let how = Sealing { moment: 1_000_000_000, limits: &limits, stopped: &stopped };
        self.store.copy_in(copying, &self.image.layers, how)
    }
}

/// That its archive can be made again, and is what names the layer.
fn assert_given_away(layer: &LayerDir) {
    let mut hasher = Hashed(Hasher::new(Algorithm::Sha256));
    layer.write_archive(&mut hasher).unwrap();
    assert_eq!(hasher.0.finish(), layer.diff_id);
}

struct Hashed(Hasher);

impl std::io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_upper_directory_becomes_a_layer() {
    let scene = Scene::new();
    scene.dir("var/deep");
    mknod(&scene.at("var/deep/gone"), SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
    scene.dir("data");
    scene.attribute("data", "user.overlay.opaque", b"y");
    scene.file("data/new", "new");
    // A step can ask for the first; overlayfs lets no one have the others.
    scene.attribute("data/new", "user.note", b"kept");
    scene.attribute("data/new", "user.overlay.redirect", b"/etc");
    scene.attribute("data/new", "user.overlay.metacopy", b"");
    fs::hard_link(scene.at("data/new"), scene.at("data/twin")).unwrap();
    symlink("/etc/shadow", scene.at("data/link")).unwrap();
    nix::unistd::mkfifo(&scene.at("data/pipe"), Mode::S_IRWXU).unwrap();
    scene.file("data/setuid", "program");
    fs::set_permissions(scene.at("data/setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
    scene.file("data/odd \n", "odd");
    File::create(scene.at("data/sparse")).unwrap().set_len(100 << 20).unwrap();
    // What the container was given, and what is covered.
    for given in ["dev", "proc", "sys", "run/cofferdam", "run/secrets", "etc"] {
        scene.dir(given);
    }
    scene.file("etc/resolv.conf", "");
    let layer = scene.seal().unwrap().unwrap();
    insta::assert_snapshot!(listing(&layer.path));
    assert_given_away(&layer);
    // The same files once more, made at another time and in another order.
    let again = scene.seal().unwrap().unwrap();
    assert_eq!(again.diff_id, layer.diff_id);
}

/// What a container was shown beside its image is no part of its layer, whatever it did there.
#[test]
fn what_was_aside_is_left_out() {
    let scene = Scene::new();
    let files = [("f".to_owned(), b"shown".to_vec())];
    let paths = [PathBuf::from("f")];
    let (from, to) = (CopyFrom::Files(&files), "/opt/cache/");
    let copying = Copying { from, paths: &paths, to, owner: None, mode: None, alone: true };
    let shown = scene.copy(copying).unwrap().unwrap();
    assert!(listing(&shown.path).contains("opaque"), "{}", listing(&shown.path));
    let seal = |aside: &[&str]| {
        let (limits, stopped) = (ImportLimits::default(), AtomicBool::new(false));
        let how = Sealing { moment: 1_000_000_000, limits: &limits, stopped: &stopped };
        let root = OwnedFd::from(File::open(&scene.upper).unwrap());
        let paths: Vec<String> = aside.iter().map(|path| (*path).to_owned()).collect();
        let aside = Aside { shown: std::slice::from_ref(&shown), paths: &paths };
        scene.store.seal_upper(root, &scene.image.layers, aside, how).unwrap()
    };
    scene.dir("opt/cache/new");
    scene.file("opt/cache/f", "changed");
    scene.dir("var/deep/more");
    assert!(seal(&["/opt/cache", "/lib/more"]).is_none(), "through a link of the image too");
    scene.file("opt/beside", "kept");
    let layer = listing(&seal(&["/opt/cache", "/var/deep/more"]).unwrap().path);
    assert!(layer.contains("opt/beside") && !layer.contains("cache"), "{layer}");
}

#[test]
fn what_changed_nothing_makes_no_layer() {
    let scene = Scene::new();
    assert!(scene.seal().unwrap().is_none());
    scene.dir("var/deep");
    scene.dir("run/cofferdam");
    scene.dir("workspace");
    fs::set_permissions(scene.at("workspace"), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(scene.seal().unwrap().is_none());
    fs::set_permissions(scene.at("var/deep"), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(scene.seal().unwrap().is_some());
}

#[test]
fn what_cannot_be_part_of_a_layer_is_refused() {
    let check = |make: &dyn Fn(&Scene), expect: &str| {
        let scene = Scene::new();
        make(&scene);
        let limits =
            ImportLimits { entries: 50, unpacked: 1 << 20, depth: 20, ..ImportLimits::default() };
        let error = scene.seal_with(&limits).unwrap_err();
        assert_eq!(error.fault(), crate::Fault::Pipeline, "{expect}");
        let told = message(&error);
        assert!(told.contains(expect), "{told}");
        scene.bench.assert_whole();
    };
    check(&|scene| scene.file(".wh.etc", ""), "begins with `.wh.`");
    check(&|scene| scene.dir("a/.wh..wh..opq"), "begins with `.wh.`");
    check(
        &|scene| {
            let mode = Mode::S_IRUSR;
            mknod(&scene.at("disk"), SFlag::S_IFBLK, mode, nix::sys::stat::makedev(8, 0)).unwrap();
        },
        "a device cannot be part of a layer",
    );
    check(&|scene| scene.dir(&"d/".repeat(30)), "more than 20 directories deep");
    check(
        &|scene| (0..60).for_each(|number| scene.file(&number.to_string(), "")),
        "more than 50 files and directories",
    );
    check(&|scene| scene.file("large", &"x".repeat(2 << 20)), "more than 1048576 bytes unpacked");
    check(
        &|scene| File::create(scene.at("holes")).unwrap().set_len(1 << 40).unwrap(),
        "more than 1048576 bytes unpacked",
    );
}

#[test]
fn ten_thousand_directories_deep_is_refused_in_time() {
    let scene = Scene::new();
    let mut at = OwnedFd::from(File::open(&scene.upper).unwrap());
    for _ in 0..10_000 {
        nix::sys::stat::mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
        let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_DIRECTORY;
        at = nix::fcntl::openat(&at, "d", flags, Mode::empty()).unwrap();
    }
    let told = message(&scene.seal().unwrap_err());
    assert!(told.contains("directories deep"), "{told}");
    let parent = File::open(scene.bench.path("")).unwrap();
    crate::removal::remove_tree(parent.as_fd(), std::ffi::OsStr::new("upper")).unwrap();
}

#[test]
fn files_are_copied_in() {
    let scene = Scene::new();
    let context = scene.bench.path("context");
    fs::create_dir_all(context.join("src/inner")).unwrap();
    for file in ["src/a", "src/inner/b", "src/inner/left-out", "one"] {
        fs::write(context.join(file), file).unwrap();
        fs::set_permissions(context.join(file), fs::Permissions::from_mode(0o644)).unwrap();
    }
    symlink("/etc/passwd", context.join("src/link")).unwrap();
    symlink("/etc", context.join("out")).unwrap();
    let selects = |path: &Path, _: bool| !path.ends_with("left-out");
    let from = CopyFrom::Directory(&context, &selects);
    let path = |text: &str| vec![PathBuf::from(text)];
    let copied = |paths: &[PathBuf], to: &str| {
        scene.copy(Copying { from, paths, to, owner: None, mode: None, alone: false })
    };
    let shown = |layer: Result<Option<LayerDir>>| {
        let layer = layer.unwrap().unwrap();
        assert_given_away(&layer);
        listing(&layer.path)
    };
    let all: String = [
        // Its contents; into a directory that is not there.
        ("src", shown(copied(&path("src"), "/srv/app"))),
        // To a name; into a directory that is there; and through a link of the image.
        ("one as name", shown(copied(&path("one"), "/srv/name"))),
        ("one into data", shown(copied(&path("one"), "/data"))),
        ("one through a link", shown(copied(&path("one"), "lib/../deep/"))),
    ]
    .into_iter()
    .map(|(what, listing)| format!("{what}\n{listing}\n"))
    .collect();
    insta::assert_snapshot!(all);
    for (paths, to, expect) in [
        ("none", "/data", "there is no such file"),
        ("out/passwd", "/data", "there is no such file"),
        ("../etc", "/data", "`..`"),
        ("one", "/loop/x", "too many symbolic links"),
        ("one", "/etc/passwd/x", "a file stands where a directory has to be"),
        ("src", "/etc/passwd", "a file stands where a directory has to be"),
    ] {
        let outcome = copied(&path(paths), to);
        let told = message(&outcome.unwrap_err());
        assert!(told.contains(expect), "{told}");
    }
}

#[test]
fn copied_files_have_the_owner_and_mode_that_is_said() {
    let scene = Scene::new();
    let ids = |name: &str| scene.image.ids_of(name).map_err(|error| message(&error));
    assert_eq!(ids("build"), Ok((1000, 1001)));
    assert_eq!(ids("build:staff"), Ok((1000, 50)));
    assert_eq!(ids("7:8"), Ok((7, 8)));
    assert!(ids("nobody").unwrap_err().contains("there is no user `nobody`"));
    let files = [("script".to_owned(), b"#!/bin/sh\n".to_vec())];
    let paths = [PathBuf::from("script")];
    let copying = Copying {
        from: CopyFrom::Files(&files),
        paths: &paths,
        to: "/new/script",
        owner: Some((1000, 50)),
        mode: Some(&|_, _| 0o755),
        alone: false,
    };
    let layer = scene.copy(copying).unwrap().unwrap();
    insta::assert_snapshot!(listing(&layer.path));
    // From an image, with what it says of them.
    let image = scene.image.with_layers(&[layer]).unwrap();
    let paths = [PathBuf::from("/new")];
    let from = CopyFrom::Image(&image);
    let copying =
        Copying { from, paths: &paths, to: "/data/", owner: None, mode: None, alone: false };
    let layer = scene.copy(copying).unwrap().unwrap();
    insta::assert_snapshot!(listing(&layer.path));
}

#[test]
fn what_a_step_came_to_is_found_again_and_let_go() {
    let scene = Scene::new();
    let key = Digest::of(b"key");
    assert!(scene.store.kept_step(&key).unwrap().is_none());
    scene.file("new", "content");
    let layer = scene.seal().unwrap().unwrap();
    scene.store.keep_step(&key, "RUN it", &[], Some(&layer)).unwrap();
    let diff_id = layer.diff_id.clone();
    drop(layer);
    // No name leads to it, and it stays.
    assert_eq!(super::fixture::sweep_down_to(&scene.bench, 0), 0);
    let found = scene.store.kept_step(&key).unwrap().unwrap();
    assert_eq!(found.layer.as_ref().map(|layer| &layer.diff_id), Some(&diff_id));
    drop(found);
    let collected = scene.store.collect(super::fixture::at_most(0), false).unwrap();
    assert_eq!(collected.steps, 1);
    assert!(scene.store.kept_step(&key).unwrap().is_none());
    scene.bench.assert_whole();
}

#[test]
fn a_step_is_run_by_one_at_a_time() {
    let scene = Scene::new();
    let key = Digest::of(b"key");
    let first = scene.store.try_lock_step(&key).unwrap().unwrap();
    assert!(scene.store.try_lock_step(&key).unwrap().is_none());
    std::thread::scope(|scope| {
        let second = scope.spawn(|| scene.store.lock_step(&key).unwrap());
        drop(first);
        drop(second.join().unwrap());
    });
    assert!(scene.store.try_lock_step(&key).unwrap().is_some());
}

/// A context that somebody changes while it is copied (CVE-2024-23651 and its like).
#[test]
fn links_that_are_exchanged_lead_nowhere() {
    let scene = Scene::new();
    let (context, outside) = (scene.bench.path("context"), scene.bench.path("outside"));
    fs::create_dir_all(context.join("d/deep")).unwrap();
    fs::create_dir_all(&outside).unwrap();
    fs::write(context.join("d/deep/file"), "text").unwrap();
    fs::write(outside.join("file"), "theirs").unwrap();
    symlink(&outside, context.join("link")).unwrap();
    symlink(outside.join("file"), context.join("other")).unwrap();
    let from = CopyFrom::Directory(&context, &|_, _| true);
    for (one, other) in [("d/deep", "link"), ("d/deep/file", "other"), ("d", "link")] {
        for paths in [["d"], ["d/deep"], ["d/deep/file"]] {
            let paths = paths.map(PathBuf::from);
            let copying =
                Copying { from, paths: &paths, to: "/to/", owner: None, mode: None, alone: false };
            exchanging(&context.join(one), &context.join(other), || {
                for _ in 0..30 {
                    // Whether it is there at that moment or not.
                    let Ok(Some(layer)) = scene.copy(copying) else { continue };
                    assert!(
                        !contents(&layer.path).contains(&b"theirs".to_vec()),
                        "{one} {paths:?}"
                    );
                }
            });
        }
    }
}

/// What the regular files below a directory hold.
fn contents(path: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    let content = |entry: fs::DirEntry| match entry.file_type().unwrap() {
        kind if kind.is_dir() => contents(&entry.path()),
        kind if kind.is_file() => vec![fs::read(entry.path()).unwrap()],
        _ => Vec::new(),
    };
    entries.flat_map(content).collect()
}
