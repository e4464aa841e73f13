//! Repositories that git makes, and such as it would never make.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::*;

/// A project under git.
struct Project {
    /// Holds the project, and what a test puts beside it.
    above: tempfile::TempDir,
    path: PathBuf,
}

impl Project {
    /// With one commit on `main`.
    fn new(options: &[&str]) -> Self {
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join("project");
        fs::create_dir(&path).unwrap();
        let project = Self { above, path };
        project.git(&[&["init", "-q", "-b", "main"], options].concat());
        project.commit("one");
        project
    }

    fn git(&self, arguments: &[&str]) -> String {
        git(&self.path, arguments)
    }

    fn commit(&self, name: &str) {
        fs::write(self.path.join("file"), name).unwrap();
        self.git(&["add", "file"]);
        self.git(&["commit", "-q", "-m", name]);
    }

    fn tag(&self) -> Option<String> {
        context(&self.path).remove("tag")
    }
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    #[expect(clippy::disallowed_methods, reason = "git makes what is read here")]
    let mut command = Command::new("git");
    let output = command
        .args([
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@example.org",
            "-c",
            "protocol.file.allow=always",
        ])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stderr(Stdio::inherit())
        .output()
        .expect("git");
    assert!(output.status.success(), "git {arguments:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What the context has, without the commit, which has to be git's.
#[track_caller]
fn check(directory: &Path, expected: &[(&str, &str)]) {
    let mut found = context(directory);
    let commit = git(directory, &["rev-parse", "HEAD"]);
    assert_eq!(found.remove("commit").as_deref(), Some(commit.as_str()));
    assert_eq!(super::commit(directory), Some(commit));
    let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(found, expected, "{}", directory.display());
}

const ON_MAIN: (&str, &str) = ("ref", "refs/heads/main");

#[test]
fn branches_tags_and_detached_heads() {
    for format in ["sha1", "sha256"] {
        let project = Project::new(&["--object-format", format]);
        check(&project.path, &[("branch", "main"), ON_MAIN]);
        project.git(&["tag", "light"]);
        check(&project.path, &[("branch", "main"), ON_MAIN, ("tag", "light")]);
        project.git(&["tag", "-a", "-m", "released", "releases/v1"]);
        project.git(&["checkout", "-q", "--detach"]);
        check(&project.path, &[("tag", "releases/v1")]);
        project.git(&["checkout", "-q", "-b", "side/branch"]);
        project.commit("two");
        check(&project.path, &[("branch", "side/branch"), ("ref", "refs/heads/side/branch")]);
        // Packed, with what annotated tags stand for beside them.
        project.git(&["pack-refs", "--all", "--prune"]);
        check(&project.path, &[("branch", "side/branch"), ("ref", "refs/heads/side/branch")]);
        project.git(&["checkout", "-q", "main"]);
        check(&project.path, &[("branch", "main"), ON_MAIN, ("tag", "releases/v1")]);
        // A loose tag hides the packed one of its name.
        project.git(&["tag", "-f", "-a", "-m", "moved", "releases/v1", "side/branch"]);
        check(&project.path, &[("branch", "main"), ON_MAIN, ("tag", "light")]);
    }
}

#[test]
fn of_several_tags_the_last_annotated_version() {
    let project = Project::new(&[]);
    for light in ["v1.9.0", "v1.10.0", "latest"] {
        project.git(&["tag", light]);
    }
    assert_eq!(project.tag().as_deref(), Some("v1.10.0"));
    for annotated in ["v1.2.0", "v1.2.0-rc1"] {
        project.git(&["tag", "-a", "-m", "x", annotated]);
    }
    assert_eq!(project.tag().as_deref(), Some("v1.2.0"));
    // A tag of a tag stands for the commit as well.
    project.git(&["tag", "-a", "-m", "x", "v3", "v1.2.0"]);
    assert_eq!(project.tag().as_deref(), Some("v3"));
}

/// Tag objects that are only in a pack, most of them as what changed from another.
#[test]
fn tags_in_packs() {
    for format in ["sha1", "sha256"] {
        let project = Project::new(&["--object-format", format]);
        let mut message = "a message that all tags have in common, line by line\n".repeat(20);
        for number in 0..16 {
            writeln!(message, "and a line of tag {number}").unwrap();
            project.commit(&number.to_string());
            project.git(&["tag", "-a", "-m", &message, &format!("v{number}")]);
        }
        project.git(&["repack", "-q", "-a", "-d", "-f"]);
        let is_loose = |name: &str| {
            let id = project.git(&["rev-parse", name]);
            let (directory, file) = id.split_at(2);
            project.path.join(".git/objects").join(directory).join(file).exists()
        };
        let names = fs::read_dir(project.path.join(".git/objects/pack")).unwrap();
        let index = names
            .map(|entry| entry.unwrap().path())
            .find(|it| it.extension() == Some("idx".as_ref()));
        let listed = project.git(&["verify-pack", "-v", &index.unwrap().display().to_string()]);
        let deltas =
            listed.lines().filter(|line| line.contains(" tag ") && line.split(' ').count() > 6);
        assert!(deltas.count() > 3, "git made no deltas: {listed}");
        for number in [0, 7, 15] {
            let name = format!("v{number}");
            assert!(!is_loose(&name));
            project.git(&["checkout", "-q", &name]);
            check(&project.path, &[("tag", &name)]);
        }
    }
}

#[test]
fn clones_that_have_little() {
    let origin = Project::new(&[]);
    origin.git(&["tag", "-a", "-m", "x", "v1"]);
    origin.commit("two");
    let from = format!("file://{}", origin.path.display());
    let clone = origin.above.path().join("shallow");
    let clone_text = clone.display().to_string();
    origin.git(&[
        "clone",
        "-q",
        "--depth",
        "1",
        "--branch",
        "v1",
        "-c",
        "advice.detachedHead=false",
        &from,
        &clone_text,
    ]);
    check(&clone, &[("tag", "v1")]);
    // As services do it that check out one commit of many.
    let fetched = origin.above.path().join("fetched");
    fs::create_dir(&fetched).unwrap();
    git(&fetched, &["init", "-q"]);
    git(
        &fetched,
        &[
            "-c",
            "fetch.unpackLimit=1",
            "fetch",
            "-q",
            "--depth",
            "1",
            &from,
            "refs/tags/v1:refs/tags/v1",
        ],
    );
    git(&fetched, &["checkout", "-q", "v1"]);
    check(&fetched, &[("tag", "v1")]);
}

#[test]
fn further_working_trees_and_submodules() {
    let project = Project::new(&[]);
    project.git(&["tag", "v1"]);
    let tree = project.above.path().join("tree");
    project.git(&["worktree", "add", "-q", "-b", "side", &tree.display().to_string()]);
    check(&tree, &[("branch", "side"), ("ref", "refs/heads/side"), ("tag", "v1")]);
    git(&tree, &["checkout", "-q", "--detach"]);
    check(&tree, &[("tag", "v1")]);

    let outer = Project::new(&[]);
    outer.git(&[
        "submodule",
        "--quiet",
        "add",
        &format!("file://{}", project.path.display()),
        "inner",
    ]);
    let inner = outer.path.join("inner");
    check(&inner, &[("branch", "main"), ON_MAIN, ("tag", "v1")]);
}

/// A project's `.git` that leads to what is not the project's.
#[test]
fn nothing_of_others_is_read() {
    let private = Project::new(&[]);
    private.git(&["tag", "secret"]);
    let of_private = private.path.join(".git");
    let above = tempfile::tempdir().unwrap();
    let workspace = above.path().join("project");
    let anew = || {
        fs::remove_dir_all(&workspace).ok();
        fs::create_dir(&workspace).unwrap();
    };
    let nothing = || assert_eq!(context(&workspace), BTreeMap::new());

    anew();
    symlink(&of_private, workspace.join(".git")).unwrap();
    nothing();
    anew();
    fs::write(workspace.join(".git"), format!("gitdir: {}\n", of_private.display())).unwrap();
    nothing();
    // One that names the project, and then a repository that does not know of it.
    anew();
    fs::write(workspace.join(".git"), "gitdir: own\n").unwrap();
    fs::create_dir(workspace.join("own")).unwrap();
    fs::write(workspace.join("own/gitdir"), "../.git\n").unwrap();
    fs::write(workspace.join("own/HEAD"), "ref: refs/heads/main\n").unwrap();
    fs::write(workspace.join("own/commondir"), format!("{}\n", of_private.display())).unwrap();
    nothing();

    // Links in a repository of its own.
    let file = above.path().join("private");
    fs::write(&file, format!("{}\n", "a".repeat(40))).unwrap();
    let repository = |head: &str| {
        anew();
        fs::create_dir_all(workspace.join(".git/refs/tags")).unwrap();
        fs::write(workspace.join(".git/HEAD"), head).unwrap();
    };
    repository("");
    fs::remove_file(workspace.join(".git/HEAD")).unwrap();
    symlink(&file, workspace.join(".git/HEAD")).unwrap();
    nothing();
    let on_main = BTreeMap::from(
        [("branch", "main"), ON_MAIN].map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    repository("ref: refs/heads/main\n");
    symlink(of_private.join("refs/heads"), workspace.join(".git/refs/heads")).unwrap();
    assert_eq!(context(&workspace), on_main);
    repository("ref: refs/heads/main\n");
    symlink(&file, workspace.join(".git/packed-refs")).unwrap();
    assert_eq!(context(&workspace), on_main);
}

/// What is no reference and no object is not passed on, whatever it is, and nothing is waited for.
#[test]
fn damage_has_no_value() {
    let above = tempfile::tempdir().unwrap();
    let project = above.path();
    let head = project.join(".git/HEAD");
    fs::create_dir(project.join(".git")).unwrap();
    for text in [
        "root:x:0:0:root:/root:/bin/sh",
        "ref: ../../etc/passwd",
        "ref: refs/heads/.invalid",
        "ref: refs/heads/a\u{1b}[31mb",
        "ref: refs/heads/a b",
        &"a".repeat(1 << 20),
        "",
    ] {
        fs::write(&head, text).unwrap();
        assert_eq!(context(project), BTreeMap::new(), "{text:.40}");
    }
    fs::remove_file(&head).unwrap();
    nix::unistd::mkfifo(&head, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(context(project), BTreeMap::new());
    fs::remove_file(&head).unwrap();
    let commit = "a".repeat(40);
    fs::write(&head, &commit).unwrap();
    let only = BTreeMap::from([("commit".to_owned(), commit)]);

    // Tag objects, indexes and packs of all kinds of wrong bytes.
    fs::create_dir_all(project.join(".git/objects/bb")).unwrap();
    fs::create_dir_all(project.join(".git/objects/pack")).unwrap();
    fs::create_dir_all(project.join(".git/refs/tags")).unwrap();
    fs::write(project.join(".git/refs/tags/v1"), "b".repeat(40)).unwrap();
    let loose = project.join(".git/objects/bb").join("b".repeat(38));
    let index = project.join(".git/objects/pack/p.idx");
    fs::write(project.join(".git/objects/pack/p.pack"), [0xff; 100]).unwrap();
    for bytes in [vec![], vec![0x78, 0x9c, 1, 2, 3], b"\xfftOc\0\0\0\x02".to_vec(), {
        let mut all = b"\xfftOc\0\0\0\x02".to_vec();
        all.resize(4096, 0xff);
        all
    }] {
        fs::write(&loose, &bytes).unwrap();
        fs::write(&index, &bytes).unwrap();
        assert_eq!(context(project), only);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config {
        failure_persistence: None, ..proptest::test_runner::Config::default()
    })]

    /// A pack that says anything at all about a tag.
    #[test]
    fn packs_are_bounded(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let above = tempfile::tempdir().unwrap();
        let git = above.path().join(".git");
        for directory in ["objects/pack", "refs/tags"] {
            fs::create_dir_all(git.join(directory)).unwrap();
        }
        fs::write(git.join("HEAD"), "a".repeat(40)).unwrap();
        fs::write(git.join("refs/tags/v1"), "0".repeat(40)).unwrap();
        // One object, the name of which is all zeros, at the place 0.
        let mut index = b"\xfftOc\0\0\0\x02".to_vec();
        index.extend([0, 0, 0, 1].repeat(256));
        index.extend([0; 20 + 4 + 4]);
        fs::write(git.join("objects/pack/p.idx"), index).unwrap();
        fs::write(git.join("objects/pack/p.pack"), bytes).unwrap();
        context(above.path());
    }
}
