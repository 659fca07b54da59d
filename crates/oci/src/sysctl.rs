//! Kernel settings that a pod may have: only those that belong to one of its own namespaces, and
//! only plain names.

use std::path::PathBuf;

/// Why a setting is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSysctl {
    /// Not namespaced, or not a name at all.
    #[error("sysctl {0:?} is not allowed: it does not belong to a namespace of the pod")]
    NotNamespaced(String),
    /// The pod uses the host's namespace for it.
    #[error("sysctl {0:?} is not allowed: the pod shares that namespace with the host")]
    HostNamespace(String),
    /// The value has more than one line.
    #[error("sysctl {0:?} has an invalid value")]
    Value(String),
}

/// The file under `/proc/sys` for a setting, after all checks.
pub fn path(
    name: &str,
    value: &str,
    host_network: bool,
    host_ipc: bool,
) -> Result<PathBuf, InvalidSysctl> {
    let refused = || InvalidSysctl::NotNamespaced(name.to_owned());
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    if name.is_empty() || name.len() > 253 || !name.chars().all(plain) {
        return Err(refused());
    }
    // The first separator decides which one is the separator; the other may be part of an
    // interface's name.
    let slashed: String = match name.find(['.', '/']).map(|at| name.as_bytes()[at]) {
        Some(b'.') => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
        _ => name.to_owned(),
    };
    if slashed
        .split('/')
        .any(|part| matches!(part, "" | "." | ".."))
    {
        return Err(refused());
    }
    let ipc = slashed.starts_with("kernel/shm")
        || slashed.starts_with("kernel/msg")
        || slashed == "kernel/sem"
        || slashed.starts_with("fs/mqueue/");
    let network = slashed.starts_with("net/");
    if !ipc && !network {
        return Err(refused());
    }
    if (ipc && host_ipc) || (network && host_network) {
        return Err(InvalidSysctl::HostNamespace(name.to_owned()));
    }
    if value.len() > 4096 || value.contains(['\n', '\0']) {
        return Err(InvalidSysctl::Value(name.to_owned()));
    }
    Ok(PathBuf::from("/proc/sys").join(slashed))
}
