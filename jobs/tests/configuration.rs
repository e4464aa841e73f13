//! The operator's configuration: what is read, and what is said about what is not.

use cofferdam_jobs::{
    Configuration, Sources, configuration::parse, diagnostic::render::render_all,
};

fn read(text: &str) -> Result<Configuration, String> {
    let mut sources = Sources::new();
    let file = sources.add("config.yml", text.as_bytes());
    parse(&sources, file).map_err(|faults| render_all(&faults, &sources, false))
}

#[test]
fn what_says_nothing_is_no_fault() {
    for text in ["", "\n", "# nothing yet\n\n  # nor here\n"] {
        assert_eq!(read(text), Ok(Configuration::default()), "{text:?}");
    }
}

/// The page of documentation shows every key, so what it shows is what is read here.
#[test]
fn every_key() {
    let page = include_str!("../../docs/configuration.md");
    let (_, block) = page.split_once("```yaml\n").expect("a block of YAML");
    let (text, _) = block.split_once("```").expect("its end");
    insta::assert_debug_snapshot!(read(text));
}

#[test]
fn faults_have_their_place_and_what_to_write() {
    let drawn: Vec<String> = [
        "scrach: disk",
        "quantum: 1",
        "scratch: disc",
        "state: data",
        "capacity: { cpus: two, jobs: 0, memroy: 1GiB }",
        "state: /a\nstate: /b",
        "registries: { Not a host: {}, a.example: { insecure: yes please, ca: ca.pem, mirors: x } }",
        "registry: library/debian\ndownloads: { attempts: 0, idle: soon }",
        "- state",
        "state: [",
    ]
    .into_iter()
    .map(|text| format!("## {text}\n{}\n", read(text).expect_err(text)))
    .collect();
    insta::assert_snapshot!(drawn.join("\n"));
}
