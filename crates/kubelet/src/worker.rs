//! One pod: observe, decide, act, wait to be woken. The only place where a pod's state changes.
//!
//! The loop carries out what `pod_lifecycle::next` decides. Whatever takes time runs beside it and comes back as an
//! [`Outcome`]; the memory that the decision looks at is changed only here.

mod outcome;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use pod_lifecycle::admission::{self, Rejection};
use pod_lifecycle::memory::Volumes;
use pod_lifecycle::plan::Start;
use pod_lifecycle::view::{Container, Sandbox};
use pod_lifecycle::{Action, Event, Memory, Plan, PodView, next, pod as parts, resize};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::operations;
use crate::pods::{Known, Mailbox};
use crate::volumes;
use crate::{cleanup, objects, observe, probes, status};
use outcome::Outcome;

struct Worker {
    context: Arc<Context>,
    mailbox: Arc<Mailbox>,
    pod: Arc<Pod>,
    uid: String,
    removed: bool,
    memory: Memory,
    sandboxes: Vec<Sandbox>,
    containers: Vec<Container>,
    /// Sandboxes and containers have to be looked at anew.
    stale: bool,
    /// The status decided last.
    status: PodStatus,
    /// The status that the API has.
    published: PodStatus,
    /// Of a static pod: the UID of the mirror that has it.
    mirror: Option<String>,
    publishing: bool,
    publish_failures: u32,
    publish_after: Option<Timestamp>,
    /// Something that mounted volumes are made of changed.
    refresh: bool,
    refreshing: bool,
    /// Held while volumes are written or taken away; true once they are gone.
    volumes: Arc<tokio::sync::Mutex<bool>>,
    refresh_at: Option<Timestamp>,
    /// Turns since nothing was left to do.
    unsettled: u32,
    starting: CancellationToken,
    running: FuturesUnordered<BoxFuture<'static, Outcome>>,
}

/// Keeps one pod until it is gone.
pub(crate) async fn run(
    context: Arc<Context>,
    mailbox: Arc<Mailbox>,
    rejection: Option<Rejection>,
) {
    let pod = mailbox.pod();
    let uid = parts::uid(&pod).to_owned();
    let needs = objects::needs_of(&pod);
    if !parts::is_terminal(&pod) && rejection.is_none() {
        context
            .objects
            .subscribe(&mailbox, &uid, parts::namespace(&pod), &needs);
    }
    if let Some(rejection) = &rejection {
        let event = Event::warning(&rejection.reason, rejection.message.clone());
        context.tell(&pod, event);
    }
    let status = pod.status.clone().unwrap_or_default();
    let mut worker = Worker {
        memory: Memory {
            rejection: rejection.map(|r| (r.reason, r.message)),
            since: Some(Timestamp::now()),
            ..Memory::default()
        },
        published: status.clone(),
        status,
        pod,
        uid,
        removed: false,
        mirror: None,
        sandboxes: Vec::new(),
        containers: Vec::new(),
        stale: true,
        publishing: false,
        publish_failures: 0,
        publish_after: None,
        refresh: false,
        refreshing: false,
        volumes: Arc::default(),
        refresh_at: None,
        unsettled: 0,
        starting: CancellationToken::new(),
        running: FuturesUnordered::new(),
        context,
        mailbox,
    };
    while worker.turn().await {}
    worker.leave().await;
}

impl Worker {
    /// One turn of the loop; false when there is nothing left to do for this pod, ever.
    async fn turn(&mut self) -> bool {
        self.read_mail();
        if self.stale && !self.observe().await {
            self.wait(Some(parts::after(Timestamp::now(), 1))).await;
            return true;
        }
        let now = Timestamp::now();
        self.ask_for_room(now);
        let plan = self.decide(now);
        if plan.actions.contains(&Action::Finished) {
            return false;
        }
        let Plan {
            actions,
            status,
            wait_until,
            because,
        } = plan;
        self.learn(status);
        let idle = actions.is_empty();
        for action in actions {
            self.memory.begin(&action, now);
            self.carry_out(action);
        }
        if self.published_final() {
            return true;
        }
        self.publish(now);
        self.refresh_volumes(now);
        if !idle {
            // Others have a turn too, and what has just begun gets going.
            tokio::task::yield_now().await;
            self.unsettled += 1;
            if self.unsettled.is_multiple_of(MANY_TURNS) {
                tracing::error!(
                    pod = parts::name(&self.pod),
                    because,
                    "decisions do not settle"
                );
                tokio::time::sleep(UNSETTLED_PAUSE).await;
            }
            if let Some(Some(outcome)) = self.running.next().now_or_never() {
                self.absorb(outcome);
            }
        } else {
            self.unsettled = 0;
            tracing::trace!(pod = parts::name(&self.pod), because, "waiting");
            let wake = [wait_until, self.refresh_at, self.publish_after];
            self.wait(wake.into_iter().flatten().min()).await;
        }
        true
    }

    fn read_mail(&mut self) {
        let mail = self.mailbox.take();
        if !Arc::ptr_eq(&mail.pod, &self.pod) {
            let needs = objects::needs_of(&mail.pod);
            if needs != objects::needs_of(&self.pod) {
                let namespace = parts::namespace(&mail.pod);
                let objects = &self.context.objects;
                objects.subscribe(&self.mailbox, &self.uid, namespace, &needs);
            }
            // Labels and annotations may be files in the pod.
            let (old, new) = (&self.pod.metadata, &mail.pod.metadata);
            self.refresh |= old.labels != new.labels || old.annotations != new.annotations;
            self.pod = mail.pod;
        }
        self.removed = mail.removed;
        self.stale |= mail.containers_changed;
        if mail.objects_changed {
            self.refresh = true;
            self.memory.retry_starts(Timestamp::now());
        }
        let terminating = self.removed || parts::is_deleting(&self.pod);
        if terminating && self.memory.starting.is_some() {
            self.starting.cancel();
        }
    }

    async fn observe(&mut self) -> bool {
        let runtime = &*self.context.runtime;
        let logs = pod_lifecycle::config::log_directory(&self.context.node, &self.pod);
        match observe::observe(runtime, &self.uid, &logs, &self.containers).await {
            Ok((sandboxes, containers)) => {
                self.sandboxes = sandboxes;
                self.containers = containers;
                self.memory.forget_gone(&self.containers);
                self.stale = false;
                true
            }
            Err(error) => {
                tracing::warn!(pod = parts::name(&self.pod), %error, "cannot look at the pod");
                false
            }
        }
    }

    /// Asks the node for the resources that the spec wants and the containers do not have yet.
    fn ask_for_room(&mut self, now: Timestamp) {
        let refused = match resize::is_due(&self.view(now)) {
            true => self.room(),
            false => None,
        };
        if let Some(refused) = refused.as_ref().filter(|r| {
            self.memory
                .resize_refused
                .as_ref()
                .map(|known| &known.reason)
                != Some(&r.reason)
        }) {
            let message = format!("Pod resize Pending: {}", refused.message);
            let event = Event::warning(&format!("Resize{}", refused.reason), message);
            self.context.tell(&self.pod, event);
        }
        self.memory.resize_refused = refused;
    }

    /// Why the node has no room for what the spec wants.
    fn room(&self) -> Option<Rejection> {
        let node = self.context.nodes.get("", &self.context.node_name)?;
        let others: Vec<Arc<Pod>> = {
            let pods = self.context.pods.lock();
            let others = pods
                .iter()
                .filter(|(uid, m)| **uid != self.uid && !m.is_removed());
            let others = others.map(|(_, mailbox)| mailbox.pod());
            others.filter(|pod| !parts::is_terminal(pod)).collect()
        };
        admission::resize(&self.pod, &node, others.iter().map(|pod| &**pod)).err()
    }

    fn decide(&self, now: Timestamp) -> Plan {
        next(&self.view(now))
    }

    fn view(&self, now: Timestamp) -> PodView<'_> {
        PodView {
            pod: &self.pod,
            now,
            node: &self.context.facts,
            sandboxes: &self.sandboxes,
            containers: &self.containers,
            memory: &self.memory,
            last_status: &self.status,
            removed: self.removed,
        }
    }

    /// Takes a new status over, for the next decision and for those who ask.
    fn learn(&mut self, status: PodStatus) {
        let changed = {
            let known = self.mailbox.known();
            status != known.status
                || self.containers != known.containers
                || self.sandboxes != known.sandboxes
        };
        if changed {
            self.mailbox.set_known(Known {
                status: status.clone(),
                sandboxes: self.sandboxes.clone(),
                containers: self.containers.clone(),
            });
        }
        self.status = status;
    }

    async fn wait(&mut self, until: Option<Timestamp>) {
        let pause = until.map(|at| {
            let wait = at.duration_since(Timestamp::now());
            Duration::try_from(wait).unwrap_or_default()
        });
        let timer = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.mailbox.notified() => {}
            Some(outcome) = self.running.next() => self.absorb(outcome),
            () = timer => {}
        }
    }

    /// Begins to carry an action out. What is done at once is done; the rest runs beside the loop.
    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Event(event) => self.context.tell(&self.pod, event),
            Action::TellBackoff { events, .. } => {
                for event in events {
                    self.context.tell(&self.pod, event);
                }
            }
            // The publishing of every turn sees to it.
            Action::PublishFinal | Action::Finished => {}
            Action::StartContainer(start) => {
                let operation = self.start(start);
                self.running.push(operation);
            }
            Action::Kill(kill) => {
                let event = Event::normal("Killing", kill.message.clone());
                let event = event.about(&self.pod, &kill.name);
                self.context.tell(&self.pod, event);
                if kill.pre_stop {
                    self.run(|context, pod, ips| async move {
                        operations::pre_stop(&context, &pod, &kill, &ips).await;
                        Outcome::HookDone(kill.id)
                    });
                }
            }
            Action::Probe { kind, name, id } => self.run(|context, pod, ips| async move {
                let started = Instant::now();
                let outcome = probes::probe(&context, &pod, kind, &name, &id, &ips).await;
                let (namespace, pod_name) = (parts::namespace(&pod), parts::name(&pod));
                let place = (parts::uid(&pod), namespace, pod_name);
                let took = started.elapsed();
                (context.measures).probed(place, &name, kind, outcome.success(), took);
                Outcome::Probed(kind, name, id, outcome)
            }),
            Action::DeletePod => self.run(|context, pod, _| async move {
                let done = status::delete(context.client.clone(), &pod).await;
                Outcome::Deleted(done.map_err(Box::new))
            }),
            other => self.ask_runtime(other),
        }
    }

    /// The actions that are about the runtime and the disk alone.
    fn ask_runtime(&mut self, action: Action) {
        match action {
            Action::MountVolumes => self.run(|context, pod, ips| async move {
                Outcome::Mounted(volumes::mount(&context, &pod, ips).await)
            }),
            Action::UnmountVolumes => {
                let dir = self.context.pod_dir(&self.uid);
                let lock = Arc::clone(&self.volumes);
                self.refresh_at = None;
                self.run(|_, _, _| async move {
                    let mut gone = lock.lock().await;
                    *gone = true;
                    Outcome::Unmounted(volumes::unmount(dir).await)
                });
            }
            Action::CreateSandbox { attempt } => self.run(|context, pod, _| async move {
                Outcome::Sandbox(operations::create_sandbox(&context, &pod, attempt).await)
            }),
            Action::StopSandbox { id } => self.run(|context, _, _| async move {
                let done = operations::stop_sandbox(&context, &id).await;
                Outcome::SandboxStopped(id, done)
            }),
            Action::RemoveSandbox { id } => self.run(|context, _, _| async move {
                let done = operations::remove_sandbox(&context, &id).await;
                Outcome::Removed(id, done)
            }),
            Action::Resize { containers, settle } => self.run(|context, pod, _| async move {
                let done = operations::resize(&context, &pod, containers, settle).await;
                Outcome::Resized(done, settle)
            }),
            Action::RemoveContainer { id } => {
                let files = self.files_of(&id);
                self.run(|context, _, _| async move {
                    let done = operations::remove_container(&context, &id, files).await;
                    Outcome::Removed(id, done)
                });
            }
            Action::StopContainer {
                id,
                timeout_seconds,
                ..
            } => self.run(|context, _, _| async move {
                let done = operations::stop_container(&context, &id, timeout_seconds).await;
                Outcome::Stopped(id, done)
            }),
            // The caller has taken care of the others.
            _ => {}
        }
    }

    /// Lets something run beside the loop, with the context, the pod and its addresses of now.
    fn run<F>(&mut self, operation: impl FnOnce(Arc<Context>, Arc<Pod>, Vec<String>) -> F)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let ips = self.pod_ips();
        let operation = operation(Arc::clone(&self.context), Arc::clone(&self.pod), ips);
        self.running.push(Box::pin(operation));
    }

    fn start(&mut self, start: Start) -> BoxFuture<'static, Outcome> {
        let cancel = CancellationToken::new();
        self.starting = cancel.clone();
        let context = Arc::clone(&self.context);
        let pod = match self.memory.resize_refused {
            Some(_) => Arc::new(resize::allocated(&self.pod, &self.status)),
            None => Arc::clone(&self.pod),
        };
        let sandbox_attempt = self.sandboxes.first().map_or(0, |s| s.attempt);
        let job = operations::StartJob {
            start,
            sandbox_attempt,
            pod_ips: self.pod_ips(),
            containers: self
                .containers
                .iter()
                .map(|c| (c.name.clone(), c.id.clone()))
                .collect(),
            cancel,
        };
        Box::pin(async move { Outcome::Started(operations::start(&context, &pod, job).await) })
    }

    /// The addresses of the pod; those of the node for a pod on its network.
    fn pod_ips(&self) -> Vec<String> {
        if parts::is_host_network(&self.pod) {
            return self.context.facts.ips.clone();
        }
        let ready = self.sandboxes.first().filter(|s| s.ready);
        ready.map(|s| s.ips.clone()).unwrap_or_default()
    }

    /// Where the log and the last words of a container lie.
    fn files_of(&self, id: &str) -> Option<(std::path::PathBuf, std::path::PathBuf)> {
        let container = self.containers.iter().find(|c| c.id == id)?;
        let directory = pod_lifecycle::config::log_directory(&self.context.node, &self.pod);
        let file = pod_lifecycle::config::log_path(&container.name, container.restart_count);
        let words = self
            .context
            .pod_dir(&self.uid)
            .join("containers")
            .join(&container.name);
        Some((
            std::path::Path::new(&directory).join(file),
            words.join(container.restart_count.to_string()),
        ))
    }

    /// Publishes the status if the API has another one; one patch at a time.
    fn publish(&mut self, now: Timestamp) {
        let waits = self.publish_after.is_some_and(|at| at > now);
        if !waits {
            self.publish_after = None;
        }
        let is_static = self.context.static_pods.is_static(&self.uid);
        let same = self.status == self.published && !is_static;
        if self.publishing || waits || self.removed || same {
            return;
        }
        let mut pod = Arc::clone(&self.pod);
        if is_static {
            // Its mirror has the status; as long as there is none nobody is told.
            let Some(mirror) = self.context.static_pods.mirror_of(&pod) else {
                return;
            };
            if self.mirror != mirror.metadata.uid {
                self.mirror.clone_from(&mirror.metadata.uid);
                self.published = mirror.status.clone().unwrap_or_default();
            }
            if self.status == self.published {
                return;
            }
            pod = mirror;
        }
        self.publishing = true;
        let client = self.context.client.clone();
        let (old, new) = (self.published.clone(), self.status.clone());
        self.running.push(Box::pin(async move {
            let done = status::publish(client, &pod, &old, &new).await;
            Outcome::Published(Box::new(new), done)
        }));
    }

    /// True when the last status of the pod has just been found published.
    fn published_final(&mut self) -> bool {
        let wanted = self.memory.publishing_final && !self.memory.final_status_published;
        let done = wanted && !self.publishing && self.status == self.published;
        if done {
            self.memory.final_status_published = true;
        }
        done
    }

    /// Writes volumes anew when something that they are made of changed or a token is getting old.
    fn refresh_volumes(&mut self, now: Timestamp) {
        let due = self.refresh || self.refresh_at.is_some_and(|at| at <= now);
        if !due || self.refreshing || self.memory.volumes != Volumes::Mounted {
            return;
        }
        self.refresh = false;
        self.refreshing = true;
        self.refresh_at = None;
        let context = Arc::clone(&self.context);
        let pod = Arc::clone(&self.pod);
        let ips = self.pod_ips();
        let lock = Arc::clone(&self.volumes);
        self.running.push(Box::pin(async move {
            let gone = lock.lock().await;
            Outcome::Refreshed(match *gone {
                true => Ok(volumes::Mounted::default()),
                false => volumes::refresh(&context, &pod, ips).await,
            })
        }));
    }

    /// The pod is gone: so are its files, its logs and what it watched.
    async fn leave(self) {
        let namespace = parts::namespace(&self.pod);
        let nothing = objects::Needs::default();
        self.context
            .objects
            .subscribe(&self.mailbox, &self.uid, namespace, &nothing);
        if let Err(error) = cleanup::remove_pod_dir(&self.context, &self.uid).await {
            tracing::warn!(
                pod = parts::name(&self.pod),
                error,
                "cannot remove the pod's files"
            );
        }
        let logs = pod_lifecycle::config::log_directory(&self.context.node, &self.pod);
        crate::logs::links::remove(&self.context.node.log_root, std::path::Path::new(&logs));
        if let Err(error) = tokio::fs::remove_dir_all(&logs).await {
            tracing::trace!(logs, %error, "no logs removed");
        }
        self.context.cgroups.remove(&self.pod);
        self.context.tokens.forget(&self.uid);
        self.context.certificates.forget(&self.uid);
        self.context.measures.forget(&self.uid);
        let waiting: Vec<Arc<Mailbox>> = {
            let mut pods = self.context.pods.lock();
            pods.remove(&self.uid);
            pods.values().cloned().collect()
        };
        // There is room again for those who wait for it.
        for mailbox in waiting {
            mailbox.room_was_made();
        }
        self.context.static_pods.leave(&self.uid);
    }
}

/// More turns than these without a rest are a bug; then a pause keeps it from eating the machine.
const MANY_TURNS: u32 = 100;
const UNSETTLED_PAUSE: Duration = Duration::from_millis(500);
