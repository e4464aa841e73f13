//! Makes the BPF program of one architecture.
//!
//! The numbers are cut into ranges with one answer each, and the ranges are found by binary search:
//! any call is decided after some ten instructions instead of some hundreds. Only loads of the
//! number and the architecture, comparisons with constants and `and` are used before an answer
//! that needs no argument: the kernel (5.11 and later) evaluates such programs once per number at
//! installation and then lets the always allowed calls pass without running the filter at all.

use super::{
    numbers::{Abi, Numbers},
    policy::{Clause, Condition, Policy, Rule, Verdict},
};

/// One classic BPF instruction, `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    pub(crate) jump_true: u8,
    pub(crate) jump_false: u8,
    pub(crate) operand: u32,
}

/// `BPF_LD | BPF_W | BPF_ABS`: load a word of `struct seccomp_data`.
const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`.
const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`.
const JUMP: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const JUMP_IF_EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JGE | BPF_K`.
const JUMP_IF_AT_LEAST: u16 = 0x35;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

const RETURN_ALLOW: u32 = 0x7fff_0000;
const RETURN_ERRNO: u32 = 0x0005_0000;
const RETURN_KILL_PROCESS: u32 = 0x8000_0000;

const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
/// The low half of the first argument; both architectures are little endian.
const OFFSET_ARGUMENTS: u32 = 16;

/// Set in the numbers of the x32 ABI, which shares its architecture value with 64-bit x86.
const X32_BIT: u32 = 0x4000_0000;

/// Instructions that end with a return on every path.
type Block = Vec<Instruction>;

/// The whole program: `native` calls by the policy, those of `foreign` as well where it is given,
/// and death for every other architecture.
pub(crate) fn assemble(
    native: Abi,
    foreign: Option<Abi>,
    numbers: &Numbers,
    policy: &Policy,
) -> Result<Block, String> {
    let mut other = stop(RETURN_KILL_PROCESS);
    if let Some(foreign) = foreign {
        other = branch(JUMP_IF_EQUAL, foreign.audit(), calls(foreign, numbers, policy)?, other)?;
    }
    let mut program = vec![plain(LOAD, OFFSET_ARCHITECTURE)];
    program.extend(branch(JUMP_IF_EQUAL, native.audit(), calls(native, numbers, policy)?, other)?);
    Ok(program)
}

fn calls(abi: Abi, numbers: &Numbers, policy: &Policy) -> Result<Block, String> {
    let search = search(&ranges(abi, numbers, policy))?;
    let mut block = vec![plain(LOAD, OFFSET_NUMBER)];
    if abi == Abi::X86_64 {
        // A tracer sets the number to -1 to skip a call; that is not an x32 call.
        let skipped = answer(Verdict::UNKNOWN);
        let x32 = branch(JUMP_IF_EQUAL, u32::MAX, skipped, stop(RETURN_KILL_PROCESS))?;
        block.extend(branch(JUMP_IF_AT_LEAST, X32_BIT, x32, search)?);
    } else {
        block.extend(search);
    }
    Ok(block)
}

/// The first number of each range and what its calls get, in order, from 0 to the highest number.
fn ranges(abi: Abi, numbers: &Numbers, policy: &Policy) -> Vec<(u32, Rule)> {
    let open = |verdict| vec![Clause { verdict, conditions: Vec::new() }];
    let mut known: Vec<(u32, Rule)> = numbers
        .of(abi)
        .map(|(name, number)| {
            let rule = policy.calls.get(name).cloned();
            (number, rule.unwrap_or_else(|| open(Verdict::DENIED)))
        })
        .collect();
    known.sort_by_key(|(number, _)| *number);
    let mut all = Vec::new();
    let mut next = 0;
    for (number, rule) in known {
        if number > next {
            all.push((next, open(Verdict::UNKNOWN)));
        }
        next = number + 1;
        all.push((number, rule));
    }
    all.push((next, open(Verdict::UNKNOWN)));
    all.dedup_by(|(_, later), (_, earlier)| later == earlier);
    all
}

fn search(ranges: &[(u32, Rule)]) -> Result<Block, String> {
    let (low, high) = ranges.split_at(ranges.len() / 2);
    match (low, high) {
        ([], [(_, rule)]) => decide(rule),
        (_, [(first, _), ..]) => branch(JUMP_IF_AT_LEAST, *first, search(high)?, search(low)?),
        (_, []) => Err("no range to search".to_owned()),
    }
}

fn decide(rule: &[Clause]) -> Result<Block, String> {
    let [clause, others @ ..] = rule else { return Err("a rule without an end".to_owned()) };
    let mut block = answer(clause.verdict);
    for condition in clause.conditions.iter().rev() {
        block = test(condition, block, decide(others)?)?;
    }
    Ok(block)
}

fn test(condition: &Condition, yes: Block, no: Block) -> Result<Block, String> {
    let mut block = vec![plain(LOAD, OFFSET_ARGUMENTS + 8 * u32::from(condition.argument))];
    if condition.mask != u32::MAX {
        block.push(plain(AND, condition.mask));
    }
    let count = condition.values.len();
    for (index, value) in condition.values.iter().enumerate() {
        let left = count - 1 - index;
        block.push(Instruction {
            code: JUMP_IF_EQUAL,
            jump_true: near(left)?,
            jump_false: if left == 0 { near(yes.len())? } else { 0 },
            operand: *value,
        });
    }
    block.extend(yes);
    block.extend(no);
    Ok(block)
}

fn branch(code: u16, operand: u32, yes: Block, no: Block) -> Result<Block, String> {
    let mut block = Block::new();
    if let Ok(jump_false) = u8::try_from(yes.len()) {
        block.push(Instruction { code, jump_true: 0, jump_false, operand });
    } else {
        // A conditional jump reaches 255 instructions, an unconditional one all.
        let distance = u32::try_from(yes.len()).map_err(|error| error.to_string())?;
        block.push(Instruction { code, jump_true: 1, jump_false: 0, operand });
        block.push(plain(JUMP, distance));
    }
    block.extend(yes);
    block.extend(no);
    Ok(block)
}

fn near(distance: usize) -> Result<u8, String> {
    u8::try_from(distance).map_err(|_| format!("a rule jumps over {distance} instructions"))
}

fn answer(verdict: Verdict) -> Block {
    stop(match verdict {
        Verdict::Allow => RETURN_ALLOW,
        Verdict::Errno(errno) => RETURN_ERRNO | u32::from(errno),
    })
}

fn stop(value: u32) -> Block {
    vec![plain(RETURN, value)]
}

const fn plain(code: u16, operand: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, operand }
}
