//! Reads the policy text; its own head says what the lines mean.

use std::collections::BTreeMap;

use super::{Mistake, numbers::Numbers};

/// What the filter answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The call goes through.
    Allow,
    /// The call fails with this errno.
    Errno(u16),
}

impl Verdict {
    /// What a call gets that the table knows and the policy does not name.
    pub(crate) const DENIED: Self = Self::Errno(1);
    /// What a number gets that the table does not know.
    pub(crate) const UNKNOWN: Self = Self::Errno(38);

    fn parse(word: &str) -> Option<Self> {
        match word {
            "allow" => Some(Self::Allow),
            "EPERM" => Some(Self::DENIED),
            "ENOSYS" => Some(Self::UNKNOWN),
            "EINVAL" => Some(Self::Errno(22)),
            "EAFNOSUPPORT" => Some(Self::Errno(97)),
            _ => None,
        }
    }
}

/// One comparison: the low half of an argument, masked, is one of the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// 0 to 5.
    pub(crate) argument: u8,
    /// Which bits count.
    pub(crate) mask: u32,
    /// Never empty.
    pub(crate) values: Vec<u32>,
}

/// A verdict and the conditions that must all hold for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clause {
    /// What is answered when they do.
    pub(crate) verdict: Verdict,
    /// Empty in the last clause of a rule only.
    pub(crate) conditions: Vec<Condition>,
}

/// The clauses of one call in order; the last has no condition.
pub(crate) type Rule = Vec<Clause>;

/// The rule of each call that the text names.
#[derive(Debug)]
pub(crate) struct Policy {
    /// By name of the call.
    pub(crate) calls: BTreeMap<String, Rule>,
}

impl Policy {
    /// Parses the text; each name must be in `numbers`, and in the text once.
    pub(crate) fn parse(text: &str, numbers: &Numbers) -> Result<Self, Mistake> {
        let mut policy = Self { calls: BTreeMap::new() };
        let mut lines = text.lines().enumerate().peekable();
        while let Some((index, line)) = lines.next() {
            let at = |what| Mistake { line: index + 1, what };
            let (statement, reason) = line.split_once(" -- ").unwrap_or((line, ""));
            let mut words = statement.split_whitespace();
            let rule = match words.next() {
                None | Some("#") => continue,
                Some("allow") => vec![Clause { verdict: Verdict::Allow, conditions: Vec::new() }],
                Some("deny" | "rule") if reason.trim().is_empty() => {
                    return Err(at("a reason must follow, after ` -- `".to_owned()));
                }
                Some("deny") => {
                    let verdict = words.next().and_then(Verdict::parse);
                    let verdict = verdict.ok_or_else(|| at("no known errno here".to_owned()))?;
                    vec![Clause { verdict, conditions: Vec::new() }]
                }
                Some("rule") => {
                    let mut rule = Rule::new();
                    while let Some((index, line)) =
                        lines.next_if(|(_, line)| line.starts_with("    "))
                    {
                        let clause = parse_clause(line);
                        rule.push(clause.map_err(|what| Mistake { line: index + 1, what })?);
                    }
                    let open = |clause: &Clause| clause.conditions.is_empty();
                    let first_open = rule.iter().position(open);
                    if first_open.is_none() || first_open != rule.len().checked_sub(1) {
                        return Err(at("exactly the last clause has no condition".to_owned()));
                    }
                    rule
                }
                Some(word) => return Err(at(format!("`{word}` is none of allow, deny, rule"))),
            };
            for name in words {
                if !numbers.knows(name) {
                    return Err(at(format!("`{name}` is not in the table of numbers")));
                }
                if policy.calls.insert(name.to_owned(), rule.clone()).is_some() {
                    return Err(at(format!("`{name}` is named twice")));
                }
            }
        }
        Ok(policy)
    }
}

fn parse_clause(line: &str) -> Result<Clause, String> {
    let (verdict, conditions) = match line.trim().split_once(" if ") {
        Some((verdict, conditions)) => (verdict, conditions.split(" and ").collect()),
        None => (line.trim(), Vec::new()),
    };
    let verdict =
        Verdict::parse(verdict).ok_or_else(|| format!("`{verdict}` is no known verdict"))?;
    let conditions = conditions.into_iter().map(parse_condition).collect::<Result<_, _>>()?;
    Ok(Clause { verdict, conditions })
}

fn parse_condition(text: &str) -> Result<Condition, String> {
    let (left, values) =
        text.split_once(" in ").ok_or_else(|| format!("`{text}` has no ` in `"))?;
    let (argument, mask) = match left.split_once(" & ") {
        Some((argument, mask)) => (argument, parse_number(mask)?),
        None => (left, u32::MAX),
    };
    let argument = match argument.trim() {
        "arg0" => 0,
        "arg1" => 1,
        "arg2" => 2,
        "arg3" => 3,
        "arg4" => 4,
        "arg5" => 5,
        other => return Err(format!("`{other}` is none of arg0 to arg5")),
    };
    let values: Vec<u32> = values.split_whitespace().map(parse_number).collect::<Result<_, _>>()?;
    if let Some(value) = values.iter().find(|value| **value & !mask != 0) {
        return Err(format!("{value:#x} has bits outside the mask and can never match"));
    }
    if values.is_empty() {
        Err("no value after `in`".to_owned())
    } else {
        Ok(Condition { argument, mask, values })
    }
}

fn parse_number(text: &str) -> Result<u32, String> {
    let number = match text.trim().strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.trim().parse(),
    };
    number.map_err(|_| format!("`{text}` is not a number of 32 bits"))
}
