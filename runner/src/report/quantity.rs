//! Bytes and durations as people read them.

use std::{fmt, time::Duration};

/// Thousandths of a processor as people write them: `2`, `1.5`.
pub(crate) fn cpus(millicpus: u64) -> String {
    let (whole, rest) = (millicpus / 1000, millicpus % 1000);
    let text = format!("{whole}.{rest:03}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A number of bytes in binary units with at most one decimal: `1000 B`, `1.5 KiB`, `2 GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let exponent = self.0.checked_ilog2().unwrap_or_default() / 10;
        let Some(mut index) = exponent.checked_sub(1) else {
            return f.pad(&format!("{} B", self.0));
        };
        let tenths = |index: u32| {
            let unit = u128::from(1_u64 << ((index + 1) * 10));
            (u128::from(self.0) * 10 + unit / 2) / unit
        };
        let mut tenth = tenths(index);
        // 1023.96 KiB is 1 MiB and not 1024 KiB.
        if tenth >= 10_240 && index < 5 {
            index += 1;
            tenth = tenths(index);
        }
        let unit = usize::try_from(index).ok().and_then(|index| UNITS.get(index)).unwrap_or(&"");
        match tenth % 10 {
            0 => f.pad(&format!("{} {unit}", tenth / 10)),
            decimal => f.pad(&format!("{}.{decimal} {unit}", tenth / 10)),
        }
    }
}

/// A duration with three or four significant digits: `12 ms`, `1.24 s`, `59.9 s`, `2 m 05 s`,
/// `1 h 02 m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed(pub(crate) Duration);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = (self.0.as_micros() + 500) / 1000;
        let seconds = self.0.as_secs();
        let text = match milliseconds {
            0..1000 => format!("{milliseconds} ms"),
            1000..10_000 => {
                format!("{}.{:02} s", milliseconds / 1000, milliseconds % 1000 / 10)
            }
            10_000..60_000 => {
                format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
            }
            60_000..3_600_000 => format!("{} m {:02} s", seconds / 60, seconds % 60),
            _ => format!("{} h {:02} m", seconds / 3600, seconds % 3600 / 60),
        };
        f.pad(&text)
    }
}

/// A count with its noun: `1 test`, `2 tests`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_binary_units() {
        let check = |bytes: u64, expected: &str| assert_eq!(Bytes(bytes).to_string(), expected);
        check(0, "0 B");
        check(1000, "1000 B");
        check(1023, "1023 B");
        check(1024, "1 KiB");
        check(1536, "1.5 KiB");
        check(64 * 1024 * 1024, "64 MiB");
        check(1024 * 1024 - 1, "1 MiB");
        check(u64::MAX, "16 EiB");
        assert_eq!(format!("{:>9}", Bytes(1536)), "  1.5 KiB");
    }

    #[test]
    fn durations_are_shown_with_the_digits_that_matter() {
        let check = |milliseconds: u64, expected: &str| {
            assert_eq!(Elapsed(Duration::from_millis(milliseconds)).to_string(), expected);
        };
        check(0, "0 ms");
        check(999, "999 ms");
        check(1239, "1.23 s");
        check(59_960, "59.9 s");
        check(60_000, "1 m 00 s");
        check(125_000, "2 m 05 s");
        check(3_725_000, "1 h 02 m");
        assert_eq!(Elapsed(Duration::from_micros(999_700)).to_string(), "1.00 s");
    }

    #[test]
    fn counts_have_their_noun() {
        assert_eq!(
            [count(0, "test"), count(1, "test"), count(2, "test")].join(" "),
            "0 tests 1 test 2 tests"
        );
    }
}
