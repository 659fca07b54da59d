//! Who a process is and what it may do, changed for good just before a program starts.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::{Context, Error, Result};

/// Capabilities by name, in the kernel's order: the index is the number.
pub const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Who to become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// All supplementary groups.
    pub groups: Vec<u32>,
    /// The numbers of the capabilities that stay within reach (bounding set).
    pub bounding: u64,
    /// Those the process has from the start, as a bit mask; inheritable and ambient sets are always
    /// empty.
    pub effective: u64,
    /// Whether set-user-ID programs and file capabilities have no effect from now on.
    pub no_new_privileges: bool,
}

/// Drops capabilities out of reach for good. Needs CAP_SETPCAP, so it comes first.
pub fn bound(bounding: u64) -> Result<()> {
    for number in 0..64u32 {
        if bounding & (1 << number) != 0 {
            continue;
        }
        // SAFETY: plain numbers. EINVAL: the kernel knows no more capabilities.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) };
        if dropped != 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() == Some(libc::EINVAL) {
                break;
            }
            return Err(Error::new(format!("drop capability {number}"), error));
        }
    }
    Ok(())
}

/// Takes on the identity of `who`: groups, group, user; keeps `effective` over the change.
pub fn become_user(who: &Credentials) -> Result<()> {
    use rustix::process::{Gid, Uid};
    rustix::thread::set_keep_capabilities(true).context(|| "keep capabilities")?;
    let groups: Vec<Gid> = who
        .groups
        .iter()
        .map(|group| Gid::from_raw(*group))
        .collect();
    rustix::thread::set_thread_groups(&groups).context(|| "set supplementary groups")?;
    let gid = Gid::from_raw(who.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .context(|| format!("become group {}", who.gid))?;
    let uid = Uid::from_raw(who.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .context(|| format!("become user {}", who.uid))?;
    rustix::thread::set_keep_capabilities(false).context(|| "stop keeping capabilities")
}

/// Leaves the process exactly `effective`; the inheritable set is empty, and with it the ambient
/// one.
pub fn keep_only(effective: u64) -> Result<()> {
    let known = CapabilitySet::from_bits_retain(effective);
    let sets = CapabilitySets {
        effective: known,
        permitted: known,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets).context(|| "set capabilities")
}

/// No program started from here on gains privileges.
pub fn no_new_privileges() -> Result<()> {
    rustix::thread::set_no_new_privs(true).context(|| "give up new privileges")
}

/// The capabilities of the calling thread that the kernel would let it pass on, as a bit mask.
pub fn own_capabilities() -> Result<u64> {
    let sets = rustix::thread::capabilities(None).context(|| "read own capabilities")?;
    Ok(sets.permitted.bits())
}
