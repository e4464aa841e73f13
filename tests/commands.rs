//! `plan`, `explain`, `schema` and the forms of `check`.

use std::{fs, process::Stdio};

use serde_json::Value;

use crate::{
    binary::{Cofferdam, file, fixture, program, repository, wait},
    host::{Need, needs},
};

const PIPELINE: &str = "\
params: { n: { options: [1, 2], default: 1 } }
jobs:
  build: { steps: [{ run: echo built }] }
  test: { from: build, if: \"params.n == '1'\", matrix: { m: [1, 2] }, steps: [{ run: \"test ${{ matrix.m }} = 1\" }] }
";

fn project() -> tempfile::TempDir {
    let project = tempfile::tempdir().expect("a directory");
    file(project.path(), "cofferdam.yml", PIPELINE);
    project
}

#[test]
fn plans() {
    let project = project();
    let cofferdam = Cofferdam::new().in_directory(project.path());
    let run = |arguments: &[&str], status: i32| {
        cofferdam.run([&["plan"], arguments].concat()).expect(status)
    };
    run(&[], 0).says(&["test (1)", "the end of build", "3 jobs"]);
    run(&["--tree"], 0).says(&["build\n└─ test ×2, from its file system"]);
    run(&["--dot"], 0).says(&["digraph", "\"build\" -> \"test\""]);
    run(&["--mermaid"], 0).says(&["flowchart LR", "j0 ==> j1"]);
    let json: Value = serde_json::from_str(&run(&["--json"], 0).stdout).expect("JSON");
    assert_eq!(json["jobs"][1]["from"]["job"], "build");
    run(&["--job", "build"], 0).says(&["1 job"]);
    // What the caller got wrong is not a fault of the file.
    run(&["--job", "tset"], 2).says(&["the pipeline has no job `tset`", "did you mean `test`?"]);
    run(&["--job", "a"], 2).says(&["there are `build`, `test`"]);
    run(&["--param", "n=3"], 2).says(&["is not an option"]);
    run(&["--param", "m=3"], 2).says(&["no parameter `m`"]);
    run(&["nowhere.yml"], 66);
}

#[test]
fn a_pipeline_from_standard_input() {
    for (text, status, says) in [
        (PIPELINE, 0, "well-formed: 2 jobs"),
        ("jobs: { a: { stps: [] } }", 65, "standard input:1:14"),
    ] {
        let cofferdam = Cofferdam::new();
        let mut command = cofferdam.command(["check", "-"]);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("start cofferdam");
        let mut stdin = child.stdin.take().expect("a pipe");
        std::io::Write::write_all(&mut stdin, text.as_bytes()).expect("write");
        drop(stdin);
        wait(child).expect(status).says(&[says]);
    }
}

#[test]
fn faults_as_sarif() {
    let project = tempfile::tempdir().expect("a directory");
    file(project.path(), "a b.yml", "jobs:\n  a: { needs: b, steps: [{ run: x }] }\n");
    let cofferdam = Cofferdam::new().in_directory(project.path());
    let ended = cofferdam.run(["check", "--sarif", "a b.yml"]).expect(65);
    let log: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let result = &log["runs"][0]["results"][0];
    assert_eq!((&log["version"], &result["ruleId"]), (&"2.1.0".into(), &"E0302".into()));
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "a%20b.yml");
    assert_eq!(
        (&place["region"]["startLine"], &place["region"]["startColumn"]),
        (&2.into(), &15.into())
    );
    let rules = log["runs"][0]["tool"]["driver"]["rules"].as_array().expect("rules");
    assert!(rules.iter().any(|rule| rule["id"] == "E0302"));
    let ended = cofferdam.run(["check", "--sarif", "--json", "a b.yml"]);
    assert_eq!(ended.status, 2);
}

#[test]
fn explanations() {
    needs!(Need::Containers);
    let project = project();
    let cofferdam = Cofferdam::new().in_directory(project.path());
    let before = cofferdam.run(["explain", "test (2)"]).expect(0);
    let before = before.says(&[
        "when its `if` holds: `params.n == '1'`",
        "starts from the end of build (its `from`)",
    ]);
    assert!(!before.stdout.contains("job build"), "{}", before.stdout);
    cofferdam.run(["explain", "tset"]).expect(2).says(&["there is no job `tset`"]);
    cofferdam.run(["run", "--out", "results"]).expect(1);
    let after = cofferdam.run(["explain", "--run", "results"]).expect(0);
    after.says(&[
        "job build passed",
        "job test (2) failed: step `test 2 = 1`: it exited with code 1",
    ]);
    cofferdam.run(["run", "--out", "results", "--param", "n=2"]).expect(0);
    let after = cofferdam.run(["explain", "test", "--run", "results"]).expect(0);
    after.says(&[
        "job test (1) skipped: its `if` does not hold: `params.n == '1'`, where `params.n` is `2`",
    ]);
    cofferdam.run(["explain", "--run", "nowhere"]).expect(66);
}

/// Which rule and which values let each job and step run, skipped it, tried it again, or found its
/// cache; a value made from a secret is not shown, whichever way it is asked for.
#[test]
fn explanations_have_rules_and_values() {
    needs!(Need::Containers);
    let project = tempfile::tempdir().expect("a directory");
    file(
        project.path(),
        "cofferdam.yml",
        "\
secrets: [TOKEN]
params: { level: { default: low } }
jobs:
  flaky:
    retry: { max: 2, on: [system, 'exit:75'] }
    cache: { key: \"deps-${{ params.level }}\", restore: [deps-], paths: [deps] }
    steps:
      - run: mkdir -p deps; echo x > deps/x; test \"$COFFERDAM_ATTEMPT\" = 2 || exit 75
      - { run: echo asked, if: \"params.level == 'low' && env.NONE == null\" }
      - { run: echo no, if: \"secrets.TOKEN == 'x' || startsWith(params.level, 'h')\" }
  once: { retry: { max: 1, on: [memory] }, steps: [{ run: exit 3 }] }
  twice: { retry: { max: 1, on: failure }, steps: [{ run: exit 4 }] }
  after: { needs: [flaky], if: \"success() && needs.flaky.result == 'passed'\", steps: [{ run: echo a }] }
  plain: { needs: [flaky], steps: [{ run: echo a }] }
  not: { needs: [once], if: \"failure() && params.level != 'low'\", steps: [{ run: echo a }] }
",
    );
    let cofferdam = Cofferdam::new().in_directory(project.path());
    let run = |arguments: &[&str]| {
        let token = ["--secret", "TOKEN=hunter-two-two"];
        cofferdam.run([&["run", "--out", "results"], &token[..], arguments].concat()).expect(1);
        cofferdam.run(["explain", "--run", "results"]).expect(0)
    };
    let first = run(&[]).says(&[
        "job flaky passed\n  ran: it needs no other job\n  it is flaky",
        "try 1 failed: step `mkdir",
        "  tried again, as `retry` names `exit:75`",
        "  cache `deps-low`: missed: there was nothing of this key, nor of `restore`; ",
        "kept under this key",
        "    ran: its `if` holds: `params.level == 'low' && env.NONE == null`, where `params.level` is `low`, `env.NONE` is null",
        "skipped: its `if` does not hold: `secrets.TOKEN == 'x' || startsWith(params.level, 'h')`, where `secrets.TOKEN` is ***, `params.level` is `low`",
        "job once failed: step `exit 3`: it exited with code 3\n  ran: it needs no other job\n  not tried again: `retry` names no such cause",
        "  not tried again: `retry` has `max: 1`",
        "job after passed\n  ran: its `if` holds: `success() && needs.flaky.result == 'passed'`, where `success()` is `true`, `needs.flaky.result` is `passed`",
        "job plain passed\n  ran: all it needs passed: flaky",
        "job not skipped: its `if` does not hold: `failure() && params.level != 'low'`, where `failure()` is `true`, `params.level` is `low`",
    ]);
    assert!(!first.text().contains("hunter"), "{}", first.text());
    run(&[]).says(&["  cache `deps-low`: hit: it was there"]);
    run(&["--param", "level=high"]).says(&[
        "  cache `deps-high`: missed; `deps-low` was restored, which begins like one of `restore`; ",
    ]);
}

#[test]
fn the_schema_is_the_one_that_is_committed() {
    let printed = Cofferdam::new().run(["schema"]).expect(0).stdout;
    let path = repository().join("docs/cofferdam.schema.json");
    if std::env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always") {
        fs::write(&path, &printed).expect("write the schema");
    }
    let committed = fs::read_to_string(&path).expect("read the schema");
    assert!(printed == committed, "run `cofferdam schema > docs/cofferdam.schema.json`");
}

/// What of a wrong pipeline an editor can tell: unknown keys and missing ones.
const SHAPE: [&str; 2] = ["error[E0201]", "error[E0203]"];

/// PyYAML reads YAML 1.1, in which `on` is true; editors and Cofferdam read YAML 1.2.
const VALIDATE: &str = "\
import json, re, sys, yaml, jsonschema
BOOL = 'tag:yaml.org,2002:bool'
class Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {
        first: [(tag, rule) for tag, rule in rules if tag != BOOL]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
Loader.add_implicit_resolver(BOOL, re.compile('^(true|false)$'), list('tf'))
validator = jsonschema.Draft202012Validator(json.load(open(sys.argv[1])))
jsonschema.Draft202012Validator.check_schema(validator.schema)
for path in sys.argv[2:]:
    errors = list(validator.iter_errors(yaml.load(open(path), Loader)))
    print('refused' if errors else 'accepted', path, errors[:1] and errors[0].message)
";

#[test]
fn editors_can_use_the_schema() {
    needs!(Need::Program("python3"), Need::PythonModules("yaml, jsonschema"));
    let yaml = |directory: &str| {
        let list = fs::read_dir(fixture(directory)).expect("list fixtures");
        let paths = list.map(|entry| entry.expect("an entry").path());
        paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
            .filter(|path| path.file_name().is_some_and(|name| name != "outcomes.yml"))
    };
    let schema = repository().join("docs/cofferdam.schema.json");
    let validate = |paths: Vec<std::path::PathBuf>| {
        let output = program("python3")
            .args(["-c", VALIDATE])
            .arg(&schema)
            .args(paths)
            .output()
            .expect("python3");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let right = validate(yaml("pipelines").collect());
    let refused: Vec<&str> = right.lines().filter(|line| line.starts_with("refused")).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let wrong = yaml("invalid").filter(|path| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let message = fs::read_to_string(fixture(&format!("invalid/messages/{name}.snap")));
        SHAPE.iter().any(|code| message.as_ref().is_ok_and(|message| message.contains(code)))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.len() > 10, "only {} wrong shapes", wrong.len());
    let wrong = validate(wrong);
    let accepted: Vec<&str> = wrong.lines().filter(|line| line.starts_with("accepted")).collect();
    assert!(!wrong.is_empty() && accepted.is_empty(), "{accepted:#?}");
}
