//! Sizes, counts, durations and rates as people write them.
//!
//! `MiB` is binary and `MB` decimal, as the standards say (IEC 80000-13). A bare `M` or `G` means
//! one here and the other there, so it is refused for sizes; counts are decimal.

use std::time::Duration;

/// Why a quantity cannot be read; the text says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QuantityError {
    message: String,
}

impl QuantityError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

type Result<T> = std::result::Result<T, QuantityError>;

const SIZES: [(&str, u64); 11] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// A size in bytes: `512MiB`, `2GB`, `1.5GiB`, `4096`.
///
/// # Errors
/// The text is no such size, or it is not a whole number of bytes above zero.
pub fn size(text: &str) -> Result<u64> {
    let (number, unit) = split(text);
    let scale = SIZES.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
    let scale = scale.ok_or_else(|| {
        let letter = unit.trim_end_matches(['i', 'I', 'b', 'B']).to_ascii_uppercase();
        match letter.as_str() {
            "K" | "M" | "G" | "T" => QuantityError::new(format!(
                "write `{number}{letter}iB` (powers of 1024) or `{number}{letter}B` (powers of 1000)"
            )),
            _ => QuantityError::new("write a size such as `512MiB` or `2GB`"),
        }
    })?;
    scaled(number, scale)
        .ok_or_else(|| QuantityError::new("write a size such as `512MiB` or `2GB`"))
}

/// A count: `512`, `200k`, `1M`.
///
/// # Errors
/// The text is no such count, or it is zero.
pub fn count(text: &str) -> Result<u64> {
    let (number, unit) = split(text);
    let scale = match unit {
        "" => 1,
        "k" | "K" => 1_000,
        "m" | "M" => 1_000_000,
        _ => return Err(QuantityError::new("write a count such as `512` or `200k`")),
    };
    scaled(number, scale).ok_or_else(|| QuantityError::new("write a count such as `512` or `200k`"))
}

/// The most open files that Linux lets a process ask for by default (`fs.nr_open`).
const OPEN_FILES_MAX: u64 = 1_048_576;

/// A limit of open files: a [`count`] up to 1 048 576.
///
/// # Errors
/// The text is no count, or it is zero or larger.
pub fn open_files(text: &str) -> Result<u64> {
    count(text).and_then(|files| {
        if files <= OPEN_FILES_MAX {
            Ok(files)
        } else {
            Err(QuantityError::new(format!("write at most {OPEN_FILES_MAX} open files")))
        }
    })
}

/// Processors, in thousandths: `2`, `0.5`, `1.25`.
///
/// # Errors
/// The text is no such number, or it is below 0.01 or above 4096.
pub fn millicpus(text: &str) -> Result<u64> {
    scaled(text, 1_000)
        .filter(|millicpus| (10..=4_096_000).contains(millicpus))
        .ok_or_else(|| QuantityError::new("write a number of processors such as `2` or `0.5`"))
}

/// A duration: `90s`, `15m`, `1h30m`, `500ms`, `2d`; at most 30 days.
///
/// # Errors
/// The text is no such duration, or it is zero or too long.
pub fn duration(text: &str) -> Result<Duration> {
    const MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
    let wrong = || QuantityError::new("write a duration such as `90s`, `15m` or `1h30m`");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, _) = split(rest);
        let after = rest.get(number.len()..).unwrap_or_default();
        let length = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(length).ok_or_else(wrong)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" if after.is_empty() => {
                let number = number.trim();
                return Err(QuantityError::new(format!(
                    "write a unit: `{number}s` or `{number}m`"
                )));
            }
            _ => return Err(wrong()),
        };
        let part = Duration::from_millis(scaled(number, millis).ok_or_else(wrong)?);
        total = total.saturating_add(part);
        rest = next;
    }
    match total {
        Duration::ZERO => Err(wrong()),
        _ if total > MAX => Err(QuantityError::new("the longest duration is `30d`")),
        _ => Ok(total),
    }
}

/// Bytes per second: a size, `/s` or not.
///
/// # Errors
/// As for [`size`].
pub fn byte_rate(text: &str) -> Result<u64> {
    size(text.strip_suffix("/s").unwrap_or(text))
        .map_err(|_| QuantityError::new("write a rate such as `50MiB/s`"))
}

/// Bits per second: `20Mbit`, `1Gbit`, `500kbit`.
///
/// # Errors
/// The text is no such rate, or it is zero.
pub fn bit_rate(text: &str) -> Result<u64> {
    let wrong = || QuantityError::new("write a rate such as `20Mbit`");
    let (number, unit) = split(text);
    let scale = match unit.strip_suffix("/s").unwrap_or(unit) {
        "bit" => 1,
        "kbit" => 1_000,
        "Mbit" => 1_000_000,
        "Gbit" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    scaled(number, scale).ok_or_else(wrong)
}

/// A size as it would be written: in the largest unit of which it is a whole number.
pub fn written_size(bytes: u64) -> String {
    let whole = |(unit, scale): &&(&str, u64)| {
        unit.len() > 1 && *unit != "KB" && bytes >= *scale && bytes.is_multiple_of(*scale)
    };
    let unit = SIZES.iter().filter(whole).max_by_key(|(_, scale)| *scale);
    match unit {
        Some((unit, scale)) => format!("{}{unit}", bytes / scale),
        None => format!("{bytes}B"),
    }
}

/// Thousandths of processors as they would be written.
pub fn written_millicpus(millicpus: u64) -> String {
    let (whole, rest) = (millicpus / 1000, millicpus % 1000);
    if rest == 0 {
        return whole.to_string();
    }
    format!("{whole}.{rest:03}").trim_end_matches('0').to_owned()
}

/// A duration as it would be written, to the millisecond.
pub fn written_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut written = String::new();
    for (unit, millis) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if rest >= millis {
            written.extend([(rest / millis).to_string().as_str(), unit]);
            rest %= millis;
        }
    }
    if written.is_empty() { "0s".to_owned() } else { written }
}

/// The number at the front and what follows it.
fn split(text: &str) -> (&str, &str) {
    let length = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(length).unwrap_or((text, ""));
    (number, unit.trim_start())
}

/// A decimal number times `scale`, if that is a whole number above zero.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    if number.contains('.') && fraction.is_empty() {
        return None;
    }
    let mut value = u128::from(whole.parse::<u64>().ok()?) * u128::from(scale);
    if !fraction.is_empty() {
        let divisor = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
        let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(scale);
        if part % divisor != 0 && scale < 1024 {
            return None;
        }
        value += part / divisor;
    }
    u64::try_from(value).ok().filter(|value| *value > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: PartialEq + std::fmt::Debug>(
        read: impl Fn(&str) -> Result<T>,
        cases: &[(&str, std::result::Result<T, &str>)],
    ) {
        for (text, expect) in cases {
            let found = read(text);
            match (&found, expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect, "{text}"),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{text}: {error}");
                }
                _ => panic!("{text}: {found:?}, expected {expect:?}"),
            }
        }
    }

    #[test]
    fn sizes() {
        check(
            size,
            &[
                ("512MiB", Ok(512 << 20)),
                ("2GB", Ok(2_000_000_000)),
                ("1.5GiB", Ok(3 << 29)),
                ("4096", Ok(4096)),
                ("4 KiB", Ok(4096)),
                ("2G", Err("`2GiB` (powers of 1024) or `2GB`")),
                ("2g", Err("`2GiB`")),
                ("2gib", Err("`2GiB`")),
                ("0", Err("such as")),
                ("-1MiB", Err("such as")),
                ("1..5MiB", Err("such as")),
                ("1.MiB", Err("such as")),
                ("99999999999999TiB", Err("such as")),
                ("", Err("such as")),
            ],
        );
    }

    #[test]
    fn counts_and_rates() {
        check(
            count,
            &[("512", Ok(512)), ("200k", Ok(200_000)), ("1.5k", Ok(1500)), ("2x", Err("200k"))],
        );
        check(
            millicpus,
            &[
                ("2", Ok(2000)),
                ("0.5", Ok(500)),
                ("0.001", Err("processors")),
                ("two", Err("processors")),
            ],
        );
        check(
            byte_rate,
            &[("50MiB/s", Ok(50 << 20)), ("1MB", Ok(1_000_000)), ("x", Err("50MiB/s"))],
        );
        check(
            bit_rate,
            &[("20Mbit", Ok(20_000_000)), ("1Gbit/s", Ok(1_000_000_000)), ("20MB", Err("20Mbit"))],
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (bytes, expect) in [
            (4 << 30, "4GiB"),
            (3 << 29, "1536MiB"),
            (2_000_000_000, "2GB"),
            (1_500, "1500B"),
            (1, "1B"),
        ] {
            assert_eq!(written_size(bytes), expect);
            assert_eq!(size(expect), Ok(bytes));
        }
        for (thousandths, expect) in [(2000, "2"), (500, "0.5"), (1250, "1.25")] {
            assert_eq!(written_millicpus(thousandths), expect);
            assert_eq!(millicpus(expect), Ok(thousandths));
        }
        for (millis, expect) in [(90_000, "1m30s"), (5_400_000, "1h30m"), (500, "500ms")] {
            let time = Duration::from_millis(millis);
            assert_eq!(written_duration(time), expect);
            assert_eq!(duration(expect), Ok(time));
        }
    }

    #[test]
    fn durations() {
        check(
            duration,
            &[
                ("90s", Ok(Duration::from_secs(90))),
                ("1h30m", Ok(Duration::from_secs(5400))),
                ("500ms", Ok(Duration::from_millis(500))),
                ("1.5h", Ok(Duration::from_secs(5400))),
                ("90", Err("`90s`")),
                ("0s", Err("such as")),
                ("31d", Err("`30d`")),
                ("5 parsecs", Err("such as")),
                ("", Err("such as")),
            ],
        );
    }
}
