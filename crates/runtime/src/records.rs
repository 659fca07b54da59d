//! What is kept on the disk of each sandbox and container, so that a restarted runtime knows them
//! again.
//!
//! A record is written once, when its thing is made; what changes later is noted in files of its
//! own by whoever knows it (the shim notes starts and exits). Nothing is synced: after a power
//! failure the containers are gone anyway, and a record that cannot be read is removed with its
//! thing.

use std::path::Path;

use cri::v1;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The name of a record in its directory.
pub(crate) const RECORD: &str = "record.json";

/// The network of a sandbox that is connected.
pub(crate) const ADDRESSES: &str = "addresses.json";

/// The note that a sandbox was stopped.
pub(crate) const STOPPED: &str = "stopped";

/// The note of why a container never started.
pub(crate) const FAILURE: &str = "failure.json";

/// A sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) id: String,
    pub(crate) config: v1::PodSandboxConfig,
    pub(crate) runtime_handler: String,
    /// In nanoseconds since 1970.
    pub(crate) created_at: i64,
    /// The cgroup that all of its containers lie in.
    pub(crate) cgroup_parent: String,
}

/// A container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) id: String,
    pub(crate) sandbox: String,
    pub(crate) config: v1::ContainerConfig,
    /// In nanoseconds since 1970.
    pub(crate) created_at: i64,
    pub(crate) image_id: String,
    pub(crate) image_ref: String,
    /// The number of the signal that asks it to stop.
    pub(crate) stop_signal: i32,
    /// Its cgroup.
    pub(crate) cgroup: String,
}

/// Why a container never ran, or what became of it when nobody could see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// Writes a document so that nobody sees half of it.
pub(crate) fn write(dir: &Path, name: &str, value: &impl Serialize) -> Result<(), cri::Error> {
    let write = || -> std::io::Result<()> {
        let path = dir.join(name);
        let temporary = path.with_extension("partial");
        std::fs::write(&temporary, serde_json::to_vec(value)?)?;
        std::fs::rename(&temporary, &path)
    };
    write().map_err(|error| {
        cri::Error::new(
            cri::Code::Internal,
            format!("write {name} in {}: {error}", dir.display()),
        )
    })
}

/// Reads a document; `None` when it is not there or damaged.
pub(crate) fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> Option<T> {
    serde_json::from_slice(&std::fs::read(dir.join(name)).ok()?).ok()
}
