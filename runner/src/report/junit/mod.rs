//! JUnit: reading what test runners of all kinds write, and writing one report of the run.

mod bounded;
pub(crate) mod read;
pub(crate) mod text;
pub(crate) mod write;

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The tests of one file, or of what a program says is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TestFile {
    /// Where it was found, for messages.
    pub(crate) path: String,
    /// The suites in their order, those without a test left out.
    pub(crate) suites: Vec<Suite>,
    /// How many tests the file says it has, where that differs from the test cases in it.
    pub(crate) claimed: Option<u64>,
    /// Why reading stopped before the end; what came before is kept.
    pub(crate) problem: Option<String>,
}

/// A suite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Suite {
    /// Its name, with the names of the suites around it in front.
    pub(crate) name: String,
    /// Its tests.
    pub(crate) cases: Vec<Case>,
}

/// A test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    /// Its name.
    pub(crate) name: String,
    /// The class or module that it belongs to; may be empty.
    pub(crate) class: String,
    /// How long it ran.
    pub(crate) time: Duration,
    /// How it ended.
    pub(crate) outcome: Outcome,
}

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It passed.
    Passed,
    /// It was not run.
    Skipped {
        /// Why, where that is said.
        message: String,
    },
    /// It failed.
    Failed(Failure),
    /// It could not be run to its end.
    Errored(Failure),
}

/// What is said of a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failure {
    /// One line.
    pub(crate) message: String,
    /// The class of the failure, such as the name of an exception.
    pub(crate) kind: String,
    /// Details, such as a stack trace.
    pub(crate) text: String,
}

/// The tests of a job in numbers, and the ones that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
    /// Tests that could not be run to their end.
    pub(crate) errored: u64,
    /// Tests that were not run.
    pub(crate) skipped: u64,
    /// The first [`FAILURES_MAX`] that failed or could not be run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) failures: Vec<FailedTest>,
    /// What was odd about the files: one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) remarks: Vec<String>,
}

/// A test that failed, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailedTest {
    /// Its class and name.
    pub(crate) name: String,
    /// What it said: one line.
    pub(crate) message: String,
}

/// The failed tests that a summary names.
pub(crate) const FAILURES_MAX: usize = 50;

impl Totals {
    /// Counts the test cases, whatever the files claim.
    pub(crate) fn of(files: &[TestFile]) -> Self {
        let mut totals = Self::default();
        for case in files.iter().flat_map(|file| &file.suites).flat_map(|suite| &suite.cases) {
            match &case.outcome {
                Outcome::Passed => totals.passed += 1,
                Outcome::Skipped { .. } => totals.skipped += 1,
                Outcome::Failed(failure) => {
                    totals.failed += 1;
                    totals.name(case, failure);
                }
                Outcome::Errored(failure) => {
                    totals.errored += 1;
                    totals.name(case, failure);
                }
            }
        }
        for file in files {
            if let Some(claimed) = file.claimed {
                let count: usize = file.suites.iter().map(|suite| suite.cases.len()).sum();
                totals.remarks.push(format!(
                    "`{}` claims {claimed} tests and has {count}: counted as it is",
                    file.path
                ));
            }
            if let Some(problem) = &file.problem {
                totals.remarks.push(format!("`{}` could not be read whole: {problem}", file.path));
            }
        }
        totals
    }

    /// Says that there was no file for any of these patterns.
    pub(crate) fn no_file(mut self, patterns: &[&str]) -> Self {
        self.remarks.push(format!("no file matches `{}`", patterns.join("`, `")));
        self
    }

    /// Tests that did not do what they should.
    pub(crate) fn failures_count(&self) -> u64 {
        self.failed + self.errored
    }

    /// All tests.
    pub(crate) fn all(&self) -> u64 {
        self.passed + self.failed + self.errored + self.skipped
    }

    fn name(&mut self, case: &Case, failure: &Failure) {
        if self.failures.len() >= FAILURES_MAX {
            return;
        }
        let name = match case.class.as_str() {
            "" => case.name.clone(),
            class => format!("{class} {}", case.name),
        };
        let lines = [&failure.message, &failure.text, &failure.kind];
        let mut lines = lines.iter().flat_map(|text| text.lines()).map(str::trim);
        let message = lines.find(|line| !line.is_empty()).unwrap_or_default().to_owned();
        self.failures.push(FailedTest { name, message });
    }
}
