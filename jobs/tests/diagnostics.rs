//! What is said about wrong pipelines: a table per area, and a picture per case.

use cofferdam_jobs::{Severity, Sources, diagnostic::render::render_all, parse};

/// Draws what is wrong with each case; a case without a fault is a fault of the table.
fn drawn(cases: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (title, yaml) in cases {
        let mut sources = Sources::new();
        let file = sources.add("cofferdam.yml", yaml.as_bytes());
        let parsed = parse(&sources, file);
        assert!(!parsed.diagnostics.is_empty(), "{title}: nothing is wrong");
        let errors = parsed.diagnostics.iter().any(|d| d.severity == Severity::Error);
        assert_eq!(parsed.pipeline.is_none(), errors, "{title}");
        out += "## ";
        out += title;
        out.push('\n');
        out += &render_all(&parsed.diagnostics, &sources, false);
        out += "\n\n";
    }
    out
}

/// A job around what is looked at.
fn job(inside: &str) -> String {
    format!("jobs:\n  a: {{ {inside}, steps: [{{ run: x }}] }}\n")
}

/// A step around what is looked at.
fn step(inside: &str) -> String {
    format!("jobs:\n  a: {{ steps: [{{ {inside} }}] }}\n")
}

macro_rules! check {
    ($($name:ident: [$($title:literal => $yaml:expr,)*];)*) => {$(
        #[test]
        fn $name() {
            let cases = [$(($title, $yaml.to_string()),)*];
            let cases: Vec<(&str, &str)> =
                cases.iter().map(|(title, yaml)| (*title, yaml.as_str())).collect();
            insta::assert_snapshot!(drawn(&cases));
        }
    )*};
}

check! {
    keys: [
        "unknown, near" => job("imge: x"),
        "unknown, far" => job("quantum: x"),
        "of another system" => job("runs-on: ubuntu-latest"),
        "in a step" => step("run: x, uses: actions/checkout@v4"),
        "misspelt and missing" => "job: {}",
        "missing" => "name: x",
        "not a mapping" => "- a",
        "a job that is nothing" => "jobs:\n  a:\n",
        "no steps" => "jobs: { a: { steps: [] } }",
        "no command" => step("name: x"),
        "two commands" => step("run: x, exec: [x]"),
        "shell without script" => step("exec: [x], shell: bash"),
        "image and from" => "jobs: { a: { steps: [{ run: x }] }, b: { image: x, from: a, steps: [{ run: x }] } }",
        "matrix and parallel" => job("matrix: { n: [1] }, parallel: 2"),
        "ready in the foreground" => step("run: x, ready: { run: y }"),
        "cleanup in the background" => job("cleanup: [{ run: x, background: true }]"),
    ];
    quantities: [
        "size" => job("limits: { memory: 2G }"),
        "count" => job("limits: { pids: many }"),
        "processors" => job("limits: { cpus: 0 }"),
        "duration without unit" => job("timeout: 15"),
        "duration too long" => job("timeout: 31d"),
        "io rate" => job("limits: { io: { read: fast } }"),
        "bandwidth" => job("network: { allow: ['a.example:1'], bandwidth: 20MB }"),
        "whole number" => job("parallel: 1.5"),
        "boolean" => job("fail-fast: yes"),
        "exit code" => job("allow-failure: [0, 300]"),
        "retry cause" => job("retry: { max: 2, on: [systm, 'exit:256'] }"),
        "retry for nothing" => job("retry: { max: 2, on: [] }"),
        "destination" => job("network: { allow: ['example.org', '*:80'] }"),
        "word" => job("workspace: copy"),
    ];
    names: [
        "job" => "jobs: { 'a/b': { steps: [{ run: x }] }, -x: { steps: [{ run: x }] } }",
        "variable" => job("env: { 'A=B': x, COFFERDAM_JOB: x }"),
        "parameter" => "params: { 'a.b': {} }\njobs: { a: { steps: [{ run: x }] } }",
        "axis" => job("matrix: { 'a b': [1] }"),
        "service" => job("services: { Data_Base: { image: x } }"),
        "step id twice" => "jobs: { a: { steps: [{ id: s, run: x }], cleanup: [{ id: s, run: x }] } }",
        "secret twice" => "secrets: [A, A]\njobs: { a: { steps: [{ run: x }] } }",
        "secret not declared" => format!("secrets: [TOKEN]\n{}", job("secrets: [TOKNE]")),
        "axis value twice" => job("matrix: { v: [3.1, 3.10, 3.1] }"),
    ];
    graph: [
        "unknown need" => "jobs: { build: { steps: [{ run: x }] }, b: { needs: [biuld], steps: [{ run: x }] } }",
        "circle" => "jobs:\n  a: { needs: [c], steps: [{ run: x }] }\n  b: { from: a, steps: [{ run: x }] }\n  c: { needs: [b], steps: [{ run: x }] }\n",
        "itself" => job("needs: a"),
        "twice" => "jobs: { a: { steps: [{ run: x }] }, b: { needs: [a, { job: a }], steps: [{ run: x }] } }",
        "from a matrix" => "jobs: { a: { parallel: 2, steps: [{ run: x }] }, b: { from: a, steps: [{ run: x }] } }",
        "from an unknown step" => "jobs: { a: { steps: [{ id: one, run: x }] }, b: { from: a@ona, steps: [{ run: x }] } }",
    ];
    matrices: [
        "too large" => job("matrix: { a: [1, 2, 3, 4, 5, 6, 7, 8, 9], b: [1, 2, 3, 4, 5, 6, 7, 8, 9], c: [1, 2, 3, 4] }"),
        "nothing left" => job("matrix: { a: [1], exclude: [{ a: 1 }] }"),
        "nothing at all" => job("matrix: {}"),
        "unknown axis" => job("matrix: { os: [a], exclude: [{ so: a }] }"),
        "no match" => job("matrix: { os: [a, b], exclude: [{ os: c }] }"),
        "empty axis" => job("matrix: { os: [] }"),
        "list as value" => job("matrix: { os: [[a]] }"),
    ];
    paths: [
        "artifact outside" => job("artifacts: { paths: [/etc/passwd, '../x'] }"),
        "bad glob" => job("results: { junit: ['[a-'] }"),
        "workdir" => job("workdir: ../x"),
        "image" => job("image: 'Not An Image'"),
        "user" => job("user: '4294967295'"),
        "nul" => step("run: \"a\\0b\""),
    ];
    expressions: [
        "syntax" => job("if: 'success() &&'"),
        "not closed" => step("run: 'echo ${{ params.x'"),
        "chain of comparisons" => job("if: 1 < 2 < 3"),
        "double quotes" => job("if: 'params.x == \"a\"'"),
        "text after the braces" => job("if: '${{ true }} && false'"),
        "unknown function" => job("if: sucess()"),
        "wrong arguments" => job("if: contains('a')"),
        "unknown context" => job("if: github.ref == 'x'"),
        "context not here" => job("image: '${{ env.IMAGE }}'"),
        "status outside if" => step("run: 'echo ${{ failure() }}'"),
        "unknown parameter" => format!("params: {{ profile: {{ default: x }} }}\n{}", job("if: params.profil")),
        "no matrix" => step("run: 'echo ${{ matrix.n }}'"),
        "unknown axis" => "jobs: { a: { matrix: { shard: [1] }, steps: [{ run: 'echo ${{ matrix.shart }}' }] } }",
        "not needed" => "jobs: { a: { outputs: { v: x }, steps: [{ run: x }] }, b: { env: { V: '${{ needs.a.outputs.v }}' }, steps: [{ run: x }] } }",
        "unknown output" => "jobs: { a: { outputs: { version: x }, steps: [{ run: x }] }, b: { needs: a, env: { V: '${{ needs.a.outputs.vrsion }}' }, steps: [{ run: x }] } }",
        "unknown part of a need" => "jobs: { a: { steps: [{ run: x }] }, b: { needs: a, env: { V: '${{ needs.a.status }}' }, steps: [{ run: x }] } }",
        "step that comes later" => "jobs: { a: { steps: [{ run: x, if: steps.late.outcome }, { id: late, run: x }] } }",
        "step without id" => "jobs: { a: { steps: [{ id: build, run: x }, { run: x, if: steps.biuld.outcome }] } }",
        "unknown git value" => step("run: x, if: git.sha == 'a'"),
        "secret in a script" => "secrets: [TOKEN]\njobs: { a: { steps: [{ run: 'curl ${{ secrets.TOKEN }}' }] } }",
        "all secrets" => "secrets: [A]\njobs: { a: { env: { X: '${{ toJSON(secrets) }}' }, steps: [{ run: x }] } }",
        "hash of a value" => step("run: x, env: { H: \"${{ hash(params) }}\" }"),
        "place in a block of lines" => "jobs:\n  a:\n    steps:\n      - run: |\n          echo one\n          echo ${{ matrix.n }} ${{ neds.x }}\n",
    ];
    conditions: [
        "cancelled, of a step" => step("run: x, if: cancelled()"),
        "cancelled, of a job" => "jobs: { a: { steps: [{ run: x }] }, b: { needs: a, if: \"cancelled() && git.branch == 'main'\", steps: [{ run: x }] } }",
        "either way cancelled" => step("run: x, if: cancelled() || cancelled() && true"),
    ];
    injection: [
        "parameter" => "params: { who: {} }\njobs: { a: { steps: [{ run: 'echo ${{ params.who }}' }] } }",
        "output, in a function" => "jobs: { a: { outputs: { v: x }, steps: [{ run: x }] }, b: { needs: a, steps: [{ run: \"echo ${{ format('{0}', needs.a.outputs.v) }}\" }] } }",
        "branch" => step("run: 'git push origin ${{ git.branch }}'"),
    ];
    what_others_write: [
        "a command for a step" => "jobs: { a: { steps: [make test], cache: ~/.cargo, retry: 2, artifacts: dist/* } }",
        "a colon in a text" => "jobs:\n  a:\n    steps:\n      - run: echo \"to: b\"\n",
        "a mapping after a key" => "jobs:\n  a:\n    network: allow: [b:443]\n",
        "an expression in braces" => "jobs:\n  a:\n    outputs: { v: ${{ steps.v.outputs.v }} }\n    steps: [{ run: x }]\n",
    ];
    variables_of_our_own: [
        "changed" => "secrets: [CI]\nenv: { CI: 'false' }\nimages: { i: { from: host, steps: [{ run: x }], config: { env: { CI: '' } } } }\njobs: { a: { image: i, steps: [{ run: x }], services: { s: { image: host, env: { CI: \"${{ git.tag }}\" } } } } }",
        "one that only looks right" => step("run: x, env: { \"P\u{410}TH\": x }"),
        "one that is reserved" => step("run: x, env: { COFFERDAM_STEP: x }"),
    ];
    several_at_once: [
        "all are shown, in the order of the file" => "nmae: x\njobs:\n  a:\n    imge: x\n    timeout: soon\n    needs: [b]\n    steps: [{ exec: make }]\n",
        "through one alias once" => "jobs:\n  a: { env: &e { 'A B': x }, steps: [{ run: x }] }\n  b: { env: *e, steps: [{ run: x }] }\n",
    ];
}

#[test]
fn what_is_safe_is_not_warned_about() {
    for yaml in [
        "params: { p: { default: a, options: [a, b] } }\njobs: { a: { steps: [{ run: 'echo ${{ params.p }}' }] } }",
        "params: { p: {} }\njobs: { a: { steps: [{ run: \"echo ${{ params.p == 'x' }}\" }] } }",
        "params: { p: {} }\njobs: { a: { steps: [{ exec: [echo, '${{ params.p }}'] }] } }",
        "params: { p: {} }\njobs: { a: { steps: [{ env: { P: '${{ params.p }}' }, run: 'echo \"$P\"' }] } }",
        "jobs: { a: { steps: [{ run: x }] }, b: { needs: a, steps: [{ run: 'echo ${{ needs.a.result }}' }] } }",
        "jobs: { a: { steps: [{ run: 'echo ${{ git.commit }}' }] } }",
        "env: { CI: true }\njobs: { a: { steps: [{ run: x }] } }",
    ] {
        let mut sources = Sources::new();
        let file = sources.add("a.yml", yaml.as_bytes());
        assert_eq!(parse(&sources, file).diagnostics, [], "{yaml}");
    }
}

#[test]
fn colour_comes_from_us_alone() {
    let mut sources = Sources::new();
    let file = sources.add("a.yml", b"jobs: { \"\\e[31mred\": { steps: [{ run: x }] } }");
    let parsed = parse(&sources, file);
    let plain = render_all(&parsed.diagnostics, &sources, false);
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    assert!(render_all(&parsed.diagnostics, &sources, true).contains('\u{1b}'));
}

#[test]
fn cancelled_is_asked_where_it_can_be() {
    let yaml = "jobs: { a: { steps: [{ run: x, if: '!cancelled()' }, { run: x, if: failure() || cancelled() }], \
                cleanup: [{ run: x, if: cancelled() }] } }";
    let mut sources = Sources::new();
    let file = sources.add("cofferdam.yml", yaml.as_bytes());
    assert!(parse(&sources, file).diagnostics.is_empty());
}
