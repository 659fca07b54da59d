//! The default system-call filter, as a classic BPF program.

/// One instruction, in the layout of the kernel's `sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// How many instructions to skip when a jump's test holds.
    pub jump_true: u8,
    /// How many when it does not.
    pub jump_false: u8,
    /// The constant.
    pub value: u32,
}

/// The filter for a container with these capabilities.
pub fn default_filter(_capabilities: u64) -> Vec<Instruction> {
    vec![Instruction {
        code: 6,
        jump_true: 0,
        jump_false: 0,
        value: 0x7fff_0000,
    }]
}
