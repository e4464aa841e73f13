//! `cofferdam image import`: each form in which people have images, and each that is refused.

use std::path::Path;

use crate::{
    binary::{Cofferdam, Ended, file, program},
    host::{Need, needs},
    images::{busybox, script},
    registry::picture::Picture,
};

fn import(cofferdam: &Cofferdam, path: &Path, name: &str) -> Ended {
    cofferdam.run(["image".as_ref(), "import".as_ref(), path.as_os_str(), name.as_ref()])
}

/// Imports `path` and runs a command in it.
#[track_caller]
fn check(path: &Path) -> Cofferdam {
    let cofferdam = Cofferdam::new();
    import(&cofferdam, path, "tried").expect(0);
    cofferdam
        .script_in(
            "tried",
            &[],
            "test -x /bin/busybox && test \"$(stat -c %a /tmp)\" = 1777 && echo works",
        )
        .expect(0)
        .says(&["works\n"]);
    cofferdam
}

/// An archive of `directory`'s content.
fn archive(directory: &Path, to: &Path) {
    let status = program("tar").arg("-C").arg(directory).arg("-cf").arg(to).arg(".").status();
    assert!(status.expect("tar").success());
}

#[test]
fn oci_layout_directory() {
    needs!(Need::Containers, Need::Busybox);
    let cofferdam = check(&busybox().expect("busybox").layout);
    // The host's file system does not show through.
    cofferdam
        .script_in("tried", &[], "test ! -e /usr/bin/git && cat /etc/passwd")
        .expect(0)
        .says(&["root:x:0:0:root:/root:/bin/sh"]);
}

#[test]
fn oci_layout_archive() {
    needs!(Need::Containers, Need::Busybox);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("image.tar");
    archive(&busybox().expect("busybox").layout, &path);
    check(&path);
}

/// More than a message takes descriptors, and than some engines take layers.
#[test]
fn many_layers() {
    needs!(Need::Containers, Need::Busybox);
    let texts: Vec<_> = (0..300).map(|layer| layer.to_string()).collect();
    let picture = Picture::of(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let cofferdam = Cofferdam::new();
    import(&cofferdam, picture.layout(), "many").expect(0);
    let script = "ls / | grep -c layer-; cat /layer-300";
    cofferdam.script_in("many", &[], script).expect(0).says(&["300\n299"]);
}

#[test]
fn root_file_system_archive() {
    needs!(Need::Containers, Need::Busybox);
    check(&busybox().expect("busybox").rootfs);
}

#[test]
fn compressed_root_file_system_archive() {
    needs!(Need::Containers, Need::Busybox);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("rootfs.tar.gz");
    let output =
        program("gzip").arg("-nc").arg(&busybox().expect("busybox").rootfs).output().expect("gzip");
    std::fs::write(&path, output.stdout).expect("write");
    check(&path);
}

/// What `docker save` writes; its configuration's environment holds.
#[test]
fn docker_archive() {
    needs!(Need::Containers, Need::Busybox);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("saved.tar");
    let rootfs = &busybox().expect("busybox").rootfs;
    script("docker-archive.sh", &[rootfs.as_ref(), path.as_ref(), "box:1".as_ref()]).expect("save");
    let cofferdam = check(&path);
    cofferdam.script_in("tried", &[], "echo $FLAVOR").expect(0).says(&["docker\n"]);
}

/// A real distribution: its package manager's own checks, many files, links and modes.
#[test]
fn debian() {
    needs!(Need::Root, Need::Fetch);
    let out = tempfile::tempdir().expect("a directory");
    let cofferdam = Cofferdam::new();
    import(&cofferdam, &crate::images::debian(), "debian").expect(0);
    cofferdam
        .script_in("debian", &[], "grep ^ID= /etc/os-release && dpkg --audit && dpkg --verify && bash -c 'echo $BASH_VERSION'")
        .expect(0)
        .says(&["ID=debian\n"]);
    cofferdam
        .run([
            "run",
            "fixtures/pipelines/first-light.yml",
            "--workspace",
            ".",
            "--param",
            "image=debian",
            "--out",
            out.path().to_str().expect("a path"),
        ])
        .expect(0)
        .says(&["semver 0.10.0 is ready"]);
}

/// The same image again is no second copy, and a name moves to what was imported last.
#[test]
fn import_twice() {
    needs!(Need::Containers, Need::Busybox);
    let layout = &busybox().expect("busybox").layout;
    let cofferdam = Cofferdam::new();
    import(&cofferdam, layout, "box").expect(0);
    let size = disk_use(cofferdam.state());
    import(&cofferdam, layout, "box").expect(0);
    import(&cofferdam, layout, "other").expect(0);
    assert!(disk_use(cofferdam.state()) < size + 64 * 1024, "a second copy was kept");
    cofferdam.script_in("other", &[], "true").expect(0);
}

fn disk_use(path: &Path) -> u64 {
    let output = program("du").args(["-s", "--block-size=1"]).arg(path).output().expect("du");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).expect("a size")
}

/// A copy of the layout with one change.
fn changed_layout(change: impl FnOnce(&Path)) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let copied = program("cp")
        .arg("-r")
        .arg(&busybox().expect("busybox").layout)
        .arg(directory.path().join("layout"))
        .status();
    assert!(copied.expect("cp").success());
    change(&directory.path().join("layout"));
    directory
}

/// The largest blob: the layer.
fn layer(layout: &Path) -> std::path::PathBuf {
    std::fs::read_dir(layout.join("blobs/sha256"))
        .expect("list the blobs")
        .map(|entry| entry.expect("an entry").path())
        .max_by_key(|path| path.metadata().map(|metadata| metadata.len()).unwrap_or(0))
        .expect("a blob")
}

/// A damaged image is refused with what is wrong and where, and the store stays as it was.
#[test]
fn damaged_layouts() {
    needs!(Need::Busybox);
    type Change = fn(&Path);
    let cases: &[(&str, Change, &[&str])] = &[
        (
            "a byte of the layer flipped",
            |layout| {
                let path = layer(layout);
                let mut bytes = std::fs::read(&path).expect("read");
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(path, bytes).expect("write");
            },
            &["sha256"],
        ),
        (
            "the layer cut off",
            |layout| {
                let path = layer(layout);
                let file = std::fs::File::options().write(true).open(&path).expect("open");
                file.set_len(path.metadata().expect("metadata").len() / 2).expect("cut");
            },
            &["sha256"],
        ),
        (
            "the layer gone",
            |layout| std::fs::remove_file(layer(layout)).expect("remove"),
            &["sha256"],
        ),
        (
            "the index is no JSON",
            |layout| std::fs::write(layout.join("index.json"), "{ not json").expect("write"),
            &["index"],
        ),
        (
            "the index names no manifest",
            |layout| {
                let empty = "{\"schemaVersion\":2,\"manifests\":[]}";
                std::fs::write(layout.join("index.json"), empty).expect("write");
            },
            &["holds no image"],
        ),
        (
            "a digest that is a path",
            |layout| {
                let path = layout.join("index.json");
                let text = std::fs::read_to_string(&path).expect("read");
                let at = text.find("sha256:").expect("a digest");
                let hostile =
                    format!("{}sha256:../../../../etc/passwd{}", &text[..at], &text[at + 71..]);
                std::fs::write(path, hostile).expect("write");
            },
            &["digest"],
        ),
    ];
    for (what, change, says) in cases {
        let directory = changed_layout(change);
        let cofferdam = Cofferdam::new();
        let ended = import(&cofferdam, &directory.path().join("layout"), "damaged");
        assert!(
            ended.status == 1 || ended.status == 65,
            "{what}: {}\n{}",
            ended.status,
            ended.text()
        );
        let ended = ended.says(says);
        assert!(!ended.text().contains("panicked"), "{what}\n{}", ended.text());
        cofferdam.script_in("damaged", &["--pull", "never"], "true").expect(125).says(&["damaged"]);
    }
}

/// An image for another kind of machine is refused by name of both.
#[test]
fn other_architecture() {
    needs!(Need::Busybox);
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path().join("foreign.oci");
    let made = program(crate::binary::fixture("images/oci-layout.sh"))
        .env("IMAGE_ARCHITECTURE", "s390x")
        .arg(&busybox().expect("busybox").rootfs)
        .arg(&layout)
        .arg("foreign")
        .status();
    assert!(made.expect("oci-layout.sh").success());
    let ended = import(&Cofferdam::new(), &layout, "foreign").says(&["s390x"]);
    assert!(ended.status == 1 || ended.status == 65, "{}\n{}", ended.status, ended.text());
}

/// Files that are no image at all.
#[test]
fn not_an_image() {
    let directory = tempfile::tempdir().expect("a directory");
    let cofferdam = Cofferdam::new();
    let cases: &[(&str, &[u8])] = &[
        ("empty.tar", b""),
        ("text.tar", b"this is not an archive, but it is long enough to be looked at as one\n"),
        ("gzip.tar.gz", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3]),
    ];
    for (name, bytes) in cases {
        let path = file(directory.path(), name, bytes);
        let ended = import(&cofferdam, &path, "nothing").says(&[name]);
        assert!(
            ended.status == 1 || ended.status == 65,
            "{name}: {}\n{}",
            ended.status,
            ended.text()
        );
    }
    import(&cofferdam, &directory.path().join("absent.tar"), "nothing")
        .expect(66)
        .says(&["absent.tar"]);
}

/// Names that could be taken for a path or a flag are refused.
#[test]
fn bad_names() {
    needs!(Need::Busybox);
    let layout = &busybox().expect("busybox").layout;
    for name in ["", "../up", "UPPER", "a b", "a/../b", &"n".repeat(500), "host"] {
        let ended = import(&Cofferdam::new(), layout, name);
        assert_ne!(ended.status, 0, "`{name}` was taken");
        assert_ne!(ended.status, 70, "{}", ended.text());
    }
}

/// Hostile members of an archive stay within the image: nothing beside the store changes.
#[test]
fn archive_that_reaches_outside() {
    needs!(Need::Containers, Need::Busybox, Need::Program("python3"));
    let directory = tempfile::tempdir().expect("a directory");
    let victim = directory.path().join("victim");
    std::fs::create_dir(&victim).expect("a victim directory");
    file(&victim, "file", "untouched");
    let path = directory.path().join("hostile.tar");
    let made = program("python3")
        .args(["-c", HOSTILE_ARCHIVE])
        .args([&path, &victim])
        .status()
        .expect("python3");
    assert!(made.success());
    let ended = import(&Cofferdam::new(), &path, "hostile");
    assert_ne!(ended.status, 70, "{}", ended.text());
    assert_eq!(std::fs::read_dir(&victim).expect("list").count(), 1, "a file was made outside");
    assert_eq!(std::fs::read_to_string(victim.join("file")).expect("read"), "untouched");
}

const HOSTILE_ARCHIVE: &str = r#"
import io, sys, tarfile
archive, victim = tarfile.open(sys.argv[1], "w"), sys.argv[2]
def add(name, type=tarfile.REGTYPE, link="", data=b"owned"):
    member = tarfile.TarInfo(name); member.type = type; member.linkname = link
    member.size = len(data) if type == tarfile.REGTYPE else 0
    archive.addfile(member, io.BytesIO(data) if member.size else None)
add("link", tarfile.SYMTYPE, victim)
add("link/made-through-a-link")
add("hard", tarfile.LNKTYPE, victim + "/file")
add("hard")
add("relative", tarfile.SYMTYPE, "../" * 40 + victim.lstrip("/"))
add("relative/made-through-a-relative-link")
add("bin/sh")
archive.close()
"#;
