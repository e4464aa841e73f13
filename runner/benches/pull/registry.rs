//! A registry on loopback for the length of a bench.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// A registry on loopback, ended when dropped.
pub(crate) struct Registry {
    child: Child,
    pub(crate) port: u16,
}

impl Registry {
    pub(crate) fn start(root: &Path) -> Self {
        let data = root.join("registry");
        let text = format!(
            "version: 0.1\nlog: {{ level: info, accesslog: {{ disabled: true }} }}\nstorage:\n  filesystem: {{ rootdirectory: {} }}\nhttp:\n  addr: 127.0.0.1:0\n",
            data.display()
        );
        let configuration = root.join("registry.yml");
        fs::write(&configuration, text).expect("write");
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(configuration)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start docker-registry");
        let mut lines = BufReader::new(child.stderr.take().expect("its log"));
        let mut line = String::new();
        while lines.read_line(&mut line).expect("read its log") > 0 {
            if let Some((_, port)) = line.split_once("listening on 127.0.0.1:") {
                let port: String = port.chars().take_while(char::is_ascii_digit).collect();
                std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
                return Self { child, port: port.parse().expect("a port") };
            }
            line.clear();
        }
        let status = child.wait().expect("wait for docker-registry");
        panic!("docker-registry ended: {status}")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().expect("end docker-registry");
        self.child.wait().expect("wait for docker-registry");
    }
}
