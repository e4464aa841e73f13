//! One instruction: its name, its flags, and who reads the rest.

use std::rc::Rc;

use super::{
    arguments, command, copy,
    fragment::Fragment,
    heredoc::Heredoc,
    metadata,
    model::{Instruction, Kind, Trigger},
    run,
    word::{self, Quotes, Word},
};
use crate::{
    diagnostic::{Code, Diagnostic, Report, quoted},
    source::Span,
    suggest::{nearest, suggestion},
};

/// All instructions, for suggestions.
pub(super) const NAMES: &[&str] = &[
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// What reading an instruction needs to know.
#[derive(Debug)]
pub(super) struct Reading<'r> {
    pub(super) escape: char,
    pub(super) report: &'r mut Report,
    /// The names of the stages before this one.
    pub(super) stages: Rc<Vec<Option<String>>>,
    /// The here-documents of this instruction.
    pub(super) heredocs: Vec<Heredoc>,
}

impl Reading<'_> {
    pub(super) fn fault(&mut self, code: Code, span: Span, message: impl Into<String>, help: &str) {
        self.report.push(Diagnostic::error(code, message).at(span, "").help(help));
    }

    /// The arguments are not what the instruction takes.
    pub(super) fn wrong(&mut self, span: Span, message: impl Into<String>, help: &str) {
        self.fault(Code::DockerfileArguments, span, message, help);
    }

    pub(super) fn word(&mut self, fragment: Fragment<'_>) -> Option<Word> {
        word::read(fragment, self.escape, Quotes::Group, self.report)
    }

    /// All words, or none where one has a fault; all faults are reported.
    pub(super) fn words<'l>(
        &mut self,
        fragments: impl IntoIterator<Item = Fragment<'l>>,
    ) -> Option<Vec<Word>> {
        let words: Vec<_> = fragments.into_iter().map(|fragment| self.word(fragment)).collect();
        words.into_iter().collect()
    }
}

/// Reads any instruction but `FROM`; [`None`] when it has a fault.
pub(super) fn read(line: Fragment<'_>, reading: &mut Reading<'_>) -> Option<Instruction> {
    let (name, rest) = line.split_word();
    let kind = kind(name, rest, reading)?;
    Some(Instruction { kind, text: line.text().to_owned(), span: line.span() })
}

fn kind(name: Fragment<'_>, rest: Fragment<'_>, reading: &mut Reading<'_>) -> Option<Kind> {
    let upper = name.text().to_ascii_uppercase();
    let known = NAMES.contains(&upper.as_str());
    if known && rest.is_empty() {
        let message = format!("`{upper}` has no arguments");
        reading.wrong(name.span(), message, usage(&upper));
        return None;
    }
    match upper.as_str() {
        "ADD" => copy::read(rest, true, reading),
        "COPY" => copy::read(rest, false, reading),
        "ARG" => arguments::arguments(rest, reading).map(Kind::Argument),
        "ENV" => arguments::assignments("ENV", rest, reading).map(Kind::Environment),
        "LABEL" => arguments::assignments("LABEL", rest, reading).map(Kind::Label),
        "RUN" => run::read(rest, reading),
        "CMD" => Some(Kind::Command(command::read(rest, reading))),
        "ENTRYPOINT" => Some(Kind::Entrypoint(command::read(rest, reading))),
        "SHELL" => command::shell(rest, reading).map(Kind::Shell),
        "HEALTHCHECK" => metadata::health(rest, reading).map(Kind::Health),
        "WORKDIR" => reading.word(rest).map(Kind::Workdir),
        "USER" => metadata::one("USER", rest, reading).map(Kind::User),
        "STOPSIGNAL" => metadata::one("STOPSIGNAL", rest, reading).map(Kind::StopSignal),
        "EXPOSE" => metadata::expose(rest, reading).map(Kind::Expose),
        "VOLUME" => metadata::volume(rest, reading).map(Kind::Volume),
        "MAINTAINER" => Some(metadata::maintainer(name, rest, reading)),
        "ONBUILD" => trigger(rest, reading),
        _ => {
            unknown(name, reading);
            None
        }
    }
}

fn unknown(name: Fragment<'_>, reading: &mut Reading<'_>) {
    let near = suggestion(name.text(), NAMES.iter().copied());
    let help = near.unwrap_or_else(|| {
        "a line that goes on needs the escape character at the end of the one before".to_owned()
    });
    let message = format!("{} is not an instruction", quoted(name.text()));
    reading.fault(Code::DockerfileInstruction, name.span(), message, &help);
}

/// `ONBUILD`: the instruction is read, so that it is known to make sense, and kept as text.
fn trigger(rest: Fragment<'_>, reading: &mut Reading<'_>) -> Option<Kind> {
    let (name, arguments) = rest.split_word();
    if ["ONBUILD", "FROM", "MAINTAINER"].iter().any(|no| name.text().eq_ignore_ascii_case(no)) {
        let message = format!("`ONBUILD` cannot hold {}", quoted(name.text()));
        reading.wrong(name.span(), message, "write it without `ONBUILD`");
        return None;
    }
    if let Some(heredoc) = reading.heredocs.first() {
        let span = heredoc.span;
        let message = "a here-document within `ONBUILD` is not supported";
        let help = "put the text into a file of the context";
        reading.fault(Code::DockerfileUnsupported, span, message, help);
        return None;
    }
    kind(name, arguments, reading)?;
    Some(Kind::Trigger(Trigger { text: rest.text().to_owned() }))
}

/// What an instruction looks like.
pub(super) fn usage(name: &str) -> &'static str {
    match name {
        "ADD" => "write `ADD SOURCE… DESTINATION`",
        "ARG" => "write `ARG NAME` or `ARG NAME=DEFAULT`",
        "CMD" => "write `CMD [\"program\", \"argument\"]`",
        "COPY" => "write `COPY SOURCE… DESTINATION`",
        "ENTRYPOINT" => "write `ENTRYPOINT [\"program\", \"argument\"]`",
        "ENV" => "write `ENV NAME=VALUE`",
        "EXPOSE" => "write `EXPOSE 8080` or `EXPOSE 53/udp`",
        "FROM" => "write `FROM IMAGE` or `FROM IMAGE AS NAME`",
        "HEALTHCHECK" => "write `HEALTHCHECK CMD command` or `HEALTHCHECK NONE`",
        "LABEL" => "write `LABEL KEY=VALUE`",
        "ONBUILD" => "write `ONBUILD INSTRUCTION`",
        "RUN" => "write `RUN command`",
        "SHELL" => "write `SHELL [\"/bin/bash\", \"-c\"]`",
        "STOPSIGNAL" => "write `STOPSIGNAL SIGTERM`",
        "USER" => "write `USER NAME` or `USER NAME:GROUP`",
        "VOLUME" => "write `VOLUME /path`",
        "WORKDIR" => "write `WORKDIR /path`",
        _ => "remove the line",
    }
}

/// A flag at the beginning of the arguments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag<'l> {
    pub(super) name: Fragment<'l>,
    pub(super) value: Option<Fragment<'l>>,
    pub(super) whole: Fragment<'l>,
}

/// What an instruction knows of flags.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownFlags {
    pub(super) instruction: &'static str,
    /// With a value, once.
    pub(super) values: &'static [&'static str],
    /// With a value, as often as one likes.
    pub(super) lists: &'static [&'static str],
    /// Without a value, or with `true` or `false`.
    pub(super) switches: &'static [&'static str],
    /// Those of BuildKit that do nothing here, and what to do instead.
    pub(super) unsupported: &'static [(&'static str, &'static str)],
}

/// Splits flags off the arguments; those that are faulty are reported and left out.
pub(super) fn flags<'l>(
    arguments: Fragment<'l>,
    known: KnownFlags,
    reading: &mut Reading<'_>,
) -> (Vec<Flag<'l>>, Fragment<'l>) {
    let mut flags: Vec<Flag<'l>> = Vec::new();
    let mut rest = arguments.trim();
    while rest.text().starts_with("--") {
        let end = super::words::word_end(rest.text(), reading.escape);
        let whole = rest.part(0..end);
        rest = rest.after(end).trim_start();
        if whole.text() == "--" {
            break;
        }
        let body = whole.after(2);
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let flag = Flag { name, value, whole };
        let twice = flags.iter().any(|flag| flag.name.text() == name.text());
        if check_flag(flag, twice, known, reading) {
            flags.push(flag);
        }
    }
    (flags, rest)
}

fn check_flag(flag: Flag<'_>, twice: bool, known: KnownFlags, reading: &mut Reading<'_>) -> bool {
    let name = flag.name.text();
    let span = flag.whole.span();
    let instruction = known.instruction;
    let fault = |reading: &mut Reading<'_>, message: String, help: &str| {
        reading.fault(Code::DockerfileFlag, span, message, help);
        false
    };
    if let Some((_, instead)) = known.unsupported.iter().find(|(flag, _)| *flag == name) {
        let message = format!("`--{name}` of `{instruction}` is not supported");
        reading.fault(Code::DockerfileUnsupported, span, message, instead);
        return false;
    }
    let is_list = known.lists.contains(&name);
    if twice && !is_list {
        return fault(reading, format!("`--{name}` is given twice"), "remove one of them");
    }
    if known.switches.contains(&name) {
        return match flag.value.map(Fragment::text) {
            None | Some("true" | "false") => true,
            Some(_) => {
                fault(reading, format!("`--{name}` is `true` or `false`"), "remove the value")
            }
        };
    }
    if !is_list && !known.values.contains(&name) {
        let all = [known.values, known.lists, known.switches].concat();
        let message = format!("{} is not a flag of `{instruction}`", quoted(&format!("--{name}")));
        let help = match nearest(name, all.iter().copied()) {
            Some(near) => format!("did you mean `--{near}`?"),
            None if all.is_empty() => format!("`{instruction}` has no flags"),
            None => format!("its flags are `--{}`", all.join("`, `--")),
        };
        return fault(reading, message, &help);
    }
    if flag.value.is_none_or(Fragment::is_empty) {
        return fault(reading, format!("`--{name}` needs a value"), "write it after a `=`");
    }
    true
}

/// The value of a flag.
pub(super) fn value<'l>(flags: &[Flag<'l>], name: &str) -> Option<Fragment<'l>> {
    flags.iter().find(|flag| flag.name.text() == name)?.value
}
