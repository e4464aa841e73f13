//! A Docker engine takes what we make, and we take what it makes, the odd files of both.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Server, engine::Engine, needs_registry, trusting};
use crate::{
    binary::{Cofferdam, file, program},
    host::{Need, needs},
    images::busybox,
};

macro_rules! needs_docker {
    () => {
        needs_registry!();
        needs!(
            Need::Root,
            Need::Program("dockerd"),
            Need::Program("docker"),
            Need::Program("unshare"),
            Need::Program("python3"),
        );
    };
}

/// Adds files to an archive that `tar` has no options for: a capability and other attributes of a file,
/// whatever the file system below.
const ODD: &str = r#"
import io, sys, tarfile
archive = tarfile.open(sys.argv[1], "a", format=tarfile.PAX_FORMAT)
def add(name, type=tarfile.REGTYPE, mode=0o644, link="", data=b"", owner=(0, 0), attributes={}):
    member = tarfile.TarInfo("./odd/" + name); member.type = type; member.mode = mode
    member.linkname = link; member.uid, member.gid = owner; member.size = len(data)
    member.pax_headers = {"SCHILY.xattr." + key: value for key, value in attributes.items()}
    archive.addfile(member, io.BytesIO(data))
add("", tarfile.DIRTYPE, 0o755)
add("tool", mode=0o6755, data=b"tool\n", owner=(1000, 1000))
# What a hard link says goes for the file.
add("same", tarfile.LNKTYPE, 0o6711, link="./odd/tool", owner=(1002, 33))
add("capable", mode=0o755, data=b"capable\n", attributes={
    "security.capability": "\x01\0\0\x02\0\x04\0\0" + "\0" * 12})
add("noted", data=b"noted\n", attributes={"user.note": "kept"})
add("closed", mode=0, data=b"closed\n", owner=(33, 44))
add("pipe", tarfile.FIFOTYPE, 0o600)
add("link", tarfile.SYMTYPE, 0o777, link="gone/../tool")
add("sticky", tarfile.DIRTYPE, 0o1777)
for name in ("gone", "anew", "turned"):
    add(name, tarfile.DIRTYPE, 0o700)
    add(name + "/old", data=b"old\n")
archive.close()
"#;

/// What is done to them in a step: files and directories that go, that come back without what was in
/// them, that become something else, and that keep their attributes when they change.
const STEPS: &str = "FROM odd\n\
    RUN rm -r /odd/gone /odd/anew /odd/turned && mkdir -m 750 /odd/anew && echo new > /odd/anew/new \
    && ln -s anew /odd/turned && ln /odd/anew/new /odd/twin\n\
    COPY file /odd/copied\n\
    RUN rm /odd/copied && echo made > /odd/made\n\
    ENV FLAVOR=odd\nWORKDIR /odd\nCMD [\"cat\", \"made\", \"turned/new\"]\n";

/// The files below `/odd` of a directory.
const LIST: &str = r#"
import os, stat, sys
os.chdir(sys.argv[1])
first = {}
for at, directories, files in sorted(os.walk("odd")):
    for path in sorted([at] + [os.path.join(at, name) for name in files]
                       + [os.path.join(at, name) for name in directories
                          if os.path.islink(os.path.join(at, name))]):
        status = os.lstat(path)
        words = [path, stat.filemode(status.st_mode), f"{status.st_uid}:{status.st_gid}"]
        if stat.S_ISLNK(status.st_mode):
            words.append("-> " + os.readlink(path))
        if stat.S_ISREG(status.st_mode):
            words.append(repr(open(path).read()))
            if status.st_nlink > 1:
                words.append("as " + first.setdefault(status.st_ino, path))
        for name in sorted(os.listxattr(path, follow_symlinks=False)):
            words.append(f"{name}={os.getxattr(path, name, follow_symlinks=False).hex()}")
        print(*words)
"#;

/// The files of an archive that have capabilities, with the first half of each.
const CAPABLE: &str = r#"
import sys, tarfile
for member in tarfile.open(sys.argv[1]):
    value = member.pax_headers.get("SCHILY.xattr.security.capability")
    if value:
        print(member.name, value.encode("utf-8", "surrogateescape")[:8].hex(), end="")
"#;

#[track_caller]
fn python(script: &str, argument: &Path) -> String {
    let output = program("python3").args(["-c", script]).arg(argument).output().expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The odd files of an image.
#[track_caller]
fn files(cofferdam: &Cofferdam, image: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let to = directory.path().join("root");
    let path = to.to_str().expect("a path that is text");
    cofferdam.run(["image", "unpack", image, path]).expect(0);
    python(LIST, &to)
}

/// Busybox with odd files, as an archive of a root file system; and what to build from it.
fn odd(directory: &Path) -> PathBuf {
    let archive = directory.join("odd.tar");
    std::fs::copy(&busybox().expect("busybox").rootfs, &archive).expect("copy");
    python(ODD, &archive);
    file(directory, "Dockerfile", STEPS);
    file(directory, "file", "copied\n");
    archive
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// What is pushed, and what is exported, an engine takes under its digest and runs.
#[test]
fn docker_takes_what_is_ours() {
    needs_docker!();
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start();
    let cofferdam = trusting(directory.path(), &[server.name()]);
    let base = odd(directory.path());
    let target = format!("{}/team/odd:1", server.name());
    cofferdam.run(["image", "import", text(&base), "odd"]).expect(0);
    cofferdam.run(["image", "build", "-t", &target, text(directory.path())]).expect(0);
    let ours = files(&cofferdam, &target);
    insta::assert_snapshot!(ours, @r"
    odd drwxr-xr-x 0:0
    odd/capable -rwxr-xr-x 0:0 'capable\n'
    odd/closed ---------- 33:44 'closed\n'
    odd/link lrwxrwxrwx 0:0 -> gone/../tool
    odd/made -rw-r--r-- 0:0 'made\n'
    odd/noted -rw-r--r-- 0:0 'noted\n' user.note=6b657074
    odd/pipe prw------- 0:0
    odd/same -rws--s--x 1002:33 'tool\n' as odd/same
    odd/tool -rws--s--x 1002:33 'tool\n' as odd/same
    odd/turned lrwxrwxrwx 0:0 -> anew
    odd/twin -rw-r--r-- 0:0 'new\n' as odd/twin
    odd/anew drwxr-x--- 0:0
    odd/anew/new -rw-r--r-- 0:0 'new\n' as odd/twin
    odd/sticky drwxrwxrwt 0:0
    ");

    let engine = Engine::start();
    let digest = cofferdam.run(["image", "push", "--quiet", &target]).expect(0).stdout;
    let pulled = engine.run(&["pull", &target]);
    assert!(pulled.contains(&format!("Digest: {digest}")), "{pulled}");
    let id = engine.run(&["inspect", "--format", "{{.Id}}", &target]);
    let run = ["run", "--rm", "--network", "none"];
    assert_eq!(engine.run(&[&run[..], &[&target]].concat()), "made\nnew\n");
    // All that the engine has written of it: an export of its own has capabilities of files, which ours
    // leave out where they are unpacked, and no other attributes.
    let container = engine.run(&["create", "--network", "none", &target]);
    let exported = directory.path().join("exported.tar");
    engine.run(&["export", "--output", text(&exported), container.trim()]);
    assert_eq!(python(CAPABLE, &exported), "odd/capable 0100000200040000");
    cofferdam.run(["image", "import", text(&exported), "exported"]).expect(0);
    assert_eq!(files(&cofferdam, "exported"), ours.replace(" user.note=6b657074", ""));

    engine.run(&["rm", container.trim()]);
    engine.run(&["rmi", &target]);
    let archive = directory.path().join("archive.tar");
    let format = ["--format", "docker-archive"];
    let export = ["image", "export", &target, text(&archive)];
    cofferdam.run(export.iter().chain(&format)).expect(0);
    let loaded = engine.run(&["load", "--input", text(&archive)]);
    assert!(loaded.contains(&target), "{loaded}");
    assert_eq!(engine.run(&["inspect", "--format", "{{.Id}}", &target]), id);
    assert_eq!(engine.run(&[&run[..], &[&target]].concat()), "made\nnew\n");
}

/// What an engine builds we take from a registry under its digest, and from its archive.
#[test]
fn what_docker_makes_is_taken() {
    needs_docker!();
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start();
    let cofferdam = trusting(directory.path(), &[server.name()]);
    let engine = Engine::start();
    let base = odd(directory.path());
    let target = format!("{}/team/odd:1", server.name());
    engine.run(&["import", text(&base), "odd"]);
    engine.run(&["build", "--network", "none", "--tag", &target, text(directory.path())]);
    engine.run(&["push", &target]);
    let pinned = engine.run(&["inspect", "--format", "{{index .RepoDigests 0}}", &target]);
    let saved = directory.path().join("saved.tar");
    engine.run(&["save", "--output", text(&saved), &target]);

    cofferdam.run(["image", "pull", pinned.trim()]).expect(0);
    cofferdam.run(["image", "import", text(&saved), "saved"]).expect(0);
    cofferdam.run(["image", "import", text(&base), "odd"]).expect(0);
    cofferdam.run(["image", "build", "-t", "ours", text(directory.path())]).expect(0);
    let ours = files(&cofferdam, "ours");
    let layers = engine.run(&["inspect", "--format", "{{json .RootFS.Layers}}", &target]);
    for image in [pinned.trim(), "saved"] {
        let shown = cofferdam.run(["image", "inspect", image, "--json"]).expect(0).stdout;
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        let diff_ids: Vec<_> =
            shown["layers"].as_array().expect("layers").iter().map(|it| &it["diff_id"]).collect();
        assert_eq!(serde_json::to_string(&diff_ids).expect("JSON"), layers.trim(), "{image}");
        assert_eq!(files(&cofferdam, image), ours, "{image}");
        let script = "cat made turned/new; echo $FLAVOR; stat -c %h /odd/same";
        cofferdam.script_in(image, &[], script).expect(0).says(&["made\nnew\nodd\n2\n"]);
    }
    cofferdam.run(["image", "diff", pinned.trim(), "saved"]).expect(0);
}
