//! Which device nodes a container may open: a fixed short list, and nothing can be made.
//!
//! v1 takes the list as text. The unified hierarchy asks a BPF program, which is written down here
//! instruction by instruction (`BPF_PROG_TYPE_CGROUP_DEVICE`, `struct bpf_cgroup_dev_ctx` of
//! `linux/bpf.h`): it gets the kind and the access in one word, then major and minor, and returns
//! 1 or 0.

/// What to do when the kernel refuses the program.
pub(super) const BPF_REMEDY: &str = "use a kernel with CONFIG_CGROUP_BPF, and run with CAP_BPF and \
                                     CAP_NET_ADMIN";

/// Character devices that may be read and written: major, and minor where not all are meant.
const DEVICES: [(u16, Option<u16>); 8] = [
    (1, Some(3)), // null
    (1, Some(5)), // zero
    (1, Some(7)), // full
    (1, Some(8)), // random
    (1, Some(9)), // urandom
    (5, Some(0)), // tty
    (5, Some(2)), // ptmx
    (136, None),  // the container's own pseudo terminals
];

/// The lines for `devices.allow`, after `a` went to `devices.deny`. No `m`: nothing can be made.
pub(super) fn lines() -> impl Iterator<Item = String> {
    DEVICES.iter().map(|(major, minor)| match minor {
        Some(minor) => format!("c {major}:{minor} rw"),
        None => format!("c {major}:* rw"),
    })
}

/// `BPF_LDX | BPF_MEM | BPF_W`.
const LOAD: u8 = 0x61;
/// `BPF_ALU64 | BPF_MOV | BPF_X`, `BPF_K`.
const MOVE_REGISTER: u8 = 0xbf;
const MOVE_VALUE: u8 = 0xb7;
/// `BPF_ALU64 | BPF_AND | BPF_K`.
const AND: u8 = 0x57;
/// `BPF_JMP | BPF_JNE | BPF_K`, `BPF_JSET`, and the unconditional jump.
const JUMP_IF_NOT_EQUAL: u8 = 0x55;
const JUMP_IF_ANY_BIT: u8 = 0x45;
const EXIT: u8 = 0x95;

/// `BPF_DEVCG_DEV_CHAR`, in the lower half of the first word.
const CHARACTER: i32 = 2;
/// `BPF_DEVCG_ACC_MKNOD`, in the upper half.
const MAKE: i32 = 1 << 16;

/// The program, one 64-bit word per instruction.
pub(super) fn program() -> Vec<u64> {
    // r0: the answer, r2: access and kind, r3: major, r4: minor.
    let mut tests = Vec::new();
    for (major, minor) in DEVICES {
        match minor {
            Some(minor) => tests.extend([
                instruction(JUMP_IF_NOT_EQUAL, 3, 0, 3, i32::from(major)),
                instruction(JUMP_IF_NOT_EQUAL, 4, 0, 2, i32::from(minor)),
            ]),
            None => tests.push(instruction(JUMP_IF_NOT_EQUAL, 3, 0, 2, i32::from(major))),
        }
        tests.push(instruction(MOVE_VALUE, 0, 0, 0, 1));
        tests.push(instruction(EXIT, 0, 0, 0, 0));
    }
    // Far fewer than would overflow the offset; the kernel's verifier refuses a wrong jump.
    let refuse = i16::try_from(tests.len()).unwrap_or(i16::MAX - 1);
    let mut program = vec![
        instruction(LOAD, 2, 1, 0, 0),
        instruction(LOAD, 3, 1, 4, 0),
        instruction(LOAD, 4, 1, 8, 0),
        instruction(MOVE_VALUE, 0, 0, 0, 0),
        instruction(MOVE_REGISTER, 5, 2, 0, 0),
        instruction(AND, 5, 0, 0, 0xffff),
        instruction(JUMP_IF_NOT_EQUAL, 5, 0, refuse + 1, CHARACTER),
        instruction(JUMP_IF_ANY_BIT, 2, 0, refuse, MAKE),
    ];
    program.extend(tests);
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

fn instruction(code: u8, destination: u8, source: u8, offset: i16, value: i32) -> u64 {
    let registers = source << 4 | destination;
    let [low, high] = offset.to_le_bytes();
    let [a, b, c, d] = value.to_le_bytes();
    u64::from_le_bytes([code, registers, low, high, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAR: u32 = 2;
    const BLOCK: u32 = 1;
    const MKNOD: u32 = 1;
    const READ: u32 = 2;
    const WRITE: u32 = 4;

    /// Runs the program as the kernel does.
    fn ask(program: &[u64], kind: u32, access: u32, major: u32, minor: u32) -> u64 {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0_u64; 11];
        let mut at = 0;
        loop {
            let [code, both, low, high, a, b, c, d] = program[at].to_le_bytes();
            let (destination, source) = (usize::from(both & 15), usize::from(both >> 4));
            let offset = i16::from_le_bytes([low, high]);
            let value = u64::from(u32::from_le_bytes([a, b, c, d]));
            at += 1;
            let jump = |taken: bool| if taken { usize::try_from(offset).unwrap() } else { 0 };
            match code {
                LOAD => {
                    assert_eq!(source, 1);
                    registers[destination] = context[usize::try_from(offset / 4).unwrap()].into();
                }
                MOVE_REGISTER => registers[destination] = registers[source],
                MOVE_VALUE => registers[destination] = value,
                AND => registers[destination] &= value,
                JUMP_IF_NOT_EQUAL => at += jump(registers[destination] != value),
                JUMP_IF_ANY_BIT => at += jump(registers[destination] & value != 0),
                EXIT => return registers[0],
                _ => panic!("instruction {code:#x}"),
            }
        }
    }

    #[test]
    fn the_program_allows_the_list_and_nothing_else() {
        let program = program();
        let listed = |major: u32, minor: u32| match major {
            1 => [3, 5, 7, 8, 9].contains(&minor),
            5 => [0, 2].contains(&minor),
            136 => true,
            _ => false,
        };
        for major in (0..300).chain([0x0001_0001, u32::MAX]) {
            for minor in (0..16).chain([200, 255, 256, 0x0001_0003]) {
                for access in 0..8 {
                    let expected = u64::from(listed(major, minor) && access & MKNOD == 0);
                    let answer = ask(&program, CHAR, access, major, minor);
                    assert_eq!(answer, expected, "c {major}:{minor} access {access}");
                    assert_eq!(ask(&program, BLOCK, access, major, minor), 0);
                }
            }
        }
        assert_eq!(ask(&program, CHAR, READ | WRITE, 1, 3), 1);
        assert_eq!(ask(&program, 0x8002, READ, 1, 3), 0, "an unknown kind");
    }

    #[test]
    fn the_lines_are_the_same_list() {
        let lines: Vec<String> = lines().collect();
        let expected = "c 1:3 rw,c 1:5 rw,c 1:7 rw,c 1:8 rw,c 1:9 rw,c 5:0 rw,c 5:2 rw,c 136:* rw";
        assert_eq!(lines.join(","), expected);
    }
}
