//! Telling the API how the node is: when something changes, and every few minutes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::events::{Event, EventType};
use client::watch::Change;
use cri::v1::{
    ListImagesRequest, NetworkConfig, RuntimeCondition, RuntimeConfig, StatusRequest,
    UpdateRuntimeConfigRequest,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints,
    NodeSpec, NodeStatus, ObjectReference, Taint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::machine::{self, Machine};
use crate::config::Config;
use crate::context::Context;

/// How soon a node that is not ready looks again.
const NOT_READY: Duration = Duration::from_secs(1);
/// With less memory than that the node is under pressure.
const LOW_MEMORY: u64 = 100 << 20;
/// With less of its disk than that the node is under pressure. A number, where upstream has a tenth of the disk: of a shared
/// machine's disk a tenth may be a lot, and nobody is evicted for it.
const LOW_DISK: u64 = 512 << 20;
/// Images and names of an image that the status tells of.
const MAX_IMAGES: (usize, usize) = (50, 5);

/// See the module.
pub(crate) struct Reporter {
    context: Arc<Context>,
    machine: Machine,
    runtime: String,
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
    root_dir: PathBuf,
    registers: bool,
    every: Duration,
    port: i32,
    /// The conditions told last.
    conditions: Vec<NodeCondition>,
    /// The range of addresses the runtime knows of.
    pod_cidr: String,
    /// When the status was told last.
    told: Option<Instant>,
}

impl Reporter {
    /// `runtime` is name and version of the runtime as `name://version`.
    pub(crate) fn new(
        context: Arc<Context>,
        machine: Machine,
        runtime: String,
        config: &Config,
    ) -> Reporter {
        Reporter {
            runtime,
            labels: config.labels.clone(),
            taints: config.taints.clone(),
            root_dir: config.root_dir.clone(),
            registers: config.registers,
            every: config.status_every,
            port: config
                .server
                .as_ref()
                .map_or(0, |s| i32::from(s.address.port())),
            conditions: Vec::new(),
            pod_cidr: String::new(),
            told: None,
            context,
            machine,
        }
    }

    /// Registers the node and reports for ever.
    pub(crate) async fn run(mut self, mut changes: BoxStream<'static, Change<Node>>) {
        self.event("Starting", "Starting kubelet.");
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.context.node_changed.notified(), if !self.conditions.is_empty() => {}
                Some(change) = changes.next() => {
                    let here = match change {
                        Change::Applied { new, .. } => self.saw(&new).await,
                        Change::Deleted(_) => false,
                        Change::Synced => true,
                    };
                    if here {
                        continue;
                    }
                }
            }
            pause = match self.report().await {
                Ok(true) => self.every,
                Ok(false) => NOT_READY,
                Err(error) => {
                    tracing::warn!(
                        error = cri::chain(&*error),
                        "the node's status was not told"
                    );
                    (pause.min(Duration::from_secs(10)) * 2).max(Duration::from_millis(200))
                }
            };
        }
    }

    /// The runtime has to know the range of addresses that the node got. False if there is something to tell.
    async fn saw(&mut self, node: &Node) -> bool {
        let cidr = node.spec.as_ref().and_then(|s| s.pod_cidr.clone());
        let cidr = cidr.unwrap_or_default();
        if cidr.is_empty() || cidr == self.pod_cidr {
            return true;
        }
        let request = UpdateRuntimeConfigRequest {
            runtime_config: Some(RuntimeConfig {
                network_config: Some(NetworkConfig {
                    pod_cidr: cidr.clone(),
                }),
            }),
        };
        match self.context.runtime.update_runtime_config(request).await {
            Ok(_) => self.pod_cidr = cidr,
            Err(error) => tracing::warn!(%error, "the runtime does not take the pod CIDR"),
        }
        false
    }

    fn event(&self, reason: &str, message: &str) {
        let name = &self.context.node_name;
        self.context.recorder.record(Event {
            about: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(name.clone()),
                uid: Some(name.clone()),
                ..ObjectReference::default()
            },
            event_type: EventType::Normal,
            reason: reason.to_owned(),
            action: String::new(),
            message: message.to_owned(),
        });
    }

    /// Tells the status, registering the node if there is none; true if the node is ready.
    async fn report(&mut self) -> Result<bool, Box<kube::Error>> {
        let api: Api<Node> = Api::all(self.context.client.clone());
        let name = self.context.node_name.clone();
        let problem = self.problem().await;
        let conditions = self.conditions(problem.as_deref());
        let recent = self.told.is_some_and(|told| told.elapsed() < self.every);
        if problem.is_some() && recent && same(&conditions, &self.conditions) {
            return Ok(false);
        }
        let status = self.status(conditions.clone()).await;
        if self.conditions.is_empty() {
            self.register(&api, &status).await?;
        }
        let patch = json!({"status": status});
        let parameters = PatchParams::default();
        let told = api
            .patch_status(&name, &parameters, &Patch::Strategic(&patch))
            .await;
        match told {
            Err(kube::Error::Api(answer)) if answer.code == 404 => {
                self.register(&api, &status).await?;
            }
            told => drop(told.map_err(Box::new)?),
        }
        let ready = problem.is_none();
        self.tell_ready(&conditions, ready);
        self.conditions = conditions;
        self.told = Some(Instant::now());
        Ok(ready)
    }

    fn tell_ready(&self, now: &[NodeCondition], ready: bool) {
        let find = |list: &[NodeCondition]| {
            let ready = list.iter().find(|c| c.type_ == "Ready");
            ready.map(|c| c.status.clone())
        };
        let before = find(&self.conditions);
        if before.is_some() && find(now) != before {
            let reason = if ready { "NodeReady" } else { "NodeNotReady" };
            let name = &self.context.node_name;
            self.event(reason, &format!("Node {name} status is now: {reason}"));
        }
    }

    async fn register(&self, api: &Api<Node>, status: &NodeStatus) -> Result<(), Box<kube::Error>> {
        if !self.registers {
            return Ok(());
        }
        let name = &self.context.node_name;
        let labels = self.all_labels();
        let node = Node {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(labels.clone()),
                annotations: Some(
                    [(
                        "volumes.kubernetes.io/controller-managed-attach-detach".to_owned(),
                        "true".to_owned(),
                    )]
                    .into(),
                ),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec {
                taints: (!self.taints.is_empty()).then(|| self.taints.clone()),
                ..NodeSpec::default()
            }),
            status: Some(status.clone()),
        };
        match api.create(&PostParams::default(), &node).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(answer)) if answer.code == 409 => {
                let patch = json!({"metadata": {"labels": labels}});
                let parameters = PatchParams::default();
                let patched = api
                    .patch(name, &parameters, &Patch::Strategic(&patch))
                    .await;
                patched.map(drop).map_err(Box::new)
            }
            Err(error) => Err(Box::new(error)),
        }
    }

    fn all_labels(&self) -> BTreeMap<String, String> {
        let arch = machine::architecture();
        let name = self.context.node_name.as_str();
        let usual = [
            ("kubernetes.io/hostname", name),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", arch),
            ("beta.kubernetes.io/os", "linux"),
            ("beta.kubernetes.io/arch", arch),
        ];
        let mut labels = self.labels.clone();
        labels.extend(usual.map(|(k, v)| (k.to_owned(), v.to_owned())));
        labels
    }

    /// Why the node is not ready, if it is not.
    async fn problem(&self) -> Option<String> {
        let answer = self.context.runtime.status(StatusRequest::default()).await;
        let conditions = match answer {
            Ok(answer) => answer.status.unwrap_or_default().conditions,
            Err(error) => {
                return Some(format!(
                    "container runtime status check may not have completed yet: {error}"
                ));
            }
        };
        let broken = |kind: &str, what: &str| {
            let found: Option<&RuntimeCondition> = conditions.iter().find(|c| c.r#type == kind);
            match found {
                Some(c) if c.status => None,
                Some(c) => Some(format!(
                    "{what}: {kind}=false reason:{} message:{}",
                    c.reason, c.message
                )),
                None => Some(format!("{what}: {kind} is not reported")),
            }
        };
        broken("RuntimeReady", "container runtime is down")
            .or_else(|| broken("NetworkReady", "container runtime network not ready"))
    }

    fn conditions(&self, problem: Option<&str>) -> Vec<NodeCondition> {
        let low_memory = machine::memory("MemAvailable") < LOW_MEMORY;
        let low_disk = machine::free_disk(&self.root_dir) < LOW_DISK;
        let pressure = |kind: &str, bad: bool, reasons: [&str; 2], messages: [&str; 2]| {
            let which = usize::from(bad);
            self.condition(kind, bad, reasons[which], messages[which])
        };
        vec![
            pressure(
                "MemoryPressure",
                low_memory,
                ["KubeletHasSufficientMemory", "KubeletHasInsufficientMemory"],
                [
                    "kubelet has sufficient memory available",
                    "kubelet has insufficient memory available",
                ],
            ),
            pressure(
                "DiskPressure",
                low_disk,
                ["KubeletHasNoDiskPressure", "KubeletHasDiskPressure"],
                ["kubelet has no disk pressure", "kubelet has disk pressure"],
            ),
            pressure(
                "PIDPressure",
                false,
                ["KubeletHasSufficientPID", "KubeletHasInsufficientPID"],
                [
                    "kubelet has sufficient PID available",
                    "kubelet has insufficient PID available",
                ],
            ),
            match problem {
                None => self.condition(
                    "Ready",
                    true,
                    "KubeletReady",
                    "kubelet is posting ready status",
                ),
                Some(problem) => self.condition("Ready", false, "KubeletNotReady", problem),
            },
        ]
    }

    fn condition(&self, kind: &str, holds: bool, reason: &str, message: &str) -> NodeCondition {
        let status = if holds { "True" } else { "False" };
        let now = Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default());
        let old = self.conditions.iter().cloned().chain(self.api_conditions());
        let old = old
            .into_iter()
            .find(|c| c.type_ == kind && c.status == status);
        NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: old
                .and_then(|o| o.last_transition_time)
                .or_else(|| Some(now.clone())),
            last_heartbeat_time: Some(now),
        }
    }

    /// The conditions that a former kubelet told.
    fn api_conditions(&self) -> Vec<NodeCondition> {
        let node = self.context.nodes.get("", &self.context.node_name);
        let status = node.and_then(|n| n.status.clone());
        status.and_then(|s| s.conditions).unwrap_or_default()
    }

    async fn status(&self, conditions: Vec<NodeCondition>) -> NodeStatus {
        let address = |kind: &str, address: &str| NodeAddress {
            type_: kind.to_owned(),
            address: address.to_owned(),
        };
        let ips = self.context.facts.ips.iter();
        let mut addresses: Vec<NodeAddress> = ips.map(|ip| address("InternalIP", ip)).collect();
        addresses.push(address("Hostname", &self.context.node_name));
        NodeStatus {
            addresses: Some(addresses),
            capacity: Some(self.machine.capacity()),
            allocatable: Some(self.machine.allocatable()),
            conditions: Some(conditions),
            daemon_endpoints: Some(NodeDaemonEndpoints {
                kubelet_endpoint: Some(DaemonEndpoint { port: self.port }),
            }),
            images: Some(self.images().await),
            node_info: Some(machine::system_info(self.runtime.clone())),
            ..NodeStatus::default()
        }
    }

    async fn images(&self) -> Vec<ContainerImage> {
        let list = self
            .context
            .images
            .list_images(ListImagesRequest::default())
            .await;
        let mut images = list.map(|l| l.images).unwrap_or_default();
        images.sort_by_key(|i| std::cmp::Reverse(i.size));
        let (max, max_names) = MAX_IMAGES;
        let one = |image: cri::v1::Image| {
            let names = image.repo_digests.into_iter().chain(image.repo_tags);
            ContainerImage {
                names: Some(names.take(max_names).collect()),
                size_bytes: i64::try_from(image.size).ok(),
            }
        };
        images.into_iter().take(max).map(one).collect()
    }
}

/// Whether two lists of conditions say the same, whenever they say it.
fn same(a: &[NodeCondition], b: &[NodeCondition]) -> bool {
    let says = |c: &NodeCondition| (c.status.clone(), c.message.clone());
    a.iter().map(says).eq(b.iter().map(says))
}
