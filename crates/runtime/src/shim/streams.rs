//! The standard streams of one container: output goes to the log and to everybody attached, input
//! comes from them.
//!
//! Buffers are bounded: while somebody attached does not take what was read, nothing more is read,
//! and the container waits, as it would for a terminal.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use linux::{Context, Result};
use rustix::event::PollFlags;
use rustix::io::Errno;

use super::log::{Log, Stream};

const CHUNK: usize = 64 * 1024;

/// Which descriptor of a container's streams became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    /// The container wrote output 0 or 1.
    Output(usize),
    /// The container takes input again.
    Input,
    /// Somebody attached has typed.
    Typed(u64),
    /// Somebody attached takes output 0 or 1 again, or has gone.
    Taken(u64, usize),
}

/// The streams of one container.
#[derive(Debug)]
pub(crate) struct Streams {
    /// Writing end of the standard input, or the terminal's master.
    input: Option<OwnedFd>,
    /// Reading ends of standard output and error; a terminal has only the first.
    outputs: [Option<OwnedFd>; 2],
    terminal: bool,
    /// The first who was attached with input ends it by leaving.
    input_once: bool,
    /// Typed, but not yet taken by the container.
    typed: Vec<u8>,
    pub(crate) log: Log,
    attached: Vec<Attached>,
    next: u64,
}

#[derive(Debug)]
struct Attached {
    id: u64,
    input: Option<OwnedFd>,
    outputs: [Option<OwnedFd>; 2],
    /// Read from the container, but not yet taken.
    waiting: [Vec<u8>; 2],
    /// Goes once what is waiting has been taken.
    leaves: bool,
}

impl Streams {
    pub(crate) fn new(log: Log, input_once: bool) -> Streams {
        Streams {
            input: None,
            outputs: [None, None],
            terminal: false,
            input_once,
            typed: Vec::new(),
            log,
            attached: Vec::new(),
            next: 0,
        }
    }

    /// The container has pipes.
    pub(crate) fn set_pipes(
        &mut self,
        input: Option<OwnedFd>,
        outputs: [OwnedFd; 2],
    ) -> Result<()> {
        for fd in input.iter().chain(&outputs) {
            set_nonblocking(fd)?;
        }
        self.input = input;
        self.outputs = outputs.map(Some);
        Ok(())
    }

    /// The container has a terminal.
    pub(crate) fn set_terminal(&mut self, master: OwnedFd) -> Result<()> {
        set_nonblocking(&master)?;
        self.input = Some(master.try_clone().context(|| "copy a terminal handle")?);
        self.outputs = [Some(master), None];
        self.terminal = true;
        Ok(())
    }

    /// The terminal's master, if there is one.
    pub(crate) fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.outputs[0]
            .as_ref()
            .filter(|_| self.terminal)
            .map(AsFd::as_fd)
    }

    /// Adds somebody who reads and types.
    pub(crate) fn attach(
        &mut self,
        input: Option<OwnedFd>,
        outputs: [Option<OwnedFd>; 2],
    ) -> Result<()> {
        for fd in input.iter().chain(outputs.iter().flatten()) {
            set_nonblocking(fd)?;
        }
        self.next += 1;
        self.attached.push(Attached {
            id: self.next,
            input,
            outputs,
            waiting: Default::default(),
            leaves: false,
        });
        self.prune();
        Ok(())
    }

    /// What to wait for.
    pub(crate) fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags, Ready)> {
        let mut all = Vec::new();
        for (index, output) in self.outputs.iter().enumerate() {
            let held_up = self
                .attached
                .iter()
                .any(|one| !one.waiting[index].is_empty());
            if let (Some(fd), false) = (output, held_up) {
                all.push((fd.as_fd(), PollFlags::IN, Ready::Output(index)));
            }
        }
        if let (Some(fd), false) = (&self.input, self.typed.is_empty()) {
            all.push((fd.as_fd(), PollFlags::OUT, Ready::Input));
        }
        for one in &self.attached {
            if let (Some(fd), true) = (&one.input, self.typed.is_empty()) {
                all.push((fd.as_fd(), PollFlags::IN, Ready::Typed(one.id)));
            }
            for (index, output) in one.outputs.iter().enumerate() {
                let Some(fd) = output else { continue };
                // Without something to write only the end is of interest, which is always reported.
                let flags = match one.waiting[index].is_empty() {
                    true => PollFlags::empty(),
                    false => PollFlags::OUT,
                };
                all.push((fd.as_fd(), flags, Ready::Taken(one.id, index)));
            }
        }
        all
    }

    /// Does what became possible.
    pub(crate) fn ready(&mut self, ready: Ready, flags: PollFlags) {
        match ready {
            Ready::Output(index) => drop(self.read_output(index)),
            Ready::Input => self.pass_typed(),
            Ready::Typed(id) => self.read_typed(id),
            Ready::Taken(id, index) => {
                if let Some(one) = self.attached.iter_mut().find(|one| one.id == id) {
                    if flags.intersects(PollFlags::ERR | PollFlags::NVAL) {
                        one.outputs[index] = None;
                        one.waiting[index].clear();
                    } else {
                        one.flush(index);
                    }
                }
            }
        }
        self.prune();
    }

    /// Reads what is left after the container has exited, and lets everybody go once they have it.
    pub(crate) fn finish(&mut self) {
        for (index, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
            while self.outputs[index].is_some() && self.read_output(index) {}
            self.outputs[index] = None;
            self.log.finish(stream, super::now());
        }
        self.input = None;
        self.typed.clear();
        self.prune();
    }

    /// Reads one chunk; true when there was something.
    fn read_output(&mut self, index: usize) -> bool {
        let Some(fd) = &self.outputs[index] else {
            return false;
        };
        let mut buffer = vec![0; CHUNK];
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => self.outputs[index] = None,
            Ok(read) => {
                let stream = if index == 0 {
                    Stream::Stdout
                } else {
                    Stream::Stderr
                };
                self.log.append(stream, &buffer[..read], super::now());
                for one in &mut self.attached {
                    if one.outputs[index].is_some() {
                        one.waiting[index].extend_from_slice(&buffer[..read]);
                        one.flush(index);
                    }
                }
                return true;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A terminal answers EIO when its last user has gone.
            Err(_) => self.outputs[index] = None,
        }
        false
    }

    fn read_typed(&mut self, id: u64) {
        let Some(one) = self.attached.iter_mut().find(|one| one.id == id) else {
            return;
        };
        let Some(fd) = &one.input else { return };
        let mut buffer = vec![0; CHUNK];
        match rustix::io::read(fd, &mut buffer) {
            Ok(read) if read > 0 => {
                buffer.truncate(read);
                self.typed = buffer;
                self.pass_typed();
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            _ => {
                one.input = None;
                // Where the input outlives who typed, the end of the typing is the end of the visit, as in containerd.
                match self.input_once && !self.terminal {
                    true => self.input = None,
                    false => one.leaves = true,
                }
            }
        }
    }

    fn pass_typed(&mut self) {
        let Some(fd) = &self.input else {
            return self.typed.clear();
        };
        match rustix::io::write(fd, &self.typed) {
            Ok(written) => drop(self.typed.drain(..written)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                self.input = None;
                self.typed.clear();
            }
        }
        if self.typed.is_empty() {
            self.typed = Vec::new();
        }
    }

    /// Lets go of who has nothing left to give or to get.
    fn prune(&mut self) {
        let ended = [self.outputs[0].is_none(), self.outputs[1].is_none()];
        let started = self.next > 0;
        for one in &mut self.attached {
            for (index, ended) in ended.into_iter().enumerate() {
                let shared = self.terminal && index == 1;
                if one.waiting[index].is_empty() && (ended || shared || one.leaves) && started {
                    one.outputs[index] = None;
                }
            }
            if self.input.is_none() {
                one.input = None;
            }
        }
        self.attached
            .retain(|one| one.outputs.iter().any(Option::is_some) || one.input.is_some());
    }
}

impl Attached {
    fn flush(&mut self, index: usize) {
        let Some(fd) = &self.outputs[index] else {
            return;
        };
        while !self.waiting[index].is_empty() {
            match rustix::io::write(fd, &self.waiting[index]) {
                Ok(written) => drop(self.waiting[index].drain(..written)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.outputs[index] = None;
                    self.waiting[index].clear();
                    return;
                }
            }
        }
        self.waiting[index] = Vec::new();
    }
}

fn set_nonblocking(fd: &OwnedFd) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd).context(|| "look at a stream")?;
    rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)
        .context(|| "make a stream non-blocking")
}
