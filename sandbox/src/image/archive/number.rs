//! The numeric fields of a tar header: octal text, or GNU's base-256.
//!
//! A number that does not fit is an error here, where lenient readers cut it: the size decides
//! where the next header is.

/// Parses an unsigned field. Blank is zero, as every writer of old archives means it.
pub(crate) fn unsigned(field: &[u8]) -> Option<u64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => {
            // Base-256: the lowest 63 bits after the mark; 0x40 in the first byte is a sign.
            let mut value = u64::from(first & 0x7f);
            if first & 0x40 != 0 {
                return None;
            }
            for byte in field.iter().skip(1) {
                if value >> 55 != 0 {
                    return None;
                }
                value = value << 8 | u64::from(*byte);
            }
            Some(value)
        }
        _ => octal(field),
    }
}

/// Parses a time: a negative one (before 1970) is zero.
pub(crate) fn time(field: &[u8]) -> Option<u64> {
    match field.first() {
        Some(first) if first & 0xc0 == 0xc0 => Some(0),
        _ => unsigned(field),
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let text = field.get(..end)?.trim_ascii();
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value.checked_mul(8)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"    644 ", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777777\0", Some(0o77_777_777_777)),
            (b"0000648\0", None),
            (b"-000001\0", None),
            (b"6 4\0", None),
            (&[0x80, 0, 0, 0, 0, 0, 0, 5], Some(5)),
            (
                &[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                Some(i64::MAX as u64),
            ),
            (&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], None),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], None),
            (&[0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], None),
        ] {
            assert_eq!(unsigned(field), expected, "{field:?}");
        }
        assert_eq!(time(&[0xff; 12]), Some(0));
        assert_eq!(time(b"00000000017\0"), Some(15));
    }
}
