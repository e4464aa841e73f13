//! `RUN --mount`: options of each type, separated by commas.

use super::{
    file_from,
    fragment::Fragment,
    instruction::{Flag, Reading},
    model::{Mount, MountKind, Sharing},
    word::Word,
};
use crate::{
    diagnostic::{Code, quoted},
    suggest::suggestion,
};

/// An option and its value.
#[derive(Clone, Copy)]
struct Choice<'l> {
    name: &'static str,
    value: Option<Fragment<'l>>,
}

/// Options of all types, by their first name; others are the same.
const NAMES: &[(&str, &str)] = &[
    ("type", "type"),
    ("target", "target"),
    ("dst", "target"),
    ("destination", "target"),
    ("source", "source"),
    ("src", "source"),
    ("from", "from"),
    ("id", "id"),
    ("sharing", "sharing"),
    ("mode", "mode"),
    ("uid", "uid"),
    ("gid", "gid"),
    ("size", "size"),
    ("required", "required"),
    ("env", "env"),
    ("ro", "ro"),
    ("readonly", "ro"),
    ("rw", "rw"),
    ("readwrite", "rw"),
];

/// Reads one flag; [`None`] when it has a fault.
pub(super) fn read(flag: Flag<'_>, reading: &mut Reading<'_>) -> Option<Mount> {
    let value = flag.value?;
    let choices = choices(value, reading)?;
    let options = Options { choices: &choices, whole: flag.whole };
    let kind = options.text("type").unwrap_or("bind");
    let allowed: &[&str] = match kind {
        "bind" => &["type", "target", "source", "from", "ro", "rw"],
        "cache" => &["type", "target", "id", "sharing", "mode", "uid", "gid", "ro", "rw"],
        "tmpfs" => &["type", "target", "size"],
        "secret" => &["type", "target", "id", "required", "env", "mode", "uid", "gid"],
        "ssh" => {
            let help = "give a key as a secret: `--mount=type=secret,id=key`";
            let message = "mounts of type `ssh` are not supported";
            reading.fault(Code::DockerfileUnsupported, flag.whole.span(), message, help);
            return None;
        }
        other => {
            let types = ["bind", "cache", "tmpfs", "secret"];
            let help = suggestion(other, types).unwrap_or_else(|| {
                "the types are `bind`, `cache`, `tmpfs` and `secret`".to_owned()
            });
            let message = format!("{} is not a type of mount", quoted(other));
            reading.fault(Code::DockerfileFlag, flag.whole.span(), message, &help);
            return None;
        }
    };
    if let Some(choice) = choices.iter().find(|choice| !allowed.contains(&choice.name)) {
        let name = choice.name;
        let unsupported = kind == "cache" && matches!(name, "from" | "source");
        let (code, help) = if unsupported {
            (
                Code::DockerfileUnsupported,
                "a cache holds what an earlier `RUN` left there, and nothing at first; fill it in the `RUN`",
            )
        } else {
            (Code::DockerfileFlag, "remove it")
        };
        let message = format!("mounts of type `{kind}` have no option `{name}`");
        reading.fault(code, flag.whole.span(), message, help);
        return None;
    }
    let target = options.word("target", reading)?;
    if target.is_none() && kind != "secret" {
        let message = format!("a mount of type `{kind}` needs a target");
        reading.fault(Code::DockerfileFlag, flag.whole.span(), message, "add `target=/path`");
        return None;
    }
    let kind = match kind {
        "cache" => MountKind::Cache {
            id: options.word("id", reading)?,
            sharing: options.sharing(reading)?,
            mode: options.mode(0o755, reading)?,
            owner: options.owner(reading)?,
        },
        "tmpfs" => MountKind::Tmpfs { size: options.size(reading)? },
        "secret" => options.secret(target.as_ref(), reading)?,
        _ => MountKind::Bind {
            from: match options.get("from") {
                Some(text) => Some(file_from::read(text, reading)?),
                None => None,
            },
            source: options.word("source", reading)?,
        },
    };
    let is_bind = matches!(kind, MountKind::Bind { .. });
    let (read_only, writable) = (options.switch("ro", reading), options.switch("rw", reading));
    let (read_only, writable) = (read_only?, writable?);
    let read_only = if is_bind { read_only || !writable } else { read_only };
    Some(Mount { kind, target, read_only, span: flag.whole.span() })
}

fn choices<'l>(value: Fragment<'l>, reading: &mut Reading<'_>) -> Option<Vec<Choice<'l>>> {
    let mut choices: Vec<Choice<'l>> = Vec::new();
    let mut rest = Some(unquoted(value));
    while let Some(text) = rest {
        let (part, after) = match text.split_once(',') {
            Some((part, after)) => (part, Some(after)),
            None => (text, None),
        };
        rest = after;
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name, Some(unquoted(value))),
            None => (part, None),
        };
        let lower = name.text().to_ascii_lowercase();
        let Some((_, first)) = NAMES.iter().find(|(known, _)| *known == lower) else {
            let near = suggestion(&lower, NAMES.iter().map(|(name, _)| *name));
            let help = near.unwrap_or_else(|| "options look like `target=/path`".to_owned());
            let message = format!("{} is not an option of a mount", quoted(name.text()));
            reading.fault(Code::DockerfileFlag, part.span(), message, &help);
            return None;
        };
        if choices.iter().any(|choice| choice.name == *first) {
            let message = format!("`{first}` is given twice");
            reading.fault(Code::DockerfileFlag, part.span(), message, "remove one of them");
            return None;
        }
        choices.push(Choice { name: first, value });
    }
    Some(choices)
}

/// Without quotes around all of it.
fn unquoted(text: Fragment<'_>) -> Fragment<'_> {
    let inside = |quote: char| {
        text.text().strip_prefix(quote).and_then(|text| text.strip_suffix(quote)).map(str::len)
    };
    match inside('"').or_else(|| inside('\'')) {
        Some(length) => text.part(1..1 + length),
        None => text,
    }
}

/// The options of one mount.
struct Options<'c, 'l> {
    choices: &'c [Choice<'l>],
    whole: Fragment<'l>,
}

impl<'l> Options<'_, 'l> {
    fn get(&self, name: &str) -> Option<Fragment<'l>> {
        self.choices.iter().find(|choice| choice.name == name)?.value
    }

    fn text(&self, name: &str) -> Option<&'l str> {
        self.get(name).map(Fragment::text)
    }

    fn word(&self, name: &str, reading: &mut Reading<'_>) -> Option<Option<Word>> {
        match self.get(name) {
            Some(text) if text.is_empty() => self.bad(name, "some text", reading),
            Some(text) => reading.word(text).map(Some),
            None => Some(None),
        }
    }

    /// An option whose value is not what it should be.
    fn bad<T>(&self, name: &str, expected: &str, reading: &mut Reading<'_>) -> Option<T> {
        let span = self.get(name).unwrap_or(self.whole).span();
        let message = format!("`{name}` of a mount is {expected}");
        reading.fault(Code::DockerfileFlag, span, message, "change or remove it");
        None
    }

    fn switch(&self, name: &str, reading: &mut Reading<'_>) -> Option<bool> {
        let Some(choice) = self.choices.iter().find(|choice| choice.name == name) else {
            return Some(false);
        };
        match choice.value.map(Fragment::text) {
            None | Some("true" | "1") => Some(true),
            Some("false" | "0") => Some(false),
            Some(_) => self.bad(name, "`true` or `false`", reading),
        }
    }

    fn mode(&self, default: u32, reading: &mut Reading<'_>) -> Option<u32> {
        let Some(text) = self.text("mode") else { return Some(default) };
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o7777 => Some(mode),
            _ => self.bad("mode", "an octal number such as `0400`", reading),
        }
    }

    fn owner(&self, reading: &mut Reading<'_>) -> Option<(u32, u32)> {
        let mut id = |name| match self.text(name).map(str::parse::<u16>) {
            None => Some(0),
            Some(Ok(id)) => Some(u32::from(id)),
            Some(Err(_)) => self.bad(name, "a number up to 65535", reading),
        };
        let (user, group) = (id("uid"), id("gid"));
        Some((user?, group?))
    }

    fn sharing(&self, reading: &mut Reading<'_>) -> Option<Sharing> {
        match self.text("sharing") {
            None | Some("shared") => Some(Sharing::Shared),
            Some("private") => Some(Sharing::Private),
            Some("locked") => Some(Sharing::Locked),
            Some(_) => self.bad("sharing", "`shared`, `private` or `locked`", reading),
        }
    }

    fn size(&self, reading: &mut Reading<'_>) -> Option<Option<u64>> {
        let Some(text) = self.text("size") else { return Some(None) };
        let lower = text.to_ascii_lowercase();
        let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
        let (number, unit) = lower.split_at(digits);
        let scale = match unit {
            "" | "b" => Some(1_u64),
            "k" | "kb" | "kib" => Some(1 << 10),
            "m" | "mb" | "mib" => Some(1 << 20),
            "g" | "gb" | "gib" => Some(1 << 30),
            _ => None,
        };
        let number = number.parse::<u64>().ok().zip(scale);
        match number.and_then(|(number, scale)| number.checked_mul(scale)).filter(|size| *size > 0)
        {
            Some(size) => Some(Some(size)),
            None => self.bad("size", "a number of bytes such as `64m`", reading),
        }
    }

    fn secret(&self, target: Option<&Word>, reading: &mut Reading<'_>) -> Option<MountKind> {
        // The last part of the target names the secret where nothing else does.
        let id = match (self.word("id", reading)?, target) {
            (Some(id), _) => id,
            (None, Some(target)) => {
                let name = target.literal().and_then(|path| path.rsplit('/').next());
                let name = name.filter(|name| !name.is_empty());
                let Some(name) = name else { return self.bad("id", "the secret's name", reading) };
                Word::text(name, target.span)
            }
            (None, None) => return self.bad("id", "the secret's name", reading),
        };
        let variable = match self.text("env") {
            Some("") => return self.bad("env", "the name of a variable", reading),
            other => other.map(str::to_owned),
        };
        Some(MountKind::Secret {
            id,
            variable,
            required: self.switch("required", reading)?,
            mode: self.mode(0o400, reading)?,
            owner: self.owner(reading)?,
        })
    }
}
