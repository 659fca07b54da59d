//! The decision: one look at a pod, everything that is to be done about it now.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;

use crate::backoff::Backoff;
use crate::containers::{self, Decision};
use crate::memory::{Killing, Volumes};
use crate::plan::{Action, Event, Plan, Start};
use crate::probe::{Kind, ProbeState};
use crate::status::{self, Ending};
use crate::view::{PodView, State};
use crate::{containers::ToStart, pod, resize};

/// Seconds that every container gets between stop signal and SIGKILL.
const MIN_STOP_SECONDS: i64 = 2;
/// Seconds after a failed pull until we say that we wait.
const TELL_BACKOFF_SECONDS: i64 = 2;

/// Decides what the pod needs now.
pub fn next(view: &PodView<'_>) -> Plan {
    let mut plan = Plan::default();
    let ending = status::ending(view);
    let decision = match ending {
        Ending::None => containers::decide(view),
        _ => Decision::default(),
    };
    let completed = decision.kill_pod && decision.create_sandbox.is_none();
    if ending == Ending::None && !completed {
        run(view, decision, &mut plan);
        plan.status = status::status(view, false);
    } else {
        let done = terminate(view, &ending, &mut plan);
        plan.status = status::status(view, done);
    }
    collect_garbage(view, &mut plan);
    plan
}

impl Plan {
    pub(crate) fn wait(&mut self, until: Timestamp, because: &str) {
        self.wait_until = Some(self.wait_until.map_or(until, |w| w.min(until)));
        self.say(because);
    }

    fn say(&mut self, because: &str) {
        if !self.because.is_empty() {
            self.because.push_str("; ");
        }
        self.because.push_str(because);
    }
}

fn run(view: &PodView<'_>, decision: Decision, plan: &mut Plan) {
    if let Some(deadline) = status::deadline(view) {
        plan.wait(deadline, "active deadline");
    }
    advance_kills(view, decision.kill, false, plan);
    resize::advance(view, plan);
    // What runs is probed, whatever it is that new containers have to wait for.
    probe(view, false, plan);
    if !volumes_ready(view, plan) {
        return;
    }
    if let Some(attempt) = decision.create_sandbox {
        create_sandbox(view, attempt, plan);
        return;
    }
    start_first(view, &decision.start, plan);
}

fn volumes_ready(view: &PodView<'_>, plan: &mut Plan) -> bool {
    match &view.memory.volumes {
        Volumes::Mounted => return true,
        Volumes::Absent => plan.actions.push(Action::MountVolumes),
        Volumes::Failed(failure) if failure.retry_at <= view.now => {
            plan.actions.push(Action::MountVolumes);
        }
        Volumes::Failed(failure) => plan.wait(failure.retry_at, "volumes failed"),
        Volumes::Mounting | Volumes::Unmounting | Volumes::Gone => plan.say("volumes"),
    }
    false
}

fn create_sandbox(view: &PodView<'_>, attempt: u32, plan: &mut Plan) {
    let memory = view.memory;
    let alive = containers::kill_all(view);
    if !alive.is_empty() {
        advance_kills(view, alive, false, plan);
        plan.say("containers of the old sandbox are stopping");
        return;
    }
    let mut busy = memory.creating_sandbox || memory.starting.is_some();
    for old in view.sandboxes {
        if !memory.stopped_sandboxes.contains(&old.id) {
            busy = true;
            if !memory.stopping_sandboxes.contains(&old.id) {
                plan.actions
                    .push(Action::StopSandbox { id: old.id.clone() });
            }
        }
    }
    if busy {
        plan.say("sandbox");
        return;
    }
    if let Some(failure) = &memory.sandbox_failure {
        if failure.retry_at > view.now {
            plan.wait(failure.retry_at, "sandbox failed");
            return;
        }
    } else if !view.sandboxes.is_empty() {
        plan.actions.push(Action::Event(Event::normal(
            "SandboxChanged",
            "Pod sandbox changed, it will be killed and re-created.",
        )));
    }
    plan.actions.push(Action::CreateSandbox { attempt });
}

/// Starts the first container of the list that does not have to wait. One at a time.
fn start_first(view: &PodView<'_>, list: &[ToStart], plan: &mut Plan) {
    if let Some(starting) = &view.memory.starting {
        plan.say(&format!("starting {}", starting.name));
        return;
    }
    if view.memory.resizing {
        plan.say("resources are being changed");
        return;
    }
    let Some(sandbox) = view.sandbox() else {
        return;
    };
    for item in list {
        if !must_wait(view, &item.name, plan) {
            plan.actions.push(Action::StartContainer(Start {
                name: item.name.clone(),
                sandbox_id: sandbox.id.clone(),
                attempt: attempt(view, &item.name),
                backoff: restart_backoff(view, &item.name),
            }));
            return;
        }
        if item.blocks {
            return;
        }
    }
}

/// Whether a container has to wait for its back-off; says so, once, to the user.
fn must_wait(view: &PodView<'_>, name: &str, plan: &mut Plan) -> bool {
    if let Some((until, _)) = status::crash_loop(view, name) {
        plan.wait(until, &format!("back-off of {name}"));
        if view.memory.told_backoff.get(name) != Some(&until) {
            let pod = pod::describe(view.pod);
            let message = format!("Back-off restarting failed container {name} in pod {pod}");
            plan.actions.push(Action::TellBackoff {
                name: name.to_owned(),
                until,
                image: false,
                events: vec![Event::warning("BackOff", message).about(view.pod, name)],
            });
        }
        return true;
    }
    let Some(failure) = view.memory.start_failures.get(name) else {
        return false;
    };
    if failure.retry_at <= view.now {
        return false;
    }
    plan.wait(failure.retry_at, &format!("start of {name} failed"));
    if failure.pull.is_some() && !failure.told {
        let tell_at = pod::after(failure.at, TELL_BACKOFF_SECONDS);
        if view.now < tell_at {
            plan.wait(tell_at, "");
        } else {
            let image = image_of(view, name);
            let waiting = format!("Back-off pulling image \"{image}\"");
            plan.actions.push(Action::TellBackoff {
                name: name.to_owned(),
                until: failure.retry_at,
                image: true,
                events: vec![
                    Event::normal("BackOff", waiting).about(view.pod, name),
                    Event::warning("Failed", "Error: ImagePullBackOff").about(view.pod, name),
                ],
            });
        }
    }
    true
}

fn image_of(view: &PodView<'_>, name: &str) -> String {
    let container = pod::find_container(view.pod, name);
    container.and_then(|c| c.image).unwrap_or_default()
}

/// The restart count of the next container of that name.
fn attempt(view: &PodView<'_>, name: &str) -> u32 {
    let seen = view.containers.iter().filter(|c| c.name == name);
    if let Some(last) = seen.map(|c| c.restart_count).max() {
        return last + 1;
    }
    let old = status::find_old(view.last_status, name);
    match old {
        Some(old) if old.container_id.is_some() => {
            u32::try_from(old.restart_count).unwrap_or(0) + 1
        }
        _ => 0,
    }
}

/// The back-off that starts with the restart of a container that ended.
fn restart_backoff(view: &PodView<'_>, name: &str) -> Option<Backoff> {
    let last = view.latest(name)?;
    if last.state != State::Exited {
        return None;
    }
    let finished = last.finished_at?;
    let previous = view.memory.backoffs.get(name).copied();
    Some(Backoff::after_failure(previous, finished))
}

/// Begins new kills and goes on with those under way.
fn advance_kills(
    view: &PodView<'_>,
    kills: Vec<crate::plan::Kill>,
    in_turn: bool,
    plan: &mut Plan,
) {
    for kill in kills {
        if !view.memory.kills.contains_key(&kill.id) {
            plan.actions.push(Action::Kill(kill));
        }
    }
    for (id, killing) in &view.memory.kills {
        let runs = view
            .containers
            .iter()
            .any(|c| c.id == *id && c.state == State::Running);
        if runs {
            advance_kill(view, id, killing, in_turn, plan);
        }
    }
}

fn advance_kill(view: &PodView<'_>, id: &str, killing: &Killing, in_turn: bool, plan: &mut Plan) {
    let asked = view.pod.metadata.deletion_grace_period_seconds;
    let grace = match asked {
        Some(asked) if in_turn => asked.min(killing.kill.grace_seconds),
        _ => killing.kill.grace_seconds,
    };
    let deadline = pod::after(killing.since, grace);
    let soonest = pod::after(view.now, MIN_STOP_SECONDS);
    let stop = || Action::StopContainer {
        id: id.to_owned(),
        name: killing.kill.name.clone(),
        timeout_seconds: pod::seconds_between(view.now, deadline.max(soonest)),
    };
    // Timeouts are whole seconds: less than one of them is no shorter grace.
    let too_late = pod::after(deadline.max(soonest), 1);
    match killing.stopping_until {
        Some(until) if until > too_late => plan.actions.push(stop()),
        Some(_) => plan.say(&format!("{} is stopping", killing.kill.name)),
        None => {
            let waits_for_hook = killing.hook_running;
            let waits_for_turn = in_turn && !containers::is_turn(view, &killing.kill.name);
            if (waits_for_hook || waits_for_turn) && view.now < deadline {
                plan.wait(deadline, &format!("{} stops later", killing.kill.name));
            } else {
                plan.actions.push(stop());
            }
        }
    }
}

/// Ends a pod; true when all of it has ended.
fn terminate(view: &PodView<'_>, ending: &Ending, plan: &mut Plan) -> bool {
    let memory = view.memory;
    if let (Ending::Deadline, false) = (ending, status::is_failed(view.last_status)) {
        let message = status::DEADLINE_MESSAGE;
        plan.actions
            .push(Action::Event(Event::normal("DeadlineExceeded", message)));
    }
    let alive = containers::kill_all(view);
    let anything_alive = !alive.is_empty();
    advance_kills(view, alive, true, plan);
    if anything_alive || memory.creating_sandbox || memory.starting.is_some() {
        plan.say("terminating");
        probe(view, true, plan);
        return false;
    }
    let mut stopping = false;
    for sandbox in view.sandboxes {
        if sandbox.ready && !memory.stopped_sandboxes.contains(&sandbox.id) {
            stopping = true;
            if !memory.stopping_sandboxes.contains(&sandbox.id) {
                let id = sandbox.id.clone();
                plan.actions.push(Action::StopSandbox { id });
            }
        }
    }
    if stopping {
        plan.say("sandbox is stopping");
        return false;
    }
    match memory.volumes {
        Volumes::Gone => finish(view, plan),
        Volumes::Mounting | Volumes::Unmounting => plan.say("volumes"),
        _ => plan.actions.push(Action::UnmountVolumes),
    }
    true
}

fn finish(view: &PodView<'_>, plan: &mut Plan) {
    let memory = view.memory;
    if view.removed {
        for sandbox in view.sandboxes {
            if !memory.removing.contains(&sandbox.id) {
                let id = sandbox.id.clone();
                plan.actions.push(Action::RemoveSandbox { id });
            }
        }
        if view.sandboxes.is_empty() {
            plan.actions.push(Action::Finished);
        }
    } else if !memory.final_status_published {
        match memory.publishing_final {
            true => plan.say("the last status is being published"),
            false => plan.actions.push(Action::PublishFinal),
        }
    } else if pod::is_deleting(view.pod) && !memory.deleting {
        plan.actions.push(Action::DeletePod);
    } else {
        plan.say("ended");
    }
}

/// Probes what is due. In a terminating pod only readiness is of interest.
fn probe(view: &PodView<'_>, terminating: bool, plan: &mut Plan) {
    for container in pod::lasting_containers(view.pod) {
        let Some(observed) = view.latest(&container.name) else {
            continue;
        };
        let killed = view.memory.kills.contains_key(&observed.id);
        if observed.state != State::Running || (killed && !terminating) {
            continue;
        }
        let Some(started_at) = observed.started_at else {
            continue;
        };
        let started = status::is_started(view, container, observed);
        for kind in Kind::ALL {
            let wanted = match kind {
                Kind::Startup => !started && !terminating,
                Kind::Liveness => started && !terminating,
                Kind::Readiness => started,
            };
            if wanted {
                probe_if_due(view, container, (kind, &observed.id, started_at), plan);
            }
        }
    }
}

fn probe_if_due(
    view: &PodView<'_>,
    container: &Container,
    (kind, id, started_at): (Kind, &str, Timestamp),
    plan: &mut Plan,
) {
    let Some(spec) = kind.of(container) else {
        return;
    };
    let fresh = ProbeState::default();
    let known = view.memory.probes.get(&(id.to_owned(), kind));
    let Some(due) = known.unwrap_or(&fresh).due(spec, started_at) else {
        return;
    };
    if due > view.now {
        plan.wait(due, "");
        return;
    }
    plan.actions.push(Action::Probe {
        kind,
        name: container.name.clone(),
        id: id.to_owned(),
    });
}

/// Of every container one dead instance is kept, for its log; of old sandboxes those that still hold one.
fn collect_garbage(view: &PodView<'_>, plan: &mut Plan) {
    let memory = view.memory;
    let mut names: Vec<&str> = Vec::new();
    let mut kept_in: Vec<&str> = Vec::new();
    for container in view.containers {
        let dead = container.state == State::Exited;
        let extra = dead && names.contains(&container.name.as_str());
        if dead {
            names.push(&container.name);
        }
        if !extra {
            kept_in.push(&container.sandbox_id);
        } else if !memory.removing.contains(&container.id) {
            let id = container.id.clone();
            plan.actions.push(Action::RemoveContainer { id });
        }
    }
    for old in containers::old_sandboxes(view) {
        let unused = !old.ready && !kept_in.contains(&old.id.as_str());
        if unused && !memory.removing.contains(&old.id) && !view.removed {
            let id = old.id.clone();
            plan.actions.push(Action::RemoveSandbox { id });
        }
    }
}
