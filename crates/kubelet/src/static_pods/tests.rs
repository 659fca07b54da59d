//! Files to pods, and pods to what is due about mirrors.

use std::path::Path;

use super::mirrors::{Due, mirror_of};
use super::*;

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: web}]}\n";

fn told(pods: &StaticPods, dir: &Path) -> Vec<String> {
    let tell = |change: Change| match change {
        Change::Added(pod) => format!("+{}", parts::name(&pod)),
        Change::Removed(pod) => format!("-{}", parts::name(&pod)),
    };
    pods.read(dir, "N1").into_iter().map(tell).collect()
}

fn due(pods: &StaticPods) -> Vec<String> {
    let tell = |due: Due| match due {
        Due::Make(pod) => format!("+{}", parts::name(&pod)),
        Due::Delete(pod) => format!("-{}", parts::name(&pod)),
    };
    pods.due().into_iter().map(tell).collect()
}

fn running(pods: &StaticPods) -> Arc<Pod> {
    let state = pods.state.lock();
    Arc::clone(&state.running.values().next().expect("a pod").pod)
}

#[test]
fn files_are_pods_while_they_are_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let (dir, pods) = (dir.path(), StaticPods::default());
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).expect("written");
    write("web.yaml", POD);
    write(".hidden", POD);
    write("damaged", "kind: [");
    write(
        "service.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n",
    );
    write(
        "map.yaml",
        &POD.replace(
            "image: web",
            "image: w, envFrom: [{configMapRef: {name: m}}]",
        ),
    );
    assert_eq!(told(&pods, dir), ["+web-n1"]);
    assert!(told(&pods, dir).is_empty());
    let pod = running(&pods);
    let spec = pod.spec.as_ref().expect("a spec");
    assert_eq!(
        (spec.restart_policy.as_deref(), spec.node_name.as_deref()),
        (Some("Always"), Some("N1"))
    );
    assert_eq!(annotation(&pod, HASH), pod.metadata.uid.as_deref());
    // Another layout is no other pod, and a file that is being written leaves the pod alone.
    write("web.yaml", &format!("# a comment\n{POD}"));
    assert!(told(&pods, dir).is_empty());
    write("web.yaml", "apiVersion: v1\nkind: Po");
    assert!(told(&pods, dir).is_empty());
    // The new one waits until the old one is gone.
    write("web.yaml", &POD.replace("image: web", "image: web:2"));
    assert_eq!(told(&pods, dir), ["-web-n1"]);
    assert!(told(&pods, dir).is_empty() && pods.is_static(parts::uid(&pod)));
    pods.leave(parts::uid(&pod));
    assert_eq!(told(&pods, dir), ["+web-n1"]);
    std::fs::remove_file(dir.join("web.yaml")).expect("removed");
    assert_eq!(told(&pods, dir), ["-web-n1"]);
    assert!(told(&pods, &dir.join("nowhere")).is_empty());
}

#[test]
fn every_static_pod_has_one_mirror_that_shows_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (dir, pods) = (dir.path(), StaticPods::default());
    let file = dir.join("web.json");
    std::fs::write(&file, POD).expect("written");
    pods.read(dir, "n1");
    assert!(due(&pods).is_empty());
    pods.mirrors_known();
    assert_eq!(due(&pods), ["+web-n1"]);
    let pod = running(&pods);
    let mut mirror = mirror_of(&pod, "n1", "uid".to_owned());
    assert!(is_mirror(&mirror) && mirror.metadata.uid.is_none());
    mirror.metadata.uid = Some("m1".to_owned());
    let uid = pods.mirror_seen(&Arc::new(mirror.clone()), false);
    assert_eq!(uid.as_deref(), Some(parts::uid(&pod)));
    assert!(due(&pods).is_empty() && pods.mirror_of(&pod).is_some());
    // It is being deleted: away with it, and a new one.
    let mut deleting = mirror.clone();
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::now());
    deleting.metadata.deletion_timestamp = Some(now);
    let deleting = Arc::new(deleting);
    pods.mirror_seen(&deleting, false);
    assert_eq!(due(&pods), ["-web-n1"]);
    pods.mirror_seen(&deleting, true);
    assert_eq!(due(&pods), ["+web-n1"]);
    // While the pod is on its way out its mirror shows that.
    pods.mirror_seen(&Arc::new(mirror), false);
    std::fs::remove_file(&file).expect("removed");
    pods.read(dir, "n1");
    assert!(due(&pods).is_empty());
    pods.leave(parts::uid(&pod));
    assert_eq!(due(&pods), ["-web-n1"]);
}
