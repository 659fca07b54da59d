//! Events in, changes out.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::Event;
use tokio::sync::watch;

use super::{Change, Reader, Writer};

fn map(name: &str, version: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.to_owned());
    map.metadata.namespace = Some("ns".to_owned());
    map.metadata.resource_version = Some(version.to_owned());
    map
}

fn pair() -> (Writer<ConfigMap>, Reader<ConfigMap>) {
    let (sender, synced) = watch::channel(false);
    let writer = Writer {
        objects: Default::default(),
        synced: sender,
        listed: Default::default(),
    };
    let reader = Reader {
        objects: writer.objects.clone(),
        synced,
    };
    (writer, reader)
}

/// `+name` applied new, `~name` changed, `-name` deleted, `!` synced; sorted.
fn run(writer: &mut Writer<ConfigMap>, events: Vec<Event<ConfigMap>>) -> String {
    let name = |m: &ConfigMap| m.metadata.name.clone().unwrap_or_default();
    let mut out: Vec<String> = events
        .into_iter()
        .flat_map(|event| writer.take(event))
        .map(|change| match change {
            Change::Applied { new, old: None } => format!("+{}", name(&new)),
            Change::Applied { new, .. } => format!("~{}", name(&new)),
            Change::Deleted(old) => format!("-{}", name(&old)),
            Change::Synced => "!".to_owned(),
        })
        .collect();
    out.sort();
    out.join(" ")
}

#[test]
fn a_list_then_changes() {
    let (mut writer, reader) = pair();
    let list = vec![
        Event::Init,
        Event::InitApply(map("a", "1")),
        Event::InitApply(map("b", "2")),
    ];
    assert_eq!(run(&mut writer, list), "");
    assert!(reader.is_empty() && !reader.is_synced());
    assert_eq!(run(&mut writer, vec![Event::InitDone]), "! +a +b");
    assert!(reader.is_synced());
    let changes = vec![
        Event::Apply(map("a", "3")),
        Event::Apply(map("c", "4")),
        Event::Delete(map("b", "5")),
    ];
    assert_eq!(run(&mut writer, changes), "+c -b ~a");
    assert_eq!(
        reader
            .get("ns", "a")
            .and_then(|a| a.metadata.resource_version.clone()),
        Some("3".into())
    );
    assert_eq!(reader.len(), 2);
}

#[test]
fn a_new_list_tells_only_what_changed() {
    let (mut writer, _reader) = pair();
    let first = ["a", "b", "c"].map(|n| Event::InitApply(map(n, "1")));
    run(
        &mut writer,
        [vec![Event::Init], first.into(), vec![Event::InitDone]].concat(),
    );
    let again = vec![
        Event::Init,
        Event::InitApply(map("a", "1")),
        Event::InitApply(map("b", "2")),
        Event::InitApply(map("d", "3")),
        Event::InitDone,
    ];
    assert_eq!(run(&mut writer, again), "+d -c ~b");
    assert_eq!(
        run(&mut writer, vec![Event::Delete(map("x", "9"))]),
        "",
        "never seen"
    );
}
