//! From the state and the ledger of a run to its record.

pub(super) mod learned;
pub(super) mod ledger;

use std::{path::Path, sync::Arc, time::SystemTime};

use cofferdam_jobs::{
    expr::Judged,
    plan::PlannedJob,
    state::{Attempt, Conclusion as State, JobView, Run, StepRecord as Step, StepRef},
};
use cofferdam_sandbox::cgroup::Usage;
use jiff::Timestamp;

use super::job::{keeping::KeptState, service::ServiceReport};
use crate::{
    log::{needles::Needles, recorder::Kept},
    report::{
        forecast,
        junit::{
            TestFile, Totals,
            read::{self, Bounds},
            write::JobTests,
        },
        plan::needs,
        record::{
            ArtifactRecord, AttemptRecord, CacheRecord, Conclusion, ImageRecord, JobRecord,
            LimitsRecord, LogRecord, NetworkRecord, ServiceRecord, StateRecord, StepRecord,
            UsageRecord,
        },
    },
};
use ledger::{AttemptEntry, Ledger};

/// How the state's conclusions are recorded.
pub(super) fn conclusion(state: State) -> Conclusion {
    match state {
        State::Passed => Conclusion::Passed,
        State::Failed => Conclusion::Failed,
        State::TimedOut => Conclusion::TimedOut,
        State::Cancelled => Conclusion::Cancelled,
        State::Skipped => Conclusion::Skipped,
        State::System => Conclusion::SystemFault,
    }
}

/// Builds the records of jobs.
#[derive(Debug)]
pub(super) struct Records<'a> {
    pub(super) state: &'a Run,
    pub(super) ledger: &'a Ledger,
    pub(super) directory: &'a Path,
    pub(super) needles: &'a Arc<Needles>,
}

impl Records<'_> {
    /// All jobs in the order of the plan, with their test results.
    pub(super) fn jobs(&self) -> (Vec<JobRecord>, Vec<JobTests>) {
        self.state.jobs().map(|view| self.job(&view)).unzip()
    }

    fn job(&self, view: &JobView<'_>) -> (JobRecord, JobTests) {
        let ended = view.conclusion.unwrap_or(State::System);
        let entries = || {
            let range = (view.index, 0)..=(view.index, u32::MAX);
            self.ledger.attempts.range(range).map(|((_, attempt), entry)| (*attempt, entry))
        };
        let last = entries().next_back().map(|(_, entry)| entry);
        let files = last.map(|entry| self.tests(entry)).unwrap_or_default();
        let tests = view.planned.source.results.as_ref().map(|wanted| match Totals::of(&files) {
            // Of a job that failed, nothing else can be expected.
            totals if files.is_empty() && ended == State::Passed => {
                let patterns: Vec<&str> =
                    wanted.junit.iter().map(|glob| glob.value.as_str()).collect();
                totals.no_file(&patterns)
            }
            totals => totals,
        });
        let record = JobRecord {
            id: view.planned.source.id.value.clone(),
            name: self.mask(&view.planned.name),
            matrix: matrix(view.planned),
            image: self.ledger.images.get(&view.index).map(|(reference, digest)| ImageRecord {
                reference: reference.clone(),
                digest: Some(digest.clone()),
            }),
            conclusion: conclusion(ended),
            why: self.why(ended, view.reason.map(ToString::to_string)),
            failure_allowed: view.allowed,
            rule: (view.attempt > 0).then(|| self.mask(&self.rule(view))),
            flaky: view.is_flaky(),
            limits: limits(view.planned),
            attempts: entries()
                .map(|(number, entry)| {
                    let attempt = view.attempts.iter().find(|it| it.number == number);
                    self.attempt(attempt, entry)
                })
                .collect(),
            artifacts: last.map(|entry| self.artifacts(entry)).unwrap_or_default(),
            left_out: last.and_then(|entry| self.left_out(entry)),
            tests,
        };
        (record, JobTests { files })
    }

    fn artifacts(&self, entry: &AttemptEntry) -> Vec<ArtifactRecord> {
        entry
            .artifacts
            .iter()
            .map(|file| ArtifactRecord {
                path: self.mask(&file.path.display().to_string()).into(),
                bytes: file.bytes,
                digest: file.digest.clone(),
            })
            .collect()
    }

    fn left_out(&self, entry: &AttemptEntry) -> Option<String> {
        (entry.left_out.count() > 0).then(|| self.mask(&entry.left_out.to_string()))
    }

    fn tests(&self, entry: &AttemptEntry) -> Vec<TestFile> {
        entry
            .junit
            .iter()
            .filter_map(|path| {
                let file = std::fs::File::open(self.directory.join(path)).ok()?;
                let mask = |text: &str| self.mask(text);
                let name = self.mask(&path.display().to_string());
                Some(read::read(&name, file, Bounds::default(), &mask))
            })
            .collect()
    }

    fn attempt(&self, attempt: Option<&Attempt>, entry: &AttemptEntry) -> AttemptRecord {
        let ended = attempt.map_or(State::System, |attempt| attempt.conclusion);
        let wall = entry.ended.duration_since(entry.started).unwrap_or_default();
        let mut used = UsageRecord { wall_ms: milliseconds(wall), ..UsageRecord::default() };
        if let Some(end) = &entry.used.end {
            used = usage(wall, &end.usage);
            used.disk = Some(end.disk_bytes);
        }
        let network = entry.used.all_networks().map(NetworkRecord::from);
        AttemptRecord {
            conclusion: conclusion(ended),
            why: self.why(ended, attempt.map(|attempt| attempt.reason.to_string())),
            retry: attempt.and_then(|attempt| attempt.retry).map(|retry| retry.to_string()),
            started: timestamp(entry.started),
            ended: timestamp(entry.ended),
            usage: used,
            network: network.map(|network| network.masked(self.needles)),
            steps: entry
                .records
                .iter()
                .map(|(reference, step)| self.step(*reference, step, entry))
                .collect(),
            state: entry.state.as_ref().map(|kept| self.state(kept)),
            caches: entry
                .caches
                .iter()
                .map(|cache| CacheRecord {
                    key: self.mask(&cache.key),
                    restored: cache.restored.as_ref().map(|key| self.mask(key)),
                    saved: cache.saved,
                    why: cache.why.as_ref().map(|why| self.mask(why)),
                })
                .collect(),
            services: entry.services.iter().map(|service| self.service(service, wall)).collect(),
        }
    }

    fn service(&self, service: &ServiceReport, wall: std::time::Duration) -> ServiceRecord {
        let (reference, digest) = service.image.clone();
        ServiceRecord {
            name: self.mask(&service.name),
            image: ImageRecord { reference, digest: Some(digest) },
            exit_code: service.exit_code,
            signal: service.signal,
            usage: service
                .end
                .as_ref()
                .map(|end| UsageRecord { disk: Some(end.disk_bytes), ..usage(wall, &end.usage) }),
            log: service.log.as_ref().map(|kept| self.log(kept)),
        }
    }

    fn state(&self, kept: &KeptState) -> StateRecord {
        match &kept.image {
            Ok((image, bytes)) => {
                StateRecord { image: Some(image.clone()), bytes: Some(*bytes), why: None }
            }
            Err(why) => StateRecord { image: None, bytes: None, why: Some(self.mask(why)) },
        }
    }

    fn log(&self, kept: &Kept) -> LogRecord {
        LogRecord {
            path: kept.path.strip_prefix(self.directory).unwrap_or(&kept.path).to_owned(),
            bytes: kept.bytes,
            dropped: kept.dropped,
        }
    }

    fn step(&self, reference: StepRef, step: &Step, entry: &AttemptEntry) -> StepRecord {
        let report = entry.steps.get(&reference);
        let ended = step.conclusion.unwrap_or(State::Skipped);
        StepRecord {
            id: step.id.clone(),
            name: self.mask(&step.name),
            conclusion: conclusion(ended),
            why: self.why(ended, step.reason.as_ref().map(ToString::to_string)),
            rule: step.rule.as_ref().map(|rule| self.mask(&held(rule))),
            exit_code: report.and_then(|report| report.exit_code),
            signal: report.and_then(|report| report.signal),
            started: report.map(|report| timestamp(report.started)),
            ended: report.map(|report| timestamp(report.ended)),
            usage: report.map(|report| {
                let wall = report.ended.duration_since(report.started).unwrap_or_default();
                usage(wall, &report.usage.clone().unwrap_or_default())
            }),
            log: entry.logs.iter().find(|log| log.step == reference).map(|log| self.log(&log.kept)),
            network: entry
                .used
                .of_steps
                .get(&reference)
                .map(|used| NetworkRecord::from(used.clone()).masked(self.needles)),
            summary: report
                .and_then(|report| report.summary.as_deref())
                .map(|path| path.strip_prefix(self.directory).unwrap_or(path).to_owned()),
            layer: report.and_then(|report| report.layer.as_ref()).map(forecast::told),
            state: entry.step_states.get(&reference).map(|kept| self.state(kept)),
        }
    }

    /// Why a job was let go.
    fn rule(&self, view: &JobView<'_>) -> String {
        if let Some(rule) = view.rule {
            return held(rule);
        }
        match needs(self.state.plan(), view.planned).as_slice() {
            [] => "it needs no other job".to_owned(),
            needed => format!("all it needs passed: {}", needed.join(", ")),
        }
    }

    fn why(&self, ended: State, reason: Option<String>) -> Option<String> {
        reason.filter(|_| ended != State::Passed).map(|reason| self.mask(&reason))
    }

    fn mask(&self, text: &str) -> String {
        self.needles.mask_text(text)
    }
}

fn held(rule: &Judged) -> String {
    format!("its `if` holds: {rule}")
}

fn matrix(job: &PlannedJob) -> std::collections::BTreeMap<String, serde_json::Value> {
    match job.matrix.to_json() {
        serde_json::Value::Object(values) => values.into_iter().collect(),
        _ => std::collections::BTreeMap::new(),
    }
}

fn limits(job: &PlannedJob) -> LimitsRecord {
    let limits = super::job::limits(job);
    LimitsRecord {
        cpus: limits.cpus,
        memory: limits.memory,
        pids: limits.pids,
        disk: limits.disk,
        inodes: limits.inodes,
        shm: limits.shm,
        io_read: limits.io.read,
        io_write: limits.io.write,
        nofile: limits.nofile,
        logs: limits.logs,
        timeout_ms: milliseconds(limits.timeout),
    }
}

fn usage(wall: std::time::Duration, usage: &Usage) -> UsageRecord {
    let cpu = match (usage.cpu_user_us, usage.cpu_system_us) {
        (None, None) => None,
        (user, system) => Some((user.unwrap_or(0) + system.unwrap_or(0)) / 1000),
    };
    UsageRecord {
        wall_ms: milliseconds(wall),
        cpu_ms: cpu,
        memory_peak: usage.memory_peak,
        pids_peak: usage.pids_peak,
        io_read: usage.io_read,
        io_written: usage.io_written,
        disk: None,
    }
}

pub(super) fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}
