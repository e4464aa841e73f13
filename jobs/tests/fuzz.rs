//! Files that are nearly pipelines, and files that are nothing: read, checked, drawn and planned
//! without a panic, with every place inside the file.

#![expect(clippy::unwrap_used, reason = "the helpers of tests may panic as tests do")]

use cofferdam_jobs::{Inputs, Sources, diagnostic::render::render_all, parse, plan};
use proptest::prelude::*;

/// A pipeline that uses every key.
const WHOLE: &str = r#"name: ci
env: { COLOR: always }
secrets: [DEPLOY_TOKEN]
params:
  profile: { default: debug, options: [debug, release], description: how }
defaults: &defaults
  image: debian:12
  limits: { cpus: 2, memory: 2GiB, pids: 512, disk: 4GiB, inodes: 200k, logs: 64MiB, nofile: 1k, io: 50MiB/s }
  timeout: 15m
  network: none
images:
  toolchain:
    from: debian:12
    network: { allow: ["packages.example.org:443"], bandwidth: 20Mbit }
    steps: [{ run: apt-get update }]
    limits: { memory: 1GiB }
    timeout: 1h
    config: { env: { CC: gcc }, labels: { a: b }, workdir: /workspace, user: "1000", entrypoint: [sh], cmd: [-c] }
  built: { build: { context: ., dockerfile: Dockerfile, target: x, args: { A: b } } }
jobs:
  build:
    image: toolchain
    steps:
      - run: make -j$(nproc)
      - id: version
        run: |
          echo "number=$(./app --version)" >> "$COFFERDAM_OUTPUT"
    outputs: { version: "${{ steps.version.outputs.number }}" }
    cache: [{ key: "obj-${{ hash('Makefile', 'src/**') }}", restore: [obj-], paths: [obj] }]
    artifacts: { paths: [app], when: always, optional: true }
  test:
    from: build@version
    name: "test ${{ matrix.shard }}"
    matrix: { shard: [1, 2, 3, 4], mode: [fast, slow], exclude: [{ shard: 4, mode: slow }], include: [{ shard: 9 }] }
    max-parallel: 2
    fail-fast: true
    services:
      db: { image: "postgres:16", env: { POSTGRES_PASSWORD: x }, ready: { run: pg_isready, timeout: 30s, interval: 1s } }
    steps:
      - run: ./run-tests --shard ${{ matrix.shard }} --mode ${{ matrix.mode }}
      - { exec: [a, b], image: built, limits: { memory: 1GiB }, background: true, ready: { exec: [x] }, continue-on-error: true }
    results: { junit: ["out*.xml"] }
    retry: { max: 2, on: [system, timeout, "exit:3"], backoff: 5s }
    cleanup: [{ run: x, if: always() }]
  report:
    needs: [test, { job: build, artifacts: true }]
    if: always() && params.profile == 'debug'
    env: { V: "${{ needs.build.outputs.version }}" }
    secrets: [DEPLOY_TOKEN]
    allow-failure: [1, 2]
    workspace: none
    user: "1000:1000"
    workdir: /tmp
    shell: bash
    steps: &steps [{ run: ./summarise, timeout: 1m, workdir: sub, shell: sh, user: root, env: { A: b } }]
  copies: { <<: {}, parallel: 3, steps: *steps }
"#;

fn through(bytes: &[u8]) {
    let mut sources = Sources::new();
    let file = sources.add("a.yml", bytes);
    let parsed = parse(&sources, file);
    for label in parsed.diagnostics.iter().flat_map(|diagnostic| &diagnostic.labels) {
        let text = sources.file(label.span.file).unwrap().text();
        let (start, end) = (label.span.start as usize, label.span.end as usize);
        assert!(start <= end && end <= text.len(), "{label:?} is outside");
        assert!(text.is_char_boundary(start) && text.is_char_boundary(end), "{label:?} cuts");
    }
    render_all(&parsed.diagnostics, &sources, false);
    assert_eq!(parsed.pipeline.is_some(), !parsed.has_errors());
    if let Some(pipeline) = parsed.pipeline {
        // Refusals are fine; what matters is that nothing breaks.
        if let Ok(plan) = plan(&pipeline, &Inputs::default()) {
            plan.features();
            plan.hashes();
        }
    }
}

#[test]
fn every_key_of_the_language_is_read() {
    let mut sources = Sources::new();
    let file = sources.add("a.yml", WHOLE.as_bytes());
    let parsed = parse(&sources, file);
    assert_eq!(render_all(&parsed.diagnostics, &sources, false), "");
    let plan = plan(&parsed.pipeline.unwrap(), &Inputs::default()).unwrap();
    assert_eq!(plan.jobs.len(), 2 + 1 + 8 + 1 + 3);
}

/// A cut, a repeat, a swap or a byte that is changed.
#[derive(Clone, Debug)]
enum Change {
    Cut(usize, usize),
    Repeat(usize, usize, usize),
    Put(usize, String),
}

fn change() -> impl Strategy<Value = Change> {
    let text = prop::sample::select(vec![
        ":",
        "-",
        "\n",
        "\n\n",
        "  ",
        "\t",
        "{",
        "}",
        "[",
        "]",
        "'",
        "\"",
        "${{",
        "}}",
        "*defaults",
        "&x ",
        "<<: ",
        "!!str ",
        "!x ",
        "? ",
        "|",
        ">",
        "#",
        "---\n",
        "...\n",
        "null",
        "~",
        "\u{e4}",
        "\u{2028}",
        "\r",
        "%YAML 1.2\n",
        ",",
        "@",
        "0",
        "-1",
        "1e999",
        ".nan",
        "\u{1f980}",
        "''",
        "\\",
    ]);
    prop_oneof![
        (0..WHOLE.len(), 0..40_usize).prop_map(|(at, length)| Change::Cut(at, length)),
        (0..WHOLE.len(), 1..60_usize, 1..4_usize)
            .prop_map(|(at, length, times)| Change::Repeat(at, length, times)),
        (0..WHOLE.len(), text).prop_map(|(at, text)| Change::Put(at, text.to_owned())),
    ]
}

fn changed(changes: &[Change]) -> Vec<u8> {
    let mut bytes = WHOLE.as_bytes().to_vec();
    for change in changes {
        let clamp = |at: usize, length: usize| {
            let start = at.min(bytes.len());
            start..(start + length).min(bytes.len())
        };
        match change {
            Change::Cut(at, length) => drop(bytes.drain(clamp(*at, *length))),
            Change::Repeat(at, length, times) => {
                let range = clamp(*at, *length);
                let part = bytes[range.clone()].repeat(*times);
                bytes.splice(range.end..range.end, part);
            }
            Change::Put(at, text) => {
                let at = clamp(*at, 0).start;
                bytes.splice(at..at, text.bytes());
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(600), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pipelines_with_damage(changes in prop::collection::vec(change(), 1..6)) {
        through(&changed(&changes));
    }

    #[test]
    fn bytes_of_any_kind(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        through(&bytes);
    }

    #[test]
    fn text_of_signs(text in "[-:{}\\[\\],&*!|>'\"%@#?~<a\n \t\u{e4}$]{0,200}") {
        through(text.as_bytes());
    }
}
