use std::sync::Arc;
use std::time::Duration;

use expect_test::expect;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::runtime::Runtime;
use crate::Config;

pub(super) struct Node {
    pub(super) api: Arc<Api>,
    pub(super) runtime: Arc<Runtime>,
    pub(super) server: Option<crate::ServerConfig>,
    dir: tempfile::TempDir,
    stop: CancellationToken,
    kubelet: Option<tokio::task::JoinHandle<()>>,
}

impl Node {
    pub(super) fn new() -> Node {
        Node {
            api: Api::new(),
            runtime: Arc::new(Runtime::new()),
            server: None,
            dir: tempfile::tempdir().unwrap(),
            stop: CancellationToken::new(),
            kubelet: None,
        }
    }

    /// How many logs collectors would find.
    fn links(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("containers")).map_or(0, |dir| dir.count())
    }

    /// A control group of its own.
    fn cgroup(&self) -> String {
        let name = self.dir.path().file_name().unwrap().to_string_lossy();
        format!("oxikube-test{name}")
    }

    pub(super) async fn start(&mut self) {
        self.stop = CancellationToken::new();
        let config = Config {
            node_name: "n1".into(),
            client: self.api.client(),
            runtime: self.runtime.clone(),
            images: self.runtime.clone(),
            root_dir: self.dir.path().join("kubelet"),
            log_dir: self.dir.path().join("logs"),
            node_ips: vec!["10.0.0.1".into()],
            cluster_dns: vec!["10.96.0.10".into()],
            cluster_domain: "cluster.local".into(),
            resolv_conf: "/dev/null".into(),
            labels: [("disk".to_owned(), "ssd".to_owned())].into(),
            taints: Vec::new(),
            max_pods: 10,
            cpu_milli: Some(2000),
            memory_bytes: Some(4 << 30),
            cgroup_root: Some(self.cgroup()),
            server: self.server.clone(),
            healthz: None,
            static_pods: Some(self.dir.path().join("manifests")),
            registers: true,
            status_every: crate::STATUS_EVERY,
        };
        let stop = self.stop.clone();
        self.kubelet = Some(tokio::spawn(async move {
            crate::run(config, stop).await.unwrap();
        }));
        self.until("the node is ready", |node| {
            let node = node.api.get("nodes", "", "n1")?;
            condition(&node, "Ready").filter(|s| s == "True")
        })
        .await;
    }

    pub(super) async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(kubelet) = self.kubelet.take() {
            kubelet.await.unwrap();
        }
    }

    /// Waits for a state, not for a time; looks often, gives up late.
    async fn until<T>(&self, what: &str, look: impl Fn(&Node) -> Option<T>) -> T {
        for _ in 0..2000 {
            if let Some(found) = look(self) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let pod = self.api.get("pods", "shop", "web");
        panic!(
            "never: {what}\n{:#?}\n{:#?}\n{pod:#?}\n{:#?}",
            self.runtime.calls(),
            self.api.events(),
            self.api.get("pods", "shop", "web-n1"),
        );
    }

    async fn phase(&self, phase: &str) -> Value {
        self.until(phase, |node| {
            let pod = node.api.get("pods", "shop", "web")?;
            (pod["status"]["phase"] == phase).then_some(pod)
        })
        .await
    }

    pub(super) async fn ready(&self) -> Value {
        self.until("the pod is ready", |node| {
            let pod = node.api.get("pods", "shop", "web")?;
            condition(&pod, "Ready").filter(|s| s == "True")?;
            Some(pod)
        })
        .await
    }

    pub(super) fn create(&self, spec: &str) {
        let spec: Value = serde_saphyr::from_str(spec).unwrap();
        let mut pod = json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "generation": 1},
            "spec": spec,
        });
        pod["spec"]["nodeName"] = "n1".into();
        self.api.put("pods", pod);
    }

    fn delete(&self, grace: i64) {
        self.api.change("pods", "shop", "web", |pod| {
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            pod["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        });
    }

    async fn gone(&self) {
        self.until("the pod is gone", |node| {
            let files = node.dir.path().join("kubelet/pods/u1");
            let logs = node.dir.path().join("logs/shop_web_u1");
            let object = node.api.get("pods", "shop", "web");
            let gone = object.is_none() && !files.exists() && !logs.exists();
            (gone && node.links() == 0).then_some(())
        })
        .await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let groups = linux::cgroup::detect().unwrap();
        groups.group(&self.cgroup()).remove().unwrap();
    }
}

fn condition(object: &Value, kind: &str) -> Option<String> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|c| c["type"] == kind)?;
    found["status"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn a_pod_from_birth_to_death() {
    let mut node = Node::new();
    node.start().await;
    node.create("{containers: [{name: app, image: nginx}], terminationGracePeriodSeconds: 30}");
    let pod = node.ready().await;
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(pod["status"]["podIP"], "127.0.0.1");
    assert_eq!(pod["status"]["hostIP"], "10.0.0.1");
    assert_eq!(node.links(), 1);
    let container = &pod["status"]["containerStatuses"][0];
    assert!(
        container["containerID"]
            .as_str()
            .unwrap()
            .starts_with("fake://c")
    );
    node.delete(30);
    node.gone().await;
    expect![[r#"
        sandbox web #0
        pull nginx:latest
        create app #0
        stop within 30s
        stop sandbox
        remove sandbox"#]]
    .assert_eq(&node.runtime.calls().join("\n"));
    expect![[r#"
        Normal Pulling: Pulling image "nginx"
        Normal Pulled: Successfully pulled image "nginx" in Ns (Ns including waiting). Image size: NN bytes.
        Normal Created: Container created
        Normal Started: Container started
        Normal Killing: Stopping container app"#]].assert_eq(&node.until("events", |n| {
        let events = n.api.events();
        events.iter().any(|e| e.contains("Killing")).then(|| events.join("\n"))
    }).await.replace(|c: char| c.is_ascii_digit(), "N"));
    node.stop().await;
}

#[tokio::test]
async fn the_node_is_registered_with_what_it_has() {
    let mut node = Node::new();
    node.start().await;
    let object = node.api.get("nodes", "", "n1").unwrap();
    assert_eq!(object["metadata"]["labels"]["disk"], "ssd");
    assert_eq!(object["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
    assert_eq!(object["status"]["capacity"]["cpu"], "2");
    assert_eq!(object["status"]["capacity"]["memory"], "4194304Ki");
    assert_eq!(
        object["status"]["nodeInfo"]["containerRuntimeVersion"],
        "fake://1"
    );
    node.api.change("nodes", "", "n1", |n| {
        n["spec"]["podCIDR"] = "10.1.0.0/24".into()
    });
    node.until("the runtime knows", |n| {
        n.runtime
            .calls()
            .contains(&"pods in 10.1.0.0/24".to_owned())
            .then_some(())
    })
    .await;
    node.until("the lease is kept", |n| {
        n.api.get("leases", "kube-node-lease", "n1")
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn a_kubelet_that_starts_anew_leaves_containers_alone() {
    let mut node = Node::new();
    node.start().await;
    node.create("{containers: [{name: app, image: 'nginx:1'}]}");
    node.ready().await;
    node.stop().await;
    let before = node.runtime.calls();
    node.start().await;
    node.runtime.exit("app", 1);
    node.until("it runs again", |n| {
        let pod = n.api.get("pods", "shop", "web")?;
        let status = &pod["status"]["containerStatuses"][0];
        (status["restartCount"] == 1 && status["ready"] == true).then_some(())
    })
    .await;
    let after = node.runtime.calls().split_off(before.len());
    assert_eq!(after, ["create app #1"]);
    node.stop().await;
}

#[tokio::test]
async fn pods_that_went_while_nobody_looked_are_cleaned_up() {
    let mut node = Node::new();
    node.start().await;
    node.create("{containers: [{name: app, image: nginx}], volumes: [{name: v, emptyDir: {}}]}");
    node.ready().await;
    node.stop().await;
    node.api.delete("pods", "shop", "web");
    node.start().await;
    node.gone().await;
    node.stop().await;
}

#[tokio::test]
async fn config_maps_reach_environment_and_files_and_their_changes_the_files() {
    let mut node = Node::new();
    node.start().await;
    node.create(
        "{containers: [{name: app, image: nginx, env: [{name: COLOR, valueFrom: {configMapKeyRef: {name: look, key: color}}}, {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}], volumeMounts: [{name: v, mountPath: /etc/look}, {name: t, mountPath: /var/run/secrets}]}], volumes: [{name: v, configMap: {name: look}}, {name: t, projected: {sources: [{serviceAccountToken: {path: token}}]}}]}",
    );
    node.until("it is told what is missing", |n| {
        let events = n.api.events();
        events
            .into_iter()
            .find(|e| e.contains("FailedMount") && e.contains("configmap \"look\" not found"))
    })
    .await;
    let map = |color: &str| json!({"metadata": {"name": "look", "namespace": "shop"}, "data": {"color": color}});
    node.api.put("configmaps", map("red"));
    node.ready().await;
    let config = node.runtime.config("app").unwrap();
    let env: Vec<String> = config
        .envs
        .iter()
        .map(|e| format!("{}={}", e.key, e.value))
        .collect();
    assert_eq!(env, ["COLOR=red", "IP=127.0.0.1"]);
    let place = |path: &str| {
        let mount = config
            .mounts
            .iter()
            .find(|m| m.container_path == path)
            .unwrap();
        std::path::PathBuf::from(&mount.host_path)
    };
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).ok();
    assert_eq!(
        read(place("/etc/look").join("color")).as_deref(),
        Some("red")
    );
    let token = read(place("/var/run/secrets").join("token"));
    assert_eq!(token.as_deref(), Some("token-of-default"));
    assert!(
        read(place("/etc/hosts"))
            .unwrap()
            .contains("127.0.0.1\tweb")
    );
    node.api.put("configmaps", map("blue"));
    node.until("the file changes", |_| {
        read(place("/etc/look").join("color")).filter(|c| c == "blue")
    })
    .await;
    node.delete(1);
    node.gone().await;
    node.stop().await;
}

#[tokio::test]
async fn a_container_that_fails_its_liveness_probe_is_restarted() {
    let mut node = Node::new();
    node.runtime.set_exec("alive", 1);
    node.start().await;
    node.create(
        "{containers: [{name: app, image: nginx, livenessProbe: {exec: {command: [alive]}, periodSeconds: 1, failureThreshold: 1}}], terminationGracePeriodSeconds: 5}",
    );
    node.until("it is restarted", |n| {
        let calls = n.runtime.calls();
        (calls.iter().any(|c| c == "stop within 5s") && calls.iter().any(|c| c == "create app #1"))
            .then_some(())
    })
    .await;
    node.until("the user is told", |n| {
        let events = n.api.events();
        let told = |text: &str| events.iter().any(|e| e == text);
        (told("Warning Unhealthy: Liveness probe failed: said so")
            && told("Normal Killing: Container app failed liveness probe, will be restarted"))
        .then_some(())
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn an_image_that_is_nowhere() {
    let mut node = Node::new();
    node.start().await;
    node.create("{containers: [{name: app, image: missing}]}");
    let reason = |reason: &'static str| {
        move |n: &Node| {
            let pod = n.api.get("pods", "shop", "web")?;
            let waiting = pod["status"]["containerStatuses"][0]["state"]["waiting"].clone();
            (waiting["reason"] == reason).then_some(waiting["message"].as_str()?.to_owned())
        }
    };
    let message = node.until("ErrImagePull", reason("ErrImagePull")).await;
    assert_eq!(message, "missing:latest: not found");
    let message = node
        .until("ImagePullBackOff", reason("ImagePullBackOff"))
        .await;
    assert_eq!(
        message,
        "Back-off pulling image \"missing\": ErrImagePull: missing:latest: not found"
    );
    node.delete(0);
    node.gone().await;
    node.stop().await;
}

#[tokio::test]
async fn a_job_leaves_its_last_words() {
    let mut node = Node::new();
    node.start().await;
    node.create("{containers: [{name: app, image: nginx, terminationMessagePath: /dev/termination-log}], restartPolicy: Never}");
    node.ready().await;
    let config = node.runtime.config("app").unwrap();
    let mounts = config.mounts.iter();
    let words = mounts.filter(|m| m.container_path == "/dev/termination-log");
    words.for_each(|m| std::fs::write(&m.host_path, "that was it").unwrap());
    node.runtime.exit("app", 0);
    let pod = node.phase("Succeeded").await;
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(ended["message"], "that was it");
    assert_eq!(ended["reason"], "Completed");
    node.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let mut node = Node::new();
    node.start().await;
    node.create("{containers: [{name: app, image: nginx, resources: {requests: {cpu: '3'}}}]}");
    let pod = node.phase("Failed").await;
    assert_eq!(pod["status"]["reason"], "OutOfcpu");
    assert_eq!(
        pod["status"]["message"],
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 3000, used: 0, capacity: 2000"
    );
    node.stop().await;
}

#[tokio::test]
async fn a_pod_in_a_file_runs_has_a_mirror_and_goes_with_its_file() {
    let mut node = Node::new();
    node.start().await;
    let file = node.dir.path().join("manifests/web.yaml");
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop}, spec: {containers: [{name: app, image: 'nginx:1'}]}}";
    std::fs::write(&file, pod).unwrap();
    let ready = |node: &Node| {
        let pod = node.api.get("pods", "shop", "web-n1")?;
        condition(&pod, "Ready").filter(|s| s == "True")?;
        Some(pod)
    };
    let mirror = node.until("the mirror is ready", ready).await;
    let annotations = &mirror["metadata"]["annotations"];
    assert_eq!(annotations["kubernetes.io/config.source"], "file");
    let hash = &annotations["kubernetes.io/config.hash"];
    assert_eq!(&annotations["kubernetes.io/config.mirror"], hash);
    assert_eq!(mirror["metadata"]["ownerReferences"][0]["kind"], "Node");
    // Whoever deletes the mirror deletes no pod.
    let uid = mirror["metadata"]["uid"].clone();
    node.api.delete("pods", "shop", "web-n1");
    let again = node.until("it is back", |n| {
        ready(n).filter(|m| m["metadata"]["uid"] != uid)
    });
    again.await;
    let started = |n: &Node| {
        n.runtime
            .calls()
            .iter()
            .filter(|c| c.starts_with("create app"))
            .count()
    };
    assert_eq!(started(&node), 1);
    // A kubelet that starts anew finds it running.
    node.stop().await;
    node.start().await;
    // Another content is another pod.
    std::fs::write(&file, pod.replace("nginx:1", "nginx:2")).unwrap();
    node.until("the new one runs", |n| {
        ready(n).filter(|m| m["spec"]["containers"][0]["image"] == "nginx:2")
    })
    .await;
    assert_eq!(started(&node), 2);
    std::fs::remove_file(&file).unwrap();
    node.until("all is gone", |n| {
        let left = std::fs::read_dir(n.dir.path().join("kubelet/pods")).unwrap();
        (n.api.get("pods", "shop", "web-n1").is_none() && left.count() == 0).then_some(())
    })
    .await;
    node.stop().await;
}
