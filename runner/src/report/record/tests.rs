//! The record on disk: whole, readable by its own version, and its form.

use super::*;

#[test]
fn a_record_is_written_whole_and_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = samples::run();
    run.write(directory.path()).unwrap();
    run.residue.push("cgroup /cofferdam/x".into());
    run.write(directory.path()).unwrap();
    assert_eq!(RunRecord::read(directory.path()).unwrap(), run);
    let names: Vec<_> =
        directory.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [FILE_NAME]);
}

#[test]
fn the_form_of_the_record() {
    let mut run = samples::run();
    run.jobs.truncate(1);
    insta::assert_json_snapshot!(run);
}

#[test]
fn other_records_are_refused_and_unknown_fields_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    let check = |text: &str, expected: &str| {
        std::fs::write(&path, text).unwrap();
        let error = RunRecord::read(directory.path()).unwrap_err().to_string();
        assert_eq!(error.replace(&path.display().to_string(), "run.json"), expected);
    };
    check(
        r#"{"schema": 2, "jobs": 5}"#,
        "`run.json` has schema 2, this cofferdam reads 1; read it with the version that \
         wrote it",
    );
    check("{}", "`run.json` is not the record of a run");
    check(r#"{"schema": 1}"#, "`run.json` is not the record of a run");
    std::fs::remove_file(&path).unwrap();
    let error = RunRecord::read(directory.path()).unwrap_err().to_string();
    assert_eq!(error, format!("failed to read `{}`", path.display()));

    let mut value = serde_json::to_value(samples::run()).unwrap();
    value["colour"] = "blue".into();
    std::fs::write(&path, value.to_string()).unwrap();
    assert_eq!(RunRecord::read(directory.path()).unwrap(), samples::run());
}
