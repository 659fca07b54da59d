//! hostPath volumes: a path of the node, checked to be what it is said to be.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::Path;

use k8s_openapi::api::core::v1::HostPathVolumeSource;

/// Checks the path against its type, and makes what is to be made.
pub(super) fn check(source: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    if path
        .components()
        .any(|c| c == std::path::Component::ParentDir)
    {
        return Err(format!("path {} must not contain '..'", source.path));
    }
    let failed = |why: String| format!("hostPath type check failed: {why}");
    match kind {
        "DirectoryOrCreate" if !path.exists() => {
            let mut builder = fs::DirBuilder::new();
            let made = builder.recursive(true).mode(0o755).create(path);
            return made.map_err(|e| failed(e.to_string()));
        }
        "FileOrCreate" if !path.exists() => {
            let made = fs::OpenOptions::new().create(true).append(true).open(path);
            return made.map(drop).map_err(|e| failed(e.to_string()));
        }
        "" => return Ok(()),
        _ => {}
    }
    let found = fs::metadata(path).map(|m| m.file_type()).ok();
    let (good, what) = match kind {
        "Directory" | "DirectoryOrCreate" => (found.is_some_and(|t| t.is_dir()), "directory"),
        "File" | "FileOrCreate" => (found.is_some_and(|t| t.is_file()), "file"),
        "Socket" => (found.is_some_and(|t| t.is_socket()), "socket file"),
        "CharDevice" => (
            found.is_some_and(|t| t.is_char_device()),
            "character device",
        ),
        "BlockDevice" => (found.is_some_and(|t| t.is_block_device()), "block device"),
        other => return Err(format!("{other} is an invalid volume type")),
    };
    match good {
        true => Ok(()),
        false => Err(failed(format!("{} is not a {what}", source.path))),
    }
}
