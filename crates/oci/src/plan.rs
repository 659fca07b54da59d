//! The plan of one container: everything that the shim does to make it, as data. It is written to
//! the state directory, so that exec and a restarted runtime know what the container is.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ImageConfig;
use crate::capabilities::{self, UnknownCapability};
use crate::limits::{Device, Limits};
use crate::user::{self, NoUser, UserChoice};

/// One container, ready to be carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPlan {
    /// Its ID.
    pub id: String,
    /// Program and arguments; at least one.
    pub arguments: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Where it starts.
    pub working_dir: String,
    /// Whom it runs as.
    pub user: UserChoice,
    /// Its bounding set; root has all of it from the start, others nothing.
    pub capabilities: u64,
    /// Whether set-user-ID programs are without effect.
    pub no_new_privileges: bool,
    /// Whether the default system-call filter applies.
    pub seccomp: bool,
    /// Whether the host's devices are there and nothing is hidden.
    pub privileged: bool,
    /// The root file system.
    pub root: Root,
    /// What is mounted on it, in order.
    pub mounts: Vec<Mount>,
    /// Further devices.
    pub devices: Vec<Device>,
    /// Paths that show nothing.
    pub masked_paths: Vec<String>,
    /// Paths that cannot be written.
    pub readonly_paths: Vec<String>,
    /// Where its processes are numbered.
    pub pid: PidNamespace,
    /// Its cgroup, below the mounts.
    pub cgroup: String,
    /// Its limits.
    pub limits: Limits,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Whether its standard input stays open for who attaches.
    pub stdin: bool,
    /// Whether the first who attaches and leaves ends the standard input.
    pub stdin_once: bool,
    /// Where its output is logged.
    pub log_path: Option<PathBuf>,
}

impl ContainerPlan {
    /// All directories of image layers that the container uses: its own and those of image volumes.
    pub fn layers(&self) -> Vec<PathBuf> {
        let volumes = self.mounts.iter().filter_map(|mount| match &mount.source {
            Source::Image(layers) => Some(layers),
            _ => None,
        });
        volumes
            .chain([&self.root.layers])
            .flatten()
            .cloned()
            .collect()
    }
}

/// The root file system: an overlay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Read-only layers, the uppermost first.
    pub layers: Vec<PathBuf>,
    /// Where changes go.
    pub upper: PathBuf,
    /// The overlay's scratch directory.
    pub work: PathBuf,
    /// An empty directory on which it is mounted, in the container's own mount namespace.
    pub at: PathBuf,
    /// Whether the container cannot write to it.
    pub read_only: bool,
}

/// Something mounted in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where in the container.
    pub destination: String,
    /// What.
    pub source: Source,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// Whether that holds for everything mounted below it, too.
    pub recursive_read_only: bool,
    /// How mounts made later show up.
    pub propagation: Propagation,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// The process file system of the container's PID namespace.
    Proc,
    /// The device tree of its network namespace.
    Sys,
    /// A fresh `/dev` with the harmless devices.
    Dev,
    /// Terminals of its own.
    DevPts,
    /// Message queues of its IPC namespace.
    Mqueue,
    /// Its control groups, read-only.
    Cgroup,
    /// A file or directory of the host, with everything mounted below it.
    Host(PathBuf),
    /// A directory of the runtime for a volume that the image declares; it starts with the image's
    /// content at that place.
    ImageVolume(PathBuf),
    /// Layers of another image, the uppermost first.
    Image(Vec<PathBuf>),
}

/// How mounts propagate between host and container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// From the host.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// Where a container's processes are numbered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidNamespace {
    /// In a namespace of its own.
    #[default]
    Container,
    /// With all containers of the pod.
    Pod,
    /// With the host.
    Host,
    /// With another container of the pod.
    Target(String),
}

/// What a pod says about one container, in the words of the CRI.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Overrides the image's entrypoint.
    pub command: Vec<String>,
    /// Overrides the image's arguments.
    pub args: Vec<String>,
    /// Added to the image's environment.
    pub env: Vec<(String, String)>,
    /// Overrides the image's working directory.
    pub working_dir: String,
    /// The pod's host name.
    pub hostname: String,
    /// A user by number.
    pub run_as_user: Option<i64>,
    /// A user by name.
    pub run_as_username: String,
    /// A group by number.
    pub run_as_group: Option<i64>,
    /// Groups added by the pod.
    pub supplemental_groups: Vec<i64>,
    /// Whether the image's groups count.
    pub strict_groups: bool,
    /// Capabilities added.
    pub add_capabilities: Vec<String>,
    /// Capabilities dropped.
    pub drop_capabilities: Vec<String>,
    /// Mounts of the pod.
    pub mounts: Vec<Mount>,
    /// Whether `/sys` and `/proc/sys` are the host's and writable.
    pub privileged: bool,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// A tmpfs shared by the pod, for `/dev/shm`.
    pub shm: PathBuf,
    /// Where directories for image volumes may be made.
    pub volumes: PathBuf,
}

/// Why a container cannot be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidContainer {
    /// Neither pod nor image names a program.
    #[error("no command specified")]
    NoCommand,
    /// The user makes no sense.
    #[error(transparent)]
    User(#[from] NoUser),
    /// A capability does not exist.
    #[error(transparent)]
    Capability(#[from] UnknownCapability),
    /// A variable cannot be passed on.
    #[error("invalid environment variable {0:?}")]
    Environment(String),
    /// A path must be absolute and plain.
    #[error("invalid path {0:?}")]
    Path(String),
}

/// The parts of the plan that follow from image and pod. What the runtime decides (ID, paths,
/// cgroup, limits, log) is filled in by the caller.
pub fn container(
    request: &Request,
    image: &ImageConfig,
) -> Result<ContainerPlan, InvalidContainer> {
    let run = &image.config;
    let supplemental_groups = request
        .supplemental_groups
        .iter()
        .map(|gid| u32::try_from(*gid).map_err(|_| NoUser::Range(gid.to_string())))
        .collect::<Result<_, _>>()?;
    let user = user::choose(
        request.run_as_user,
        &request.run_as_username,
        request.run_as_group,
        &run.user,
    )?;
    let working_dir = [&request.working_dir, &run.working_dir]
        .into_iter()
        .find(|dir| !dir.is_empty())
        .map_or("/", String::as_str);
    let working_dir = match working_dir.starts_with('/') {
        true => working_dir.to_owned(),
        false => format!("/{working_dir}"),
    };
    check_path(&working_dir)?;
    Ok(ContainerPlan {
        arguments: arguments(request, image)?,
        environment: environment(request, image)?,
        working_dir,
        user: UserChoice {
            user,
            supplemental_groups,
            strict: request.strict_groups,
        },
        capabilities: capabilities::set(
            request.privileged,
            &request.add_capabilities,
            &request.drop_capabilities,
        )?,
        privileged: request.privileged,
        mounts: mounts(request, image)?,
        terminal: request.terminal,
        ..ContainerPlan::default()
    })
}

/// A pod's command replaces entrypoint and arguments of the image, its arguments only the
/// arguments.
fn arguments(request: &Request, image: &ImageConfig) -> Result<Vec<String>, InvalidContainer> {
    let run = &image.config;
    let (program, rest) = match (request.command.is_empty(), request.args.is_empty()) {
        (false, _) => (&request.command, &request.args),
        (true, false) => (&run.entrypoint, &request.args),
        (true, true) => (&run.entrypoint, &run.cmd),
    };
    let all: Vec<String> = program.iter().chain(rest).cloned().collect();
    if all.is_empty() || all[0].is_empty() {
        return Err(InvalidContainer::NoCommand);
    }
    match all.iter().find(|argument| argument.contains('\0')) {
        Some(argument) => Err(InvalidContainer::Path(argument.clone())),
        None => Ok(all),
    }
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Later ones win; each name stands once, at its first place.
fn environment(request: &Request, image: &ImageConfig) -> Result<Vec<String>, InvalidContainer> {
    let mut all: Vec<(String, String)> = vec![("PATH".into(), DEFAULT_PATH.into())];
    if !request.hostname.is_empty() {
        all.push(("HOSTNAME".into(), request.hostname.clone()));
    }
    if request.terminal {
        all.push(("TERM".into(), "xterm".into()));
    }
    let image_env = image.config.env.iter().filter_map(|variable| {
        let (name, value) = variable.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    // A variable of a large pod (hundreds of services) must not make this quadratic.
    let mut place: std::collections::HashMap<String, usize> = all
        .iter()
        .enumerate()
        .map(|(at, (name, _))| (name.clone(), at))
        .collect();
    for (name, value) in image_env.chain(request.env.iter().cloned()) {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(InvalidContainer::Environment(name));
        }
        match place.get(&name) {
            Some(at) => all[*at].1 = value,
            None => {
                place.insert(name.clone(), all.len());
                all.push((name, value));
            }
        }
    }
    Ok(all
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect())
}

fn mount(destination: &str, source: Source, read_only: bool) -> Mount {
    Mount {
        destination: destination.into(),
        source,
        read_only,
        recursive_read_only: false,
        propagation: Propagation::Private,
    }
}

/// The usual mounts, the image's volumes and the pod's own, which win over both. Parents come
/// before what is below them.
fn mounts(request: &Request, image: &ImageConfig) -> Result<Vec<Mount>, InvalidContainer> {
    let guarded = !request.privileged;
    let mut all = vec![
        mount("/proc", Source::Proc, false),
        mount("/dev", Source::Dev, false),
        mount("/dev/pts", Source::DevPts, false),
        mount("/dev/mqueue", Source::Mqueue, false),
        mount("/dev/shm", Source::Host(request.shm.clone()), false),
        mount("/sys", Source::Sys, guarded),
        mount("/sys/fs/cgroup", Source::Cgroup, guarded),
    ];
    for (index, path) in image.config.volumes.keys().enumerate() {
        let path = format!("/{}", path.trim_matches('/'));
        check_path(&path)?;
        if all.iter().any(|usual| usual.destination == path) {
            continue;
        }
        let on_host = request.volumes.join(index.to_string());
        all.push(mount(&path, Source::ImageVolume(on_host), false));
    }
    for pods in &request.mounts {
        let destination = format!("/{}", pods.destination.trim_matches('/'));
        check_path(&destination)?;
        all.retain(|other| other.destination != destination);
        all.push(Mount {
            destination,
            ..pods.clone()
        });
    }
    all.sort_by_key(|mount| {
        mount
            .destination
            .split('/')
            .filter(|part| !part.is_empty())
            .count()
    });
    Ok(all)
}

fn check_path(path: &str) -> Result<(), InvalidContainer> {
    let bad = path.contains('\0') || path.split('/').any(|part| part == "..");
    if bad {
        Err(InvalidContainer::Path(path.to_owned()))
    } else {
        Ok(())
    }
}
