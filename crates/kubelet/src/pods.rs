//! The kubelet as a whole: sees which pods are this node's and keeps one worker for each.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use client::events::Recorder;
use client::watch::{Change, Reader, store};
use cri::observed::{Listener, Observed};
use cri::v1::{GetEventsRequest, ListPodSandboxRequest, VersionRequest};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod, PodStatus, Service};
use kube::Api;
use kube::runtime::watcher;
use parking_lot::Mutex;
use pod_lifecycle::view::{Container, Sandbox};
use pod_lifecycle::{admission, pod as parts};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cgroups::Cgroups;
use crate::config::Config;
use crate::context::Context;
use crate::measures::Measures;
use crate::static_pods::{self, StaticPods, Watch};
use crate::{cleanup, node, server, worker};

/// Why a kubelet cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory cannot be made.
    #[error("make {path}")]
    Directory {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The runtime does not answer.
    #[error("ask the container runtime")]
    Runtime(#[from] cri::Error),
    /// Control groups cannot be found.
    #[error("find the control groups")]
    Cgroups(#[from] linux::Error),
    /// The HTTPS API cannot be served.
    #[error("serve the kubelet's API")]
    Server(#[from] server::Error),
}

/// What a worker is woken with and what others may know of its pod.
pub(crate) struct Mailbox {
    mail: Mutex<Mail>,
    notify: Notify,
    known: watch::Sender<Arc<Known>>,
}

/// See [`Mailbox`].
#[derive(Clone)]
pub(crate) struct Mail {
    /// The object.
    pub(crate) pod: Arc<Pod>,
    /// It is gone from the API.
    pub(crate) removed: bool,
    /// Something happened to a container.
    pub(crate) containers_changed: bool,
    /// Something that volumes are made of changed.
    pub(crate) objects_changed: bool,
}

/// What a worker last knew of its pod.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) status: PodStatus,
    pub(crate) sandboxes: Vec<Sandbox>,
    pub(crate) containers: Vec<Container>,
}

impl Mailbox {
    pub(crate) fn new(pod: Arc<Pod>) -> Mailbox {
        let known = Known {
            status: pod.status.clone().unwrap_or_default(),
            ..Known::default()
        };
        let mail = Mail {
            pod,
            removed: false,
            containers_changed: true,
            objects_changed: false,
        };
        Mailbox {
            mail: Mutex::new(mail),
            notify: Notify::new(),
            known: watch::Sender::new(Arc::new(known)),
        }
    }

    pub(crate) fn pod(&self) -> Arc<Pod> {
        Arc::clone(&self.mail.lock().pod)
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.mail.lock().removed
    }

    /// What the worker last knew.
    pub(crate) fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.borrow())
    }

    /// The same, with a call when it changes.
    pub(crate) fn follow_known(&self) -> watch::Receiver<Arc<Known>> {
        self.known.subscribe()
    }

    pub(crate) fn set_known(&self, known: Known) {
        self.known.send_replace(Arc::new(known));
    }

    fn change(&self, change: impl FnOnce(&mut Mail)) {
        change(&mut self.mail.lock());
        self.notify.notify_one();
    }

    pub(crate) fn set_pod(&self, pod: Arc<Pod>) {
        self.change(|mail| mail.pod = pod);
    }

    pub(crate) fn remove(&self, pod: Arc<Pod>) {
        self.change(|mail| (mail.pod, mail.removed) = (pod, true));
    }

    pub(crate) fn containers_changed(&self) {
        self.change(|mail| mail.containers_changed = true);
    }

    /// Another pod has left: one that waits for room looks again.
    pub(crate) fn room_was_made(&self) {
        let known = self.known();
        let mut conditions = known.status.conditions.iter().flatten();
        if conditions.any(|condition| condition.type_ == "PodResizePending") {
            self.notify.notify_one();
        }
    }

    pub(crate) fn objects_changed(&self) {
        self.change(|mail| mail.objects_changed = true);
    }

    /// What has come in since the last time.
    pub(crate) fn take(&self) -> Mail {
        let mut mail = self.mail.lock();
        let taken = mail.clone();
        mail.containers_changed = false;
        mail.objects_changed = false;
        taken
    }

    pub(crate) async fn notified(&self) {
        self.notify.notified().await;
    }
}

/// Runs a kubelet until `shutdown`. Containers stay as they are when it ends.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    for path in [config.root_dir.join("pods"), config.log_dir.clone()] {
        std::fs::create_dir_all(&path).map_err(|source| Error::Directory {
            path: path.display().to_string(),
            source,
        })?;
    }
    let tasks = TaskTracker::new();
    let spawn = |task: futures::future::BoxFuture<'static, ()>| {
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = task => {}
            }
        });
    };
    let (config, measures) = observed(config);
    let version = config.runtime.version(VersionRequest::default()).await?;
    let runtime = format!("{}://{}", version.runtime_name, version.runtime_version);
    let machine = node::Machine::of(&config, version.runtime_name);
    let (services, service_changes) = store(
        Api::<Service>::all(config.client.clone()),
        watcher::Config::default(),
    );
    let own = watcher::Config::default().fields(&format!("metadata.name={}", config.node_name));
    let (nodes, node_changes) = store(Api::<Node>::all(config.client.clone()), own);
    let cgroups = Cgroups::new(config.cgroup_root.as_deref())?;
    let watched = (services, nodes);
    let context = Arc::new(context(&config, &machine, cgroups, watched, measures));
    spawn(Box::pin(service_changes.for_each(|_| async {})));
    let reporter = node::Reporter::new(Arc::clone(&context), machine, runtime, &config);
    spawn(Box::pin(reporter.run(node_changes.boxed())));
    spawn(Box::pin(node::keep_lease(Arc::clone(&context))));
    spawn(Box::pin(crate::logs::rotate::run(Arc::clone(&context))));
    spawn(Box::pin(crate::volumes::local::keep(Arc::clone(&context))));
    if let Some(server) = &config.server {
        let serving = server::serve(Arc::clone(&context), &config, server).await?;
        spawn(Box::pin(serving));
    }
    if let Some(address) = config.healthz {
        spawn(Box::pin(server::serve_healthz(address).await?));
    }
    spawn(Box::pin(static_pods::keep_mirrors(Arc::clone(&context))));
    let pods = Pods {
        context,
        files: config.static_pods.clone(),
        tasks: tasks.clone(),
        shutdown: shutdown.clone(),
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = pods.follow() => {}
    }
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// The same, with a runtime whose calls are counted.
fn observed(config: Config) -> (Config, Arc<Measures>) {
    let measures = Arc::<Measures>::default();
    let own = Arc::clone(&measures);
    let listener: Listener = Arc::new(move |call, took, failed| own.called(call, took, failed));
    let config = Config {
        runtime: Observed::new(config.runtime, Arc::clone(&listener)),
        images: Observed::new(config.images, listener),
        ..config
    };
    (config, measures)
}

fn context(
    config: &Config,
    machine: &node::Machine,
    cgroups: Cgroups,
    (services, nodes): (Reader<Service>, Reader<Node>),
    measures: Arc<Measures>,
) -> Context {
    let resolv_conf = std::fs::read_to_string(&config.resolv_conf).unwrap_or_default();
    Context {
        node_name: config.node_name.clone(),
        client: config.client.clone(),
        runtime: Arc::clone(&config.runtime),
        images: Arc::clone(&config.images),
        root_dir: config.root_dir.clone(),
        facts: pod_lifecycle::view::NodeFacts {
            ips: config.node_ips.clone(),
            runtime_name: machine.runtime_name.clone(),
        },
        node: pod_lifecycle::config::Node {
            log_root: config.log_dir.display().to_string(),
            seccomp_root: config.root_dir.join("seccomp").display().to_string(),
            cluster_dns: config.cluster_dns.clone(),
            cluster_domain: config.cluster_domain.clone(),
            host_dns: pod_lifecycle::dns::parse(&resolv_conf),
            memory_bytes: i128::from(machine.memory_bytes),
        },
        allocatable: machine.allocatable(),
        recorder: Recorder::start(config.client.clone(), "kubelet", &config.node_name),
        services,
        nodes,
        objects: crate::objects::Objects::new(config.client.clone()),
        puller: crate::images::Puller::default(),
        cgroups,
        tokens: crate::volumes::tokens::Tokens::default(),
        certificates: crate::volumes::certificates::Certificates::default(),
        claimed: crate::volumes::claims::Claimed::default(),
        rotation: crate::logs::rotate::Rotation::new(),
        measures,
        node_changed: Notify::new(),
        pods: Arc::default(),
        static_pods: StaticPods::default(),
    }
}

struct Pods {
    context: Arc<Context>,
    /// Where static pods are.
    files: Option<PathBuf>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Pods {
    /// Follows the pods bound to this node and the events of their containers.
    async fn follow(self) {
        // They need no API, and are known before anything is cleaned up.
        if let Some(path) = &self.files {
            self.read_files(path).await;
        }
        let selector = format!("spec.nodeName={}", self.context.node_name);
        let config = watcher::Config::default().fields(&selector);
        let (_, changes) = store(Api::<Pod>::all(self.context.client.clone()), config);
        let containers = self.container_events();
        let mut changes = std::pin::pin!(changes);
        let pods = async {
            let mut early = Some(Vec::new());
            while let Some(change) = changes.next().await {
                match change {
                    // Pods are admitted in the order of their creation.
                    Change::Applied { new, .. } => match &mut early {
                        Some(waiting) => waiting.push(new),
                        None => self.applied(new).await,
                    },
                    Change::Deleted(pod) => self.deleted(pod),
                    Change::Synced => self.synced(early.take().unwrap_or_default()).await,
                }
            }
        };
        futures::future::join3(pods, containers, self.follow_files()).await;
    }

    /// Follows the files that name static pods, if there are any.
    async fn follow_files(&self) {
        let Some(path) = &self.files else {
            return;
        };
        let mut watch = Watch::new(path);
        loop {
            self.read_files(path).await;
            tokio::select! {
                () = watch.changed() => {}
                () = self.context.static_pods.left() => {}
            }
        }
    }

    async fn read_files(&self, path: &Path) {
        let changes = self.context.static_pods.read(path, &self.context.node_name);
        for change in changes {
            match change {
                static_pods::Change::Added(pod) => self.run_pod(pod).await,
                static_pods::Change::Removed(pod) => self.removed(pod),
            }
        }
    }

    /// A mirror is no pod of its own: the one that it shows learns of it.
    fn mirror(&self, mirror: &Arc<Pod>, gone: bool) {
        let uid = self.context.static_pods.mirror_seen(mirror, gone);
        let mailbox = uid.and_then(|uid| self.context.pods.lock().get(&uid).cloned());
        if let Some(mailbox) = mailbox {
            mailbox.containers_changed();
        }
    }

    async fn synced(&self, mut pods: Vec<Arc<Pod>>) {
        pods.sort_by(|a, b| {
            let created = |p: &Pod| p.metadata.creation_timestamp.as_ref().map(|t| t.0);
            created(a).cmp(&created(b))
        });
        for pod in pods {
            self.applied(pod).await;
        }
        self.context.static_pods.mirrors_known();
        cleanup::orphans(&self.context).await;
    }

    async fn applied(&self, pod: Arc<Pod>) {
        match static_pods::is_mirror(&pod) {
            true => self.mirror(&pod, false),
            false => self.run_pod(pod).await,
        }
    }

    async fn run_pod(&self, pod: Arc<Pod>) {
        let uid = parts::uid(&pod).to_owned();
        let known = self.context.pods.lock().get(&uid).cloned();
        if let Some(mailbox) = known {
            mailbox.set_pod(pod);
            return;
        }
        let rejection = self.admit(&pod).await;
        let mailbox = Arc::new(Mailbox::new(pod));
        self.context.pods.lock().insert(uid, Arc::clone(&mailbox));
        let context = Arc::clone(&self.context);
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = worker::run(context, mailbox, rejection) => {}
            }
        });
    }

    /// Asks whether a new pod fits beside the others. What was admitted once is not asked again.
    async fn admit(&self, pod: &Pod) -> Option<admission::Rejection> {
        let status = pod.status.as_ref();
        if parts::is_terminal(pod) || status.is_some_and(|s| s.start_time.is_some()) {
            return None;
        }
        // A static pod waits for no API.
        let waits = !self.context.static_pods.is_static(parts::uid(pod));
        if waits && !self.context.nodes.synced().await {
            return None;
        }
        let node = self.context.nodes.get("", &self.context.node_name)?;
        let others: Vec<Arc<Pod>> = {
            let pods = self.context.pods.lock();
            let live = pods.values().filter(|m| {
                let phase = m.known().status.phase.clone();
                // What is gone from the API has made room, although its containers may take a moment to end.
                !m.is_removed() && !matches!(phase.as_deref(), Some("Succeeded" | "Failed"))
            });
            live.map(|m| m.pod())
                .filter(|p| !parts::is_terminal(p))
                .collect()
        };
        admission::admit(pod, &node, others.iter().map(|p| &**p)).err()
    }

    fn deleted(&self, pod: Arc<Pod>) {
        match static_pods::is_mirror(&pod) {
            true => self.mirror(&pod, true),
            false => self.removed(pod),
        }
    }

    fn removed(&self, pod: Arc<Pod>) {
        let mailbox = self.context.pods.lock().get(parts::uid(&pod)).cloned();
        if let Some(mailbox) = mailbox {
            mailbox.remove(pod);
        }
    }

    /// Wakes the pod whose container did something. When the stream breaks, every pod looks for itself.
    async fn container_events(&self) {
        /// How long to wait before asking a runtime again that broke the stream.
        const PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
        let mut owners: HashMap<String, String> = HashMap::new();
        loop {
            let request = GetEventsRequest {};
            match self.context.runtime.get_container_events(request).await {
                Ok(mut events) => {
                    self.wake_all();
                    while let Some(Ok(event)) = events.next().await {
                        self.wake(event, &mut owners).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "no container events"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn wake(
        &self,
        event: cri::v1::ContainerEventResponse,
        owners: &mut HashMap<String, String>,
    ) {
        let sandbox = event.pod_sandbox_status;
        let uid = sandbox.and_then(|s| s.metadata).map(|m| m.uid);
        let uid = match uid {
            Some(uid) => Some(uid),
            None => {
                self.learn_owners(owners).await;
                owners.get(&event.container_id).cloned()
            }
        };
        match uid {
            Some(uid) => {
                if let Some(mailbox) = self.context.pods.lock().get(&uid) {
                    mailbox.containers_changed();
                }
            }
            None => self.wake_all(),
        }
    }

    /// Which pod a sandbox belongs to, for runtimes that do not say so in their events.
    async fn learn_owners(&self, owners: &mut HashMap<String, String>) {
        let request = ListPodSandboxRequest { filter: None };
        let Ok(list) = self.context.runtime.list_pod_sandbox(request).await else {
            return;
        };
        owners.clear();
        for sandbox in list.items {
            if let Some(metadata) = sandbox.metadata {
                owners.insert(sandbox.id, metadata.uid);
            }
        }
    }

    fn wake_all(&self) {
        let pods = self.context.pods.lock();
        pods.values().for_each(|m| m.containers_changed());
    }
}
