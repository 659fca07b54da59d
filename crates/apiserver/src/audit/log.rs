//! A file of events, put aside for a new one when it is long enough.
//!
//! Names and order of old files: `gopkg.in/natefinch/lumberjack.v2`, which upstream uses.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use access::audit::Event;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use parking_lot::Mutex;

use super::LogOptions;

const STAMP: &str = "%Y-%m-%dT%H-%M-%S%.3f";
const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// Where lines go.
pub(crate) struct LogFile {
    options: LogOptions,
    open: Mutex<Option<Open>>,
}

struct Open {
    file: File,
    bytes: u64,
}

impl LogFile {
    /// Opens the file, so that what is wrong with it is told at once.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open(options: &LogOptions) -> io::Result<Self> {
        let open = match &options.path {
            None => None,
            Some(path) => Some(open(path)?),
        };
        Ok(Self {
            options: options.clone(),
            open: Mutex::new(open),
        })
    }

    /// Writes a line an event.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(&self, events: &[Arc<Event>]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for event in events {
            match self.options.json {
                true => bytes.extend_from_slice(&event.to_json()),
                false => bytes.extend_from_slice(event.to_text().as_bytes()),
            }
            bytes.push(b'\n');
        }
        let Some(path) = &self.options.path else {
            return io::stdout().lock().write_all(&bytes);
        };
        let mut slot = self.open.lock();
        let max = self.options.max_bytes;
        let full = |o: &Open| max > 0 && o.bytes > 0 && o.bytes + bytes.len() as u64 > max;
        if slot.as_ref().is_some_and(full) {
            *slot = None;
            self.put_aside(path)?;
        }
        let current = match &mut *slot {
            Some(current) => current,
            none => none.insert(open(path)?),
        };
        current.file.write_all(&bytes)?;
        current.bytes += bytes.len() as u64;
        Ok(())
    }

    fn put_aside(&self, path: &Path) -> io::Result<()> {
        let now = crate::call::now();
        fs::rename(path, aside(path, now))?;
        let (path, options) = (path.to_owned(), self.options.clone());
        // Compressing takes its time; the next line does not wait for it.
        std::thread::spawn(move || {
            if let Err(error) = tidy(&path, &options, now) {
                tracing::warn!(%error, "old audit logs cannot be put in order");
            }
        });
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Open> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
    }
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    let bytes = file.metadata()?.len();
    Ok(Open { file, bytes })
}

/// `audit-2026-01-02T03-04-05.678.log` for `audit.log`.
fn aside(path: &Path, now: Timestamp) -> PathBuf {
    let (stem, extension) = parts(path);
    let stamp = now.to_zoned(TimeZone::UTC).strftime(STAMP);
    path.with_file_name(format!("{stem}-{stamp}{extension}"))
}

fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.map(|p| p.to_string_lossy().into_owned());
    let extension = text(path.extension()).map(|e| format!(".{e}"));
    (
        text(path.file_stem()).unwrap_or_default(),
        extension.unwrap_or_default(),
    )
}

/// Files put aside, the newest first, with their time.
fn old(path: &Path) -> io::Result<Vec<(Timestamp, PathBuf)>> {
    let (stem, extension) = parts(path);
    let mut found = Vec::new();
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    for entry in fs::read_dir(dir.unwrap_or(Path::new(".")))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        let stamp = plain
            .strip_prefix(&format!("{stem}-"))
            .and_then(|rest| rest.strip_suffix(&extension));
        let time = stamp.and_then(|s| jiff::civil::DateTime::strptime(STAMP, s).ok());
        let time = time.and_then(|t| t.to_zoned(TimeZone::UTC).ok());
        found.extend(time.map(|time| (time.timestamp(), entry.path())));
    }
    found.sort_by(|a, b| b.cmp(a));
    Ok(found)
}

fn tidy(path: &Path, options: &LogOptions, now: Timestamp) -> io::Result<()> {
    let age = i64::try_from(options.max_age_days).unwrap_or(i64::MAX);
    let oldest = now
        .as_second()
        .saturating_sub(age.saturating_mul(SECONDS_PER_DAY));
    for (i, (time, file)) in old(path)?.into_iter().enumerate() {
        let too_many = options.max_backups > 0 && i >= options.max_backups;
        let too_old = options.max_age_days > 0 && time.as_second() < oldest;
        if too_many || too_old {
            fs::remove_file(&file)?;
        } else if options.compress && file.extension().is_none_or(|e| e != "gz") {
            compress(&file)?;
        }
    }
    Ok(())
}

fn compress(file: &Path) -> io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".gz");
    let made = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&name)?;
    let mut encoder = GzEncoder::new(made, Compression::default());
    io::copy(&mut File::open(file)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::remove_file(file)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Puts files in order as after a change of files.
    pub(crate) fn tidy_now(path: &Path, options: &LogOptions, now: Timestamp) {
        tidy(path, options, now).expect("tidied");
    }

    /// The names put aside, the newest first.
    pub(crate) fn old_names(path: &Path) -> Vec<String> {
        let found = old(path).expect("a directory");
        let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
        found.iter().filter_map(|(_, path)| name(path)).collect()
    }
}
