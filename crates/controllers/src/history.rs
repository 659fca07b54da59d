//! The revisions of a StatefulSet or a DaemonSet: ControllerRevisions that hold its templates.
//!
//! - A template that is like one of before gets that revision again, under a new number: that is a rollback.
//! - Templates are compared as they are with all defaults, so that a default that is new in the API is no new revision.
//! - A name that somebody else has leads to another hash, by way of the collision count in the owner's status.
//!
//! Behaviour: `pkg/controller/history`, `constructHistory` in `pkg/controller/daemon/update.go`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use control::{Action, Answers, Caches, Plan, StatusWrite, Wake};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use machinery::hash::template_hash;
use serde_json::{Value, json};

use crate::ownership::{
    Claimant, controller_reference, controller_uid, keys_of_dependent, orphan_namespace,
    owner_lives, settled_claim,
};
use crate::podcontrol;

/// The label of pods that names their revision.
pub const REVISION_HASH: &str = "controller-revision-hash";

const BY_CONTROLLER: &str = "controller";
const ORPHANS: &str = "orphans";

/// An owner with revisions.
pub trait Versioned: Claimant {
    /// The label of a revision that holds its hash.
    const HASH_LABEL: &'static str;
    /// The present template.
    fn template(&self) -> &PodTemplateSpec;
    /// How often a name was taken.
    fn collisions(&self) -> Option<i32>;
    /// Notes in the status that a name was taken once more.
    fn collide(&mut self);
    /// How many old revisions are kept; a negative number keeps all.
    fn history_limit(&self) -> i32;
}

/// What of the revisions a decision depends on.
#[derive(Clone, Default)]
pub struct Seen {
    /// Those of the owner and the orphans of its namespace.
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// The one that has the name which a new one would get.
    pub namesake: Option<Arc<ControllerRevision>>,
    /// The live answer whether the owner may still adopt.
    pub owner_lives: Option<bool>,
}

/// The revisions once they are as they shall be.
pub struct History {
    /// All of them, the oldest first.
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// The one of the present template.
    pub update: Arc<ControllerRevision>,
}

/// Declares what [`observe`] reads.
pub fn wake<O: Versioned>(on: &mut Wake<'_>) {
    on.on::<ControllerRevision>(keys_of_dependent::<O, ControllerRevision>)
        .index::<ControllerRevision>(BY_CONTROLLER, controller_uid)
        .index::<ControllerRevision>(ORPHANS, orphan_namespace);
}

/// Gathers the revisions of an owner.
pub fn observe<O: Versioned>(caches: &Caches, answers: &Answers, root: &O) -> Seen {
    let store = caches.of::<ControllerRevision>();
    let meta = root.metadata();
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let mut revisions = store.indexed(BY_CONTROLLER, meta.uid.as_deref().unwrap_or_default());
    revisions.extend(store.indexed(ORPHANS, namespace));
    Seen {
        revisions,
        namesake: store.named(namespace, &name(root)),
        owner_lives: owner_lives(root, answers),
    }
}

/// Brings the revisions up to date with the template.
///
/// # Errors
/// The plan that has to be carried out first.
pub fn settle<O: Versioned>(root: &O, seen: &Seen) -> Result<History, Box<Plan>> {
    let first = |because: &str, actions, status| {
        Err(Box::new(Plan {
            actions,
            status,
            because: because.to_owned(),
            ..Plan::default()
        }))
    };
    let mut revisions = settled_claim(root, &seen.revisions, seen.owner_lives, None, "revisions")?;
    revisions.sort_by(|a, b| by_number(a, b));
    let number = |r: &Arc<ControllerRevision>| r.revision.unwrap_or(0);
    let next = revisions.last().map_or(1, |r| number(r).saturating_add(1));
    let wanted = normal(root.template());
    let is_current =
        |r: &Arc<ControllerRevision>| template(r).map(|t| normal(&t)).as_ref() == Some(&wanted);
    let Some(at) = revisions.iter().rposition(is_current) else {
        if seen.namesake.is_some() {
            let because = "the name of the new revision is taken, trying another";
            let mut root = root.clone();
            root.collide();
            return first(because, Vec::new(), Some(StatusWrite::of(&root)));
        }
        let new = Action::create(&revision(root, next), None);
        return first("keeping the new template as a revision", vec![new], None);
    };
    if at + 1 < revisions.len() {
        let mut again = revisions[at].as_ref().clone();
        again.revision = Some(next);
        let again = Action::update(&again, None);
        return first("a revision of before comes back", vec![again], None);
    }
    Ok(History {
        update: Arc::clone(&revisions[at]),
        revisions,
    })
}

fn by_number(a: &ControllerRevision, b: &ControllerRevision) -> Ordering {
    let key = |r: &ControllerRevision| {
        (
            r.revision.unwrap_or(0),
            r.metadata.creation_timestamp.clone(),
            r.metadata.name.clone(),
        )
    };
    key(a).cmp(&key(b))
}

/// The template that a revision holds.
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut value = revision.data.0.pointer("/spec/template")?.clone();
    value.as_object_mut()?.remove("$patch");
    serde_json::from_value(value).ok()
}

/// A template in the one form in which equal ones are equal.
fn normal(template: &PodTemplateSpec) -> Value {
    let mut template = template.clone();
    api::core::pod::defaults::template(&mut template);
    podcontrol::comparable(&template)
}

/// A new revision of the present template.
fn revision<O: Versioned>(root: &O, number: i64) -> ControllerRevision {
    let owner = root.metadata();
    let template = root.template();
    let mut data = json!({ "spec": { "template": template } });
    data["spec"]["template"]["$patch"] = "replace".into();
    let labels = template.metadata.as_ref().and_then(|m| m.labels.clone());
    let mut labels: BTreeMap<String, String> = labels.unwrap_or_default();
    labels.insert(O::HASH_LABEL.to_owned(), hash(root));
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name(root)),
            namespace: owner.namespace.clone(),
            labels: Some(labels),
            annotations: owner.annotations.clone(),
            owner_references: Some(vec![controller_reference(root)]),
            ..ObjectMeta::default()
        },
        data: RawExtension(data),
        revision: Some(number),
    }
}

fn hash<O: Versioned>(root: &O) -> String {
    template_hash(&api::check::json(root.template()), root.collisions())
}

/// The name of a revision of the present template.
fn name<O: Versioned>(root: &O) -> String {
    const PREFIX_MAX: usize = 223;
    let owner = root.metadata().name.as_deref().unwrap_or_default();
    format!(
        "{}-{}",
        owner.get(..PREFIX_MAX).unwrap_or(owner),
        hash(root)
    )
}

/// Deletions of old revisions, the oldest first. `live` ones stay; whether they count is what `counts_live` says.
pub fn truncate(
    history: &History,
    limit: i32,
    live: impl Fn(&ControllerRevision) -> bool,
    counts_live: bool,
) -> Vec<Action> {
    let Ok(limit) = usize::try_from(limit) else {
        return Vec::new();
    };
    let update = history.update.metadata.uid.as_ref();
    let old = history.revisions.iter();
    let old: Vec<_> = old.filter(|r| r.metadata.uid.as_ref() != update).collect();
    let dead: Vec<_> = old.iter().filter(|r| !live(r)).collect();
    let count = if counts_live { old.len() } else { dead.len() };
    let surplus = dead.iter().take(count.saturating_sub(limit));
    surplus.map(|r| Action::delete(r.as_ref(), None)).collect()
}
