//! Reads the table of system call numbers.

use std::collections::BTreeMap;

use super::Mistake;

/// A way to call the kernel with its own numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abi {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
    /// 32-bit x86, which 64-bit x86 kernels serve as well.
    I386,
}

impl Abi {
    /// `AUDIT_ARCH_*` of `linux/audit.h`, which the kernel shows to a filter.
    pub(crate) const fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::Aarch64 => 0xc000_00b7,
            Self::I386 => 0x4000_0003,
        }
    }
}

/// The numbers of all known calls, by name.
#[derive(Debug)]
pub(crate) struct Numbers {
    calls: BTreeMap<String, [Option<u32>; 3]>,
}

impl Numbers {
    /// Parses the table: a name and three numbers a line.
    pub(crate) fn parse(text: &str) -> Result<Self, Mistake> {
        let mut calls = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let mistake = |what: String| Mistake { line: index + 1, what };
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [name, numbers @ ..] = fields.as_slice() else { continue };
            let [x86_64, aarch64, i386] = numbers else {
                return Err(mistake(format!("`{name}` needs three numbers or dashes")));
            };
            let number = |field: &str| match field {
                "-" => Ok(None),
                digits => digits
                    .parse()
                    .map(Some)
                    .map_err(|_| mistake(format!("`{field}` is neither a number nor `-`"))),
            };
            let row = [number(x86_64)?, number(aarch64)?, number(i386)?];
            if calls.insert((*name).to_owned(), row).is_some() {
                return Err(mistake(format!("`{name}` is in the table twice")));
            }
        }
        Ok(Self { calls })
    }

    /// Whether any architecture has a call of this name.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.calls.contains_key(name)
    }

    /// Names and numbers of the calls that `abi` has.
    pub(crate) fn of(&self, abi: Abi) -> impl Iterator<Item = (&str, u32)> {
        self.calls.iter().filter_map(move |(name, [x86_64, aarch64, i386])| {
            let number = match abi {
                Abi::X86_64 => x86_64,
                Abi::Aarch64 => aarch64,
                Abi::I386 => i386,
            };
            number.map(|number| (name.as_str(), number))
        })
    }
}
