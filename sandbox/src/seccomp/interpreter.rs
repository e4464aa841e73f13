//! Runs a filter as the kernel does, for the tests.

use libc::sock_filter;

/// What a filter looks at, `struct seccomp_data` without the instruction pointer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) architecture: u32,
    pub(super) arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        let half = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap();
        match offset {
            0 => self.number,
            4 => self.architecture,
            16..64 if offset.is_multiple_of(4) => {
                let argument = self.arguments[usize::try_from((offset - 16) / 8).unwrap()];
                if offset.is_multiple_of(8) { half(argument) } else { half(argument >> 32) }
            }
            _ => panic!("load at offset {offset}"),
        }
    }
}

/// The action that the program returns and how many instructions it took.
pub(super) fn run(program: &[sock_filter], call: &Call) -> (u32, usize) {
    let (mut at, mut accumulator, mut steps) = (0_usize, 0_u32, 0_usize);
    loop {
        let instruction = program[at];
        at += 1;
        steps += 1;
        let choose =
            |condition: bool| usize::from(if condition { instruction.jt } else { instruction.jf });
        match instruction.code {
            0x20 => accumulator = call.word(instruction.k),
            0x54 => accumulator &= instruction.k,
            0x05 => at += usize::try_from(instruction.k).unwrap(),
            0x15 => at += choose(accumulator == instruction.k),
            0x35 => at += choose(accumulator >= instruction.k),
            0x06 => return (instruction.k, steps),
            code => panic!("instruction {code:#x} at {}", at - 1),
        }
    }
}
