//! `RUN`: a program with flags, mounts and here-documents.

use super::{
    command,
    fragment::Fragment,
    heredoc::{self, Heredoc},
    instruction::{KnownFlags, Reading, flags, usage, value},
    model::{Command, Kind, Run, RunNetwork},
    mount,
};
use crate::{
    diagnostic::{Code, quoted},
    source::Spanned,
};

const FLAGS: KnownFlags = KnownFlags {
    instruction: "RUN",
    values: &["network"],
    lists: &["mount"],
    switches: &[],
    unsupported: &[
        ("security", "nothing widens what a build may do; remove the flag"),
        ("device", "builds have no devices; remove the flag"),
    ],
};

/// Reads what follows `RUN`.
pub(super) fn read(rest: Fragment<'_>, reading: &mut Reading<'_>) -> Option<Kind> {
    let (flags, rest) = flags(rest, FLAGS, reading);
    let mounts: Vec<_> = flags
        .iter()
        .filter(|flag| flag.name.text() == "mount")
        .map(|flag| mount::read(*flag, reading))
        .collect();
    let network = value(&flags, "network").map(|text| network(text, reading));
    if rest.is_empty() {
        reading.wrong(rest.span(), "there is nothing to run", usage("RUN"));
        return None;
    }
    let heredocs = std::mem::take(&mut reading.heredocs);
    let (command, script) = match program(rest, &heredocs) {
        Some(program) => program,
        None => (command::read(rest, reading), None),
    };
    if command == Command::Exec(Vec::new()) && script.is_none() {
        reading.wrong(rest.span(), "there is nothing to run", usage("RUN"));
        return None;
    }
    let mounts = mounts.into_iter().collect::<Option<Vec<_>>>()?;
    let network = match network {
        Some(network) => Some(network?),
        None => None,
    };
    Some(Kind::Run(Run { command, script, mounts, network }))
}

/// A command with here-documents: these alone are the script; otherwise the shell reads them, as
/// they stand.
fn program(rest: Fragment<'_>, heredocs: &[Heredoc]) -> Option<(Command, Option<String>)> {
    let first = heredocs.first()?;
    let (word, after) = rest.split_word();
    if heredocs.len() == 1 && after.is_empty() && heredoc::opens(word.text()) {
        let text = first.content.text().to_owned();
        return Some(if text.starts_with("#!") {
            (Command::Exec(Vec::new()), Some(text))
        } else {
            (Command::Shell(text), None)
        });
    }
    let mut text = rest.text().to_owned();
    for heredoc in heredocs {
        text.push('\n');
        text.push_str(&heredoc.raw);
        text.push_str(&heredoc.name);
    }
    text.push('\n');
    Some((Command::Shell(text), None))
}

fn network(text: Fragment<'_>, reading: &mut Reading<'_>) -> Option<Spanned<RunNetwork>> {
    let network = match text.text() {
        "default" => RunNetwork::Default,
        "none" => RunNetwork::None,
        "host" => {
            let message = "the network of the host is not for builds";
            let help = "say what the build may reach with `--network` on the command line";
            reading.fault(Code::DockerfileUnsupported, text.span(), message, help);
            return None;
        }
        other => {
            let message = format!("{} is not a network", quoted(other));
            let help = "it is `default` or `none`";
            reading.fault(Code::DockerfileFlag, text.span(), message, help);
            return None;
        }
    };
    Some(Spanned::new(network, text.span()))
}
