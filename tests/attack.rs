//! Attacks that once worked, each kept from working again.
//!
//! The job is the attacker: root of its container, with everything in it under its control, and
//! another container or the host beside it.

use std::fs;

use crate::{
    binary::{Cofferdam, file, program},
    host::{Need, needs},
    images::busybox,
};

/// A link among artifacts that climbs out by way of another link is not taken, and so a later
/// export into the same directory does not write through it.
#[test]
fn artifacts_lead_nowhere_else() {
    needs!(Need::Containers);
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("out");
    let outside = directory.path().join("outside");
    fs::create_dir(&outside).expect("make a directory");
    let flags = ["--artifact", "**", "--out", out.to_str().expect("a path")];
    let cofferdam = Cofferdam::common();
    let links = "mkdir -p a/b/c && ln -s ../../.. a/b/c/up && ln -s a/b/c/up/../outside escape";
    cofferdam.script(&flags, links).expect(0);
    let escape = out.join("escape").symlink_metadata();
    assert!(escape.is_err(), "the link came out: {escape:?}");
    // Whoever made it, a link that lies there is replaced and not followed.
    std::os::unix::fs::symlink(&outside, out.join("escape")).expect("make a link");
    cofferdam.script(&flags, "mkdir escape && echo mine > escape/file").expect(0);
    assert_eq!(fs::read_dir(&outside).expect("list").count(), 0, "written outside");
    assert_eq!(fs::read_to_string(out.join("escape/file")).expect("read"), "mine\n");
}

/// Links to directories, to nothing and to themselves are artifacts like others.
#[test]
fn odd_links_are_artifacts_like_others() {
    needs!(Need::Containers);
    let directory = tempfile::tempdir().expect("a directory");
    file(
        directory.path(),
        "links.yml",
        "jobs:\n  links:\n    steps:\n      - run: mkdir d; echo 1 > d/f; ln -s d l; ln -s none \
         dangling; ln -s loop loop\n    artifacts: { paths: [l, d, dangling, loop] }\n    results: \
         { junit: [l] }\n",
    );
    let cofferdam = Cofferdam::common().in_directory(directory.path());
    cofferdam.run(["run", "links.yml", "--out", "out"]).expect(0);
    let artifacts = directory.path().join("out/artifacts/links");
    for (link, leads_to) in [("l", "d"), ("dangling", "none"), ("loop", "loop")] {
        assert_eq!(fs::read_link(artifacts.join(link)).expect("a link").to_str(), Some(leads_to));
    }
    assert_eq!(fs::read_to_string(artifacts.join("d/f")).expect("a file"), "1\n");
}

/// What was selected and cannot come out is told, with names that give no orders to a terminal.
#[test]
fn artifacts_that_stay_behind_are_told() {
    needs!(Need::Containers);
    let directory = tempfile::tempdir().expect("a directory");
    let script =
        r#"mkdir d; cd d; mkfifo pipe; ln -s /etc/passwd link; touch file "$(printf '\377')" "#;
    let escape = r#"ln -s / "$(printf '\033[31mred')""#;
    let pipeline = serde_json::json!({ "jobs": { "odd": {
        "steps": [{ "run": format!("{script}\n{escape}") }],
        "artifacts": { "paths": ["d"] },
    }}});
    file(directory.path(), "cofferdam.yml", pipeline.to_string());
    let cofferdam = Cofferdam::common().in_directory(directory.path());
    let told = r"`d/\u{1b}[31mred` leads out, `d/link` leads out, `d/pipe` is no file, `d/\xff` has a name that is not UTF-8";
    let ended = cofferdam.run(["run", "--out", "out"]).expect(0);
    ended.says(&["! odd: some of its files did not come out", "not taken: `d/"]);
    let record = fs::read(directory.path().join("out/run.json")).expect("a record");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
    assert_eq!(record["jobs"][0]["left_out"], told);
    let out = directory.path().join("exec").display().to_string();
    let flags = ["--artifact", "d", "--out", &out];
    cofferdam.script(&flags, &format!("{script}\n{escape}")).expect(0).says(&[told]);
    let taken: Vec<_> = fs::read_dir(directory.path().join("exec/d")).expect("list").collect();
    assert_eq!(taken.len(), 1, "{taken:?}");
}

/// A lease on a file that the host shares would keep everyone else from opening it for 45 s.
#[test]
fn the_hosts_files_cannot_be_leased() {
    needs!(Need::Containers, Need::Program("python3"));
    let probe = "import fcntl\n\
                 for command in (fcntl.F_SETLEASE, fcntl.F_NOTIFY):\n    \
                     try: print(fcntl.fcntl(open('/usr/bin/env'), command, 1))\n    \
                     except OSError as error: print(error.errno)\n";
    let ended = Cofferdam::common().run(["exec", "host", "--", "python3", "-c", probe]).expect(0);
    assert_eq!(ended.stdout, "22\n22\n");
}

/// What waits in sockets counts: as memory, or against a bound of its own where that is all that
/// the host has (a quarter of the memory, on v1).
#[test]
fn sockets_hold_no_memory_beyond_the_limit() {
    needs!(Need::Containers, Need::Program("python3"));
    let directory = tempfile::tempdir().expect("a directory");
    file(
        directory.path(),
        "flood.py",
        "import socket\n\
         receivers = []\n\
         for _ in range(400):\n    \
             receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n    \
             receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)\n    \
             receiver.bind(('127.0.0.1', 0))\n    \
             receiver.setblocking(False)\n    \
             for _ in range(10):\n        \
                 receiver.sendto(bytes(60000), receiver.getsockname())\n    \
             receivers.append(receiver)\n\
         held = 0\n\
         for receiver in receivers:\n    \
             try:\n        \
                 while True: held += len(receiver.recv(60000))\n    \
             except BlockingIOError: pass\n\
         print(held >> 20)\n",
    );
    file(
        directory.path(),
        "flood.yml",
        "jobs:\n  flood:\n    limits: { memory: 64MiB }\n    steps:\n      - run: python3 flood.py\n",
    );
    let cofferdam = Cofferdam::common().in_directory(directory.path());
    let flags = ["exec", "host", "--memory", "64MiB", "--workspace", "."];
    let exec = cofferdam.run(flags.iter().chain(&["--", "python3", "flood.py"]));
    let run = cofferdam.run(["run", "flood.yml", "--out", "out"]);
    for ended in [exec, run] {
        if ended.text().contains("killed for memory") {
            continue;
        }
        let last = ended.text().lines().find_map(|line| {
            line.strip_prefix("flood | ").unwrap_or(line).trim().parse::<u64>().ok()
        });
        let held = last.unwrap_or_else(|| panic!("no number in\n{}", ended.text()));
        assert!((4..=16).contains(&held), "{held} MiB\n{}", ended.text());
    }
}

/// What a step leaves running stops every new process of the container, also those that are still
/// becoming the next step's program: time limits hold all the same.
#[test]
fn stopped_processes_do_not_stop_the_run() {
    needs!(Need::Containers);
    let directory = tempfile::tempdir().expect("a directory");
    file(
        directory.path(),
        "stop.yml",
        "jobs:\n  stop:\n    steps:\n      \
         - run: (while kill -0 $$; do sleep 0.02; done; while :; do kill -s STOP -- -1; done) > /dev/null 2>&1 &\n      \
         - { run: sleep 1000, timeout: 1s }\n      \
         - { run: sleep 1000, timeout: 1s, if: always() }\n",
    );
    let cofferdam = Cofferdam::common().in_directory(directory.path());
    let ended = cofferdam.run(["run", "stop.yml", "--out", "out"]).expect(124);
    let told = ended.stdout.matches(": timed out, its limit is 1s\nstop: ").count();
    assert_eq!(told, 2, "{}", ended.text());
}

/// Output that cannot be written is an error or nothing, and never a panic.
#[test]
fn unwritable_output_is_no_panic() {
    let commands: [&[&str]; 5] =
        [&["image", "ls"], &["image", "rm", "none"], &["check", "none.yml"], &["doctor"], &["run"]];
    let directory = tempfile::tempdir().expect("a directory");
    for arguments in commands {
        let full = || fs::File::options().write(true).open("/dev/full").expect("/dev/full");
        let cofferdam = Cofferdam::common().in_directory(directory.path());
        let mut command = cofferdam.command(arguments);
        let status = command.stdout(full()).stderr(full()).status().expect("start cofferdam");
        assert!(matches!(status.code(), Some(0 | 66 | 70)), "{arguments:?}: {status:?}");
    }
}

/// A step that renames `/run` gets the secrets of later ones into no layer: what they are given is in
/// memory, and goes with them.
#[test]
fn secrets_do_not_follow_a_name() {
    needs!(Need::Containers, Need::Busybox);
    let directory = tempfile::tempdir().expect("a directory");
    let pipeline = "secrets: [TOKEN]\njobs:\n  renames:\n    image: busybox\n    workspace: none\n    \
                    steps:\n      \
                    - exec: [sh, -c, mv /run /gone && mkdir -p /run/secrets /run/cofferdam]\n      \
                    - { secrets: [{ name: TOKEN, as: file }], exec: [wc, -c, /gone/secrets/TOKEN] }\n      \
                    - exec: [find, /run, /gone]\n";
    file(directory.path(), "renames.yml", pipeline);
    let cofferdam =
        Cofferdam::with_busybox().in_directory(directory.path()).variable("TOKEN", "a-secret");
    let ended = cofferdam.run(["run", "renames.yml", "--secret", "TOKEN", "--out", "out"]);
    let text = ended.expect(0).stdout;
    assert!(text.contains("8 /gone/secrets/TOKEN") && text.contains("| /run/secrets\n"), "{text}");
    assert_eq!(text.matches("TOKEN").count() - text.matches("wc -c").count(), 1, "{text}");
}

/// A1.3, A1.4: an image in which the places of the container's own mounts are links, to a directory of
/// the host's or round about, changes nothing outside, and gets its mounts or is refused.
#[test]
fn images_whose_places_are_links() {
    needs!(Need::Containers, Need::Busybox, Need::Program("tar"));
    let directory = tempfile::tempdir().expect("a directory");
    let (root, outside) = (directory.path().join("root"), directory.path().join("outside"));
    let archive = directory.path().join("image.tar");
    let cofferdam = Cofferdam::new();
    for place in ["dev", "proc", "sys", "etc", "etc/hosts", "dev/null", "workspace", "proc/self"] {
        for leads_to in [outside.to_str().expect("a path"), "../../../.."] {
            let busybox = busybox().expect("a busybox image");
            let made = [&root, &outside].map(fs::create_dir).into_iter().collect::<Result<(), _>>();
            made.expect("directories");
            let tar = |flags: &[&str], archive: &std::path::Path| {
                let mut command = program("tar");
                command.arg("-C").arg(&root).arg("-f").arg(archive).args(flags);
                assert!(command.status().expect("run tar").success());
            };
            tar(&["-x"], &busybox.rootfs);
            let link = root.join(place);
            fs::remove_dir_all(&link).or_else(|_| fs::remove_file(&link)).ok();
            fs::create_dir_all(link.parent().expect("a parent")).expect("a directory");
            std::os::unix::fs::symlink(leads_to, &link).expect("a link");
            tar(&["-c", "."], &archive);
            cofferdam
                .run(["image", "import", archive.to_str().expect("a path"), "links"])
                .expect(0);
            // As it should be, whatever was in the way.
            let probe = "test -c /dev/null && test -d /proc/1 && ls -l /proc/self/exe > /dev/null \
                         && echo stands";
            let ended = cofferdam.script_in("links", &["--workspace", "."], probe);
            assert_eq!(ended.stdout, "stands\n", "`{place}` to `{leads_to}`: {}", ended.text());
            let written = fs::read_dir(&outside).expect("list").count();
            assert_eq!(written, 0, "`{place}` to `{leads_to}` wrote outside");
            cofferdam.run(["image", "rm", "links"]).expect(0);
            fs::remove_dir_all(&root).expect("remove");
            fs::remove_dir(&outside).expect("remove");
        }
    }
}
