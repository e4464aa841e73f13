//! Writes `junit.xml`: a suite per job with a case per step, then the project's own tests.
//!
//! JUnit knows nothing of jobs in jobs and its readers do not agree on nested suites, so all
//! suites stand side by side: `build` for the steps of a job, `build / suite` for what its tests
//! reported.

use std::{io, path::Path, time::Duration};

use junit_report::{Duration as ReportDuration, OffsetDateTime, Report, TestCase, TestSuite};

use super::{
    Case, Outcome, TestFile,
    text::{attribute, content},
};
use crate::report::record::{
    AttemptRecord, Conclusion, JobRecord, RecordError, RunRecord, StepRecord, write_whole,
};

/// The name of the report in the run's directory.
pub(crate) const FILE_NAME: &str = "junit.xml";

/// What belongs to one job besides its record.
#[derive(Clone, Debug, Default)]
pub(crate) struct JobTests {
    /// The project's own results.
    pub(crate) files: Vec<TestFile>,
}

/// Writes the report of `run` into `directory`. `tests` has the results of each job, in the order
/// of the record; `tail` gives the end of a step's log.
pub(crate) fn write(
    directory: &Path,
    run: &RunRecord,
    tests: &[JobTests],
    tail: &dyn Fn(&StepRecord) -> String,
) -> Result<(), RecordError> {
    let path = directory.join(FILE_NAME);
    let text = to_xml(run, tests, tail).map_err(|error| RecordError::File {
        doing: "write",
        path: path.clone(),
        source: io::Error::other(error),
    })?;
    write_whole(&path, &text)
}

fn to_xml(
    run: &RunRecord,
    tests: &[JobTests],
    tail: &dyn Fn(&StepRecord) -> String,
) -> Result<Vec<u8>, junit_report::Error> {
    let mut report = Report::new();
    for (index, job) in run.jobs.iter().enumerate() {
        let started = job.attempts.first().map_or(run.started, |attempt| attempt.started);
        report.add_testsuite(suite(&job.name, &job.name, started, steps(job, tail)));
        for file in tests.get(index).iter().flat_map(|tests| &tests.files) {
            for tested in &file.suites {
                let name = match tested.name.as_str() {
                    "" => format!("{} / {}", job.name, file.path),
                    name => format!("{} / {name}", job.name),
                };
                let cases = tested.cases.iter().map(case).collect();
                report.add_testsuite(suite(&name, &job.name, started, cases));
            }
        }
    }
    let mut text = Vec::new();
    report.write_xml(&mut text)?;
    text.push(b'\n');
    Ok(text)
}

fn suite(
    name: &str,
    package: &str,
    started: jiff::Timestamp,
    testcases: Vec<TestCase>,
) -> TestSuite {
    TestSuite {
        name: attribute(name),
        package: attribute(package),
        // The writer cannot print years beyond 9999, and neither library makes one.
        timestamp: OffsetDateTime::from_unix_timestamp(started.as_second())
            .unwrap_or(OffsetDateTime::UNIX_EPOCH),
        hostname: "localhost".to_owned(),
        testcases,
        system_out: None,
        system_err: None,
    }
}

/// The steps of the last attempt; a case that stands for the job where no step can.
fn steps(job: &JobRecord, tail: &dyn Fn(&StepRecord) -> String) -> Vec<TestCase> {
    let attempt = job.attempts.last();
    let steps = attempt.map(|attempt| attempt.steps.as_slice()).unwrap_or_default();
    let mut cases: Vec<TestCase> = steps.iter().map(|step| step_case(job, step, tail)).collect();
    let told = steps.iter().any(|step| step.conclusion == job.conclusion);
    if steps.is_empty() || (job.conclusion != Conclusion::Passed && !told) {
        let wall = attempt.map(|attempt: &AttemptRecord| attempt.usage.wall_ms);
        let time = Duration::from_millis(wall.unwrap_or_default());
        let why = job.why.as_deref().unwrap_or_default();
        cases.push(conclude("(job)", time, job, job.conclusion, why, String::new()));
    }
    cases
}

fn step_case(job: &JobRecord, step: &StepRecord, tail: &dyn Fn(&StepRecord) -> String) -> TestCase {
    let wall = step.usage.as_ref().map_or(0, |usage| usage.wall_ms);
    let tail = if step.conclusion.is_failure() { tail(step) } else { String::new() };
    let why = step.why.as_deref().unwrap_or_default();
    conclude(&step.name, Duration::from_millis(wall), job, step.conclusion, why, tail)
}

fn conclude(
    name: &str,
    time: Duration,
    job: &JobRecord,
    conclusion: Conclusion,
    why: &str,
    tail: String,
) -> TestCase {
    let (name, time, why) = (attribute(name), duration(time), attribute(why));
    let mut case = match conclusion {
        Conclusion::Passed => TestCase::success(&name, time),
        Conclusion::Skipped | Conclusion::Cancelled => {
            TestCase::skipped_with_cause(&name, conclusion.word(), &why)
        }
        // What the pipeline allows must not make a report red.
        Conclusion::Failed | Conclusion::TimedOut if job.failure_allowed => {
            TestCase::skipped_with_cause(&name, "allowed failure", &why)
        }
        Conclusion::Failed | Conclusion::TimedOut => {
            TestCase::failure(&name, time, conclusion.word(), &why)
        }
        Conclusion::SystemFault => TestCase::error(&name, time, conclusion.word(), &why),
    };
    case.set_classname(&attribute(&job.name));
    trace(&mut case, &tail);
    case
}

fn case(case: &Case) -> TestCase {
    let (name, time) = (attribute(&case.name), duration(case.time));
    let mut written = match &case.outcome {
        Outcome::Passed => TestCase::success(&name, time),
        Outcome::Skipped { message } => {
            TestCase::skipped_with_cause(&name, "skipped", &attribute(message))
        }
        Outcome::Failed(failure) => {
            TestCase::failure(&name, time, &attribute(&failure.kind), &attribute(&failure.message))
        }
        Outcome::Errored(failure) => {
            TestCase::error(&name, time, &attribute(&failure.kind), &attribute(&failure.message))
        }
    };
    if let Outcome::Failed(failure) | Outcome::Errored(failure) = &case.outcome {
        trace(&mut written, &failure.text);
    }
    if !case.class.is_empty() {
        written.set_classname(&attribute(&case.class));
    }
    written
}

fn trace(case: &mut TestCase, text: &str) {
    use junit_report::TestResult::{Error, Failure};
    if let Error { cause, .. } | Failure { cause, .. } = &mut case.result
        && !text.is_empty()
    {
        *cause = Some(content(text));
    }
}

fn duration(duration: Duration) -> ReportDuration {
    ReportDuration::try_from(duration).unwrap_or(ReportDuration::MAX)
}

#[cfg(test)]
mod tests;
