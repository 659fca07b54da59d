//! What the runtime knows: its configuration, the sandboxes, the containers; and how it learns them
//! again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

use cri::{Code, Error};
use linux::cgroup::Hierarchies;
use linux::namespace::{Kind, Namespace};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{mpsc, watch};

use crate::client::Shim;
use crate::events::Events;
use crate::network::PodNetwork;
use crate::records::{self, ContainerRecord, Failure, SandboxRecord};
use crate::shim::protocol::{EXITED, Event, Exited, Started};

/// How the runtime is set up.
#[derive(Clone)]
pub struct Config {
    /// Where images and the file systems of containers lie. On a disk.
    pub root: PathBuf,
    /// Where sandboxes and containers are noted. On a disk too: after power-off the kubelet asks
    /// what there was.
    pub state_dir: PathBuf,
    /// The cgroup, below the mounts, that everything of this node lies in; empty for the root. A
    /// sandbox's cgroup parent that does not begin with it is taken to lie below it.
    pub cgroup_parent: String,
    /// Who connects pods.
    pub network: Arc<dyn PodNetwork>,
    /// The program and its first arguments that run [`crate::shim::main`]; the sandbox's directory
    /// is added.
    pub shim: Vec<std::ffi::OsString>,
    /// How to reach registries.
    pub pull: images::PullOptions,
}

/// The embedded runtime.
pub struct Runtime {
    pub(crate) config: Config,
    pub(crate) images: Arc<images::Store>,
    pub(crate) hierarchies: Hierarchies,
    pub(crate) events: Events,
    streaming: OnceLock<streaming::Server>,
    me: Weak<Runtime>,
    world: Mutex<World>,
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) sandboxes: BTreeMap<String, Sandbox>,
    pub(crate) containers: BTreeMap<String, Container>,
}

/// A sandbox.
#[derive(Clone)]
pub(crate) struct Sandbox {
    pub(crate) record: Arc<SandboxRecord>,
    pub(crate) dir: PathBuf,
    /// Its shim while it runs.
    pub(crate) live: Option<Live>,
    pub(crate) addresses: Vec<IpAddr>,
}

/// What a running sandbox has.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) shim: Arc<Shim>,
    pub(crate) network: Arc<Namespace>,
}

/// A container.
#[derive(Clone)]
pub(crate) struct Container {
    pub(crate) record: Arc<ContainerRecord>,
    pub(crate) dir: PathBuf,
    pub(crate) progress: Arc<watch::Sender<Progress>>,
}

/// How far a container is. The parts arrive in any order and never change once they are there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Somebody has asked to start it.
    pub(crate) starting: bool,
    pub(crate) started: Option<Started>,
    pub(crate) exited: Option<Exited>,
    pub(crate) failure: Option<Failure>,
}

impl Runtime {
    /// Opens the runtime and finds again what ran before: shims that live are taken over with their
    /// containers, of the others it is noted that they are gone. Needs a tokio runtime.
    pub async fn open(config: Config) -> Result<Arc<Runtime>, Error> {
        for dir in [&config.state_dir, &config.root] {
            make_private(dir)?;
        }
        make_private(&config.state_dir.join("sandboxes"))?;
        make_private(&config.root.join("containers"))?;
        let images = images::Store::open(config.root.join("images")).map_err(Error::internal)?;
        let hierarchies = linux::cgroup::detect().map_err(Error::internal)?;
        let runtime = Arc::new_cyclic(|me: &Weak<Runtime>| Runtime {
            images: Arc::new(images),
            hierarchies,
            events: Events::new(),
            streaming: OnceLock::new(),
            me: me.clone(),
            world: Mutex::new(World::default()),
            config,
        });
        runtime.recover().await?;
        let handlers = Arc::new(crate::exec::Handlers(runtime.me.clone()));
        let address = (std::net::Ipv4Addr::LOCALHOST, 0).into();
        let streaming = streaming::Server::bind(address, handlers)
            .await
            .map_err(Error::internal)?;
        let _ = runtime.streaming.set(streaming);
        let images = Arc::clone(&runtime.images);
        tokio::task::spawn_blocking(move || images.collect())
            .await
            .map_err(Error::internal)?
            .map_err(Error::internal)?;
        Ok(runtime)
    }

    /// The images of this node, for loading archives.
    pub fn images(&self) -> &Arc<images::Store> {
        &self.images
    }

    /// The server of exec, attach and port-forward.
    pub(crate) fn streaming(&self) -> Result<&streaming::Server, Error> {
        self.streaming
            .get()
            .ok_or_else(|| Error::new(Code::Unavailable, "the runtime is starting"))
    }

    /// Another handle on this runtime, for what outlives a call.
    pub(crate) fn shared(&self) -> Result<Arc<Runtime>, Error> {
        self.me
            .upgrade()
            .ok_or_else(|| Error::new(Code::Unavailable, "the runtime is shutting down"))
    }

    /// Does what waits for the disk where that holds up nobody.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Runtime) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let runtime = self.shared()?;
        let done = tokio::task::spawn_blocking(move || work(&runtime)).await;
        done.map_err(Error::internal)?
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock()
    }

    /// A sandbox by its ID or the unambiguous beginning of one.
    pub(crate) fn sandbox(&self, id: &str) -> Result<Sandbox, Error> {
        let world = self.world();
        find(&world.sandboxes, id)
            .cloned()
            .ok_or_else(|| Error::not_found(format!("pod sandbox {id:?} not found")))
    }

    /// A container by its ID or the unambiguous beginning of one.
    pub(crate) fn container(&self, id: &str) -> Result<Container, Error> {
        let world = self.world();
        find(&world.containers, id)
            .cloned()
            .ok_or_else(|| Error::not_found(format!("container {id:?} not found")))
    }

    /// The shim of a sandbox that runs.
    pub(crate) fn live(&self, sandbox: &str) -> Result<Live, Error> {
        let not_running =
            || Error::failed_precondition(format!("sandbox {sandbox:?} is not ready"));
        self.sandbox(sandbox)?.live.ok_or_else(not_running)
    }

    /// The containers of a sandbox, oldest first.
    pub(crate) fn containers_of(&self, sandbox: &str) -> Vec<Container> {
        let world = self.world();
        let mut all: Vec<_> = world
            .containers
            .values()
            .filter(|one| one.record.sandbox == sandbox)
            .cloned()
            .collect();
        all.sort_by_key(|one| one.record.created_at);
        all
    }

    /// Where the data of a container lies.
    pub(crate) fn data_dir(&self, container: &str) -> PathBuf {
        self.config.root.join("containers").join(container)
    }

    /// Where a sandbox is noted.
    pub(crate) fn sandbox_dir(&self, sandbox: &str) -> PathBuf {
        self.config.state_dir.join("sandboxes").join(sandbox)
    }

    /// Follows what happens in a sandbox until its shim ends.
    pub(crate) fn follow(
        self: &Arc<Self>,
        sandbox: String,
        mut happened: mpsc::UnboundedReceiver<Event>,
    ) {
        let runtime = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(event) = happened.recv().await {
                let Some(runtime) = runtime.upgrade() else {
                    return;
                };
                if let Event::Exited { container, exited } = event {
                    runtime.container_exited(&container, exited, None);
                }
            }
            if let Some(runtime) = runtime.upgrade() {
                runtime.connection_lost(&sandbox).await;
            }
        });
    }

    /// A container has exited: tells everybody, once.
    pub(crate) fn container_exited(&self, id: &str, exited: Exited, failure: Option<Failure>) {
        let Ok(container) = self.container(id) else {
            return;
        };
        let news = container.progress.send_if_modified(|progress| {
            if progress.exited.is_some() {
                return false;
            }
            progress.exited = Some(exited);
            progress.failure = progress.failure.take().or(failure);
            true
        });
        if news {
            self.tell(
                cri::v1::ContainerEventType::ContainerStoppedEvent,
                &container.record.sandbox,
                id,
            );
        }
    }

    /// A shim is gone: the sandbox is no longer ready, and with it went its containers.
    pub(crate) fn shim_ended(&self, sandbox: &str) {
        let was_live = match self.world().sandboxes.get_mut(sandbox) {
            Some(sandbox) => sandbox.live.take().is_some(),
            None => false,
        };
        for container in self.containers_of(sandbox) {
            self.lost(&container);
        }
        if was_live {
            self.tell(
                cri::v1::ContainerEventType::ContainerStoppedEvent,
                sandbox,
                sandbox,
            );
        }
    }

    /// Notes the end of a container that nobody saw, unless it never began.
    fn lost(&self, container: &Container) {
        let progress = container.progress.borrow().clone();
        if progress.exited.is_some() || !(progress.starting || progress.started.is_some()) {
            return;
        }
        let group = self.hierarchies.group(&container.record.cgroup);
        if group.kill(std::time::Duration::from_secs(10)).is_ok() {
            let _ = group.remove();
        }
        // The shim may have noted it before it went.
        let exited = records::read(&container.dir, EXITED);
        let (exited, failure) = match exited {
            Some(exited) => (exited, None),
            None => {
                let unknown = Exited {
                    code: 255,
                    at: crate::events::now(),
                    out_of_memory: false,
                };
                let failure = Failure {
                    reason: "Unknown".into(),
                    message: String::new(),
                };
                let _ = records::write(&container.dir, EXITED, &unknown);
                let _ = records::write(&container.dir, records::FAILURE, &failure);
                (unknown, Some(failure))
            }
        };
        self.container_exited(&container.record.id, exited, failure);
    }
}

/// The network namespace of a shim.
pub(crate) fn network_of(pid: i32) -> Option<Namespace> {
    let pid = rustix::process::Pid::from_raw(pid)?;
    Namespace::of(pid, Kind::Network).ok()
}

fn find<'a, T>(all: &'a BTreeMap<String, T>, id: &str) -> Option<&'a T> {
    if let Some(exact) = all.get(id) {
        return Some(exact);
    }
    if id.is_empty() {
        return None;
    }
    let mut matching = all
        .range(id.to_owned()..)
        .take_while(|(other, _)| other.starts_with(id));
    let (_, found) = matching.next()?;
    matching.next().is_none().then_some(found)
}

/// Removes a directory of ours; success when there is none.
pub(crate) fn remove_dir(path: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::new(
            Code::Internal,
            format!("remove {}: {error}", path.display()),
        )),
        _ => Ok(()),
    }
}

/// Makes a directory that only root may enter.
pub(crate) fn make_private(path: &Path) -> Result<(), Error> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)));
    made.map_err(|error| Error::new(Code::Internal, format!("make {}: {error}", path.display())))
}
