//! Container logs: read, followed, rotated.
//!
//! The runtime writes them, in the format of the CRI: time, stream, `F` for a whole line or `P` for a part of one, text.

pub(crate) mod inotify;
pub(crate) mod links;
pub(crate) mod read;
pub(crate) mod rotate;
#[cfg(test)]
mod tests;

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// One line of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub(crate) time: &'a [u8],
    pub(crate) stream: &'a [u8],
    /// More of the same line follows.
    pub(crate) partial: bool,
    pub(crate) text: &'a [u8],
}

/// Takes a line, without its end, apart; `None` if it is none of ours.
pub(crate) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let (time, stream, tags) = (parts.next()?, parts.next()?, parts.next()?);
    if stream != b"stdout" && stream != b"stderr" {
        return None;
    }
    Some(Line {
        time,
        stream,
        partial: tags.split(|b| *b == b':').next() == Some(b"P"),
        text: parts.next().unwrap_or_default(),
    })
}

/// The last lines of a log as plain text: at most so many bytes of the file and so many lines.
pub(crate) fn tail_text(path: &Path, bytes: u64, lines: usize) -> String {
    let Ok(raw) = read_end(path, bytes) else {
        return String::new();
    };
    let raw_lines: Vec<&[u8]> = raw.split(|b| *b == b'\n').collect();
    let first = raw_lines.len().saturating_sub(lines + 1);
    let mut text = Vec::new();
    for line in raw_lines[first..].iter().filter_map(|l| parse(l)) {
        text.extend_from_slice(line.text);
        if !line.partial {
            text.push(b'\n');
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn read_end(path: &Path, bytes: u64) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut raw = Vec::new();
    file.take(bytes).read_to_end(&mut raw)?;
    Ok(raw)
}
