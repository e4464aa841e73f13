//! A run with one job of each kind, for the tests of what is made from records.

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

fn usage(seconds: u64) -> UsageRecord {
    UsageRecord {
        wall_ms: seconds * 1000,
        cpu_ms: Some(seconds * 1500),
        memory_peak: Some(seconds << 24),
        pids_peak: Some(7),
        io_read: None,
        io_written: Some(4096),
        disk: Some(1 << 20),
    }
}

fn step(number: u64, name: &str, conclusion: Conclusion, why: Option<&str>) -> StepRecord {
    let run = conclusion != Conclusion::Skipped;
    let started = i64::try_from(number).unwrap();
    StepRecord {
        id: None,
        name: name.into(),
        conclusion,
        why: why.map(str::to_owned),
        rule: None,
        exit_code: run.then_some(if conclusion == Conclusion::Passed { 0 } else { 2 }),
        signal: None,
        started: run.then(|| at(started)),
        ended: run.then(|| at(started + 1)),
        usage: run.then(|| usage(1)),
        log: run.then(|| LogRecord {
            path: format!("logs/job/{number:02}-{name}.log").into(),
            bytes: 1234,
            dropped: 0,
        }),
        network: None,
        summary: None,
        layer: None,
        state: None,
    }
}

fn job(name: &str, conclusion: Conclusion, why: Option<&str>, steps: Vec<StepRecord>) -> JobRecord {
    let attempts = if steps.is_empty() {
        vec![]
    } else {
        vec![AttemptRecord {
            services: Vec::new(),
            caches: Vec::new(),
            state: None,
            conclusion,
            why: why.map(str::to_owned),
            retry: None,
            started: at(0),
            ended: at(4),
            network: None,
            usage: usage(4),
            steps,
        }]
    };
    JobRecord {
        id: name.split(' ').next().unwrap().into(),
        name: name.into(),
        matrix: BTreeMap::new(),
        image: Some(ImageRecord { reference: "host".into(), digest: None }),
        conclusion,
        why: why.map(str::to_owned),
        failure_allowed: false,
        rule: None,
        flaky: false,
        limits: LimitsRecord {
            cpus: 1.5,
            memory: 2 << 30,
            pids: 512,
            disk: 4 << 30,
            inodes: 200_000,
            shm: 64 << 20,
            io_read: None,
            io_write: Some(50 << 20),
            nofile: 4096,
            logs: 64 << 20,
            timeout_ms: 900_000,
        },
        attempts,
        artifacts: vec![],
        left_out: None,
        tests: None,
    }
}

/// A passed, a failed, a skipped and a cancelled job.
pub(in crate::report) fn run() -> RunRecord {
    let why = "step `make test` exited with code 2";
    let mut build = job(
        "build",
        Conclusion::Passed,
        None,
        vec![
            step(1, "configure", Conclusion::Passed, None),
            step(2, "make", Conclusion::Passed, None),
        ],
    );
    build.artifacts.push(ArtifactRecord {
        path: "artifacts/build/app".into(),
        bytes: 4096,
        digest: format!("sha256:{}", "0".repeat(64)),
    });
    build.left_out = Some("`pipe` is no file, `up` leads out".into());
    let mut test = job(
        "test (shard: 1)",
        Conclusion::Failed,
        Some(why),
        vec![
            step(1, "make test", Conclusion::Failed, Some(why)),
            step(2, "upload", Conclusion::Skipped, Some("step `upload` was skipped: it failed")),
        ],
    );
    test.matrix.insert("shard".into(), 1.into());
    test.tests = Some(Totals {
        passed: 61,
        failed: 1,
        errored: 1,
        skipped: 3,
        failures: vec![
            crate::report::junit::FailedTest {
                name: "parser bad".into(),
                message: "left == right".into(),
            },
            crate::report::junit::FailedTest { name: "parser odd".into(), message: String::new() },
        ],
        remarks: vec!["`out.xml` claims 70 tests and has 66: counted as it is".into()],
    });
    let skipped = Some("job `report` was skipped: job `test (shard: 1)` failed");
    RunRecord {
        schema: SCHEMA,
        cofferdam: "0.1.0".into(),
        id: "20260921-064320-1a2b".into(),
        pipeline: PipelineRecord {
            name: Some("ci".into()),
            file: "cofferdam.yml".into(),
            digest: format!("sha256:{}", "1".repeat(64)),
        },
        started: at(0),
        ended: Some(at(9)),
        conclusion: Some(Conclusion::Failed),
        jobs: vec![
            build,
            test,
            job("report", Conclusion::Skipped, skipped, vec![]),
            job(
                "publish",
                Conclusion::Cancelled,
                Some("job `publish` was cancelled by ^C"),
                vec![],
            ),
        ],
        scheduling_ms: Some(3),
        without_limits: vec![],
        learned: None,
        residue: vec![],
    }
}
