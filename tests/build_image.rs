//! `cofferdam image build`: Dockerfiles as people write them, what they come to, and what is refused.

mod inputs;

use std::{fs, os::unix::fs::symlink, path::Path};

use serde_json::Value;

use crate::{
    binary::{Cofferdam, Ended, file},
    host::{Need, needs},
};

/// A directory with a Dockerfile and other files.
pub(crate) struct Context {
    directory: tempfile::TempDir,
}

impl Context {
    pub(crate) fn new(dockerfile: &str) -> Self {
        let context = Self { directory: tempfile::tempdir().expect("a directory") };
        context.file("Dockerfile", dockerfile)
    }

    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a directory above")).expect("make directories");
        file(self.path(), name, text);
        self
    }

    pub(crate) fn link(self, name: &str, target: impl AsRef<Path>) -> Self {
        symlink(target, self.path().join(name)).expect("a link");
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Builds it as the image `built`.
    pub(crate) fn build(&self, cofferdam: &Cofferdam, flags: &[&str]) -> Ended {
        let path = self.path().to_str().expect("a path that is text");
        cofferdam.run(["image", "build", "-t", "built", path].iter().chain(flags))
    }
}

fn inspect(cofferdam: &Cofferdam, name: &str) -> Value {
    let shown = cofferdam.run(["image", "inspect", name, "--json"]).expect(0);
    serde_json::from_str(&shown.stdout).expect("JSON")
}

/// What a command prints in the image `built`.
fn prints(cofferdam: &Cofferdam, script: &str) -> String {
    cofferdam.script_in("built", &["--workdir", "/"], script).expect(0).stdout
}

#[test]
fn every_instruction() {
    needs!(Need::Containers, Need::Busybox);
    let cofferdam = Cofferdam::with_busybox();
    let context = Context::new(
        r##"# syntax=docker/dockerfile:1
ARG BASE=busybox
FROM $BASE AS build
ARG VERSION=1 TARGETARCH
ENV GREETING="hello world" V=$VERSION
WORKDIR /work
COPY src ./src
COPY top src/a* out/
RUN echo "$GREETING $V" > result
RUN <<END
echo several > lines
echo "$V" >> lines
END
RUN <<END
#!/bin/sh
echo "by itself $0" > itself
END
RUN ["/bin/sh", "-c", "echo exec > exec"]
COPY --chmod=u+x,go-r <<script.sh /bin/script
#!/bin/sh
echo "script \$1 ${V}"
script.sh

FROM busybox AS unused
RUN false

FROM busybox AS side
RUN echo side > /side

FROM $BASE
COPY --from=build /work/result /work/lines /work/itself /work/exec /data/
COPY --from=build /work/out /out
COPY --from=side --chown=nobody:1000 /side /data/side
COPY --from=build /bin/script /bin/
LABEL org.example.title="an app"
MAINTAINER me
EXPOSE 80 8000-8001/udp
VOLUME /var/data
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s CMD true
ONBUILD COPY Dockerfile /triggered
SHELL ["/bin/sh", "-e", "-c"]
USER nobody
WORKDIR sub
CMD echo "as $(id -un)"
"##,
    )
    .file("src/a.txt", "a")
    .file("src/b.md", "b")
    .link("top", "src/b.md");
    let built = context.build(&cofferdam, &["--build-arg", "VERSION=7"]).expect(0);
    assert!(built.stderr.contains("W0720") && !built.stderr.contains("unused"), "{}", built.stderr);
    let printed = prints(
        &cofferdam,
        "cd /data; cat result lines itself exec side; stat -c '%n %U %g %a' side /bin/script; ls /out; cat /out/top",
    );
    insta::assert_snapshot!(printed);
    let as_root = cofferdam.script_in("built", &["--user", "0"], "/bin/script x").expect(0);
    assert_eq!(as_root.stdout, "script x 7\n");
    cofferdam.run(["exec", "built"]).expect(0).says(&["as nobody"]);
    let config = inspect(&cofferdam, "built")["configuration"]["config"].clone();
    insta::assert_snapshot!(serde_json::to_string_pretty(&config).expect("JSON"));

    // The trigger is for those that are built on it, and then gone.
    let child = Context::new("FROM built\nRUN cat /triggered\n");
    child.build(&cofferdam, &[]).expect(0).says(&["COPY Dockerfile /triggered", "FROM built"]);
    assert!(inspect(&cofferdam, "built")["configuration"]["config"].get("OnBuild").is_none());
}

/// What was done before is not done again, by anyone, until something that it depends on changes.
#[test]
fn steps_are_kept() {
    needs!(Need::Containers, Need::Busybox);
    let cofferdam = Cofferdam::with_busybox();
    let dockerfile = "FROM busybox\nARG V=1\nCOPY a /a\nRUN cat /a; echo made $V\nRUN echo end\n";
    let context = Context::new(dockerfile).file("a", "one");
    let made = |flags: &[&str]| {
        let built = context.build(&cofferdam, flags).expect(0);
        let cached = built.stderr.matches("cached").count();
        (cached, inspect(&cofferdam, "built")["id"].clone())
    };
    let (cached, first) = made(&[]);
    assert_eq!(cached, 0);
    assert_eq!(made(&[]), (2, first.clone()));
    assert_eq!(made(&["--no-cache"]), (0, first.clone()), "the same image again");
    file(context.path(), "a", "two");
    let (cached, second) = made(&[]);
    assert!(cached == 0 && second != first);
    file(context.path(), "a", "one");
    assert_eq!(made(&[]), (2, first), "what was kept is found again");
    assert_eq!(made(&["--build-arg", "V=2"]).0, 0, "a value is part of what a step depends on");
    // What the build does not see changes nothing.
    file(context.path(), ".dockerignore", "noise\n");
    file(context.path(), "noise", "x");
    assert_eq!(made(&[]).0, 2);
}

#[test]
fn one_stage_and_no_name() {
    needs!(Need::Containers, Need::Busybox);
    let cofferdam = Cofferdam::with_busybox();
    let context =
        Context::new("FROM busybox AS one\nRUN echo 1 > /n\nFROM one AS two\nRUN false\n");
    context.build(&cofferdam, &["--target", "ONE"]).expect(0);
    assert_eq!(prints(&cofferdam, "cat /n"), "1\n");
    context.build(&cofferdam, &["--target", "on"]).expect(65).says(&["no stage `on`", "`one`?"]);
    let path = context.path().to_str().expect("text");
    let quiet = cofferdam.run(["image", "build", "-q", "--target", "one", path]).expect(0);
    assert!(quiet.stdout.starts_with("sha256:") && quiet.stderr.is_empty(), "{}", quiet.text());
    let json = cofferdam.run(["image", "build", "--json", "--target", "one", path]).expect(0);
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!((&json["name"], &json["id"]), (&Value::Null, &quiet.stdout.trim().into()));
}

/// The fault of a program is the build's: which line, why, what to do; nothing is left.
#[test]
fn failures_say_where_and_why() {
    needs!(Need::Containers, Need::Busybox);
    let cofferdam = Cofferdam::with_busybox();
    for (dockerfile, flags, status, words) in [
        ("FROM busybox\nRUN exit 3", &[][..], 1, &["line 2", "code 3"][..]),
        ("FROM busybox\nRUN [\"/none\"]", &[], 1, &["line 2", "/none"]),
        ("FROM busybox\nRUN sleep 100", &["--timeout", "1s"], 124, &["line 2", "timed out"]),
        (
            "FROM busybox\nRUN dd if=/dev/zero of=/dev/shm/x bs=1M count=60",
            &["--memory", "32MiB"],
            1,
            &["line 2", "memory"],
        ),
        (
            "FROM busybox\nRUN dd if=/dev/zero of=/x bs=1M count=20",
            &["--disk", "8MiB"],
            1,
            &["disk"],
        ),
        (
            "FROM busybox\nRUN nslookup example.org || (echo 'bad address' >&2; exit 1)",
            &[],
            1,
            &["line 2", "--network HOST:PORT"],
        ),
        ("FROM busybox\nUSER nobody2\nRUN true", &[], 1, &["line 3", "nobody2"]),
        ("FROM busybox\nCOPY none /x", &[], 1, &["line 2", "there is no `none`"]),
        ("FROM busybox\nCOPY no*ne /x", &[], 1, &["line 2", "nothing matches `no*ne`"]),
        ("FROM busybox\nCOPY Dockerfile /bin/sh/x", &[], 1, &["line 2", "a file stands"]),
        ("FROM busybox\nCOPY --from=busybox /none /x", &[], 1, &["line 2", "`/none`"]),
        ("FROM busybox\nCOPY --chown=ghost Dockerfile /x", &[], 1, &["line 2", "ghost"]),
        ("FROM busybox\nARG P=../x\nCOPY $P /x", &[], 1, &["line 3", "outside of the context"]),
        ("FROM busybox\nARG P=x\nEXPOSE $P", &[], 65, &["E0702", "`x` is not a port"]),
        ("FROM busybox\nSTOPSIGNAL SIGNONE", &[], 65, &["E0702", "`SIGNONE`"]),
        ("FROM scratch\nRUN true", &[], 1, &["line 2", "no files"]),
        ("FROM none-such:1", &["--pull", "never"], 66, &["none-such"]),
        ("FROM busybox\nRUN --mount=type=ssh true", &[], 65, &["E0708"]),
    ] {
        Context::new(dockerfile).build(&cofferdam, flags).expect(status).says(words);
    }
    let context = Context::new("FROM busybox").file("Dockerfile.dockerignore", "[a\n");
    context.build(&cofferdam, &[]).expect(65).says(&["E0713", "Dockerfile.dockerignore"]);
    for (arguments, status, words) in [
        (&["image", "build", "/none"][..], 66, "/none"),
        (&["image", "build", "-f", "/none", "."], 66, "--file"),
        (&["image", "build", "-f", "/dev/zero", "."], 66, "not a regular file"),
        (&["image", "build", "-t", "Not A Name", "."], 2, "not an image name"),
        (&["image", "build", "--build-arg", "=x", "."], 2, "NAME=VALUE"),
        (&["image", "build", "--network", "learn", "."], 2, "exec --network learn"),
    ] {
        cofferdam.run(arguments).expect(status).says(&[words]);
    }
}

/// What a context holds leads nowhere else, and what it leaves out is not seen.
#[test]
fn contexts_are_closed() {
    needs!(Need::Containers, Need::Busybox);
    let cofferdam = Cofferdam::with_busybox();
    let outside = tempfile::tempdir().expect("a directory");
    let victim = file(outside.path(), "victim", "secret");
    let build = |dockerfile: &str, status: i32, words: &[&str]| {
        let context = Context::new(dockerfile)
            .file("dir/seen", "seen")
            .file("dir/hidden", "hidden")
            .file("left/out", "out")
            .file(".dockerignore", "left\n**/hidden\n!dir/seen\n")
            .link("to-victim", &victim)
            .link("to-directory", outside.path())
            .link("dir/inner", &victim);
        context.build(&cofferdam, &[]).expect(status).says(words);
    };
    build("FROM busybox\nCOPY to-victim /x", 1, &["there is no `to-victim`"]);
    build("FROM busybox\nCOPY to-directory/victim /x", 1, &["there is no `to-directory/victim`"]);
    build("FROM busybox\nCOPY to-directory/* /x/", 1, &["nothing matches"]);
    build("FROM busybox\nADD to-victim /x", 1, &["there is no `to-victim`"]);
    build("FROM busybox\nCOPY left/out /x", 1, &["left out of the context", "`!left/out`"]);
    build("FROM busybox\nCOPY dir/hidden /x", 1, &["left out of the context"]);
    build("FROM busybox\nCOPY left /x", 1, &["left out of the context"]);
    // A link in a directory stays a link, which leads nowhere in the image.
    build("FROM busybox\nCOPY . /x/\n", 0, &["built"]);
    let listed = prints(&cofferdam, "cd /x; find . | sort; cat dir/inner 2>&1 || true");
    assert!(listed.contains("./dir/seen") && listed.contains("./dir/inner"), "{listed}");
    assert!(!listed.contains("hidden") && !listed.contains("left") && !listed.contains("secret"));
    assert_eq!(fs::read(&victim).expect("the victim"), b"secret");
}

/// An image that wants files to go elsewhere, or the host's files to be read.
#[test]
fn images_lead_nowhere_else() {
    needs!(Need::Containers, Need::Busybox);
    let cofferdam = Cofferdam::with_busybox();
    let outside = tempfile::tempdir().expect("a directory");
    let victim = file(outside.path(), "victim", "root:x:4242:4242::/:/bin/sh\n");
    let at = outside.path().display().to_string();
    let trap = format!(
        "FROM busybox\nRUN ln -s {at} /trap && ln -s ../../../../../../{at}/victim /file \
         && ln -s /trap/new /new && rm /etc/passwd && ln -s {at}/victim /etc/passwd \
         && rm -f /etc/group && mkfifo /etc/group && mkdir -p {at}\n"
    );
    Context::new(&trap).build(&cofferdam, &[]).expect(0);
    let context = |lines: &str| {
        let context = Context::new(&format!("FROM built\n{lines}")).file("a", "new");
        let path = context.path().to_str().expect("text").to_owned();
        let ended = cofferdam.run(["image", "build", "-t", "sprung", &path]);
        assert_eq!(fs::read_dir(outside.path()).expect("list").count(), 1, "{lines}");
        assert!(fs::read_to_string(&victim).expect("the victim").starts_with("root:x:4242"));
        ended
    };
    for lines in ["COPY a /trap/", "COPY a /file", "COPY a /new", "WORKDIR /trap/x", "ADD a /trap"]
    {
        context(lines).expect(0);
    }
    // The names of owners are looked up in the image alone, and a FIFO is no file.
    context("COPY --chown=root a /x").expect(1).says(&["root"]);
    context("COPY --chown=7:8 a /x").expect(0);
    context("COPY --from=busybox --chown=0:staff /bin/sh /x").expect(1).says(&["staff"]);
}

/// Every image command can print what it did as JSON: a document, or one per line where there are
/// several.
#[test]
fn every_image_command_speaks_json() {
    needs!(Need::Containers, Need::Busybox);
    let cofferdam = Cofferdam::with_busybox();
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name).display().to_string();
    file(directory.path(), "Dockerfile", "FROM busybox\nENV A=b\n");
    let context = directory.path().display().to_string();
    let (oci, unpacked) = (at("oci"), at("unpacked"));
    for (arguments, keys) in [
        (&["build", "-t", "built", &context][..], &["name", "id", "layers"][..]),
        (&["tag", "built", "other"], &["name", "id"]),
        (&["ls"], &[]),
        (&["inspect", "other"], &["id", "names", "layers", "configuration"]),
        (&["history", "other"], &[]),
        (&["export", "other", &oci], &["name", "path", "digest"]),
        (&["import", &oci, "again"], &["name", "id", "layers"]),
        (&["unpack", "again", &unpacked], &["name", "id", "path", "entries", "bytes"]),
        (&["rm", "again"], &["name", "images", "layers", "bytes", "layers_in_use"]),
        (&["gc", "--dry-run"], &[]),
    ] {
        let ended = cofferdam.run([&["image"], arguments, &["--json"]].concat()).expect(0);
        let document: Value = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", ended.stdout));
        for key in keys {
            assert!(document.get(key).is_some(), "{arguments:?}: no `{key}` in {document}");
        }
    }
    let rest = cofferdam.run(["image", "diff", "busybox", "built", "--json"]).expect(0);
    assert_eq!(rest.stdout, "", "no file differs");
    let help = cofferdam.run(["image", "--help"]).expect(0).stdout;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    for line in commands.take_while(|line| !line.is_empty()) {
        let Some(name) = line.strip_prefix("  ").and_then(|line| line.split(' ').next()) else {
            continue;
        };
        if !name.is_empty() && name != "help" {
            let help = cofferdam.run(["image", name, "--help"]).expect(0).stdout;
            assert!(help.contains("--json"), "`image {name}` has no `--json`");
        }
    }
}

/// Dockerfiles of real kinds of projects, built on this machine's programs.
#[test]
fn projects() {
    needs!(Need::Containers);
    let cofferdam = Cofferdam::new();
    let build = |project: &str, flags: &[&str]| {
        let context = crate::binary::fixture("dockerfiles").join(project);
        let context = context.to_str().expect("a path that is text");
        cofferdam.run(["image", "build", "-t", project, context].iter().chain(flags)).expect(0)
    };
    for (project, program, flags, says) in [
        ("c", "gcc", &["--build-arg", "VERSION=3"][..], "hello world, version 3\n"),
        ("python", "python3", &[], "{'a': 2, 'b': 1}\n"),
        ("node", "node", &[], "HELLO!\n"),
    ] {
        needs!(Need::ProgramInside(program.to_owned()));
        let built = build(project, flags);
        assert!(!built.stderr.contains("[test "), "a stage that nothing needs was built");
        let ran = cofferdam.run(["exec", project]).expect(0);
        assert_eq!(ran.stdout, says, "{project}");
        let again = build(project, flags);
        assert!(again.stderr.contains("cached"), "{}", again.stderr);
    }
    build("c", &["--target", "test"]).says(&["[test "]);
    let layers = inspect(&cofferdam, "c")["layers"].clone();
    assert!(layers.as_array().expect("layers").len() > 1, "the test stage has its compiler");
}

/// As images of Alpine are: busybox, and nothing that is not in it.
#[test]
fn a_distribution_of_busybox() {
    needs!(Need::Containers, Need::Busybox);
    let cofferdam = Cofferdam::with_busybox();
    let context = crate::binary::fixture("dockerfiles/alpine-like");
    let context = context.to_str().expect("a path that is text");
    cofferdam.run(["image", "build", "-t", "built", context]).expect(0);
    let config = inspect(&cofferdam, "built")["configuration"]["config"].clone();
    assert_eq!((&config["User"], &config["WorkingDir"]), (&"app:app".into(), &"/opt/app".into()));
    let ran = cofferdam.run(["exec", "built"]).expect(0);
    assert_eq!(ran.stdout, "hello, busybox, from app\n");
    cofferdam.run(["image", "build", "-t", "built", context]).expect(0).says(&["cached"]);
}

/// Who builds may read more than who wrote the context.
#[test]
fn ignore_files_lead_nowhere_else() {
    needs!(Need::Containers, Need::Busybox);
    let cofferdam = Cofferdam::with_busybox();
    let elsewhere = tempfile::tempdir().expect("a directory");
    let secret = file(elsewhere.path(), "secret", "[not a pattern of the operator\n");
    let dockerfile = "FROM busybox\nCOPY . /all\n";
    for name in [".dockerignore", "Dockerfile.dockerignore"] {
        let context = Context::new(dockerfile).link(name, &secret);
        let ended = context.build(&cofferdam, &[]).expect(66).says(&["a link to elsewhere", name]);
        assert!(!ended.text().contains("pattern of the operator"), "{}", ended.text());
        let context = Context::new(dockerfile)
            .file("patterns", "secret\n")
            .file("secret", "x")
            .link(name, "patterns");
        context.build(&cofferdam, &[]).expect(0);
        assert_eq!(prints(&cofferdam, "test -e /all/secret || echo ignored"), "ignored\n");
    }
}
