//! `cofferdam exec`: the command's status, its environment, user, directories and mounts.

use std::{
    io::{BufRead as _, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use crate::{
    binary::{Cofferdam, file, kill, wait},
    host::{Need, has_ids, needs},
};

/// Flags and a script, the status and what must be printed.
#[track_caller]
fn check(flags: &[&str], script: &str, status: i32, says: &[&str]) {
    Cofferdam::common().script(flags, script).expect(status).says(says);
}

/// The exit status is the command's own; a signal's is 128 and its number, as in a shell.
#[test]
fn status_is_the_commands() {
    needs!(Need::Containers);
    check(&[], "exit 0", 0, &[]);
    check(&[], "exit 1", 1, &[]);
    check(&[], "exit 70", 70, &[]);
    check(&[], "exit 255", 255, &[]);
    check(&[], "kill -TERM $$", 143, &[]);
    check(&[], "kill -KILL $$", 137, &[]);
}

/// 125 to 127 mean what they mean with docker.
#[test]
fn status_of_a_command_that_does_not_start() {
    needs!(Need::Containers);
    let cofferdam = Cofferdam::common();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["exec", "host", "--", "no-such-program"], 127, "name a program of the image"),
        (&["exec", "host", "--", "/no/such/program"], 127, "/no/such/program"),
        (&["exec", "host", "--", "/etc/hosts"], 126, "make it executable"),
        (&["exec", "host", "--", "/usr/bin"], 126, "/usr/bin"),
        (&["exec", "no-such-image", "--", "true"], 125, "no-such-image"),
    ];
    for (arguments, status, says) in cases {
        cofferdam.run(*arguments).expect(*status).says(&[says]);
    }
}

/// A wrong command line is 2 and names what is wrong.
#[test]
fn usage() {
    let cofferdam = Cofferdam::common();
    let cases: &[(&[&str], &str)] = &[
        (&["exec", "host", "--no-such-flag", "--", "true"], "--no-such-flag"),
        (&["exec"], "IMAGE"),
        (
            &["exec", "host", "ls", "-l"],
            "the command goes behind `--`: `cofferdam exec IMAGE -- ls`",
        ),
        (&["exec", "host", "--memory", "lots", "--", "true"], "lots"),
        (&["exec", "host", "--memory", "0", "--", "true"], "--memory"),
        (&["exec", "host", "--cpus", "nan", "--", "true"], "nan"),
        (&["exec", "host", "--timeout", "soon", "--", "true"], "soon"),
        (&["exec", "host", "--mount", "/etc", "--", "true"], "/etc"),
        (&["exec", "host", "--env", "=x", "--", "true"], "=x"),
    ];
    for (arguments, says) in cases {
        cofferdam.run(*arguments).expect(2).says(&[says]);
    }
}

/// Standard output and standard error stay apart; standard input is at its end.
#[test]
fn streams() {
    needs!(Need::Containers);
    let ended = Cofferdam::common().script(&[], "echo out; echo err >&2; read -r line || echo eof");
    // Before it, which limits the host goes without, where the operator's configuration allows that.
    let said = ended.stderr.lines().filter(|line| !line.contains("as the configuration allows"));
    assert_eq!((ended.stdout.as_str(), said.collect()), ("out\neof\n", vec!["err"]));
}

/// Output reaches a pipe as it was written: no line is completed, no byte is changed.
#[test]
fn output_is_passed_through() {
    needs!(Need::Containers);
    let ended =
        Cofferdam::common().script(&[], "printf 'a\\tb\\r\\n\\303\\244 no newline at the end'");
    assert_eq!(ended.bytes, "a\tb\r\nä no newline at the end".as_bytes());
}

/// Only what is given comes in; `--env NAME` takes the caller's value, later flags win.
#[test]
fn environment() {
    needs!(Need::Containers);
    let directory = tempfile::tempdir().expect("a directory");
    let variables = file(
        directory.path(),
        "variables",
        "# a comment\nFROM_FILE=file\nBOTH=file\n\nSPACES=a b \n",
    );
    let ended = Cofferdam::common()
        .variable("TAKEN", "taken")
        .variable("LEAK", "leaked")
        .script(
            &[
                "--env-file",
                variables.to_str().expect("a path"),
                "--env",
                "BOTH=flag",
                "--env",
                "GIVEN=a=b c",
                "--env",
                "TAKEN",
                "--env",
                "NOT_THERE",
            ],
            "env",
        )
        .expect(0);
    let lines: Vec<_> = ended.stdout.lines().collect();
    for wanted in ["FROM_FILE=file", "BOTH=flag", "SPACES=a b ", "GIVEN=a=b c", "TAKEN=taken"] {
        assert!(lines.contains(&wanted), "{wanted} is not in {lines:#?}");
    }
    for unwanted in ["LEAK", "NOT_THERE", "COFFERDAM_STATE"] {
        assert!(!ended.stdout.contains(unwanted), "{unwanted} is in {lines:#?}");
    }
}

/// The working directory is `/workspace` unless told otherwise, and made where it is missing.
#[test]
fn working_directory() {
    needs!(Need::Containers);
    check(&[], "pwd", 0, &["/workspace\n"]);
    check(&["--workdir", "/usr/bin"], "pwd", 0, &["/usr/bin\n"]);
    check(&["--workdir", "/tmp/made/for/this"], "pwd && touch here", 0, &["/tmp/made/for/this\n"]);
}

/// `--user` takes numbers and, where the image knows them, names.
#[test]
fn user() {
    needs!(Need::Containers, Need::Ids);
    let ids = "echo $(id -u):$(id -g)";
    check(&[], ids, 0, &["0:0\n"]);
    check(&["--user", "1000:2000"], ids, 0, &["1000:2000\n"]);
    for file in ["/tmp/mine", "/workspace/mine"] {
        let script = format!("touch {file} && stat -c %u {file}");
        check(&["--user", "1000"], &script, 0, &["1000\n"]);
        check(&["--user", "1000", "--workspace", "fixtures"], &script, 0, &["1000\n"]);
    }
    check(&["--user", "no-such-user"], "true", 125, &["no-such-user"]);
    check(&["--user", "4294967295"], "true", 125, &["4294967295"]);
}

/// A name comes from the image's own `/etc/passwd`.
#[test]
fn user_by_name() {
    needs!(Need::Containers, Need::Ids, Need::Busybox);
    let cofferdam = Cofferdam::with_busybox();
    let ended =
        cofferdam.script_in("busybox", &["--user", "ci"], "echo $(id -u):$(id -g)").expect(0);
    assert_eq!(ended.stdout, "1000:1000\n");
}

#[test]
fn host_name() {
    needs!(Need::Containers);
    check(
        &["--hostname", "build-7"],
        "cat /proc/sys/kernel/hostname /etc/hostname",
        0,
        &["build-7\nbuild-7\n"],
    );
    check(&["--hostname", "build-7"], "grep -c build-7 /etc/hosts", 0, &["1\n"]);
    let own = nix::unistd::gethostname().expect("host name");
    let ended = Cofferdam::common().script(&[], "cat /proc/sys/kernel/hostname").expect(0);
    assert_ne!(ended.stdout.trim(), own.to_string_lossy());
}

/// `--mount` shows a directory of the host: writable as the caller, or read-only.
#[test]
fn mounts() {
    needs!(Need::Containers);
    let directory = tempfile::tempdir().expect("a directory");
    file(directory.path(), "given", "from the host");
    let path = directory.path().display();
    let (writable, read_only) = (format!("{path}:/data"), format!("{path}:/data:ro"));
    check(&["--mount", &read_only], "cat /data/given", 0, &["from the host"]);
    check(&["--mount", &read_only], "echo more > /data/made", 2, &["Read-only file system"]);
    assert!(!directory.path().join("made").exists());
    check(&["--mount", &writable], "echo more > /data/made", 0, &[]);
    let made = directory.path().join("made").metadata().expect("the file made inside");
    assert_eq!(made.uid(), nix::unistd::geteuid().as_raw(), "the caller owns what was made");
}

/// Where a mount goes inside is the operator's to say, also to the path that the project, or the state,
/// has on the host.
#[test]
fn mount_to_a_path_of_the_host() {
    needs!(Need::Containers);
    let (project, shown) = (tempfile::tempdir().expect("a"), tempfile::tempdir().expect("b"));
    file(shown.path(), "note", "shown");
    let cofferdam = Cofferdam::new().in_directory(project.path());
    for target in [project.path().join("below"), cofferdam.state().join("below")] {
        let mount = format!("{}:{}:ro", shown.path().display(), target.display());
        let script = format!("cat {}/note", target.display());
        cofferdam
            .script(&["--workspace", ".", "--mount", &mount], &script)
            .expect(0)
            .says(&["shown"]);
    }
}

/// What cannot be mounted stops the command before it starts.
#[test]
fn mount_that_does_not_exist() {
    needs!(Need::Containers);
    check(&["--mount", "/no/such/path:/data"], "true", 125, &["/no/such/path"]);
    check(&["--mount", "/tmp:relative"], "true", 2, &["relative"]);
}

/// Standard input is passed on where that is asked for.
#[test]
fn interactive() {
    needs!(Need::Containers);
    let cofferdam = Cofferdam::common();
    let mut command = cofferdam.command(["exec", "host", "--interactive", "--", "cat"]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().expect("start cofferdam");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"from the caller\n").expect("write");
    drop(input);
    assert_eq!(wait(child).expect(0).stdout, "from the caller\n");
}

/// Without `--workspace` there is an empty one.
#[test]
fn no_workspace() {
    needs!(Need::Containers);
    check(&[], "ls -A /workspace | wc -l && touch /workspace/mine", 0, &["0\n"]);
}

/// The project is seen at `/workspace`, as a copy that is thrown away.
#[test]
fn workspace_is_a_throwaway_copy() {
    needs!(Need::Containers);
    let project = tempfile::tempdir().expect("a directory");
    file(project.path(), "kept", "as it was");
    file(project.path(), "gone", "");
    let ended = Cofferdam::common()
        .in_directory(project.path())
        .script(
            &["--workspace", "."],
            "ls && echo changed > kept && rm gone && touch new && cat kept",
        )
        .expect(0);
    assert_eq!(ended.stdout, "gone\nkept\nchanged\n");
    let mut names: Vec<_> = std::fs::read_dir(project.path())
        .expect("list the project")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["gone", "kept"]);
    assert_eq!(std::fs::read_to_string(project.path().join("kept")).expect("read"), "as it was");
}

/// The terminal is the container's own, not the caller's.
#[test]
fn terminal() {
    needs!(Need::Containers);
    check(&[], "test -t 0 || test -t 1 || test -t 2 || echo none", 0, &["none"]);
    check(&["--tty"], "test -t 0 && test -t 1 && test -t 2 && tty", 0, &["/dev/"]);
}

/// The command is ended at the time limit with all that it started.
#[test]
fn timeout() {
    needs!(Need::Containers);
    Cofferdam::common()
        .script(&["--timeout", "3s"], "echo before; setsid sleep 1000 & sleep 1000")
        .expect(124)
        .says(&["before", "timed out after 3.00 s"]);
}

/// A command that ignores SIGTERM is killed after the grace.
#[test]
fn timeout_of_a_stubborn_command() {
    needs!(Need::Containers);
    Cofferdam::common()
        .script(&["--timeout", "1s"], "trap '' TERM; while :; do sleep 1; done")
        .expect(124);
}

/// The runner reads with the host's rights: what is mounted in the container is not the job's.
#[test]
fn artifacts_do_not_come_from_other_mounts() {
    needs!(Need::Containers);
    let out = tempfile::tempdir().expect("a directory");
    let flags = ["--workdir", "/", "--artifact", "{sys/kernel,proc,tmp}/**", "--out"];
    let flags = [&flags[..], &[out.path().to_str().expect("a path")]].concat();
    Cofferdam::common().script(&flags, "echo 1 > /tmp/own").expect(0);
    assert_eq!(files_below(out.path()), ["tmp/own"]);
}

/// The containers' inits are copies of the spawner: what it does not know, they cannot tell.
#[test]
fn the_spawner_never_saw_the_command_line() {
    needs!(Need::Containers);
    let secret = format!("MARK=hunter-{}", std::process::id());
    let mut runner = Cofferdam::common()
        .command(["exec", "host", "--env", &secret, "--", "sh", "-c", "echo up; sleep 1000"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("start cofferdam");
    let mut up = [0; 3];
    let stdout = runner.stdout.as_mut().expect("standard output");
    std::io::Read::read_exact(stdout, &mut up).expect("a line");
    let pid = runner.id();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let spawner: u32 = children.expect("children").trim().parse().expect("one child");
    let found = |pid| memory_holds(pid, secret.as_bytes());
    let (in_runner, in_spawner) = (found(pid), found(spawner));
    kill(pid, nix::sys::signal::Signal::SIGTERM);
    runner.wait().expect("wait");
    assert_eq!((in_runner, in_spawner), (true, false));
}

/// Whether the writable memory of a process has `needle` in it.
fn memory_holds(pid: u32, needle: &[u8]) -> bool {
    use std::os::unix::fs::FileExt as _;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the maps");
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).expect("the memory");
    maps.lines().filter(|line| line.contains(" rw")).any(|line| {
        let (range, _) = line.split_once(' ').expect("a range");
        let (start, end) = range.split_once('-').expect("two addresses");
        let address = |text| u64::from_str_radix(text, 16).expect("an address");
        let (start, end) = (address(start), address(end));
        let mut bytes = vec![0; usize::try_from(end - start).expect("a length")];
        memory.read_exact_at(&mut bytes, start).is_ok()
            && bytes.windows(needle.len()).any(|window| window == needle)
    })
}

/// Globs are relative to the working directory; what they match is the caller's in the end.
#[test]
fn artifacts() {
    needs!(Need::Containers);
    let out = tempfile::tempdir().expect("a directory");
    let owned = if has_ids() { "chown 1000 result/one.txt" } else { "true" };
    Cofferdam::common()
        .script(
            &[
                "--workdir",
                "/tmp/work",
                "--artifact",
                "result/**/*.txt",
                "--out",
                out.path().to_str().expect("a path"),
            ],
            &format!(
                "mkdir -p result/deep && echo 1 > result/one.txt && echo 2 > result/deep/two.txt \
                 && echo 3 > result/three.bin && chmod 4755 result/one.txt && {owned} \
                 && ln -s /etc/passwd result/link.txt"
            ),
        )
        .expect(0);
    let found = files_below(out.path());
    assert!(found.iter().any(|path| path.ends_with("result/one.txt")), "{found:?}");
    assert!(found.iter().any(|path| path.ends_with("result/deep/two.txt")), "{found:?}");
    assert!(!found.iter().any(|path| path.ends_with("three.bin")), "{found:?}");
    let one = found.iter().find(|path| path.ends_with("one.txt")).expect("one.txt");
    let metadata = out.path().join(one).symlink_metadata().expect("metadata");
    assert_eq!(metadata.uid(), nix::unistd::geteuid().as_raw());
    assert_eq!(metadata.permissions().mode() & 0o7000, 0, "no setuid bit comes out");
    let passwd = std::fs::read("/etc/passwd").expect("read /etc/passwd");
    for path in &found {
        let copied = std::fs::read(out.path().join(path)).unwrap_or_default();
        assert_ne!(copied, passwd, "`{path}` is the host's file");
    }
}

/// The paths of the files below `directory`, relative to it; links are not followed.
fn files_below(directory: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(next).expect("list a directory") {
            let path = entry.expect("an entry").path();
            if path.symlink_metadata().expect("metadata").is_dir() {
                left.push(path);
            } else {
                let relative = path.strip_prefix(directory).expect("below the directory");
                found.push(relative.display().to_string());
            }
        }
    }
    found
}

/// Nothing is shared between two containers.
#[test]
fn two_commands_share_nothing() {
    needs!(Need::Containers);
    let cofferdam = Cofferdam::common();
    cofferdam.script(&[], "touch /tmp/mark /workspace/mark /root/mark /dev/shm/mark").expect(0);
    cofferdam
        .script(&[], "ls /tmp/mark /workspace/mark /root/mark /dev/shm/mark 2>/dev/null | wc -l")
        .expect(0)
        .says(&["0\n"]);
}

/// A container that something of the host ends is no verdict on the command: `exec` and `run` both
/// say that the host failed.
#[test]
fn container_ended_from_outside() {
    needs!(Need::Containers);
    let project = tempfile::tempdir().expect("a directory");
    file(project.path(), "cofferdam.yml", "jobs: { a: { steps: [{ run: echo up; sleep 1000 }] } }");
    let says = "was ended with its whole container, and no limit of the job was the cause";
    let exec = ["exec", "host", "--", "sh", "-c", "echo up; sleep 1000"];
    for (arguments, status) in [(exec.as_slice(), 125), (&["run"], 70)] {
        let cofferdam = Cofferdam::new().in_directory(project.path());
        let mut child = cofferdam.command(arguments).spawn().expect("start cofferdam");
        let mut output = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
        let mut printed = String::new();
        while !printed.contains("up\n") {
            assert!(output.read_line(&mut printed).expect("read") > 0, "{printed}");
        }
        kill(init_of_the_sleeper(child.id()), nix::sys::signal::Signal::SIGKILL);
        let rest = std::thread::spawn(move || {
            let mut rest = String::new();
            output.read_to_string(&mut rest).map(|_| rest)
        });
        let ended = wait(child).expect(status);
        let rest = rest.join().expect("a reader").expect("read");
        assert!(format!("{}{rest}", ended.stderr).contains(says), "{}{rest}", ended.stderr);
    }
}

/// The init below `runner` that has a program running. One that was begun ahead of need has a process
/// that waits to become one, and is still named as the init is.
pub(crate) fn init_of_the_sleeper(runner: u32) -> u32 {
    let below = crate::residue::children;
    let name = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let runs = |init: u32| below(init).into_iter().any(|process| name(process) != name(init));
    let mut inits = below(runner).into_iter().flat_map(below);
    inits.find(|init| runs(*init)).expect("an init with a program")
}
