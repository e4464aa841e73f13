//! The dialects of real test runners, and files that are no friend's.

use proptest::strategy::Strategy as _;

use super::{super::Totals, *};

fn parse(xml: impl AsRef<[u8]>) -> TestFile {
    read("out.xml", xml.as_ref(), Bounds::default(), &str::to_owned)
}

/// The file as `suite: class name outcome`, one test a line, then what was odd.
fn shown(file: &TestFile) -> String {
    let mut lines = Vec::new();
    for suite in &file.suites {
        for Case { name, class, time, outcome } in &suite.cases {
            let outcome = match outcome {
                Outcome::Passed => "passed".to_owned(),
                Outcome::Skipped { message } => format!("skipped {message:?}"),
                Outcome::Failed(failure) => format!("failed {failure:?}"),
                Outcome::Errored(failure) => format!("errored {failure:?}"),
            };
            let outcome = outcome.replace("Failure ", "");
            lines.push(format!("{}: {class} {name} {time:?} {outcome}", suite.name));
        }
    }
    lines.extend(file.claimed.map(|claimed| format!("claims {claimed}")));
    lines.extend(file.problem.iter().map(|problem| format!("problem: {problem}")));
    lines.join("\n")
}

#[track_caller]
fn check(xml: &str, expected: &str) {
    assert_eq!(shown(&parse(xml)), expected);
}

#[test]
fn pytest_has_a_suite_in_testsuites() {
    check(
        r#"<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite
        name="pytest" errors="0" failures="1" skipped="1" tests="3" time="0.1"><testcase
        classname="test_a" name="test_ok" time="0.001" /><testcase classname="test_a"
        name="test_bad" time="1,000.5"><failure message="assert 1 == 2">def test_bad():
&gt;   assert 1 == 2
E   &amp; so &#111;n</failure></testcase><testcase classname="test_a" name="test_skip"><skipped
        type="pytest.skip" message="no network">test_a.py:9: no network</skipped></testcase>
        </testsuite></testsuites>"#,
        "pytest: test_a test_ok 1ms passed\n\
         pytest: test_a test_bad 1000.5s failed { message: \"assert 1 == 2\", kind: \"\", \
         text: \"def test_bad():\\n>   assert 1 == 2\\nE   & so on\" }\n\
         pytest: test_a test_skip 0ns skipped \"no network\"",
    );
}

#[test]
fn node_has_cases_without_a_suite_failures_as_attributes_and_comments_at_the_end() {
    check(
        r#"<?xml version="1.0" encoding="utf-8"?>
        <testsuites>
            <testcase name="adds" time="0.002" classname="test"/>
            <testcase name="breaks" time="0.001" classname="test" failure="no &amp; never"/>
            <testcase name="both" classname="test" failure="short"><failure type="assert"
                message="long">stack</failure></testcase>
            <testsuite name="group" tests="1" failures="0"><testcase name="inner"/></testsuite>
            <!-- tests 4 --><!-- pass 2 -->
        </testsuites>
        <!-- duration_ms 9 -->"#,
        ": test adds 2ms passed\n\
         : test breaks 1ms failed { message: \"no & never\", kind: \"\", text: \"\" }\n\
         : test both 0ns failed { message: \"long\", kind: \"assert\", text: \"stack\" }\n\
         group:  inner 0ns passed",
    );
}

#[test]
fn counts_are_claims() {
    check(
        r#"<testsuites tests="289"><testsuite name="a" tests="7"><testcase name="x"/></testsuite>
        </testsuites>"#,
        "a:  x 0ns passed\nclaims 289",
    );
    check(r#"<testsuite name="a" tests="1"><testcase name="x"/></testsuite>"#, "a:  x 0ns passed");
    check(
        r#"<testsuite name="a" tests="two"><testcase name="x"/></testsuite>"#,
        "a:  x 0ns passed",
    );
}

#[test]
fn attributes_say_it_where_elements_do_not() {
    check(
        r#"<testsuite name="g"><testcase name="a" status="run" result="completed"/>
        <testcase name="b" status="notrun"/><testcase name="c" status="failed"/>
        <testcase name="d" result="Error"/><testcase name="e" skipped="true"/>
        <testcase name="f" skipped="false" failure="0" error="false"/></testsuite>"#,
        "g:  a 0ns passed\n\
         g:  b 0ns skipped \"\"\n\
         g:  c 0ns failed { message: \"\", kind: \"\", text: \"\" }\n\
         g:  d 0ns errored { message: \"\", kind: \"\", text: \"\" }\n\
         g:  e 0ns skipped \"\"\n\
         g:  f 0ns passed",
    );
}

#[test]
fn nested_suites_have_the_names_around_them_and_the_worst_outcome_counts() {
    check(
        r#"<testsuite name="outer"><testsuite name="inner"><testcase name="x"><failure
        message="f"/><error message="e">boom</error><skipped/><system-out>no matter<failure/>
        </system-out></testcase></testsuite><testsuite name="outer::deep"><testcase name="y"/>
        </testsuite></testsuite>"#,
        "outer / inner:  x 0ns errored { message: \"e\", kind: \"\", text: \"boom\" }\n\
         outer::deep:  y 0ns passed",
    );
}

#[test]
fn half_a_file_counts_as_half() {
    check(
        r#"<testsuite name="s" tests="2"><testcase name="x"/><testcase name="y"><fail"#,
        "s:  x 0ns passed\ns:  y 0ns passed\nproblem: syntax error: tag not closed: \
         `>` not found before end of input (at byte 69)",
    );
    check(
        r#"<testsuite name="s"><testcase name="x"/>"#,
        "s:  x 0ns passed\nproblem: it ends in the middle",
    );
    check(
        r#"<testsuite name="s"><testcase name="x"></testsuite>"#,
        "s:  x 0ns passed\nproblem: ill-formed document: expected `</testcase>`, but \
         `</testsuite>` was found (at byte 39)",
    );
}

#[test]
fn other_files_are_not_junit() {
    let problem = "problem: no `testsuites`, `testsuite` or `testcase` in it";
    check("", problem);
    check("hello", problem);
    check("<html><body/></html>", problem);
    assert_eq!(
        parse(b"\xff\xfe<\0t\0").problem.as_deref(),
        Some("I/O error: a file in UTF-16, which is not supported (at byte 1)")
    );
}

#[test]
fn damaged_text_is_read() {
    let file =
        parse(b"<testsuite><testcase name='\xffx\x1b[31m' classname='&nbsp; & b'/></testsuite>");
    assert_eq!(shown(&file), ": &nbsp; & b \u{fffd}x\x1b[31m 0ns passed");
    let file = parse("\u{feff}<testsuite><testcase name='é'/></testsuite>");
    assert_eq!(shown(&file), ":  é 0ns passed");
}

#[test]
fn entity_bombs_are_refused_and_unknown_entities_stay_as_they_are() {
    check(
        r#"<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><testsuite><testcase
        name="&b;"/></testsuite>"#,
        "problem: a document that defines entities, which is refused (at byte 1)",
    );
    check(
        r#"<!DOCTYPE testsuite SYSTEM "junit.dtd"><testsuite><testcase name="x"><failure>&b;
        </failure></testcase></testsuite>"#,
        ":  x 0ns failed { message: \"\", kind: \"\", text: \"&b;\" }",
    );
}

#[test]
fn each_bound_stops_the_reading_and_keeps_what_came_before() {
    let start = "<testsuite name='s'><testcase name='first'/>";
    let check = |bounds: Bounds, rest: &str, expected: &str| {
        let xml = format!("{start}{rest}");
        let file = read("out.xml", xml.as_bytes(), bounds, &str::to_owned);
        assert_eq!(file.suites.first().map(|suite| suite.cases.len()), Some(1), "{rest:.40}");
        let problem = file.problem.unwrap_or_default();
        assert!(problem.contains(expected), "{problem}");
    };
    let bounds = Bounds::default();
    let deep = "<a>".repeat(100);
    check(bounds, &deep, "elements more than 64 deep");
    let cases = "<testcase name='x'/>".repeat(3);
    check(Bounds { cases: 1, ..bounds }, &cases, "more than 1 test cases");
    check(Bounds { text: 7, ..bounds }, &cases, "more than 7 bytes of names and messages");
    let long = format!("<!--{}-->", "x".repeat(100_000));
    check(Bounds { element: 40_000, ..bounds }, &long, "an element of more than 40000 bytes");
    check(Bounds { bytes: 20_000, ..bounds }, &long, "a file that is too large");
}

#[test]
fn one_failures_details_are_bounded() {
    let details = "€".repeat(50_000);
    let xml = format!("<testcase name='x'><failure>{details}</failure></testcase>");
    let file = parse(xml);
    let Outcome::Failed(failure) = &file.suites[0].cases[0].outcome else { panic!("{file:?}") };
    assert!(failure.text.len() <= DETAILS_MAX && failure.text.ends_with("€…"));
}

#[test]
fn text_is_masked_before_it_is_kept() {
    let xml = "<testsuite name='hunter22'><testcase name='hunter22' classname='hunter22'>\
               <failure type='hunter22' message='hunter22'>hun&#116;er22</failure></testcase>\
               </testsuite>";
    let mask = |text: &str| text.replace("hunter22", "***");
    let file = read("out.xml", xml.as_bytes(), Bounds::default(), &mask);
    assert!(!format!("{file:?}").contains("hunter22"));
    assert_eq!(format!("{file:?}").matches("***").count(), 6);
}

#[test]
fn totals_count_cases_and_name_the_failed_ones() {
    let files = [
        parse(
            r#"<testsuite tests="9"><testcase name="a" classname="k"><failure>

            first line
            second</failure></testcase><testcase name="b"><error type="Boom"/></testcase>
            <testcase name="c"/><testcase name="d"><skipped/></testcase></testsuite>"#,
        ),
        parse("<testsuite><testcase name='e'/>"),
    ];
    insta::assert_debug_snapshot!(Totals::of(&files), @r#"
    Totals {
        passed: 2,
        failed: 1,
        errored: 1,
        skipped: 1,
        failures: [
            FailedTest {
                name: "k a",
                message: "first line",
            },
            FailedTest {
                name: "b",
                message: "Boom",
            },
        ],
        remarks: [
            "`out.xml` claims 9 tests and has 4: counted as it is",
            "`out.xml` could not be read whole: it ends in the middle",
        ],
    }
    "#);
}

proptest::proptest! {
    #[test]
    fn anything_is_read_without_a_panic(
        pieces in proptest::collection::vec(
            proptest::prop_oneof![
                proptest::sample::select(vec![
                    "<testsuite name='a'>", "</testsuite>", "<testcase name='x'", "/>", ">",
                    "</testcase>", "<failure>", "</failure>", "<![CDATA[", "]]>", "&#x", "&amp;",
                    "<!--", "-->", "<skipped/>", "<!DOCTYPE", "['",
                ]).prop_map(|piece| piece.as_bytes().to_vec()),
                proptest::collection::vec(proptest::prelude::any::<u8>(), 0..6),
            ],
            0..30,
        ),
    ) {
        let xml = pieces.concat();
        let file = parse(xml);
        proptest::prop_assert!(file.suites.iter().all(|suite| !suite.cases.is_empty()));
    }
}
