//! Several files to one pipeline.

#![expect(clippy::unwrap_used, reason = "the helpers of tests may panic as tests do")]

use std::fmt::Write as _;

use cofferdam_jobs::{
    Included, NotIncluded, Parsed, Sources, diagnostic::render::render_all, parse_with,
};

/// Reads `a.yml` of a project of these files.
fn parsed(files: &[(&str, &str)]) -> (Parsed, Sources) {
    let mut sources = Sources::new();
    let text = |wanted: &str| files.iter().find(|(name, _)| *name == wanted).map(|(_, text)| *text);
    let id = sources.add("a.yml".to_owned(), text("a.yml").unwrap().as_bytes());
    let mut find = |_from: &str, path: &str| {
        if path.starts_with("../") {
            return Err(NotIncluded::Outside);
        }
        let name = path.trim_start_matches("./");
        match text(name) {
            Some(text) => Ok(Included { name: name.to_owned(), bytes: text.as_bytes().to_vec() }),
            None => Err(NotIncluded::Unreadable("there is no such file".to_owned())),
        }
    };
    let parsed = parse_with(&mut sources, id, &mut find);
    (parsed, sources)
}

#[test]
fn jobs_come_together_and_the_including_file_wins() {
    let (parsed, _) = parsed(&[
        (
            "a.yml",
            "name: main\ninclude: [b.yml, c.yml]\nenv: { X: main }\ndefaults: { timeout: 1m }\n\
             jobs: { own: { needs: [from-b, both], steps: [{ run: x }] }, both: { steps: [{ run: main }] } }",
        ),
        (
            "b.yml",
            "name: other\nenv: { X: b, Y: b }\ndefaults: { timeout: 2m, image: debian }\n\
             jobs: { from-b: { needs: from-d, steps: [{ run: x }] }, both: { steps: [{ run: b }] } }\ninclude: [d.yml]",
        ),
        ("c.yml", "params: { p: { default: 1 } }\nsecrets: [TOKEN]\ninclude: [./d.yml]"),
        (
            "d.yml",
            "jobs: { from-d: { secrets: [TOKEN], steps: [{ run: \"echo ${{ params.p }}\" }] } }",
        ),
    ]);
    assert!(!parsed.has_errors(), "{:#?}", parsed.diagnostics);
    let pipeline = parsed.pipeline.unwrap();
    let mut out = String::new();
    writeln!(out, "{:?}", pipeline.name.map(|name| name.value)).unwrap();
    for (name, value) in &pipeline.env {
        writeln!(out, "{}={:?}", name.value, value.as_literal()).unwrap();
    }
    writeln!(out, "timeout {:?}", pipeline.defaults.timeout.unwrap().value).unwrap();
    writeln!(out, "image {:?}", pipeline.defaults.image.unwrap().as_literal()).unwrap();
    for job in &pipeline.jobs {
        writeln!(out, "job {}: {:?}", job.id.value, job.steps.len()).unwrap();
    }
    insta::assert_snapshot!(out);
}

#[test]
fn what_cannot_be_included_is_told_where_it_is_written() {
    let cases: [(&str, &[(&str, &str)]); 7] = [
        ("outside", &[("a.yml", "include: [../x.yml]")]),
        ("missing", &[("a.yml", "include: [x.yml]\njobs: { a: { steps: [{ run: x }] } }")]),
        ("itself", &[("a.yml", "include: [a.yml]")]),
        (
            "a circle",
            &[
                ("a.yml", "include: [b.yml]"),
                ("b.yml", "include: [c.yml]"),
                ("c.yml", "include: [b.yml]"),
            ],
        ),
        (
            "a job in two files",
            &[
                ("a.yml", "include: [b.yml, c.yml]"),
                ("b.yml", "jobs: { j: { steps: [{ run: x }] } }"),
                ("c.yml", "jobs: { j: { steps: [{ run: y }] } }"),
            ],
        ),
        (
            "a fault in an included file",
            &[
                ("a.yml", "include: [b.yml]\njobs: { a: { needs: j, steps: [{ run: x }] } }"),
                ("b.yml", "jobs:\n  j: { needs: [aa], stps: [] }"),
            ],
        ),
        ("no jobs at all", &[("a.yml", "include: [b.yml]"), ("b.yml", "env: { A: b }")]),
    ];
    let mut out = String::new();
    for (title, files) in cases {
        let (parsed, sources) = parsed(files);
        assert!(parsed.has_errors(), "{title}");
        let _ = writeln!(out, "## {title}\n{}\n", render_all(&parsed.diagnostics, &sources, false));
    }
    insta::assert_snapshot!(out);
}
