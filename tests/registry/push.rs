//! `cofferdam image push` and `image export`: what comes out is what went in, for other tools too.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    Server, needs_registry,
    picture::Picture,
    proxy::{Act, Proxy},
    server::{Kind, PASSWORD, USER},
    told, trusting,
};
use crate::{
    binary::{self, Cofferdam, file, program},
    host::{Need, needs},
};

/// Runs skopeo, and gives back what it printed.
#[track_caller]
fn skopeo(arguments: &[&str]) -> String {
    let output = binary::skopeo().args(arguments).output();
    let output = output.expect("skopeo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The manifest that a registry has.
#[track_caller]
fn manifest(server: &Server, name: &str) -> Value {
    let target = format!("docker://{}/{name}", server.name());
    let text = skopeo(&["inspect", "--raw", "--tls-verify=false", &target]);
    serde_json::from_str(&text).expect("JSON")
}

/// Unpacks an OCI image layout with umoci, and reads a file of the root file system.
#[track_caller]
fn unpacked_by_umoci(layout: &Path, tag: &str, name: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let image = format!("{}:{tag}", layout.display());
    let output = program("umoci")
        .args(["raw", "unpack", "--rootless", "--image", &image])
        .arg(directory.path().join("rootfs"))
        .output();
    let output = output.expect("umoci");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read_to_string(directory.path().join("rootfs").join(name)).expect("read")
}

fn import(cofferdam: &Cofferdam, layout: &Path, name: &str) {
    let path = layout.to_str().expect("a path");
    cofferdam.run(["image", "import", path, name]).expect(0);
}

/// What is pushed, skopeo and umoci can take, and so can we; the digest is the same each time.
#[test]
fn others_take_what_is_pushed() {
    needs_registry!();
    needs!(Need::Containers, Need::Program("umoci"));
    let directory = tempfile::tempdir().expect("a directory");
    let (server, second) = (Server::start(), Server::start());
    let picture = Picture::of(&["one", "two"]);
    let cofferdam = trusting(directory.path(), &[server.name(), second.name()]);
    import(&cofferdam, picture.layout(), "local:1");
    let target = format!("{}/team/app:1", server.name());
    let pushed = cofferdam.run(["image", "push", "local:1", &target]).expect(0);
    pushed.says(&["3 layers", "layer 3/3 pushed", "pushed `"]);
    let again = format!("{}/team/app:1", second.name());
    let quiet = cofferdam.run(["image", "push", "--quiet", "local:1", &again]).expect(0);
    assert_eq!(manifest(&server, "team/app:1"), manifest(&second, "team/app:1"));
    let config = &manifest(&server, "team/app:1")["config"]["digest"];
    assert_eq!(*config, picture.manifest["config"]["digest"]);

    let layout = directory.path().join("layout");
    let layout_name = format!("oci:{}:one", layout.display());
    skopeo(&["copy", "-q", "--src-tls-verify=false", &format!("docker://{target}"), &layout_name]);
    assert_eq!(unpacked_by_umoci(&layout, "one", "layer-2"), "two");

    let fresh = trusting(directory.path(), &[server.name()]);
    let pinned = format!("{}/team/app@{}", server.name(), quiet.stdout.trim());
    for name in [&target, &pinned] {
        fresh.script_in(name, &[], "cat /layer-1 /layer-2").expect(0).says(&["onetwo"]);
    }

    let zstd = format!("{}/team/app:zstd", server.name());
    cofferdam.run(["image", "push", "--compression", "zstd", "local:1", &zstd]).expect(0);
    let media = &manifest(&server, "team/app:zstd")["layers"][2]["mediaType"];
    assert_eq!(*media, "application/vnd.oci.image.layer.v1.tar+zstd");
    fresh.script_in(&zstd, &[], "cat /layer-2").expect(0).says(&["two"]);
}

/// An image that was built from a Dockerfile is one like any other: to registries and other tools.
#[test]
fn others_take_what_is_built() {
    needs_registry!();
    needs!(Need::Containers, Need::Program("umoci"));
    let directory = tempfile::tempdir().expect("a directory");
    let (server, picture) = (Server::start(), Picture::of(&["one"]));
    let cofferdam = trusting(directory.path(), &[server.name()]);
    import(&cofferdam, picture.layout(), "base:1");
    let context = tempfile::tempdir().expect("a directory");
    file(
        context.path(),
        "Dockerfile",
        "FROM base:1\nRUN cat /layer-1 > /ran && echo built >> /ran\nCOPY --chown=7 Dockerfile /file\n\
         LABEL kept=yes\nEXPOSE 80\n",
    );
    let target = format!("{}/team/built:1", server.name());
    let path = context.path().to_str().expect("a path");
    cofferdam.run(["image", "build", "-t", &target, path]).expect(0);
    cofferdam.run(["image", "push", &target]).expect(0);
    let remote = format!("docker://{target}");
    let shown = skopeo(&["inspect", "--config", "--tls-verify=false", &remote]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["config"]["Labels"]["kept"], "yes");
    assert!(shown["config"]["ExposedPorts"].get("80/tcp").is_some(), "{shown}");
    let layout = directory.path().join("layout");
    let layout_name = format!("oci:{}:one", layout.display());
    skopeo(&["copy", "-q", "--src-tls-verify=false", &remote, &layout_name]);
    assert!(unpacked_by_umoci(&layout, "one", "ran").ends_with("built\n"));
    let fresh = trusting(directory.path(), &[server.name()]);
    fresh.script_in(&target, &[], "cat /ran; stat -c %u /file").expect(0).says(&["built\n7\n"]);
}

/// An extended attribute that a step gives to a file of the image is there for others, and what others
/// make of it is there for us.
#[test]
fn others_take_attributes() {
    needs_registry!();
    needs!(Need::Root, Need::Fetch, Need::Program("umoci"), Need::Program("python3"));
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start();
    let cofferdam = trusting(directory.path(), &[server.name()]);
    import(&cofferdam, &crate::images::debian(), "base:1");
    let context = tempfile::tempdir().expect("a directory");
    // There is no program for it in a minimal Debian, but there is setxattr(2); what it is given must not
    // be constant.
    let names = "my ($file, $name, $value) = (\"/etc/debian_version\", \"user.note\", \"kept\")";
    let call =
        "syscall(`uname -m` =~ /aarch64/ ? 5 : 188, $file, $name, $value, 4, 0) == 0 or die $!";
    let call = format!("{names}; {call}");
    file(context.path(), "Dockerfile", format!("FROM base:1\nRUN perl -e '{call}'\n"));
    let target = format!("{}/team/noted:1", server.name());
    let path = context.path().to_str().expect("a path");
    cofferdam.run(["image", "build", "-t", &target, path]).expect(0);
    cofferdam.run(["image", "push", &target]).expect(0);

    let layout = directory.path().join("layout");
    let layout_name = format!("oci:{}:one", layout.display());
    let remote = format!("docker://{target}");
    skopeo(&["copy", "-q", "--src-tls-verify=false", &remote, &layout_name]);
    let bundle = directory.path().join("bundle");
    let image = format!("{}:one", layout.display());
    let said = |command: &mut std::process::Command| {
        let ended = command.output().expect("start it");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8(ended.stdout).expect("text")
    };
    said(program("umoci").args(["unpack", "--rootless", "--image", &image]).arg(&bundle));
    let script = "import os, sys; print(os.getxattr(sys.argv[1], 'user.note').decode()); \
                  os.setxattr(sys.argv[1], 'user.note', b'changed')";
    let noted = bundle.join("rootfs/etc/debian_version");
    assert_eq!(said(program("python3").args(["-c", script]).arg(noted)), "kept\n");
    said(program("umoci").args(["repack", "--image", &image]).arg(&bundle));
    import(&cofferdam, &layout, "changed:1");
    let call = "$value = \"-\" x 9; my $most = syscall(`uname -m` =~ /aarch64/ ? 8 : 191, $file, $name, \
                $value, 9); print substr($value, 0, $most)";
    let read = format!("perl -e '{names}; {call}'");
    let fresh = trusting(directory.path(), &[server.name()]);
    for (cofferdam, image, expect) in
        [(&fresh, target.as_str(), "kept"), (&cofferdam, "changed:1", "changed")]
    {
        assert_eq!(cofferdam.script_in(image, &[], &read).expect(0).stdout, expect);
    }
}

/// Within a registry nothing is sent, and the image keeps its digest.
#[test]
fn what_the_registry_has_is_not_sent() {
    needs_registry!();
    let directory = tempfile::tempdir().expect("a directory");
    let (server, picture) = (Server::start(), Picture::of(&["one", "two"]));
    server.push(picture.layout(), "team/app:1");
    let proxy = Proxy::start(server.port, |_| Act::Pass);
    let cofferdam = trusting(directory.path(), &[proxy.name()]);
    let source = format!("{}/team/app:1", proxy.name());
    cofferdam.run(["image", "pull", &source]).expect(0);
    for name in ["team/app:2", "other/copy:1"] {
        let target = format!("{}/{name}", proxy.name());
        let pushed = cofferdam.run(["image", "push", "--json", &source, &target]).expect(0);
        let pushed: Value = serde_json::from_str(&pushed.stdout).expect("JSON");
        assert_eq!(pushed["digest"], picture.digest(), "{name}");
        assert_eq!(manifest(&server, name), picture.manifest, "{name}");
    }
    let seen = proxy.seen();
    let sent: Vec<_> = seen
        .iter()
        .filter(|request| request.method == "PUT" && request.path.contains("/blobs/"))
        .map(|request| request.header("content-length").expect("a length"))
        .collect();
    // The configuration is small, and goes without asking other repositories for it.
    assert!(sent.len() <= 1, "{sent:?}");
}

#[test]
fn pushes_that_are_refused_or_fail() {
    needs_registry!();
    let directory = tempfile::tempdir().expect("a directory");
    let picture = Picture::of(&["one"]);
    let server = Server::of(Kind { tls: true, password: true, ..Kind::default() });
    let configuration = format!(
        "registries: {{ '{}': {{ ca: {} }} }}\ndownloads: {{ attempts: 2 }}",
        server.name(),
        server.ca().display()
    );
    let cofferdam = told(directory.path(), &configuration);
    import(&cofferdam, picture.layout(), "local:1");
    let target = format!("{}/app:1", server.name());
    let stranger = cofferdam.run(["image", "push", "local:1", &target]).expect(70);
    stranger.says(&["no credentials for it", "docker login"]);
    cofferdam
        .run(["image", "push", "nothing:1", &target])
        .expect(66)
        .says(&["there is no image `nothing:1`"]);
    let pinned = format!("{}/app@{}", server.name(), picture.digest());
    cofferdam.run(["image", "push", "local:1", &pinned]).expect(1).says(&["only a tag"]);
    let auth = {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        STANDARD.encode(format!("{USER}:{PASSWORD}"))
    };
    let auths = json!({ "auths": { server.name(): { "auth": auth } } });
    let path = file(directory.path(), "auth.json", auths.to_string()).display().to_string();
    let known = cofferdam.variable("REGISTRY_AUTH_FILE", &path);
    known.run(["image", "push", "local:1", &target]).expect(0).says(&["pushed"]);

    // A fault that passes, one that does not, and a registry that wants the bytes elsewhere.
    type Rule = fn(&super::proxy::Request) -> Act;
    let cases: &[(Rule, i32, &[&str])] = &[
        (
            |request| match request.method.as_str() {
                "POST" if request.before == 0 => Act::status(503),
                _ => Act::Pass,
            },
            0,
            &["pushed"],
        ),
        (
            |request| if request.method == "PUT" { Act::status(500) } else { Act::Pass },
            70,
            &["in 4 tries", "500 Internal Server Error"],
        ),
        (
            |request| match request.method.as_str() {
                "POST" => Act::Answer {
                    status: 202,
                    headers: vec![("Location", "http://169.254.169.254/x".to_owned())],
                    body: Vec::new(),
                },
                _ => Act::Pass,
            },
            1,
            &["where no registry may send us"],
        ),
    ];
    for (rule, status, says) in cases {
        let server = Server::start();
        let proxy = Proxy::start(server.port, *rule);
        let cofferdam = trusting(directory.path(), &[proxy.name()]);
        import(&cofferdam, picture.layout(), "local:1");
        let target = format!("{}/app:1", proxy.name());
        cofferdam.run(["image", "push", "local:1", &target]).expect(*status).says(says);
        let left = std::fs::read_dir(cofferdam.state().join("store/tmp")).expect("list").count();
        assert_eq!(left, 0, "something is left in the store");
    }
}

/// Every form of export is read by other tools and by us, and is the same bytes each time.
#[test]
fn exports() {
    needs_registry!();
    needs!(Need::Containers, Need::Program("umoci"));
    let directory = tempfile::tempdir().expect("a directory");
    let picture = Picture::of(&["one", "two"]);
    let cofferdam = Cofferdam::new();
    import(&cofferdam, picture.layout(), "local:1");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let export = |name: &str, flags: &[&str]| {
        let target = path(name);
        let arguments = ["image", "export", "local:1", &target];
        cofferdam.run(arguments.iter().chain(flags)).expect(0).says(&["exported"]);
        target
    };
    let layout = export("layout", &[]);
    assert_eq!(unpacked_by_umoci(Path::new(&layout), "1", "layer-1"), "one");
    let archive = export("layout.tar", &[]);
    let docker = export("docker.tar", &["--format", "docker-archive"]);
    for (source, name) in [
        (format!("oci:{layout}:1"), "from-layout"),
        (format!("oci-archive:{archive}:1"), "from-archive"),
        (format!("docker-archive:{docker}"), "from-docker"),
    ] {
        let copy = path(name);
        skopeo(&["copy", "-q", &source, &format!("oci:{copy}:copied")]);
        assert_eq!(unpacked_by_umoci(Path::new(&copy), "copied", "layer-2"), "two");
    }
    for source in [&layout, &archive, &docker] {
        let fresh = Cofferdam::new();
        fresh.run(["image", "import", source, "again:1"]).expect(0);
        fresh.script_in("again:1", &[], "cat /layer-1 /layer-2").expect(0).says(&["onetwo"]);
    }
    let read = |name: &str| std::fs::read(path(name)).expect("read");
    for (first, flags) in
        [("layout.tar", &[][..]), ("docker.tar", &["--format", "docker-archive"][..])]
    {
        let second = format!("second-{first}");
        export(&second, flags);
        assert!(read(first) == read(&second), "{first} is not the same each time");
    }
    let there = cofferdam.run(["image", "export", "local:1", &layout]).expect(1);
    there.says(&["it is there already"]);
    let nowhere = path("no/such/directory.tar");
    cofferdam.run(["image", "export", "local:1", &nowhere]).expect(70).says(&["No such file"]);
    cofferdam
        .run(["image", "export", "nothing:1", &path("x")])
        .expect(66)
        .says(&["there is no image `nothing:1`"]);
    let left: Vec<_> = std::fs::read_dir(directory.path())
        .expect("list")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
