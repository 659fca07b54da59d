//! Policies and webhooks from files: read before the server answers anybody, and again when a directory changes. What cannot
//! be used then leaves what was in force before. What they may say is decided in `access::admission::manifests`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use access::admission::manifests::{self, Source};
use machinery::Object;
use parking_lot::Mutex;

use crate::file_watch;
use crate::server::Server;

/// Reads all directories, and follows them from then on.
///
/// # Errors
/// Something there cannot be used.
pub(crate) fn start(server: &Arc<Server>) -> Result<(), String> {
    for (source, path) in &server.policy().admission.manifests {
        let shown = path.display();
        let (plugin, what) = (source.plugin(), what(*source));
        let objects = load(*source, path).map_err(|why| {
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
        follow(server, *source, path.clone(), objects);
    }
    Ok(())
}

fn what(source: Source) -> &'static str {
    match source.is_policies() {
        true => "policy",
        false => "webhook",
    }
}

fn follow(server: &Arc<Server>, source: Source, path: PathBuf, objects: Vec<Object>) {
    let weak: Weak<Server> = Arc::downgrade(server);
    let current = Mutex::new(objects);
    file_watch::follow_directory(path.clone(), server.shutdown_token(), move || {
        let Some(server) = weak.upgrade() else { return };
        let plugin = source.plugin();
        match load(source, &path) {
            Ok(objects) if objects == *current.lock() => {}
            Ok(objects) => {
                let mut current = current.lock();
                replace(&server, source, &current, &objects);
                *current = objects;
                tracing::info!(plugin, "reloaded manifest config");
            }
            Err(error) => tracing::error!(plugin, error, "reloading manifest config"),
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

fn load(source: Source, directory: &Path) -> Result<Vec<Object>, String> {
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
    manifests::read(source, &files)
}
