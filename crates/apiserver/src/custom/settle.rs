//! Keeps the definitions right: accepts names, establishes kinds, and empties what is being deleted.
//!
//! As upstream this belongs to the server itself: whoever brings other controllers still has custom kinds.
//! Behaviour: `.../controller/{status,establish,finalizer}`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use api::apiextensions::customresourcedefinition::CLEANUP;
use api::apiextensions::customresourcedefinition::naming::{self, Condition, is_true};
use http::Method;
use http_body_util::{BodyExt, Empty};
use machinery::{ApiError, Object};
use parking_lot::Mutex;
use serde_json::{Value, json};
use store::Revision;

use super::{GROUP, RESOURCE};
use crate::bootstrap::Own;
use crate::cache::{Cache, Selection};
use crate::call::Call;
use crate::resource::{Resource, Storage};
use crate::server::Server;
use crate::write::collection::delete_collection;

/// How long to wait before objects that could not be deleted are deleted again; the longer, the oftener it failed.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(120);
const PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// What is kept of a definition between two looks at it.
struct Seen {
    revision: Revision,
    /// The definition with its names and nothing else.
    names: Object,
}

/// Settles every definition that changes, until the server ends.
pub(crate) async fn keep(server: Weak<Server>) {
    let Some(strong) = server.upgrade() else {
        return;
    };
    let shutdown = strong.shutdown_token();
    let Some(storage) = strong.resources().storage(GROUP, RESOURCE) else {
        return;
    };
    let cache = storage.cache.clone();
    drop(strong);
    let mut changed = cache.subscribe();
    let mut seen = BTreeMap::new();
    let emptied = Arc::new(Mutex::new(BTreeSet::new()));
    loop {
        changed.borrow_and_update();
        let Some(strong) = server.upgrade() else {
            return;
        };
        settle_changed(&strong, &cache, &mut seen, &emptied).await;
        drop(strong);
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
    }
}

async fn settle_changed(
    server: &Arc<Server>,
    cache: &Arc<Cache>,
    seen: &mut BTreeMap<Box<str>, Seen>,
    emptied: &Arc<Mutex<BTreeSet<String>>>,
) {
    let snapshot = cache.snapshot(&Selection::namespace(""), 0);
    let before = seen.len();
    seen.retain(|name, _| snapshot.entries.iter().any(|e| e.name() == &**name));
    // Names that were given back may be what others wait for.
    let mut freed = seen.len() < before;
    let mut changed = Vec::new();
    for entry in &snapshot.entries {
        let known = seen.get(entry.name());
        if !freed && known.is_some_and(|s| s.revision == entry.revision) {
            continue;
        }
        let Some(object) = entry.decode() else {
            continue;
        };
        let names = only_names(&object);
        freed |= known.is_some_and(|s| s.names != names);
        let revision = entry.revision;
        seen.insert(entry.name().into(), Seen { revision, names });
        changed.push(object);
    }
    // Who came first has the names.
    changed.sort_by(|a, b| {
        let key = |o: &Object| {
            (
                o.meta_str("creationTimestamp").to_owned(),
                o.name().to_owned(),
            )
        };
        key(a).cmp(&key(b))
    });
    for object in changed {
        if object.deletion_timestamp().is_some() {
            empty_aside(server, &object, emptied);
            continue;
        }
        let others = seen.values().map(|s| &s.names);
        let Some(new) = naming::settle(&object, others, crate::call::now()) else {
            continue;
        };
        let path = format!("{PATH}/{}/status", object.name());
        match Own::of(server).send(Method::PUT, &path, Some(&new)).await {
            Ok(_) => {
                if let Some(seen) = seen.get_mut(object.name()) {
                    seen.names = only_names(&new);
                }
            }
            // It has changed or is gone: that will be seen.
            Err(error) if matches!(error.code, 404 | 409) => {}
            Err(error) => {
                tracing::warn!(%error, name = object.name(), "a custom kind cannot be established");
            }
        }
    }
}

fn only_names(definition: &Object) -> Object {
    let reduced = json!({
        "metadata": {"name": definition.name()},
        "spec": {"group": definition.str_at(&["spec", "group"])},
        "status": {"acceptedNames": definition.at(&["status", "acceptedNames"])},
    });
    Object::from_value(reduced).unwrap_or_default()
}

/// Empties a definition beside all other work: its objects may take as long as they like to go.
fn empty_aside(server: &Arc<Server>, object: &Object, emptied: &Arc<Mutex<BTreeSet<String>>>) {
    let (name, uid) = (object.name().to_owned(), object.uid().to_owned());
    if !object.finalizers().any(|f| f == CLEANUP) || !emptied.lock().insert(uid.clone()) {
        return;
    }
    let (server, emptied) = (Arc::downgrade(server), emptied.clone());
    tokio::spawn(async move {
        let mut pause = FIRST_PAUSE;
        while let Err(error) = empty(&server, &name).await
            && !matches!(error.code, 404 | 409)
        {
            tracing::warn!(%error, name, "the objects of a custom kind cannot be deleted");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
        emptied.lock().remove(&uid);
    });
}

async fn empty(server: &Weak<Server>, name: &str) -> Result<(), ApiError> {
    let gone = || ApiError::not_found(GROUP, RESOURCE, name);
    let strong = server.upgrade().ok_or_else(gone)?;
    let own = Own::of(&strong);
    let object = own.get(&format!("{PATH}/{name}")).await?.ok_or_else(gone)?;
    let group = object.str_at(&["spec", "group"]).to_owned();
    let plural = object.str_at(&["spec", "names", "plural"]);
    let done = if strong.resources().storage(&group, plural).is_some() {
        // They are kept in the same place: deleting the one would delete the other.
        progress(
            "False",
            "OverlappingBuiltInResource",
            "instances overlap with built-in resources in storage",
        )
    } else if is_true(&object, "Established") {
        tell(
            &own,
            name,
            progress(
                "True",
                "InstanceDeletionInProgress",
                "CustomResource deletion is in progress",
            ),
            false,
        )
        .await?;
        let found = strong.resources().custom().of_definition(name);
        let shutdown = strong.shutdown_token();
        if let Some((storage, resource)) = found {
            if let Some(resource) = resource {
                resource.ready().await;
                if let Err(error) = delete_all(&strong, &storage, &resource).await {
                    let why = format!("could not issue all deletes: {}", error.message);
                    let failed = progress("True", "InstanceDeletionFailed", &why);
                    tell(&own, name, failed, false).await?;
                    return Err(error);
                }
            }
            drop(strong);
            tokio::select! {
                () = until_empty(&storage) => {}
                () = shutdown.cancelled() => return Ok(()),
            }
        }
        progress(
            "False",
            "InstanceDeletionCompleted",
            "removed all instances",
        )
    } else {
        progress(
            "False",
            "NeverEstablished",
            "resource was never established",
        )
    };
    tell(&own, name, done, true).await
}

fn progress(status: &'static str, reason: &str, message: &str) -> Condition {
    Condition {
        kind: "Terminating",
        status,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

/// Deletes the objects of every namespace. Nobody is asked: whoever would have been may be gone, and the definition is going.
async fn delete_all(
    server: &Arc<Server>,
    storage: &Storage,
    resource: &Resource,
) -> Result<(), ApiError> {
    let names = resource.names();
    let (root, plural) = (
        format!("/apis/{}/{}", names.group, names.version),
        names.plural,
    );
    storage.cache.wait_fresh().await?;
    let snapshot = storage.cache.snapshot(&Selection::namespace(""), 0);
    let namespaces: BTreeSet<&str> = snapshot.entries.iter().map(|e| e.namespace()).collect();
    for namespace in namespaces {
        let path = match namespace {
            "" => format!("{root}/{plural}"),
            namespace => format!("{root}/namespaces/{namespace}/{plural}"),
        };
        let request = http::Request::builder().method(Method::DELETE).uri(path);
        let mut request = request.body(()).map_err(ApiError::internal)?;
        let call = Call::own(server.clone(), &mut request);
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        delete_collection(&call, resource, body).await?;
    }
    Ok(())
}

async fn until_empty(storage: &Storage) {
    let mut changed = storage.cache.subscribe();
    loop {
        changed.borrow_and_update();
        let left = storage.cache.snapshot(&Selection::namespace(""), 1);
        if left.entries.is_empty() || changed.changed().await.is_err() {
            return;
        }
    }
}

/// Writes a condition, and takes the finalizer away with the last one.
async fn tell(own: &Own, name: &str, condition: Condition, last: bool) -> Result<(), ApiError> {
    let gone = || ApiError::not_found(GROUP, RESOURCE, name);
    for _ in 0..16 {
        let path = format!("{PATH}/{name}");
        let mut object = own.get(&path).await?.ok_or_else(gone)?;
        let status = object.object_at_mut(&["status"]);
        naming::set_condition(status, &condition, crate::call::now());
        if last {
            let metadata = object.metadata_mut();
            if let Some(Value::Array(finalizers)) = metadata.get_mut("finalizers") {
                finalizers.retain(|f| f != CLEANUP);
            }
        }
        let path = format!("{path}/status");
        match own.send(Method::PUT, &path, Some(&object)).await {
            Ok(_) => return Ok(()),
            Err(error) if error.code == 409 => {}
            Err(error) => return Err(error),
        }
    }
    Err(ApiError::internal("the definition changes all the time"))
}
