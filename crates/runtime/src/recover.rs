//! How a restarted runtime learns again what runs, and how it goes on when a connection to a shim ends.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cri::Error;
use tokio::sync::{mpsc, watch};

use crate::client::Shim;
use crate::records::{self, ContainerRecord, RECORD, SandboxRecord};
use crate::shim::protocol::{Answer, Call, EXITED, Event, Exited, STARTED, Started};
use crate::world::{Container, Live, Progress, Runtime, Sandbox, network_of, remove_dir};

/// How long a shim may take to say that it is there.
const HELLO_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// A shim that lives, with what it knows.
struct Found {
    live: Live,
    happened: mpsc::UnboundedReceiver<Event>,
    containers: Vec<(String, Option<Exited>)>,
}

impl Runtime {
    /// Finds what ran before; what was half-made is removed.
    pub(crate) async fn recover(self: &Arc<Self>) -> Result<(), Error> {
        let sandboxes = self.config.state_dir.join("sandboxes");
        for dir in directories(&sandboxes)? {
            match records::read::<SandboxRecord>(&dir, RECORD) {
                Some(record) if dir.ends_with(&record.id) => {
                    self.recover_sandbox(dir, record).await?
                }
                _ => {
                    // Half-made when the machine or the runtime went down: nobody was told its ID.
                    tracing::warn!(dir = %dir.display(), "removing a half-made sandbox");
                    self.remove_half_made(&dir).await?;
                }
            }
        }
        let known: Vec<String> = self.world().containers.keys().cloned().collect();
        for dir in directories(&self.config.root.join("containers"))? {
            let name = dir
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if !known.contains(&name) {
                remove_dir(&dir)?;
            }
        }
        Ok(())
    }

    async fn recover_sandbox(
        self: &Arc<Self>,
        dir: PathBuf,
        record: SandboxRecord,
    ) -> Result<(), Error> {
        let id = record.id.clone();
        let addresses: Vec<IpAddr> = records::read(&dir, records::ADDRESSES).unwrap_or_default();
        let stopped = dir.join(records::STOPPED).exists();
        let found = find_shim(&dir).await;
        let sandbox = Sandbox {
            record: Arc::new(record),
            dir: dir.clone(),
            live: found
                .as_ref()
                .filter(|_| !stopped)
                .map(|found| found.live.clone()),
            addresses: addresses.clone(),
        };
        let network = sandbox.network();
        let ready = sandbox.live.is_some();
        self.world().sandboxes.insert(id.clone(), sandbox);
        for dir in directories(&dir.join("containers"))? {
            self.recover_container(&id, dir)?;
        }
        match found {
            Some(found) => self.resume(&id, found),
            None => self.shim_ended(&id),
        }
        if ready && !addresses.is_empty() {
            // One pod's trouble must not keep the node from starting.
            if let Err(error) = self.config.network.adopt(&network, &addresses).await {
                let error = cri::chain(error.as_ref());
                tracing::error!(sandbox = id, error, "the network does not take a pod over");
            }
        }
        Ok(())
    }

    fn recover_container(&self, sandbox: &str, dir: PathBuf) -> Result<(), Error> {
        let record = records::read::<ContainerRecord>(&dir, RECORD);
        let Some(record) = record.filter(|one| one.sandbox == sandbox && dir.ends_with(&one.id))
        else {
            return remove_dir(&dir);
        };
        let started: Option<Started> = records::read(&dir, STARTED);
        let progress = Progress {
            starting: started.is_some(),
            exited: records::read(&dir, EXITED),
            failure: records::read(&dir, records::FAILURE),
            started,
        };
        let plan: Option<oci::ContainerPlan> =
            records::read(&dir, crate::shim::protocol::CONTAINER_PLAN);
        if let Some(plan) = plan {
            self.images.hold_layers(&record.id, &plan.layers());
        }
        let container = Container {
            record: Arc::new(record),
            dir,
            progress: Arc::new(watch::channel(progress).0),
        };
        self.world()
            .containers
            .insert(container.record.id.clone(), container);
        Ok(())
    }

    /// The connection to a shim has ended: it is gone, or it hung up because we were too slow.
    pub(crate) async fn connection_lost(self: &Arc<Self>, sandbox: &str) {
        let found = match self
            .sandbox(sandbox)
            .ok()
            .filter(|sandbox| sandbox.live.is_some())
        {
            Some(sandbox) => find_shim(&sandbox.dir).await,
            None => None,
        };
        match found {
            Some(found) => {
                if let Some(sandbox) = self.world().sandboxes.get_mut(sandbox) {
                    sandbox.live = Some(found.live.clone());
                }
                self.resume(sandbox, found);
            }
            None => self.shim_ended(sandbox),
        }
    }

    /// Learns what happened in a sandbox meanwhile, and follows it from here on.
    fn resume(self: &Arc<Self>, sandbox: &str, found: Found) {
        for (id, exited) in found.containers {
            if let Ok(container) = self.container(&id) {
                // It was started, even if nobody was there to be told.
                container
                    .progress
                    .send_modify(|progress| progress.starting = true);
            }
            if let Some(exited) = exited {
                self.container_exited(&id, exited, None);
            }
        }
        self.follow(sandbox.to_owned(), found.happened);
    }
}

/// Connects to the shim of a sandbox, if there is one. One that hangs counts as gone: it must not keep
/// the node from starting.
async fn find_shim(dir: &Path) -> Option<Found> {
    let (shim, happened) = Shim::connect(dir).ok()?;
    let hello = tokio::time::timeout(HELLO_TIMEOUT, shim.call(Call::Hello, &[])).await;
    let Ok(Answer::Hello {
        pid, containers, ..
    }) = hello.ok()?.ok()?.result
    else {
        return None;
    };
    let network = Arc::new(network_of(pid)?);
    Some(Found {
        live: Live { shim, network },
        happened,
        containers,
    })
}

fn directories(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::internal(error)),
    };
    Ok(entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect())
}
