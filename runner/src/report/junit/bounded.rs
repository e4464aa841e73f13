//! A file of unknown origin as a bounded stream of valid UTF-8.
//!
//! The XML parser keeps one element in memory whatever its size, and wants nothing but UTF-8; the
//! bound on an element has to be below it, where the bytes come from.

use std::{
    cell::Cell,
    io::{self, Read},
    rc::Rc,
};

/// The least that a reader of [`Bounded`] may ask for; a `BufReader` asks for more.
const BUFFER_MIN: usize = 64;

/// Lets at most so many bytes through, altogether and between two elements, as valid UTF-8.
pub(super) struct Bounded<R> {
    source: R,
    left: u64,
    element: usize,
    pending: Rc<Cell<usize>>,
    /// Decoded bytes that did not fit, or the beginning of a character.
    partial: Vec<u8>,
    started: bool,
}

impl<R> Bounded<R> {
    /// Lets `bytes` through in all and `element` between two resets of [`Bounded::pending`].
    pub(super) fn new(source: R, bytes: u64, element: usize) -> Self {
        Self {
            source,
            left: bytes,
            element,
            pending: Rc::default(),
            partial: Vec::new(),
            started: false,
        }
    }

    /// Bytes since the last element; its reader sets it to 0 after each.
    pub(super) fn pending(&self) -> Rc<Cell<usize>> {
        Rc::clone(&self.pending)
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // The replacement character is three times as long as the byte that it replaces.
        let room = (buffer.len() / 4).max(1);
        if buffer.len() < BUFFER_MIN {
            let error = format!("a buffer of at least {BUFFER_MIN} bytes is needed");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        if self.pending.get() > self.element {
            return Err(io::Error::other(format!(
                "an element of more than {} bytes",
                self.element
            )));
        }
        let mut input = std::mem::take(&mut self.partial);
        let carried = input.len();
        input.resize(room + carried, 0);
        let read = loop {
            match self.source.read(input.get_mut(carried..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        input.truncate(carried + read);
        let count = u64::try_from(read).unwrap_or(u64::MAX);
        if count > self.left {
            return Err(io::Error::other("a file that is too large"));
        }
        self.left -= count;
        if !std::mem::replace(&mut self.started, true)
            && (input.starts_with(b"\xff\xfe") || input.starts_with(b"\xfe\xff"))
        {
            return Err(io::Error::other("a file in UTF-16, which is not supported"));
        }
        let mut filled = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(target) = buffer.get_mut(filled..filled + bytes.len()) {
                target.copy_from_slice(bytes);
                filled += bytes.len();
            }
        };
        let mut rest = input.as_slice();
        while !rest.is_empty() {
            let Err(error) = std::str::from_utf8(rest) else {
                put(rest);
                break;
            };
            let (valid, invalid) =
                rest.split_at_checked(error.valid_up_to()).unwrap_or((&[], rest));
            put(valid);
            match error.error_len() {
                None if read > 0 => {
                    self.partial = invalid.to_vec();
                    break;
                }
                length => {
                    put("\u{fffd}".as_bytes());
                    rest = invalid.get(length.unwrap_or(invalid.len())..).unwrap_or_default();
                }
            }
        }
        self.pending.set(self.pending.get() + filled);
        // Nothing but the beginning of a character has come: nothing would mean the end.
        if filled == 0 && read > 0 { self.read(buffer) } else { Ok(filled) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};

    use proptest::prelude::*;

    use super::*;

    fn decode(source: impl Read, bytes: u64, element: usize) -> io::Result<String> {
        let bounded = Bounded::new(source, bytes, element);
        let mut reader = BufReader::with_capacity(BUFFER_MIN, bounded);
        let mut text = Vec::new();
        loop {
            let filled = reader.fill_buf()?.to_vec();
            if filled.is_empty() {
                return Ok(String::from_utf8(text).unwrap());
            }
            reader.consume(filled.len());
            text.extend(filled);
        }
    }

    /// Gives so many bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            let (now, later) = self.0.split_at(length);
            buffer[..length].copy_from_slice(now);
            self.0 = later;
            Ok(length)
        }
    }

    #[test]
    fn the_bounds_are_on_what_was_read() {
        let text = [b'x'; 5000];
        assert!(decode(&text[..], 5000, 5000).is_ok());
        let error = decode(&text[..], 4999, 5000).unwrap_err();
        assert_eq!(error.to_string(), "a file that is too large");
        let error = decode(&text[..], 5000, 4000).unwrap_err();
        assert_eq!(error.to_string(), "an element of more than 4000 bytes");
        let error = Bounded::new(&text[..], 1, 1).read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_decoded_as_a_whole_would_be(
            pieces in prop::collection::vec(
                prop_oneof![
                    "[a€ü😀]{0,9}".prop_map(String::into_bytes),
                    prop::collection::vec(any::<u8>(), 0..4),
                ],
                0..40,
            ),
            step in 1..20_usize,
        ) {
            let bytes = pieces.concat();
            prop_assume!(!bytes.starts_with(b"\xff\xfe") && !bytes.starts_with(b"\xfe\xff"));
            let decoded = decode(Slow(&bytes, step), 1 << 20, 1 << 20).unwrap();
            prop_assert_eq!(decoded, String::from_utf8_lossy(&bytes));
        }
    }
}
