//! `RUN --mount=type=cache`: what one build leaves for the next, and nobody else.

use std::fs;

use serde_json::Value;

use crate::{
    binary::{Cofferdam, file},
    build_image::Context,
    host::{Need, has_ids, needs},
};

/// What a `RUN` leaves in a cache the next one finds, whatever the rest of the image is, and nothing of
/// it gets into a layer; one that fails leaves nothing, and what a job could misuse is not kept.
#[test]
fn found_again() {
    needs!(Need::Containers, Need::Busybox);
    let cofferdam = Cofferdam::with_busybox();
    let context = Context::new("");
    let built = |text: &str, status: i32| {
        file(context.path(), "Dockerfile", text);
        context.build(&cofferdam, &[]).expect(status)
    };
    let of = |options: &str, script: &str| {
        format!("FROM busybox\nRUN --mount=type=cache,target=/c{options} {script}\n")
    };
    // The first makes it, with links that lead elsewhere and a program that would be root.
    let text = of(
        ",mode=0700,uid=7",
        "ls /c | wc -l > /seen; echo one > /c/file; ln -s /etc/passwd /c/link; mkfifo /c/pipe; \
         cp /bin/busybox /c/su; chmod 4755 /c/su; chown 7 /c/file; chmod 750 /root; echo x > /root/x",
    );
    built(&text, 0);
    let seen = "cat /seen; ls -d /c/* 2>&1; stat -c %a /root";
    let ended = cofferdam.script_in("built", &["--workdir", "/"], seen).expect(0);
    assert_eq!(ended.stdout, "0\nls: /c/*: No such file or directory\n750\n", "{}", ended.stderr);
    // What is there is seen, and directories above it are as this image has them.
    let seen = "(stat -c '%n %a %u' /root /c /c/file /c/su; cat /c/file; readlink /c/link; ls /c)";
    built(&of(",mode=0755", &format!("{seen} > /seen && echo two > /c/file && touch /root/y")), 0);
    let ended = cofferdam.script_in("built", &[], "cat /seen; stat -c '%a' /root").expect(0);
    // With a single id all files are root's.
    let owner = if has_ids() { 7 } else { 0 };
    let expect = format!(
        "/root 700 0\n/c 700 {owner}\n/c/file 644 {owner}\n/c/su 755 0\n\
         one\n/etc/passwd\nfile\nlink\nsu\n700\n"
    );
    assert_eq!(ended.stdout, expect);
    // Neither a failure nor a reader changes it; another name, place or Dockerfile has another.
    built(&of("", "echo three > /c/file; false"), 1);
    built(&of(",ro", "cat /c/file > /seen; echo three > /c/file"), 0);
    let read = || cofferdam.script_in("built", &[], "cat /seen").expect(0).stdout;
    assert_eq!(read(), "two\n");
    built(&of(",sharing=locked", "cat /c/file > /seen; rm -r /c/*"), 0);
    assert_eq!(read(), "two\n");
    built(&of("", "echo four > /c/file; ls /c > /seen"), 0);
    assert_eq!(read(), "file\n");
    built(&of(",id=other", "ls /c | wc -l > /seen"), 0);
    assert_eq!(read(), "0\n");
    let other = Context::new(&of("", "ls -A /c | wc -l > /seen"));
    other.build(&cofferdam, &[]).expect(0);
    assert_eq!(read(), "0\n");
    // One of each is kept: two names here, one of the other Dockerfile.
    let scopes = fs::read_dir(cofferdam.state().join("caches")).expect("list");
    let kept = scopes.map(|scope| scope.expect("an entry").path());
    let kept = kept.filter(|path| !path.ends_with("unfinished"));
    let kept = kept.map(|path| fs::read_dir(path).expect("list").count());
    assert_eq!(kept.sum::<usize>(), 3);
}

/// Which cache a `RUN` has does not decide whether it is done again, as what a cache holds does not;
/// where it is, and what a new one is like, do.
#[test]
fn in_no_key() {
    needs!(Need::Containers, Need::Busybox);
    let cofferdam = Cofferdam::with_busybox();
    let context = Context::new("");
    let made = |options: &str| {
        let script = "cat /proc/sys/kernel/random/uuid > /made; echo > /c/file";
        let mount = format!("--mount=type=cache{options}");
        file(context.path(), "Dockerfile", format!("FROM busybox\nRUN {mount} {script}\n"));
        context.build(&cofferdam, &[]).expect(0);
        cofferdam.script_in("built", &[], "cat /made").expect(0).stdout
    };
    let first = made(",target=/c");
    for same in [",target=/c,id=other", ",target=/c,sharing=locked", ",id=/c,target=/c,ro"] {
        assert_eq!(made(same), first, "{same}");
    }
    for another in [",target=/c,mode=0700", ",target=/d --mount=type=cache,target=/c"] {
        assert_ne!(made(another), first, "{another}");
    }
}

/// Caches of builds and of jobs share one bound: what was not used for longest goes.
#[test]
fn bounded() {
    needs!(Need::Containers, Need::Busybox);
    let context = Context::new("");
    let cofferdam = Cofferdam::with_busybox().in_directory(context.path());
    let build = |script: &str| {
        let run =
            |cache: &str| format!("RUN --mount=type=cache,target=/{cache} cd /{cache}; {script}\n");
        let text = format!("FROM busybox\n{}{}", run("first"), run("second"));
        file(context.path(), "Dockerfile", text);
        context.build(&cofferdam, &[]).expect(0)
    };
    build("head -c 1048576 /dev/zero > file");
    let pipeline = "jobs: { build: { image: busybox, cache: [{ key: one, paths: [made] }], steps: [{ run: \
                    mkdir made; head -c 1048576 /dev/zero > made/file }] } }\n";
    file(context.path(), "cofferdam.yml", pipeline);
    // Two of the three.
    cofferdam.run(["run", "--cache-size", "2500KiB"]).expect(0);
    build("ls >> /seen");
    assert_eq!(cofferdam.script_in("built", &[], "cat /seen").expect(0).stdout, "file\n");
}

/// They are listed with those of jobs, and go when they are told to, but for one in use.
#[test]
fn listed_and_removed() {
    needs!(Need::Containers, Need::Busybox);
    let context = Context::new(
        "FROM busybox\nRUN --mount=type=cache,target=/c --mount=type=cache,id=other,target=/d \
         chown 7 /c || true; head -c 5000 /dev/zero > /c/file; touch /d/file\n",
    );
    let cofferdam = Cofferdam::with_busybox().in_directory(context.path());
    cofferdam.run(["cache", "rm", "--all"]).expect(0);
    let list = || -> Vec<Value> {
        let listed = cofferdam.run(["cache", "ls", "--json"]).expect(0).stdout;
        let mut listed: Vec<Value> = serde_json::from_str(&listed).expect("a list");
        // Two may have been kept within one tick of the clock.
        listed.sort_by_key(|it| it["key"].to_string());
        listed
    };
    assert_eq!(list().len(), 0);
    context.build(&cofferdam, &[]).expect(0);
    let pipeline = "jobs: { build: { image: busybox, cache: [{ key: \"two\\e[2J\", paths: [made] }], \
                    steps: [{ run: mkdir made }] } }\n";
    file(context.path(), "cofferdam.yml", pipeline);
    cofferdam.run(["run"]).expect(0);
    let all = list();
    let named = |all: &[Value]| -> Vec<String> {
        all.iter().map(|it| format!("{} {} {}", it["of"], it["key"], it["target"])).collect()
    };
    assert_eq!(
        named(&all),
        [r#""build" "/c" "/c""#, r#""build" "other" "/d""#, r#""job" "two\u001b[2J" null"#]
    );
    assert!(all[0]["bytes"].as_u64() >= Some(5000), "{}", all[0]);
    let shown = cofferdam.run(["cache", "ls"]).expect(0).says(&["CACHE", "other at /d", "two"]);
    assert!(!shown.stdout.contains('\u{1b}'), "{}", shown.stdout);

    // None goes where one of them is not there, or is no whole id.
    let id = all[1]["id"].as_str().expect("an id");
    for wrong in ["none", "../../store", &id[..11]] {
        cofferdam.run(["cache", "rm", id, wrong]).expect(66).says(&["there is no cache"]);
    }
    // The lock of who is shown it.
    let caches = cofferdam.state().join("caches");
    let places = fs::read_dir(&caches).expect("list").flat_map(|scope| {
        let scope = scope.expect("an entry").path();
        fs::read_dir(scope).expect("list").map(|place| place.expect("an entry").path())
    });
    let descriptions = places.map(|place| place.join("entry.json"));
    let used: Vec<_> = descriptions
        .filter(|it| fs::read_to_string(it).is_ok_and(|text| text.contains("other")))
        .map(|it| {
            let lock = fs::File::open(it).expect("open");
            lock.lock_shared().expect("lock");
            lock
        })
        .collect();
    assert_eq!(used.len(), 1);
    cofferdam.run(["cache", "rm", id]).expect(1).says(&["is in use and stays"]);
    assert_eq!(list().len(), 3);
    let gone = cofferdam.run(["cache", "rm", "--all", "--json"]).expect(1).stdout;
    assert_eq!(gone.matches("\"removed\":true").count(), 2, "{gone}");
    drop(used);
    cofferdam.run(["cache", "rm", id]).expect(0).says(&["removed"]);
    assert_eq!(list().len(), 0);
    let left = fs::read_dir(caches.join("unfinished")).expect("list").count();
    assert_eq!(left, 0, "what was removed is still there");
    cofferdam.run(["cache", "rm"]).expect(2);
}

/// Stages side by side lose nothing of a locked cache.
#[test]
fn locked() {
    needs!(Need::Containers, Need::Busybox);
    let cofferdam = Cofferdam::with_busybox();
    let count = "n=$(cat /c/n || echo 0); echo $((n + 1)) > /c/n";
    let mount =
        "--mount=type=cache,target=/c,sharing=locked --mount=type=cache,target=/d,sharing=locked";
    let mut text: String = (0..4)
        .map(|stage| {
            format!("FROM busybox AS s{stage}\nRUN {mount} {count}; echo {stage} > /done\n")
        })
        .collect();
    text += "FROM busybox\n";
    text.extend((0..4).map(|stage| format!("COPY --from=s{stage} /done /done{stage}\n")));
    text += "RUN --mount=type=cache,target=/c cat /c/n > /seen\n";
    Context::new(&text).build(&cofferdam, &[]).expect(0);
    assert_eq!(cofferdam.script_in("built", &[], "cat /seen").expect(0).stdout, "4\n");
}

/// What a program puts in the place of a cache leads nowhere, and what was kept before stays.
#[test]
fn hostile() {
    needs!(Need::Containers, Need::Busybox);
    let cofferdam = Cofferdam::with_busybox();
    let context = Context::new("");
    let run = |script: &str| {
        let text = format!(
            "FROM busybox\nRUN mkdir -p /real && ln -s /real /way\n\
             RUN --mount=type=cache,target=/c --mount=type=cache,target=/way/c {script}\n"
        );
        file(context.path(), "Dockerfile", text);
        context.build(&cofferdam, &[]).expect(0)
    };
    run("echo kept > /c/file; echo kept > /way/c/file").says(&["cache `/way/c` is not kept"]);
    for (script, seen) in [
        ("rm -r /c; ln -s /etc /c", "kept\n"),
        ("rm -r /c", "kept\n"),
        ("rm /c/file; ln -s /etc/passwd /c/file", "root:x:0:0:root:/root:/bin/sh\n"),
        (
            "d=/c; for i in $(seq 140); do d=$d/d; done; mkdir -p $d",
            "root:x:0:0:root:/root:/bin/sh\n",
        ),
        ("rm -r /c; echo file > /c", ""),
    ] {
        run(script);
        run(&format!("head -n 1 /c/file > /seen; test -d /c # {script}"));
        let found = cofferdam.script_in("built", &[], "cat /seen").expect(0).stdout;
        assert_eq!(found, seen, "{script}");
    }
}
