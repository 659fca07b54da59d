//! One watch per kind: list, then watch from there, again after every break; what arrives goes into the kind's store.

use std::sync::Arc;
use std::time::Duration;

use control::AnyStore;
use futures::AsyncBufReadExt;
use futures::io::AsyncBufRead;
use http::Request;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta};
use kube::Client;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::hub::Hub;
use crate::request::RequestError;

/// Objects per page of a list.
const PAGE: usize = 500;
/// Shortest and longest pause between attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(30));
/// The server ends a watch after about this long; spread so that not all kinds come back at once.
const WATCH_SECONDS: (u64, u64) = (300, 600);

const LIST_ACCEPT: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const WATCH_ACCEPT: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

#[derive(Deserialize)]
struct RawList<'a> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Headed {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    code: u16,
}

/// Why a watch ended.
enum Ended {
    /// The server closed it; go on from here.
    Resume(String),
    /// The version is too old or unknown; list again.
    Relist,
}

/// Keeps a store in step with the API until the task is dropped.
pub(crate) async fn reflect(client: Client, store: Arc<dyn AnyStore>, hub: Arc<Hub>) {
    let mut from: Option<String> = None;
    let mut pause = PAUSE.0;
    loop {
        let started = tokio::time::Instant::now();
        let step = match &from {
            None => list(&client, &store, &hub).await.map(Ended::Resume),
            Some(version) => watch(&client, &store, &hub, version).await,
        };
        match step {
            Ok(Ended::Resume(version)) => {
                let listed = from.is_none();
                from = Some(version);
                pause = PAUSE.0;
                if listed || started.elapsed() > Duration::from_secs(1) {
                    continue;
                }
            }
            Ok(Ended::Relist) => from = None,
            Err(error) => {
                let resource = store.resource();
                tracing::debug!(%resource, %error, "list or watch broke, trying again");
                if error.code() != 0 {
                    from = None;
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Reads the whole kind, page by page. Returns the version to watch from.
async fn list(
    client: &Client,
    store: &Arc<dyn AnyStore>,
    hub: &Hub,
) -> Result<String, RequestError> {
    let path = store.resource().collection_path("");
    let accept = if store.metadata_only() {
        LIST_ACCEPT
    } else {
        "application/json"
    };
    let mut next = String::new();
    loop {
        let token: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
        let uri = format!("{path}?limit={PAGE}&continue={token}");
        let request = Request::get(uri)
            .header(http::header::ACCEPT, accept)
            .body(Vec::new())
            .map_err(kube::Error::HttpError)?;
        let text = client.request_text(request).await?;
        let page: RawList<'_> = serde_json::from_str(&text).map_err(kube::Error::SerdeError)?;
        for raw in page.items.into_iter().flatten() {
            let now = Timestamp::now();
            let taken = hub.wake(|caches, wake| store.stage(raw.get(), now, caches, wake));
            if let Err(error) = taken {
                tracing::warn!(resource = %store.resource(), %error, "skipped an unreadable object");
            }
        }
        next = page.metadata.continue_.unwrap_or_default();
        let version = page.metadata.resource_version.unwrap_or_default();
        if next.is_empty() {
            let number = version.parse().unwrap_or(0);
            hub.wake(|caches, wake| store.finish(number, caches, wake));
            hub.advanced(store.resource());
            hub.listed();
            return Ok(version);
        }
    }
}

/// Follows the changes of a kind.
async fn watch(
    client: &Client,
    store: &Arc<dyn AnyStore>,
    hub: &Hub,
    from: &str,
) -> Result<Ended, RequestError> {
    let path = store.resource().collection_path("");
    let seconds = rand::random_range(WATCH_SECONDS.0..WATCH_SECONDS.1);
    let uri = format!(
        "{path}?watch=true&allowWatchBookmarks=true&resourceVersion={from}&timeoutSeconds={seconds}"
    );
    let accept = if store.metadata_only() {
        WATCH_ACCEPT
    } else {
        "application/json"
    };
    let request = Request::get(uri)
        .header(http::header::ACCEPT, accept)
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    let stream = client.request_stream(request).await?;
    follow(stream, store, hub, from).await
}

async fn follow(
    stream: impl AsyncBufRead,
    store: &Arc<dyn AnyStore>,
    hub: &Hub,
    from: &str,
) -> Result<Ended, RequestError> {
    let mut stream = std::pin::pin!(stream);
    let mut version = from.to_owned();
    let mut line = String::new();
    loop {
        line.clear();
        match stream.read_line(&mut line).await {
            Ok(0) => return Ok(Ended::Resume(version)),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(resource = %store.resource(), %error, "watch stream broke");
                return Ok(Ended::Resume(version));
            }
        }
        if line.trim().is_empty() {
            continue;
        }
        let event: RawEvent<'_> =
            serde_json::from_str(line.trim_end()).map_err(kube::Error::SerdeError)?;
        let raw = event.object.get();
        let head: Headed = serde_json::from_str(raw).map_err(kube::Error::SerdeError)?;
        if event.event_type == "ERROR" {
            tracing::debug!(resource = %store.resource(), code = head.code, "watch ended by server");
            return Ok(Ended::Relist);
        }
        if let Some(seen) = &head.metadata.resource_version {
            version.clone_from(seen);
        }
        take(event.event_type, raw, &head, store, hub);
    }
}

/// Brings one event into the store.
fn take(event_type: &str, raw: &str, head: &Headed, store: &Arc<dyn AnyStore>, hub: &Hub) {
    let number = control::store::version_of(head.metadata.resource_version.as_deref());
    match event_type {
        "BOOKMARK" => store.progress(number),
        "DELETED" => {
            let key = control::Key::of_meta(&head.metadata);
            hub.wake(|caches, wake| store.delete(&key, number, caches, wake));
        }
        _ => {
            let now = Timestamp::now();
            if let Err(error) = hub.wake(|caches, wake| store.apply(raw, now, caches, wake)) {
                tracing::warn!(resource = %store.resource(), %error, "skipped an unreadable object");
                store.progress(number);
            }
        }
    }
    if event_type != "BOOKMARK" {
        hub.object_changed(store.resource());
    }
    hub.advanced(store.resource());
}

#[cfg(test)]
mod tests {
    use control::{Caches, Key, Wake};
    use futures::io::Cursor;
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;
    use crate::items::Items;

    fn hub() -> Arc<Hub> {
        let mut caches = Caches::new();
        let mut wake = Wake::new(&mut caches, 0);
        wake.on_root::<ConfigMap>();
        wake.finish();
        Arc::new(Hub::new(caches, vec![Arc::new(Items::new("test"))]))
    }

    fn event(kind: &str, name: &str, version: u64, data: &str) -> String {
        format!(
            r#"{{"type":"{kind}","object":{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}","namespace":"d","uid":"u","resourceVersion":"{version}"}},"data":{data}}}}}"#
        )
    }

    /// CVE-2024-0793: a stored object that cannot be read must not stop a controller, nor hide the others.
    #[tokio::test]
    async fn an_unreadable_object_is_skipped() {
        let hub = hub();
        let store = hub.caches().stores().next().expect("declared").clone();
        let lines = [
            event("ADDED", "bad", 5, "[1, 2]"),
            event("ADDED", "good", 6, r#"{"a":"b"}"#),
        ];
        let stream = Cursor::new(lines.join("\n").into_bytes());
        let ended = follow(stream, &store, &hub, "4").await.expect("an end");
        assert!(matches!(ended, Ended::Resume(version) if version == "6"));
        let maps = hub.caches().of::<ConfigMap>();
        assert!(maps.get(&Key::new("d", "good")).is_some());
        assert!(maps.get(&Key::new("d", "bad")).is_none());
    }

    #[tokio::test]
    async fn bookmarks_move_on_and_errors_list_again() {
        let hub = hub();
        let store = hub.caches().stores().next().expect("declared").clone();
        let lines = [
            event("BOOKMARK", "", 9, "{}"),
            r#"{"type":"ERROR","object":{"kind":"Status","code":410}}"#.to_owned(),
        ];
        let stream = Cursor::new(lines.join("\n").into_bytes());
        let ended = follow(stream, &store, &hub, "4").await.expect("an end");
        assert!(matches!(ended, Ended::Relist));
        assert!(store.has_seen(&control::caches::Written::At(9)));
    }
}
