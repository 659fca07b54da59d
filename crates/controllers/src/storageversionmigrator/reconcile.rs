//! What a migration does next.

use std::time::Duration;

use api::storagemigration::storageversionmigration::{FAILED, RUNNING, SUCCEEDED};
use control::{Action, Failure, Plan, Question, Target};
use jiff::SignedDuration;
use k8s_openapi::api::storagemigration::v1::StorageVersionMigration;
use machinery::conditions;

use super::observe::{self, Observed, Stored};
use super::steps;

/// How long a resource may be unknown: a custom one may have come up a moment ago.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);
/// When to look again for what is not there yet.
const AGAIN: Duration = Duration::from_secs(5);
/// What can be done with a resource that can be migrated.
const VERBS: [&str; 3] = ["update", "patch", "list"];

fn is(root: &StorageVersionMigration, kind: &str) -> bool {
    let all = root.status.as_ref().and_then(|s| s.conditions.as_deref());
    conditions::find(all.unwrap_or_default(), kind).is_some_and(|c| c.status == "True")
}

fn is_over(root: &StorageVersionMigration) -> bool {
    is(root, SUCCEEDED) || is(root, FAILED)
}

pub(super) fn reconcile(o: &Observed) -> Plan {
    match (is(&o.root, RUNNING), is_over(&o.root)) {
        (false, true) => Plan::idle("it is over"),
        (true, true) => finish(o),
        (false, false) => begin(o),
        (true, false) if observe::began_at(&o.root).is_empty() => note_version(o),
        (true, false) => migrate(o),
    }
}

/// One action after the other: none is taken when the one before it failed.
fn act(actions: Vec<Action>, because: impl Into<String>) -> Plan {
    Plan {
        actions,
        because: because.into(),
        ..Plan::default()
    }
}

fn wait(after: Duration, because: &str) -> Plan {
    Plan {
        requeue_after: Some(after),
        ..Plan::idle(because)
    }
}

fn fail(o: &Observed, message: String) -> Plan {
    let because = format!("it fails: {message}");
    act(vec![steps::failed(o, message)], because)
}

fn is_young(o: &Observed) -> bool {
    let created = o.root.metadata.creation_timestamp.as_ref();
    created.is_some_and(|created| o.now.duration_since(created.0) < PATIENCE)
}

/// What has to be asked about the definition before anything is said in it.
fn question(o: &Observed) -> Option<Plan> {
    let (target, answer) = o.definition.as_ref()?;
    if answer.is_some() {
        return None;
    }
    let question = Question::Get(target.clone());
    Some(act(
        vec![Action::Confirm(question)],
        "asking for the definition of its resource",
    ))
}

fn begin(o: &Observed) -> Plan {
    if o.rivals.iter().any(|rival| is(rival, RUNNING)) {
        return Plan::idle("another migration of the resource is running");
    }
    let order = |one: &StorageVersionMigration| {
        let created = one.metadata.creation_timestamp.as_ref().map(|t| t.0);
        (created, one.metadata.name.clone())
    };
    let waiting = o.rivals.iter().filter(|rival| !is_over(rival));
    if waiting
        .into_iter()
        .any(|rival| order(rival) < order(&o.root))
    {
        return Plan::idle("another migration of the resource comes first");
    }
    if let Some(plan) = question(o) {
        return plan;
    }
    let mut actions: Vec<Action> = steps::definition_migrates(o).into_iter().collect();
    actions.push(steps::running(o));
    act(actions, "it begins")
}

fn finish(o: &Observed) -> Plan {
    if let Some(plan) = question(o) {
        return plan;
    }
    let succeeded = is(&o.root, SUCCEEDED);
    let mut actions: Vec<Action> = steps::definition_migrated(o, succeeded)
        .into_iter()
        .collect();
    actions.push(steps::no_longer_running(o));
    act(actions, "it has ended")
}

fn note_version(o: &Observed) -> Plan {
    let Some(found) = &o.resource else {
        return match is_young(o) {
            true => wait(AGAIN, "its resource is not served yet"),
            false => fail(o, "resource does not exist in discovery".to_owned()),
        };
    };
    if !VERBS.iter().all(|verb| found.can(verb)) {
        let resource = &found.resource;
        let shown = format!(
            "{}/{}, Resource={}",
            resource.group, resource.version, resource.plural
        );
        let verbs = VERBS.join(" ");
        let why = format!("resource {shown:?} does not support discovery operations: [{verbs}]");
        return fail(o, why);
    }
    match &o.latest {
        Some(version) => act(
            vec![steps::began(o, version)],
            "the store is at this version",
        ),
        None => act(
            vec![Action::Confirm(Question::Latest(found.resource.clone()))],
            "asking for the version of the store",
        ),
    }
}

fn migrate(o: &Observed) -> Plan {
    let unhandled = |why: &str| format!("migration encountered unhandled error: {why}");
    let Some(found) = &o.resource else {
        return match is_young(o) {
            true => wait(AGAIN, "its resource is not served yet"),
            false => fail(o, unhandled("unable to obtain GVR from discovery")),
        };
    };
    if let Some(failure) = &o.failure {
        let (stored, why) = (&o.cached, &failure.message);
        if !may_pass(failure) {
            let (left, total) = (stored.old.len(), stored.total);
            let why = unhandled(why);
            let message = format!("{left}/{total} not yet migrated. {why}");
            let action = steps::failed_midway(o, stored, message);
            return act(vec![action], "an object cannot be written");
        }
        if let Some(action) = steps::still_running(o, stored, why) {
            return act(vec![action], "an object could not be written");
        }
    }
    let Some(stored) = &o.listed else {
        let question = Question::All(found.resource.clone());
        return act(vec![Action::Confirm(question)], "asking for all objects");
    };
    let touch = |(target, version): &(Target, String)| Action::Touch {
        target: target.clone(),
        resource_version: version.clone(),
    };
    let mut actions: Vec<Action> = stored.old.iter().map(touch).collect();
    actions.push(steps::succeeded(o, stored));
    let because = format!("{} objects are written anew", stored.old.len());
    act(actions, because)
}

/// Whether the same may go well another time.
fn may_pass(failure: &Failure) -> bool {
    matches!(failure.code, 0 | 429 | 503 | 504)
        || matches!(
            failure.reason.as_str(),
            "InternalError" | "ServerTimeout" | "Timeout"
        )
}

/// How the message of a running migration reads.
pub(super) fn running_message(stored: Option<&Stored>, error: Option<&str>) -> String {
    let mut message = "The migration is running".to_owned();
    if let Some(stored) = stored.filter(|stored| stored.total > 0) {
        let (left, total) = (stored.old.len(), stored.total);
        message += &match left {
            0 => format!(", {total} objects verified migrated"),
            left => format!(", {left}/{total} objects not yet migrated"),
        };
    }
    if let Some(error) = error {
        message += &format!("; transient error: {error}");
    }
    message
}
