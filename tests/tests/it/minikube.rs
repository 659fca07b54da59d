//! `minikube-walkthrough.md`: hello-world from one pod to a rolling update without a failed request.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cluster_tests::{Cluster, KUBECTLS, Namespace};

const IMAGE: &str = "registry.hnaresearch.com/public/hello-world";

/// The node port of a service.
fn node_port(space: &Namespace, service: &str) -> String {
    let path = "jsonpath={.spec.ports[0].nodePort}";
    space.kubectl(&["get", "service", service, "-o", path]).ok()
}

fn get(url: &str) -> Result<String, ureq::Error> {
    // A connection a request, as curl does; otherwise one end point would answer all.
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(10)))
        .max_idle_connections(0)
        .build()
        .into();
    agent.get(url).call()?.into_body().read_to_string()
}

/// Sends requests without a pause until it is told to stop.
struct Client {
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

impl Client {
    fn start(url: &str) -> Self {
        let (stop, requests) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (stopped, counted, url) = (stop.clone(), requests.clone(), url.to_owned());
        let thread = std::thread::spawn(move || {
            let mut failures = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                counted.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = get(&url) {
                    failures.push(error.to_string());
                }
            }
            failures
        });
        Self {
            stop,
            requests,
            thread,
        }
    }

    /// The failures, and how many requests there were.
    fn stop(self) -> (Vec<String>, usize) {
        self.stop.store(true, Ordering::Relaxed);
        (
            self.thread.join().expect("no panic"),
            self.requests.load(Ordering::Relaxed),
        )
    }
}

#[test]
fn hello_world_from_one_pod_to_a_rolling_update_and_back() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("minikube", minor);
        walk(&space);
    }
}

fn walk(space: &Namespace) {
    let image = |version: u32| format!("{IMAGE}:v{version}.0");
    let first = format!("--image={}", image(1));
    space
        .kubectl(&["create", "deployment", "helloworld", &first, "--port=8090"])
        .ok();
    space.wait(&["deployment/helloworld"], "condition=Available");
    space
        .kubectl(&[
            "expose",
            "deployment/helloworld",
            "--type=NodePort",
            "--port=8090",
        ])
        .ok();
    let url = format!(
        "http://{}:{}",
        space.cluster().node_address(),
        node_port(space, "helloworld")
    );
    let answer = get(&url).expect("the node port answers");
    assert!(
        answer.starts_with("Hello world !\nhostname:helloworld-"),
        "{answer}"
    );

    space
        .kubectl(&["label", "pods", "-l", "app=helloworld", "release=stable"])
        .ok();
    let labelled = space
        .kubectl(&["get", "pods", "-l", "release=stable", "-L", "release"])
        .ok();
    assert!(
        labelled.contains("RELEASE") && labelled.contains("stable"),
        "{labelled}"
    );

    space
        .kubectl(&["scale", "deployment/helloworld", "--replicas=4"])
        .ok();
    space.wait(
        &["deployment/helloworld"],
        "jsonpath={.status.readyReplicas}=4",
    );
    spread_over(&url, 4);

    let client = Client::start(&url);
    let second = format!("hello-world={}", image(2));
    space
        .kubectl(&["set", "image", "deployment/helloworld", &second])
        .ok();
    space
        .kubectl(&[
            "rollout",
            "status",
            "deployment/helloworld",
            "--timeout=120s",
        ])
        .ok();
    let (failures, requests) = client.stop();
    assert!(
        failures.is_empty(),
        "{} of {requests} requests failed: {:?}",
        failures.len(),
        failures[0]
    );
    assert!(
        get(&url)
            .expect("the node port answers")
            .starts_with("Hello world ! v2")
    );

    let history = space
        .kubectl(&["rollout", "history", "deployment/helloworld"])
        .ok();
    assert!(
        history.contains("\n1 ") && history.contains("\n2 "),
        "{history}"
    );
    space
        .kubectl(&["rollout", "undo", "deployment/helloworld"])
        .ok();
    space
        .kubectl(&[
            "rollout",
            "status",
            "deployment/helloworld",
            "--timeout=120s",
        ])
        .ok();
    assert!(
        get(&url)
            .expect("the node port answers")
            .starts_with("Hello world !\n")
    );
    space
        .kubectl(&["delete", "service/helloworld", "deployment/helloworld"])
        .ok();
}

/// Requests reach all pods: with four of them, 200 requests miss one with a chance below 10^-24.
fn spread_over(url: &str, pods: usize) {
    let mut hosts = BTreeSet::new();
    for _ in 0..200 {
        let answer = get(url).expect("the node port answers");
        hosts.insert(answer.lines().last().unwrap_or_default().to_owned());
    }
    assert_eq!(hosts.len(), pods, "{hosts:?}");
}
