//! What other tools write, this imports. A tool that is not installed is named, not passed over.

use std::{path::Path, process::Command};

use super::fixture::{Archive, Bench, Stored, layout, listing};

/// Runs a tool of the host; `None` where it is not installed.
#[expect(clippy::disallowed_methods, reason = "other tools are what these tests are about")]
fn run(tool: &str, arguments: &[&str], directory: &Path) -> Option<()> {
    let output = Command::new(tool).args(arguments).current_dir(directory).output();
    match output {
        Ok(output) => {
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "`{tool}` failed: {error}");
            Some(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("not run: `{tool}` is not installed");
            None
        }
        Err(error) => panic!("`{tool}` cannot be started: {error}"),
    }
}

fn layers() -> Vec<Vec<u8>> {
    vec![
        Archive::new().dir("etc/").file("etc/a", b"a").file("etc/b", b"b").end(),
        Archive::new().dir("etc/").file("etc/.wh.a", b"").hardlink("etc/c", "etc/b").end(),
    ]
}

/// skopeo rewrites a layout of ours into every other kind; all import as the same files.
#[test]
fn what_skopeo_copies() {
    let bench = Bench::new();
    bench.source_directory(&layout(&layers(), Stored::Gzip));
    let expected: Vec<_> = listings(&bench, "layout");
    for (target, path) in [
        ("oci-archive:archive.tar:app:v1", "archive.tar"),
        ("docker-archive:docker.tar:app:v1", "docker.tar"),
        ("oci:copied:app", "copied"),
    ] {
        let arguments = ["--insecure-policy", "copy", "oci:layout", target];
        if run("skopeo", &arguments, &bench.path("")).is_none() {
            return;
        }
        assert_eq!(listings(&bench, path), expected, "{target}");
    }
    let arguments =
        ["--insecure-policy", "copy", "--dest-compress-format=zstd", "oci:layout", "oci:zstd:app"];
    run("skopeo", &arguments, &bench.path(""));
    assert_eq!(listings(&bench, "zstd"), expected, "zstd");
}

#[test]
fn what_umoci_makes() {
    let bench = Bench::new();
    let directory = bench.path("");
    if run("umoci", &["init", "--layout", "made"], &directory).is_none() {
        return;
    }
    std::fs::create_dir(bench.path("tree")).unwrap();
    std::fs::write(bench.path("tree/file"), "from umoci").unwrap();
    for arguments in [
        &["new", "--image", "made:app"][..],
        &["insert", "--image", "made:app", "tree", "/opt/tree"],
        &["insert", "--image", "made:app", "--whiteout", "/opt/tree/file"],
        &["config", "--image", "made:app", "--config.user", "1000", "--config.env", "A=b=c"],
    ] {
        run("umoci", arguments, &directory);
    }
    let image = bench.import(&bench.path("made")).unwrap();
    assert_eq!(image.config.user, "1000");
    assert!(image.config.env.contains(&("A".to_owned(), "b=c".to_owned())));
    assert!(image.layers[0].path.join("opt/tree/file").exists());
    assert!(listing(&image.layers[1].path).contains("opt/tree/file whiteout"));
}

/// Imports from a path of the bench into a store of its own and lists the layers.
fn listings(bench: &Bench, path: &str) -> Vec<String> {
    let own = Bench::new();
    let image = own.import(&bench.path(path)).unwrap();
    image.layers.iter().map(|layer| listing(&layer.path)).collect()
}
