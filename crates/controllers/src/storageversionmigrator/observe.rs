//! One migration, its rivals, and what there is of its resource.

use std::sync::Arc;

use control::caches::Discovered;
use control::store::version_of;
use control::{Answer, Caches, Change, Failure, Key, Look, Question, Resource, Target};
use jiff::Timestamp;
use k8s_openapi::api::storagemigration::v1::StorageVersionMigration;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::GroupResource;

/// All that a decision may depend on.
pub struct Observed {
    /// The migration.
    pub root: Arc<StorageVersionMigration>,
    /// The others of the same resource.
    pub rivals: Vec<Arc<StorageVersionMigration>>,
    /// The resource, if the API serves it.
    pub resource: Option<Discovered>,
    /// Where the definition of the resource is, if it can have one, and what the API said about it.
    pub definition: Option<(Target, Option<Answer>)>,
    /// The version of the resource that the API said is the latest.
    pub latest: Option<String>,
    /// What there is of the resource as the cache has it, for counting only: it may lag behind.
    pub cached: Stored,
    /// The same as the API has listed it.
    pub listed: Option<Stored>,
    /// What went wrong when objects were written anew.
    pub failure: Option<Failure>,
    /// What time it is.
    pub now: Timestamp,
}

/// The objects of a resource.
#[derive(Default)]
pub struct Stored {
    /// How many objects there are.
    pub total: usize,
    /// Those that have not been written since that version, each with its own version.
    pub old: Vec<(Target, String)>,
}

/// The resource of a migration.
pub(super) fn wanted(root: &StorageVersionMigration) -> GroupResource {
    let spec = root.spec.as_ref();
    spec.map(|s| s.resource.clone()).unwrap_or_default()
}

/// The version of the store at which a migration began; empty before.
pub(super) fn began_at(root: &StorageVersionMigration) -> &str {
    let status = root.status.as_ref();
    let version = status.and_then(|s| s.resource_version.as_deref());
    version.unwrap_or_default()
}

/// All migrations of the same resource: the end of one is the beginning of the next.
pub(super) fn keys(change: &Change<StorageVersionMigration>, caches: &Caches) -> Vec<Key> {
    let of = wanted(change.latest());
    let mut all = caches.of::<StorageVersionMigration>().all();
    all.retain(|one| wanted(one) == of);
    let mut keys: Vec<Key> = all.iter().map(|one| Key::of(one.as_ref())).collect();
    let own = Key::of(change.latest());
    if !keys.contains(&own) {
        keys.push(own);
    }
    keys
}

pub(super) fn observe(look: &Look<'_>) -> Option<Observed> {
    let all = look.caches.of::<StorageVersionMigration>();
    let root = all.get(look.key)?;
    let of = wanted(&root);
    let is_rival = |one: &Arc<StorageVersionMigration>| {
        wanted(one) == of && one.metadata.name != root.metadata.name
    };
    let rivals = all.all().into_iter().filter(is_rival).collect();
    let catalog = look.caches.catalog();
    let resource = catalog
        .iter()
        .find(|d| d.resource.group == of.group && d.resource.plural == of.resource)
        .cloned();
    let latest = resource.as_ref().and_then(|found| {
        let question = Question::Latest(found.resource.clone());
        match look.answers.get(&question) {
            Some(Answer::Version(version)) => Some(version.clone()),
            _ => None,
        }
    });
    let began = began_at(&root);
    let found = resource.as_ref().filter(|_| !began.is_empty());
    let cached = found.map(|found| cached(look.caches, &found.resource, began));
    let listed = found.and_then(|found| listed(look, &found.resource, began));
    let own = |failure: &&Failure| {
        let resource = resource.as_ref();
        resource.is_some_and(|found| found.resource.same_resource(&failure.resource))
    };
    Some(Observed {
        rivals,
        definition: definition(look, &of),
        latest,
        cached: cached.unwrap_or_default(),
        listed,
        failure: look.failure.filter(own).cloned(),
        resource,
        root,
        now: look.now,
    })
}

fn definition(look: &Look<'_>, of: &GroupResource) -> Option<(Target, Option<Answer>)> {
    if of.group.is_empty() {
        return None;
    }
    let target = Target {
        resource: Resource::of::<CustomResourceDefinition>(),
        key: Key::cluster(format!("{}.{}", of.resource, of.group)),
    };
    let answer = look.answers.get(&Question::Get(target.clone())).cloned();
    Some((target, answer))
}

fn cached(caches: &Caches, resource: &Resource, began: &str) -> Stored {
    let all = caches.meta.of_resource(resource);
    let all = all
        .iter()
        .map(|meta| (meta.target.key.clone(), meta.resource_version.as_str()));
    stored(resource, began, all)
}

fn listed(look: &Look<'_>, resource: &Resource, began: &str) -> Option<Stored> {
    let question = Question::All(resource.clone());
    let Some(Answer::Items(items)) = look.answers.get(&question) else {
        return None;
    };
    let all = items.iter().map(|item| {
        let text = |key: &str| item["metadata"][key].as_str().unwrap_or_default();
        (
            Key::new(text("namespace"), text("name")),
            text("resourceVersion"),
        )
    });
    Some(stored(resource, began, all))
}

fn stored<'a>(
    resource: &Resource,
    began: &str,
    all: impl Iterator<Item = (Key, &'a str)>,
) -> Stored {
    let began = version_of(Some(began));
    let mut stored = Stored::default();
    for (key, version) in all {
        stored.total += 1;
        if version_of(Some(version)) <= began {
            let target = Target {
                resource: resource.clone(),
                key,
            };
            stored.old.push((target, version.to_owned()));
        }
    }
    stored
}
