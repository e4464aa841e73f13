//! What steps write, as layers: with all ids and permissions, the same from root and from users, and
//! nothing else when a step is hostile.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    binary::{Cofferdam, Ended, file},
    host::{Need, needs},
};

fn build(cofferdam: &Cofferdam, context: &Path, flags: &[&str]) -> Ended {
    let path = context.to_str().expect("a path that is text");
    cofferdam.run(["image", "build", "-t", "built", path].iter().chain(flags))
}

/// Layers of the image `built` above those of what it was built on, as digests of their archives.
fn layers(cofferdam: &Cofferdam, below: usize) -> Vec<String> {
    let shown = cofferdam.run(["image", "inspect", "built", "--json"]).expect(0);
    let shown: Value = serde_json::from_str(&shown.stdout).expect("JSON");
    let layers = shown["layers"].as_array().expect("layers").iter();
    layers.skip(below).map(|layer| layer["diff_id"].as_str().expect("text").to_owned()).collect()
}

const OWNERS: &str = r#"FROM busybox AS build
RUN mkdir -p /app/bin /app/closed && chmod 000 /app/closed && echo tool > /app/bin/tool \
    && chmod 6755 /app/bin/tool && ln /app/bin/tool /app/bin/same && ln -s tool /app/bin/link \
    && echo secret > /app/secret && chmod 000 /app/secret && mkfifo /app/pipe \
    && chown -R 1000:1000 /app && chown 33:44 /app/secret && chown -h 5:6 /app/bin/link
USER 1000
RUN cd /app && rm bin/same && echo own > own && mkdir -m 700 home && echo x > home/x
USER 0
RUN rm -r /app/closed && mkdir /app/closed && rm /app/own && cat /app/secret >> /app/bin/tool

FROM busybox
COPY --from=build /app /app
COPY --from=build --chown=7:ci /app/home /srv/home
COPY --chown=nobody file /home/file
USER nobody
RUN echo more >> /home/file
"#;

/// The digests are the same for root and for a user with subordinate ids: this test has one snapshot
/// for both.
#[test]
fn owners_are_kept_and_digests_are_the_same() {
    needs!(Need::Containers, Need::Ids, Need::Busybox);
    let context = tempfile::tempdir().expect("a directory");
    file(context.path(), "Dockerfile", OWNERS);
    file(context.path(), "file", "from the context\n");
    let cofferdam = Cofferdam::with_busybox();
    build(&cofferdam, context.path(), &[]).expect(0);
    let script =
        "find /app /srv /home -exec stat -c '%n %F %u:%g %a %h' {} + | sort; cat /home/file";
    let shown = cofferdam.script_in("built", &["--user", "0", "--workdir", "/"], script).expect(0);
    insta::assert_snapshot!(shown.stdout, @r"
    /app directory 0:0 755 5
    /app/bin directory 1000:1000 755 2
    /app/bin/link symbolic link 5:6 777 1
    /app/bin/tool regular file 1000:1000 755 1
    /app/closed directory 0:0 755 2
    /app/home directory 1000:1000 700 2
    /app/home/x regular file 1000:1000 644 1
    /app/pipe fifo 1000:1000 644 1
    /app/secret regular file 33:44 0 1
    /home directory 0:0 755 1
    /home/file regular file 65534:65534 644 1
    /srv directory 7:1000 755 3
    /srv/home directory 7:1000 755 2
    /srv/home/x regular file 7:1000 644 1
    from the context
    more
    ");
    let first = layers(&cofferdam, 1);
    insta::assert_snapshot!(first.join("\n"), @r"
    sha256:7382d2613b21276bc9e262a21f565b867f62f39d4c860284df5c419168621e59
    sha256:6bd069f28516a8aa52c03512d5a8da9e150bff456246d6d36b6dd0ddb91f5223
    sha256:1acd74aebf3ac5a008b7760d9a3289a3d9d0ee2f52b16fd6294ee0ef5a77bf77
    sha256:b60dfe423756d61e734a9afe86c8af7dd89621c606a9c6d50aef3a178323ba06
    ");
    build(&cofferdam, context.path(), &["--no-cache"]).expect(0);
    assert_eq!(layers(&cofferdam, 1), first);
    // What is given away is whole, files of others that nobody may read among it.
    let archive = context.path().join("built.tar");
    let archive = archive.to_str().expect("a path that is text");
    cofferdam.run(["image", "export", "built", archive]).expect(0);
    cofferdam.run(["image", "import", archive, "again"]).expect(0);
    let again = cofferdam.script_in("again", &["--user", "0", "--workdir", "/"], script).expect(0);
    assert_eq!(again.stdout, shown.stdout);
    for name in ["built", "again"] {
        cofferdam.run(["image", "rm", name]).expect(0);
    }
    cofferdam.run(["image", "gc", "--keep", "1B"]).expect(0);
    let kept = fs::read_dir(cofferdam.state().join("store/layers/sha256")).expect("list").count();
    assert_eq!(kept, 1, "of busybox alone");
}

/// A user without subordinate ids: all files are root's inside, and what a layer says of its owners
/// stays in it for others.
#[test]
fn a_single_id_builds_too() {
    needs!(Need::Containers, Need::SingleId, Need::Busybox);
    let context = tempfile::tempdir().expect("a directory");
    let dockerfile = "FROM busybox\nCOPY --chown=7:8 file /file\n\
                      RUN stat -c %u:%g /file > /seen && echo s > /closed && chmod 000 /closed\n\
                      RUN cat /closed >> /seen\n";
    file(context.path(), "Dockerfile", dockerfile);
    file(context.path(), "file", "from the context\n");
    let cofferdam = Cofferdam::with_busybox();
    build(&cofferdam, context.path(), &[]).expect(0);
    let seen = cofferdam.script_in("built", &["--workdir", "/"], "cat /seen").expect(0).stdout;
    assert_eq!(seen, "0:0\ns\n");
    // The archive of the copied file, as root makes it.
    insta::assert_snapshot!(layers(&cofferdam, 1).first().expect("a layer"), @"sha256:e1c866391ec707e111047a71911e3337aa935fb5e07e5cb1414907d03fca9590");
    file(context.path(), "Dockerfile", "FROM busybox\nUSER 1000\nRUN true\n");
    build(&cofferdam, context.path(), &[]).expect(1).says(&["user"]);
}

/// What a step leaves behind is an archive like any other's: what cannot be part of a layer is refused
/// or left out, all of it is bounded, and the store stays as it was.
#[test]
fn hostile_steps() {
    needs!(Need::Containers, Need::ProgramInside("perl".to_owned()));
    let cofferdam = Cofferdam::new();
    let context = tempfile::tempdir().expect("a directory");
    let run = |script: &str, flags: &[&str]| {
        file(context.path(), "step.pl", script);
        let dockerfile = "FROM host\nRUN --mount=source=step.pl,target=/step.pl perl /step.pl\n";
        file(context.path(), "Dockerfile", dockerfile);
        build(&cofferdam, context.path(), flags)
    };
    let deep = "chdir '/tmp'; for (1..300) { mkdir 'd'; chdir 'd' or die }";
    run(deep, &[]).expect(1).says(&["line 2", "directories deep"]);
    let hidden = "mkdir '/tmp/a'; open F, '>', '/tmp/a/.wh..wh..opq'";
    run(hidden, &[]).expect(1).says(&["line 2", "`.wh.`"]);
    // All that its room holds, and all that it may make.
    let full = "open F, '>', '/fill'; 1 while syswrite F, 'x' x 65536; exit 0";
    run(full, &["--disk", "8MiB", "--scratch", "memory"]).expect(0);
    let size = "stat -c %s /fill";
    let size = cofferdam.script_in("built", &["--workdir", "/"], size).expect(0).stdout;
    assert!((7 << 20..=8 << 20).contains(&size.trim().parse::<u64>().expect("a number")), "{size}");
    let links =
        "open F, '>', '/tmp/f'; close F; my $n = 0; $n++ while link '/tmp/f', \"/tmp/$n\"; exit 0";
    run(links, &["--inodes", "3000", "--scratch", "memory"]).expect(0);
    let count = "ls /tmp | wc -l; stat -c %h /tmp/f";
    let count = cofferdam.script_in("built", &["--workdir", "/"], count).expect(0).stdout;
    let count: Vec<u64> = count.lines().map(|it| it.trim().parse().expect("a number")).collect();
    assert!(count[0] == count[1] && count[0] > 2000, "{count:?}");
    // What is no file is left out, and no name means anything to anyone.
    let odd = r#"
        use Socket; use POSIX;
        socket(S, AF_UNIX, SOCK_STREAM, 0) && bind(S, pack_sockaddr_un("/tmp/socket")) or die "$!";
        my ($device, $whiteout) = ("/tmp/device", "/tmp/whiteout");
        syscall(133, $device, 0020666, 0x0103) == -1 or die "a device";
        syscall(133, $whiteout, 0020000, 0);
        mkfifo("/tmp/pipe", 0622) or die;
        for my $name ("new\nline", "-rf", "\x1b]0;x\a", "\xff\xfe", "a" x 255, "..x") {
            open F, '>', "/tmp/$name" or die "$name: $!"; print F "odd"; close F;
        }
        symlink "/etc/passwd", "/tmp/out"; symlink "../" x 30, "/tmp/up"; symlink "loop", "/tmp/loop";
        rename "/etc/ssl", "/tmp/ssl"; system "rm -rf /etc/alternatives; mkdir /etc/alternatives";
    "#;
    run(odd, &[]).expect(0);
    let list = "cd /tmp; perl -e 'for (sort glob \"* ..x\") { s/([^ -~])/sprintf q(\\x%02x), ord $1/ge; print substr($_, 0, 20), qq(\\n) }'; stat -c '%F %a' pipe; ls /etc/alternatives | wc -l; readlink out loop";
    let listed = cofferdam.script_in("built", &["--workdir", "/"], list).expect(0).stdout;
    insta::assert_snapshot!(listed, @r"
    \x1b]0;x\x07
    -rf
    ..x
    aaaaaaaaaaaaaaaaaaaa
    loop
    new\x0aline
    out
    pipe
    up
    \xff\xfe
    fifo 600
    0
    /etc/passwd
    loop
    ");
    let kept = fs::read_dir(cofferdam.state().join("store/tmp")).expect("list").count();
    assert_eq!(kept, 0, "unfinished layers");
}

/// What a step has closed to others, and whose it is, matters to nobody who takes it out or keeps it.
#[test]
fn artifacts_and_caches_of_other_users() {
    needs!(Need::Containers, Need::Ids, Need::Busybox);
    let project = tempfile::tempdir().expect("a directory");
    let pipeline = "\
jobs:
  a:
    image: busybox
    cache: [{ key: k, paths: [/opt/cache] }]
    steps:
      - run: ls -ln /opt/cache/file || true
      - run: mkdir -p /opt/cache out && echo mine > out/file && cp out/file /opt/cache && chmod 600 out/file /opt/cache/file && chown 1000:7 out/file /opt/cache/file && chown 1000 out && chmod 700 out
    artifacts: { paths: [out] }
";
    file(project.path(), "cofferdam.yml", pipeline);
    let cofferdam = Cofferdam::with_busybox().in_directory(project.path());
    let out = project.path().join("run");
    let flags = ["run", "--out", out.to_str().expect("a path that is text")];
    cofferdam.run(flags).expect(0);
    let taken = fs::read_to_string(out.join("artifacts/a/out/file"));
    assert_eq!(taken.expect("an artifact of the caller's"), "mine\n");
    fs::remove_dir_all(&out).expect("the caller's own");
    cofferdam.run(flags).expect(0).says(&["-rw-------    1 1000     7"]);
}

/// Programs of the host that the runner starts are the caller's, with the caller's id and no more
/// rights, wherever the runner itself is.
#[test]
fn programs_of_the_host_are_the_callers() {
    needs!(Need::Containers);
    let project = tempfile::tempdir().expect("a directory");
    let pipeline = "secrets: [TOKEN]\njobs: { a: { steps: [{ run: echo done, env: { T: \"${{ secrets.TOKEN }}\" } }] } }\n";
    file(project.path(), "cofferdam.yml", pipeline);
    let id = nix::unistd::geteuid();
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let effective = status.lines().find(|line| line.starts_with("CapEff:")).expect("CapEff");
    let command = format!(
        "TOKEN=test \"$(id -u)\" = {id} && grep -qx '{effective}' /proc/self/status && echo a-secret-value"
    );
    let cofferdam = Cofferdam::new().in_directory(project.path());
    cofferdam.run(["run", "--secret-command", &command]).expect(0).says(&["| done"]);
}
