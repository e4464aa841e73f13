//! Each limit, proved by exceeding it: the command ends or is refused, and the reason names the limit.

use crate::{
    binary::Cofferdam,
    host::{Need, needs},
};

#[track_caller]
fn check(flags: &[&str], script: &str, status: i32, says: &[&str]) {
    let ended = Cofferdam::common().script(flags, script).expect(status).says(says);
    assert!(ended.took.as_secs() < 30, "took {:?}", ended.took);
}

/// The kernel ends the whole command; the reason names the limit.
#[test]
fn memory() {
    needs!(Need::Containers);
    check(
        &["--memory", "32MiB"],
        "exec awk 'BEGIN { text = \"x\"; while (1) text = text text }'",
        137,
        &["memory", "32 MiB"],
    );
}

/// The largest process is named with what it had: the kernel tells root, and everyone else sees it
/// if the kernel is not faster. What is not known is said to be.
#[test]
fn memory_names_the_largest_process() {
    needs!(Need::Containers);
    let hog = "sleep 60 & awk 'BEGIN { text = \"x\"; while (1) text = text text }'; :";
    let ended = Cofferdam::common().script(&["--memory", "48MiB"], hog).expect(137);
    if crate::host::is_root() {
        ended.says(&["the largest process was `awk`", " MiB"]);
    } else {
        let named = ended.text().contains("the largest process was `awk`");
        assert!(named || ended.text().contains("which process had most is not known"));
    }
}

/// Memory that runs out fails the job as a whole, whatever the parent of the killed process makes
/// of it. On v1 the kernel kills one process, and the rest goes on until the supervisor hears of
/// it, so what the shell says in between is not looked at.
#[test]
fn memory_ends_the_whole_job() {
    needs!(Need::Containers);
    let hog = "awk 'BEGIN { text = \"x\"; while (1) text = text text }'; echo survived; sleep 60";
    let ended = Cofferdam::common().script(&["--memory", "32MiB"], hog).expect(137);
    assert!(ended.took.as_secs() < 30, "the rest of the job went on: {:?}", ended.took);
    ended.says(&["memory", "32 MiB"]);
}

/// What is under the limit is let live.
#[test]
fn memory_below_the_limit() {
    needs!(Need::Containers);
    check(&["--memory", "64MiB"], "head -c 16m /dev/zero | tail | wc -c", 0, &["16777216\n"]);
}

/// Files in memory count as memory: `/dev/shm` is no way around.
#[test]
fn shared_memory() {
    needs!(Need::Containers);
    check(
        &["--memory", "512MiB"],
        "head -c 200m /dev/zero > /dev/shm/big; stat -c %s /dev/shm/big",
        0,
        &["No space left", "67108864\n"],
    );
    let ended = Cofferdam::common()
        .script(&["--memory", "512MiB", "--shm", "8MiB"], "head -c 9m /dev/zero > /dev/shm/big");
    assert_ne!(ended.status, 0);
    ended.says(&["used up its `/dev/shm` of 8 MiB"]);
}

#[test]
fn processes() {
    needs!(Need::Containers);
    let ended = Cofferdam::common()
        .script(&["--pids", "16"], "for each in $(seq 40); do sleep 20 & done 2>/dev/null; wait");
    assert_ne!(ended.status, 0, "{}", ended.text());
    assert!(ended.took.as_secs() < 15, "the sleeps were waited for: {:?}", ended.took);
    ended.says(&["process", "16"]);
}

/// Everything that can be written counts, wherever it lies.
#[test]
fn disk() {
    needs!(Need::Containers);
    for path in ["/workspace", "/tmp", "/root", "/var/tmp", "/run"] {
        let ended = Cofferdam::common().script(
            &["--disk", "8MiB"],
            &format!("mkdir -p {path} && head -c 64m /dev/zero > {path}/big"),
        );
        assert_ne!(ended.status, 0, "{path}: {}", ended.text());
        ended.says(&["disk", "8 MiB"]);
    }
}

/// The parts share one budget.
#[test]
fn disk_is_one_budget() {
    needs!(Need::Containers);
    check(
        &["--disk", "8MiB"],
        "head -c 5m /dev/zero > /tmp/a && head -c 5m /dev/zero > /workspace/b 2>/dev/null || echo full",
        0,
        &["full"],
    );
}

#[test]
fn inodes() {
    needs!(Need::Containers);
    let ended = Cofferdam::common()
        .script(&["--inodes", "200"], "for each in $(seq 1000); do : > /tmp/$each || exit 1; done");
    assert_ne!(ended.status, 0, "{}", ended.text());
    ended.says(&["No space left", "used up its quota of 200 files and directories"]);
}

#[test]
fn open_files() {
    needs!(Need::Containers);
    check(&["--nofile", "32"], "ulimit -n; ulimit -Hn", 0, &["32\n32\n"]);
    check(
        &["--nofile", "32"],
        "awk 'BEGIN { for (i = 0; i < 100; i++) print i > \"/tmp/\" i }' || echo refused",
        0,
        &["refused"],
    );
}

/// Half a processor is half: a busy loop's own time is at most a little over half of the wall's.
#[test]
fn processor() {
    needs!(Need::Containers);
    let ended = Cofferdam::common().script(
        &["--cpus", "0.25", "--timeout", "30s"],
        "timeout 2 sh -c 'while :; do :; done'; awk '{ print $16 + $17 }' /proc/self/stat; times",
    );
    let children = ended.stdout.lines().last().expect("the children's times").to_owned();
    let seconds: f64 = children
        .split_whitespace()
        .map(|word| {
            let (minutes, seconds) = word.trim_end_matches('s').split_once('m').expect("minutes");
            minutes.parse::<f64>().expect("a number") * 60.0
                + seconds.parse::<f64>().expect("a number")
        })
        .sum();
    assert!(seconds < 1.2, "{seconds} s of processor time in 2 s at a quarter\n{}", ended.text());
}

/// A command that ran out of time hears that it waited for its limit of processors.
#[test]
fn time_that_was_spent_waiting_for_processors_is_told() {
    needs!(Need::Containers);
    let flags = ["--cpus", "0.1", "--timeout", "2s"];
    let ended = Cofferdam::common().script(&flags, "while :; do :; done").expect(124);
    ended.says(&["timed out after", "for its limit of 0.1 processors"]);
}

/// A fork bomb is contained and taken away.
#[test]
fn fork_bomb() {
    needs!(Need::Containers);
    let ended = Cofferdam::common().script(
        &["--pids", "64", "--timeout", "2s"],
        "bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 20",
    );
    assert_ne!(ended.status, 0);
    assert!(ended.took.as_secs() < 20, "took {:?}", ended.took);
}

/// A tree that is hard to remove: deep, unreadable, with odd names.
#[test]
fn tree_that_is_hard_to_remove() {
    needs!(Need::Containers);
    let cofferdam = Cofferdam::common();
    cofferdam
        .script(
            &["--user", "1000"],
            r#"cd /tmp && i=0; while [ $i -lt 1200 ]; do mkdir d && cd d || exit 1; i=$((i + 1)); done
            cd /tmp && mkdir closed && touch closed/in && chmod 000 closed
            touch "$(printf 'new\nline')" -- -rf '*'; echo made"#,
        )
        .expect(0)
        .says(&["made"]);
    let left =
        crate::binary::program("find").arg(cofferdam.state()).args(["-name", "closed"]).output();
    assert_eq!(String::from_utf8_lossy(&left.expect("find").stdout), "");
}

/// Below what the container itself needs, the limit is named and nothing is blamed on the host.
#[test]
fn limits_that_leave_no_room_for_the_container_are_refused() {
    needs!(Need::Containers);
    for (flag, limit, least) in [
        ("memory", "1MiB", "at least 4MiB"),
        ("pids", "1", "at least 2"),
        ("nofile", "3", "at least 16"),
    ] {
        let flag_written = format!("--{flag}");
        let named = format!("the limit `{flag}`");
        Cofferdam::common().script(&[&flag_written, limit], ":").expect(125).says(&[
            &named,
            "the container itself needs more",
            least,
        ]);
    }
    for flags in [["--memory", "4MiB"], ["--pids", "2"], ["--nofile", "16"]] {
        Cofferdam::common().script(&flags, ":").expect(0);
    }
}
