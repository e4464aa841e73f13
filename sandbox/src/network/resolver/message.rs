//! DNS messages (RFC 1035, section 4): the question of a client, and the addresses in an answer.
//!
//! Both come from strangers. Nothing here allocates by a number that a message claims, and a
//! compressed name is followed only towards the message's start, so it ends.

use std::{collections::BTreeSet, net::Ipv4Addr};

/// Bytes of the header.
const HEADER: usize = 12;
/// Longest name, as text (RFC 1035, section 2.3.4).
const NAME: usize = 253;
/// Record types.
pub(super) const A: u16 = 1;
pub(super) const CNAME: u16 = 5;
/// The Internet.
const IN: u16 = 1;
/// Records of an answer that are looked at.
const RECORDS: usize = 256;

/// Response codes (RFC 1035, section 4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// No error; with no answers: the name has no such record.
    None = 0,
    /// The question could not be read.
    Format = 1,
    /// The servers could not be asked.
    Server = 2,
    /// There is no such name.
    NoSuchName = 3,
    /// This kind of message is not answered.
    NotImplemented = 4,
}

/// A client's question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// Number by which the client knows its answer.
    pub(super) id: u16,
    /// Whether recursion is wanted, as a flag of the header.
    flags: u16,
    /// The name, in lower case, without a dot at its end.
    pub(super) name: String,
    /// Record type.
    pub(super) kind: u16,
    /// The question as it stands in the message.
    bytes: Vec<u8>,
}

/// Reads a client's message; the code says what is wrong, with the message's number.
pub(super) fn question(message: &[u8]) -> Result<Question, Option<(u16, Code)>> {
    let id = number(message, 0).ok_or(None)?;
    let flags = number(message, 2).ok_or(None)?;
    if flags & 0x8000 != 0 {
        // An answer, which nobody asked for.
        return Err(None);
    }
    if flags & 0x7800 != 0 {
        return Err(Some((id, Code::NotImplemented)));
    }
    let malformed = Some((id, Code::Format));
    if number(message, 4) != Some(1) || number(message, 6) != Some(0) {
        return Err(malformed);
    }
    let (name, end) = read_name(message, HEADER, false).ok_or(malformed)?;
    let kind = number(message, end).ok_or(malformed)?;
    if number(message, end + 2).ok_or(malformed)? != IN {
        return Err(Some((id, Code::NotImplemented)));
    }
    let bytes = message.get(HEADER..end + 4).ok_or(malformed)?.to_vec();
    Ok(Question { id, flags: flags & 0x0100, name, kind, bytes })
}

impl Question {
    /// The question alone, as a message of our own with this number.
    pub(super) fn ask(&self, id: u16) -> Vec<u8> {
        let mut message = header(id, 0x0100, 0);
        message.extend(&self.bytes);
        message
    }

    /// An answer of ours: an error, or addresses with the seconds that they may be kept.
    pub(super) fn answer(&self, code: Code, addresses: &[Ipv4Addr], seconds: u32) -> Vec<u8> {
        // An answer, with recursion available.
        let flags = 0x8080 | self.flags | code as u16;
        let addresses = addresses.get(..addresses.len().min(24)).unwrap_or_default();
        let mut message = header(self.id, flags, u16::try_from(addresses.len()).unwrap_or(0));
        message.extend(&self.bytes);
        for address in addresses {
            // The name is the question's.
            message.extend([0xc0, 0x0c]);
            message.extend(A.to_be_bytes());
            message.extend(IN.to_be_bytes());
            message.extend(seconds.to_be_bytes());
            message.extend(4u16.to_be_bytes());
            message.extend(address.octets());
        }
        message
    }

    /// Whether `message` answers [`Self::ask`] with this number.
    pub(super) fn is_answered_by(&self, message: &[u8], id: u16) -> bool {
        number(message, 0) == Some(id)
            && number(message, 2).is_some_and(|flags| flags & 0x8000 != 0)
            && number(message, 4) == Some(1)
            && message
                .get(HEADER..HEADER + self.bytes.len())
                .is_some_and(|bytes| bytes.eq_ignore_ascii_case(&self.bytes))
    }
}

/// An error for a message that has no readable question.
pub(super) fn error(id: u16, code: Code) -> Vec<u8> {
    let mut message = header(id, 0x8080 | code as u16, 0);
    if let Some(questions) = message.get_mut(5) {
        *questions = 0;
    }
    message
}

fn header(id: u16, flags: u16, answers: u16) -> Vec<u8> {
    [id, flags, 1, answers, 0, 0].iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// Whether a server has cut its answer short.
pub(super) fn is_truncated(message: &[u8]) -> bool {
    number(message, 2).is_some_and(|flags| flags & 0x0200 != 0)
}

/// Gives an answer another number.
pub(super) fn renumber(message: &mut [u8], id: u16) {
    if let Some(place) = message.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

/// What a server says of the name of `question`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Its addresses, those of its aliases included.
    pub(super) addresses: Vec<Ipv4Addr>,
    /// The shortest time that a record on the way to them may be kept, in seconds.
    pub(super) seconds: u32,
    /// Whether the name does not exist.
    pub(super) no_such_name: bool,
}

/// Reads the addresses in a server's answer; `None` when it is none, or an error of the server.
pub(super) fn answer(question: &Question, message: &[u8]) -> Option<Answer> {
    let code = number(message, 2)? & 0xf;
    if code != 0 && code != Code::NoSuchName as u16 {
        return None;
    }
    let count = usize::from(number(message, 6)?).min(RECORDS);
    let mut place = HEADER + question.bytes.len();
    // An alias comes before what it leads to (RFC 1034, section 3.6.2, and every server).
    let mut names = BTreeSet::from([question.name.clone()]);
    let mut found = Answer {
        seconds: u32::MAX,
        no_such_name: code == Code::NoSuchName as u16,
        ..Answer::default()
    };
    for _ in 0..count {
        let (name, end) = read_name(message, place, true)?;
        let (kind, class) = (number(message, end)?, number(message, end + 2)?);
        let high = u32::from(number(message, end + 4)?);
        let seconds = high << 16 | u32::from(number(message, end + 6)?);
        let data = end + 10;
        let length = usize::from(number(message, end + 8)?);
        place = data + length;
        let content = message.get(data..place)?;
        if class != IN || !names.contains(&name) {
            continue;
        }
        match kind {
            A => {
                let octets: [u8; 4] = content.try_into().ok()?;
                found.addresses.push(octets.into());
            }
            CNAME => {
                names.insert(read_name(message, data, true)?.0);
            }
            _ => continue,
        }
        found.seconds = found.seconds.min(seconds);
    }
    Some(found)
}

/// Reads a name in lower case; returns the place after it too.
fn read_name(message: &[u8], start: usize, compressed: bool) -> Option<(String, usize)> {
    let (mut name, mut place, mut end, mut earliest) = (String::new(), start, None, start);
    loop {
        let length = usize::from(*message.get(place)?);
        match length {
            0 => return Some((name, end.unwrap_or(place + 1))),
            1..=63 => {
                if !name.is_empty() {
                    name.push('.');
                }
                for byte in message.get(place + 1..place + 1 + length)? {
                    // Anything else could pass for a dot, or for nothing, in a comparison or report.
                    if !byte.is_ascii_graphic() || *byte == b'.' {
                        return None;
                    }
                    name.push(char::from(byte.to_ascii_lowercase()));
                }
                place += 1 + length;
            }
            192.. if compressed => {
                end.get_or_insert(place + 2);
                let target = usize::from(number(message, place)? & 0x3fff);
                if target >= earliest {
                    return None;
                }
                (place, earliest) = (target, target);
            }
            _ => return None,
        }
        if name.len() > NAME {
            return None;
        }
    }
}

fn number(message: &[u8], place: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(place..place.checked_add(2)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &[u8], kind: u16) -> Vec<u8> {
        let mut message = header(7, 0x0100, 0);
        message.extend(name);
        message.extend([kind.to_be_bytes(), IN.to_be_bytes()].concat());
        message
    }

    fn asked() -> Question {
        question(&query(b"\x03WWW\x07example\x03org\x00", A)).unwrap()
    }

    fn record(name: &[u8], kind: u16, seconds: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes = name.to_vec();
        bytes.extend([kind.to_be_bytes(), IN.to_be_bytes()].concat());
        bytes.extend(seconds.to_be_bytes());
        bytes.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        bytes.extend(content);
        bytes
    }

    fn reply(code: u16, records: &[Vec<u8>]) -> Vec<u8> {
        let mut message = header(9, 0x8080 | code, u16::try_from(records.len()).unwrap());
        message.extend(&asked().bytes);
        message.extend(records.concat());
        message
    }

    #[test]
    fn questions() {
        let asked = asked();
        assert_eq!((asked.id, asked.name.as_str(), asked.kind), (7, "www.example.org", A));
        assert_eq!(question(&query(b"\0", A)).unwrap().name, "");
        let malformed = Err(Some((7, Code::Format)));
        for (name, what) in [
            (&b"\x03www"[..], "cut short"),
            (b"\xc0\x0c", "compressed"),
            (b"\x40", "a reserved length"),
            (b"\x03w.w\0", "a dot in a label"),
            (b"\x03w\0w\0", "a NUL byte in a label"),
            (&[&b"\x3f"[..], &[b'a'; 63]].concat().repeat(5), "too long"),
        ] {
            assert_eq!(question(&query(name, A)), malformed, "{what}");
        }
        assert_eq!(question(&[0; 11]), Err(Some((0, Code::Format))), "a short header");
        assert_eq!(question(b"\0"), Err(None), "no header");
        assert_eq!(question(&reply(0, &[])), Err(None), "an answer");
    }

    #[test]
    fn addresses_of_the_name_and_its_aliases_and_no_others() {
        let alias = b"\x03cdn\x07example\x03net\x00";
        let message = reply(
            0,
            &[
                record(b"\xc0\x0c", CNAME, 60, alias),
                record(alias, A, 300, &[192, 0, 2, 1]),
                record(b"\x05other\x00", A, 300, &[192, 0, 2, 2]),
                record(b"\xc0\x0c", 28, 1, &[0; 16]),
            ],
        );
        assert!(asked().is_answered_by(&message, 9));
        assert!(!asked().is_answered_by(&message, 8));
        let found = answer(&asked(), &message).unwrap();
        assert_eq!(found.addresses, [Ipv4Addr::new(192, 0, 2, 1)]);
        assert_eq!((found.seconds, found.no_such_name), (60, false));
        assert!(answer(&asked(), &reply(3, &[])).unwrap().no_such_name);
        assert_eq!(answer(&asked(), &reply(2, &[])), None, "an error of the server");
    }

    #[test]
    fn hostile_answers_end() {
        for (records, what) in [
            (vec![b"\xc0\x21\0\x01".to_vec()], "a pointer to itself"),
            (vec![b"\xc0\xff".to_vec()], "a pointer beyond the end"),
            (vec![record(b"\xc0\x0c", A, 1, &[1, 2, 3])], "a short address"),
            (vec![record(b"\xc0\x0c", A, 1, &[1; 4])[..12].to_vec()], "cut short"),
        ] {
            assert_eq!(answer(&asked(), &reply(0, &records)), None, "{what}");
        }
        let mut claims = reply(0, &[]);
        claims[6..8].copy_from_slice(&u16::MAX.to_be_bytes());
        assert_eq!(answer(&asked(), &claims), None, "more records than there are");
    }

    #[test]
    fn answers_of_ours_are_read_as_they_were_meant() {
        let addresses = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
        let message = asked().answer(Code::None, &addresses, 60);
        assert!(asked().is_answered_by(&message, 7));
        let found = answer(&asked(), &message).unwrap();
        assert_eq!((found.addresses.as_slice(), found.seconds), (&addresses[..], 60));
        let many = vec![addresses[0]; 1000];
        assert!(asked().answer(Code::None, &many, 60).len() <= 512, "fits without EDNS");
    }
}
