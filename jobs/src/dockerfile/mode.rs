//! `--chmod`: octal permissions, or changes as `chmod` writes them.

/// What permissions files get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModeChange {
    /// These, at most `0o7777`.
    Octal(u32),
    /// These changes to what they have.
    Symbolic(Vec<Clause>),
}

/// One change, such as `g+w`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clause {
    /// The bits of those it is about, such as `0o070`.
    who: u32,
    operator: Operator,
    permissions: u32,
    /// `X`: execution only for directories and what can be executed by someone already.
    conditional: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

/// The most changes that are read.
const CLAUSES: usize = 32;

impl ModeChange {
    /// Reads a mode; [`None`] when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok()?;
            return (mode <= 0o7777).then_some(Self::Octal(mode));
        }
        let clauses: Option<Vec<Clause>> = text.split(',').take(CLAUSES + 1).map(clause).collect();
        clauses.filter(|clauses| clauses.len() <= CLAUSES).map(Self::Symbolic)
    }

    /// The permissions of a file that has `mode`.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(clauses) => clauses.iter().fold(mode & 0o7777, |mode, clause| {
                let runs = is_directory || mode & 0o111 != 0;
                let execute = if clause.conditional && runs { 0o111 & clause.who } else { 0 };
                let bits = clause.permissions | execute;
                match clause.operator {
                    Operator::Add => mode | bits,
                    Operator::Remove => mode & !bits,
                    Operator::Set => (mode & !(clause.who & 0o777)) | bits,
                }
            }),
        }
    }
}

fn clause(text: &str) -> Option<Clause> {
    let at = text.find(['+', '-', '='])?;
    let (who_text, rest) = text.split_at(at);
    let mut who = 0;
    for character in who_text.chars() {
        who |= match character {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    if who == 0 {
        who = 0o7777;
    }
    let mut rest = rest.chars();
    let operator = match rest.next()? {
        '+' => Operator::Add,
        '-' => Operator::Remove,
        _ => Operator::Set,
    };
    let mut permissions = 0;
    let mut conditional = false;
    for character in rest {
        permissions |= who
            & match character {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                'X' => {
                    conditional = true;
                    0
                }
                _ => return None,
            };
    }
    Some(Clause { who, operator, permissions, conditional })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_and_applied() {
        for (text, mode, is_directory, expect) in [
            ("755", 0o644, false, Some(0o755)),
            ("0644", 0o755, true, Some(0o644)),
            ("4755", 0, false, Some(0o4755)),
            ("u+x", 0o644, false, Some(0o744)),
            ("+x", 0o644, false, Some(0o755)),
            ("go-w,u=rwx", 0o666, false, Some(0o744)),
            ("a=r", 0o777, false, Some(0o444)),
            ("a+X", 0o644, false, Some(0o644)),
            ("a+X", 0o744, false, Some(0o755)),
            ("a+X", 0o644, true, Some(0o755)),
            ("u+s,g+s", 0o755, false, Some(0o6755)),
            ("=", 0o755, false, Some(0)),
            ("", 0, false, None),
            ("8", 0, false, None),
            ("17777", 0, false, None),
            ("u", 0, false, None),
            ("z+x", 0, false, None),
            ("u+q", 0, false, None),
        ] {
            let applied = ModeChange::parse(text).map(|mode_| mode_.apply(mode, is_directory));
            assert_eq!(applied, expect, "{text}");
        }
        assert_eq!(ModeChange::parse(&"u+x,".repeat(1000)), None);
    }
}
