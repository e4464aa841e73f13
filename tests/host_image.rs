//! The image `host` where `/usr` is not all of one file system, what of it nobody may read, and what
//! is built on it.
//!
//! The mounts are those of a namespace of the test's own.

use std::{io::Read as _, process::Stdio};

use crate::{
    binary::{Cofferdam, Ended, file, program, wait},
    host::{Need, needs},
};

/// Without root it cannot be made of a part of `/usr`; what is in the way is named before anything
/// is put up, with what to do.
#[test]
fn a_mount_below_usr_is_named() {
    needs!(Need::User, Need::Containers, Need::Program("unshare"), Need::Program("setpriv"));
    let cofferdam = Cofferdam::new();
    let command = ["exec", "host", "--", "echo", "it stands"];
    assert_eq!(arranged_by_user(&cofferdam, "", &command).expect(0).stdout, "it stands\n");
    let ended = arranged_by_user(&cofferdam, "mount -t tmpfs none /usr/local && ", &command);
    ended.expect(125).says(&["`/usr/local` is mounted below it", "use an image other than `host`"]);
}

/// A command of a user's, after `arrange` in a mount namespace of the test's own.
fn arranged_by_user(cofferdam: &Cofferdam, arrange: &str, command: &[&str]) -> Ended {
    let script = format!("{arrange}exec setpriv --ambient-caps=-all --inh-caps=-all -- \"$@\"");
    let namespaces = ["--user", "--map-current-user", "--mount", "--keep-caps"];
    let arguments = [&namespaces[..], &["sh", "-c", &script, "sh"]].concat();
    wait(cofferdam.command_by("unshare", &arguments, command).spawn().expect("start"))
}

/// In a container, after `arrange` in a mount namespace of the test's own.
fn arranged(cofferdam: &Cofferdam, arrange: &str, script: &str) -> Ended {
    let arrange = format!("set -e; {arrange}; exec \"$@\"");
    let arguments = ["--mount", "sh", "-c", &arrange, "sh"];
    let command = ["exec", "host", "--", "/bin/sh", "-c", script];
    wait(cofferdam.command_by("unshare", &arguments, &command).spawn().expect("start"))
}

/// As root, each mount below `/usr` shows in its place: read-only, and giving no rights.
#[test]
fn what_is_mounted_below_usr_is_there() {
    needs!(Need::Root, Need::Containers, Need::Program("unshare"));
    let cofferdam = Cofferdam::new();
    let arrange = "mount -t tmpfs covered /usr/local; mkdir -p /usr/local/hidden; \
                   mount -t tmpfs covered /usr/local/hidden; \
                   mount -t tmpfs -o mode=755 outer /usr/local; mkdir /usr/local/bin /usr/local/in /usr/local/hidden; \
                   printf '#!/bin/sh\necho a program\n' > /usr/local/bin/it; \
                   chmod 4755 /usr/local/bin/it; mknod /usr/local/null c 1 3; chmod 666 /usr/local/null; \
                   mount -t tmpfs -o mode=755 inner /usr/local/in; echo nested > /usr/local/in/file; \
                   echo one file > /usr/local/in/source; echo > /usr/local/single; \
                   mount --bind /usr/local/in/source /usr/local/single";
    let script = "it; cat /usr/local/in/file /usr/local/single; ls -A /usr/local/hidden; \
                  for f in /usr/local/new /usr/local/in/new; do touch $f 2>&1; done; \
                  echo x > /usr/local/single; echo x > /usr/local/null; \
                  grep ' /usr/local' /proc/self/mountinfo | cut -d' ' -f5,6";
    let ended = arranged(&cofferdam, arrange, script).expect(0);
    assert!(ended.stdout.starts_with("a program\nnested\none file\n"), "{}", ended.text());
    assert_eq!(ended.text().matches("Read-only file system").count(), 3, "{}", ended.text());
    assert_eq!(ended.text().matches("Permission denied").count(), 1, "{}", ended.text());
    for point in ["/usr/local", "/usr/local/in", "/usr/local/single"] {
        let line = ended.stdout.lines().find(|line| line.split(' ').next() == Some(point));
        let line = line.unwrap_or_else(|| panic!("no `{point}` in\n{}", ended.stdout));
        assert!(line.contains(" ro,nosuid,nodev"), "{line}");
    }
}

/// Mounts of whoever is root of a user namespace may be anything.
#[test]
fn what_a_user_could_have_mounted_is_refused() {
    needs!(Need::Root, Need::Containers, Need::Program("unshare"), Need::Program("nsenter"));
    let cofferdam = Cofferdam::new();
    let mut user = program("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs none /usr/local && echo up && read end")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start unshare");
    let mut up = [0; 3];
    user.stdout.as_mut().expect("a pipe").read_exact(&mut up).expect("up");
    let namespace = format!("--mount=/proc/{}/ns/mnt", user.id());
    let command = ["exec", "host", "--", "echo", "it stands"];
    let ended = cofferdam.command_by("nsenter", &[&namespace], &command).spawn().expect("start");
    let ended = wait(ended).expect(125);
    drop(user.stdin.take());
    user.wait().expect("wait");
    ended.says(&["`/usr/local` is mounted below it", "belongs to a user's", "other than `host`"]);
}

/// What of `/usr` only root of the host may read is nothing that root of a container reads.
#[test]
fn what_is_kept_for_root_of_the_host() {
    needs!(Need::Root, Need::Containers, Need::Program("unshare"));
    let cofferdam = Cofferdam::new();
    for point in ["/usr", "/usr/local"] {
        // An overlay, so that nothing is written to this host's files.
        let arrange = format!(
            "mount -t tmpfs none /mnt; mkdir /mnt/up /mnt/work; \
             mount -t overlay -o lowerdir={point},upperdir=/mnt/up,workdir=/mnt/work none {point}; \
             umask 077; mkdir /usr/local/closed; echo key > /usr/local/closed/key; \
             echo key > /usr/local/key; echo open > /usr/local/open; chmod 644 /usr/local/open"
        );
        let script = "cat /usr/local/open /usr/local/key; ls /usr/local/closed; \
                      cat /usr/local/closed/key; id -u";
        let ended = arranged(&cofferdam, &arrange, script).expect(0);
        assert_eq!(ended.stdout, "open\n0\n", "{point}: {}", ended.text());
        assert_eq!(ended.stderr.matches("Permission denied").count(), 3, "{}", ended.text());
    }
    // Nor are other runs' files.
    let cofferdam = Cofferdam::new().with_state("/usr/local/state".as_ref());
    let ended = arranged(&cofferdam, "mount -t tmpfs none /usr/local", "true").expect(125);
    ended.says(&["the state directory", "choose another state directory"]);
}

/// Where a container reads from something that no limit of bandwidth is for, it is refused, and that
/// is named: the mounts below `/usr` too, and those below what the operator shows, which a bind brings
/// along where it is not root's.
#[test]
fn bandwidth_counts_what_is_mounted_below() {
    needs!(Need::Containers, Need::Program("unshare"), Need::Program("setpriv"));
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().display().to_string();
    // All but `io`, which is what this is about.
    let text = "downgrades: [memory, swap, pids, cpus, devices]\n";
    let configuration = file(directory.path(), "configuration.yml", text);
    let configuration = configuration.display().to_string();
    let cofferdam = Cofferdam::new().variable("COFFERDAM_CONFIG", &configuration);
    let (bind, inner) = (format!("{path}:/shown:ro"), format!("{path}/in"));
    std::fs::create_dir(&inner).expect("make a directory");
    let command = ["exec", "host", "--io-read", "1GiB/s", "--mount", &bind, "--", "true"];
    let (ended, named) = if Need::Root.is_met() {
        let arguments =
            ["--mount", "sh", "-c", "mount -t ramfs none /usr/local; exec \"$@\"", "sh"];
        (
            wait(cofferdam.command_by("unshare", &arguments, &command).spawn().expect("start")),
            "/usr/local",
        )
    } else {
        let arrange = format!("mount -t ramfs none {inner} && ");
        (arranged_by_user(&cofferdam, &arrange, &command), inner.as_str())
    };
    let named = format!("find the disk that `{named}` is on");
    ended.expect(125).says(&[&named, "leave out the limit `io`"]);
}

/// What is built on the host's own files stays on this host, and says so.
#[test]
fn its_files_are_not_given_away() {
    needs!(Need::Containers);
    let cofferdam = Cofferdam::new();
    let directory = tempfile::tempdir().expect("a directory");
    file(directory.path(), "Dockerfile", "FROM host\nENV A=b\n");
    let context = directory.path().display().to_string();
    cofferdam.run(["image", "build", "-t", "own", &context]).expect(0);
    let target = directory.path().join("own.tar").display().to_string();
    let refused = cofferdam.run(["image", "export", "own", &target]).expect(1);
    refused.says(&["this host's own files", "another one than `host`"]);
    assert!(!directory.path().join("own.tar").exists());
}
