//! The writes of a migration: its own status, and that of the definition of a custom kind.

use api::storagemigration::storageversionmigration::{FAILED, RUNNING, SUCCEEDED};
use control::plan::to_value;
use control::{Action, Answer, Patch, Target};
use k8s_openapi::api::storagemigration::v1::{
    StorageVersionMigration, StorageVersionMigrationStatus,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use machinery::conditions;
use serde_json::json;

use super::observe::{Observed, Stored};
use super::reconcile::running_message;

/// The condition of a definition whose objects are being migrated.
const STORAGE_MIGRATING: &str = "StorageMigrating";
const RUNNING_REASON: &str = "MigrationRunning";

fn condition(o: &Observed, kind: &str, reason: &str, message: impl Into<String>) -> Condition {
    Condition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: reason.to_owned(),
        message: message.into(),
        last_transition_time: Time(o.now),
        observed_generation: None,
    }
}

/// The migration with another status, written as an action, so that it is not written when what comes before it fails.
fn write(o: &Observed, change: impl FnOnce(&mut StorageVersionMigrationStatus)) -> Action {
    let mut new = StorageVersionMigration::clone(&o.root);
    change(new.status.get_or_insert_default());
    Action::Update {
        target: Target::of(&new),
        object: to_value(&new),
        subresource: Some("status"),
        report: None,
    }
}

fn say(o: &Observed, all: impl IntoIterator<Item = Condition>) -> Action {
    write(o, |status| {
        for one in all {
            conditions::set(status.conditions.get_or_insert_default(), one);
        }
    })
}

pub(super) fn running(o: &Observed) -> Action {
    let message = running_message(None, None);
    say(o, [condition(o, RUNNING, RUNNING_REASON, message)])
}

pub(super) fn no_longer_running(o: &Observed) -> Action {
    let ended = Condition {
        status: "False".to_owned(),
        observed_generation: o.root.metadata.generation,
        ..condition(o, RUNNING, "MigrationCompleted", "Migration completed")
    };
    say(o, [ended])
}

pub(super) fn began(o: &Observed, version: &str) -> Action {
    write(o, |status| {
        status.resource_version = Some(version.to_owned())
    })
}

pub(super) fn failed(o: &Observed, message: String) -> Action {
    say(
        o,
        [condition(
            o,
            FAILED,
            "StorageVersionMigrationFailed",
            message,
        )],
    )
}

pub(super) fn failed_midway(o: &Observed, stored: &Stored, message: String) -> Action {
    let running = running_message(Some(stored), None);
    say(
        o,
        [
            condition(o, RUNNING, RUNNING_REASON, running),
            condition(o, FAILED, "StorageVersionMigrationFailed", message),
        ],
    )
}

/// Says what stands in the way, unless that has been said.
pub(super) fn still_running(o: &Observed, stored: &Stored, error: &str) -> Option<Action> {
    let message = running_message(Some(stored), Some(error));
    let all = o.root.status.as_ref().and_then(|s| s.conditions.as_deref());
    let there = conditions::find(all.unwrap_or_default(), RUNNING);
    let said = there.is_some_and(|there| there.message == message);
    (!said).then(|| say(o, [condition(o, RUNNING, RUNNING_REASON, message)]))
}

pub(super) fn succeeded(o: &Observed, stored: &Stored) -> Action {
    let done = Stored {
        total: stored.total,
        old: Vec::new(),
    };
    let running = running_message(Some(&done), None);
    say(
        o,
        [
            condition(o, RUNNING, RUNNING_REASON, running),
            condition(
                o,
                SUCCEEDED,
                "StorageVersionMigrationSucceeded",
                "Migration completed",
            ),
        ],
    )
}

/// The definition of the resource, if it has one.
fn definition(o: &Observed) -> Option<(&Target, CustomResourceDefinition)> {
    match o.definition.as_ref()? {
        (target, Some(Answer::Present(value))) => {
            let definition = serde_json::from_value(value.clone()).ok()?;
            Some((target, definition))
        }
        _ => None,
    }
}

pub(super) fn definition_migrates(o: &Observed) -> Option<Action> {
    let (target, definition) = definition(o)?;
    let name = o.root.metadata.name.as_deref().unwrap_or_default();
    let message = format!("Migration {name} is running");
    Some(say_in_definition(
        o,
        target,
        &definition,
        ("True", RUNNING_REASON, message),
        None,
    ))
}

/// Afterwards nothing is stored in another version than the storage version, unless the definition was changed meanwhile.
pub(super) fn definition_migrated(o: &Observed, succeeded: bool) -> Option<Action> {
    let (target, definition) = definition(o)?;
    let status = definition.status.as_ref();
    let all = status.and_then(|s| s.conditions.as_deref());
    let mut all = all.unwrap_or_default().iter();
    let began = all.find(|c| c.type_ == STORAGE_MIGRATING);
    let unchanged = began.is_some_and(|c| c.observed_generation == definition.metadata.generation);
    let (reason, message) = match (succeeded, unchanged) {
        (true, true) => (
            "MigrationSucceeded",
            "The migration has succeeded and the stored versions have been updated",
        ),
        (true, false) => (
            "MigrationSucceeded",
            "The migration has succeeded but the stored versions have not been updated due to a generation mismatch",
        ),
        (false, _) => ("MigrationFailed", "The migration has failed"),
    };
    let mut versions = definition.spec.versions.iter();
    let stored = versions.find(|v| v.storage && unchanged);
    let stored = stored.map(|version| version.name.clone());
    Some(say_in_definition(
        o,
        target,
        &definition,
        ("False", reason, message.to_owned()),
        stored,
    ))
}

fn say_in_definition(
    o: &Observed,
    target: &Target,
    definition: &CustomResourceDefinition,
    (status, reason, message): (&str, &str, String),
    stored: Option<String>,
) -> Action {
    let there = definition.status.as_ref();
    let mut all = there.and_then(|s| s.conditions.clone()).unwrap_or_default();
    all.retain(|c| c.type_ != STORAGE_MIGRATING);
    all.push(CustomResourceDefinitionCondition {
        type_: STORAGE_MIGRATING.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: Some(Time(o.now)),
        observed_generation: definition.metadata.generation,
    });
    let mut patch = json!({
        "metadata": {"resourceVersion": definition.metadata.resource_version},
        "status": {"conditions": all},
    });
    if let Some(stored) = stored {
        patch["status"]["storedVersions"] = json!([stored]);
    }
    Action::Patch {
        target: target.clone(),
        patch: Patch::Merge(patch),
        subresource: Some("status"),
        report: None,
    }
}
