//! Installing a seccomp filter. Making one (which calls, which architecture) is the caller's
//! business.

use std::io;

use crate::{Error, Result};

/// One instruction of a classic BPF program, as the kernel takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
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

/// Installs a filter on the calling thread and all it starts. Needs CAP_SYS_ADMIN, or no new
/// privileges.
pub fn install(filter: &[Instruction]) -> Result<()> {
    let len = u16::try_from(filter.len()).map_err(|_| {
        Error::new(
            "install a seccomp filter",
            io::Error::other("it is too long"),
        )
    })?;
    let program = libc::sock_fprog {
        len,
        filter: filter.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `Instruction` has the layout of `sock_filter` (checked below); the program lives
    // through the call and the kernel copies it.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            std::ptr::from_ref(&program),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(Error::new(
            "install a seccomp filter",
            io::Error::last_os_error(),
        ))
    }
}

const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());
