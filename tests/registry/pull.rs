//! `cofferdam image pull` from a real registry.

use serde_json::{Value, json};

use super::{
    Server, needs_registry,
    picture::{Picture, architecture, blob},
    server::{Kind, PASSWORD, USER},
    told, trusting,
};
use crate::{
    binary::{Cofferdam, copy_program, file},
    host::{Need, needs},
};

/// The names and ids of all images.
fn listed(cofferdam: &Cofferdam) -> Vec<String> {
    let ended = cofferdam.run(["image", "ls", "--json"]).expect(0);
    let list: Vec<Value> = serde_json::from_str(&ended.stdout).expect("JSON");
    list.iter().map(|image| image["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn by_tag_and_by_digest() {
    needs_registry!();
    needs!(Need::Containers);
    let directory = tempfile::tempdir().expect("a directory");
    let (server, picture) = (Server::start(), Picture::of(&["one", "two", "three"]));
    server.push(picture.layout(), "team/app:1");
    let cofferdam = trusting(directory.path(), &[server.name()]);
    let tag = format!("{}/team/app:1", server.name());
    let ended = cofferdam.run(["image", "pull", &tag]).expect(0);
    ended.says(&["4 layers", "layer 4/4 unpacked", "pulled"]);
    let script = "cat /layer-1 /layer-2 /layer-3; echo $LAYERS";
    cofferdam.script_in(&tag, &[], script).expect(0).says(&["onetwothreemany"]);
    let pinned = format!("{}/team/app@{}", server.name(), picture.digest());
    let ended = cofferdam.run(["image", "pull", "--json", &pinned]).expect(0);
    let image: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(image["id"], picture.manifest["config"]["digest"]);
    assert_eq!(
        (image["layers"].as_u64(), image["name"].as_str()),
        (Some(4), Some(pinned.as_str()))
    );
    let quiet = cofferdam.run(["image", "pull", "--quiet", &tag]).expect(0);
    let id = picture.manifest["config"]["digest"].as_str().expect("a digest");
    assert_eq!((quiet.stdout.trim(), quiet.stderr.as_str()), (id, ""));
    assert_eq!(listed(&cofferdam), [pinned, tag]);
}

/// Of several platforms this host's is taken, or the one that is asked for, which then does not run.
#[test]
fn several_platforms() {
    needs_registry!();
    needs!(Need::Containers);
    let directory = tempfile::tempdir().expect("a directory");
    let (server, picture) = (Server::start(), Picture::of(&["here"]));
    let other = if architecture() == "s390x" { "amd64" } else { "s390x" };
    let platform = |architecture: &str, mut descriptor: Value| {
        descriptor["platform"] = json!({ "architecture": architecture, "os": "linux" });
        descriptor
    };
    let config = picture.blob(picture.manifest["config"]["digest"].as_str().expect("a digest"));
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(config).expect("read")).expect("JSON");
    config["architecture"] = json!(other);
    let media = picture.manifest["config"]["mediaType"].as_str().expect("a type");
    let mut foreign = picture.manifest.clone();
    foreign["config"] = blob(picture.layout(), media, config.to_string().as_bytes());
    let foreign = blob(picture.layout(), super::picture::MANIFEST, foreign.to_string().as_bytes());
    let index = picture
        .nested(&[platform(other, foreign), platform(architecture(), picture.manifest_blob())]);
    server.push(picture.layout(), "many:1");
    let cofferdam = trusting(directory.path(), &[server.name()]);
    let tag = format!("{}/many:1", server.name());
    let pinned = format!("{}/many@{index}", server.name());
    for name in [&tag, &pinned] {
        cofferdam.run(["image", "pull", name]).expect(0);
        cofferdam.script_in(name, &[], "cat /layer-1").expect(0).says(&["here"]);
    }
    let wanted = format!("linux/{other}");
    cofferdam.run(["image", "pull", "--platform", &wanted, &tag]).expect(0);
    cofferdam
        .script_in(&tag, &[], "true")
        .expect(125)
        .says(&[&format!("is for `linux/{other}`"), "image pull"]);
    let nobody = ["image", "pull", "--platform", "linux/vax", &tag];
    cofferdam.run(nobody).expect(1).says(&["`linux/vax` is wanted", other, architecture()]);
    cofferdam.run(["image", "pull", "--platform", "windows/amd64", &tag]).expect(2);
}

/// A registry behind TLS, with a password: credentials come from the files of docker and podman
/// and from a helper, and from nowhere else.
#[test]
fn password_and_private_authority() {
    needs_registry!();
    let directory = tempfile::tempdir().expect("a directory");
    let kind = Kind { tls: true, password: true, ..Kind::default() };
    let (server, picture) = (Server::of(kind), Picture::of(&[]));
    server.push(picture.layout(), "app:1");
    let tag = format!("{}/app:1", server.name());
    let configuration = format!(
        "registries: {{ '{}': {{ ca: {} }} }}\ndownloads: {{ attempts: 2 }}",
        server.name(),
        server.ca().display()
    );
    let fresh = || told(directory.path(), &configuration);

    let nobody = fresh().run(["image", "pull", &tag]).expect(70);
    nobody.says(&["wants to know who asks", "no credentials for it", "docker login"]);

    let login = |password: &str| {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let auth = STANDARD.encode(format!("{USER}:{password}"));
        json!({ "auths": { server.name(): { "auth": auth } } }).to_string()
    };
    let docker = tempfile::tempdir().expect("a directory");
    file(docker.path(), "config.json", login(PASSWORD));
    let docker_path = docker.path().display().to_string();
    fresh().variable("DOCKER_CONFIG", &docker_path).run(["image", "pull", &tag]).expect(0);

    let podman = file(directory.path(), "auth.json", login(PASSWORD)).display().to_string();
    fresh().variable("REGISTRY_AUTH_FILE", &podman).run(["image", "pull", &tag]).expect(0);

    let wrong = file(directory.path(), "wrong.json", login("hunter22")).display().to_string();
    let refused = fresh().variable("REGISTRY_AUTH_FILE", &wrong).run(["image", "pull", &tag]);
    let refused = refused.expect(70).says(&["was not accepted", "docker login"]);
    assert!(!refused.text().contains("hunter22") && !refused.text().contains("Y2k6"));

    // Without the authority's certificate nothing is sent at all.
    let stranger = told(directory.path(), "downloads: { attempts: 2 }");
    let stranger = stranger.variable("REGISTRY_AUTH_FILE", &podman);
    stranger.run(["image", "pull", &tag]).expect(70).says(&["UnknownIssuer", "`ca`"]);
}

/// A helper says who asks, and is ended when it does not.
#[test]
fn credential_helpers() {
    needs_registry!();
    let directory = tempfile::tempdir().expect("a directory");
    let (server, picture) =
        (Server::of(Kind { password: true, ..Kind::default() }), Picture::of(&[]));
    server.push(picture.layout(), "app:1");
    let tag = format!("{}/app:1", server.name());
    let check = |script: &str, status: i32, says: &[&str]| {
        use std::os::unix::fs::PermissionsExt as _;
        let written = file(directory.path(), "written", script);
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&written, mode).expect("chmod");
        let helper = directory.path().join("docker-credential-tests");
        // Not over the one that may still run.
        std::fs::remove_file(&helper).ok();
        copy_program(written, &helper);
        file(directory.path(), "config.json", "{\"credsStore\":\"tests\"}");
        let path = format!("{}:/usr/bin:/bin", directory.path().display());
        let cofferdam = trusting(directory.path(), &[server.name()])
            .variable("PATH", &path)
            .variable("DOCKER_CONFIG", &directory.path().display().to_string());
        let ended = cofferdam.run(["image", "pull", &tag]).expect(status).says(says);
        assert!(!ended.text().contains("hunter22"), "{}", ended.text());
    };
    let answer = |secret: &str| {
        format!("printf '{{\"ServerURL\":\"x\",\"Username\":\"{USER}\",\"Secret\":\"{secret}\"}}'")
    };
    let name = server.name();
    check(
        &format!(
            "#!/bin/sh\ntest \"$1\" = get && test \"$(cat)\" = {name} && {}\n",
            answer(PASSWORD)
        ),
        0,
        &["pulled"],
    );
    check(&format!("#!/bin/sh\n{}\n", answer("hunter22")), 70, &["was not accepted"]);
    check(
        "#!/bin/sh\necho 'credentials not found in native keychain'; exit 1\n",
        70,
        &["no credentials for it"],
    );
    check("#!/bin/sh\necho 'the keychain is locked'; exit 1\n", 70, &["keychain is locked"]);
    check("#!/bin/sh\necho hunter22\n", 70, &["no answer of a credential helper"]);
    check("#!/bin/sh\nexec head -c 100000 /dev/zero\n", 70, &["more than 65536 bytes"]);
}

/// Two pulls of one image at once fetch each layer once.
#[test]
fn at_once() {
    needs_registry!();
    let directory = tempfile::tempdir().expect("a directory");
    let (server, picture) = (Server::start(), Picture::of(&["one", "two"]));
    server.push(picture.layout(), "app:1");
    let cofferdam = trusting(directory.path(), &[server.name()]);
    let tag = format!("{}/app:1", server.name());
    let children: Vec<_> = (0..4)
        .map(|_| cofferdam.command(["image", "pull", &tag]).spawn().expect("start"))
        .collect();
    let ended: Vec<_> = children.into_iter().map(|it| crate::binary::wait(it).expect(0)).collect();
    let unpacked: usize = ended.iter().map(|it| it.stderr.matches("unpacked").count()).sum();
    assert_eq!(unpacked, 3, "{ended:?}");
}

/// Names that cannot be meant, and registries that are not there.
#[test]
fn names_and_places_that_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let cofferdam = told(directory.path(), "downloads: { idle: 2s, attempts: 2 }\n");
    let check = |name: &str, status: i32, says: &[&str]| {
        cofferdam.run(["image", "pull", name]).expect(status).says(says);
    };
    check("Debian:12", 2, &["`Debian` has capital letters", "\n  Debian:12\n  ^^^^^^\n"]);
    check("a/b:c d", 2, &["the tag `c d`", "\n  a/b:c d\n      ^^^\n"]);
    check("169.254.169.254/latest", 1, &["no registry has such an address"]);
    check("[fe80::1]/x", 1, &["no registry has such an address"]);
    check("127.0.0.1:1/x", 70, &["`127.0.0.1:1`", "in 2 tries", "Connection refused"]);
    check("nowhere.invalid/x", 70, &["`nowhere.invalid`"]);
    check("host", 1, &["embedded image"]);
}
