//! Files made to take the reader down: each is refused, with its line and column.
#![expect(clippy::unwrap_used, reason = "the helpers of tests may panic as tests do")]

use std::fmt::Write as _;

use cofferdam_jobs::{Code, Diagnostic, Sources, parse};

/// The codes and the places of all faults.
fn faults(bytes: &[u8]) -> Vec<(Code, String)> {
    let mut sources = Sources::new();
    let file = sources.add("hostile.yml", bytes);
    let parsed = parse(&sources, file);
    assert!(parsed.pipeline.is_none(), "accepted: {}", String::from_utf8_lossy(bytes));
    let drawn =
        cofferdam_jobs::diagnostic::render::render_all(&parsed.diagnostics, &sources, false);
    assert!(drawn.len() < 64 * 1024, "drawn in {} bytes", drawn.len());
    assert!(!drawn.contains(|c: char| c.is_control() && c != '\n'), "{drawn:?}");
    let place = |diagnostic: &Diagnostic| {
        let at =
            diagnostic.span().map(|span| sources.file(span.file).unwrap().position(span.start));
        (diagnostic.code, at.map(|at| at.to_string()).unwrap_or_default())
    };
    parsed.diagnostics.iter().map(place).collect()
}

/// `levels` lists, each of nine aliases of the one before.
fn laughs(levels: usize) -> String {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..levels {
        let alias = format!("*a{}", level - 1);
        let _ = writeln!(text, "a{level}: &a{level} [{}]", [alias.as_str(); 9].join(", "));
    }
    text
}

/// `levels` mappings, each merging the one before under two keys.
fn merges(levels: usize) -> String {
    let mut text = String::from("m0: &m0 { k: v }\n");
    for level in 1..levels {
        let before = level - 1;
        let _ = writeln!(text, "m{level}: &m{level} {{ a{level}: *m{before}, <<: *m{before} }}");
    }
    text
}

#[test]
fn every_bomb_is_refused_where_it_is() {
    let deep_list = format!("jobs: {}", "[".repeat(100_000));
    let deep_map = "{a: ".repeat(100_000);
    let deep_block = (0..1000).fold(String::new(), |mut text, depth| {
        let _ = writeln!(text, "{}a:", " ".repeat(depth));
        text
    });
    let deep_dashes = "- ".repeat(200_000);
    let many = format!("jobs: [{}]", "a,".repeat(250_000));
    let long_key = format!("{}: 1\njobs: 1", "k".repeat(300));
    let quoted_key = format!("jobs:\n  ? '{}'\n  : 1", "k".repeat(200_000));
    let unclosed = "jobs: { a: { steps: [{ run: \"x".to_owned();
    let wide_merge = format!(
        "a: &a {{ {} }}\nb: {{ <<: [{}] }}",
        (0..1000).fold(String::new(), |text, key| text + &format!("k{key}: 1, ")),
        ["*a"; 1000].join(", ")
    );
    let (laughs, merges) = (laughs(9), merges(40));
    let cases: [(&str, &[u8], Code, &str); 27] = [
        ("too long", &[b'#'; 1024 * 1024 + 1], Code::FileTooLong, "1:1048577"),
        ("not UTF-8", b"jobs:\n  a: \xff\xfe\n", Code::NotText, "2:6"),
        ("UTF-16", b"\xff\xfej\0o\0b\0s\0", Code::NotText, "1:1"),
        ("NUL", b"jobs:\n  a\0b: 1\n", Code::NotText, "2:4"),
        ("escape", b"name: \x1b[31mred\njobs: {}\n", Code::NotText, "1:7"),
        ("C1 control", "name: \u{9b}31m\n".as_bytes(), Code::NotText, "1:7"),
        ("empty", b"", Code::Empty, "1:1"),
        ("only a comment", b"# nothing\n", Code::Empty, "1:1"),
        ("deep flow lists", deep_list.as_bytes(), Code::TooDeep, "1:262"),
        ("deep flow mappings", deep_map.as_bytes(), Code::TooDeep, "1:1021"),
        ("deep block mappings", deep_block.as_bytes(), Code::TooDeep, "65:65"),
        ("deep block lists", deep_dashes.as_bytes(), Code::TooDeep, "1:129"),
        ("too many values", many.as_bytes(), Code::TooManyNodes, "1:400006"),
        ("billion laughs", laughs.as_bytes(), Code::AliasBudget, "6:15"),
        ("billion merges", merges.as_bytes(), Code::AliasBudget, "12:28"),
        ("one mapping merged often", wide_merge.as_bytes(), Code::AliasBudget, "2:403"),
        ("alias within itself", b"a: &a [1, *a]\n", Code::RecursiveAlias, "1:11"),
        ("merge of itself", b"a: &a { <<: *a }\n", Code::RecursiveAlias, "1:13"),
        ("unknown alias", b"a: *nothing\n", Code::Syntax, "1:4"),
        ("long key", long_key.as_bytes(), Code::BadKey, "1:1"),
        ("very long key", quoted_key.as_bytes(), Code::BadKey, "2:5"),
        ("key that is a list", b"? [a, b]\n: 1\n", Code::BadKey, "1:3"),
        ("key twice", b"jobs: {}\nname: x\njobs: {}\n", Code::DuplicateKey, "3:1"),
        ("key twice in other quotes", b"a: { x: 1, 'x': 2 }\n", Code::DuplicateKey, "1:12"),
        ("two documents", b"jobs: {}\n---\njobs: {}\n", Code::ManyDocuments, "2:1"),
        ("tabs", b"jobs:\n\ta: 1\n", Code::Syntax, "2:2"),
        ("not closed", unclosed.as_bytes(), Code::Syntax, "1:29"),
    ];
    let mut wrong = Vec::new();
    for (name, bytes, code, place) in cases {
        let found = faults(bytes);
        if !found.contains(&(code, place.to_owned())) {
            wrong.push(format!("{name}: expected {code} at {place}, found {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tags_are_refused_and_str_is_known() {
    for tag in ["!!python/object:os.system", "!include", "!!binary", "!<tag:x,2026:y>", "!!int"] {
        let text = format!("name: {tag} x\njobs: {{}}\n");
        assert!(faults(text.as_bytes()).iter().any(|(code, _)| *code == Code::UnknownTag), "{tag}");
    }
    let mut sources = Sources::new();
    let file = sources.add("a.yml", b"name: !!str true\njobs: { a: { steps: [{ run: x }] } }");
    let parsed = parse(&sources, file);
    assert_eq!(parsed.pipeline.unwrap().name.unwrap().value, "true");
}

#[test]
fn merge_keys_and_aliases_share_parts_of_jobs() {
    let mut sources = Sources::new();
    let file = sources.add(
        "a.yml",
        b"jobs:\n  a: &a { timeout: 1m, shell: bash, steps: &steps [{ run: one }] }\n  \
          b: { <<: *a, shell: sh }\n  c: { steps: *steps }\n",
    );
    let parsed = parse(&sources, file);
    assert_eq!(parsed.diagnostics, []);
    let pipeline = parsed.pipeline.unwrap();
    let shell = |job: &str| pipeline.job(job).unwrap().shell.as_ref().map(|s| s.value.clone());
    assert_eq!(shell("b").as_deref(), Some("sh"));
    assert_eq!(pipeline.job("b").unwrap().timeout, pipeline.job("a").unwrap().timeout);
    assert_eq!(pipeline.job("c").unwrap().steps, pipeline.job("a").unwrap().steps);
}

#[test]
fn byte_order_marks_and_carriage_returns_are_fine() {
    let mut sources = Sources::new();
    let text = "\u{feff}name: \u{fc}\r\njobs:\r\n  a:\r\n    steps:\r\n      - run: |\r\n          one\r\n          two\r\n";
    let file = sources.add("a.yml", text.as_bytes());
    let parsed = parse(&sources, file);
    assert_eq!(parsed.diagnostics, []);
    let pipeline = parsed.pipeline.unwrap();
    let job = pipeline.job("a").unwrap();
    let cofferdam_jobs::model::Command::Run(script) = &job.steps[0].command else { panic!() };
    assert_eq!(script.as_literal(), Some("one\ntwo\n"));
}

#[test]
fn places_hold_after_characters_of_many_bytes() {
    let text = "name: \u{1f980}\u{e4}\njobs: { \u{e4}: 1, stepz: { steps: x } }\nx\u{e4}: 1\n";
    let mut sources = Sources::new();
    let file = sources.add("a.yml", text.as_bytes());
    for diagnostic in parse(&sources, file).diagnostics {
        let span = diagnostic.span().unwrap();
        let text = sources.text(span);
        assert!(
            !text.is_empty() && !text.starts_with(char::is_whitespace),
            "{diagnostic}: {text:?}"
        );
        assert!(["x\u{e4}", "x", "1", "\u{e4}"].contains(&text), "{diagnostic}: {text:?}");
    }
}

#[test]
fn many_faults_are_counted_not_kept() {
    let text = (0..50_000).fold(String::from("jobs: {}\n"), |mut text, key| {
        let _ = writeln!(text, "k{key}: 1");
        text
    });
    let mut sources = Sources::new();
    let file = sources.add("a.yml", text.as_bytes());
    let parsed = parse(&sources, file);
    assert_eq!(parsed.diagnostics.len(), 101);
    assert_eq!(parsed.diagnostics.last().unwrap().code, Code::TooManyFaults);
}

/// A value that is written once and put into every combination.
#[test]
fn matrices_do_not_multiply_what_they_hold() {
    let large = format!(
        "{{ {} }}",
        (0..500).fold(String::new(), |text, key| text + &format!("k{key}: 1, "))
    );
    let numbers = |count: usize| {
        let all: Vec<String> = (0..count).map(|number| number.to_string()).collect();
        all.join(", ")
    };
    let includes: Vec<String> = (0..300).map(|key| format!("{{ x{key}: 1 }}")).collect();
    for matrix in [
        format!("a: [{large}], b: [{}]", numbers(200)),
        format!("b: [{}], include: [{{ a: {large} }}]", numbers(200)),
        format!("b: [1], include: [{}]", includes.join(", ")),
        format!("b: [1], exclude: [{}]", vec!["{ b: 2 }"; 300].join(", ")),
        format!("b: [{}]", numbers(90_000)),
    ] {
        let yaml = format!("jobs: {{ a: {{ matrix: {{ {matrix} }}, steps: [{{ run: x }}] }} }}");
        let codes: Vec<Code> = faults(yaml.as_bytes()).into_iter().map(|(code, _)| code).collect();
        assert!(codes.contains(&Code::MatrixTooLarge), "{codes:?}");
    }
}

/// Tens of thousands of names, all of them misspelt: looked at no longer than faults are kept.
#[test]
fn suggestions_are_bounded() {
    let names = (0..20_000).fold(String::new(), |text, name| text + &format!("name{name}: {{}}, "));
    let uses = "{ run: x, if: params.nome1234 }, ".repeat(5_000);
    let yaml = format!("params: {{ {names} }}\njobs: {{ a: {{ steps: [{uses}] }} }}");
    let found = faults(yaml.as_bytes());
    assert_eq!(found.last().unwrap().0, Code::TooManyFaults);
}
