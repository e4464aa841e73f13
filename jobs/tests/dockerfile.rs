//! What is said about wrong Dockerfiles: a table per area, and a picture per case.
#![expect(clippy::unwrap_used, reason = "the helpers of tests may panic as tests do")]

use std::fmt::Write as _;

use cofferdam_jobs::{
    Code, Sources,
    diagnostic::{Report, render::render_all},
    dockerfile::{Base, Kind, Request, Scope, Word, parse, parse_trigger, select},
};

/// Draws what is wrong with each case; a case without a fault is a fault of the table.
fn drawn(cases: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (title, text) in cases {
        let mut sources = Sources::new();
        let file = sources.add("Dockerfile", text.as_bytes());
        let mut read = parse(&sources, file);
        // What is only seen when the stages are looked for.
        if let Some(dockerfile) = &read.dockerfile {
            let mut report = Report::new();
            let selection = select(dockerfile, &request(), &mut report);
            read.diagnostics.extend(report.finish());
            assert!(selection.is_some() || !read.diagnostics.is_empty(), "{title}");
        }
        assert!(!read.diagnostics.is_empty(), "{title}: nothing is wrong");
        let picture = render_all(&read.diagnostics, &sources, false);
        write!(out, "## {title}\n{picture}\n\n").unwrap();
    }
    out
}

fn request() -> Request {
    Request { platform: "linux/amd64".to_owned(), ..Request::default() }
}

/// An instruction in a stage.
fn stage(instruction: &str) -> String {
    format!("FROM debian:12\n{instruction}\n")
}

macro_rules! check {
    ($($name:ident: [$($title:literal => $text:expr,)*];)*) => {$(
        #[test]
        fn $name() {
            let cases = [$(($title, $text.to_string()),)*];
            let cases: Vec<(&str, &str)> =
                cases.iter().map(|(title, text)| (*title, text.as_str())).collect();
            insta::assert_snapshot!(drawn(&cases));
        }
    )*};
}

check! {
    text: [
        "nothing" => "",
        "only comments" => "# syntax=docker/dockerfile:1\n\n# hello\n",
        "escape that is none" => "# escape=/\nFROM a\n",
        "directive twice" => "# escape=`\n# escape=\\\nFROM a\n",
        "another language" => "# syntax=example.org/own/frontend:2\nFROM a\n",
        "control character" => "FROM a\nRUN echo \u{1b}[31m\n",
        "here-document without an end" => stage("RUN <<EOF\necho a\n EOF"),
        "second here-document without an end" => stage("COPY <<A <<B /x/\na\nA\nb"),
        "escape in a here-document" => stage("COPY <<EOF /x\nprintf 'a\\n'\nEOF"),
        "here-document in a trigger" => stage("ONBUILD RUN <<EOF\na\nEOF"),
    ];
    instructions: [
        "misspelt" => stage("RNU make"),
        "of another program" => stage("INSTALL gcc"),
        "forgotten continuation" => stage("RUN apt-get update &&\n    apt-get install -y gcc"),
        "no arguments" => "FROM\n",
        "each without arguments" => stage("ADD\nARG\nCMD\nCOPY\nENTRYPOINT\nENV\nEXPOSE\nHEALTHCHECK\nLABEL\nMAINTAINER\nONBUILD\nRUN\nSHELL\nSTOPSIGNAL\nUSER\nVOLUME\nWORKDIR"),
        "before FROM" => "RUN make\nFROM debian:12\n",
        "no FROM" => "ARG A=b\n",
        "deprecated" => stage("MAINTAINER me <me@example.org>"),
        "trigger of a trigger" => stage("ONBUILD ONBUILD RUN x"),
        "trigger with FROM" => stage("ONBUILD FROM x"),
        "faulty trigger" => stage("ONBUILD COPY a"),
    ];
    stages: [
        "words after the image" => "FROM debian 12\n",
        "misspelt AS" => "FROM debian:12 SA build\n",
        "name missing" => "FROM debian:12 AS\n",
        "bad name" => "FROM debian:12 AS 1st\n",
        "name twice" => "FROM a AS x\nFROM b AS X\n",
        "image that is none" => "FROM Debian:12:1\n",
        "image that is empty" => "ARG BASE\nFROM ${BASE}\n",
        "variable misspelt" => "ARG BASE=debian:12\nFROM $BAES\n",
        "variable of a stage" => "FROM a AS one\nARG V=1\nFROM b:$V\n",
        "platform" => "FROM --platform=linux/s390x a\n",
        "unknown flag" => "FROM --plaftorm=linux/amd64 a\n",
        "unknown stage" => "FROM a AS build\nFROM b\nCOPY --from=Biuld! x y\n",
        "later stage by number" => "FROM a\nCOPY --from=1 x y\nFROM b\n",
        "itself" => "FROM a AS me\nCOPY --from=0 x y\n",
        "variable in from" => "FROM a AS b\nARG S=b\nCOPY --from=$S x y\n",
    ];
    variables: [
        "not closed" => stage("ENV A=${B"),
        "no name" => stage("ENV A=${}"),
        "operator" => stage("ENV A=${B@Q}"),
        "quote" => stage("ENV A=\"b"),
        "single quote, on the second line" => stage("ENV A=1 \\\n    B='c"),
        "too deep" => stage(&format!("ENV A={}{}", "${A:-".repeat(20), "}".repeat(20))),
        "no equals sign" => stage("ENV A=b c"),
        "no value" => stage("ENV A"),
        "no name before the equals sign" => stage("LABEL =b"),
        "argument" => stage("ARG 1A\nARG A-B=c"),
        "needed" => "ARG V\nFROM a:${V:?needed}\n",
    ];
    files: [
        "no destination" => stage("COPY a"),
        "several to one file" => stage("COPY a b /c"),
        "outside" => stage("COPY ../a /a\nADD a/../../b /b"),
        "url" => stage("ADD https://example.org/a.tar.gz /a"),
        "git" => stage("ADD git@example.org:a/b.git /a\nADD https://example.org/a/b.git#v1 /b"),
        "url in copy" => stage("COPY https://example.org/a /a"),
        "mode" => stage("COPY --chmod=rwx a /a\nCOPY --chmod=9999 a /a"),
        "unknown flag" => stage("COPY --form=x a /a"),
        "flag without a value" => stage("COPY --chown a /a"),
        "flag twice" => stage("COPY --chown=a --chown=b a /a"),
        "flag after the source" => stage("ADD --from=x a /a"),
        "not supported" => stage("COPY --parents a/b /a\nADD --checksum=sha256:0 a /a"),
        "link that is neither" => stage("COPY --link=maybe a /a"),
        "not a list" => stage("COPY ['a', '/c/']"),
    ];
    runs: [
        "nothing" => stage("RUN --network=none"),
        "empty list" => stage("RUN []"),
        "almost a list" => stage("CMD ['sh', '-c']"),
        "network" => stage("RUN --network=hots true\nRUN --network=host true"),
        "privileged" => stage("RUN --security=insecure true"),
        "mount type" => stage("RUN --mount=type=cahce,target=/x true"),
        "mount for keys" => stage("RUN --mount=type=ssh true"),
        "mount option" => stage("RUN --mount=type=cache,taget=/x true"),
        "mount option of another type" => stage("RUN --mount=type=tmpfs,target=/x,sharing=locked true"),
        "mount without target" => stage("RUN --mount=type=cache,id=x true"),
        "mount values" => stage("RUN --mount=type=cache,target=/x,sharing=all true\nRUN --mount=type=cache,target=/x,mode=9 true\nRUN --mount=type=tmpfs,target=/x,size=big true\nRUN --mount=type=cache,target=/x,uid=me true\nRUN --mount=target=/x,ro=perhaps true"),
        "secret without a name" => stage("RUN --mount=type=secret true"),
        "cache with content" => stage("RUN --mount=type=cache,target=/x,from=a true"),
        "unknown flag" => stage("RUN --mout=type=cache,target=/x true"),
        "shell" => stage("SHELL bash -c\nSHELL []"),
    ];
    metadata: [
        "port" => stage("EXPOSE 80 http 99999 80/icmp 9-1"),
        "volume" => stage("VOLUME [\"\"]"),
        "two users" => stage("USER me you"),
        "two signals" => stage("STOPSIGNAL SIGTERM SIGKILL"),
        "health" => stage("HEALTHCHECK --interval=5 CMD true\nHEALTHCHECK --retries=x CMD true\nHEALTHCHECK NONE CMD true\nHEALTHCHECK CMD\nHEALTHCHECK curl x"),
    ];
    several_at_once: [
        "all are shown, in the order of the file" => "FORM a\nFROM debian:12 AS\nRUN --mount=type=ssh x\nCOPY a\nENV A=${B\nEXPOSE http\nWORKIDR /x\n",
    ];
}

/// The faults of a file that is made to take the reader down.
fn codes(text: &str) -> Vec<Code> {
    let mut sources = Sources::new();
    let file = sources.add("Dockerfile", text.as_bytes());
    let read = parse(&sources, file);
    assert!(read.dockerfile.is_none());
    let drawn = render_all(&read.diagnostics, &sources, false);
    assert!(drawn.len() < 64 * 1024, "drawn in {} bytes", drawn.len());
    let mut codes: Vec<_> = read.diagnostics.iter().map(|fault| fault.code).collect();
    codes.dedup();
    codes
}

#[test]
fn what_is_too_large_is_refused() {
    let heredocs = |count: usize| {
        let open: String = (0..count).map(|number| format!(" <<H{number}")).collect();
        let bodies: String = (0..count).map(|number| format!("x\nH{number}\n")).collect();
        stage(&format!("RUN cat{open}\n{bodies}"))
    };
    for (text, expect) in [
        ("FROM a\n".to_owned() + &"RUN x\n".repeat(2_000), Code::DockerfileTooLarge),
        ("FROM a\n".repeat(201), Code::DockerfileTooLarge),
        (stage(&format!("ENV {}", "A=b ".repeat(3_000))), Code::DockerfileTooLarge),
        (stage(&format!("COPY {} /x/", "a ".repeat(3_000))), Code::DockerfileTooLarge),
        (
            stage(&format!("RUN <<EOF\n{}EOF", "x".repeat(300 * 1024) + "\n")),
            Code::DockerfileTooLarge,
        ),
        (heredocs(33), Code::DockerfileTooLarge),
        (format!("FROM a\nRUN {}", "x".repeat(2 * 1024 * 1024)), Code::FileTooLong),
        (stage(&format!("ENV A={}", "${A:-".repeat(100_000))), Code::DockerfileSubstitution),
    ] {
        let codes = codes(&text);
        assert!(codes.contains(&expect), "{codes:?} for {:.60}", text);
    }
    let faults = codes(&stage(&"RNU x\n".repeat(1_500)));
    assert_eq!(faults.last(), Some(&Code::TooManyFaults));
}

fn read(text: &str) -> cofferdam_jobs::dockerfile::Dockerfile {
    let mut sources = Sources::new();
    let file = sources.add("Dockerfile", text.as_bytes());
    let read = parse(&sources, file);
    assert_eq!(read.diagnostics, [], "{text}");
    read.dockerfile.unwrap()
}

#[test]
fn only_the_stages_that_are_needed() {
    let file = read(
        "ARG BASE=debian:12\nARG UNSET\nFROM $BASE AS tools\nFROM tools AS build\nCOPY --from=alpine:3 /x /x\n\
         FROM scratch AS docs\nRUN --mount=from=tools,target=/t x\nFROM build AS test\nRUN x\n\
         FROM ${OTHER:-busybox}\nCOPY --from=build /a /a\nCOPY --from=2 /b /b\n",
    );
    for (target, arguments, expect) in [
        (None, vec![], vec![(0, "debian:12"), (1, "#0"), (2, "-"), (4, "busybox")]),
        (Some("test"), vec![], vec![(0, "debian:12"), (1, "#0"), (3, "#1")]),
        (Some("TOOLS"), vec![("BASE", "x:1")], vec![(0, "x:1")]),
        (Some("2"), vec![], vec![(0, "debian:12"), (2, "-")]),
    ] {
        let request = Request {
            target: target.map(str::to_owned),
            arguments: arguments.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            ..request()
        };
        let mut report = Report::new();
        let selection = select(&file, &request, &mut report);
        assert_eq!(report.finish(), []);
        let selection = selection.unwrap();
        let stages: Vec<_> = selection
            .stages
            .iter()
            .map(|selected| {
                let base = match &selected.base {
                    Base::Scratch => "-".to_owned(),
                    Base::Stage(number) => format!("#{number}"),
                    Base::Image(name) => name.clone(),
                };
                (selected.stage, base)
            })
            .collect();
        let expect: Vec<_> = expect.into_iter().map(|(at, base)| (at, base.to_owned())).collect();
        assert_eq!(stages, expect, "{target:?}");
    }
}

#[test]
fn what_the_caller_asks_for_has_to_be_there() {
    let file = read("ARG VERSION=1\nFROM a:$VERSION AS build\nARG DEBUG\nFROM b AS test\n");
    let mut report = Report::new();
    let arguments = [("VERSOIN", "2"), ("DEBUG", "1"), ("https_proxy", "x")];
    let request = Request {
        target: Some("biuld".to_owned()),
        arguments: arguments.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..request()
    };
    assert!(select(&file, &request, &mut report).is_none());
    insta::assert_snapshot!(render_all(&report.finish(), &Sources::new(), false));
}

/// The model of a file with every instruction.
#[test]
fn everything_is_read() {
    let file = read(
        r##"# syntax=docker/dockerfile:1
# check=skip=all
ARG BASE=debian:12
FROM --platform=$BUILDPLATFORM $BASE AS Build
ARG A B="two words" C=${A:-c}
ENV X=1 Y='a b' Z="$X" \
    # a comment in between
    W=\$X
ENV OLD and new
LABEL org.example.title="an app" $X=y
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN --mount=type=cache,target=/var/cache,id=apt,sharing=locked,mode=0700,uid=1 \
    --mount=type=secret,id=token,env=TOKEN,required=true \
    --mount=type=tmpfs,dst=/tmp,size=64m \
    --mount=type=bind,from=busybox,source=/bin,target=/b,rw --network=none \
    make
RUN ["make", "-j", "2"]
RUN <<EOF
echo $X
EOF
RUN <<'EOF'
#!/usr/bin/python3
print(1)
EOF
RUN cat <<A >x && cat <<B
1
A
2
B
COPY --chown=app:$X --chmod=u+x --link a b* dir/
COPY ["with space", "/x/"]
COPY --exclude=*.md <<one <<-"two" c /x/
$X
one
	$X
two
ADD a.tar.gz /opt
WORKDIR /a b
USER app:app
EXPOSE 80 53/udp $X
VOLUME /data ["x"]
VOLUME ["/a b"]
STOPSIGNAL SIGINT
HEALTHCHECK --interval=1m30s --retries=3 CMD curl -f http://localhost/
ONBUILD RUN make
ENTRYPOINT ["/app"]
CMD --help
"##,
    );
    let kinds: Vec<String> =
        file.stages[0].instructions.iter().map(|it| format!("{:?}", it.kind)).collect();
    // Places are tested elsewhere.
    let mut shown = kinds.join("\n");
    for open in [", span: Span {", "span: Span {"] {
        while let Some((before, after)) = shown.split_once(open) {
            shown = format!("{before}{}", after.split_once('}').unwrap().1);
        }
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn variables_of_an_image_are_known_to_triggers() {
    let mut sources = Sources::new();
    let file = sources.add("ONBUILD", b"COPY $DIR /x");
    let (instruction, faults) = parse_trigger(&sources, file);
    assert_eq!(faults, []);
    let Some(Kind::Copy(copy)) = instruction.map(|it| it.kind) else { panic!("no COPY") };
    let mut scope = Scope::new('\\');
    assert!(scope.set_environment("DIR", "src"));
    let expand = |word: &Word| scope.expand(word, &mut Report::new());
    assert_eq!(expand(&copy.sources[0]).as_deref(), Some("src"));
    let file = sources.add("ONBUILD", b"COPY --from=build a b");
    let (_, faults) = parse_trigger(&sources, file);
    assert_eq!(faults, [], "an image may be called so");
}
