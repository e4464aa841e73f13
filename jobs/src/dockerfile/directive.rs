//! Parser directives: `# syntax=`, `# escape=` and `# check=` at the very top of the file.

use super::fragment::Fragment;
use crate::diagnostic::{Code, Diagnostic, Report, quoted};

/// What the directives say that matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Directives {
    /// The character that continues lines and takes the meaning from the next one.
    pub(super) escape: char,
    seen: [bool; KNOWN.len()],
}

const KNOWN: [&str; 3] = ["syntax", "escape", "check"];

impl Default for Directives {
    fn default() -> Self {
        Self { escape: '\\', seen: [false; KNOWN.len()] }
    }
}

impl Directives {
    /// Reads a line; `false` when it is no directive, which ends them.
    pub(super) fn read(&mut self, line: Fragment<'_>, report: &mut Report) -> bool {
        let Some(body) = line.text().strip_prefix('#') else { return false };
        let body = line.after(line.text().len() - body.len());
        let Some((name, value)) = body.split_once('=') else { return false };
        let (name, value) = (name.trim(), value.trim());
        let known = KNOWN.iter().position(|known| name.text().eq_ignore_ascii_case(known));
        let Some(known) = known else { return false };
        if self.seen.get(known).copied().unwrap_or_default() {
            report.push(
                Diagnostic::error(
                    Code::DockerfileDirective,
                    format!("the directive {} is given twice", quoted(name.text())),
                )
                .at(line.span(), "")
                .help("remove one of them"),
            );
        }
        if let Some(seen) = self.seen.get_mut(known) {
            *seen = true;
        }
        match KNOWN.get(known) {
            Some(&"escape") => self.escape(value, report),
            Some(&"syntax") => syntax(value, report),
            // What BuildKit warns about is not ours to say.
            _ => {}
        }
        true
    }

    fn escape(&mut self, value: Fragment<'_>, report: &mut Report) {
        match value.text() {
            "\\" => self.escape = '\\',
            "`" => self.escape = '`',
            other => report.push(
                Diagnostic::error(
                    Code::DockerfileDirective,
                    format!("{} cannot be the escape character", quoted(other)),
                )
                .at(value.span(), "")
                .help("it is a backslash or a backtick"),
            ),
        }
    }
}

/// Another front end is a program from a registry that would decide what the file means.
fn syntax(value: Fragment<'_>, report: &mut Report) {
    let image = value.text();
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    if !matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream") {
        report.push(
            Diagnostic::error(
                Code::DockerfileDirective,
                format!("the syntax {} is not known here", quoted(image)),
            )
            .at(value.span(), "")
            .help("only `docker/dockerfile` is; remove the line if the file is a plain Dockerfile"),
        );
    }
}
