//! The memory of this process.

/// Gives freed memory back to the system that the C library keeps for later, as glibc does by the tens of megabytes. It may
/// take some milliseconds.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call is given no pointer, and any thread may make it at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
