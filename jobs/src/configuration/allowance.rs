//! What one job gets: what it asks for, the operator's defaults where it says nothing, and never
//! more than the operator's ceilings.
//!
//! Asking for more than a ceiling is refused rather than cut: a job that was promised 8 GiB and
//! runs out at 4 would be a riddle. A default that is above a ceiling is cut, because nobody asked.

use std::time::Duration;

use crate::{
    diagnostic::{Code, Diagnostic},
    model::{IoLimits, Limits, quantity},
    source::{Span, Spanned},
};

/// Limits and the time that one job has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allowance {
    /// As in a pipeline.
    pub limits: Limits,
    /// Wall time.
    pub timeout: Option<Spanned<Duration>>,
}

/// Something that was asked for and is above a ceiling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// The limit, by its key.
    pub limit: &'static str,
    /// The ceiling, as it would be written.
    pub most: String,
    /// Where it was asked for.
    pub span: Span,
}

impl Excess {
    /// As a fault of the pipeline that asked.
    pub fn diagnostic(&self) -> Diagnostic {
        let message = format!("the limit `{}` is above what the operator allows", self.limit);
        Diagnostic::error(Code::ExceedsCeiling, message).at(self.span, "").help(self.help())
    }

    /// What to do about it.
    pub fn help(&self) -> String {
        format!("ask for at most {}, or have the operator raise `ceilings`", self.most)
    }
}

type Asked = Option<Spanned<u64>>;

/// A limit by its key, where it is, and how its values are written.
type Field = (&'static str, fn(&mut Limits) -> &mut Asked, fn(u64) -> String);

/// Everything but `io`, which has two values.
const FIELDS: [Field; 8] = [
    ("cpus", |limits| &mut limits.millicpus, quantity::written_millicpus),
    ("memory", |limits| &mut limits.memory, quantity::written_size),
    ("pids", |limits| &mut limits.pids, |count| count.to_string()),
    ("disk", |limits| &mut limits.disk, quantity::written_size),
    ("inodes", |limits| &mut limits.inodes, |count| count.to_string()),
    ("shm", |limits| &mut limits.shm, quantity::written_size),
    ("nofile", |limits| &mut limits.nofile, |count| count.to_string()),
    ("logs", |limits| &mut limits.logs, quantity::written_size),
];

impl Allowance {
    /// This, and what `lower` says where this says nothing.
    #[must_use]
    pub fn or(&self, lower: &Self) -> Self {
        Self {
            limits: self.limits.or(&lower.limits),
            timeout: self.timeout.clone().or_else(|| lower.timeout.clone()),
        }
    }

    /// What of this is above `ceilings`.
    pub fn excesses(&self, ceilings: &Self) -> Vec<Excess> {
        let (mut asked, mut most) = (self.limits.clone(), ceilings.limits.clone());
        let mut excesses = Vec::new();
        for (limit, field, written) in FIELDS {
            if let (Some(asked), Some(most)) = (field(&mut asked), field(&mut most))
                && asked.value > most.value
            {
                excesses.push(Excess { limit, most: written(most.value), span: asked.span });
            }
        }
        if let (Some(asked), Some(most)) = (&asked.io, &most.io) {
            for (limit, asked_rate, most_rate) in [
                ("io.read", asked.value.read, most.value.read),
                ("io.write", asked.value.write, most.value.write),
            ] {
                if let (Some(rate), Some(most)) = (asked_rate, most_rate)
                    && rate > most
                {
                    let most = format!("{}/s", quantity::written_size(most));
                    excesses.push(Excess { limit, most, span: asked.span });
                }
            }
        }
        if let (Some(asked), Some(most)) = (&self.timeout, &ceilings.timeout)
            && asked.value > most.value
        {
            let most = quantity::written_duration(most.value);
            excesses.push(Excess { limit: "timeout", most, span: asked.span });
        }
        excesses
    }

    /// This, cut to `ceilings`. A ceiling of `io` holds also where this does not ask for the limit.
    #[must_use]
    pub fn at_most(mut self, ceilings: &Self) -> Self {
        let mut most = ceilings.limits.clone();
        for (_, field, _) in FIELDS {
            if let (Some(value), Some(most)) = (field(&mut self.limits), field(&mut most)) {
                value.value = value.value.min(most.value);
            }
        }
        if let Some(most) = most.io {
            let asked = self.limits.io.as_ref().map(|io| io.value).unwrap_or_default();
            let lower = |asked: Option<u64>, most: Option<u64>| match (asked, most) {
                (Some(asked), Some(most)) => Some(asked.min(most)),
                (asked, most) => asked.or(most),
            };
            let io = IoLimits {
                read: lower(asked.read, most.value.read),
                write: lower(asked.write, most.value.write),
            };
            self.limits.io = Some(most.map(|_| io));
        }
        if let (Some(value), Some(most)) = (&mut self.timeout, &ceilings.timeout) {
            value.value = value.value.min(most.value);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spanned<T>(value: T) -> Option<Spanned<T>> {
        Some(Spanned::new(value, Span::default()))
    }

    fn allowance(memory: Option<u64>, io: Option<IoLimits>, seconds: Option<u64>) -> Allowance {
        Allowance {
            limits: Limits {
                memory: memory.and_then(spanned),
                io: io.and_then(spanned),
                ..Limits::default()
            },
            timeout: seconds.map(Duration::from_secs).and_then(spanned),
        }
    }

    #[test]
    fn what_is_asked_above_a_ceiling_is_refused_with_the_most_there_is() {
        let reads = |read| Some(IoLimits { read: Some(read), write: None });
        let ceilings = allowance(Some(4 << 30), reads(1 << 20), Some(5400));
        let check = |asked: Allowance, expected: &[(&str, &str)]| {
            let found = asked.excesses(&ceilings);
            let found: Vec<_> = found.iter().map(|it| (it.limit, it.most.as_str())).collect();
            assert_eq!(found, expected, "{asked:?}");
        };
        check(allowance(Some(4 << 30), reads(1 << 20), Some(5400)), &[]);
        check(allowance(None, None, None), &[]);
        check(
            allowance(Some((4 << 30) + 1), reads(2 << 20), Some(5401)),
            &[("memory", "4GiB"), ("io.read", "1MiB/s"), ("timeout", "1h30m")],
        );
    }

    #[test]
    fn what_nobody_asked_for_is_cut() {
        let most = Some(IoLimits { read: Some(5), write: None });
        let ceilings = allowance(Some(10), most, Some(60));
        let cut = allowance(Some(20), None, Some(90)).at_most(&ceilings);
        assert_eq!(cut, allowance(Some(10), most, Some(60)));
        let asked = Some(IoLimits { read: None, write: Some(9) });
        let cut = allowance(Some(1), asked, None).at_most(&ceilings);
        let both = Some(IoLimits { read: Some(5), write: Some(9) });
        assert_eq!(cut, allowance(Some(1), both, None));
    }
}
