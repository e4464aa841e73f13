//! Credential helpers: programs `docker-credential-NAME` that keep credentials elsewhere.
//!
//! The protocol is docker's: the registry on standard input, JSON on standard output.

use std::{process::Stdio, time::Duration};

use cofferdam_sandbox::as_caller;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Credentials, DOCKER_HUB_KEY, Hidden};
use crate::registry::shown;

/// How long a helper may take. One that asks a person for a password does not end at all.
const PATIENCE: Duration = Duration::from_secs(20);
/// What it may print, in bytes.
const OUTPUT: u64 = 64 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks the helper `name` for what it has about `registry`.
pub(super) async fn ask(name: &str, registry: &str) -> Result<Option<Credentials>, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(format!("`{}` is not the name of a credential helper", shown(name)));
    }
    let program = format!("docker-credential-{name}");
    match tokio::time::timeout(PATIENCE, run(&program, registry)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("`{program}` gave no answer in {} s", PATIENCE.as_secs())),
    }
}

async fn run(program: &str, registry: &str) -> Result<Option<Credentials>, String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a helper that the operator's own files name is a program of this host"
    )]
    let mut command = std::process::Command::new(program);
    as_caller(&mut command);
    let failed = |error: std::io::Error| format!("`{program}` failed: {error}");
    let mut child = tokio::process::Command::from(command)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // Also when this is given up.
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let key = if registry == "docker.io" { DOCKER_HUB_KEY } else { registry };
    if let Some(mut input) = child.stdin.take() {
        // One that knows the answer without reading may have ended by now.
        input.write_all(key.as_bytes()).await.ok();
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(OUTPUT + 1).read_to_end(&mut output).await.map_err(failed)?;
    }
    if output.len() as u64 > OUTPUT {
        return Err(format!("`{program}` printed more than {OUTPUT} bytes"));
    }
    let status = child.wait().await.map_err(failed)?;
    let text = String::from_utf8_lossy(&output);
    if !status.success() {
        // This is how helpers say it (docker-credential-helpers, package `credentials`).
        if text.contains("credentials not found") {
            return Ok(None);
        }
        return Err(format!("`{program}` failed with {status}: {}", shown(text.trim())));
    }
    // What it printed holds a password, so that no message quotes it.
    let Answer { username, secret } = serde_json::from_str(&text)
        .map_err(|_| format!("what `{program}` printed is no answer of a credential helper"))?;
    let secret = Hidden::new(secret);
    Ok(Some(match username.as_str() {
        "<token>" => Credentials::Identity(secret),
        _ => Credentials::Password { user: username, password: secret },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_paths_are_refused() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for name in ["", "../x", "a/b", "a b", ".x", &"x".repeat(65)] {
            let error = runtime.block_on(ask(name, "r.example")).unwrap_err();
            assert!(error.contains("not the name"), "{error}");
        }
        let error = runtime.block_on(ask("is-not-there", "r.example")).unwrap_err();
        assert!(error.contains("docker-credential-is-not-there"), "{error}");
    }
}
