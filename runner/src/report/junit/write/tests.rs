//! What is written is read back with a real XML parser, hostile text included.

use proptest::prelude::*;

use super::{super::read, *};
use crate::report::{
    junit::{Failure, Suite},
    record::{UsageRecord, samples},
};

fn reread(xml: &[u8]) -> TestFile {
    let file = read::read("junit.xml", xml, read::Bounds::default(), &str::to_owned);
    assert_eq!((file.problem.as_deref(), file.claimed), (None, None));
    file
}

#[test]
fn a_run_is_a_suite_per_job_a_case_per_step_and_the_tests_of_the_project() {
    let run = samples::run();
    let failure = Failure {
        message: "left == right".into(),
        kind: "assertion".into(),
        text: "at <parser.rs:9>".into(),
    };
    let case = |name: &str, outcome| Case {
        name: name.into(),
        class: "parser".into(),
        time: Duration::from_millis(1500),
        outcome,
    };
    let file = TestFile {
        path: "out.xml".into(),
        suites: vec![Suite {
            name: "unit".into(),
            cases: vec![
                case("good", Outcome::Passed),
                case("bad", Outcome::Failed(failure.clone())),
                case("odd", Outcome::Errored(failure)),
                case("later", Outcome::Skipped { message: "slow".into() }),
            ],
        }],
        ..TestFile::default()
    };
    let tests = [JobTests::default(), JobTests { files: vec![file] }];
    let xml = to_xml(&run, &tests, &|_| "cc: error\nmake: *** [all]".into()).unwrap();
    let xml = String::from_utf8(xml).unwrap().replace("><", ">\n<");
    insta::assert_snapshot!(xml);
    reread(xml.as_bytes());
}

#[test]
fn the_file_is_written_whole() {
    let directory = tempfile::tempdir().unwrap();
    let run = samples::run();
    write(directory.path(), &run, &[], &|_| String::new()).unwrap();
    write(directory.path(), &run, &[], &|_| String::new()).unwrap();
    let names: Vec<_> =
        directory.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["junit.xml"]);
    let file = reread(&std::fs::read(directory.path().join(FILE_NAME)).unwrap());
    assert_eq!(file.suites.len(), run.jobs.len());
}

#[test]
fn a_job_that_never_had_a_step_has_a_case_of_its_own() {
    let mut run = samples::run();
    run.jobs.truncate(1);
    run.jobs[0].conclusion = Conclusion::SystemFault;
    run.jobs[0].why = Some("no disk".into());
    run.jobs[0].attempts.clear();
    let file = reread(&to_xml(&run, &[], &|_| String::new()).unwrap());
    let case = &file.suites[0].cases[0];
    assert_eq!(case.name, "(job)");
    let Outcome::Errored(failure) = &case.outcome else { panic!("{case:?}") };
    assert_eq!((failure.message.as_str(), failure.kind.as_str()), ("no disk", "system fault"));
}

#[test]
fn an_allowed_failure_is_not_red() {
    let mut run = samples::run();
    for job in &mut run.jobs {
        job.failure_allowed = true;
    }
    let file = reread(&to_xml(&run, &[], &|_| String::new()).unwrap());
    let cases = file.suites.iter().flat_map(|suite| &suite.cases);
    assert!(cases.clone().count() > 0);
    for case in cases {
        assert!(matches!(case.outcome, Outcome::Passed | Outcome::Skipped { .. }), "{case:?}");
    }
}

fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "\\PC{0,6}",
        any::<String>(),
        prop::sample::select(vec![
            "]]>",
            "]]",
            ">",
            "]]\u{0}>",
            "<!--",
            "</failure>",
            "<![CDATA[",
            "&lt;",
            "&#0;",
            "\"'<>&",
            "\x1b[31m",
            "\x1b]0;t\x07",
            "\u{fffe}",
            "\u{9b}",
            "\r",
            "\n",
            "\t",
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn hostile_text_stays_text(name in hostile(), message in hostile(), text in hostile()) {
        let mut run = samples::run();
        run.jobs.truncate(1);
        let job = &mut run.jobs[0];
        job.name = name.clone();
        job.conclusion = Conclusion::Failed;
        job.attempts.truncate(1);
        job.attempts[0].steps.truncate(1);
        let step = &mut job.attempts[0].steps[0];
        step.name.clone_from(&name);
        step.conclusion = Conclusion::Failed;
        step.why = Some(message.clone());
        step.usage = Some(UsageRecord::default());
        let xml = to_xml(&run, &[], &|_| text.clone()).unwrap();

        let file = reread(&xml);
        prop_assert_eq!(file.suites.len(), 1);
        prop_assert_eq!(file.suites[0].cases.len(), 1);
        let case = &file.suites[0].cases[0];
        prop_assert_eq!(&file.suites[0].name, &attribute(&name));
        prop_assert_eq!(&case.name, &attribute(&name));
        let Outcome::Failed(failure) = &case.outcome else { panic!("{case:?}") };
        prop_assert_eq!(&failure.message, &attribute(&message));
        let written = content(&text).replace("]]]]><![CDATA[>", "]]>");
        prop_assert_eq!(&failure.text, written.trim());
        let xml = String::from_utf8(xml).unwrap();
        prop_assert!(!xml.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
    }
}
