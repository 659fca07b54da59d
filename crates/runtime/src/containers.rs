//! Containers: planned, started, stopped, removed, described.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cri::v1::{self, ContainerEventType, ContainerState, MountPropagation, NamespaceMode};
use cri::{Code, Error};
use oci::plan::Request;
use oci::{ContainerPlan, Mount, PidNamespace, Propagation, Source};
use tokio::sync::watch;

use crate::client::CallError;
use crate::events::now;
use crate::records::{self, ContainerRecord, Failure, RECORD};
use crate::sandboxes::{has_labels, is_host_network, join, namespace_options, new_id};
use crate::shim::protocol::{Answer, CONTAINER_PLAN, Call, EXITED, Exited};
use crate::world::{self, Container, Progress, Runtime, Sandbox};

/// How long a killed container may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(60);

impl Runtime {
    pub(crate) fn create(&self, request: v1::CreateContainerRequest) -> Result<String, Error> {
        let config = request
            .config
            .ok_or_else(|| Error::invalid("container config is required"))?;
        if config.metadata.is_none() {
            return Err(Error::invalid("container config must include metadata"));
        }
        let sandbox = self.sandbox(&request.pod_sandbox_id)?;
        self.live(&sandbox.record.id)?;
        let wanted = config.image.clone().unwrap_or_default().image;
        let image = self.images.status(&wanted);
        let image = image.ok_or_else(|| Error::not_found(format!("image {wanted:?} not found")))?;
        let id = new_id();
        let record = ContainerRecord {
            sandbox: sandbox.record.id.clone(),
            created_at: now(),
            image_id: image.id.clone(),
            image_ref: crate::image_service::reference(&image),
            stop_signal: stop_signal(&image.config.config.stop_signal),
            cgroup: join(&sandbox.record.cgroup_parent, &id),
            id,
            config,
        };
        self.images
            .hold(&record.id, &image.id)
            .map_err(Error::internal)?;
        match self.write_container(&sandbox, record, &image) {
            Ok(id) => Ok(id),
            Err((id, error)) => {
                self.images.release(&id).map_err(Error::internal)?;
                world::remove_dir(&self.data_dir(&id))?;
                world::remove_dir(&sandbox.dir.join("containers").join(&id))?;
                Err(error)
            }
        }
    }

    fn write_container(
        &self,
        sandbox: &Sandbox,
        record: ContainerRecord,
        image: &images::Image,
    ) -> Result<String, (String, Error)> {
        let id = record.id.clone();
        let write = || -> Result<Container, Error> {
            let plan = self.plan(sandbox, &record, image)?;
            for dir in [&plan.root.upper, &plan.root.work, &plan.root.at] {
                std::fs::create_dir_all(dir).map_err(Error::internal)?;
            }
            set_upper_mode(&plan)?;
            let dir = sandbox.dir.join("containers").join(&record.id);
            world::make_private(&dir)?;
            records::write(&dir, CONTAINER_PLAN, &plan)?;
            records::write(&dir, RECORD, &record)?;
            Ok(Container {
                dir,
                record: Arc::new(record),
                progress: Arc::new(watch::channel(Progress::default()).0),
            })
        };
        let container = write().map_err(|error| (id.clone(), error))?;
        self.world().containers.insert(id.clone(), container);
        self.tell(
            ContainerEventType::ContainerCreatedEvent,
            &sandbox.record.id,
            &id,
        );
        Ok(id)
    }

    /// The plan of a container: the pure part, and the places on this node.
    fn plan(
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

    pub(crate) async fn start(&self, id: &str) -> Result<(), Error> {
        let container = self.container(id)?;
        let id = &container.record.id;
        let first = container
            .progress
            .send_if_modified(|progress| !std::mem::replace(&mut progress.starting, true));
        if !first {
            return Err(Error::failed_precondition(format!(
                "container {id:?} was started before"
            )));
        }
        let live = self.live(&container.record.sandbox);
        let live = live.inspect_err(|error| self.never_started(&container, &error.message))?;
        let call = Call::Start {
            container: id.clone(),
            dir: container.dir.clone(),
        };
        let reply = live.shim.call(call, &[]).await.map(|reply| reply.result);
        match reply {
            Ok(Ok(Answer::Started(started))) => {
                container
                    .progress
                    .send_modify(|progress| progress.started = Some(started));
                let sandbox = &container.record.sandbox;
                self.tell(ContainerEventType::ContainerStartedEvent, sandbox, id);
                Ok(())
            }
            Err(CallError::Failed(message)) => {
                self.never_started(&container, &message);
                Err(Error::new(
                    Code::Unknown,
                    format!("failed to start container {id:?}: {message}"),
                ))
            }
            Err(error) => {
                self.never_started(&container, &error.to_string());
                Err(error.into())
            }
            Ok(_) => Err(Error::new(Code::Internal, "the shim gave a strange answer")),
        }
    }

    /// Notes that a container could not be started, as its end.
    fn never_started(&self, container: &Container, message: &str) {
        let failure = Failure {
            reason: "StartError".into(),
            message: message.to_owned(),
        };
        let exited = Exited {
            code: 128,
            at: now(),
            out_of_memory: false,
        };
        let _ = records::write(&container.dir, records::FAILURE, &failure);
        let _ = records::write(&container.dir, EXITED, &exited);
        container.progress.send_modify(|progress| {
            // The shim may have reported the failed child already; how it is to be understood is known only here.
            progress.exited = None;
            progress.failure = Some(failure);
        });
        self.container_exited(&container.record.id, exited, None);
    }

    /// Asks a container to stop, waits for `grace`, and kills it. Returns when it is gone.
    pub(crate) async fn stop_container(
        &self,
        container: &Container,
        grace: Duration,
    ) -> Result<(), Error> {
        let id = &container.record.id;
        let progress = container.progress.borrow().clone();
        if progress.exited.is_some() || !progress.starting {
            return Ok(());
        }
        let live = match self.live(&container.record.sandbox) {
            Ok(live) => live,
            // Without its shim it is gone, or about to be noted as gone.
            Err(_) => return self.wait_exit(container, KILL_TIMEOUT).await,
        };
        if !grace.is_zero() {
            let signal = container.record.stop_signal;
            let call = Call::Signal {
                container: id.clone(),
                signal,
            };
            match live.shim.call(call, &[]).await {
                Ok(_) | Err(CallError::NotRunning | CallError::Gone | CallError::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
            if self.wait_exit(container, grace).await.is_ok() {
                return Ok(());
            }
        }
        match live
            .shim
            .call(
                Call::Kill {
                    container: id.clone(),
                },
                &[],
            )
            .await
        {
            Ok(_) | Err(CallError::NotRunning | CallError::Gone | CallError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        self.wait_exit(container, KILL_TIMEOUT).await
    }

    async fn wait_exit(&self, container: &Container, timeout: Duration) -> Result<(), Error> {
        let mut progress = container.progress.subscribe();
        let exited = progress.wait_for(|progress| progress.exited.is_some());
        match tokio::time::timeout(timeout, exited).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let message = format!("container {:?} did not stop in time", container.record.id);
                Err(Error::new(Code::DeadlineExceeded, message))
            }
        }
    }

    pub(crate) async fn remove_container(&self, container: &Container) -> Result<(), Error> {
        let id = &container.record.id;
        self.stop_container(container, Duration::ZERO).await?;
        if let Ok(live) = self.live(&container.record.sandbox) {
            let _ = live
                .shim
                .call(
                    Call::Forget {
                        container: id.clone(),
                    },
                    &[],
                )
                .await;
        }
        let (data, dir) = (self.data_dir(id), container.dir.clone());
        let images = Arc::clone(&self.images);
        let holder = id.clone();
        let removed = tokio::task::spawn_blocking(move || {
            // The record goes last: what is half-removed is found and removed again.
            world::remove_dir(&data)?;
            world::remove_dir(&dir)?;
            images.release(&holder).map_err(Error::internal)
        });
        removed.await.map_err(Error::internal)??;
        let known = self.world().containers.remove(id).is_some();
        if known {
            self.tell(
                ContainerEventType::ContainerDeletedEvent,
                &container.record.sandbox,
                id,
            );
        }
        Ok(())
    }

    pub(crate) fn list(&self, filter: &v1::ContainerFilter) -> Vec<v1::Container> {
        let state = filter.state.as_ref().map(|state| state.state);
        let world = self.world();
        let all = world.containers.values().filter(|one| {
            one.record.id.starts_with(&filter.id)
                && one.record.sandbox.starts_with(&filter.pod_sandbox_id)
                && state.is_none_or(|state| state == one.state() as i32)
                && has_labels(&one.record.config.labels, &filter.label_selector)
        });
        all.map(Container::listed).collect()
    }

    pub(crate) fn update(
        &self,
        id: &str,
        resources: Option<v1::LinuxContainerResources>,
    ) -> Result<(), Error> {
        let container = self.container(id)?;
        let Some(resources) = resources else {
            return Ok(());
        };
        let limits = limits(&resources);
        let plan: Option<ContainerPlan> = records::read(&container.dir, CONTAINER_PLAN);
        if let Some(plan) = plan {
            let merged = merge_limits(plan.limits.clone(), limits.clone());
            records::write(
                &container.dir,
                CONTAINER_PLAN,
                &ContainerPlan {
                    limits: merged,
                    ..plan
                },
            )?;
        }
        if container.state() != ContainerState::ContainerRunning {
            return Ok(());
        }
        let group = self.hierarchies.group(&container.record.cgroup);
        let mut writes = match group.is_v2() {
            true => oci::limits::v2(&limits),
            false => oci::limits::v1(&limits),
        };
        // Growing both limits of version 1, the one that includes swap must grow first.
        if crate::shim::apply_limits(&group, &writes).is_err() {
            writes.reverse();
            crate::shim::apply_limits(&group, &writes).map_err(Error::internal)?;
        }
        Ok(())
    }
}

impl Container {
    pub(crate) fn state(&self) -> ContainerState {
        let progress = self.progress.borrow();
        match (&progress.exited, &progress.started) {
            (Some(_), _) => ContainerState::ContainerExited,
            (None, Some(_)) => ContainerState::ContainerRunning,
            (None, None) => ContainerState::ContainerCreated,
        }
    }

    fn listed(&self) -> v1::Container {
        let config = &self.record.config;
        v1::Container {
            id: self.record.id.clone(),
            pod_sandbox_id: self.record.sandbox.clone(),
            metadata: config.metadata.clone(),
            image: config.image.clone(),
            image_ref: self.record.image_ref.clone(),
            image_id: self.record.image_id.clone(),
            state: self.state().into(),
            created_at: self.record.created_at,
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        }
    }

    pub(crate) fn status(&self) -> v1::ContainerStatus {
        let config = &self.record.config;
        let progress = self.progress.borrow().clone();
        let (reason, message) = reason(&progress);
        let user = progress.started.as_ref().map(|started| v1::ContainerUser {
            linux: Some(v1::LinuxContainerUser {
                uid: started.user.uid.into(),
                gid: started.user.gid.into(),
                supplemental_groups: started
                    .user
                    .groups
                    .iter()
                    .map(|gid| (*gid).into())
                    .collect(),
            }),
        });
        let linux = config
            .linux
            .as_ref()
            .and_then(|linux| linux.resources.clone());
        let log_dir_known = config.log_path.clone();
        v1::ContainerStatus {
            id: self.record.id.clone(),
            metadata: config.metadata.clone(),
            state: self.state().into(),
            created_at: self.record.created_at,
            started_at: progress.started.as_ref().map_or(0, |started| started.at),
            finished_at: progress.exited.as_ref().map_or(0, |exited| exited.at),
            exit_code: progress.exited.as_ref().map_or(0, |exited| exited.code),
            image: config.image.clone(),
            image_ref: self.record.image_ref.clone(),
            image_id: self.record.image_id.clone(),
            reason,
            message,
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: config.mounts.clone(),
            log_path: log_dir_known,
            resources: Some(v1::ContainerResources {
                linux,
                windows: None,
            }),
            user,
        }
    }
}

/// The word for how a container ended, and what is to be said about it.
fn reason(progress: &Progress) -> (String, String) {
    let Some(exited) = &progress.exited else {
        return Default::default();
    };
    if let Some(failure) = &progress.failure {
        return (failure.reason.clone(), failure.message.clone());
    }
    let reason = match exited {
        Exited {
            out_of_memory: true,
            ..
        } => "OOMKilled",
        Exited { code: 0, .. } => "Completed",
        _ => "Error",
    };
    (reason.to_owned(), String::new())
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
            // Links in the host's path are the host's, and are followed; it must exist.
            let real = path.canonicalize().map_err(|error| {
                let message = format!("failed to stat {:?}: {error}", mount.host_path);
                Error::new(Code::Unknown, message)
            })?;
            Source::Host(real)
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

/// Whether the default filter applies. A profile of the host's own is not supported, and never silently left out.
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

fn limits(resources: &v1::LinuxContainerResources) -> oci::limits::Limits {
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
fn merge_limits(old: oci::limits::Limits, new: oci::limits::Limits) -> oci::limits::Limits {
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

/// The number of an image's stop signal, given as `SIGQUIT`, `QUIT` or `3`; SIGTERM when there is none or it makes no sense.
fn stop_signal(text: &str) -> i32 {
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
fn set_upper_mode(plan: &ContainerPlan) -> Result<(), Error> {
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
