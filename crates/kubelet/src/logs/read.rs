//! `kubectl logs`: a log file as a stream of bytes, from where it is wanted, for as long as the container writes.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hyper::body::Bytes;
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, BufReader, SeekFrom};
use tokio::sync::mpsc;

use super::inotify::Inotify;

/// How much is sent at a time.
const CHUNK: usize = 16 << 10;
/// The longest line that is kept together.
const MAX_LINE: u64 = 1 << 20;

/// What of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) follow: bool,
    pub(crate) timestamps: bool,
    pub(crate) since: Option<Timestamp>,
    pub(crate) tail: Option<u64>,
    pub(crate) limit_bytes: Option<u64>,
    /// `stdout` or `stderr`; `None`: both.
    pub(crate) stream: Option<&'static str>,
}

/// Sends a log until it ends, nobody listens any more, or (following) `ended` comes and the rest is read.
pub(crate) async fn send(
    path: PathBuf,
    wanted: Wanted,
    ended: impl Future<Output = ()>,
    to: mpsc::Sender<io::Result<Bytes>>,
) {
    if let Err(error) = send_all(&path, wanted, ended, &to).await
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        // Nobody listens when this fails too.
        to.send(Err(error)).await.ok();
    }
}

async fn send_all(
    path: &Path,
    wanted: Wanted,
    ended: impl Future<Output = ()>,
    to: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let mut ended = std::pin::pin!(ended);
    let mut over = !wanted.follow;
    let watch = match (over, path.parent()) {
        (false, Some(parent)) => {
            let inotify = Inotify::new()?;
            inotify.add(parent)?;
            Some(inotify)
        }
        _ => None,
    };
    let mut file = open_at(path, wanted.tail).await?;
    let mut out = Output {
        left: wanted.limit_bytes,
        lines_left: wanted.tail.filter(|_| !wanted.follow),
        wanted,
        to,
        chunk: Vec::new(),
    };
    let mut line = Vec::new();
    loop {
        // What was written before the end was known is read after it.
        let last_round = over;
        if !read_on(&mut file, &mut line, &mut out).await? {
            return Ok(());
        }
        if let Some(next) = rotated(path, &file).await {
            // Something may have been written after the old file was read and before it was put aside.
            if !read_on(&mut file, &mut line, &mut out).await? {
                return Ok(());
            }
            line.clear();
            file = next;
            continue;
        }
        if last_round {
            return Ok(());
        }
        let changed = async {
            match &watch {
                Some(watch) => watch.changed().await.map(drop),
                None => Ok(()),
            }
        };
        tokio::select! {
            () = &mut ended => over = true,
            changed = changed => changed?,
            () = to.closed() => return Ok(()),
        }
    }
}

/// Sends all whole lines that are there; false when no more is wanted.
async fn read_on(
    file: &mut BufReader<File>,
    line: &mut Vec<u8>,
    out: &mut Output<'_>,
) -> io::Result<bool> {
    while read_line(file, line).await? {
        if !out.line(line).await? {
            return Ok(false);
        }
        line.clear();
    }
    out.flush().await?;
    Ok(true)
}

/// Reads on to the end of a line; false if it has not been written yet. What was read so far stays in `line`.
async fn read_line(file: &mut BufReader<File>, line: &mut Vec<u8>) -> io::Result<bool> {
    let room = MAX_LINE.saturating_sub(u64::try_from(line.len()).unwrap_or(MAX_LINE));
    let read = (&mut *file)
        .take(room.max(1))
        .read_until(b'\n', line)
        .await?;
    let whole = line.last() == Some(&b'\n');
    Ok(read > 0 && (whole || room <= 1))
}

/// The file that has taken the place of the one that was read to its end.
async fn rotated(path: &Path, file: &BufReader<File>) -> Option<BufReader<File>> {
    let (now, open) = (
        tokio::fs::metadata(path).await.ok()?,
        file.get_ref().metadata().await.ok()?,
    );
    if now.ino() == open.ino() {
        return None;
    }
    File::open(path).await.ok().map(BufReader::new)
}

async fn open_at(path: &Path, tail: Option<u64>) -> io::Result<BufReader<File>> {
    let mut file = File::open(path).await?;
    if let Some(lines) = tail {
        let start = start_of_tail(&mut file, lines).await?;
        file.seek(SeekFrom::Start(start)).await?;
    }
    Ok(BufReader::new(file))
}

/// Where the last `lines` lines begin.
async fn start_of_tail(file: &mut File, lines: u64) -> io::Result<u64> {
    const BLOCK: u64 = 4096;
    let length = file.metadata().await?.len();
    if lines == 0 {
        return Ok(length);
    }
    let mut seen = 0;
    let mut end = length;
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(begin)).await?;
        let mut block = Vec::new();
        (&mut *file)
            .take(end - begin)
            .read_to_end(&mut block)
            .await?;
        let ends = block.iter().enumerate().rev().filter(|(_, b)| **b == b'\n');
        for (index, _) in ends {
            let at = begin + u64::try_from(index).unwrap_or(0);
            // The end of the last line does not begin another.
            if at + 1 != length {
                seen += 1;
                if seen == lines {
                    return Ok(at + 1);
                }
            }
        }
        end = begin;
    }
    Ok(0)
}

struct Output<'a> {
    wanted: Wanted,
    left: Option<u64>,
    /// A tail that is not followed ends after its lines, although the container may have written more meanwhile.
    lines_left: Option<u64>,
    to: &'a mpsc::Sender<io::Result<Bytes>>,
    chunk: Vec<u8>,
}

impl Output<'_> {
    /// Takes a line of the file; false when no more is wanted.
    async fn line(&mut self, raw: &[u8]) -> io::Result<bool> {
        if self.lines_left == Some(0) {
            self.flush().await?;
            return Ok(false);
        }
        let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
        let Some(line) = super::parse(raw) else {
            return Ok(true);
        };
        if self
            .wanted
            .stream
            .is_some_and(|s| s.as_bytes() != line.stream)
        {
            return Ok(true);
        }
        if let Some(left) = &mut self.lines_left {
            *left -= 1;
        }
        if let Some(since) = self.wanted.since {
            let time = std::str::from_utf8(line.time).ok();
            let time: Option<Timestamp> = time.and_then(|t| t.parse().ok());
            if time.is_some_and(|t| t < since) {
                return Ok(true);
            }
        }
        if self.wanted.timestamps {
            self.push(line.time);
            self.push(b" ");
        }
        self.push(line.text);
        if !line.partial {
            self.push(b"\n");
        }
        let enough = self.left == Some(0);
        if enough || self.chunk.len() >= CHUNK {
            self.flush().await?;
        }
        Ok(!enough)
    }

    fn push(&mut self, bytes: &[u8]) {
        let bytes = match &mut self.left {
            None => bytes,
            Some(left) => {
                let take = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                *left -= u64::try_from(take).unwrap_or(0);
                &bytes[..take]
            }
        };
        self.chunk.extend_from_slice(bytes);
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.chunk));
        let sent = self.to.send(Ok(chunk)).await;
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}
