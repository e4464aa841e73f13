//! `build` in the `images:` of a pipeline: Dockerfiles as jobs of the run, with all that jobs have.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::symlink,
    path::Path,
    process::Stdio,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    binary::{Cofferdam, Ended, file, kill},
    host::{Need, needs},
    residue::Snapshot,
};

const DOCKERFILE: &str = "FROM busybox AS unused\n\
     RUN exit 9\n\
     FROM busybox AS tool\n\
     ARG VERSION=none\n\
     RUN echo really ran; mkdir /made; echo $VERSION > /made/version\n\
     COPY data/ /made/\n\
     ENV PLACE=/made\n\
     FROM tool AS more\n\
     RUN exit 9\n";

/// A project whose pipeline makes the image `tool` like this, and has two jobs: one with it, one
/// without.
fn project(image: &str, dockerfile: &str) -> tempfile::TempDir {
    let project = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(project.path().join("image/data")).expect("directories");
    file(project.path(), "image/Dockerfile", dockerfile);
    file(project.path(), "image/data/file", "of the context\n");
    pipeline(project.path(), image);
    project
}

fn pipeline(project: &Path, image: &str) {
    let text = format!(
        "params: {{ version: {{ default: \"1\" }} }}\n\
         images:\n  tool: {image}\n\
         jobs:\n  use: {{ image: tool, steps: [{{ run: \"cat $PLACE/version $PLACE/file 2>/dev/null || true; echo tool $TOOL\" }}] }}\n  \
         beside: {{ image: busybox, steps: [{{ run: echo beside was here }}] }}\n"
    );
    file(project, "cofferdam.yml", text);
}

fn run(cofferdam: &Cofferdam, project: &Path, more: &[&str]) -> (Ended, Value) {
    let out = project.join("out");
    let out_name = out.to_string_lossy().into_owned();
    let ended = cofferdam.run(["run", "cofferdam.yml", "--out", &out_name].iter().chain(more));
    let record = fs::read_to_string(out.join("run.json")).unwrap_or_else(|_| "null".to_owned());
    (ended, serde_json::from_str(&record).expect("JSON"))
}

const IMAGE: &str = "{ build: { context: image, target: tool, args: { VERSION: \"v${{ params.version }}\" } }, steps: [{ run: echo over it > /made/over }], config: { env: { TOOL: hammer } } }";

#[test]
fn a_dockerfile_makes_an_image() {
    needs!(Need::Containers, Need::Busybox);
    let project = project(IMAGE, DOCKERFILE);
    let cofferdam = Cofferdam::with_busybox().in_directory(project.path());
    let says = |words: &[&str], expect: &str| drop(cofferdam.run(words).expect(0).says(&[expect]));
    says(&["plan", "cofferdam.yml"], "image tool  image/Dockerfile");
    says(&["plan", "cofferdam.yml", "--json"], "\"dockerfile\": \"image/Dockerfile\"");
    says(&["explain"], "starts from image/Dockerfile (its `build`)");
    let explained = cofferdam.run(["explain", "image tool"]).expect(0);
    assert!(!explained.text().contains("without a shell"), "{}", explained.text());
    let (first, record) = run(&cofferdam, project.path(), &[]);
    first.expect(0).says(&["[2/4] RUN", "| really ran", "| v1", "| of the context", "tool hammer"]);
    assert_eq!(record["jobs"][0]["image"]["reference"], "tool", "{record:#}");
    assert_eq!(
        record["jobs"][0]["attempts"][0]["steps"].as_array().map(Vec::len),
        Some(2),
        "{record:#}"
    );
    assert!(record["jobs"][0]["attempts"][0]["usage"].is_object(), "{record:#}");
    let again = run(&cofferdam, project.path(), &[]).0.expect(0).says(&["[2/4] cached", "| v1"]);
    assert!(!again.text().contains("| really ran"), "{}", again.text());
    // An argument is part of what a step is made from, and so are the files of the context.
    let (other, _) = run(&cofferdam, project.path(), &["--param", "version=2"]);
    other.expect(0).says(&["| really ran", "| v2"]);
    file(project.path(), "image/data/file", "another\n");
    let changed = run(&cofferdam, project.path(), &[]).0.expect(0).says(&["[2/4] cached"]);
    let changed = changed.says(&["| another"]);
    assert!(!changed.text().contains("| really ran"), "{}", changed.text());
}

/// The short form; and a name of the pipeline's is not what a Dockerfile means by it.
#[test]
fn an_image_may_have_the_name_of_what_it_is_made_from() {
    needs!(Need::Containers, Need::Busybox);
    let project = tempfile::tempdir().expect("a directory");
    file(project.path(), "Dockerfile", "FROM busybox\nRUN echo mine > /mine\n");
    let text = "images:\n  busybox: { build: . }\n\
                jobs:\n  use: { image: busybox, steps: [{ run: cat /mine }] }\n";
    file(project.path(), "cofferdam.yml", text);
    let cofferdam = Cofferdam::with_busybox().in_directory(project.path());
    run(&cofferdam, project.path(), &[]).0.expect(0).says(&["| mine"]);
}

/// More than a pipe holds, while nobody reads but the run itself.
#[test]
fn what_a_build_says_is_kept_whole() {
    needs!(Need::Containers, Need::Busybox);
    let lines = "RUN yes line | head -n 300000; echo the end\n".repeat(2);
    let project = project("{ build: image }", &format!("FROM busybox\n{lines}"));
    let cofferdam = Cofferdam::with_busybox().in_directory(project.path());
    let (ended, record) = run(&cofferdam, project.path(), &[]);
    ended.expect(0);
    let log = record["jobs"][0]["attempts"][0]["steps"][0]["log"]["path"].as_str().expect("a log");
    let log = fs::read_to_string(project.path().join("out").join(log)).expect("the log");
    assert_eq!(log.lines().filter(|line| *line == "line").count(), 300_000);
    assert_eq!(log.lines().filter(|line| line.contains("the end")).count(), 3);
}

#[test]
fn a_build_that_fails_is_a_job_that_fails() {
    needs!(Need::Containers, Need::Busybox);
    let check = |image: &str, instruction: &str, status: i32, expect: &[&str]| {
        let project = project(image, &format!("FROM host\n{instruction}\n"));
        let cofferdam = Cofferdam::with_busybox().in_directory(project.path());
        let (ended, record) = run(&cofferdam, project.path(), &[]);
        ended.expect(status).says(expect).says(&["beside was here"]);
        assert_ne!(record["jobs"][0]["conclusion"], "passed", "{record:#}");
        assert_eq!(record["jobs"][0]["conclusion"], record["jobs"][1]["conclusion"], "{record:#}");
        assert_eq!(record["jobs"][2]["conclusion"], "passed", "{record:#}");
    };
    let short = "{ build: image }";
    check(short, "RUN exit 3", 1, &["image/Dockerfile`, line 2", "exited with code 3"]);
    check(short, "COPY nothing /", 1, &["image/Dockerfile`, line 2", "nothing"]);
    let connect = "RUN [\"python3\", \"-c\", \"import socket; socket.create_connection(('192.0.2.1', 80), 2)\"]";
    check(short, connect, 1, &["Network is unreachable"]);
    check("{ build: image, timeout: 1s }", "RUN sleep 60", 124, &["timed out"]);
    check(
        "{ build: image, limits: { memory: 64MiB } }",
        "RUN head -c 200m /dev/zero | tail",
        1,
        &["memory", "image/Dockerfile`, line 2"],
    );
}

/// What can be known before anything runs is said then; the operator's files are not the pipeline's.
#[test]
fn refused_before_any_job() {
    needs!(Need::Containers, Need::Busybox);
    let secret = tempfile::tempdir().expect("a directory");
    file(secret.path(), "Dockerfile", "SECRET of the operator\n");
    let outside = secret.path().to_string_lossy().into_owned();
    let check = |image: &str, dockerfile: &str, status: i32, expect: &[&str]| {
        let project = project(image, dockerfile);
        symlink(secret.path().join("Dockerfile"), project.path().join("image/linked"))
            .expect("link");
        symlink(secret.path(), project.path().join("directory")).expect("a link");
        let cofferdam = Cofferdam::with_busybox().in_directory(project.path());
        let ended = run(&cofferdam, project.path(), &[]).0.expect(status).says(expect);
        let text = ended.text();
        assert!(!text.contains("beside was here") && !text.contains("SECRET"), "{text}");
    };
    let good = "FROM busybox\n";
    check("{ build: nowhere }", good, 66, &["for the image `tool`", "relative to the project"]);
    check("{ build: { context: image, dockerfile: none } }", good, 66, &["image/none"]);
    check("{ build: ../ }", good, 65, &["it is not in the project"]);
    check("{ build: directory }", good, 65, &["it is not in the project"]);
    check(&format!("{{ build: {outside} }}"), good, 65, &["it is not in the project"]);
    check("{ build: { context: image, dockerfile: linked } }", good, 65, &["not in the project"]);
    check("{ build: { context: image, target: none } }", good, 65, &["none", "1 fault"]);
    check("{ build: image }", "FROM busybox\nRUNN x\n", 65, &["image/Dockerfile:2", "RUNN"]);
    check("{ build: [image] }", good, 65, &["`build`"]);
    check("{ build: image, from: host }", good, 65, &["not both"]);
}

#[test]
fn an_interrupt_ends_a_build() {
    needs!(Need::Containers, Need::Busybox);
    let project = project("{ build: image }", "FROM busybox\nRUN echo under way; sleep 1000\n");
    let cofferdam = Cofferdam::with_busybox().in_directory(project.path());
    let mut command = cofferdam.command(["run", "cofferdam.yml", "--job", "use"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("start cofferdam");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    while !line.contains("| under way") {
        line.clear();
        assert!(output.read_line(&mut line).expect("read") > 0, "it ended before it was stopped");
    }
    kill(child.id(), Signal::SIGINT);
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("read");
    let status = child.wait().expect("wait");
    assert_eq!(status.code(), Some(130), "{rest}");
    let left = Snapshot::take(cofferdam.state());
    assert!(!left.names("process"), "{left:#?}");
}

/// The secrets that `build` names, and no others; an image without them is the same.
#[test]
fn secrets_of_a_build() {
    needs!(Need::Containers, Need::Busybox);
    let dockerfile = "FROM busybox\n\
        RUN --mount=type=secret,id=TOKEN --mount=type=secret,id=OTHER cat /run/secrets/TOKEN; echo; ls /run/secrets; wc -c < /run/secrets/TOKEN > /length\n";
    let project = project("{ build: { context: image, secrets: TOKEN } }", dockerfile);
    let text = fs::read_to_string(project.path().join("cofferdam.yml")).expect("the pipeline");
    file(project.path(), "cofferdam.yml", format!("secrets: [TOKEN, OTHER]\n{text}"));
    let cofferdam = Cofferdam::with_busybox().in_directory(project.path());
    let given = ["--secret", "TOKEN=correct-horse", "--secret", "OTHER=staple-gun"];
    let (ended, record) = run(&cofferdam, project.path(), &given);
    let ended = ended.expect(0).says(&["| ***", "| TOKEN"]);
    assert!(!ended.text().contains("| OTHER"), "{}", ended.text());
    let said = format!("{}{record}", ended.text());
    assert!(!said.contains("correct-horse") && !said.contains("staple-gun"), "{said}");
    let log = record["jobs"][0]["attempts"][0]["steps"][0]["log"]["path"].as_str().expect("a log");
    let log = fs::read_to_string(project.path().join("out").join(log)).expect("the log");
    assert!(log.contains("***") && !log.contains("correct-horse"), "{log}");
    run(&cofferdam, project.path(), &[]).0.expect(0).says(&["[1/1] cached"]);
    file(project.path(), "cofferdam.yml", text.replace("secrets: TOKEN", "secrets: [NEAR]"));
    cofferdam.run(["check"]).expect(65).says(&["NEAR", "declare it at the top"]);
}

/// `plan` and `explain` say of each instruction that makes a layer what a build would do, and do
/// nothing themselves.
#[test]
fn what_is_kept_of_each_instruction_is_said() {
    needs!(Need::Containers, Need::Busybox);
    const DOCKERFILE: &str = "FROM busybox AS build\n\
        ARG FLAVOR=plain\n\
        COPY a /in/\n\
        RUN --mount=type=bind,source=b,target=/c echo built $FLAVOR > /out; cp /c /b\n\
        FROM busybox\n\
        WORKDIR /srv\n\
        ENV NAME=value\n\
        COPY --from=build /out /b ./\n\
        RUN --mount=type=secret,id=TOKEN,required=true cat out\n";
    let project = project("{ build: { context: image, secrets: TOKEN } }", DOCKERFILE);
    let path = |name: &str| project.path().join(name);
    let text = fs::read_to_string(path("cofferdam.yml")).expect("the pipeline");
    file(project.path(), "cofferdam.yml", format!("secrets: [TOKEN]\n{text}"));
    file(&path("image"), "a", "a\n");
    file(&path("image"), "b", "b\n");
    let cofferdam = Cofferdam::with_busybox().in_directory(project.path());
    let lines = |words: &[&str]| -> String {
        let said = cofferdam.run(words).expect(0).stdout;
        let lines = said.lines().filter(|line| line.starts_with("    ") && line.contains(": "));
        lines.map(str::trim).collect::<Vec<_>>().join("\n")
    };
    let plan = || lines(&["plan"]);
    let built = || {
        run(&cofferdam, project.path(), &["--secret", "TOKEN=correct-horse"]).0.expect(0);
    };
    insta::assert_snapshot!(plan(), @"
    will be built: 0 of 5 layers are kept
    [build 2/3] COPY a /in/: will be made: no layer has these files
    [build 3/3] RUN --mount=type=bind,source=b,target=/c echo built $FLAVOR > /out; cp /c /b: will be run, after step 2
    [target 1/4] WORKDIR /srv: will be made: no layer has these files
    [target 3/4] COPY --from=build /out /b ./: will be run, after step 1
    [target 4/4] RUN --mount=type=secret,id=TOKEN,required=true cat out: will be run, after step 1
    ");
    built();
    insta::assert_snapshot!(plan(), @"
    [build 2/3] COPY a /in/: kept from an earlier build
    [build 3/3] RUN --mount=type=bind,source=b,target=/c echo built $FLAVOR > /out; cp /c /b: kept from an earlier build
    [target 1/4] WORKDIR /srv: kept from an earlier build
    [target 3/4] COPY --from=build /out /b ./: kept from an earlier build
    [target 4/4] RUN --mount=type=secret,id=TOKEN,required=true cat out: kept from an earlier build
    ");
    // Files that are copied, a file that is only seen, a variable, a command.
    file(&path("image"), "a", "changed\n");
    insta::assert_snapshot!(plan(), @"
    will be built: 1 of 5 layers are kept
    [build 2/3] COPY a /in/: will be made: no layer has these files
    [build 3/3] RUN --mount=type=bind,source=b,target=/c echo built $FLAVOR > /out; cp /c /b: will be run, after step 2
    [target 1/4] WORKDIR /srv: kept from an earlier build
    [target 3/4] COPY --from=build /out /b ./: not known: the stage `build` is built first
    [target 4/4] RUN --mount=type=secret,id=TOKEN,required=true cat out: not known: the stage `build` is built first
    ");
    file(&path("image"), "a", "a\n");
    file(&path("image"), "b", "changed\n");
    insta::assert_snapshot!(plan(), @"
    will be built: 2 of 5 layers are kept
    [build 2/3] COPY a /in/: kept from an earlier build
    [build 3/3] RUN --mount=type=bind,source=b,target=/c echo built $FLAVOR > /out; cp /c /b: will be run: what is mounted is not as before
    [target 1/4] WORKDIR /srv: kept from an earlier build
    [target 3/4] COPY --from=build /out /b ./: not known: the stage `build` is built first
    [target 4/4] RUN --mount=type=secret,id=TOKEN,required=true cat out: not known: the stage `build` is built first
    ");
    file(&path("image"), "b", "b\n");
    let file = |text: &str| file(&path("image"), "Dockerfile", text);
    file(&DOCKERFILE.replace("plain", "other"));
    insta::assert_snapshot!(plan(), @"
    will be built: 2 of 5 layers are kept
    [build 2/3] COPY a /in/: kept from an earlier build
    [build 3/3] RUN --mount=type=bind,source=b,target=/c echo built $FLAVOR > /out; cp /c /b: will be run: the variable `FLAVOR` is not as before
    [target 1/4] WORKDIR /srv: kept from an earlier build
    [target 3/4] COPY --from=build /out /b ./: not known: the stage `build` is built first
    [target 4/4] RUN --mount=type=secret,id=TOKEN,required=true cat out: not known: the stage `build` is built first
    ");
    file(&DOCKERFILE.replace("cat out", "cat b"));
    insta::assert_snapshot!(plan(), @"
    will be built: 4 of 5 layers are kept
    [build 2/3] COPY a /in/: kept from an earlier build
    [build 3/3] RUN --mount=type=bind,source=b,target=/c echo built $FLAVOR > /out; cp /c /b: kept from an earlier build
    [target 1/4] WORKDIR /srv: kept from an earlier build
    [target 3/4] COPY --from=build /out /b ./: kept from an earlier build
    [target 4/4] RUN --mount=type=secret,id=TOKEN,required=true cat b: will be run: the command is not as before
    ");
    insta::assert_snapshot!(lines(&["explain", "image tool"]), @"
    will be built: 4 of 5 layers are kept
    [build 2/3] COPY a /in/: kept from an earlier build
    [build 3/3] RUN --mount=type=bind,source=b,target=/c echo built $FLAVOR > /out; cp /c /b: kept from an earlier build
    [target 1/4] WORKDIR /srv: kept from an earlier build
    [target 3/4] COPY --from=build /out /b ./: kept from an earlier build
    [target 4/4] RUN --mount=type=secret,id=TOKEN,required=true cat b: will be run: the command is not as before
    ");
    let planned = cofferdam.run(["plan", "--json"]).expect(0).stdout;
    let json: Value = serde_json::from_str(&planned).expect("JSON");
    let layer = &json["jobs"][0]["steps"][0]["layer"];
    assert_eq!(layer["kept"], Value::Bool(false));
    assert_eq!(layer["instructions"][4]["layer"]["new"], serde_json::json!(["the command"]));
    // What was said holds.
    file(DOCKERFILE);
    built();
    insta::assert_snapshot!(plan(), @"
    [build 2/3] COPY a /in/: kept from an earlier build
    [build 3/3] RUN --mount=type=bind,source=b,target=/c echo built $FLAVOR > /out; cp /c /b: kept from an earlier build
    [target 1/4] WORKDIR /srv: kept from an earlier build
    [target 3/4] COPY --from=build /out /b ./: kept from an earlier build
    [target 4/4] RUN --mount=type=secret,id=TOKEN,required=true cat out: kept from an earlier build
    ");
    file(&DOCKERFILE.replace("FROM busybox\n", "FROM elsewhere:1\n"));
    let unknown = "[target 1/4] WORKDIR /srv: not known: failed to find the image `elsewhere:1`";
    assert!(plan().contains(unknown), "{}", plan());
}
