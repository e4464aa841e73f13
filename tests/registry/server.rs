//! Debian's `docker-registry`, a process of its own on a port of its own, as a test wants it.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use tempfile::TempDir;

use crate::binary::{file, program, skopeo};

/// The user and password of a registry that wants one.
pub(crate) const USER: &str = "ci";
pub(crate) const PASSWORD: &str = "correct-horse-battery";

/// How a registry is to be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kind {
    /// Behind TLS, with a certificate of a private authority.
    pub(crate) tls: bool,
    /// For those who know [`USER`] and [`PASSWORD`].
    pub(crate) password: bool,
    /// For those who have a token that another service gives to [`USER`]; `with` says which.
    pub(crate) token: bool,
}

/// A running registry, ended when dropped.
pub(crate) struct Server {
    child: Child,
    directory: TempDir,
    pub(crate) port: u16,
    kind: Kind,
}

impl Server {
    /// A registry on loopback, plain and open to all.
    pub(crate) fn start() -> Self {
        Self::of(Kind::default())
    }

    pub(crate) fn of(kind: Kind) -> Self {
        Self::with(kind, "")
    }

    /// With this of its configuration besides.
    pub(crate) fn with(kind: Kind, more: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let mut text = format!(
            "version: 0.1\nlog: {{ level: info, accesslog: {{ disabled: true }} }}\n\
             storage:\n  filesystem: {{ rootdirectory: {} }}\n  delete: {{ enabled: true }}\n",
            path.join("data").display()
        );
        text.push_str("http:\n  addr: 127.0.0.1:0\n");
        if kind.tls {
            certificates(path);
            let path = path.display();
            let tls =
                format!("  tls: {{ certificate: {path}/server.crt, key: {path}/server.key }}\n");
            text.push_str(&tls);
        }
        if kind.password {
            let output = program("htpasswd").args(["-Bbn", USER, PASSWORD]).output();
            let hash = output.expect("htpasswd").stdout;
            let hash = file(path, "htpasswd", hash);
            let hash = hash.display();
            let auth = format!("auth:\n  htpasswd: {{ realm: test, path: {hash} }}\n");
            text.push_str(&auth);
        }
        text.push_str(more);
        let configuration = file(path, "registry.yml", text);
        let mut child = program("docker-registry")
            .arg("serve")
            .arg(configuration)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start docker-registry");
        let mut lines = BufReader::new(child.stderr.take().expect("its log"));
        let mut log = String::new();
        let port = loop {
            let read = lines.read_line(&mut log).expect("read its log");
            assert_ne!(read, 0, "docker-registry ended:\n{log}");
            let port = log
                .split_once("listening on 127.0.0.1:")
                .map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
            if let Some(port) = port {
                break port.parse().expect("a port");
            }
        };
        // It would stop at a full pipe.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self { child, directory, port, kind }
    }

    /// Host and port.
    pub(crate) fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The certificate of the authority that vouches for it.
    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// Pushes an OCI image layout with skopeo, another program than ours.
    #[track_caller]
    pub(crate) fn push(&self, layout: &Path, name: &str) {
        let target = format!("docker://{}/{name}", self.name());
        let mut skopeo = skopeo();
        skopeo.args(["copy", "--quiet", "--all"]);
        skopeo.args(["--preserve-digests", "--dest-tls-verify=false"]);
        if self.kind.password || self.kind.token {
            skopeo.arg("--dest-creds").arg(format!("{USER}:{PASSWORD}"));
        }
        let output = skopeo.arg(format!("oci:{}", layout.display())).arg(target).output();
        let output = output.expect("skopeo");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().expect("end docker-registry");
        self.child.wait().expect("wait for docker-registry");
    }
}

/// A private authority and a certificate for loopback, as `openssl` makes them.
fn certificates(directory: &Path) {
    let names = file(directory, "names", "subjectAltName=IP:127.0.0.1,DNS:localhost");
    let names = names.display();
    openssl(
        directory,
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt",
    );
    openssl(
        directory,
        "req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout server.key -out server.csr",
    );
    openssl(
        directory,
        &format!(
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile {names} -out server.crt"
        ),
    );
}

pub(crate) fn openssl(directory: &Path, arguments: &str) {
    let output = program("openssl").current_dir(directory).args(arguments.split(' ')).output();
    let output = output.expect("openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
