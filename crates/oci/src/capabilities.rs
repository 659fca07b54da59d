//! Which capabilities a container has: a default set, what the pod adds and drops. The inheritable
//! set is not even representable here: it is always empty.

/// Capability names without the prefix, in the kernel's order: the index is the number.
const NAMES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container has when nobody says anything. `NET_RAW` is not among them: with it a pod can
/// forge router advertisements and ARP answers; ping works without it.
const DEFAULT: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A name that is no capability.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown capability {0:?}")]
pub struct UnknownCapability(pub String);

/// All capabilities that have a name here.
pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// One capability by name, with or without `CAP_`, in any case.
pub fn mask_of(name: &str) -> Result<u64, UnknownCapability> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let number = NAMES.iter().position(|known| *known == short);
    number
        .map(|number| 1 << number)
        .ok_or_else(|| UnknownCapability(name.to_owned()))
}

/// The set after adding and dropping; `ALL` means all. What is both added and dropped is dropped,
/// except that `drop: ALL` is the start to which single ones are added.
pub fn set(privileged: bool, add: &[String], drop: &[String]) -> Result<u64, UnknownCapability> {
    if privileged {
        return Ok(ALL);
    }
    let all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let mask = |names: &[String]| -> Result<u64, UnknownCapability> {
        let single = names
            .iter()
            .filter(|name| !name.eq_ignore_ascii_case("ALL"));
        single
            .map(|name| mask_of(name))
            .try_fold(0, |set, one| Ok(set | one?))
    };
    let start = match (all(add), all(drop)) {
        (true, _) => ALL,
        (false, true) => 0,
        (false, false) => DEFAULT
            .iter()
            .fold(0, |set, name| set | mask_of(name).unwrap_or(0)),
    };
    Ok((start | mask(add)?) & !mask(drop)?)
}
