//! PAX extended headers (POSIX.1-2024 pax, "pax Extended Header"): `length key=value\n` records.
//!
//! A record is delimited by its length and nothing else: values may hold newlines. A record that
//! does not fit exactly makes the archive damaged.

use super::sparse::PaxSparse;

/// What the records of one extended header say about the entry that follows.
#[derive(Debug, Default)]
pub(crate) struct Extensions {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<(u64, u32)>,
    /// Extended attributes, by full name.
    pub(crate) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: PaxSparse,
}

impl Extensions {
    /// Parses the records of a header of type `x`.
    pub(crate) fn parse(data: &[u8]) -> Result<Self, String> {
        let mut extensions = Self::default();
        records(data, |key, value| extensions.apply(key, value))?;
        Ok(extensions)
    }

    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal("size", value)?),
            b"uid" => self.uid = Some(decimal("uid", value)?),
            b"gid" => self.gid = Some(decimal("gid", value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.attributes.push((name.to_vec(), value.to_vec()));
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.apply(key, value)?;
                }
            }
        }
        Ok(())
    }
}

/// Checks a global header (type `g`): some readers apply it to all entries that follow and some
/// do not, so one that would make a difference is refused.
pub(crate) fn check_global(data: &[u8]) -> Result<(), String> {
    records(data, |key, _| match key {
        b"path" | b"linkpath" | b"size" | b"uid" | b"gid" | b"hdrcharset" => Err(format!(
            "a global header sets `{}`, which readers disagree about",
            key.escape_ascii()
        )),
        _ if key.starts_with(b"GNU.sparse.") || key.starts_with(b"SCHILY.xattr.") => Err(format!(
            "a global header sets `{}`, which readers disagree about",
            key.escape_ascii()
        )),
        _ => Ok(()),
    })
}

fn records(
    mut data: &[u8],
    mut apply: impl FnMut(&[u8], &[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let bad = || "a PAX record is malformed".to_owned();
    while !data.is_empty() {
        let space = data.iter().take(20).position(|byte| *byte == b' ').ok_or_else(bad)?;
        let length = data.get(..space).ok_or_else(bad)?;
        if length.is_empty() || length.first() == Some(&b'0') {
            return Err(bad());
        }
        let length = usize::try_from(decimal("length", length)?).map_err(|_| bad())?;
        // The record counts its own length field and ends in a newline.
        let record = data.get(space + 1..length).ok_or_else(bad)?;
        let record = record.strip_suffix(b"\n").ok_or_else(bad)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
        let (key, value) = record.split_at(equals);
        if key.is_empty() || key.contains(&0) {
            return Err(bad());
        }
        apply(key, value.get(1..).unwrap_or_default())?;
        data = data.get(length..).unwrap_or_default();
    }
    Ok(())
}

/// A decimal number of digits only.
pub(super) fn decimal(what: &str, value: &[u8]) -> Result<u64, String> {
    let digits = std::str::from_utf8(value)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|text| text.parse::<u64>().ok());
    number
        .filter(|number| i64::try_from(*number).is_ok())
        .ok_or_else(|| format!("PAX `{what}` is no number that fits"))
}

/// A time in decimal seconds with an optional fraction; before 1970 is 1970.
fn time(value: &[u8]) -> Result<(u64, u32), String> {
    let bad = || "PAX `mtime` is no time".to_owned();
    let text = std::str::from_utf8(value).map_err(|_| bad())?;
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = decimal("mtime", seconds.as_bytes())?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let nanoseconds = fraction
        .bytes()
        .chain(std::iter::repeat(b'0'))
        .take(9)
        .fold(0_u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    Ok(if negative { (0, 0) } else { (seconds, nanoseconds) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_taken_by_length() {
        let parsed = Extensions::parse(b"9 path=a\n13 size=0017\n22 mtime=12.345678901\n").unwrap();
        assert_eq!(parsed.path.as_deref(), Some(&b"a"[..]));
        assert_eq!((parsed.size, parsed.mtime), (Some(17), Some((12, 345_678_901))));
        let parsed = Extensions::parse(b"27 SCHILY.xattr.user.k=a\nb\n12 path=a=b\n").unwrap();
        assert_eq!(parsed.attributes, [(b"user.k".to_vec(), b"a\nb".to_vec())]);
        assert_eq!(parsed.path.as_deref(), Some(&b"a=b"[..]));
    }

    #[test]
    fn malformed_records_are_errors() {
        for data in [
            &b"9 path=a"[..],
            b"8 path=a\n",
            b"11 path=a\n",
            b"path=a\n",
            b" 9 path=a\n",
            b"09 path=a\n",
            b"+9 path=a\n",
            b"7 patha\n",
            b"5 =a\n",
            b"99999999999999999999 path=a\n",
            b"18446744073709551615 path=a\n",
            b"11 size=-1\n",
            b"11 size= 1\n",
            b"28 size=18446744073709551615\n",
            b"12 mtime=1e3\n",
            b"9 path=a\n\0\0\0",
        ] {
            assert!(Extensions::parse(data).is_err(), "{}", data.escape_ascii());
        }
        assert!(check_global(b"17 comment=abcde\n").is_ok());
        assert!(check_global(b"9 path=a\n").is_err());
        assert!(check_global(b"9 size=9\n").is_err());
    }
}
