//! What a scalar without quotes means: null, a boolean, a number, or text.
//!
//! `serde_yaml` decides. It is asked only where the first character leaves a doubt, because a
//! large file has tens of thousands of plain words.

use serde_yaml::Value;

/// A scalar with its meaning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    /// Integers above 2^53 lose their last digits here; their text is kept beside it.
    Number(f64),
    Text,
}

/// The longest plain scalar that can be anything but text: a number of more digits is not one.
const MAX_TYPED: usize = 64;

/// What `text` without quotes means.
pub(crate) fn resolve(text: &str) -> Scalar {
    if !may_be_typed(text) {
        return Scalar::Text;
    }
    match serde_yaml::from_str::<Value>(text) {
        Ok(Value::Null) => Scalar::Null,
        Ok(Value::Bool(value)) => Scalar::Bool(value),
        Ok(Value::Number(number)) => number.as_f64().map_or(Scalar::Text, Scalar::Number),
        _ => Scalar::Text,
    }
}

fn may_be_typed(text: &str) -> bool {
    let Some(first) = text.bytes().next() else { return true };
    match first {
        b'0'..=b'9' | b'+' | b'-' | b'.' => text.len() <= MAX_TYPED && may_be_number(text),
        b'~' => text.len() == 1,
        b'n' | b'N' | b't' | b'T' | b'f' | b'F' => {
            ["null", "true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word))
        }
        _ => false,
    }
}

/// Digits with a point and an exponent, a number of another base, infinity, or not a number.
fn may_be_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let decimal =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
    unsigned.bytes().all(decimal)
        || (unsigned.starts_with("0x") || unsigned.starts_with("0o") || unsigned.starts_with("0b"))
        || unsigned.eq_ignore_ascii_case(".inf")
        || unsigned.eq_ignore_ascii_case(".nan")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        for (text, expect) in [
            ("", Scalar::Null),
            ("~", Scalar::Null),
            ("null", Scalar::Null),
            ("true", Scalar::Bool(true)),
            ("False", Scalar::Bool(false)),
            ("yes", Scalar::Text),
            ("on", Scalar::Text),
            ("12", Scalar::Number(12.0)),
            ("-0x1f", Scalar::Number(-31.0)),
            ("3.10", Scalar::Number(3.1)),
            ("1e3", Scalar::Number(1000.0)),
            ("15m", Scalar::Text),
            ("0o17", Scalar::Number(15.0)),
            (".inf", Scalar::Number(f64::INFINITY)),
            ("1_000", Scalar::Text),
            ("1:2", Scalar::Text),
            ("-", Scalar::Text),
            ("2026-11-23", Scalar::Text),
            ("nothing", Scalar::Text),
        ] {
            assert_eq!(resolve(text), expect, "{text:?}");
        }
        assert_eq!(resolve(&"9".repeat(100_000)), Scalar::Text);
    }
}
