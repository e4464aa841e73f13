//! What single instructions are given: mounts, archives, secrets; none of it stays where it should not.

use std::fs;

use super::{Context, inspect, prints};
use crate::{
    binary::{Cofferdam, file},
    host::{Need, needs},
};

/// What a step sees by `--mount` is there for it alone, and leaves nothing in its layer.
#[test]
fn mounts_of_a_step() {
    needs!(Need::Containers, Need::Busybox);
    let cofferdam = Cofferdam::with_busybox();
    let context = Context::new(
        "FROM busybox AS tools\nRUN mkdir /t && echo tool > /t/tool\n\
         FROM busybox\nRUN mkdir -p /cache/old /etc/kept && echo base > /cache/old/f\n\
         RUN --mount=type=cache,target=/cache,mode=0700,uid=7 \\\n\
             --mount=type=tmpfs,target=/scratch \\\n\
             --mount=from=tools,source=/t,target=/t \\\n\
             --mount=source=dir,target=/ctx,rw \\\n\
             --mount=type=bind,source=dir/one,target=/etc/one \\\n\
             stat -c '%a %u' /cache > /seen && ls /cache | wc -l >> /seen && cat /t/tool /ctx/one /etc/one >> /seen \\\n\
             && echo x > /cache/new && echo x > /scratch/new && echo x > /ctx/new && rm /t/tool && echo x > /etc/new\n",
    )
    .file("dir/one", "one\n")
    .file("dir/hidden", "hidden\n")
    .file(".dockerignore", "dir/hidden\n");
    context.build(&cofferdam, &[]).expect(0);
    let script =
        "cat /seen; ls -d /t /ctx /scratch /etc/one /cache/new 2>&1; cat /cache/old/f; ls /etc/new";
    let ended = cofferdam.script_in("built", &["--workdir", "/"], script);
    insta::assert_snapshot!(ended.stdout);
    // It depends on what it sees.
    context.build(&cofferdam, &[]).expect(0).says(&["cached"]);
    file(context.path(), "dir/one", "two\n");
    let built = context.build(&cofferdam, &[]).expect(0);
    assert_eq!(built.stderr.matches("cached").count(), 2, "{}", built.stderr);
    file(context.path(), "Dockerfile", "FROM busybox\nRUN --mount=type=tmpfs,target=/ true\n");
    context.build(&cofferdam, &[]).expect(65).says(&["E0708", "`/`"]);
    file(context.path(), "Dockerfile", "FROM busybox\nRUN --mount=source=../x,target=/x true\n");
    context.build(&cofferdam, &[]).expect(1).says(&["outside of the context"]);
}

/// Archives are unpacked by `ADD` alone, and what they try does not succeed.
#[test]
fn archives_that_are_added() {
    needs!(Need::Containers, Need::Busybox);
    let cofferdam = Cofferdam::with_busybox();
    let mut good = tar::Builder::new(Vec::new());
    let mut bad = tar::Builder::new(Vec::new());
    for (name, builder) in [("in/side", &mut good), ("escape", &mut bad)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o640);
        header.set_uid(1000);
        builder.append_data(&mut header, name, &b"abc"[..]).expect("an entry");
    }
    let good = good.into_inner().expect("an archive");
    let mut bad = bad.into_inner().expect("an archive");
    // The name and its sum, by hand: no tool writes such a name.
    bad[..9].copy_from_slice(b"../escape");
    let sum: u32 = bad[..512]
        .iter()
        .enumerate()
        .map(|(at, byte)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte }))
        .sum();
    bad[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let context = Context::new("FROM busybox\nADD good.tar /added\nCOPY good.tar /copied\n");
    fs::write(context.path().join("good.tar"), &good).expect("write");
    fs::write(context.path().join("bad.tar"), &bad).expect("write");
    fs::write(context.path().join("x.tar.xz"), b"\xfd7zXZ\0...").expect("write");
    context.build(&cofferdam, &[]).expect(0);
    let listed = prints(&cofferdam, "stat -c '%n %u %a %s' /added/in/side; wc -c < /copied");
    assert_eq!(listed, format!("/added/in/side 1000 640 3\n{}\n", good.len()));
    for (line, words) in [("ADD bad.tar /x", "line 2"), ("ADD x.tar.xz /x", "gzip or zstd")] {
        file(context.path(), "Dockerfile", format!("FROM busybox\n{line}\n"));
        context.build(&cofferdam, &[]).expect(1).says(&[words]);
    }
}

/// A secret is seen by the `RUN` that asks for it, and nowhere after that.
#[test]
fn secrets_of_a_step() {
    needs!(Need::Containers, Need::Busybox);
    let cofferdam = Cofferdam::with_busybox().variable("TOKEN", "correct-horse-battery");
    let dockerfile = "FROM busybox\n\
        RUN --mount=type=secret,id=TOKEN echo ran one; cat /run/secrets/TOKEN; wc -c < /run/secrets/TOKEN > /length\n\
        RUN --mount=type=secret,id=rc,target=/root/.config/rc --mount=type=secret,id=TOKEN,env=T \\\n  \
        echo \"$T\" | tr a-z A-Z | cut -c1-7 > /upper; cat /root/.config/rc; ls /run/secrets; mv /root/.config /moved; cat /moved/rc > /dev/null\n\
        RUN --mount=type=secret,id=none test ! -e /run/secrets/none; test ! -e /run/secrets/TOKEN; echo \"T is $T.\"\n\
        USER 1000\n\
        RUN --mount=type=secret,id=rc,mode=0400 cat /run/secrets/rc > /dev/null\n";
    let context =
        Context::new(dockerfile).file("rc", "password=staple-gun\n").file(".dockerignore", "*\n");
    let rc = context.path().join("rc");
    let rc = format!("id=rc,src={}", rc.display());
    let flags = ["--secret", "id=TOKEN", "--secret", rc.as_str()];
    let ended = context.build(&cofferdam, &flags).expect(0).says(&["ran one", "***", "T is ."]);
    let secrets = ["correct-horse", "staple-gun"];
    let clean = |what: &str, text: &str| {
        assert!(!secrets.iter().any(|secret| text.contains(secret)), "in {what}: {text}");
    };
    clean("the output", &ended.text());
    assert_eq!(
        prints(&cofferdam, "cat /length /upper; ls -A /run/secrets 2>/dev/null"),
        "21\nCORRECT\n"
    );
    // Not in the configuration, nor in any file of any layer, whatever the step did to where it was.
    clean("the history", &cofferdam.run(["image", "history", "built", "--json"]).expect(0).text());
    clean("the configuration", &inspect(&cofferdam, "built").to_string());
    let grep = crate::binary::program("grep")
        .args(["-rlE", "correct-horse|staple-gun"])
        .arg(cofferdam.state())
        .output()
        .expect("grep");
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "", "files of the state directory");
    // Another value is no reason to run it again, nor is none.
    let other =
        Cofferdam::with_busybox().with_state(cofferdam.state()).variable("TOKEN", "another-one");
    let ended = context.build(&other, &flags).expect(0);
    assert_eq!(ended.text().matches("  cached").count(), 4, "{}", ended.text());
    let ended = context.build(&other, &[]).expect(0);
    assert_eq!(ended.text().matches("  cached").count(), 4, "{}", ended.text());
    let check = |options: &str, flags: &[&str], status: i32, expect: &[&str]| {
        let context =
            Context::new(&format!("FROM busybox\nRUN --mount=type=secret,{options} true\n"));
        let ended = context.build(&cofferdam, flags).expect(status).says(expect);
        clean("a refusal", &ended.text());
    };
    check(
        "id=key,required=true",
        &[],
        65,
        &["not given the secret `key`", "--secret id=key,src=FILE"],
    );
    check("id=key,required", &[], 65, &["not given the secret `key`", "Dockerfile:2:"]);
    check("id=../x", &[], 65, &["cannot be the name of a secret"]);
    check("id=x", &["--secret", "id=x,src=/nowhere"], 66, &["/nowhere"]);
    check("id=x", &["--secret", "id=NOT_SET"], 2, &["`NOT_SET` is not set"]);
    check("id=x", &["--secret", "id=x,value=correct-horse-battery"], 2, &["there is no `value`"]);
    let short = Context::new("FROM busybox\n").file("short", "ab");
    let short = format!("id=x,src={}", short.path().join("short").display());
    check("id=x", &["--secret", &short], 2, &["cannot be masked"]);
}
