//! Pseudo terminals, made without trusting any name in a container's `/dev`.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::{Context, Error, Result};

/// A new terminal: our side, and the side of the program.
#[derive(Debug)]
pub struct Terminal {
    /// What is written here is typed, what is shown is read here.
    pub master: OwnedFd,
    /// Standard input, output and error of the program.
    pub slave: OwnedFd,
}

/// Makes a terminal in the devpts file system whose root `devpts` stands for.
pub fn open_in(devpts: impl AsFd) -> Result<Terminal> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master =
        rustix::fs::openat(devpts.as_fd(), "ptmx", flags, Mode::empty()).context(|| "open ptmx")?;
    finish(master)
}

/// Makes a terminal from an opened multiplexer, after making sure that it is one.
pub fn finish(master: OwnedFd) -> Result<Terminal> {
    let stat = rustix::fs::fstat(&master).context(|| "look at ptmx")?;
    let (major, minor) = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    let magic = rustix::fs::fstatfs(&master)
        .context(|| "look at ptmx")?
        .f_type;
    if (major, minor) != (5, 2) || magic != DEVPTS_SUPER_MAGIC {
        return Err(Error::new(
            "/dev/ptmx is not a terminal multiplexer",
            rustix::io::Errno::NOTTY,
        ));
    }
    rustix::pty::unlockpt(&master).context(|| "unlock a terminal")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)
        .context(|| "open a terminal's other side")?;
    Ok(Terminal { master, slave })
}

const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;

/// Makes the terminal the controlling one of the calling process, which starts a session of its
/// own.
pub fn take_control(slave: impl AsFd) -> Result<()> {
    rustix::process::ioctl_tiocsctty(slave).context(|| "take control of the terminal")
}

/// Sets the size of a terminal, in characters.
pub fn resize(master: impl AsFd, columns: u16, rows: u16) -> Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(master, size).context(|| "resize a terminal")
}
