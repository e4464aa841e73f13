//! Pulls through a proxy that cuts, stalls, corrupts, redirects and lies.
//!
//! Whatever happens, the message names image, layer and host, and the store is as it was.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::{
    Server, needs_registry,
    picture::{MANIFEST, Picture, blob, digest},
    proxy::{Act, Proxy, Request},
    server::{Kind, PASSWORD, USER},
    trusting_for,
};
use crate::binary::{Cofferdam, Ended, file};

/// Pulls `app:1` of a registry through a proxy with this rule.
struct Scene {
    _server: Server,
    proxy: Proxy,
    directory: tempfile::TempDir,
    cofferdam: Cofferdam,
    /// The digest of the lowest layer, about a megabyte.
    layer: String,
}

impl Scene {
    fn new(rule: impl Fn(&Request, &str) -> Act + Send + Sync + 'static) -> Self {
        Self::of(&Picture::of(&["two"]), Kind::default(), rule)
    }

    fn of(
        picture: &Picture,
        kind: Kind,
        rule: impl Fn(&Request, &str) -> Act + Send + Sync + 'static,
    ) -> Self {
        let server = Server::of(kind);
        server.push(picture.layout(), "app:1");
        let layer = picture.manifest["layers"][0]["digest"].as_str().expect("a digest").to_owned();
        let wanted = layer.clone();
        let proxy = Proxy::start(server.port, move |request| rule(request, &wanted));
        let directory = tempfile::tempdir().expect("a directory");
        let cofferdam = trusting_for(directory.path(), &[proxy.name()], "3s");
        Self { _server: server, proxy, directory, cofferdam, layer }
    }

    fn name(&self) -> String {
        format!("{}/app:1", self.proxy.name())
    }

    fn pull(&self) -> Ended {
        self.cofferdam.run(["image", "pull", &self.name()])
    }

    /// Pulls, and it works.
    #[track_caller]
    fn succeeds(&self) {
        self.pull().expect(0).says(&["pulled"]);
    }

    /// Pulls, and it fails with this status and these words, image and host among them.
    #[track_caller]
    fn fails(&self, status: i32, says: &[&str]) -> Ended {
        let ended = self.pull().expect(status).says(says).says(&["app", &self.proxy.name()]);
        assert_whole(&self.cofferdam);
        ended
    }

    fn requests(&self) -> Vec<Request> {
        self.proxy.seen().into_iter().filter(|request| request.is_blob(&self.layer)).collect()
    }
}

/// There is no image, no layer, no lock and nothing half done.
#[track_caller]
fn assert_whole(cofferdam: &Cofferdam) {
    let store = cofferdam.state().join("store");
    for part in ["tmp", "locks", "names", "images/sha256", "layers/sha256", "layers/chain"] {
        let left: Vec<_> = std::fs::read_dir(store.join(part))
            .expect("a part of the store")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert!(left.is_empty(), "{part}: {left:?}");
    }
}

#[test]
fn a_broken_connection_is_resumed_where_it_broke() {
    needs_registry!();
    let scene = Scene::new(|request, layer| match request.before {
        0 if request.is_blob(layer) => Act::Cut(300_000),
        1 if request.is_blob(layer) => Act::Cut(200_000),
        _ => Act::Pass,
    });
    scene.succeeds();
    let requests = scene.requests();
    let ranges: Vec<_> = requests.iter().map(|request| request.header("range")).collect();
    assert_eq!(ranges, [None, Some("bytes=300000-"), Some("bytes=500000-")]);
}

/// A registry that knows no ranges sends everything again, and what came before is passed over.
#[test]
fn a_registry_without_ranges() {
    needs_registry!();
    let picture = Picture::of(&["two"]);
    let layer = picture.manifest["layers"][0]["digest"].as_str().expect("a digest").to_owned();
    let content = std::fs::read(picture.blob(&layer)).expect("read the layer");
    let scene = Scene::of(&picture, Kind::default(), move |request, layer| match request.before {
        0 if request.is_blob(layer) => Act::Cut(300_000),
        _ if request.is_blob(layer) => Act::document("application/octet-stream", content.clone()),
        _ => Act::Pass,
    });
    scene.succeeds();
}

#[test]
fn what_may_pass_is_tried_again() {
    needs_registry!();
    type Rule = fn(&Request, &str) -> Act;
    let rules: &[Rule] = &[
        |request, layer| match request.before {
            0 if request.is_blob(layer) => Act::Stall(100_000),
            _ => Act::Pass,
        },
        |request, layer| match request.before {
            0 | 1 if request.is_blob(layer) || request.is_manifest() => Act::status(500),
            _ => Act::Pass,
        },
        |request, _| match request.before {
            0 if request.is_manifest() => Act::Answer {
                status: 429,
                headers: vec![("Retry-After", "1".to_owned())],
                body: Vec::new(),
            },
            _ => Act::Pass,
        },
        |request, layer| match request.before {
            0 if request.is_blob(layer) => Act::Cut(0),
            _ => Act::Pass,
        },
    ];
    for rule in rules {
        Scene::new(rule).succeeds();
    }
}

#[test]
fn what_does_not_pass_is_given_up() {
    needs_registry!();
    type Rule = fn(&Request, &str) -> Act;
    let cases: &[(Rule, i32, &[&str])] = &[
        (
            |request, layer| if request.is_blob(layer) { Act::Cut(1000) } else { Act::Pass },
            70,
            &["in 4 tries", "broke after 4000 bytes of"],
        ),
        (
            |request, layer| if request.is_blob(layer) { Act::Stall(0) } else { Act::Pass },
            70,
            &["in 4 tries", "sent nothing for 3 s"],
        ),
        (
            |request, layer| if request.is_blob(layer) { Act::status(503) } else { Act::Pass },
            70,
            &["in 4 tries", "503 Service Unavailable", "try again later"],
        ),
        (
            |request, _| match request.is_manifest() {
                true => Act::Answer {
                    status: 429,
                    headers: vec![("Retry-After", "3600".to_owned())],
                    body: b"{\"errors\":[{\"code\":\"TOOMANYREQUESTS\"}]}".to_vec(),
                },
                false => Act::Pass,
            },
            70,
            &["429 Too Many Requests: TOOMANYREQUESTS", "log in"],
        ),
        (
            |request, layer| if request.is_blob(layer) { Act::status(404) } else { Act::Pass },
            1,
            &["404 Not Found", "sha256:"],
        ),
    ];
    for (rule, status, says) in cases {
        Scene::new(rule).fails(*status, says);
    }
}

/// What came is not what was promised: refused, and named by its digest.
#[test]
fn content_that_lies() {
    needs_registry!();
    let scene = Scene::new(|request, layer| match request.is_blob(layer) {
        true => Act::Corrupt(500_000),
        false => Act::Pass,
    });
    let layer = scene.layer.clone();
    scene.fails(1, &[&layer, "unpack layer"]);

    let picture = Picture::of(&["two"]);
    let mut content = std::fs::read(picture.blob(&layer)).expect("read the layer");
    content.resize(content.len() + (1 << 20), 0);
    let scene =
        Scene::of(&picture, Kind::default(), move |request, layer| match request.is_blob(layer) {
            true => Act::document("application/octet-stream", content.clone()),
            false => Act::Pass,
        });
    scene.fails(1, &[&layer, "sends more than the"]);

    // A manifest that is changed: sizes, diff ids, types.
    type Change = fn(&mut Value, &Picture);
    let cases: &[(Change, &[&str])] = &[
        (|manifest, _| manifest["layers"][0]["size"] = json!(5), &["sends more than the 5 bytes"]),
        (
            |manifest, _| manifest["layers"][0]["digest"] = json!(digest(b"other")),
            &["404 Not Found"],
        ),
        (
            |manifest, _| {
                manifest["layers"][0]["mediaType"] =
                    json!("application/vnd.oci.image.layer.v1.tar+zstd");
            },
            &["its compression is `gzip` where `zstd` was promised"],
        ),
        (|manifest, _| manifest["config"]["size"] = json!(5), &["more than the 5 bytes"]),
        (
            |manifest, _| manifest["config"]["mediaType"] = json!("application/x-cake"),
            &["`application/x-cake` is no image configuration"],
        ),
        (|manifest, _| manifest["mediaType"] = json!(super::picture::INDEX), &["says that it is"]),
        (
            |manifest, _| manifest["layers"][0]["urls"] = json!(["http://elsewhere.example/"]),
            &["foreign URLs"],
        ),
        (|manifest, _| manifest["schemaVersion"] = json!(1), &["schema version 2"]),
    ];
    for (change, says) in cases {
        let picture = Picture::of(&["two"]);
        let mut manifest = picture.manifest.clone();
        change(&mut manifest, &picture);
        let manifest = manifest.to_string().into_bytes();
        let scene =
            Scene::of(&picture, Kind::default(), move |request, _| match request.is_manifest() {
                true => Act::document(MANIFEST, manifest.clone()),
                false => Act::Pass,
            });
        scene.fails(1, says);
    }

    let scene = Scene::new(|request, _| match request.is_manifest() {
        true => Act::document("text/html", b"<html>".to_vec()),
        false => Act::Pass,
    });
    scene.fails(1, &["malformed"]);
    let scene = Scene::new(|request, _| match request.is_manifest() {
        true => Act::document(MANIFEST, vec![b' '; 5 << 20]),
        false => Act::Pass,
    });
    scene.fails(1, &["more than the 4194304 bytes"]);
}

/// A configuration with diff ids that the layers do not have, and a layer that is a bomb.
#[test]
fn layers_that_lie() {
    needs_registry!();
    let mut picture = Picture::of(&["two"]);
    let path = picture.blob(picture.manifest["config"]["digest"].as_str().expect("a digest"));
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON");
    config["rootfs"]["diff_ids"][0] = json!(digest(b"other"));
    let media = picture.manifest["config"]["mediaType"].as_str().expect("a type").to_owned();
    picture.manifest["config"] = blob(picture.layout(), &media, config.to_string().as_bytes());
    picture.index(&[picture.manifest_blob()]);
    let scene = Scene::of(&picture, Kind::default(), |_, _| Act::Pass);
    scene.fails(1, &["its diff id is", &scene.layer]);

    let mut picture = Picture::of(&["two"]);
    let script =
        "d=$(mktemp -d) && truncate -s 300M $d/zeros && tar -C $d -cf - zeros | gzip -n; rm -r $d";
    let bomb = crate::binary::program("sh").args(["-c", script]).output().expect("a bomb").stdout;
    let media = picture.manifest["layers"][0]["mediaType"].as_str().expect("a type").to_owned();
    picture.manifest["layers"][0] = blob(picture.layout(), &media, &bomb);
    picture.index(&[picture.manifest_blob()]);
    let scene = Scene::of(&picture, Kind::default(), |_, _| Act::Pass);
    scene.fails(1, &["more than 200 times the size", &scene.layer]);
}

/// Where a registry sends us, nobody hears who we are; and it cannot send us everywhere.
#[test]
fn redirects() {
    needs_registry!();
    let picture = Picture::of(&["two"]);
    let elsewhere = Server::start();
    elsewhere.push(picture.layout(), "app:1");
    let other = Proxy::start(elsewhere.port, |_| Act::Pass);
    let asking = Proxy::start(elsewhere.port, |_| Act::Answer {
        status: 401,
        headers: vec![("WWW-Authenticate", "Basic realm=\"give\"".to_owned())],
        body: Vec::new(),
    });
    let target = Mutex::new(String::new());
    let target: &'static Mutex<String> = Box::leak(Box::new(target));
    let kind = Kind { password: true, ..Kind::default() };
    let scene = || {
        let scene = Scene::of(&picture, kind, |request, layer| {
            let to = target.lock().expect("the target").clone();
            let known = request.header("authorization").is_some();
            match request.is_blob(layer) && known {
                true => Act::redirect(to.replace("PATH", &request.path)),
                false => Act::Pass,
            }
        });
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let auths = json!({ "auths": { scene.proxy.name(): { "auth": auth } } });
        let path = file(scene.directory.path(), "auth.json", auths.to_string());
        let path = path.display().to_string();
        let Scene { _server, proxy, directory, cofferdam, layer } = scene;
        let cofferdam = cofferdam.variable("REGISTRY_AUTH_FILE", &path);
        Scene { _server, proxy, directory, cofferdam, layer }
    };
    let to = |text: &str| text.clone_into(&mut target.lock().expect("the target"));

    to(&format!("http://{}PATH", other.name()));
    let redirected = scene();
    redirected.succeeds();
    assert!(redirected.requests().iter().any(|it| it.header("authorization").is_some()));
    assert!(!other.seen().is_empty());
    assert!(other.seen().iter().all(|request| request.header("authorization").is_none()));

    to(&format!("http://{}PATH", asking.name()));
    scene().fails(1, &["asks for credentials, which nobody else gets", &asking.name()]);
    assert!(asking.seen().iter().all(|request| request.header("authorization").is_none()));

    for (place, says) in [
        ("http://169.254.169.254/latest", "where no registry may send us"),
        ("http://10.0.0.1/x", "where no registry may send us"),
        ("http://[fe80::1]/x", "where no registry may send us"),
        ("file:///etc/passwd", "neither http nor https"),
        ("PATH", "redirects too often"),
    ] {
        to(place);
        scene().fails(1, &[says]);
    }
}
