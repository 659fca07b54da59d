//! Which files a program needs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// The shared libraries and the loader of a program, as `ldd` finds them; none for a static one.
pub(crate) fn libraries(program: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("cannot run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    if text.contains("not a dynamic executable") || complaint.contains("not a dynamic executable") {
        return Ok(BTreeSet::new());
    }
    if !output.status.success() {
        bail!("ldd {}: {}", program.display(), complaint.trim());
    }
    let path_of = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let word = match words.as_slice() {
            [_, "=>", "not", ..] => {
                return Some(Err(anyhow::anyhow!("a library is missing: {line}")));
            }
            [_, "=>", path, ..] => *path,
            [path, ..] => *path,
            [] => return None,
        };
        // `linux-vdso.so.1` is no file.
        word.starts_with('/').then(|| Ok(PathBuf::from(word)))
    };
    text.lines().filter_map(path_of).collect()
}
