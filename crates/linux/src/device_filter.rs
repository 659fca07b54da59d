//! Which devices the processes of a version 2 cgroup may use: an eBPF program on the group, made
//! here from rules. (On version 1 the kernel has files for that.)

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::{Error, Result};

/// One thing that is allowed; what no rule allows is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Block or character devices.
    pub block: bool,
    /// The major number, or any.
    pub major: Option<u32>,
    /// The minor number, or any.
    pub minor: Option<u32>,
    /// Opening for reading.
    pub read: bool,
    /// Opening for writing.
    pub write: bool,
    /// Making a node.
    pub mknod: bool,
}

/// An instruction of the kernel's `bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    code: u8,
    /// Destination in the lower, source in the upper half.
    registers: u8,
    offset: i16,
    value: i32,
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const MOVE_VALUE: u8 = 0xb7;
const AND_VALUE: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// The program for some rules. It gets the kind and the wish in one word, then major and minor
/// number.
pub(crate) fn program(rules: &[Rule]) -> Vec<Instruction> {
    let one = |code, destination: u8, source: u8, offset, value| Instruction {
        code,
        registers: destination | source << 4,
        offset,
        value,
    };
    // r2: kind, r3: wish, r4: major, r5: minor.
    let mut program = vec![
        one(LOAD_WORD, 2, 1, 0, 0),
        one(MOVE, 3, 2, 0, 0),
        one(AND_VALUE, 2, 0, 0, 0xffff),
        one(SHIFT_RIGHT, 3, 0, 0, 16),
        one(LOAD_WORD, 4, 1, 4, 0),
        one(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules {
        let bit = |on, bit| if on { bit } else { 0 };
        let allowed = bit(rule.mknod, 1) | bit(rule.read, 2) | bit(rule.write, 4);
        let mut tests = vec![(2, if rule.block { 1 } else { 2 })];
        tests.extend(rule.major.map(|major| (4, major as i32)));
        tests.extend(rule.minor.map(|minor| (5, minor as i32)));
        // After the tests: three instructions for the wish, two for the verdict.
        let mut left = tests.len() as i16 + 4;
        for (register, value) in tests {
            program.push(one(JUMP_NOT_EQUAL, register, 0, left, value));
            left -= 1;
        }
        program.push(one(MOVE, 1, 3, 0, 0));
        program.push(one(AND_VALUE, 1, 0, 0, !allowed & 7));
        program.push(one(JUMP_NOT_EQUAL, 1, 0, 2, 0));
        program.push(one(MOVE_VALUE, 0, 0, 0, 1));
        program.push(one(EXIT, 0, 0, 0, 0));
    }
    program.push(one(MOVE_VALUE, 0, 0, 0, 0));
    program.push(one(EXIT, 0, 0, 0, 0));
    program
}

/// The beginning of the kernel's `bpf_attr` for loading a program; what follows is zero.
#[repr(C)]
struct LoadAttributes {
    kind: u32,
    instructions: u32,
    program: u64,
    license: u64,
    log: [u64; 2],
    more: [u64; 4],
}

/// The beginning of `bpf_attr` for attaching one.
#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

const LOAD: i32 = 5;
const ATTACH: i32 = 8;
const CGROUP_DEVICE_PROGRAM: u32 = 15;
const CGROUP_DEVICE_ATTACH: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// Restricts the processes of a group (an open directory of version 2) to what the rules allow, for
/// as long as the group exists.
pub fn restrict(group: impl AsFd, rules: &[Rule]) -> Result<()> {
    let program = program(rules);
    let load = LoadAttributes {
        kind: CGROUP_DEVICE_PROGRAM,
        instructions: program.len() as u32,
        program: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log: [0; 2],
        more: [0; 4],
    };
    // SAFETY: the attributes and what they point to live through the call, with the lengths given;
    // the kernel only reads them.
    let loaded = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            LOAD,
            std::ptr::from_ref(&load),
            size_of::<LoadAttributes>(),
        )
    };
    if loaded < 0 {
        return Err(Error::new(
            "load a device filter",
            io::Error::last_os_error(),
        ));
    }
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded as RawFd) };
    let attach = AttachAttributes {
        target: group.as_fd().as_raw_fd() as u32,
        program: loaded.as_raw_fd() as u32,
        kind: CGROUP_DEVICE_ATTACH,
        flags: ALLOW_MULTI,
    };
    // SAFETY: as above.
    let attached = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            ATTACH,
            std::ptr::from_ref(&attach),
            size_of::<AttachAttributes>(),
        )
    };
    if attached == 0 {
        Ok(())
    } else {
        Err(Error::new(
            "attach a device filter",
            io::Error::last_os_error(),
        ))
    }
}
