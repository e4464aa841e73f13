//! A registry that takes tokens of another service (distribution specification, "token
//! authentication"): each token is for one repository and what is to be done there.

use std::{
    io::Write as _,
    path::Path,
    process::Stdio,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use super::{
    needs_registry,
    picture::Picture,
    proxy::{Act, Proxy, Request},
    server::{Kind, PASSWORD, Server, USER, openssl},
    trusting,
};
use crate::binary::{file, program};

/// Gives tokens for everything to [`USER`], and to strangers for pulling what is in `open/`.
fn service(directory: &Path) -> Proxy {
    openssl(
        directory,
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=tokens -keyout token.key -out token.crt",
    );
    let directory = directory.to_owned();
    Proxy::start(0, move |request| answer(&directory, request))
}

fn answer(directory: &Path, request: &Request) -> Act {
    let known = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let known = match request.header("authorization") {
        None => false,
        Some(proof) if proof == known => true,
        Some(_) => return Act::status(401),
    };
    let query = request.path.split_once('?').map_or("", |(_, query)| query);
    let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
    let access = |scope: &str| -> Option<Value> {
        let scope = scope.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
        let (rest, actions) = scope.rsplit_once(':')?;
        let name = rest.strip_prefix("repository:")?;
        let open = name.starts_with("open/") && actions == "pull";
        let actions: Vec<_> = actions.split(',').collect();
        (known || open).then(|| json!({ "type": "repository", "name": name, "actions": actions }))
    };
    let access: Vec<_> = scopes.filter_map(access).collect();
    let token = signed(directory, &json!(access));
    let body = json!({ "token": token, "expires_in": 300 }).to_string();
    Act::document("application/json", body.into_bytes())
}

/// A JSON Web Token (RFC 7519) by RS256, with the certificate that vouches for it (RFC 7515, `x5c`).
fn signed(directory: &Path, access: &Value) -> String {
    let certificate = std::fs::read_to_string(directory.join("token.crt")).expect("read");
    let certificate: String = certificate.lines().filter(|line| !line.starts_with('-')).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
    let head = json!({ "typ": "JWT", "alg": "RS256", "x5c": [certificate] });
    let claims = json!({
        "iss": "tests", "sub": USER, "aud": "test", "jti": "1",
        "iat": now, "nbf": now - 60, "exp": now + 300, "access": access,
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(&head), part(&claims));
    let mut signer = program("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(directory.join("token.key"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl");
    signer.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("write");
    let signature = signer.wait_with_output().expect("openssl").stdout;
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn login(directory: &Path, registry: &str, password: &str) -> String {
    let auth = STANDARD.encode(format!("{USER}:{password}"));
    let auths = json!({ "auths": { registry: { "auth": auth } } });
    file(directory, &format!("{password}.json"), auths.to_string()).display().to_string()
}

/// The password goes to the service alone, the registry hears of tokens only, and all requests for
/// one repository share one.
#[test]
fn tokens() {
    needs_registry!();
    let directory = tempfile::tempdir().expect("a directory");
    let tokens = service(directory.path());
    let more = format!(
        "auth:\n  token: {{ realm: 'http://{}/token', service: test, issuer: tests, rootcertbundle: {} }}\n",
        tokens.name(),
        directory.path().join("token.crt").display()
    );
    let kind = Kind { token: true, ..Kind::default() };
    let server = Server::with(kind, &more);
    let picture = Picture::of(&["one", "two", "three", "four"]);
    server.push(picture.layout(), "app:1");
    server.push(picture.layout(), "open/app:1");
    let registry = Proxy::start(server.port, |_| Act::Pass);
    let fresh = || trusting(directory.path(), &[registry.name()]);
    let private = format!("{}/app:1", registry.name());
    let password = login(directory.path(), &registry.name(), PASSWORD);

    let before = tokens.seen().len();
    let known = fresh().variable("REGISTRY_AUTH_FILE", &password);
    known.run(["image", "pull", &private]).expect(0);
    let asked = tokens.seen().split_off(before);
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].path.contains("service=test"), "{asked:?}");
    assert!(asked[0].path.contains("scope=repository%3Aapp%3Apull"), "{asked:?}");
    let proofs: Vec<_> = registry
        .seen()
        .iter()
        .filter_map(|request| request.header("authorization").map(str::to_owned))
        .collect();
    assert!(proofs.len() > 5, "{proofs:?}");
    assert!(proofs.iter().all(|proof| proof.starts_with("Bearer ")), "{proofs:?}");

    // Another repository and another thing to do are other tokens.
    known.run(["image", "tag", &private, &format!("{}/other:2", registry.name())]).expect(0);
    let before = tokens.seen().len();
    known.run(["image", "push", &format!("{}/other:2", registry.name())]).expect(0);
    let asked = tokens.seen().split_off(before);
    assert!(
        asked.iter().any(|request| request.path.contains("other") && request.path.contains("push")),
        "{asked:?}"
    );

    // Without a password there is a token as well, for what is open.
    fresh().run(["image", "pull", &format!("{}/open/app:1", registry.name())]).expect(0);
    fresh().run(["image", "pull", &private]).expect(70).says(&[&registry.name(), "refuses"]);
    let wrong = login(directory.path(), &registry.name(), "hunter22");
    let refused = fresh().variable("REGISTRY_AUTH_FILE", &wrong);
    let refused =
        refused.run(["image", "pull", &private]).expect(70).says(&[&tokens.name(), "refuses"]);
    assert!(!refused.text().contains("hunter22") && !refused.text().contains("Y2k6"));
}
