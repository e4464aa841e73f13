//! The order of tags: as versions, so that `v1.10` comes after `v1.9`.

use std::cmp::Ordering;

/// Compares two names of tags: numbers in them by value, all else by bytes. Of `v1`, `v1.2` and
/// `v1.2-rc1`, the one that says most comes last, but what is before a release comes before it.
pub(super) fn compare(one: &str, other: &str) -> Ordering {
    let (mut left, mut right) = (one.as_bytes(), other.as_bytes());
    loop {
        match (left.first(), right.first()) {
            (None, None) => return one.cmp(other),
            (None, Some(next)) => return longer(*next).reverse(),
            (Some(next), None) => return longer(*next),
            (Some(a), Some(b)) if a.is_ascii_digit() && b.is_ascii_digit() => {
                let (a, rest_left) = number(left);
                let (b, rest_right) = number(right);
                let order = a.len().cmp(&b.len()).then_with(|| a.cmp(b));
                if order.is_ne() {
                    return order;
                }
                (left, right) = (rest_left, rest_right);
            }
            (Some(a), Some(b)) => {
                if a != b {
                    // `1.0-rc1` and `1.0.1`: what is before a release is also before what follows.
                    return a.cmp(b);
                }
                left = left.get(1..).unwrap_or_default();
                right = right.get(1..).unwrap_or_default();
            }
        }
    }
}

/// How a name compares to its own beginning.
fn longer(next: u8) -> Ordering {
    if matches!(next, b'-' | b'~') { Ordering::Less } else { Ordering::Greater }
}

/// The digits at the beginning, without zeros that mean nothing, and what follows.
fn number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end).unwrap_or((text, &[]));
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    (digits.get(zeros..).unwrap_or_default(), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_their_order() {
        let ordered = [
            "latest",
            "v1",
            "v1.0-rc1",
            "v1.0-rc2",
            "v1.0-rc10",
            "v1.0",
            "v1.0.1",
            "v1.2",
            "v1.9",
            "v1.10",
            "v2-beta",
            "v2",
        ];
        let mut sorted = ordered;
        sorted.reverse();
        sorted.sort_by(|one, other| compare(one, other));
        assert_eq!(sorted, ordered);
        assert_eq!(compare("v01", "v1"), Ordering::Less);
        assert_eq!(compare("v1", "v1"), Ordering::Equal);
    }
}
