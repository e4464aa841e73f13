//! `cofferdam run`: every pipeline of `fixtures/pipelines/` ends as the table `outcomes.yml` says.
//!
//! Builds of projects that are fetched run without a network all the same: what they need is fetched
//! before, with the tools and the configuration of this host, and mounted (`fixtures/fetch/`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    binary::{Cofferdam, Ended, fixture, program},
    fetched::fetched,
    host::{Need, lacks, needs},
    images::{busybox, debian},
};

/// One run of the table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    pipeline: String,
    #[serde(default)]
    arguments: Vec<String>,
    /// Variables of the caller.
    #[serde(default)]
    variables: BTreeMap<String, String>,
    exit: i32,
    /// The conclusion of every job, by its name with the matrix cell.
    jobs: BTreeMap<String, String>,
    /// What is printed.
    #[serde(default)]
    says: Vec<String>,
    /// What is printed nowhere and kept nowhere.
    #[serde(default)]
    never: Vec<String>,
    /// What is kept in some file of the run's directory, printed or not.
    #[serde(default)]
    keeps: Vec<String>,
    /// Files in the run's `artifacts/`, by the end of their path.
    #[serde(default)]
    artifacts: Vec<String>,
    /// Images to import first: `debian`, or busybox by any other name.
    #[serde(default)]
    images: Vec<String>,
    /// Programs of this host that the host image must have.
    #[serde(default)]
    programs: Vec<String>,
    /// Whether it needs root, as a way out of the host's network does.
    #[serde(default)]
    root: bool,
    /// What is fetched first and mounted, see [`fetched`].
    #[serde(default)]
    fetched: Vec<String>,
    /// Tests that the JUnit reports of the jobs hold.
    tests: Option<u64>,
}

impl Case {
    fn needs(&self) -> Vec<Need> {
        let fetches = !self.fetched.is_empty() || self.images.iter().any(|it| it == "debian");
        let programs = self.programs.iter().map(|it| Need::ProgramInside(it.clone()));
        let root = self.root.then_some(Need::Root);
        fetches.then_some(Need::Fetch).into_iter().chain(root).chain(programs).collect()
    }
}

#[test]
fn pipelines_end_as_the_table_says() {
    needs!(Need::Containers, Need::Busybox);
    let text = std::fs::read_to_string(fixture("pipelines/outcomes.yml")).expect("the table");
    let cases: Vec<Case> = serde_yaml::from_str(&text).expect("the table");
    let covered: Vec<_> = cases.iter().map(|case| case.pipeline.clone()).collect();
    for entry in std::fs::read_dir(fixture("pipelines")).expect("list fixtures/pipelines") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        let known = ["outcomes.yml", "cancel.yml"].contains(&&*name) || covered.contains(&name);
        assert!(known, "`{name}` has no outcome in the table");
    }
    let project = project();
    let next = std::sync::Mutex::new(cases.iter());
    let failed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let next = || next.lock().expect("the cases").next();
                while let Some(case) = next() {
                    failed.lock().expect("the failed").extend(differs(case, &project).err());
                }
            });
        }
    });
    let failed = failed.into_inner().expect("the failed");
    assert!(
        failed.is_empty(),
        "{} of {} differ:\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n")
    );
}

/// The pipelines and the projects apart from the repository, as somebody's project is.
fn project() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("fixtures")).expect("a directory");
    let copied = program("cp")
        .arg("-r")
        .args([fixture("pipelines"), fixture("projects"), fixture("included")])
        .arg(directory.path().join("fixtures"))
        .status();
    assert!(copied.expect("cp").success());
    directory
}

/// Runs one case; what differs from the table.
fn differs(case: &Case, project: &tempfile::TempDir) -> Result<(), String> {
    if lacks(&format!("run::{}", case.pipeline), &case.needs()) {
        return Ok(());
    }
    let out = tempfile::tempdir().expect("a directory");
    let cofferdam = case
        .variables
        .iter()
        .fold(Cofferdam::common().in_directory(project.path()), |cofferdam, (name, value)| {
            cofferdam.variable(name, value)
        });
    for image in &case.images {
        let layout = if image == "debian" { debian() } else { busybox()?.layout.clone() };
        let layout = layout.to_string_lossy().into_owned();
        cofferdam.run(["image", "import", &layout, image]).expect(0);
    }
    let file = format!("fixtures/pipelines/{}", case.pipeline);
    let out_path = out.path().to_string_lossy().into_owned();
    let arguments = ["run", &file, "--out", &out_path];
    let mounts = case.fetched.iter().map(|name| fetched(name)).collect::<Result<Vec<_>, _>>()?;
    let mounts = mounts.iter().flat_map(|mount| ["--mount", mount]);
    let ended = cofferdam
        .run(arguments.into_iter().chain(mounts).chain(case.arguments.iter().map(String::as_str)));
    let mut wrong = Vec::new();
    if ended.status != case.exit {
        wrong.push(format!("exit status {} instead of {}", ended.status, case.exit));
    }
    let jobs = conclusions(out.path());
    if jobs != case.jobs {
        wrong.push(format!("jobs {jobs:?} instead of {:?}", case.jobs));
    }
    wrong.extend(
        case.says
            .iter()
            .filter(|word| !ended.text().contains(*word))
            .map(|word| format!("`{word}` was not printed")),
    );
    let kept = files(out.path());
    for word in &case.never {
        if ended.text().contains(word) {
            wrong.push(format!("`{word}` was printed"));
        }
        wrong.extend(
            kept.iter()
                .filter(|(_, bytes)| memchr::memmem::find(bytes, word.as_bytes()).is_some())
                .map(|(path, _)| format!("`{word}` is kept in `{path}`")),
        );
    }
    wrong.extend(
        case.keeps
            .iter()
            .filter(|word| {
                !kept.values().any(|bytes| memchr::memmem::find(bytes, word.as_bytes()).is_some())
            })
            .map(|word| format!("`{word}` is kept nowhere")),
    );
    let artifacts: Vec<_> =
        kept.keys().filter(|path| path.starts_with("artifacts/")).cloned().collect();
    for wanted in &case.artifacts {
        if !artifacts.iter().any(|path| path.ends_with(&**wanted)) {
            wrong.push(format!("no artifact `{wanted}` among {artifacts:?}"));
        }
    }
    if artifacts.len() != case.artifacts.len() {
        wrong.push(format!("artifacts {artifacts:?} instead of {:?}", case.artifacts));
    }
    if let Some(tests) = case.tests {
        let words = format!("; {tests} tests: {tests} passed, 0 failed, 0 skipped");
        if !ended.text().contains(&words) {
            wrong.push(format!("`{words}` was not printed"));
        }
    }
    if !case.jobs.is_empty() {
        wrong.extend(junit_fault(kept.get("junit.xml")));
    }
    report(case, &wrong, &ended)
}

fn report(case: &Case, wrong: &[String], ended: &Ended) -> Result<(), String> {
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!(
        "== {} {:?}: {}\n{}",
        case.pipeline,
        case.arguments,
        wrong.join("; "),
        ended.text()
    ))
}

/// The jobs of `run.json` and how each ended.
fn conclusions(out: &std::path::Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(out.join("run.json")).unwrap_or_default();
    let record: Value = serde_json::from_str(&text).unwrap_or_default();
    let jobs = record["jobs"].as_array().cloned().unwrap_or_default();
    jobs.iter()
        .map(|job| {
            let text = |key: &str| job[key].as_str().unwrap_or("?").to_owned();
            (text("name"), text("conclusion"))
        })
        .collect()
}

/// Every file below the run's directory, by its path there.
fn files(out: &std::path::Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![out.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).expect("list the run's directory") {
            let path = entry.expect("an entry").path();
            let metadata = path.symlink_metadata().expect("metadata");
            if metadata.is_dir() {
                left.push(path);
            } else {
                let relative = path.strip_prefix(out).expect("below").display().to_string();
                found.insert(relative, std::fs::read(&path).unwrap_or_default());
            }
        }
    }
    found
}

/// What a real XML parser has against the report.
fn junit_fault(report: Option<&Vec<u8>>) -> Option<String> {
    let Some(bytes) = report else { return Some("no junit.xml".to_owned()) };
    let mut reader = quick_xml::Reader::from_reader(bytes.as_slice());
    let mut buffer = Vec::new();
    loop {
        match reader.read_event_into(&mut buffer) {
            Ok(quick_xml::events::Event::Eof) => return None,
            Ok(_) => buffer.clear(),
            Err(error) => return Some(format!("junit.xml: {error}")),
        }
    }
}
