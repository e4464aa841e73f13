//! Instructions that only say something about the image.

use super::{
    command,
    fragment::Fragment,
    instruction::{Flag, KnownFlags, Reading, flags, usage, value},
    json_form,
    model::{Health, HealthCheck, Kind},
    word::Word,
    words,
};
use crate::diagnostic::{Code, Diagnostic, quoted};

/// An instruction with exactly one word.
pub(super) fn one(
    instruction: &'static str,
    rest: Fragment<'_>,
    reading: &mut Reading<'_>,
) -> Option<Word> {
    let words = words::by_quotes(rest, reading.escape, reading.report);
    if let Some(second) = words.get(1) {
        let message = format!("`{instruction}` takes one word");
        reading.wrong(second.span(), message, usage(instruction));
        return None;
    }
    reading.word(rest)
}

/// `EXPOSE`
pub(super) fn expose(rest: Fragment<'_>, reading: &mut Reading<'_>) -> Option<Vec<Word>> {
    let words = words::by_space(rest, reading.report);
    let words = reading.words(words)?;
    let mut whole = true;
    for word in &words {
        if word.literal().is_some_and(|port| !is_port(port)) {
            let message = format!("{} is not a port", quoted(word.literal().unwrap_or_default()));
            let help = "a port is a number up to 65535, perhaps with `/tcp`, `/udp` or `/sctp`";
            reading.wrong(word.span, message, help);
            whole = false;
        }
    }
    whole.then_some(words)
}

/// `PORT[-PORT][/PROTOCOL]`
fn is_port(text: &str) -> bool {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number = |text: &str| text.parse::<u16>().ok();
    let in_order = match range.split_once('-') {
        Some((first, last)) => number(first).zip(number(last)).is_some_and(|(a, b)| a <= b),
        None => number(range).is_some(),
    };
    in_order && matches!(protocol.to_ascii_lowercase().as_str(), "tcp" | "udp" | "sctp")
}

/// `VOLUME`
pub(super) fn volume(rest: Fragment<'_>, reading: &mut Reading<'_>) -> Option<Vec<Word>> {
    let words = match json_form::read(rest, reading.report) {
        Some(list) => reading.words(list.iter().map(json_form::Element::fragment)),
        None => {
            let words = words::by_space(rest, reading.report);
            reading.words(words)
        }
    }?;
    if words.is_empty() || words.iter().any(|word| word.literal() == Some("")) {
        reading.wrong(rest.span(), "a volume has no path", usage("VOLUME"));
        return None;
    }
    Some(words)
}

/// `MAINTAINER`
pub(super) fn maintainer(
    name: Fragment<'_>,
    rest: Fragment<'_>,
    reading: &mut Reading<'_>,
) -> Kind {
    reading.report.push(
        Diagnostic::warning(Code::DockerfileDeprecated, "`MAINTAINER` is deprecated")
            .at(name.span(), "")
            .help("write `LABEL org.opencontainers.image.authors=\"…\"`"),
    );
    Kind::Maintainer(rest.text().to_owned())
}

const HEALTH: KnownFlags = KnownFlags {
    instruction: "HEALTHCHECK",
    values: &["interval", "timeout", "start-period", "start-interval", "retries"],
    lists: &[],
    switches: &[],
    unsupported: &[],
};

/// `HEALTHCHECK`
pub(super) fn health(rest: Fragment<'_>, reading: &mut Reading<'_>) -> Option<Health> {
    let (flags, rest) = flags(rest, HEALTH, reading);
    let (kind, command) = rest.split_word();
    match kind.text().to_ascii_uppercase().as_str() {
        "NONE" if command.is_empty() && flags.is_empty() => Some(Health::None),
        "NONE" => {
            let message = "`HEALTHCHECK NONE` takes nothing else";
            reading.wrong(rest.span(), message, usage("HEALTHCHECK"));
            None
        }
        "CMD" if command.is_empty() => {
            reading.wrong(kind.span(), "the check has no command", usage("HEALTHCHECK"));
            None
        }
        "CMD" => {
            let mut time = |name| duration(&flags, name, reading);
            let times =
                [time("interval"), time("timeout"), time("start-period"), time("start-interval")];
            let retries = retries(&flags, reading);
            let [interval, timeout, start_period, start_interval] = times;
            Some(Health::Check(HealthCheck {
                command: command::read(command, reading),
                interval: interval?,
                timeout: timeout?,
                start_period: start_period?,
                start_interval: start_interval?,
                retries: retries?,
            }))
        }
        _ => {
            let message = format!("{} is neither `CMD` nor `NONE`", quoted(kind.text()));
            reading.wrong(kind.span(), message, usage("HEALTHCHECK"));
            None
        }
    }
}

/// Nanoseconds of a flag; 0 where it is not given.
fn duration(flags: &[Flag<'_>], name: &str, reading: &mut Reading<'_>) -> Option<u64> {
    let Some(text) = value(flags, name) else { return Some(0) };
    let nanoseconds = nanoseconds(text.text()).filter(|time| *time == 0 || *time >= 1_000_000);
    if nanoseconds.is_none() {
        let message = format!("{} is not a duration of at least 1 ms", quoted(text.text()));
        let help = "durations look like `30s`, `1m30s` or `500ms`";
        reading.fault(Code::DockerfileFlag, text.span(), message, help);
    }
    nanoseconds
}

fn retries(flags: &[Flag<'_>], reading: &mut Reading<'_>) -> Option<u64> {
    let Some(text) = value(flags, "retries") else { return Some(0) };
    let retries = text.text().parse::<u32>().ok();
    if retries.is_none() {
        let message = format!("{} is not a number of tries", quoted(text.text()));
        reading.fault(Code::DockerfileFlag, text.span(), message, "write a whole number");
    }
    retries.map(u64::from)
}

/// A duration as Go writes it: numbers with units, one after the other.
fn nanoseconds(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = rest.split_at(digits);
        let (unit, after) =
            unit.split_at(unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len()));
        let scale = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let part = number.parse::<u64>().ok()?.checked_mul(scale)?;
        total = total.checked_add(part).filter(|total| i64::try_from(*total).is_ok())?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_ports() {
        for (text, expect) in [
            ("0", Some(0)),
            ("30s", Some(30_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("500ms", Some(500_000_000)),
            ("", None),
            ("5", None),
            ("s", None),
            ("1d", None),
            ("9999999999h", None),
        ] {
            assert_eq!(nanoseconds(text), expect, "{text}");
        }
        for (text, expect) in [
            ("80", true),
            ("80/tcp", true),
            ("53/UDP", true),
            ("8000-8010", true),
            ("8010-8000", false),
            ("65536", false),
            ("80/http", false),
            ("", false),
            ("http", false),
        ] {
            assert_eq!(is_port(text), expect, "{text}");
        }
    }
}
