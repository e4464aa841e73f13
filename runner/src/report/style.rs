//! Colour, width and cleanliness of what is printed for people.

use std::borrow::Cow;

use anstream::{AutoStream, ColorChoice, stream::RawStream};
use anstyle::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::record::Conclusion;
use crate::log::terminal::Sanitizer;

/// Whether to use colour on `stream`: where it is a terminal that can, unless the user says
/// otherwise by `NO_COLOR`, `CLICOLOR` or `CLICOLOR_FORCE`.
pub(crate) fn wants_colour(stream: &impl RawStream) -> bool {
    AutoStream::choice(stream) != ColorChoice::Never
}

/// Text in a style, or as it is where there is no colour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    pub(super) colour: bool,
}

impl Paint {
    pub(super) fn style(self, text: &str, style: Style) -> String {
        if self.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.style(text, Style::new().bold())
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.style(text, Style::new().dimmed())
    }

    pub(super) fn conclusion(self, text: &str, conclusion: Conclusion) -> String {
        let colour = match conclusion {
            Conclusion::Passed => AnsiColor::Green,
            Conclusion::Failed | Conclusion::TimedOut => AnsiColor::Red,
            Conclusion::SystemFault => AnsiColor::Magenta,
            Conclusion::Cancelled | Conclusion::Skipped => AnsiColor::Yellow,
        };
        self.style(text, colour.on_default())
    }

    /// The name of the job with this number, in a colour that its neighbours do not have.
    pub(super) fn job(self, name: &str, number: usize) -> String {
        const COLOURS: [AnsiColor; 6] = [
            AnsiColor::Cyan,
            AnsiColor::Blue,
            AnsiColor::Magenta,
            AnsiColor::Yellow,
            AnsiColor::Green,
            AnsiColor::BrightBlue,
        ];
        let colour = COLOURS.get(number % COLOURS.len()).copied().unwrap_or(AnsiColor::Cyan);
        self.style(name, colour.on_default())
    }
}

/// A text of others, such as a name, as one line that is safe to show.
pub(crate) fn one_line(text: &str) -> String {
    let mut clean = String::new();
    let mut append = |line: &str| {
        if !clean.is_empty() && !line.is_empty() {
            clean.push(' ');
        }
        clean.push_str(&line.replace('\t', " "));
    };
    let mut sanitizer = Sanitizer::new(false);
    sanitizer.push(text.as_bytes(), &mut append);
    sanitizer.flush(&mut append);
    clean
}

/// `text` in at most `width` columns, with an ellipsis where something is missing.
pub(super) fn fit(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return Cow::Borrowed(text);
    }
    let mut fitted = String::new();
    let mut used = 1;
    for character in text.chars() {
        used += character.width().unwrap_or_default();
        if used > width {
            break;
        }
        fitted.push(character);
    }
    fitted.push('…');
    Cow::Owned(fitted)
}

/// `text` with blanks behind it up to `width` columns.
pub(super) fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(text.width());
    format!("{text}{}", " ".repeat(missing))
}

/// `text` broken between words into lines of at most `width` columns; a longer word stands alone.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_become_one_clean_line() {
        let check = |text: &str, expected: &str| assert_eq!(one_line(text), expected);
        check("build", "build");
        check("a\nb\tc\x1b[2Jd\x1b]0;x\x07", "a b cd");
        check("\n\n", "");
    }

    #[test]
    fn texts_fit_by_columns_and_not_by_bytes() {
        assert_eq!(fit("abc", 3), "abc");
        assert_eq!(fit("abcd", 3), "ab…");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(pad("日本", 6), "日本  ");
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a very-long-word b", 6), ["a", "very-long-word", "b"]);
    }

    #[test]
    fn what_is_no_terminal_gets_colour_only_by_force() {
        let forced = std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0")
            && std::env::var_os("NO_COLOR").is_none();
        assert_eq!(wants_colour(&tempfile::tempfile().unwrap()), forced);
    }

    #[test]
    fn without_colour_nothing_is_added() {
        let (plain, colour) = (Paint { colour: false }, Paint { colour: true });
        assert_eq!(plain.conclusion("failed", Conclusion::Failed), "failed");
        assert_eq!(colour.conclusion("failed", Conclusion::Failed), "\x1b[31mfailed\x1b[0m");
        assert_ne!(colour.job("a", 0), colour.job("a", 1));
    }
}
