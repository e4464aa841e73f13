//! Netlink messages (RFC 3549, `netlink(7)`): a header, a fixed part, and attributes that nest.
//!
//! Numbers in the header are in host order; what is inside attributes depends on the family, so
//! the caller says its bytes.

/// Bytes of a message's header.
const HEADER: usize = 16;
/// Bit of an attribute's type that says that it holds attributes.
const NESTED: u16 = 1 << 15;
/// Bits of an attribute's type that are its type.
const TYPE: u16 = 0x3fff;

/// A message that is being written.
#[derive(Debug)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// A message with this type, these `NLM_F_*` flags and this fixed part.
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(fixed);
        let mut message = Self(bytes);
        message.pad();
        message
    }

    /// Adds an attribute.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.pad();
        self
    }

    /// Adds a string, with the NUL byte at its end.
    pub(crate) fn string(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// Adds an attribute that holds what `fill` adds.
    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.0.len();
        self.attribute(kind | NESTED, &[]);
        fill(self);
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        if let Some(place) = self.0.get_mut(start..start + 2) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
        self
    }

    /// Adds bytes as they are: the fixed part of a message inside an attribute.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend(bytes);
        self.pad();
        self
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// The whole message, numbered, with more flags.
    pub(crate) fn finish(mut self, sequence: u32, flags: u16) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let known = number_u16(&self.0, 6).unwrap_or(0);
        for (place, bytes) in [
            (0, &length.to_ne_bytes()[..]),
            (6, &(known | flags).to_ne_bytes()),
            (8, &sequence.to_ne_bytes()),
        ] {
            if let Some(place) = self.0.get_mut(place..place + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        }
        self.0
    }
}

/// This is a request (`NLM_F_REQUEST`).
const NLM_F_REQUEST: u16 = 1;

/// A message that was received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a> {
    /// Its type.
    pub(crate) kind: u16,
    /// Its number.
    pub(crate) sequence: u32,
    /// All after the header.
    pub(crate) body: &'a [u8],
}

/// The messages in a datagram; one that is cut short ends the list.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(number_u32(bytes, 0)?).ok()?;
        let message = bytes.get(..length)?;
        let received = Received {
            kind: number_u16(message, 4)?,
            sequence: number_u32(message, 8)?,
            body: message.get(HEADER..)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(received)
    })
}

/// The attributes in `bytes`, with their types; one that is cut short ends the list.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(number_u16(bytes, 0)?);
        let kind = number_u16(bytes, 2)? & TYPE;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of this type.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

fn number_u16(bytes: &[u8], place: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(place..place + 2)?.try_into().ok()?))
}

/// A number of the header or of a fixed part.
pub(crate) fn number_u32(bytes: &[u8], place: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(place..place + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut message = Message::new(7, 0x100, &[1, 2, 3, 4]);
        message.string(3, "lo").nested(18, |inner| {
            inner.attribute(1, &[9]);
        });
        let bytes = message.finish(42, 4);
        let read: Vec<Received<'_>> = messages(&bytes).collect();
        assert_eq!((read.len(), read[0].kind, read[0].sequence), (1, 7, 42));
        assert_eq!(number_u16(&bytes, 6), Some(0x100 | 4 | 1));
        let body = &read[0].body[4..];
        assert_eq!(attribute(body, 3), Some(&b"lo\0"[..]));
        assert_eq!(attribute(body, 18).and_then(|inner| attribute(inner, 1)), Some(&[9][..]));
    }

    #[test]
    fn nonsense_is_the_end_and_not_a_panic_or_a_loop() {
        for bytes in [&[][..], &[0; 3], &[0; 16], &[255; 64], &[4, 0, 0, 0], &[3, 0, 0, 0]] {
            assert!(messages(bytes).count() <= bytes.len(), "{bytes:?}");
            assert!(attributes(bytes).count() <= bytes.len(), "{bytes:?}");
        }
    }
}
