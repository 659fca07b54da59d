//! Many writers at once: no update is lost, and list and watch tell one story.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Client, Cluster};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_update_is_lost() {
    let cluster = Cluster::start().await;
    cluster
        .admin
        .post(MAPS, json!({"metadata": {"name": "a"}}))
        .await
        .ok();
    let path = format!("{MAPS}/a");
    let write = |writer: usize| {
        let (admin, path) = (cluster.admin.clone(), path.clone());
        async move {
            for i in 0..20 {
                let patch = json!({"data": {format!("w{writer}-{i}"): "x"}});
                admin.patch(&path, "merge", patch).await.ok();
            }
        }
    };
    futures::future::join_all((0..8).map(|writer| tokio::spawn(write(writer)))).await;
    let map = cluster.admin.get(&path).await.ok();
    assert_eq!(map["data"].as_object().map(serde_json::Map::len), Some(160));
}

async fn churn(admin: Client, writer: usize) {
    for i in 0..40 {
        let name = format!("m{}", (writer * 7 + i * 3) % 10);
        let path = format!("{MAPS}/{name}");
        // Most of these meet somebody else's work and fail; that is the point.
        match (writer + i) % 3 {
            0 => drop(admin.post(MAPS, json!({"metadata": {"name": name}})).await),
            1 => {
                let patch = json!({"data": {"by": format!("{writer}-{i}")}});
                drop(admin.patch(&path, "merge", patch).await);
            }
            _ => drop(admin.delete(&path).await),
        }
    }
}

fn state(list: &Value) -> BTreeMap<String, Value> {
    let items = list["items"].as_array().expect("items").iter();
    let entry = |i: &Value| {
        let name = i["metadata"]["name"].as_str().expect("a name").to_owned();
        (name, i["metadata"]["resourceVersion"].clone())
    };
    items.map(entry).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn list_and_watch_tell_one_story() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let churning: Vec<_> = (0..6)
        .map(|w| tokio::spawn(churn(admin.clone(), w)))
        .collect();
    // In the middle of it all.
    let list = admin.get(MAPS).await.ok();
    let revision = list["metadata"]["resourceVersion"]
        .as_str()
        .expect("a revision")
        .to_owned();
    let mut events = admin
        .watch(&format!("{MAPS}?watch=1&resourceVersion={revision}"))
        .await;
    futures::future::join_all(churning).await;
    admin
        .post(MAPS, json!({"metadata": {"name": "end"}}))
        .await
        .ok();

    let mut seen = state(&list);
    let mut last = revision.parse::<u64>().expect("a number");
    loop {
        let event = events.next().await.expect("an event");
        let metadata = &event["object"]["metadata"];
        let name = metadata["name"].as_str().expect("a name").to_owned();
        let version = metadata["resourceVersion"].clone();
        let number: u64 = version
            .as_str()
            .and_then(|v| v.parse().ok())
            .expect("a number");
        assert!(number > last, "{name} at {number} after {last}");
        last = number;
        let known = match event["type"].as_str() {
            Some("ADDED") => seen.insert(name.clone(), version).is_none(),
            Some("MODIFIED") => seen.insert(name.clone(), version).is_some(),
            _ => seen.remove(&name).is_some(),
        };
        assert!(known, "{event}");
        if name == "end" {
            break;
        }
    }
    assert_eq!(seen, state(&admin.get(MAPS).await.ok()));
}
