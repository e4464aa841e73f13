//! The one pass over the parser's events, with a stack of its own and every bound checked.
//!
//! What makes the rest of the file unreadable or too costly ends the pass; what does not (a key
//! given twice, a tag) is reported and read over, so that all such faults are shown at once.

use std::{borrow::Cow, collections::HashMap};

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::{
    places::Places,
    tree::{Entry, Kind, Node, NodeId, Tree},
};
use crate::{
    diagnostic::{Code, Diagnostic, Report, quoted},
    source::{FileId, MAX_FILE_BYTES, SourceFile, Span, Unreadable},
};

/// How deep values may be nested, aliases followed.
const MAX_DEPTH: usize = 64;
/// How many values a file may have, aliases and merge keys expanded.
const MAX_NODES: usize = 200_000;
/// The longest key, in bytes.
const MAX_KEY: usize = 256;

/// Reads a file into a tree; [`None`] when a fault in `report` made that impossible.
pub(crate) fn scan<'a>(file: &'a SourceFile, id: FileId, report: &mut Report) -> Option<Tree<'a>> {
    let places = Places::new(file, id);
    match readable(file, &places).and_then(|()| Scan::new(places, report).document(file.text())) {
        Ok(tree) => Some(tree),
        Err(fault) => {
            report.push(*fault);
            None
        }
    }
}

/// Boxed because it is the rare case and large beside a tree's id.
type Refusal = Box<Diagnostic>;

fn readable(file: &SourceFile, places: &Places<'_>) -> Result<(), Refusal> {
    match file.unreadable() {
        Some(Unreadable::TooLong(length)) => {
            let end = file.text().len();
            return Err(Box::new(
                Diagnostic::error(
                    Code::FileTooLong,
                    format!("the file has {length} bytes, at most {MAX_FILE_BYTES} are read"),
                )
                .at(places.bytes(end, end), "the limit is here")
                .help("split it: `include` takes further files"),
            ));
        }
        Some(Unreadable::NotUtf8(offset)) => {
            return Err(Box::new(
                Diagnostic::error(Code::NotText, "the file is not UTF-8 text")
                    .at(places.bytes(offset, offset), "the first byte that is not UTF-8")
                    .help("save the file as UTF-8"),
            ));
        }
        None => {}
    }
    let control = file
        .text()
        .char_indices()
        .find(|(_, character)| character.is_control() && !matches!(character, '\t' | '\n' | '\r'));
    let Some((offset, character)) = control else { return Ok(()) };
    Err(Box::new(
        Diagnostic::error(
            Code::NotText,
            format!("the file holds the control character U+{:04X}", u32::from(character)),
        )
        .at(places.bytes(offset, offset + character.len_utf8()), "")
        .help("remove it, or write it as an escape in double quotes, such as \"\\e\""),
    ))
}

/// A collection that is not closed yet.
struct Frame<'a> {
    start: Span,
    anchor: usize,
    weight: usize,
    height: usize,
    open: Open<'a>,
}

enum Open<'a> {
    Sequence(Vec<NodeId>),
    Mapping {
        entries: Vec<Entry<'a>>,
        keys: HashMap<Cow<'a, str>, Span>,
        merges: Vec<(Span, NodeId)>,
        key: Pending<'a>,
    },
}

/// What the next node of a mapping is.
enum Pending<'a> {
    /// A key.
    Key,
    /// The value of this key.
    Value(Cow<'a, str>, Span),
    /// The value of a merge key.
    Merge(Span),
    /// The value of a key that was refused: read over.
    Refused,
}

enum Anchor {
    Open,
    Done(NodeId),
}

struct Scan<'a, 'r> {
    places: Places<'a>,
    report: &'r mut Report,
    nodes: Vec<Node<'a>>,
    stack: Vec<Frame<'a>>,
    anchors: HashMap<usize, Anchor>,
    root: Option<NodeId>,
    /// What everything so far expands to.
    weight: usize,
}

impl<'a, 'r> Scan<'a, 'r> {
    fn new(places: Places<'a>, report: &'r mut Report) -> Self {
        let (nodes, stack, anchors) = (Vec::new(), Vec::new(), HashMap::new());
        Self { places, report, nodes, stack, anchors, root: None, weight: 0 }
    }

    fn document(mut self, text: &'a str) -> Result<Tree<'a>, Refusal> {
        let mut documents = 0;
        for event in Parser::new_from_str(text) {
            let (event, range) = event.map_err(|error| self.syntax(&error))?;
            let span = self.places.span(range);
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(Box::new(
                            Diagnostic::error(
                                Code::ManyDocuments,
                                "the file holds more than one YAML document",
                            )
                            .at(span, "the second one starts here")
                            .help("keep one, and name the other in `include`"),
                        ));
                    }
                }
                Event::Scalar(text, style, anchor, tag) => {
                    let text_tag = self.tag(tag.as_deref(), span);
                    let plain = style == ScalarStyle::Plain && !text_tag;
                    self.scalar(text, plain, anchor, span)?;
                }
                Event::SequenceStart(anchor, tag) => {
                    self.tag(tag.as_deref(), span);
                    self.open(Open::Sequence(Vec::new()), anchor, span)?;
                }
                Event::MappingStart(anchor, tag) => {
                    self.tag(tag.as_deref(), span);
                    let (entries, keys, merges) = (Vec::new(), HashMap::new(), Vec::new());
                    let key = Pending::Key;
                    self.open(Open::Mapping { entries, keys, merges, key }, anchor, span)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(span)?,
                Event::Alias(anchor) => self.alias(anchor, span)?,
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            }
        }
        match self.root {
            Some(root) => Ok(Tree::new(self.nodes, root)),
            None => Err(Box::new(
                Diagnostic::error(Code::Empty, "the file is empty")
                    .at(self.places.bytes(0, 0), "")
                    .help("a pipeline has at least `jobs`"),
            )),
        }
    }

    fn syntax(&self, error: &saphyr_parser::ScanError) -> Refusal {
        let at = self.places.byte(error.marker());
        if error.info().contains("recursion limit") {
            // The parser looks ahead for the end of a key and meets its own bound of 255 first.
            return too_deep(self.places.bytes(at, at), "brackets are nested deeper still here");
        }
        let diagnostic = Diagnostic::error(Code::Syntax, "the file is not YAML")
            .at(self.places.bytes(at, at), error.info());
        let (before, after) = self.places.text().split_at_checked(at).unwrap_or_default();
        let before = before.rsplit('\n').next().unwrap_or_default();
        let help = if before.trim_start_matches(' ').starts_with('\t') {
            Some("indent with spaces: YAML takes no tabs")
        } else if error.info().contains("mapping values are not allowed") {
            Some(
                "a text with a `:` and a space in it needs quotes, or lines of its own after `|`; \
                 a mapping begins on a line of its own, or with `{`",
            )
        } else if before.ends_with('$') && after.starts_with("{{")
            || before.trim_end().ends_with("${") && after.starts_with('{')
            || error.info().contains("flow mapping") && before.contains('$')
        {
            Some("within `{ }` and `[ ]`, an expression needs quotes: \"${{ … }}\"")
        } else {
            None
        };
        Box::new(diagnostic.maybe_help(help.map(str::to_owned)))
    }

    /// Whether the tag makes a plain scalar text.
    fn tag(&mut self, tag: Option<&Tag>, span: Span) -> bool {
        let Some(tag) = tag else { return false };
        let text = tag.is_yaml_core_schema() && tag.suffix == "str";
        if !text {
            let name = format!("{}{}", tag.handle.replace("tag:yaml.org,2002:", "!!"), tag.suffix);
            self.report.push(
                Diagnostic::error(
                    Code::UnknownTag,
                    format!("the tag {} has no meaning here", quoted(&name)),
                )
                .at(span, "")
                .help("remove the tag; only `!!str` is known, and quotes say the same"),
            );
        }
        text
    }

    fn add(&mut self, node: Node<'a>) -> Result<NodeId, Refusal> {
        self.weight += 1;
        if self.weight > MAX_NODES {
            return Err(Box::new(
                Diagnostic::error(
                    Code::TooManyNodes,
                    format!("the file has more than {MAX_NODES} values"),
                )
                .at(node.span, "one too many")
                .help("split the pipeline, or use a `matrix` in place of copies"),
            ));
        }
        let id = NodeId(self.nodes.len());
        self.nodes.push(node);
        Ok(id)
    }

    fn scalar(
        &mut self,
        text: Cow<'a, str>,
        plain: bool,
        anchor: usize,
        span: Span,
    ) -> Result<(), Refusal> {
        let kind = Kind::Scalar { text, plain };
        let id = self.add(Node { span, kind, weight: 1, height: 0 })?;
        if anchor > 0 {
            self.anchors.insert(anchor, Anchor::Done(id));
        }
        self.place(id, span)
    }

    fn open(&mut self, open: Open<'a>, anchor: usize, span: Span) -> Result<(), Refusal> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(too_deep(span, "this is one level too deep"));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, Anchor::Open);
        }
        self.stack.push(Frame { start: span, anchor, weight: 1, height: 0, open });
        Ok(())
    }

    fn close(&mut self, end: Span) -> Result<(), Refusal> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let (mut weight, mut height) = (frame.weight, frame.height);
        let kind = match frame.open {
            Open::Sequence(items) => Kind::Sequence(items),
            Open::Mapping { mut entries, keys, merges, .. } => {
                if !merges.is_empty() {
                    let charged = self.merge(&mut entries, keys, &merges)?;
                    weight += charged;
                    height = entries
                        .iter()
                        .map(|entry| self.height(entry.value) + 1)
                        .fold(height, usize::max);
                    if self.stack.len() + height + 1 > MAX_DEPTH {
                        return Err(too_deep(
                            frame.start,
                            "with what is merged into it, this is too deep",
                        ));
                    }
                }
                Kind::Mapping(entries)
            }
        };
        let span = self.places.head(frame.start, end);
        let id = self.add(Node { span, kind, weight, height })?;
        if frame.anchor > 0 {
            self.anchors.insert(frame.anchor, Anchor::Done(id));
        }
        self.place(id, span)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Refusal> {
        let Some(Anchor::Done(id)) = self.anchors.get(&anchor) else {
            return Err(Box::new(
                Diagnostic::error(Code::RecursiveAlias, "the alias is part of its own value")
                    .at(span, "")
                    .help("write the value out in place of the alias"),
            ));
        };
        let id = *id;
        self.charge(self.weight_of(id), span)?;
        if self.stack.len() + self.height(id) + 1 > MAX_DEPTH {
            return Err(too_deep(span, "what this stands for is nested too deep here"));
        }
        self.place(id, span)
    }

    /// Takes `weight` from what aliases and merge keys may expand to.
    fn charge(&mut self, weight: usize, span: Span) -> Result<(), Refusal> {
        self.weight = self.weight.saturating_add(weight);
        if self.weight <= MAX_NODES {
            return Ok(());
        }
        Err(Box::new(
            Diagnostic::error(
                Code::AliasBudget,
                format!("the aliases expand to more than {MAX_NODES} values"),
            )
            .at(span, "the limit is passed here")
            .help("write the values out, or use a `matrix` in place of copies"),
        ))
    }

    /// Puts a finished node where the innermost open collection expects it.
    fn place(&mut self, id: NodeId, span: Span) -> Result<(), Refusal> {
        let (weight, height) = (self.weight_of(id), self.height(id) + 1);
        let Some(frame) = self.stack.last_mut() else {
            self.root.get_or_insert(id);
            return Ok(());
        };
        frame.weight = frame.weight.saturating_add(weight);
        frame.height = frame.height.max(height);
        match &mut frame.open {
            Open::Sequence(items) => items.push(id),
            Open::Mapping { entries, keys, merges, key } => {
                match std::mem::replace(key, Pending::Key) {
                    Pending::Key => *key = key_of(self.nodes.get(id.0), span, keys, self.report)?,
                    Pending::Value(key, key_span) => {
                        entries.push(Entry { key, key_span, value: id });
                    }
                    Pending::Merge(at) => merges.push((at, id)),
                    Pending::Refused => {}
                }
            }
        }
        Ok(())
    }

    /// Adds what the merge keys of a mapping bring in; returns what they expand to.
    ///
    /// Keys of the mapping itself win, then those of earlier merges.
    fn merge(
        &mut self,
        entries: &mut Vec<Entry<'a>>,
        mut keys: HashMap<Cow<'a, str>, Span>,
        merges: &[(Span, NodeId)],
    ) -> Result<usize, Refusal> {
        let mut charged = 0;
        for (at, id) in merges {
            let sources = match self.nodes.get(id.0).map(|node| &node.kind) {
                Some(Kind::Sequence(items)) => items.clone(),
                _ => vec![*id],
            };
            for source in sources {
                let Some(Kind::Mapping(merged)) = self.nodes.get(source.0).map(|node| &node.kind)
                else {
                    self.report.push(
                        Diagnostic::error(Code::BadMerge, "only mappings can be merged with `<<`")
                            .at(*at, "")
                            .help("write `<<: *name`, where `&name` marks a mapping"),
                    );
                    continue;
                };
                let fresh: Vec<Entry<'a>> =
                    merged.iter().filter(|entry| !keys.contains_key(&entry.key)).cloned().collect();
                let weight = fresh.iter().fold(0_usize, |sum, entry| {
                    sum.saturating_add(1 + self.weight_of(entry.value))
                });
                self.charge(weight, *at)?;
                charged += weight;
                keys.extend(fresh.iter().map(|entry| (entry.key.clone(), entry.key_span)));
                entries.extend(fresh);
            }
        }
        Ok(charged)
    }

    fn weight_of(&self, id: NodeId) -> usize {
        self.nodes.get(id.0).map_or(1, |node| node.weight)
    }

    fn height(&self, id: NodeId) -> usize {
        self.nodes.get(id.0).map_or(0, |node| node.height)
    }
}

fn too_deep(span: Span, label: &str) -> Refusal {
    Box::new(
        Diagnostic::error(
            Code::TooDeep,
            format!("values are nested deeper than {MAX_DEPTH} levels"),
        )
        .at(span, label)
        .help("no pipeline needs this depth; look for a bracket that is not closed"),
    )
}

/// Checks a node that stands where a key does.
fn key_of<'a>(
    node: Option<&Node<'a>>,
    span: Span,
    keys: &mut HashMap<Cow<'a, str>, Span>,
    report: &mut Report,
) -> Result<Pending<'a>, Refusal> {
    let Some(Node { kind: Kind::Scalar { text, plain }, .. }) = node else {
        return Err(Box::new(
            Diagnostic::error(Code::BadKey, "a key must be a string")
                .at(span, "this is a collection")
                .help("write a name, then `:`, then the value"),
        ));
    };
    if *plain && text == "<<" {
        return Ok(Pending::Merge(span));
    }
    if text.len() > MAX_KEY {
        let message = format!("a key has {} bytes, at most {MAX_KEY} are allowed", text.len());
        return Err(Box::new(
            Diagnostic::error(Code::BadKey, message).at(span, "").help("shorten the key"),
        ));
    }
    match keys.get(text) {
        Some(first) => {
            report.push(
                Diagnostic::error(
                    Code::DuplicateKey,
                    format!("the key {} is given twice", quoted(text)),
                )
                .at(span, "the second time")
                .at(*first, "the first time")
                .help("remove one of them, or rename it"),
            );
            Ok(Pending::Refused)
        }
        None => {
            keys.insert(text.clone(), span);
            Ok(Pending::Value(text.clone(), span))
        }
    }
}
