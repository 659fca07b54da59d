//! Devices whose packets a program reads and writes.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};

use crate::{Context, Error, Result};

/// Opens the device of this name in the calling thread's network namespace; it is made if it is not there, and stays when
/// the descriptor is closed. Each read and write is one IP packet; neither waits.
pub fn open(name: &str) -> Result<OwnedFd> {
    let what = || format!("make the tunnel device {name}");
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let device = rustix::fs::openat(CWD, "/dev/net/tun", flags, Mode::empty())
        .context(|| "open /dev/net/tun")?;
    // SAFETY: all bytes zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    if name.len() >= request.ifr_name.len() {
        return Err(Error::new(what(), rustix::io::Errno::NAMETOOLONG));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the name is NUL-terminated, `request` lives through the call and has the type that the request reads and
    // writes.
    let made = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if made != 0 {
        return Err(Error::new(what(), io::Error::last_os_error()));
    }
    // SAFETY: the request takes a number and no pointer.
    let kept = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETPERSIST, 1 as libc::c_ulong) };
    match kept {
        0 => Ok(device),
        _ => Err(Error::new(what(), io::Error::last_os_error())),
    }
}
