//! Each limit, proved by exceeding it: the command ends or is refused, and the reason names the limit.

use crate::{
    binary::Cofferdam,
    host::{Need, needs},
};

#[track_caller]
fn check(flags: &[&str], script: &str, status: i32, says: &[&str]) {
    Cofferdam::common().script(flags, script).expect(status).says(says);
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
    let hog = "sleep 1000 & awk 'BEGIN { text = \"x\"; while (1) text = text text }'; :";
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
    let hog = "awk 'BEGIN { text = \"x\"; while (1) text = text text }'; echo survived; sleep 1000";
    let ended = Cofferdam::common().script(&["--memory", "32MiB"], hog).expect(137);
    ended.says(&["memory", "32 MiB"]);
}

/// A job is an early victim when the whole host is short of memory, and cannot make itself a later one.
#[test]
fn victims_when_the_host_is_short_of_memory() {
    needs!(Need::Containers, Need::Victims);
    let script = "exec 2>&1; cat /proc/self/oom_score_adj; echo 499 > /proc/self/oom_score_adj; \
                  echo 0 > /proc/self/oom_score_adj; cat /proc/self/oom_score_adj";
    for network in ["none", "full"] {
        let ended = Cofferdam::common().script(&["--network", network], script).expect(0);
        let values: Vec<&str> = ended.stdout.lines().filter(|line| *line == "500").collect();
        assert_eq!((values.len(), ended.stdout.lines().count()), (2, 4), "{}", ended.stdout);
    }
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
        .script(&["--pids", "16"], "for each in $(seq 40); do sleep 1000 & done 2>/dev/null; wait");
    assert_ne!(ended.status, 0, "{}", ended.text());
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

/// A twentieth of a processor is that: by the kernel's counters, whatever the machine does beside it,
/// work that fills a processor has far less of it than it ran for.
#[test]
fn processor() {
    needs!(Need::Containers);
    let json = tempfile::NamedTempFile::new().expect("a file");
    let path = json.path().to_str().expect("a path");
    let work = "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done";
    Cofferdam::common().script(&["--cpus", "0.05", "--json", path], work).expect(0);
    let outcome = std::fs::read(path).expect("an outcome");
    let outcome: serde_json::Value = serde_json::from_slice(&outcome).expect("JSON");
    let number = |name: &str| outcome["usage"][name].as_u64().expect("a number");
    let (used, ran) = (number("cpu_user_us") + number("cpu_system_us"), number("wall_ms") * 1000);
    assert!(used > 0 && used * 4 < ran, "{used} us of a processor in {ran} us");
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
        "bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 1000",
    );
    assert_ne!(ended.status, 0);
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
