//! The forms that a value takes when programs print it: base64, hex, percent, JSON, shell.
//!
//! Every function returns the part of the encoded text that depends on nothing but the value, so
//! that it is found wherever the value is embedded in something larger.

use std::{collections::BTreeSet, fmt::Write as _};

use super::secret::SECRET_MIN;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Where tools break encoded text into lines: PEM at 64 characters, MIME and `base64` at 76,
/// `xxd -p` at 60.
const BASE64_WRAPS: [usize; 2] = [64, 76];
const HEX_WRAP: usize = 60;

/// The longest value of which the characters at the edges of its base64 are hidden as well: they
/// hold at most 4 bits each, which of a longer value are nothing.
const EDGES_MAX: usize = 256;

/// All forms of `value` and of each of its lines, without duplicates and none under
/// [`SECRET_MIN`] bytes.
pub(super) fn forms(value: &[u8]) -> BTreeSet<Vec<u8>> {
    let mut forms = BTreeSet::new();
    forms_of(value, &mut forms);
    for line in value.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() >= SECRET_MIN && line.len() < value.len() {
            forms_of(line, &mut forms);
        }
    }
    forms.retain(|form| form.len() >= SECRET_MIN);
    forms
}

fn forms_of(value: &[u8], forms: &mut BTreeSet<Vec<u8>>) {
    forms.insert(value.to_vec());
    for alphabet in [BASE64, BASE64_URL] {
        for alignment in 0..3 {
            let encoded = base64_core(value, alignment, alphabet);
            if alignment == 0 {
                for wrap in BASE64_WRAPS {
                    forms.extend(wrapped(&encoded, wrap));
                }
            }
            if value.len() <= EDGES_MAX && encoded.len() >= SECRET_MIN {
                forms.extend(base64_edges(value, alignment, alphabet, &encoded));
            }
            forms.insert(encoded);
        }
    }
    for upper in [false, true] {
        let encoded = hex(value, upper);
        forms.extend(wrapped(&encoded, HEX_WRAP));
        forms.insert(encoded);
        for kept in PERCENT_KEPT {
            forms.insert(percent(value, kept, upper));
        }
    }
    forms.insert(form_urlencoded(value));
    for style in [Json::Minimal, Json::Slash, Json::Html, Json::Ascii] {
        forms.insert(json(value, style));
    }
    forms.insert(replace(value, b'\'', br"'\''"));
    forms.insert(replace(value, b'\'', br#"'"'"'"#));
    forms.insert(backslash(value, |byte| b"\"\\$`".contains(&byte)));
    forms.insert(backslash(value, |byte| {
        !byte.is_ascii_alphanumeric() && !b"_-./+@%:,=".contains(&byte) && byte.is_ascii()
    }));
    forms.insert(ansi_c(value));
}

/// The lines of an encoded text, without a last one that is so short that it occurs by chance.
fn wrapped(encoded: &[u8], width: usize) -> impl Iterator<Item = Vec<u8>> {
    encoded.chunks(width).filter(|line| line.len() >= 2 * SECRET_MIN).map(<[u8]>::to_vec)
}

/// The characters of the base64 text (RFC 4648) that are decided by `value` alone when
/// `alignment` bytes modulo 3 stand before it: the ones at either end that share bits with a
/// neighbour are left out.
fn base64_core(value: &[u8], alignment: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let first_bit = alignment * 8;
    let end_bit = first_bit + value.len() * 8;
    let bit = |position: usize| -> u8 {
        let offset = position - first_bit;
        value.get(offset / 8).map_or(0, |byte| (byte >> (7 - offset % 8)) & 1)
    };
    (first_bit.div_ceil(6)..end_bit / 6)
        .map(|character| {
            let index = (0..6).fold(0_u8, |index, step| (index << 1) | bit(character * 6 + step));
            alphabet.get(usize::from(index)).copied().unwrap_or_default()
        })
        .collect()
}

/// The core with the character before it or after it, which holds bits of the value and of a
/// neighbour: one form for each thing that the neighbour can be. Found as well as the core, they
/// hide these bits too.
fn base64_edges(value: &[u8], alignment: usize, alphabet: &[u8; 64], core: &[u8]) -> Vec<Vec<u8>> {
    let (first, last) = (value.first().copied(), value.last().copied());
    let character = |index: u8| alphabet.get(usize::from(index & 63)).copied().unwrap_or_default();
    let mut edges = Vec::new();
    // How many bits of the character are the value's, at its beginning and at its end.
    let (before, after) = ((6 - alignment * 8 % 6) % 6, (alignment + value.len()) * 8 % 6);
    if let Some(first) = first.filter(|_| before > 0) {
        for neighbour in 0..1_u8 << (6 - before) {
            let index = (neighbour << before) | (first >> (8 - before));
            edges.push([&[character(index)], core].concat());
        }
    }
    if let Some(last) = last.filter(|_| after > 0) {
        for neighbour in 0..1_u8 << (6 - after) {
            let index = (last << (6 - after)) | neighbour;
            edges.push([core, &[character(index)]].concat());
        }
    }
    edges
}

fn hex(value: &[u8], upper: bool) -> Vec<u8> {
    value.iter().flat_map(|byte| hex_pair(*byte, upper)).collect()
}

fn hex_pair(byte: u8, upper: bool) -> [u8; 2] {
    [byte >> 4, byte & 15].map(|digit| match digit {
        0..=9 => b'0' + digit,
        _ if upper => b'A' + digit - 10,
        _ => b'a' + digit - 10,
    })
}

/// What percent-encoders leave as it is besides letters and digits: RFC 3986's unreserved set,
/// the same and `/` (paths), `encodeURIComponent`, `encodeURI`, and nothing.
const PERCENT_KEPT: [&[u8]; 5] = [b"-_.~", b"-_.~/", b"-_.!~*'()", b"-_.!~*'();,/?:@&=+$#", b""];

fn percent(value: &[u8], kept: &[u8], upper: bool) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(value.len() * 3);
    for byte in value {
        if byte.is_ascii_alphanumeric() || kept.contains(byte) {
            encoded.push(*byte);
        } else {
            encoded.push(b'%');
            encoded.extend(hex_pair(*byte, upper));
        }
    }
    encoded
}

/// `application/x-www-form-urlencoded`, as the WHATWG URL standard serialises it.
fn form_urlencoded(value: &[u8]) -> Vec<u8> {
    replace(&percent(value, b" *-._", true), b' ', b"+")
}

/// The dialects of JSON strings that encoders write.
#[derive(Clone, Copy, PartialEq)]
enum Json {
    /// Only what RFC 8259 demands.
    Minimal,
    /// `/` escaped as well (PHP).
    Slash,
    /// `<`, `>` and `&` as `\u00XX` (Go).
    Html,
    /// Everything outside ASCII as `\uXXXX` (Python).
    Ascii,
}

fn json(value: &[u8], style: Json) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(value.len() + 8);
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            json_character(character, style, &mut encoded);
        }
        encoded.extend(chunk.invalid());
    }
    encoded
}

fn json_character(character: char, style: Json, encoded: &mut Vec<u8>) {
    let short = match character {
        '"' => Some(b'"'),
        '\\' => Some(b'\\'),
        '\n' => Some(b'n'),
        '\r' => Some(b'r'),
        '\t' => Some(b't'),
        '\u{8}' => Some(b'b'),
        '\u{c}' => Some(b'f'),
        '/' if style == Json::Slash => Some(b'/'),
        _ => None,
    };
    if let Some(short) = short {
        encoded.extend([b'\\', short]);
        return;
    }
    let numeric = match character {
        '\0'..='\u{1f}' => true,
        '<' | '>' | '&' => style == Json::Html,
        _ => style == Json::Ascii && !character.is_ascii(),
    };
    if numeric {
        for unit in character.encode_utf16(&mut [0; 2]) {
            let mut escape = String::with_capacity(6);
            // Writing into a string cannot fail.
            let _ = write!(escape, "\\u{unit:04x}");
            encoded.extend(escape.into_bytes());
        }
    } else {
        encoded.extend(character.encode_utf8(&mut [0; 4]).bytes());
    }
}

/// The inside of the shell's `$'…'`, as `bash -x` and `printf %q` write values with control
/// characters.
fn ansi_c(value: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(value.len() + 8);
    for byte in value {
        match byte {
            b'\n' => encoded.extend(br"\n"),
            b'\r' => encoded.extend(br"\r"),
            b'\t' => encoded.extend(br"\t"),
            b'\x1b' => encoded.extend(br"\E"),
            b'\'' | b'\\' => encoded.extend([b'\\', *byte]),
            _ => encoded.push(*byte),
        }
    }
    encoded
}

fn backslash(value: &[u8], escaped: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(value.len() + 8);
    for byte in value {
        if escaped(*byte) {
            encoded.push(b'\\');
        }
        encoded.push(*byte);
    }
    encoded
}

fn replace(value: &[u8], from: u8, to: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(value.len() + 8);
    for byte in value {
        if *byte == from {
            encoded.extend(to);
        } else {
            encoded.push(*byte);
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expected: &[&str]) {
        let forms = forms(value.as_bytes());
        for form in expected {
            assert!(
                forms.contains(form.as_bytes()),
                "{form:?} is not among the forms of {value:?}"
            );
        }
    }

    #[test]
    fn base64_is_found_in_every_alignment() {
        // printf 'pass?>word' | base64, after 0, 1 and 2 bytes of something else.
        check("pass?>word", &["cGFzcz8+d29yZ", "Bhc3M/Pndvcm", "wYXNzPz53b3Jk"]);
        check("pass?>word", &["cGFzcz8-d29yZ", "Bhc3M_Pndvcm"]);
    }

    /// Every character of a base64 text that any bit of the value decides is in some form.
    #[test]
    fn base64_is_hidden_to_its_edges() {
        for value in [&b"pass?>word"[..], b"0123456", b"abcd", b"\xff\x00\xfe\x01\xfd", &[7; 256]] {
            let forms = forms(value);
            for (before, after) in
                [("", ""), ("x", "y"), ("xy", ""), ("", "yz"), ("x", "yz"), ("xy", "y")]
            {
                let text = [before.as_bytes(), value, after.as_bytes()].concat();
                for alphabet in [BASE64, BASE64_URL] {
                    // What stands before the first whole group does not matter to the encoding.
                    let encoded = base64_padded(&text, alphabet);
                    let mut hidden = vec![false; encoded.len()];
                    for form in &forms {
                        for at in memchr::memmem::find_iter(&encoded, form) {
                            hidden[at..at + form.len()].fill(true);
                        }
                    }
                    let first = before.len() * 8 / 6;
                    let last = ((before.len() + value.len()) * 8 - 1) / 6;
                    let shown: Vec<usize> = (first..=last).filter(|at| !hidden[*at]).collect();
                    assert!(
                        shown.is_empty(),
                        "{value:?} between {before:?} and {after:?}: {shown:?}"
                    );
                }
            }
        }
    }

    /// All characters of a base64 text, zero bits at the end where they are missing.
    fn base64_padded(text: &[u8], alphabet: &[u8; 64]) -> Vec<u8> {
        let groups = text.len().div_ceil(3);
        let mut padded = text.to_vec();
        padded.resize(groups * 3, 0);
        let mut encoded = base64_core(&padded, 0, alphabet);
        encoded.truncate((text.len() * 8).div_ceil(6));
        encoded
    }

    #[test]
    fn base64_and_hex_are_found_when_they_are_wrapped() {
        let value = "k".repeat(100);
        let encoded = "a2tr".repeat(34);
        check(&value, &[&encoded[..76], &encoded[76..133], &encoded[..64], &"6b".repeat(30)]);
    }

    #[test]
    fn texts_are_found_in_their_escaped_forms() {
        check("a b/ü", &["a%20b%2F%C3%BC", "a%20b%2f%c3%bc", "a%20b/%C3%BC", "a+b%2F%C3%BC"]);
        check("a b/ü", &["6120622fc3bc", "6120622FC3BC"]);
        check("q\"\\\n/x", &[r#"q\"\\\n/x"#, r#"q\"\\\n\/x"#]);
        check("ü😀<&>", &[r"\u00fc\ud83d\ude00<&>", r"ü😀\u003c\u0026\u003e"]);
        check("it's $5", &[r"it'\''s $5", r#"it'"'"'s $5"#, r"it\'s\ \$5", r"it's \$5"]);
        check("tab\tend'", &[r"tab\tend\'"]);
    }

    #[test]
    fn lines_of_a_value_are_forms_too_unless_they_are_short() {
        check("first line\r\nabc\nlast", &["first line", "last", "Zmlyc3QgbGluZ"]);
        assert!(!forms(b"first line\nabc\nlast").contains(b"abc".as_slice()));
        assert!(forms(b"abcd\nabc").iter().all(|form| form.len() >= SECRET_MIN));
    }
}
