//! What a job or a project leaves for those after it to trip over: links that are exchanged, what
//! overlays and layers read as orders, a repository that is more than it seems.
//!
//! Whoever takes over - an artifact, a cache, a job that starts in another's files, an image, an
//! export of what is committed - gets files, and nothing beyond.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use crate::{
    binary::{Cofferdam, file, program},
    host::{Need, needs},
};

/// A directory of the host, outside of everything, with a file that must not be seen.
fn outside(directory: &Path) -> PathBuf {
    let outside = directory.join("outside");
    fs::create_dir(&outside).expect("a directory");
    file(&outside, "file", "of the host\n");
    outside
}

/// CVE-2019-14271, CVE-2021-30465 and their like: what is still running when a job ends exchanges
/// directories for links until it is killed, and only then is anything taken.
#[test]
fn links_are_exchanged_until_the_end() {
    needs!(Need::Containers, Need::Program("python3"));
    let project = tempfile::tempdir().expect("a directory");
    let outside = outside(project.path());
    let exchange = "import os, sys\n\
        os.makedirs('dist/deep')\n\
        open('dist/file', 'w').write('of the job\\n')\n\
        open('dist/deep/file', 'w').write('of the job\\n')\n\
        if os.fork(): sys.exit()\n\
        os.setsid()\n\
        while True:\n    \
            for path in ('dist', 'dist/deep', 'dist/file'):\n        \
                os.rename(path, 'real')\n        \
                os.symlink(sys.argv[1] + path[4:].replace('/deep', ''), path)\n        \
                os.unlink(path)\n        \
                os.rename('real', path)\n";
    file(project.path(), "exchange.py", exchange);
    let pipeline = format!(
        "jobs:\n  a:\n    matrix: {{ n: [1, 2, 3, 4] }}\n    cache: [{{ key: \"k${{{{ matrix.n }}}}\", paths: [dist] }}]\n    \
         steps: [{{ run: \"cat dist/file dist/deep/file || true; rm -rf dist; python3 exchange.py {} > /dev/null 2>&1\" }}]\n    \
         artifacts: {{ paths: [dist] }}\n",
        outside.display()
    );
    file(project.path(), "cofferdam.yml", &pipeline);
    let cofferdam = Cofferdam::new().in_directory(project.path());
    // What was kept by the first is seen by the second.
    for out in ["one", "two"] {
        let ended = cofferdam.run(["run", "--out", out]);
        // Where nothing of that name was there in the end, its job has failed.
        assert!(matches!(ended.status, 0 | 1), "{}", ended.text());
        assert!(!ended.text().contains("of the host"), "{}", ended.text());
        let artifacts = project.path().join(out).join("artifacts");
        let mut waiting = vec![artifacts];
        while let Some(path) = waiting.pop() {
            let Ok(found) = path.symlink_metadata() else { continue };
            if found.is_dir() {
                let entries = fs::read_dir(&path).expect("list");
                waiting.extend(entries.map(|entry| entry.expect("an entry").path()));
            } else if found.is_file() {
                assert_eq!(fs::read_to_string(&path).expect("read"), "of the job\n", "{path:?}");
            } else {
                assert!(!fs::read_link(&path).expect("a link").is_absolute(), "{path:?}");
            }
        }
    }
    assert_eq!(fs::read_dir(&outside).expect("list").count(), 1);
    assert_eq!(fs::read_to_string(outside.join("file")).expect("read"), "of the host\n");
}

/// Links that stay inside the artifacts of each job lead out of those of two together: one makes a
/// directory of the other's a shorter way up.
#[test]
fn artifacts_of_two_jobs_lead_nowhere_else() {
    needs!(Need::Containers);
    let project = tempfile::tempdir().expect("a directory");
    let outside = outside(project.path());
    // As many levels above where it really is as it has below where it seems to be.
    const LEVELS: usize = 24;
    let deep = "d/".repeat(LEVELS);
    let (up, root) = (vec![".."; LEVELS].join("/"), vec![".."; LEVELS * 2].join("/"));
    let target = outside.display().to_string();
    let target = target.trim_start_matches('/');
    let pipeline = format!(
        "jobs:\n  one: {{ steps: [{{ run: \"mkdir -p {deep} && ln -s {up} {deep}a\" }}], artifacts: {{ paths: [d] }} }}\n  \
         two:\n    steps: [{{ run: \"mkdir -p {deep}a/{deep} && ln -s {root} {deep}a/{deep}out\" }},\n      \
         {{ run: \"mkdir -p {deep}out/{target}/made && echo planted | tee {deep}out/{target}/new > {deep}out/{target}/made/new\" }}]\n    \
         artifacts: {{ paths: [d] }}\n  \
         both: {{ needs: [{{ job: one, artifacts: true }}, {{ job: two, artifacts: true }}], steps: [{{ run: echo both }}] }}\n"
    );
    file(project.path(), "cofferdam.yml", &pipeline);
    let cofferdam = Cofferdam::new().in_directory(project.path());
    let ended = cofferdam.run(["run", "--out", "out"]);
    let names = fs::read_dir(&outside).expect("list").map(|it| it.expect("an entry").file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["file"], "{}", ended.text());
    let ended = ended.expect(1);
    assert!(!ended.text().contains("both | both"), "{}", ended.text());
    ended.says(&["of `two` has no place"]);
}

/// What overlayfs and layers take as orders, when it comes from a job: it is a name or an attribute
/// like others to who starts in its files, and to an image that is made of them.
#[test]
fn a_state_gives_no_orders() {
    needs!(Need::Containers, Need::Program("python3"));
    let project = tempfile::tempdir().expect("a directory");
    let plant = "import os\n\
        os.makedirs('/d/sub')\n\
        for path in ('/d/file', '/d/large'): open(path, 'w').write('x' * 10000)\n\
        for path in ('/d', '/d/sub', '/d/file', '/d/large', '/etc', '/etc/passwd', '/var', '.'):\n    \
            for name, value in (('opaque', b'y'), ('opaque', b'x'), ('redirect', b'/etc'), ('metacopy', b''),\n            \
                    ('whiteout', b'y'), ('origin', b'x'), ('overlay.opaque', b'y'), ('upper', b'x')):\n        \
                for before in ('user.overlay.', 'trusted.overlay.'):\n            \
                    try: os.setxattr(path, before + name, value)\n            \
                    except OSError: pass\n\
        for kind, device in ((0o20000, 0), (0o20000, os.makedev(1, 3)), (0o60000, os.makedev(7, 0))):\n    \
            try: os.mknod('/d/node', kind | 0o666, device); print('made', oct(kind), device)\n    \
            except OSError: pass\n";
    file(project.path(), "plant.py", plant);
    let look = "ls -d /etc/passwd /var /d/*; wc -c < /d/large; touch /d/sub/more /etc/more; ls /d/sub; ls /etc | grep -c .";
    let pipeline = format!(
        "jobs:\n  count: {{ steps: [{{ run: ls /etc | grep -c . > /dev/null }}] }}\n  \
         plants: {{ steps: [{{ run: \"python3 plant.py; ls /etc | grep -c .\" }}] }}\n  \
         starts: {{ from: plants, steps: [{{ run: \"{look}\" }}] }}\n"
    );
    file(project.path(), "cofferdam.yml", &pipeline);
    let cofferdam = Cofferdam::new().in_directory(project.path());
    let ended = cofferdam.run(["run", "--keep-state"]).expect(0);
    let said = |job: &str| -> Vec<String> {
        let beginning = format!("{job} | ");
        let lines = ended.stdout.lines().filter_map(|line| line.strip_prefix(&beginning));
        lines.map(str::to_owned).collect()
    };
    let [before] = said("plants").try_into().expect("a count, and no node");
    let entries: u32 = before.parse().expect("a number");
    let mut expect: Vec<String> =
        ["/d/file", "/d/large", "/d/sub", "/etc/passwd", "/var", "10000", "more"]
            .map(str::to_owned)
            .to_vec();
    expect.push((entries + 1).to_string());
    assert_eq!(said("starts"), expect, "{}", ended.text());
    cofferdam.run(["image", "commit", "last", "plants", "planted"]).expect(0);
    let ended = cofferdam.script_in("planted", &["--workdir", "/"], look).expect(0);
    assert_eq!(ended.stdout.lines().collect::<Vec<_>>(), expect, "{}", ended.text());
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"];
    let output = program("git").args(identity).args(arguments).current_dir(directory).output();
    let output = output.expect("git");
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// `workspace: git` shows what is committed, whatever the repository says besides.
#[test]
fn a_repository_runs_nothing() {
    needs!(Need::Containers, Need::Program("git"));
    let project = tempfile::tempdir().expect("a directory");
    let path = project.path();
    file(
        path,
        "cofferdam.yml",
        "jobs: { a: { workspace: git, steps: [{ run: 'cat file sub/file; ls -A; ls -A /tmp | wc -l; test ! -e /etc/planted' }] } }\n",
    );
    git(path, &["init", "-q"]);
    fs::create_dir(path.join("sub")).expect("a directory");
    file(path, ".gitattributes", "* filter=planted\nsub/* export-subst\n");
    file(path, "file", "committed\n");
    file(path, "sub/file", "$Format:%D$\n");
    git(path, &["add", ".gitattributes", "file", "sub"]);
    git(path, &["commit", "-q", "-m", "one"]);
    git(path, &["tag", "named"]);
    let first = git(path, &["rev-parse", "HEAD"]);
    // Another commit in its place, and another content by the way out.
    file(path, "file", "replaced\n");
    git(path, &["commit", "-q", "-a", "-m", "two"]);
    git(path, &["replace", &first, "HEAD"]);
    git(path, &["reset", "-q", "--hard", "HEAD~1"]);
    let planted = "touch /etc/planted /tmp/planted; echo planted";
    for (key, value) in [
        ("filter.planted.smudge", planted),
        ("filter.planted.process", planted),
        ("core.fsmonitor", planted),
        ("core.hooksPath", "/project/.git/hooks"),
        ("core.worktree", "/etc"),
        ("tar.umask", "0777"),
        ("alias.archive", "!touch /etc/planted"),
    ] {
        git(path, &["config", key, value]);
    }
    file(path, ".git/info/attributes", "sub export-ignore\n");
    let cofferdam = Cofferdam::new().in_directory(path);
    let ended = cofferdam.run(["run", "--keep-state"]).expect(0);
    let lines = ended.stdout.lines().filter_map(|line| line.strip_prefix("a | "));
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines[0], "committed", "{}", ended.text());
    assert!(lines[1].contains("tag: named"), "{}", ended.text());
    assert_eq!(lines[2..], [".gitattributes", "file", "sub", "0"], "{}", ended.text());
}

/// A project that came from elsewhere cannot have what its user can read exported: neither by a link
/// to another repository nor by objects of one.
#[test]
fn a_project_has_no_other_repository() {
    needs!(Need::Containers, Need::Program("git"));
    let directory = tempfile::tempdir().expect("a directory");
    let [private, project] = ["private", "project"].map(|name| directory.path().join(name));
    for path in [&private, &project] {
        fs::create_dir(path).expect("a directory");
    }
    git(&private, &["init", "-q"]);
    file(&private, "file", "private\n");
    git(&private, &["add", "file"]);
    git(&private, &["commit", "-q", "-m", "one"]);
    let commit = git(&private, &["rev-parse", "HEAD"]);
    let pipeline = "jobs: { a: { workspace: git, steps: [{ run: cat file }] } }\n";
    file(&project, "cofferdam.yml", pipeline);
    let cofferdam = Cofferdam::new().in_directory(&project);
    let refused = || {
        let ended = cofferdam.run(["run"]).expect(66);
        let ended = ended.says(&["failed to export what is committed"]);
        assert!(!ended.text().contains("a | "), "{}", ended.text());
    };
    let dot_git = project.join(".git");
    symlink(private.join(".git"), &dot_git).expect("a link");
    refused();
    fs::remove_file(&dot_git).expect("remove");
    file(&project, ".git", format!("gitdir: {}\n", private.join(".git").display()));
    refused();
    fs::remove_file(&dot_git).expect("remove");
    git(&project, &["init", "-q"]);
    let objects = private.join(".git/objects").display().to_string();
    file(&project, ".git/objects/info/alternates", &objects);
    file(&project, ".git/HEAD", &commit);
    refused();
    fs::remove_file(dot_git.join("objects/info/alternates")).expect("remove");
    fs::remove_dir_all(dot_git.join("objects")).expect("remove");
    symlink(&objects, dot_git.join("objects")).expect("a link");
    refused();
}
