//! A node with one pod: carries plans out at once, so that a test only tells what happens.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use crate::memory::{Failure, Volumes};
use crate::resize::Limits;
use crate::view::{Container, NodeFacts, Sandbox, State};
use crate::{Action, Memory, Plan, PodView, next, pod, resources};

pub(super) struct World {
    pub(super) pod: Pod,
    pub(super) now: Timestamp,
    pub(super) memory: Memory,
    pub(super) sandboxes: Vec<Sandbox>,
    pub(super) containers: Vec<Container>,
    pub(super) status: PodStatus,
    pub(super) removed: bool,
    /// Containers whose start is to fail with that reason.
    pub(super) broken: Vec<(&'static str, &'static str, &'static str)>,
    node: NodeFacts,
    start: Timestamp,
    ids: u32,
}

impl World {
    pub(super) fn new(spec: &str) -> World {
        let text = format!(
            "metadata: {{name: web, namespace: shop, uid: u1, generation: 1}}\nspec:\n{}",
            spec.lines().map(|l| format!("  {l}\n")).collect::<String>()
        );
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        World {
            pod: serde_saphyr::from_str(&text).unwrap(),
            now: start,
            memory: Memory {
                since: Some(start),
                ..Memory::default()
            },
            sandboxes: Vec::new(),
            containers: Vec::new(),
            status: PodStatus::default(),
            removed: false,
            broken: Vec::new(),
            node: NodeFacts {
                ips: vec!["10.0.0.1".into()],
                runtime_name: "oxikube".into(),
            },
            start,
            ids: 0,
        }
    }

    pub(super) fn decide(&self) -> Plan {
        next(&PodView {
            pod: &self.pod,
            now: self.now,
            node: &self.node,
            sandboxes: &self.sandboxes,
            containers: &self.containers,
            memory: &self.memory,
            last_status: &self.status,
            removed: self.removed,
        })
    }

    /// Decides and carries out until nothing is left to do now; tells what was done.
    pub(super) fn settle(&mut self) -> String {
        let mut told = String::new();
        for _ in 0..50 {
            let plan = self.decide();
            self.status = plan.status.clone();
            let actions = plan.actions;
            let finished = actions == [Action::Finished];
            if finished {
                told.push_str("finished\n");
            }
            if actions.is_empty() || finished {
                told.push_str(&self.summary(plan.wait_until));
                return told;
            }
            for action in actions {
                told.push_str(&format!("{}\n", line(&action)));
                self.memory.begin(&action, self.now);
                self.carry_out(action);
            }
        }
        panic!("does not settle:\n{told}");
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::MountVolumes => self.memory.volumes = Volumes::Mounted,
            Action::UnmountVolumes => self.memory.volumes = Volumes::Gone,
            Action::CreateSandbox { attempt } => {
                self.memory.creating_sandbox = false;
                if let Some((_, _, message)) = self.broken.iter().find(|b| b.0 == "sandbox") {
                    let previous = self.memory.sandbox_failure.take();
                    let message = (*message).to_owned();
                    let failure = Failure::again(previous.as_ref(), message, self.now);
                    self.memory.sandbox_failure = Some(failure);
                    return;
                }
                let sandbox = Sandbox {
                    id: format!("s{attempt}"),
                    attempt,
                    ready: true,
                    host_network: pod::is_host_network(&self.pod),
                    ips: vec!["10.1.0.7".into()],
                    created_at: self.now,
                };
                self.sandboxes.insert(0, sandbox);
            }
            Action::StopSandbox { id } => {
                self.memory.stopping_sandboxes.remove(&id);
                for s in self.sandboxes.iter_mut().filter(|s| s.id == id) {
                    s.ready = false;
                }
                self.memory.stopped_sandboxes.insert(id);
            }
            Action::RemoveSandbox { id } => {
                self.sandboxes.retain(|s| s.id != id);
                self.containers.retain(|c| c.sandbox_id != id);
            }
            Action::RemoveContainer { id } => self.containers.retain(|c| c.id != id),
            Action::Resize { containers, settle } => {
                for (id, resources) in containers {
                    let container = self.containers.iter_mut().find(|c| c.id == id);
                    container.unwrap().limits = Some(Limits::of(&resources));
                }
                self.memory.resized(Ok(()), settle, self.now);
            }
            Action::StartContainer(start) => {
                let broken = self.broken.iter().find(|b| b.0 == start.name);
                if let Some((_, reason, message)) = broken {
                    let message = (*message).to_owned();
                    self.memory.start_failed(reason, message, self.now);
                    return;
                }
                self.ids += 1;
                let spec = pod::find_container(&self.pod, &start.name).unwrap();
                let container = Container {
                    id: format!("c{}", self.ids),
                    name: start.name,
                    sandbox_id: start.sandbox_id,
                    restart_count: start.attempt,
                    state: State::Running,
                    created_at: self.now,
                    started_at: Some(self.now),
                    finished_at: None,
                    exit_code: 0,
                    reason: String::new(),
                    message: String::new(),
                    image: spec.image.clone().unwrap_or_default(),
                    image_ref: "sha256:1".into(),
                    hash: Some(pod::container_hash(&spec)),
                    user: None,
                    limits: Some(Limits::of(&resources::of_container(&self.pod, &spec, 1))),
                };
                self.containers.insert(0, container);
                self.memory.started();
            }
            Action::PublishFinal => self.memory.final_status_published = true,
            _ => {}
        }
    }

    pub(super) fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    pub(super) fn exit(&mut self, name: &str, code: i32) {
        let now = self.now;
        let mut all = self.containers.iter_mut();
        let container = all
            .find(|c| c.name == name && c.state == State::Running)
            .unwrap();
        container.state = State::Exited;
        container.exit_code = code;
        container.finished_at = Some(now);
        container.reason = if code == 0 { "Completed" } else { "Error" }.into();
    }

    pub(super) fn hook_done(&mut self, name: &str) {
        let mut all = self.memory.kills.values_mut();
        all.find(|k| k.kill.name == name).unwrap().hook_running = false;
    }

    pub(super) fn probe(&mut self, name: &str, kind: crate::probe::Kind, success: bool) {
        let id = self
            .containers
            .iter()
            .find(|c| c.name == name)
            .unwrap()
            .id
            .clone();
        let spec = pod::find_container(&self.pod, name).unwrap();
        let state = self.memory.probes.entry((id, kind)).or_default();
        state.running = false;
        state.observe(kind, kind.of(&spec).unwrap(), success);
    }

    pub(super) fn delete(&mut self, grace: i64) {
        self.pod.metadata.deletion_timestamp = Some(pod::api_time(pod::after(self.now, grace)));
        self.pod.metadata.deletion_grace_period_seconds = Some(grace);
    }

    fn summary(&self, wait: Option<Timestamp>) -> String {
        let status = &self.status;
        let phase = status.phase.as_deref().unwrap_or("-");
        let mut out = format!("= {phase}");
        if let Some(reason) = &status.reason {
            out.push_str(&format!(" {reason}"));
        }
        for c in status
            .conditions
            .iter()
            .flatten()
            .filter(|c| c.status != "True")
        {
            let (reason, message) = (&c.reason, &c.message);
            out.push_str(&format!("\n  !{}", c.type_));
            for text in [reason, message].into_iter().flatten() {
                out.push_str(&format!(" {text}"));
            }
        }
        let lists = [&status.init_container_statuses, &status.container_statuses];
        for one in lists.into_iter().flatten().flatten() {
            out.push_str(&format!("\n  {}", container_line(one)));
        }
        if let Some(wait) = wait {
            let seconds = wait.duration_since(self.now).as_secs();
            out.push_str(&format!("\n  look again in {seconds}s"));
        }
        let age = self.now.duration_since(self.start).as_secs();
        format!("{out}  [at {age}s]\n")
    }
}

fn container_line(s: &ContainerStatus) -> String {
    let state = s.state.clone().unwrap_or_default();
    let text = if let Some(w) = state.waiting {
        let message = w.message.map(|m| format!(" ({m})")).unwrap_or_default();
        format!("waiting {}{message}", w.reason.unwrap_or_default())
    } else if let Some(t) = state.terminated {
        format!(
            "terminated {} {}",
            t.exit_code,
            t.reason.unwrap_or_default()
        )
    } else if state.running.is_some() {
        "running".to_owned()
    } else {
        "-".to_owned()
    };
    let last = s.last_state.as_ref().and_then(|l| l.terminated.as_ref());
    let last = last
        .map(|t| format!(", last {}", t.exit_code))
        .unwrap_or_default();
    let flag = |on: bool, word: &'static str| if on { word } else { "" };
    format!(
        "{}: {text}{last}, restarts {}{}{}",
        s.name,
        s.restart_count,
        flag(s.started == Some(true), ", started"),
        flag(s.ready, ", ready"),
    )
}

fn line(action: &Action) -> String {
    match action {
        Action::StartContainer(s) => format!("start {} #{}", s.name, s.attempt),
        Action::Kill(k) => format!(
            "kill {}: {} [grace {}{}]",
            k.name,
            k.message,
            k.grace_seconds,
            if k.pre_stop { ", hook" } else { "" }
        ),
        Action::StopContainer {
            name,
            timeout_seconds,
            ..
        } => format!("stop {name} within {timeout_seconds}s"),
        Action::Event(e) => event(e),
        Action::TellBackoff { events, .. } => {
            let lines: Vec<String> = events.iter().map(event).collect();
            lines.join("\n")
        }
        Action::Probe { kind, name, .. } => format!("probe {kind:?} of {name}"),
        other => format!("{other:?}"),
    }
}

fn event(e: &crate::Event) -> String {
    let kind = if e.warning { "warning" } else { "event" };
    format!("{kind} {}: {}", e.reason, e.message)
}
