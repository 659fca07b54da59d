//! A container's log file in the CRI's format: `TIME stdout|stderr F|P TEXT`, one entry a line.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The longest text in one entry; longer lines are continued in further ones, marked `P` but for
/// the last.
pub(crate) const MAX_ENTRY_BYTES: usize = 16 * 1024;

/// Which output a text came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// The log of one container.
#[derive(Debug)]
pub(crate) struct Log {
    path: Option<PathBuf>,
    file: Option<File>,
    /// The beginning of a line whose end has not come yet.
    unfinished: [Vec<u8>; 2],
}

impl Log {
    /// Opens the log; without a path, or when it cannot be opened, output is only for who is
    /// attached.
    pub(crate) fn open(path: Option<&Path>) -> Log {
        let file = path.and_then(|path| open(path).ok());
        Log {
            path: path.map(Path::to_owned),
            file,
            unfinished: Default::default(),
        }
    }

    /// Opens the file anew: the old one was renamed.
    pub(crate) fn reopen(&mut self) -> std::io::Result<()> {
        if let Some(path) = &self.path {
            self.file = Some(open(path)?);
        }
        Ok(())
    }

    /// Adds output; whole lines are written at once. A full disk loses log entries, never the
    /// container.
    pub(crate) fn append(&mut self, stream: Stream, text: &[u8], now: i64) {
        let Some(file) = &mut self.file else { return };
        let mut entries = Vec::with_capacity(text.len() + 128);
        split(
            &mut self.unfinished[stream as usize],
            stream,
            text,
            now,
            &mut entries,
        );
        let _ = file.write_all(&entries);
    }

    /// Writes what has no end of line and will not get one.
    pub(crate) fn finish(&mut self, stream: Stream, now: i64) {
        let rest = std::mem::take(&mut self.unfinished[stream as usize]);
        if let (Some(file), false) = (&mut self.file, rest.is_empty()) {
            let mut entry = Vec::new();
            push(&mut entry, stream, b'P', &rest, now);
            let _ = file.write_all(&entry);
        }
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    File::options()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
}

/// Turns output into entries; what follows the last end of line is kept in `unfinished`.
pub(crate) fn split(
    unfinished: &mut Vec<u8>,
    stream: Stream,
    text: &[u8],
    now: i64,
    entries: &mut Vec<u8>,
) {
    for piece in text.split_inclusive(|byte| *byte == b'\n') {
        let (line, ends) = match piece.strip_suffix(b"\n") {
            Some(line) => (line, true),
            None => (piece, false),
        };
        unfinished.extend_from_slice(line);
        while unfinished.len() > MAX_ENTRY_BYTES {
            let rest = unfinished.split_off(MAX_ENTRY_BYTES);
            push(entries, stream, b'P', unfinished, now);
            *unfinished = rest;
        }
        if ends {
            push(entries, stream, b'F', unfinished, now);
            unfinished.clear();
        }
    }
    if unfinished.is_empty() {
        // A long line's buffer is not kept: idle shims stay small.
        unfinished.shrink_to(1024);
    }
}

fn push(entries: &mut Vec<u8>, stream: Stream, tag: u8, text: &[u8], now: i64) {
    entries.extend_from_slice(timestamp(now).as_bytes());
    entries.push(b' ');
    entries.extend_from_slice(stream.name().as_bytes());
    entries.extend_from_slice(&[b' ', tag, b' ']);
    entries.extend_from_slice(text);
    entries.push(b'\n');
}

/// A time as RFC 3339 with all nine digits, in UTC.
fn timestamp(now: i64) -> String {
    let time =
        jiff::Timestamp::from_nanosecond(i128::from(now)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.9}")
}
