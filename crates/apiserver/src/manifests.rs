//! Policies and webhooks from files: read before the server answers anybody, and again when a directory changes. What cannot
//! be used then leaves what was in force before. What they may say is decided in `access::admission::manifests`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use access::admission::manifests::{self, Source};
use machinery::Object;
use parking_lot::Mutex;

use crate::file_watch;
use crate::measures::reloads::{self, File};
use crate::server::Server;

/// Reads all directories, and follows them from then on.
///
/// # Errors
/// Something there cannot be used.
pub(crate) fn start(server: &Arc<Server>) -> Result<(), String> {
    for (source, path) in &server.policy().admission.manifests {
        let shown = path.display();
        let (plugin, what) = (source.plugin(), what(*source));
        let (objects, hash) = load(*source, path).map_err(|why| {
            format!(
                "couldn't init admission plugin {plugin:?}: failed to load static {what} manifests from \"{shown}\": {why}"
            )
        })?;
        replace(server, *source, &[], &objects);
        let count = objects.len();
        tracing::info!(
            plugin,
            count,
            "loaded manifest-based admission configurations"
        );
        let file = File::Manifests(plugin);
        (server.metrics().measures.reloads).again(file, Some(hash.clone()));
        follow(server, *source, path.clone(), (objects, hash));
    }
    Ok(())
}

fn what(source: Source) -> &'static str {
    match source.is_policies() {
        true => "policy",
        false => "webhook",
    }
}

fn follow(server: &Arc<Server>, source: Source, path: PathBuf, read: (Vec<Object>, String)) {
    let weak: Weak<Server> = Arc::downgrade(server);
    let current = Mutex::new(read);
    file_watch::follow_directory(path.clone(), server.shutdown_token(), move || {
        let Some(server) = weak.upgrade() else { return };
        let plugin = source.plugin();
        let reloads = &server.metrics().measures.reloads;
        let file = File::Manifests(plugin);
        match load(source, &path) {
            Ok((_, hash)) if hash == current.lock().1 => {}
            Ok((objects, hash)) => {
                let mut current = current.lock();
                reloads.again(file, Some(hash.clone()));
                replace(&server, source, &current.0, &objects);
                *current = (objects, hash);
                tracing::info!(plugin, "reloaded manifest config");
            }
            Err(error) => {
                reloads.again(file, None);
                tracing::error!(plugin, error, "reloading manifest config");
            }
        }
    });
}

fn replace(server: &Server, source: Source, before: &[Object], now: &[Object]) {
    let mutating = source.is_mutating();
    match source.is_policies() {
        true => server
            .admission_policies()
            .replace_static(mutating, before, now),
        false => server.webhooks().replace_static(mutating, before, now),
    }
}

/// What the files of a directory say, and the hash of them all.
fn load(source: Source, directory: &Path) -> Result<(Vec<Object>, String), String> {
    let failed = |path: &Path, error: std::io::Error| {
        format!(
            "failed to read manifest directory \"{}\": {error}",
            path.display()
        )
    };
    let entries = std::fs::read_dir(directory).map_err(|error| failed(directory, error))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| failed(directory, error))?.path();
        let known = path
            .extension()
            .and_then(|end| end.to_str())
            .is_some_and(|end| {
                ["yaml", "yml", "json"].contains(&end.to_ascii_lowercase().as_str())
            });
        if known && !path.is_dir() {
            let text = std::fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
            files.push((path.display().to_string(), text));
        }
    }
    files.sort();
    let written = files.iter().filter(|(_, text)| !text.is_empty());
    let all: String = written.map(|(_, text)| format!("{text}\0")).collect();
    Ok((manifests::read(source, &files)?, reloads::hash(&all)))
}
