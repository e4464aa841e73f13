//! Makes a job's output safe and readable on a terminal, line by line.
//!
//! Output of a job is hostile: escape sequences can retitle the window, write the clipboard,
//! answer for the user, move into other jobs' lines or hide text. What comes out of here is text,
//! tabs and, where colour is wanted, SGR sequences (ECMA-48 8.3.117); everything else of C0, C1,
//! CSI, OSC, DCS, APC, PM and SOS is dropped, and so are the bidirectional overrides that would
//! reorder a line beyond its prefix. Bytes that are no UTF-8 become U+FFFD.
//!
//! No state survives a line feed but the colour in force: an unfinished sequence costs the rest
//! of its line, never the rest of the log. A lone carriage return begins its line anew, as
//! progress bars mean it, so only the last state of a bar is shown.
//!
//! Nearly all output is plain lines. Those are found by a search that goes over many bytes at once,
//! and shown from where they lie; [`Sanitizer::character`] says what any text means, one character
//! after the other.

use std::fmt::Write as _;

/// What is shown of one line at most, in bytes; the log has the rest.
pub(crate) const LINE_MAX: usize = 64 * 1024;

/// Parameters of an escape sequence beyond this are no colour that anyone uses.
const PARAMETERS_MAX: usize = 64;
/// The colours in force that are carried into the next line.
const ACTIVE_MAX: usize = 256;
/// Bytes that are looked at together.
const BLOCK: usize = 64;

const RESET: &str = "\x1b[0m";

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Text,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte.
    EscapeIntermediate,
    /// Within a control sequence, whose parameters are being collected.
    Control,
    /// Within OSC, DCS, APC, PM or SOS.
    String,
}

/// Splits one stream into lines that are safe to show.
#[derive(Debug)]
pub(crate) struct Sanitizer {
    colour: bool,
    state: State,
    parameters: String,
    /// The beginning of a character whose rest is in the next chunk.
    partial: Vec<u8>,
    line: String,
    /// Something of the line has been seen, though it may have left no text.
    in_line: bool,
    carriage_return: bool,
    /// Bytes beyond [`LINE_MAX`].
    excess: usize,
    /// SGR sequences since the last reset.
    active: String,
}

impl Sanitizer {
    /// At the beginning of a stream; SGR sequences are kept where `colour` is wanted.
    pub(crate) fn new(colour: bool) -> Self {
        Self {
            colour,
            state: State::Text,
            parameters: String::new(),
            partial: Vec::new(),
            line: String::new(),
            in_line: false,
            carriage_return: false,
            excess: 0,
            active: String::new(),
        }
    }

    /// Takes bytes and calls `show` with each line that they complete, without its line feed.
    pub(crate) fn push(&mut self, bytes: &[u8], mut show: impl FnMut(&str)) {
        if self.partial.is_empty() {
            self.decode(bytes, &mut show);
        } else {
            let mut joined = std::mem::take(&mut self.partial);
            joined.extend_from_slice(bytes);
            self.decode(&joined, &mut show);
        }
    }

    /// Shows what there is of a line without its end, as when the step is over.
    pub(crate) fn flush(&mut self, mut show: impl FnMut(&str)) {
        if !std::mem::take(&mut self.partial).is_empty() {
            self.text("\u{fffd}", &mut show);
        }
        if self.in_line {
            self.end_line(&mut show);
        }
    }

    fn decode(&mut self, bytes: &[u8], show: &mut impl FnMut(&str)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match std::str::from_utf8(rest) {
                Ok(text) => return self.text(text, show),
                Err(error) => {
                    let (valid, invalid) =
                        rest.split_at_checked(error.valid_up_to()).unwrap_or((&[], rest));
                    self.text(std::str::from_utf8(valid).unwrap_or_default(), show);
                    let Some(length) = error.error_len() else {
                        self.partial = invalid.to_vec();
                        return;
                    };
                    self.text("\u{fffd}", show);
                    rest = invalid.get(length..).unwrap_or_default();
                }
            }
        }
    }

    fn text(&mut self, text: &str, show: &mut impl FnMut(&str)) {
        let mut rest = text;
        while !rest.is_empty() {
            if self.state == State::Text && !self.carriage_return {
                let plain = plain_length(rest.as_bytes());
                let (plain, after) = rest.split_at_checked(plain).unwrap_or((rest, ""));
                self.plain_text(plain, show);
                rest = after;
            }
            let mut characters = rest.chars();
            if let Some(character) = characters.next() {
                self.character(character, show);
            }
            rest = characters.as_str();
        }
    }

    /// Text of which only line feeds have a meaning.
    fn plain_text(&mut self, text: &str, show: &mut impl FnMut(&str)) {
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', text.as_bytes()) {
            let line = text.get(begin..end).unwrap_or_default();
            begin = end + 1;
            // Colours in force stand at the beginning of each line.
            if self.line.is_empty() && self.excess == 0 && line.len() <= LINE_MAX {
                show(line);
                self.in_line = false;
            } else {
                self.append(line);
                self.end_line(show);
            }
        }
        match text.get(begin..) {
            Some("") | None => {}
            Some(rest) => self.append(rest),
        }
    }

    /// One character of whatever it may be; the whole meaning of a text.
    fn character(&mut self, character: char, show: &mut impl FnMut(&str)) {
        match character {
            '\n' => return self.end_line(show),
            '\r' => {
                self.carriage_return = true;
                self.in_line = true;
                return;
            }
            _ => {}
        }
        if std::mem::take(&mut self.carriage_return) {
            self.begin_line();
        }
        self.in_line = true;
        match (self.state, character) {
            (_, '\x1b') => self.state = State::Escape,
            (_, '\x18' | '\x1a') => self.state = State::Text,
            // 8-bit controls, here as characters; in UTF-8 terminals honour them as well.
            (_, '\u{9b}') => self.begin_control(),
            (_, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') => self.state = State::String,
            (State::String, '\u{7}' | '\u{9c}') => self.state = State::Text,
            (State::String, _) => {}
            (State::Escape, '[') => self.begin_control(),
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') => self.state = State::String,
            (State::Escape | State::EscapeIntermediate, ' '..='/') => {
                self.state = State::EscapeIntermediate;
            }
            (State::Escape | State::EscapeIntermediate, _) => self.state = State::Text,
            (State::Control, '\0'..='\u{1f}') => {}
            (State::Control, ' '..='?') => {
                if self.parameters.len() <= PARAMETERS_MAX {
                    self.parameters.push(character);
                }
            }
            (State::Control, _) => {
                self.state = State::Text;
                if character == 'm' {
                    self.select_graphic_rendition();
                }
            }
            (State::Text, '\t') => self.append("\t"),
            (State::Text, character) => {
                if !character.is_control() && !is_bidirectional_override(character) {
                    self.append(character.encode_utf8(&mut [0; 4]));
                }
            }
        }
    }

    fn begin_control(&mut self) {
        self.state = State::Control;
        self.parameters.clear();
    }

    fn select_graphic_rendition(&mut self) {
        let parameters = std::mem::take(&mut self.parameters);
        let plain = |byte: u8| byte.is_ascii_digit() || matches!(byte, b';' | b':');
        if !self.colour || parameters.len() > PARAMETERS_MAX || !parameters.bytes().all(plain) {
            return;
        }
        let sequence = format!("\x1b[{parameters}m");
        self.append(&sequence);
        let resets = parameters.split(';').next().is_none_or(|first| first.bytes().all(is_zero));
        if resets || self.active.len() + sequence.len() > ACTIVE_MAX {
            self.active.clear();
        }
        if !parameters.bytes().all(|byte| is_zero(byte) || byte == b';') {
            self.active.push_str(&sequence);
        }
    }

    fn append(&mut self, text: &str) {
        self.in_line = true;
        if self.excess > 0 || self.line.len() + text.len() > LINE_MAX {
            // An escape sequence is shown whole or not at all, and so is a character.
            let room = if self.excess > 0 || text.starts_with('\x1b') {
                0
            } else {
                let room = LINE_MAX.saturating_sub(self.line.len());
                (0..=room).rev().find(|room| text.is_char_boundary(*room)).unwrap_or_default()
            };
            let (shown, excess) = text.split_at_checked(room).unwrap_or(("", text));
            self.line.push_str(shown);
            self.excess += excess.len();
        } else {
            self.line.push_str(text);
        }
    }

    fn end_line(&mut self, show: &mut impl FnMut(&str)) {
        if self.excess > 0 {
            // Writing into a string cannot fail.
            let _ = write!(self.line, " [{} more bytes are in the log]", self.excess);
        }
        if self.colour && self.line.contains('\x1b') && !self.line.ends_with(RESET) {
            self.line.push_str(RESET);
        }
        show(&self.line);
        self.state = State::Text;
        self.carriage_return = false;
        self.begin_line();
        self.in_line = false;
    }

    fn begin_line(&mut self) {
        self.excess = 0;
        self.line.clear();
        self.line.push_str(&self.active);
    }
}

/// How much of UTF-8 text needs no look at its characters.
fn plain_length(text: &[u8]) -> usize {
    let is_plain = |block: &[u8; BLOCK]| !block.iter().fold(false, |any, it| any | is_special(*it));
    let (blocks, _) = text.as_chunks::<BLOCK>();
    let plain = blocks.iter().take_while(|block| is_plain(block)).count() * BLOCK;
    let rest = text.get(plain..).unwrap_or_default();
    plain + rest.iter().position(|byte| is_special(*byte)).unwrap_or(rest.len())
}

/// Whether a byte of UTF-8 text needs a look at its character: controls but tab and line feed, and
/// the first bytes of C1 controls and of bidirectional overrides.
fn is_special(byte: u8) -> bool {
    // Without a branch, so that blocks of bytes are compared at once.
    ((byte < b' ') & (byte != b'\t') & (byte != b'\n'))
        | (byte == 0x7f)
        | (byte == 0xc2)
        | (byte == 0xe2)
}

fn is_bidirectional_override(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

fn is_zero(byte: u8) -> bool {
    byte == b'0'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(colour: bool, chunks: &[&[u8]]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut sanitizer = Sanitizer::new(colour);
        for chunk in chunks {
            sanitizer.push(chunk, |line| lines.push(line.to_owned()));
        }
        sanitizer.flush(|line| lines.push(line.to_owned()));
        lines
    }

    #[track_caller]
    fn check(input: &str, expected: &[&str]) {
        assert_eq!(lines(false, &[input.as_bytes()]), expected);
    }

    #[track_caller]
    fn check_colour(input: &str, expected: &[&str]) {
        assert_eq!(lines(true, &[input.as_bytes()]), expected);
    }

    #[test]
    fn text_is_split_into_lines() {
        check("", &[]);
        check("\n", &[""]);
        check("a\nb", &["a", "b"]);
        check("a\r\nb\r\n", &["a", "b"]);
        check("tab\tünïcode €\n", &["tab\tünïcode €"]);
    }

    #[test]
    fn controls_and_strings_are_dropped() {
        check("a\x07b\x08c\x00d\x7fe\n", &["abcde"]);
        // Window title, clipboard, hyperlink: the ends are BEL, ESC \ and C1 ST.
        check("a\x1b]0;title\x07b\x1b]52;c;aGk=\x1b\\c\x1b]8;;http://x\u{9c}d\n", &["abcd"]);
        check("a\x1bPq#0\x1b\\b\x1b_apc\x1b\\c\x1b^pm\x1b\\d\x1bXsos\x1b\\e\n", &["abcde"]);
        check("a\u{9b}2Jb\u{9d}0;t\u{9c}c\u{85}d\u{90}q\u{9c}e\n", &["abcde"]);
        check("a\x1b[2J\x1b[1;1Hb\x1b[?25lc\x1b[6nd\x1b(Be\x1bcf\x1b#8g\n", &["abcdefg"]);
        check("a\u{202e}b\u{2066}c\u{2028}d\n", &["abcd"]);
    }

    #[test]
    fn an_unfinished_sequence_costs_its_line_only() {
        check("a\x1b]0;title\nb\n", &["a", "b"]);
        check("a\x1b[31\nm\x1b\nb\n", &["a", "m", "b"]);
        check("a\x1bPdata", &["a"]);
    }

    #[test]
    fn colour_is_kept_only_where_it_is_wanted_and_never_leaks_into_other_lines() {
        check("a\x1b[1;31mred\x1b[0m\n", &["ared"]);
        check_colour("a\x1b[1;31mred\x1b[0m\n", &["a\x1b[1;31mred\x1b[0m"]);
        check_colour(
            "\x1b[31mr\ns\x1b[m\nt\n",
            &["\x1b[31mr\x1b[0m", "\x1b[31ms\x1b[m\x1b[0m", "t"],
        );
        check_colour("\x1b[38:2::1:2:3mx\n", &["\x1b[38:2::1:2:3mx\x1b[0m"]);
        // Not SGR although they end in `m`: xterm's key modifiers and private modes.
        check_colour("\x1b[>4;2ma\x1b[?4mb\x1b[1 mc\n", &["abc"]);
        check_colour(&format!("\x1b[{}mx\n", "1;".repeat(40)), &["x"]);
    }

    #[test]
    fn a_lone_carriage_return_begins_the_line_anew() {
        check(" 1%\r 50%\r100%\ndone\n", &["100%", "done"]);
        check("100%\r", &["100%"]);
        check("a\r\r\nb", &["a", "b"]);
        check("50%\r\x1b[Kok\n", &["ok"]);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(lines(false, &[b"a\xff\xfeb\x9b31mc\n"]), ["a\u{fffd}\u{fffd}b\u{fffd}31mc"]);
        assert_eq!(lines(false, &[b"\xe2\x82", b"\xac\n\xe2\x82"]), ["€", "\u{fffd}"]);
        assert_eq!(lines(false, &[b"\xe2", b"\x1b[31mx\n"]), ["\u{fffd}x"]);
    }

    #[test]
    fn long_lines_are_cut_with_the_rest_counted() {
        let line = "x".repeat(LINE_MAX - 1) + "€€\nnext\n";
        let shown = lines(false, &[line.as_bytes()]);
        let expected = "x".repeat(LINE_MAX - 1) + " [6 more bytes are in the log]";
        assert_eq!(shown, [expected.as_str(), "next"]);
    }

    /// What comes out by the meaning of each character.
    fn by_character(colour: bool, input: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut sanitizer = Sanitizer::new(colour);
        for character in String::from_utf8_lossy(input).chars() {
            sanitizer.character(character, &mut |line: &str| lines.push(line.to_owned()));
        }
        sanitizer.flush(|line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn lines_are_cut_at_the_same_length_however_they_are_found() {
        for length in [LINE_MAX - 3, LINE_MAX - 2, LINE_MAX - 1, LINE_MAX, LINE_MAX + 1] {
            for (before, after) in [("", ""), ("", "€"), ("\x1b[1m", "\t"), ("€\n", "é\x07\t")]
            {
                let text = format!("{before}{}{after}\nnext\n", "x".repeat(length));
                let (whole, expected) =
                    (lines(true, &[text.as_bytes()]), by_character(true, text.as_bytes()));
                assert!(whole == expected, "{length} bytes after {before:?}, before {after:?}");
            }
        }
    }

    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            // Longer than what is looked at together.
            "[a-z \\tüж]{0,90}\n?".prop_map(String::into_bytes),
            "[a-z\\t]{60,70}[\\x1b\\r\\x7f·”│\n]".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..8),
            "[\\x1b\\[\\]P0-9;:?mJh\\n\\r\\t\\x07\\\\ a]{0,12}".prop_map(String::into_bytes),
            "\\PC{0,4}[\u{80}-\u{9f}]".prop_map(String::into_bytes),
            "\\x1b\\[[0-9;]{0,70}m".prop_map(String::into_bytes),
        ];
        prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
    }

    /// The line without its SGR sequences.
    fn without_colour(line: &str) -> String {
        let mut text = String::new();
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("\x1b[") {
            text.push_str(before);
            let end = after.find(|c: char| !"0123456789;:".contains(c)).unwrap();
            assert_eq!(&after[end..=end], "m", "not SGR: {after:?}");
            rest = &after[end + 1..];
        }
        text + rest
    }

    proptest! {
        #[test]
        fn nothing_but_text_and_sgr_comes_out(input in hostile()) {
            for line in lines(true, &[&input]) {
                prop_assert!(!without_colour(&line).chars().any(|c| c.is_control() && c != '\t'));
                prop_assert!(!line.contains('\x1b') || line.ends_with(RESET));
            }
            for line in lines(false, &[&input]) {
                prop_assert!(!line.chars().any(|c| c.is_control() && c != '\t'));
            }
        }

        #[test]
        fn plain_lines_mean_what_their_characters_mean(input in hostile(), colour: bool) {
            prop_assert_eq!(lines(colour, &[&input]), by_character(colour, &input));
        }

        #[test]
        fn chunk_borders_make_no_difference(
            input in hostile(),
            cut: prop::sample::Index,
            colour: bool,
        ) {
            let (before, after) = input.split_at(cut.index(input.len() + 1));
            prop_assert_eq!(lines(colour, &[before, after]), lines(colour, &[&input]));
            let bytes: Vec<&[u8]> = input.chunks(1).collect();
            prop_assert_eq!(lines(colour, &bytes), lines(colour, &[&input]));
        }
    }
}
