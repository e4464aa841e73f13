//! Jobs that end in every way there is, side by side and in any order, with nothing left behind: on
//! their own, at each limit, on request, and by SIGKILL of runner, spawner or init. As root, and as a
//! user without what takes root: files on disk, and a network where no program carries packets.
//!
//! `COFFERDAM_CHAOS_JOBS` says how many (60 unless told otherwise; the full proof is 1000) and
//! `COFFERDAM_CHAOS_SEED` which: the seed is printed, and the same seed draws the same jobs, ends and
//! moments. With `--nocapture` it ends with the numbers.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Child, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::{
    binary::{Cofferdam, alone, kill, wait},
    host::{Need, is_root, needs},
    residue::{Place, Snapshot, await_end, children},
};

/// Commands that are under way at once.
const AT_ONCE: usize = 4;

/// Something to run: its name, its flags and its script; without a script, a pipeline.
struct Job {
    name: &'static str,
    flags: &'static [&'static str],
    script: &'static str,
}

/// A pipeline of ten jobs, one of them with a network and two with services.
const PIPELINE: &str = "\
defaults: { timeout: 20s, limits: { memory: 64MiB, disk: 16MiB } }
jobs:
  passes: { parallel: 3, steps: [{ run: 'true' }, { run: 'setsid sleep 300 & true' }] }
  fails: { allow-failure: true, steps: [{ run: exit 3 }], cleanup: [{ run: 'true' }] }
  memory: { allow-failure: true, steps: [{ run: head -c 200m /dev/zero | tail }] }
  disk: { allow-failure: true, steps: [{ run: head -c 100m /dev/zero > /tmp/x }] }
  network: { network: full, steps: [{ run: cat /proc/net/route }] }
  needs: { needs: [passes, network], steps: [{ run: sleep 0.2 }] }
  served:
    services:
      db: { image: host, run: 'touch /tmp/up; sleep 300', ready: { run: test -e /tmp/up, interval: 10ms } }
      noise: { image: host, run: setsid sleep 300 & exec sleep 300 }
    steps: [{ run: 'true' }, { background: true, run: sleep 300 }, { run: sleep 0.1 }]
  broken:
    allow-failure: true
    services: { dies: { image: host, run: exit 3, ready: { run: exit 1, interval: 10ms, timeout: 1s } } }
    steps: [{ run: 'true' }]
";
const PIPELINE_JOBS: usize = 10;

/// What of the pipeline takes a network, and what stands for it where there is none.
const NETWORK: (&str, &str) = ("network: full", "network: none");

const JOBS: [Job; 12] = [
    Job { name: "passes", flags: &[], script: "true" },
    Job { name: "fails", flags: &[], script: "exit 3" },
    Job {
        name: "out of memory",
        flags: &["--memory", "16MiB"],
        script: "head -c 100m /dev/zero | tail",
    },
    Job {
        name: "disk full, in memory",
        flags: &["--disk", "4MiB", "--scratch", "memory"],
        script: "head -c 100m /dev/zero > /tmp/x",
    },
    Job {
        name: "disk full, on disk",
        flags: &["--disk", "40MiB", "--memory", "64MiB", "--scratch", "disk"],
        script: "head -c 100m /dev/zero > /tmp/x",
    },
    Job {
        name: "too many processes",
        flags: &["--pids", "16"],
        script: "i=0; while [ $i -lt 60 ]; do sleep 300 & i=$((i + 1)); done",
    },
    Job { name: "time is up", flags: &["--timeout", "1s"], script: "setsid sleep 300 & sleep 300" },
    Job {
        name: "leaves processes",
        flags: &[],
        script: "(setsid sh -c 'trap \"\" TERM HUP; sleep 300' &); (sleep 300 & sleep 300) & true",
    },
    Job { name: "kills all", flags: &[], script: "sleep 300 & kill -9 -1" },
    Job {
        name: "hostile files",
        flags: &[],
        script: "cd /tmp; i=0; while [ $i -lt 300 ]; do mkdir d && cd d; i=$((i + 1)); done; \
                 mkdir /workspace/closed && touch /workspace/closed/x && chmod 0 /workspace/closed",
    },
    Job { name: "network", flags: &["--network", "full"], script: "cat /proc/net/dev; sleep 0.1" },
    Job { name: "pipeline", flags: &[], script: "" },
];

/// What comes between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Own,
    KillRunner,
    KillSpawner,
    KillInit,
    /// Nobody is left to clean up: the next start has to.
    KillRunnerAndSpawner,
    Cancel,
    CancelTwice,
    Terminate,
}

const ENDS: [End; 8] = [
    End::Own,
    End::KillRunner,
    End::KillSpawner,
    End::KillInit,
    End::KillRunnerAndSpawner,
    End::Cancel,
    End::CancelTwice,
    End::Terminate,
];

/// One command that is to be run.
struct Draw {
    number: usize,
    job: &'static Job,
    end: End,
    /// After the start, or after the process that is to be killed is there.
    moment: Duration,
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}: a number")))
}

/// Whether this user's containers can have it.
fn is_possible(job: &Job) -> bool {
    match job.name {
        "disk full, on disk" => Need::Disk.is_met(),
        "network" => has_network(),
        _ => true,
    }
}

/// For a user, packets go where the host has a way out.
fn has_network() -> bool {
    let is_open = || fs::File::options().read(true).write(true).open("/dev/net/tun").is_ok();
    is_root() || Need::Carrier.is_met() && is_open() && has_default_route()
}

fn has_default_route() -> bool {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    routes.lines().any(|line| line.split_whitespace().nth(1) == Some("00000000"))
}

/// Draws commands with `jobs` jobs in all. Each job meets each end before anything comes twice.
fn draw(jobs: usize, seed: u64, whole: Duration) -> Vec<Draw> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut drawn = Vec::new();
    let mut count = 0;
    while count < jobs {
        let mut all: Vec<(&Job, End)> = JOBS
            .iter()
            .filter(|job| is_possible(job))
            .flat_map(|job| ENDS.map(|end| (job, end)))
            .collect();
        random.shuffle(&mut all);
        for (job, end) in all {
            if count >= jobs {
                break;
            }
            count += if job.script.is_empty() { PIPELINE_JOBS } else { 1 };
            let moment = whole.mul_f64(random.f64() * 1.5);
            drawn.push(Draw { number: drawn.len(), job, end, moment });
        }
    }
    drawn
}

/// Runs one; returns its exit status.
fn perform(cofferdam: &Cofferdam, results: &Path, draw: &Draw) -> i32 {
    let out = results.join(draw.number.to_string()).display().to_string();
    let pipeline = results.join("chaos.yml").display().to_string();
    let mark = format!("MARK={}", cofferdam.state().display());
    let mut arguments = vec!["exec", "host", "--env", &mark];
    if draw.job.script.is_empty() {
        arguments = vec!["run", &pipeline, "--out", &out];
    } else {
        arguments.extend(draw.job.flags);
        arguments.extend(["--", "sh", "-c", draw.job.script]);
    }
    let mut command = cofferdam.command(arguments);
    let child = command.stdout(Stdio::piped()).spawn().expect("start cofferdam");
    let runner = child.id();
    let killed = interfere(&child, draw);
    let ended = wait(child);
    // Until then it has its journal locked, and is cleaning up perhaps.
    await_end(&killed);
    let what =
        format!("{} ({:?} after {:?}), process {runner}", draw.job.name, draw.end, draw.moment);
    assert!(!ended.text().contains("left behind"), "{what}\n{}", ended.text());
    assert!(!ended.text().contains("panicked"), "{what}\n{}", ended.text());
    let fault = [70, 125, 126, 127].contains(&ended.status);
    assert!(draw.end != End::Own || !fault, "{what}: {}\n{}", ended.status, ended.text());
    ended.status
}

/// Brings the end about; returns the spawner, where the runner does not wait for it.
fn interfere(child: &Child, draw: &Draw) -> Vec<u32> {
    let runner = child.id();
    let there = |of: u32| {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let found = children(of);
            if !found.is_empty() || !is_running(runner) || Instant::now() > deadline {
                return found;
            }
            thread::sleep(Duration::from_millis(1));
        }
    };
    let spawner = || there(runner).first().copied();
    let signal = |pid: Option<u32>, signal| pid.into_iter().for_each(|pid| kill(pid, signal));
    match draw.end {
        End::Own => {}
        End::KillRunner => {
            thread::sleep(draw.moment);
            let spawners = children(runner);
            signal(Some(runner), Signal::SIGKILL);
            return spawners;
        }
        End::KillSpawner => {
            let spawner = spawner();
            thread::sleep(draw.moment);
            signal(spawner, Signal::SIGKILL);
        }
        End::KillInit => {
            thread::sleep(draw.moment / 4);
            let inits = spawner().map(there).unwrap_or_default();
            signal(inits.first().copied(), Signal::SIGKILL);
        }
        End::KillRunnerAndSpawner => {
            let spawner = spawner();
            thread::sleep(draw.moment);
            signal(Some(runner), Signal::SIGSTOP);
            signal(spawner, Signal::SIGKILL);
            signal(Some(runner), Signal::SIGKILL);
            return spawner.into_iter().collect();
        }
        End::Cancel | End::Terminate => {
            thread::sleep(draw.moment);
            let polite = if draw.end == End::Cancel { Signal::SIGINT } else { Signal::SIGTERM };
            signal(Some(runner), polite);
        }
        End::CancelTwice => {
            thread::sleep(draw.moment);
            signal(Some(runner), Signal::SIGINT);
            thread::sleep(Duration::from_millis(20));
            signal(Some(runner), Signal::SIGINT);
        }
    }
    Vec::new()
}

/// Whether a child that was not waited for yet still runs.
fn is_running(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

#[test]
fn nothing_is_left_whatever_happens() {
    needs!(Need::Containers, Need::Root, Need::Disk, Need::Program("ip"), Need::Program("nft"));
    let _quiet = alone();
    thread::spawn(|| {
        let place = Place::enter();
        chaos(|state| Snapshot::of_place(state, &place));
    })
    .join()
    .expect("no residue");
}

#[test]
fn nothing_of_a_user_is_left_whatever_happens() {
    needs!(Need::Containers, Need::User);
    let _quiet = alone();
    chaos(Snapshot::take);
}

/// Does all of it; `look` sees what is there of a state directory.
fn chaos(look: impl Fn(&Path) -> Snapshot) {
    let jobs = usize::try_from(number("COFFERDAM_CHAOS_JOBS").unwrap_or(60)).expect("a number");
    let seed = number("COFFERDAM_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    eprintln!("COFFERDAM_CHAOS_JOBS={jobs} COFFERDAM_CHAOS_SEED={seed}");
    let cofferdam = Cofferdam::unshared();
    // Makes what is kept on purpose: the image, and an empty file system.
    let flags: &[&str] = if Need::Disk.is_met() {
        &["--disk", "40MiB", "--memory", "64MiB", "--scratch", "disk"]
    } else {
        &[]
    };
    cofferdam.script(flags, "true").expect(0);
    let before = look(cofferdam.state());
    let started = Instant::now();
    let quiet = cofferdam.script(&[], "true").expect(0).stderr;
    let drawn = draw(jobs, seed, started.elapsed().max(Duration::from_millis(20)));
    let started = Instant::now();
    let statuses = perform_all(&cofferdam, &drawn);
    let took = started.elapsed();

    // The next start clears up what was killed together with its spawner, and finds no fault.
    assert_eq!(cofferdam.script(&[], "true").expect(0).stderr, quiet);
    before.expect_again_of(|| look(cofferdam.state()));
    let gc = cofferdam.run(["gc", "--dry-run", "--json"]);
    let gc: serde_json::Value = serde_json::from_str(&gc.stdout).expect("JSON");
    for list in [&gc["removed"], &gc["left"]] {
        // Groups are the whole host's, and those of others come and go.
        let all = list.as_array().expect("a list");
        let ours: Vec<_> = all.iter().filter(|it| it["kind"] != "control group").collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
    tell(&drawn, &statuses, took);
}

fn perform_all(cofferdam: &Cofferdam, drawn: &[Draw]) -> BTreeMap<(End, i32), usize> {
    let results = tempfile::tempdir().expect("a directory");
    let (full, none) = NETWORK;
    let pipeline = if has_network() { PIPELINE.to_owned() } else { PIPELINE.replace(full, none) };
    crate::binary::file(results.path(), "chaos.yml", pipeline);
    let next = AtomicUsize::new(0);
    let statuses = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(draw) = drawn.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let status = perform(cofferdam, results.path(), draw);
                    let mut statuses = statuses.lock().expect("no panic");
                    *statuses.entry((draw.end, status)).or_default() += 1;
                }
            });
        }
    });
    statuses.into_inner().expect("no panic")
}

fn tell(drawn: &[Draw], statuses: &BTreeMap<(End, i32), usize>, took: Duration) {
    let pipelines = drawn.iter().filter(|draw| draw.job.script.is_empty()).count();
    let (commands, jobs) = (drawn.len(), drawn.len() + pipelines * (PIPELINE_JOBS - 1));
    eprintln!("{jobs} jobs in {commands} commands, {AT_ONCE} at once, in {took:.1?}: residue zero");
    for end in ENDS {
        let of_end = statuses.iter().filter(|((one, _), _)| *one == end);
        let list: Vec<String> =
            of_end.map(|((_, status), times)| format!("{status}×{times}")).collect();
        eprintln!("{end:?}: status {}", list.join(" "));
    }
}
