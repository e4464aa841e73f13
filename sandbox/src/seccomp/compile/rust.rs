//! Writes the programs down as Rust constants.

use std::fmt::Write as _;

use super::{
    Mistake,
    assemble::assemble,
    numbers::{Abi, Numbers},
    policy::Policy,
};

/// `BPF_MAXINSNS` of `linux/bpf_common.h`: the kernel takes no longer program.
const LONGEST: usize = 4096;

/// The source of one `static` per program, from the two texts.
pub(crate) fn rust_source(policy: &str, numbers: &str) -> Result<String, Mistake> {
    let numbers = Numbers::parse(numbers)
        .map_err(|mistake| Mistake { what: format!("numbers: {}", mistake.what), ..mistake })?;
    let policy = Policy::parse(policy, &numbers)?;
    let mut source = String::new();
    for (name, native, foreign) in [
        ("X86_64", Abi::X86_64, None),
        ("X86_64_WITH_I386", Abi::X86_64, Some(Abi::I386)),
        ("AARCH64", Abi::Aarch64, None),
    ] {
        let whole = |what| Mistake { line: 0, what };
        let program = assemble(native, foreign, &numbers, &policy).map_err(whole)?;
        if program.len() > LONGEST {
            return Err(whole(format!("{} instructions for {name}", program.len())));
        }
        write!(source, "static {name}: [sock_filter; {}] = [", program.len())
            .map_err(|error| whole(error.to_string()))?;
        for instruction in program {
            write!(
                source,
                "sock_filter {{ code: {}, jt: {}, jf: {}, k: {} }},",
                instruction.code,
                instruction.jump_true,
                instruction.jump_false,
                instruction.operand
            )
            .map_err(|error| whole(error.to_string()))?;
        }
        source.push_str("];\n");
    }
    Ok(source)
}
