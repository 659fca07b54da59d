//! Pod sandboxes: made, stopped, removed, described.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use cri::v1::{self, ContainerEventType, NamespaceMode, PodSandboxState};
use cri::{Code, Error};
use tokio::process::Command;

use crate::client::Shim;
use crate::events::now;
use crate::network::{PodSandboxNetwork, PortMapping};
use crate::records::{self, RECORD, SandboxRecord};
use crate::shim::protocol::{Answer, Call, SANDBOX_PLAN, SandboxPlan};
use crate::world::{self, Live, Runtime, Sandbox};

/// The size of `/dev/shm` of a pod.
const SHM_BYTES: u64 = 64 * 1024 * 1024;

impl Runtime {
    pub(crate) async fn run_sandbox(
        self: &Arc<Self>,
        request: v1::RunPodSandboxRequest,
    ) -> Result<String, Error> {
        if !request.runtime_handler.is_empty() {
            let handler = &request.runtime_handler;
            let message = format!("no runtime for {handler:?} is configured");
            return Err(Error::invalid(message));
        }
        let config = request
            .config
            .ok_or_else(|| Error::invalid("sandbox config is required"))?;
        if config.metadata.is_none() {
            return Err(Error::invalid("sandbox config must include metadata"));
        }
        let id = new_id();
        let dir = self.sandbox_dir(&id);
        let cgroup_parent = self.cgroup_parent(&config);
        let record = SandboxRecord {
            id: id.clone(),
            cgroup_parent,
            config,
            runtime_handler: request.runtime_handler,
            created_at: now(),
        };
        let plan = self.plan_sandbox(&record, &dir)?;
        let sandbox = Sandbox {
            record: Arc::new(record),
            dir,
            live: None,
            addresses: Vec::new(),
        };
        match self.make_sandbox(&sandbox, &plan).await {
            Ok(()) => Ok(id),
            Err(error) => {
                // Half a sandbox helps nobody; what went wrong first is what counts.
                if let Err(worse) = self.tear_down(&sandbox, plan.own_network).await {
                    tracing::warn!(sandbox = %id, error = %worse, "cannot undo a failed sandbox");
                }
                self.world().sandboxes.remove(&id);
                world::remove_dir(&sandbox.dir)?;
                Err(error)
            }
        }
    }

    async fn make_sandbox(
        self: &Arc<Self>,
        sandbox: &Sandbox,
        plan: &SandboxPlan,
    ) -> Result<(), Error> {
        let dir = &sandbox.dir;
        world::make_private(dir)?;
        records::write(dir, SANDBOX_PLAN, plan)?;
        write_files(sandbox, &plan.hostname)?;
        self.start_shim(dir).await?;
        let connected = Shim::connect(dir);
        let (shim, happened) = connected.map_err(Error::internal)?;
        let reply = shim.call(Call::Hello, &[]).await?;
        let network = match reply.result {
            Ok(Answer::Hello { pid, .. }) => world::network_of(pid),
            _ => None,
        };
        let network =
            network.ok_or_else(|| Error::new(Code::Internal, "the pod's shim is gone"))?;
        let live = Live {
            shim,
            network: Arc::new(network),
        };
        let mut addresses = Vec::new();
        if plan.own_network {
            let attached = self
                .config
                .network
                .attach(&sandbox.network(), &live.network)
                .await;
            addresses = attached.map_err(|error| {
                let chain = cri::chain(error.as_ref());
                let message = format!("failed to setup network for sandbox {:?}: {chain}", plan.id);
                Error::new(Code::Unknown, message)
            })?;
            records::write(dir, records::ADDRESSES, &addresses)?;
        }
        // With the record the sandbox exists for a restarted runtime.
        records::write(dir, RECORD, &*sandbox.record)?;
        let known = Sandbox {
            live: Some(live),
            addresses,
            ..sandbox.clone()
        };
        self.world().sandboxes.insert(plan.id.clone(), known);
        self.follow(plan.id.clone(), happened);
        self.tell(
            ContainerEventType::ContainerCreatedEvent,
            &plan.id,
            &plan.id,
        );
        self.tell(
            ContainerEventType::ContainerStartedEvent,
            &plan.id,
            &plan.id,
        );
        Ok(())
    }

    /// Starts a shim and waits until it takes calls. It does not stay our child.
    async fn start_shim(&self, dir: &Path) -> Result<(), Error> {
        let [program, arguments @ ..] = self.config.shim.as_slice() else {
            return Err(Error::new(Code::Internal, "no shim program is configured"));
        };
        #[allow(clippy::disallowed_methods, reason = "the shim is this program itself")]
        let mut command = Command::new(program);
        let output = command
            .args(arguments)
            .arg(dir)
            .env_clear()
            .stdin(std::process::Stdio::null())
            .output()
            .await
            .map_err(Error::internal)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Error::new(
            Code::Internal,
            format!("failed to start sandbox: {}", said.trim()),
        ))
    }

    fn plan_sandbox(&self, record: &SandboxRecord, dir: &Path) -> Result<SandboxPlan, Error> {
        let config = &record.config;
        let options = namespace_options(config);
        let host = |mode: i32| mode == NamespaceMode::Node as i32;
        let own_network = !host(options.network);
        let own_ipc = !host(options.ipc);
        let hostname = match own_network {
            true => config.hostname.clone(),
            false => String::new(),
        };
        let invalid = |error: oci::sysctl::InvalidSysctl| Error::invalid(error.to_string());
        let mut sysctls = Vec::new();
        if own_network {
            // What stands in for the capabilities that containers do not have: ping, and ports
            // below 1024.
            for (name, value) in [
                ("net.ipv4.ping_group_range", "0 2147483647"),
                ("net.ipv4.ip_unprivileged_port_start", "0"),
            ] {
                let path = oci::sysctl::path(name, value, false, false).map_err(invalid)?;
                sysctls.push((path, value.to_owned()));
            }
        }
        let wanted = config.linux.as_ref().map(|linux| &linux.sysctls);
        for (name, value) in wanted.into_iter().flatten() {
            let path = oci::sysctl::path(name, value, !own_network, !own_ipc).map_err(invalid)?;
            sysctls.push((path, value.clone()));
        }
        Ok(SandboxPlan {
            id: record.id.clone(),
            hostname,
            own_network,
            own_ipc,
            shared_pids: options.pid == NamespaceMode::Pod as i32,
            sysctls,
            cgroup: join(&record.cgroup_parent, &record.id),
            shm: own_ipc.then(|| (dir.join("shm"), SHM_BYTES)),
        })
    }

    /// The cgroup in which a sandbox lies: the pod's, as the kubelet made it, below this node's.
    fn cgroup_parent(&self, config: &v1::PodSandboxConfig) -> String {
        let base = self.config.cgroup_parent.trim_matches('/');
        let pods = config
            .linux
            .as_ref()
            .map_or("", |linux| linux.cgroup_parent.as_str());
        let pods = pods.trim_matches('/');
        let inside = pods == base
            || pods
                .strip_prefix(base)
                .is_some_and(|rest| rest.starts_with('/'));
        match inside || base.is_empty() {
            true => pods.to_owned(),
            false => join(base, pods),
        }
    }

    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        let sandbox = match self.sandbox(id) {
            Ok(sandbox) => sandbox,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        let id = &sandbox.record.id;
        if sandbox.live.is_none() && sandbox.dir.join(records::STOPPED).exists() {
            return Ok(());
        }
        let containers = self.containers_of(id);
        let stops = containers
            .iter()
            .map(|one| self.stop_container(one, std::time::Duration::ZERO));
        futures::future::try_join_all(stops).await?;
        let own_network = !is_host_network(&sandbox.record.config);
        self.tear_down(&sandbox, own_network).await?;
        records::write(&sandbox.dir, records::STOPPED, &now())?;
        let was_live = match self.world().sandboxes.get_mut(id) {
            Some(sandbox) => sandbox.live.take().is_some(),
            None => false,
        };
        if was_live {
            self.tell(ContainerEventType::ContainerStoppedEvent, id, id);
        }
        Ok(())
    }

    /// Removes what is left of a sandbox that was never finished, because the runtime or the
    /// machine went down meanwhile.
    pub(crate) async fn remove_half_made(&self, dir: &Path) -> Result<(), Error> {
        let plan: SandboxPlan = records::read(dir, SANDBOX_PLAN).unwrap_or_default();
        if !plan.id.is_empty() {
            let record = SandboxRecord {
                cgroup_parent: plan
                    .cgroup
                    .trim_end_matches(&plan.id)
                    .trim_end_matches('/')
                    .to_owned(),
                id: plan.id,
                config: v1::PodSandboxConfig::default(),
                runtime_handler: String::new(),
                created_at: 0,
            };
            let record = Arc::new(record);
            let half = Sandbox {
                record,
                dir: dir.to_owned(),
                live: None,
                addresses: Vec::new(),
            };
            self.tear_down(&half, plan.own_network).await?;
        }
        world::remove_dir(dir)
    }

    /// Takes away what a sandbox has outside its directory: network, shim, mount, cgroup. Every
    /// step may have been done before.
    async fn tear_down(&self, sandbox: &Sandbox, own_network: bool) -> Result<(), Error> {
        if own_network {
            let detached = self.config.network.detach(&sandbox.network()).await;
            detached.map_err(|error| Error::new(Code::Internal, cri::chain(error.as_ref())))?;
        }
        let shim = match &sandbox.live {
            Some(live) => Some(Arc::clone(&live.shim)),
            None => Shim::connect(&sandbox.dir).ok().map(|(shim, _)| shim),
        };
        if let Some(shim) = shim {
            let pid = match shim.call(Call::Hello, &[]).await.map(|reply| reply.result) {
                Ok(Ok(Answer::Hello { pid, .. })) => rustix::process::Pid::from_raw(pid),
                _ => None,
            };
            let process = pid.and_then(|pid| linux::process::Process::open(pid).ok());
            let _ = shim.call(Call::Shutdown, &[]).await;
            if let Some(process) = process {
                let ended = tokio::task::spawn_blocking(move || {
                    process.wait_exit(Some(std::time::Duration::from_secs(10)))
                });
                let _ = ended.await;
            }
        }
        linux::mount::unmount(&sandbox.dir.join("shm")).map_err(Error::internal)?;
        let group = self
            .hierarchies
            .group(&join(&sandbox.record.cgroup_parent, &sandbox.record.id));
        group.remove().map_err(Error::internal)
    }

    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        let sandbox = match self.sandbox(id) {
            Ok(sandbox) => sandbox,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        let id = &sandbox.record.id;
        self.stop_sandbox(id).await?;
        for container in self.containers_of(id) {
            self.remove_container(&container).await?;
        }
        world::remove_dir(&sandbox.dir)?;
        self.tell(ContainerEventType::ContainerDeletedEvent, id, id);
        self.world().sandboxes.remove(id);
        Ok(())
    }

    pub(crate) fn list_sandboxes(&self, filter: &v1::PodSandboxFilter) -> Vec<v1::PodSandbox> {
        let state = filter.state.as_ref().map(|state| state.state);
        let world = self.world();
        let all = world.sandboxes.values().filter(|sandbox| {
            sandbox.record.id.starts_with(&filter.id)
                && state.is_none_or(|state| state == sandbox.state() as i32)
                && has_labels(&sandbox.record.config.labels, &filter.label_selector)
        });
        all.map(Sandbox::listed).collect()
    }
}

impl Sandbox {
    pub(crate) fn state(&self) -> PodSandboxState {
        match self.live {
            Some(_) => PodSandboxState::SandboxReady,
            None => PodSandboxState::SandboxNotready,
        }
    }

    /// As the network sees it.
    pub(crate) fn network(&self) -> PodSandboxNetwork {
        let metadata = self.record.config.metadata.clone().unwrap_or_default();
        PodSandboxNetwork {
            id: self.record.id.clone(),
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            port_mappings: self
                .record
                .config
                .port_mappings
                .iter()
                .filter_map(port_mapping)
                .collect(),
        }
    }

    fn listed(&self) -> v1::PodSandbox {
        let config = &self.record.config;
        v1::PodSandbox {
            id: self.record.id.clone(),
            metadata: config.metadata.clone(),
            state: self.state().into(),
            created_at: self.record.created_at,
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            runtime_handler: self.record.runtime_handler.clone(),
        }
    }

    pub(crate) fn status(&self) -> v1::PodSandboxStatus {
        let config = &self.record.config;
        let mut addresses = self.addresses.iter().map(IpAddr::to_string);
        let network = v1::PodSandboxNetworkStatus {
            ip: addresses.next().unwrap_or_default(),
            additional_ips: addresses.map(|ip| v1::PodIp { ip }).collect(),
        };
        let options = namespace_options(config);
        let linux = v1::LinuxPodSandboxStatus {
            namespaces: Some(v1::Namespace {
                options: Some(options),
            }),
        };
        v1::PodSandboxStatus {
            id: self.record.id.clone(),
            metadata: config.metadata.clone(),
            state: self.state().into(),
            created_at: self.record.created_at,
            network: Some(network),
            linux: Some(linux),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            runtime_handler: self.record.runtime_handler.clone(),
        }
    }
}

/// The namespaces a sandbox asks for.
pub(crate) fn namespace_options(config: &v1::PodSandboxConfig) -> v1::NamespaceOption {
    let security = config
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref());
    security
        .and_then(|security| security.namespace_options.clone())
        .unwrap_or_default()
}

pub(crate) fn is_host_network(config: &v1::PodSandboxConfig) -> bool {
    namespace_options(config).network == NamespaceMode::Node as i32
}

pub(crate) fn has_labels(
    labels: &std::collections::HashMap<String, String>,
    wanted: &std::collections::HashMap<String, String>,
) -> bool {
    wanted
        .iter()
        .all(|(name, value)| labels.get(name) == Some(value))
}

fn port_mapping(mapping: &v1::PortMapping) -> Option<PortMapping> {
    Some(PortMapping {
        protocol: match v1::Protocol::try_from(mapping.protocol).ok()? {
            v1::Protocol::Tcp => "TCP",
            v1::Protocol::Udp => "UDP",
            v1::Protocol::Sctp => "SCTP",
        },
        container_port: u16::try_from(mapping.container_port).ok()?,
        // Zero: the pod has the port, but the host does not.
        host_port: u16::try_from(mapping.host_port)
            .ok()
            .filter(|port| *port != 0)?,
        host_ip: mapping.host_ip.parse().ok(),
    })
}

/// The files that every container of the pod sees: host name and resolver configuration.
fn write_files(sandbox: &Sandbox, hostname: &str) -> Result<(), Error> {
    let write = |name: &str, text: String| {
        use std::os::unix::fs::PermissionsExt;
        let path = sandbox.dir.join(name);
        std::fs::write(&path, text)
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)))
            .map_err(Error::internal)
    };
    if !hostname.is_empty() {
        write("hostname", format!("{hostname}\n"))?;
    }
    let resolver = match &sandbox.record.config.dns_config {
        Some(dns) => resolv_conf(dns)?,
        None => std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
    };
    write("resolv.conf", resolver)
}

fn resolv_conf(dns: &v1::DnsConfig) -> Result<String, Error> {
    let all = dns.servers.iter().chain(&dns.searches).chain(&dns.options);
    if all.into_iter().any(|word| word.contains(['\n', '\0'])) {
        return Err(Error::invalid(
            "DNS configuration must not contain line breaks",
        ));
    }
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text += &format!("search {}\n", dns.searches.join(" "));
    }
    for server in &dns.servers {
        text += &format!("nameserver {server}\n");
    }
    if !dns.options.is_empty() {
        text += &format!("options {}\n", dns.options.join(" "));
    }
    Ok(text)
}

/// A new ID: 64 hexadecimal digits.
pub(crate) fn new_id() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

/// A path of cgroups.
pub(crate) fn join(parent: &str, name: &str) -> String {
    match (parent.is_empty(), name.is_empty()) {
        (true, _) => name.to_owned(),
        (_, true) => parent.to_owned(),
        _ => format!("{parent}/{name}"),
    }
}
