//! `cofferdam check`: every wrong pipeline of `fixtures/invalid/` gets its message and exit status 65.

use crate::binary::{Cofferdam, fixture, repository};

/// Runs `check` on every wrong file; the messages are the snapshots beside the files.
#[test]
fn wrong_pipelines() {
    let mut files: Vec<_> = std::fs::read_dir(fixture("invalid"))
        .expect("list fixtures/invalid")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
        .collect();
    files.sort();
    assert!(files.len() >= 90, "only {} wrong pipelines were found", files.len());

    let cofferdam = Cofferdam::new();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(fixture("invalid/messages"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        let failed: Vec<_> = files
            .iter()
            .filter_map(|path| {
                let name = path.file_stem()?.to_string_lossy().into_owned();
                let relative = format!("fixtures/invalid/{name}.yml");
                let ended = cofferdam.run(["check", &relative]);
                let status = ended.status;
                let message =
                    ended.text().replace(&*repository().to_string_lossy(), "[REPOSITORY]");
                // Each file is looked at even where another differs.
                let same = std::panic::catch_unwind(|| insta::assert_snapshot!(&*name, message));
                (same.is_err() || status != 65).then(|| format!("{name}: exit status {status}"))
            })
            .collect();
        assert!(failed.is_empty(), "{failed:#?}");
    });
}

/// Every pipeline that the tests run passes `check`, and a fault in a file that is not there is said.
#[test]
fn right_pipelines() {
    let cofferdam = Cofferdam::new();
    for entry in std::fs::read_dir(fixture("pipelines")).expect("list fixtures/pipelines") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "yml")
            && path.file_stem().is_some_and(|name| name != "outcomes")
        {
            let ended = cofferdam.run(["check".as_ref(), path.as_os_str()]);
            assert_eq!(ended.status, 0, "{}\n{}", path.display(), ended.text());
        }
    }
}

/// A file that cannot be read is no fault of the pipeline: 66, as in sysexits.
#[test]
fn file_that_is_not_there() {
    let cofferdam = Cofferdam::new();
    cofferdam.run(["check", "no/such/file.yml"]).expect(66).says(&["no/such/file.yml"]);
    cofferdam.run(["check", "fixtures"]).expect(66).says(&["fixtures"]);
}

/// Without a name it is `cofferdam.yml` here.
#[test]
fn default_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let cofferdam = Cofferdam::new().in_directory(directory.path());
    cofferdam.run(["check"]).expect(66).says(&["cofferdam.yml"]);
    crate::binary::file(
        directory.path(),
        "cofferdam.yml",
        "jobs: { a: { steps: [{ run: 'true' }] } }\n",
    );
    cofferdam.run(["check"]).expect(0);
}
