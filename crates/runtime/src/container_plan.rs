//! From what the CRI asks for to the plan of a container: the places on this node, and what is
//! refused.

use std::path::{Path, PathBuf};

use cri::v1::{self, MountPropagation, NamespaceMode};
use cri::{Code, Error};
use oci::plan::Request;
use oci::{ContainerPlan, Mount, PidNamespace, Propagation, Source};

use crate::records::ContainerRecord;
use crate::sandboxes::{is_host_network, namespace_options};
use crate::world::{Runtime, Sandbox};

impl Runtime {
    /// The plan of a container: the pure part, and the places on this node.
    pub(crate) fn plan(
        &self,
        sandbox: &Sandbox,
        record: &ContainerRecord,
        image: &images::Image,
    ) -> Result<ContainerPlan, Error> {
        let config = &record.config;
        let data = self.data_dir(&record.id);
        let linux = config.linux.clone().unwrap_or_default();
        let security = linux.security_context.clone().unwrap_or_default();
        let request = plan_request(sandbox, config, &security, &data, |image| {
            self.image_layers(image)
        })?;
        refuse_unsupported(config, &security)?;
        let plan = oci::plan::container(&request, &image.config);
        let plan = plan.map_err(|error| Error::invalid(error.to_string()))?;
        let mut layers = self.images.layers(&image.id).map_err(Error::internal)?;
        if layers.is_empty() {
            // An overlay needs something to lie on, an image need not have anything.
            let nothing = data.join("empty");
            std::fs::create_dir_all(&nothing).map_err(Error::internal)?;
            layers.push(nothing);
        }
        let log_dir = &sandbox.record.config.log_directory;
        let log_path =
            (!config.log_path.is_empty()).then(|| Path::new(log_dir).join(&config.log_path));
        Ok(ContainerPlan {
            id: record.id.clone(),
            no_new_privileges: security.no_new_privs,
            seccomp: seccomp(&security)?,
            root: oci::plan::Root {
                layers,
                upper: data.join("upper"),
                work: data.join("work"),
                at: data.join("rootfs"),
                read_only: security.readonly_rootfs,
            },
            devices: config.devices.iter().map(device).collect(),
            masked_paths: if security.privileged {
                Vec::new()
            } else {
                security.masked_paths.clone()
            },
            readonly_paths: match security.privileged {
                true => Vec::new(),
                false => security.readonly_paths.clone(),
            },
            pid: pid_namespace(&security),
            cgroup: record.cgroup.clone(),
            limits: limits(&linux.resources.unwrap_or_default()),
            stdin: config.stdin,
            stdin_once: config.stdin_once,
            log_path,
            ..plan
        })
    }

    fn image_layers(&self, image: &str) -> Result<Vec<PathBuf>, Error> {
        let found = self.images.status(image);
        let found = found.ok_or_else(|| Error::not_found(format!("image {image:?} not found")))?;
        self.images.layers(&found.id).map_err(Error::internal)
    }
}

fn plan_request(
    sandbox: &Sandbox,
    config: &v1::ContainerConfig,
    security: &v1::LinuxContainerSecurityContext,
    data: &Path,
    layers: impl Fn(&str) -> Result<Vec<PathBuf>, Error>,
) -> Result<Request, Error> {
    let pod = &sandbox.record.config;
    let capabilities = security.capabilities.clone().unwrap_or_default();
    let host_ipc = namespace_options(pod).ipc == NamespaceMode::Node as i32;
    let mut mounts = vec![
        file_mount(sandbox, "resolv.conf", security.readonly_rootfs),
        file_mount(sandbox, "hostname", security.readonly_rootfs),
    ];
    mounts.retain(|mount| matches!(&mount.source, Source::Host(path) if path.exists()));
    for mount in &config.mounts {
        mounts.push(pod_mount(mount, &layers)?);
    }
    let strict = v1::SupplementalGroupsPolicy::Strict as i32;
    Ok(Request {
        command: config.command.clone(),
        args: config.args.clone(),
        env: config
            .envs
            .iter()
            .map(|env| (env.key.clone(), env.value.clone()))
            .collect(),
        working_dir: config.working_dir.clone(),
        hostname: match is_host_network(pod) {
            true => rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            false => pod.hostname.clone(),
        },
        run_as_user: security.run_as_user.as_ref().map(|user| user.value),
        run_as_username: security.run_as_username.clone(),
        run_as_group: security.run_as_group.as_ref().map(|group| group.value),
        supplemental_groups: security.supplemental_groups.clone(),
        strict_groups: security.supplemental_groups_policy == strict,
        add_capabilities: capabilities.add_capabilities,
        drop_capabilities: capabilities.drop_capabilities,
        mounts,
        privileged: security.privileged,
        terminal: config.tty,
        shm: match host_ipc {
            true => "/dev/shm".into(),
            false => sandbox.dir.join("shm"),
        },
        volumes: data.join("volumes"),
    })
}

fn file_mount(sandbox: &Sandbox, name: &str, read_only: bool) -> Mount {
    Mount {
        destination: format!("/etc/{name}"),
        source: Source::Host(sandbox.dir.join(name)),
        read_only,
        recursive_read_only: false,
        propagation: Propagation::Private,
    }
}

/// The real path of the host. Links in it are the host's, and are followed; what is not there becomes a directory, as
/// containerd and CRI-O do.
fn host_path(path: &Path) -> Result<PathBuf, Error> {
    let failed = |what: &str, error: std::io::Error| {
        let message = format!("failed to {what} {:?}: {error}", path.display());
        Error::new(Code::Unknown, message)
    };
    match path.canonicalize() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(path).map_err(|error| failed("mkdir", error))?;
            path.canonicalize().map_err(|error| failed("stat", error))
        }
        done => done.map_err(|error| failed("stat", error)),
    }
}

fn pod_mount(
    mount: &v1::Mount,
    layers: impl Fn(&str) -> Result<Vec<PathBuf>, Error>,
) -> Result<Mount, Error> {
    let source = match &mount.image {
        Some(image) => Source::Image(layers(&image.image)?),
        None => {
            let path = Path::new(&mount.host_path);
            if !path.is_absolute() {
                return Err(Error::invalid(format!(
                    "mount path {:?} must be absolute",
                    path.display()
                )));
            }
            Source::Host(host_path(path)?)
        }
    };
    let propagation = match MountPropagation::try_from(mount.propagation) {
        Ok(MountPropagation::PropagationHostToContainer) => Propagation::HostToContainer,
        Ok(MountPropagation::PropagationBidirectional) => Propagation::Bidirectional,
        _ => Propagation::Private,
    };
    Ok(Mount {
        destination: mount.container_path.clone(),
        source,
        read_only: mount.readonly || mount.image.is_some(),
        recursive_read_only: mount.recursive_read_only,
        propagation,
    })
}

/// What is not supported is said, not left out: who asked for confinement must not run without it.
fn refuse_unsupported(
    config: &v1::ContainerConfig,
    security: &v1::LinuxContainerSecurityContext,
) -> Result<(), Error> {
    use v1::security_profile::ProfileType;
    let localhost = ProfileType::Localhost as i32;
    if security
        .apparmor
        .as_ref()
        .is_some_and(|profile| profile.profile_type == localhost)
    {
        return Err(Error::unimplemented(
            "AppArmor profiles of type Localhost are not supported",
        ));
    }
    let options = security.namespace_options.clone().unwrap_or_default();
    let user = options
        .userns_options
        .is_some_and(|user| user.mode == NamespaceMode::Pod as i32);
    if user {
        return Err(Error::unimplemented("user namespaces are not supported"));
    }
    if !config.cdi_devices.is_empty() {
        return Err(Error::unimplemented("CDI devices are not supported"));
    }
    Ok(())
}

/// Whether the default filter applies. A profile of the host's own is not supported, and never
/// silently left out.
fn seccomp(security: &v1::LinuxContainerSecurityContext) -> Result<bool, Error> {
    use v1::security_profile::ProfileType;
    let Some(profile) = &security.seccomp else {
        return Ok(false);
    };
    match ProfileType::try_from(profile.profile_type) {
        Ok(ProfileType::RuntimeDefault) => Ok(!security.privileged),
        Ok(ProfileType::Unconfined) => Ok(false),
        _ if profile.localhost_ref.is_empty() => Err(Error::invalid(
            "seccomp profile of type Localhost without a path",
        )),
        _ => Err(Error::unimplemented(
            "seccomp profiles of type Localhost are not supported",
        )),
    }
}

fn pid_namespace(security: &v1::LinuxContainerSecurityContext) -> PidNamespace {
    let options = security.namespace_options.clone().unwrap_or_default();
    match NamespaceMode::try_from(options.pid) {
        Ok(NamespaceMode::Pod) => PidNamespace::Pod,
        Ok(NamespaceMode::Node) => PidNamespace::Host,
        Ok(NamespaceMode::Target) => PidNamespace::Target(options.target_id),
        _ => PidNamespace::Container,
    }
}

fn device(device: &v1::Device) -> oci::limits::Device {
    oci::limits::Device {
        host_path: device.host_path.clone(),
        container_path: device.container_path.clone(),
        permissions: device.permissions.clone(),
    }
}

pub(crate) fn limits(resources: &v1::LinuxContainerResources) -> oci::limits::Limits {
    oci::limits::Limits {
        cpu_period_us: resources.cpu_period,
        cpu_quota_us: resources.cpu_quota,
        cpu_shares: resources.cpu_shares,
        memory_bytes: resources.memory_limit_in_bytes,
        memory_and_swap_bytes: resources.memory_swap_limit_in_bytes,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        hugepages: resources
            .hugepage_limits
            .iter()
            .map(|limit| (limit.page_size.clone(), limit.limit))
            .collect(),
        unified: resources.unified.clone().into_iter().collect(),
        oom_score_adj: resources.oom_score_adj,
    }
}

/// What an update leaves out stays as it was.
pub(crate) fn merge_limits(
    old: oci::limits::Limits,
    new: oci::limits::Limits,
) -> oci::limits::Limits {
    let number = |old: i64, new: i64| if new == 0 { old } else { new };
    let text = |old: String, new: String| if new.is_empty() { old } else { new };
    oci::limits::Limits {
        cpu_period_us: number(old.cpu_period_us, new.cpu_period_us),
        cpu_quota_us: number(old.cpu_quota_us, new.cpu_quota_us),
        cpu_shares: number(old.cpu_shares, new.cpu_shares),
        memory_bytes: number(old.memory_bytes, new.memory_bytes),
        memory_and_swap_bytes: number(old.memory_and_swap_bytes, new.memory_and_swap_bytes),
        cpuset_cpus: text(old.cpuset_cpus, new.cpuset_cpus),
        cpuset_mems: text(old.cpuset_mems, new.cpuset_mems),
        hugepages: if new.hugepages.is_empty() {
            old.hugepages
        } else {
            new.hugepages
        },
        unified: if new.unified.is_empty() {
            old.unified
        } else {
            new.unified
        },
        oom_score_adj: number(old.oom_score_adj, new.oom_score_adj),
    }
}

/// The number of an image's stop signal, given as `SIGQUIT`, `QUIT` or `3`; SIGTERM when there is
/// none or it makes no sense.
pub(crate) fn stop_signal(text: &str) -> i32 {
    use nix::sys::signal::Signal;
    let text = text.trim().to_ascii_uppercase();
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) {
            number
        } else {
            Signal::SIGTERM as i32
        };
    }
    let name = if text.starts_with("SIG") {
        text
    } else {
        format!("SIG{text}")
    };
    let real_time = name.strip_prefix("SIGRTMIN").map(|rest| {
        let offset: i32 = rest.trim_start_matches('+').parse().unwrap_or(0);
        34 + offset.clamp(0, 30)
    });
    real_time.unwrap_or_else(|| name.parse::<Signal>().unwrap_or(Signal::SIGTERM) as i32)
}

/// The root of an overlay has the mode of its upper directory: it must be that of the image.
pub(crate) fn set_upper_mode(plan: &ContainerPlan) -> Result<(), Error> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let Some(top) = plan.root.layers.first() else {
        return Ok(());
    };
    let metadata = std::fs::metadata(top).map_err(Error::internal)?;
    let mode = std::fs::Permissions::from_mode(metadata.mode() & 0o7777);
    std::fs::set_permissions(&plan.root.upper, mode).map_err(Error::internal)?;
    std::os::unix::fs::chown(&plan.root.upper, Some(metadata.uid()), Some(metadata.gid()))
        .map_err(Error::internal)
}
