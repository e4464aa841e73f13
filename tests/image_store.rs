//! What can be asked of the images that are here, and done with them.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use serde_json::Value;

use crate::{
    binary::{Cofferdam, file, program},
    host::{Need, needs},
    images::busybox,
};

/// A store with `busybox:1`, and `busybox:2` in which some files are others.
fn two_images() -> Cofferdam {
    let cofferdam = Cofferdam::new();
    let rootfs = &busybox().expect("busybox").rootfs;
    let import = |path: &Path, name: &str| {
        cofferdam
            .run(["image".as_ref(), "import".as_ref(), path.as_os_str(), name.as_ref()])
            .expect(0)
    };
    import(rootfs, "busybox:1");
    let directory = tempfile::tempdir().expect("a directory");
    let tree = directory.path().join("tree");
    let unpack = ["image".as_ref(), "unpack".as_ref(), "busybox:1".as_ref(), tree.as_os_str()];
    cofferdam.run(unpack).expect(0).says(&["unpacked `busybox:1` to", "files,"]);
    // The tree is what the archive was made of: owners, permissions, links.
    assert_eq!(fs::metadata(tree.join("tmp")).expect("tmp").mode() & 0o7777, 0o1777);
    cofferdam.run(unpack).expect(1).says(&["the directory is not empty"]);
    file(&tree, "etc/added", "added\n");
    file(&tree, "etc/passwd", "root:x:0:0:root:/:/bin/sh\n");
    fs::remove_file(tree.join("etc/group")).expect("a file to remove");
    let archive = directory.path().join("two.tar");
    let status = program("tar")
        .arg("-C")
        .arg(&tree)
        .args(["--owner=0", "--group=0", "-cf"])
        .arg(&archive)
        .arg(".")
        .status()
        .expect("tar");
    assert!(status.success());
    import(&archive, "busybox:2");
    cofferdam
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn images_are_compared() {
    needs!(Need::Busybox);
    let cofferdam = two_images();
    let differences = cofferdam.run(["image", "diff", "busybox:1", "busybox:2"]).expect(1);
    assert_eq!(
        differences.stdout,
        "A /etc/added  6 B\nD /etc/group  38 B\nC /etc/passwd  103 B → 26 B\n"
    );
    differences.says(&["1 file added (6 B), 1 changed, 1 deleted (38 B)"]);
    let lines = cofferdam.run(["image", "diff", "busybox:1", "busybox:2", "--json"]).expect(1);
    let lines: Vec<_> = lines.stdout.lines().map(json).collect();
    assert_eq!(
        (lines[1]["change"].as_str(), lines[1]["before"].as_u64()),
        (Some("deleted"), Some(38))
    );
    cofferdam.run(["image", "diff", "busybox:1", "busybox:1"]).expect(0);
    cofferdam
        .run(["image", "diff", "busybox:1", "none"])
        .expect(66)
        .says(&["there is no image `none`"]);
    cofferdam
        .run(["image", "diff", "busybox:1", "host"])
        .expect(2)
        .says(&["`host` is this machine"]);
}

#[test]
fn images_are_looked_at_named_and_collected() {
    needs!(Need::Busybox);
    let cofferdam = two_images();
    let details = cofferdam.run(["image", "inspect", "busybox:1", "--json"]).expect(0);
    let details = json(&details.stdout);
    assert_eq!(details["configuration"]["os"], "linux");
    assert_eq!(details["layers"].as_array().map(Vec::len), Some(1));
    cofferdam.run(["image", "inspect", "busybox:1"]).expect(0).says(&["linux/", "in 1 layer"]);
    cofferdam.run(["image", "history", "busybox:1"]).expect(0).says(&["CREATED"]);
    let history = cofferdam.run(["image", "history", "busybox:1", "--json"]).expect(0);
    assert_eq!(json(&history.stdout)[0]["layer"], details["layers"][0]["diff_id"]);

    cofferdam.run(["image", "tag", "busybox:1", "team/base:good"]).expect(0);
    let id = details["id"].as_str().expect("an id");
    let named = json(&cofferdam.run(["image", "inspect", id, "--json"]).expect(0).stdout);
    assert_eq!(named["names"], serde_json::json!(["busybox:1", "team/base:good"]));
    cofferdam.run(["image", "tag", "busybox:1", "host"]).expect(1).says(&["embedded image"]);
    cofferdam.run(["image", "tag", "none", "other"]).expect(66);

    // A name that moves on lets go of what it stood for.
    cofferdam.run(["image", "tag", "busybox:1", "busybox:2"]).expect(0);
    let dry = ["image", "gc", "--keep", "1KiB", "--dry-run", "--json"];
    let dry = json(&cofferdam.run(dry).expect(0).stdout);
    assert_eq!((dry["layers"].as_u64(), dry["names"].as_array().map(Vec::len)), (Some(1), Some(0)));
    let gone = cofferdam.run(["image", "gc", "--keep", "1KiB"]).expect(0);
    gone.says(&["removed 1 layer"]);
    cofferdam.run(["image", "gc"]).expect(0).says(&["removed 0 layers"]);
    let listed = cofferdam.run(["image", "ls"]).expect(0);
    assert!(
        ["busybox:1", "busybox:2", "team/base:good"].iter().all(|it| listed.stdout.contains(it))
    );
}
