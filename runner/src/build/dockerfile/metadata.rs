//! Instructions that only change the image's configuration.

use cofferdam_jobs::{
    Code, Diagnostic,
    diagnostic::{Report, quoted},
    dockerfile::{Command, Health, HealthCheck, Word},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::super::Change;

/// Ports that one range may have.
const PORTS: u16 = 1_000;

/// A program as a list; text is for the shell.
pub(super) fn argv(command: &Command, shell: &[String]) -> Vec<String> {
    match command {
        Command::Exec(argv) => argv.clone(),
        Command::Shell(text) => shell.iter().cloned().chain([text.clone()]).collect(),
    }
}

/// `EXPOSE`: each port by itself, with its protocol.
pub(super) fn ports(text: &str, word: &Word, report: &mut Report) -> Option<Vec<Change>> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let protocol = protocol.to_ascii_lowercase();
    let known = matches!(protocol.as_str(), "tcp" | "udp" | "sctp");
    let range = first.parse::<u16>().ok().zip(last.parse::<u16>().ok());
    let range = range.filter(|(first, last)| known && first <= last && last - first < PORTS);
    match range {
        Some((first, last)) => {
            Some((first..=last).map(|port| Change::Expose(format!("{port}/{protocol}"))).collect())
        }
        None => {
            report.push(
                Diagnostic::error(
                    Code::DockerfileArguments,
                    format!("{} is not a port, or a range of at most {PORTS}", quoted(text)),
                )
                .at(word.span, "")
                .help("ports look like `8080`, `53/udp` or `8000-8010`"),
            );
            None
        }
    }
}

/// `STOPSIGNAL`: a name or a number.
pub(super) fn signal(text: &str, word: &Word, report: &mut Report) -> Option<Change> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = name.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
    let realtime = name
        .strip_prefix("RTMIN+")
        .or_else(|| name.strip_prefix("RTMAX-"))
        .is_some_and(|offset| offset.parse::<u8>().is_ok_and(|offset| offset < 32));
    let known = format!("SIG{name}").parse::<Signal>().is_ok();
    if number || realtime || known || matches!(name, "RTMIN" | "RTMAX") {
        return Some(Change::StopSignal(text.to_owned()));
    }
    report.push(
        Diagnostic::error(Code::DockerfileArguments, format!("{} is not a signal", quoted(text)))
            .at(word.span, "")
            .help("write a name such as `SIGTERM`, or a number"),
    );
    None
}

/// `HEALTHCHECK`, as images have it that Docker makes.
pub(super) fn health(health: &Health) -> Value {
    let Health::Check(check) = health else { return json!({ "Test": ["NONE"] }) };
    let HealthCheck { command, interval, timeout, start_period, start_interval, retries } = check;
    let test: Vec<String> = match command {
        Command::Exec(argv) => ["CMD".to_owned()].into_iter().chain(argv.iter().cloned()).collect(),
        Command::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
    };
    let mut value = json!({ "Test": test });
    let numbers = [
        ("Interval", interval),
        ("Timeout", timeout),
        ("StartPeriod", start_period),
        ("StartInterval", start_interval),
        ("Retries", retries),
    ];
    for (name, number) in numbers.into_iter().filter(|(_, number)| **number > 0) {
        if let Some(fields) = value.as_object_mut() {
            fields.insert(name.to_owned(), (*number).into());
        }
    }
    value
}

/// A path that a relative one leads to from where programs start; without `.`, `..` and what
/// repeats a slash.
pub(super) fn absolute(from: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{from}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute() {
        for (from, path, expect) in [
            ("/", "a", "/a"),
            ("/a", "b/c", "/a/b/c"),
            ("/a", "../../b", "/b"),
            ("/a", "/b//c/./d/", "/b/c/d"),
            ("/a", ".", "/a"),
            ("/a", "/", "/"),
        ] {
            assert_eq!(absolute(from, path), expect, "{from} {path}");
        }
    }
}
