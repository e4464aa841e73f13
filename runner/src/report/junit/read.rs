//! Reads what test runners call JUnit: no two agree, and the file is written by the job.
//!
//! What counts are the `testcase` elements; every number in an attribute is a claim. A case failed
//! if an element in it, or an attribute of it, says so. The file is read as a stream, with bounds
//! on its size, its depth, its cases, its text and any single element; entities that a document
//! defines for itself are never expanded, and a document that defines some is refused. What was
//! read before a fault is kept: a test runner that was killed leaves half a file, and that half is
//! what its user wants to see.

use std::{
    io::{BufReader, Read},
    time::Duration,
};

use quick_xml::{
    Reader, XmlVersion,
    escape::resolve_predefined_entity,
    events::{BytesStart, Event},
};

use super::{Case, Failure, Outcome, Suite, TestFile, bounded::Bounded, text::shorten};

/// Bounds on one file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes of the file.
    pub(crate) bytes: u64,
    /// Bytes of one tag or one piece of text.
    pub(crate) element: usize,
    /// Elements within elements.
    pub(crate) depth: usize,
    /// Test cases.
    pub(crate) cases: usize,
    /// Bytes of names, messages and details that are kept.
    pub(crate) text: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { bytes: 256 << 20, element: 8 << 20, depth: 64, cases: 500_000, text: 64 << 20 }
    }
}

/// What is kept of one failure's details.
const DETAILS_MAX: usize = 64 * 1024;
/// What is kept of one name or message.
const NAME_MAX: usize = 2048;

/// Reads one file; `path` is for messages. Text passes `mask` before it is kept: a test's message
/// can hold a secret as any output can.
pub(crate) fn read(
    path: &str,
    source: impl Read,
    bounds: Bounds,
    mask: &dyn Fn(&str) -> String,
) -> TestFile {
    let source = Bounded::new(source, bounds.bytes, bounds.element);
    let pending = source.pending();
    let mut reader = Reader::from_reader(BufReader::new(source));
    reader.config_mut().allow_dangling_amp = true;
    let mut parser = Parser {
        bounds,
        mask,
        text: 0,
        cases: 0,
        open: Vec::new(),
        suites: Vec::new(),
        finished: Vec::new(),
        case: None,
        claimed: None,
        root: false,
    };
    let mut buffer = Vec::new();
    let problem = loop {
        buffer.clear();
        pending.set(0);
        let step = match reader.read_event_into(&mut buffer) {
            Ok(Event::Eof) => break parser.end(),
            Ok(event) => parser.event(&event),
            Err(error) => Err(error.to_string()),
        };
        if let Err(problem) = step {
            break Some(format!("{problem} (at byte {})", reader.error_position().max(1)));
        }
    };
    let (suites, claimed) = parser.finish();
    let count: usize = suites.iter().map(|suite| suite.cases.len()).sum();
    let claimed = claimed.filter(|claimed| u64::try_from(count).ok() != Some(*claimed));
    TestFile { path: path.to_owned(), suites, claimed, problem }
}

/// The elements that mean something here.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Element {
    Suites,
    Suite,
    Case,
    Failure,
    Error,
    Skipped,
    Other,
}

struct Parser<'a> {
    bounds: Bounds,
    mask: &'a dyn Fn(&str) -> String,
    text: usize,
    cases: usize,
    open: Vec<Element>,
    /// The suites around the current place, the innermost last.
    suites: Vec<Suite>,
    finished: Vec<Suite>,
    case: Option<OpenCase>,
    claimed: Option<u64>,
    root: bool,
}

/// A case whose end has not come.
struct OpenCase {
    case: Case,
    /// The details of the failure or the skip that is open.
    details: String,
}

impl Parser<'_> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), String> {
        match event {
            Event::Start(start) => self.start(start),
            Event::Empty(start) => {
                self.start(start)?;
                self.close();
                Ok(())
            }
            Event::End(_) => {
                self.close();
                Ok(())
            }
            Event::Text(text) => {
                self.details(&text.xml10_content());
                Ok(())
            }
            Event::CData(text) => {
                self.details(&text.xml10_content());
                Ok(())
            }
            Event::GeneralRef(reference) => {
                let character = reference.resolve_char_ref().ok().flatten();
                let predefined = resolve_predefined_entity(reference);
                match (character, predefined) {
                    (Some(character), _) => self.details(character.encode_utf8(&mut [0; 4])),
                    (None, Some(text)) => self.details(text),
                    (None, None) => self.details(&format!("&{};", &**reference)),
                }
                Ok(())
            }
            Event::DocType(text) if text.contains('[') => {
                Err("a document that defines entities, which is refused".to_owned())
            }
            Event::DocType(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::Eof => {
                Ok(())
            }
        }
    }

    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), String> {
        if self.open.len() >= self.bounds.depth {
            return Err(format!("elements more than {} deep", self.bounds.depth));
        }
        let element = match start.local_name().as_ref() {
            "testsuites" => Element::Suites,
            "testsuite" => Element::Suite,
            "testcase" => Element::Case,
            "failure" => Element::Failure,
            "error" => Element::Error,
            "skipped" => Element::Skipped,
            _ => Element::Other,
        };
        let within_case = self.case.is_some();
        match element {
            Element::Suites | Element::Suite if !within_case => {
                // The outermost claim is about the whole file.
                if !self.root {
                    self.claimed = attribute(start, "tests").and_then(|tests| tests.parse().ok());
                }
                self.root = true;
                if element == Element::Suite {
                    self.open_suite(start)?;
                }
            }
            Element::Case if !within_case => {
                self.root = true;
                self.open_case(start)?;
            }
            Element::Failure | Element::Error | Element::Skipped
                if self.open.last() == Some(&Element::Case) =>
            {
                let failure = Failure {
                    message: self.keep(attribute(start, "message"))?,
                    kind: self.keep(attribute(start, "type"))?,
                    text: String::new(),
                };
                if let Some(open) = &mut self.case {
                    open.details.clear();
                    open.case.outcome = worse(&open.case.outcome, element, failure);
                }
            }
            _ => {}
        }
        let meaningful = match element {
            Element::Suites | Element::Suite | Element::Case => !within_case,
            Element::Failure | Element::Error | Element::Skipped => {
                self.open.last() == Some(&Element::Case)
            }
            Element::Other => false,
        };
        self.open.push(if meaningful { element } else { Element::Other });
        Ok(())
    }

    fn open_suite(&mut self, start: &BytesStart<'_>) -> Result<(), String> {
        let name = self.keep(attribute(start, "name"))?;
        let around = self.suites.last().map(|suite| suite.name.as_str()).unwrap_or_default();
        let name = match (around, name.as_str()) {
            ("", _) => name,
            (around, "") => around.to_owned(),
            (around, name) if name.starts_with(around) => name.to_owned(),
            (around, name) => format!("{around} / {name}"),
        };
        let mut name = name;
        shorten(&mut name, NAME_MAX);
        self.spend(name.len())?;
        self.suites.push(Suite { name, cases: Vec::new() });
        Ok(())
    }

    fn open_case(&mut self, start: &BytesStart<'_>) -> Result<(), String> {
        self.cases += 1;
        if self.cases > self.bounds.cases {
            return Err(format!("more than {} test cases", self.bounds.cases));
        }
        let seconds = attribute(start, "time").and_then(|time| time.replace(',', "").parse().ok());
        let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let case = Case {
            name: self.keep(attribute(start, "name"))?,
            class: self.keep(attribute(start, "classname"))?,
            time: time.unwrap_or_default(),
            outcome: self.outcome_of_attributes(start)?,
        };
        self.case = Some(OpenCase { case, details: String::new() });
        Ok(())
    }

    /// How the case ended by its attributes alone, as Node's, Google Test's and others have it.
    fn outcome_of_attributes(&mut self, start: &BytesStart<'_>) -> Result<Outcome, String> {
        let failure = |message| Failure { message, ..Failure::default() };
        let said = |name| attribute(start, name).filter(|value| !is_no(value));
        if let Some(message) = said("error") {
            return Ok(Outcome::Errored(failure(self.keep(Some(message))?)));
        }
        if let Some(message) = said("failure") {
            return Ok(Outcome::Failed(failure(self.keep(Some(message))?)));
        }
        if said("skipped").is_some() {
            return Ok(Outcome::Skipped { message: String::new() });
        }
        for name in ["status", "result"] {
            match attribute(start, name).unwrap_or_default().to_ascii_lowercase().as_str() {
                "failed" | "failure" | "fail" => {
                    return Ok(Outcome::Failed(failure(String::new())));
                }
                "error" | "errored" => return Ok(Outcome::Errored(failure(String::new()))),
                "skipped" | "disabled" | "notrun" | "ignored" | "pending" | "suppressed" => {
                    return Ok(Outcome::Skipped { message: String::new() });
                }
                _ => {}
            }
        }
        Ok(Outcome::Passed)
    }

    fn details(&mut self, text: &str) {
        let open =
            matches!(self.open.last(), Some(Element::Failure | Element::Error | Element::Skipped));
        if open && let Some(case) = &mut self.case {
            let room = (DETAILS_MAX + 4).saturating_sub(case.details.len());
            let end = (0..=room.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
            case.details.push_str(text.get(..end.unwrap_or_default()).unwrap_or_default());
        }
    }

    fn close(&mut self) {
        match self.open.pop() {
            Some(Element::Failure | Element::Error | Element::Skipped) => self.close_details(),
            Some(Element::Case) => self.close_case(),
            Some(Element::Suite) => self.finished.extend(self.suites.pop()),
            Some(Element::Suites | Element::Other) | None => {}
        }
    }

    fn close_details(&mut self) {
        let Some(open) = &mut self.case else { return };
        let mut details = (self.mask)(open.details.trim());
        open.details.clear();
        shorten(&mut details, DETAILS_MAX);
        // Beyond the bound the failure still counts, only without its details.
        if self.text + details.len() > self.bounds.text {
            return;
        }
        self.text += details.len();
        match &mut open.case.outcome {
            Outcome::Failed(failure) | Outcome::Errored(failure) if failure.text.is_empty() => {
                failure.text = details;
            }
            Outcome::Skipped { message } if message.is_empty() => *message = details,
            _ => {}
        }
    }

    fn close_case(&mut self) {
        let Some(OpenCase { case, .. }) = self.case.take() else { return };
        match self.suites.last_mut() {
            Some(suite) => suite.cases.push(case),
            None => match self.finished.last_mut() {
                // Cases outside of any suite, as Node writes them, are one suite without a name.
                Some(suite) if suite.name.is_empty() => suite.cases.push(case),
                _ => {
                    self.finished.push(Suite { name: String::new(), cases: vec![case] });
                }
            },
        }
    }

    /// The end of the file: what is missing, if something is.
    fn end(&self) -> Option<String> {
        if !self.root {
            return Some("no `testsuites`, `testsuite` or `testcase` in it".to_owned());
        }
        (!self.open.is_empty()).then(|| "it ends in the middle".to_owned())
    }

    /// Closes what is open and gives the suites that have tests.
    fn finish(mut self) -> (Vec<Suite>, Option<u64>) {
        while !self.open.is_empty() {
            self.close();
        }
        self.finished.retain(|suite| !suite.cases.is_empty());
        (self.finished, self.claimed)
    }

    fn keep(&mut self, text: Option<String>) -> Result<String, String> {
        let Some(text) = text else { return Ok(String::new()) };
        let mut text = (self.mask)(&text);
        shorten(&mut text, NAME_MAX);
        self.spend(text.len())?;
        Ok(text)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), String> {
        self.text += bytes;
        if self.text > self.bounds.text {
            return Err(format!("more than {} bytes of names and messages", self.bounds.text));
        }
        Ok(())
    }
}

/// A case can have several of these elements; the worst is what it is.
fn worse(before: &Outcome, element: Element, failure: Failure) -> Outcome {
    let rank = |outcome: &Outcome| match outcome {
        Outcome::Passed => 0,
        Outcome::Skipped { .. } => 1,
        Outcome::Failed(_) => 2,
        Outcome::Errored(_) => 3,
    };
    let after = match element {
        Element::Skipped => Outcome::Skipped { message: failure.message },
        Element::Error => Outcome::Errored(failure),
        _ => Outcome::Failed(failure),
    };
    // An attribute that says the same says less than the element.
    if rank(&after) >= rank(before) { after } else { before.clone() }
}

fn attribute(start: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute =
        start.attributes().flatten().find(|attribute| attribute.key.as_ref() == name)?;
    let value = attribute.normalized_value(XmlVersion::Implicit1_0);
    Some(value.map_or_else(|_| attribute.value.to_string(), std::borrow::Cow::into_owned))
}

fn is_no(value: &str) -> bool {
    matches!(value.trim().to_ascii_lowercase().as_str(), "" | "false" | "0" | "no" | "none")
}

#[cfg(test)]
mod tests;
