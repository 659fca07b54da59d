//! The in-process transport under the client that components use.

use access::User;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, ListParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::watcher;

use crate::harness::Cluster;

#[tokio::test]
async fn kube_works_in_process() {
    let cluster = Cluster::start().await;
    let service = cluster
        .server
        .in_process(User::new("admin", &["system:masters"]));
    let client = kube::Client::new(service, "default");
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let mut map = ConfigMap::default();
    map.metadata.name = Some("a".into());
    let made = maps
        .create(&PostParams::default(), &map)
        .await
        .expect("a config map");
    let listed = maps.list(&ListParams::default()).await.expect("a list");
    assert_eq!(listed.items, std::slice::from_ref(&made));
    let revision = made.metadata.resource_version.expect("a revision");
    maps.delete("a", &Default::default())
        .await
        .expect("a deletion");
    let events = maps
        .watch(&WatchParams::default(), &revision)
        .await
        .expect("a watch");
    let event = std::pin::pin!(events)
        .try_next()
        .await
        .expect("an event")
        .expect("one");
    assert!(matches!(event, WatchEvent::Deleted(_)));
    let missing = maps.get("a").await.expect_err("gone");
    assert!(matches!(missing, kube::Error::Api(status) if status.code == 404));

    // A reflector's stream with streaming lists.
    maps.create(&PostParams::default(), &map)
        .await
        .expect("a config map");
    let stream = watcher(maps, watcher::Config::default().streaming_lists());
    let kinds: Vec<String> = stream
        .take(3)
        .map(|event| match event.expect("an event") {
            watcher::Event::Init => "init".to_owned(),
            watcher::Event::InitApply(map) => map.metadata.name.unwrap_or_default(),
            watcher::Event::InitDone => "done".to_owned(),
            other => format!("{other:?}"),
        })
        .collect()
        .await;
    assert_eq!(kinds, ["init", "a", "done"]);
    let pods: Api<Pod> = Api::all(client);
    assert!(
        pods.list(&ListParams::default())
            .await
            .expect("a list")
            .items
            .is_empty()
    );
}
