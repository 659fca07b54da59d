//! `components-and-guestbook.rst`: the Guestbook, step by step.

use std::time::{Duration, Instant};

use cluster_tests::{Cluster, KUBECTLS, Namespace};

/// The manifests of the tutorial.
fn manifest(name: &str) -> String {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../demo/guestbook/manifests");
    std::fs::read_to_string(format!("{directory}/{name}.yaml")).expect("a manifest")
}

#[test]
fn the_manifests_are_those_of_the_tutorial() {
    let tutorial = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/seeds/components-and-guestbook.rst"
    );
    // The tutorial is not part of the project; where it is at hand the copies are held against it.
    let Ok(tutorial) = std::fs::read_to_string(tutorial) else {
        return;
    };
    let squeeze = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let tutorial = squeeze(&tutorial);
    for name in [
        "redis-master-controller",
        "redis-master-service",
        "redis-slave-controller",
        "redis-slave-service",
        "frontend-controller",
        "frontend-service",
        "frontend-service-nodeport",
    ] {
        assert!(tutorial.contains(squeeze(&manifest(name)).trim()), "{name}");
    }
}

#[test]
fn the_guestbook_step_by_step() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        walk(&cluster.namespace("guestbook", minor), minor);
    }
}

fn walk(space: &Namespace, minor: u32) {
    for (name, replicas) in [
        ("redis-master", "1"),
        ("redis-slave", "2"),
        ("frontend", "3"),
    ] {
        let created = space
            .input(
                &["create", "-f", "-"],
                &manifest(&format!("{name}-controller")),
            )
            .ok();
        assert_eq!(created, format!("replicationcontroller/{name} created\n"));
        space
            .input(
                &["create", "-f", "-"],
                &manifest(&format!("{name}-service")),
            )
            .ok();
        let ready = format!("jsonpath={{.status.readyReplicas}}={replicas}");
        space.wait(&[&format!("replicationcontroller/{name}")], &ready);
        let table = space.kubectl(&["get", "replicationcontroller", name]).ok();
        let head: Vec<&str> = table
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        assert_eq!(
            head,
            ["NAME", "DESIRED", "CURRENT", "READY", "AGE"],
            "{table}"
        );
    }
    let table = space.kubectl(&["get", "service", "redis-master"]).ok();
    assert!(
        table.contains("ClusterIP") && table.contains("6379/TCP"),
        "{table}"
    );

    let replaced = space.input(
        &["replace", "--force", "-f", "-"],
        &manifest("frontend-service-nodeport"),
    );
    assert!(
        replaced.clone().ok().contains("service/frontend replaced"),
        "{replaced:?}"
    );
    let port = space.kubectl(&[
        "get",
        "service",
        "frontend",
        "-o",
        "jsonpath={.spec.ports[0].nodePort}",
    ]);
    let site = format!("http://{}:{}", space.cluster().node_address(), port.ok());
    sign(&site, &format!("by name, with kubectl 1.{minor}"));

    // The other way to find a service: the environment that it leaves in pods started after it.
    space
        .kubectl(&[
            "set",
            "env",
            "replicationcontroller/frontend",
            "GET_HOSTS_FROM=env",
        ])
        .ok();
    space
        .kubectl(&["delete", "pods", "-l", "name=frontend"])
        .ok();
    space.wait(
        &["replicationcontroller/frontend"],
        "jsonpath={.status.readyReplicas}=3",
    );
    let pod = space
        .kubectl(&["get", "pods", "-l", "name=frontend", "-o", "name"])
        .ok();
    let pod = pod.lines().next().expect("a pod").to_owned();
    let environment = space.kubectl(&["exec", &pod, "--", "env"]).ok();
    for variable in [
        "REDIS_MASTER_SERVICE_HOST=10.",
        "REDIS_MASTER_PORT_6379_TCP_PROTO=tcp",
        "REDIS_MASTER_SERVICE_PORT=6379",
    ] {
        assert!(
            environment.contains(variable),
            "{variable} is not in\n{environment}"
        );
    }
    sign(&site, &format!("by environment, with kubectl 1.{minor}"));

    space
        .kubectl(&[
            "delete",
            "replicationcontroller",
            "redis-master",
            "redis-slave",
            "frontend",
        ])
        .ok();
    space
        .kubectl(&[
            "delete",
            "service",
            "redis-master",
            "redis-slave",
            "frontend",
        ])
        .ok();
    space.wait(
        &["pods", "-l", "name in (redis-master,redis-slave,frontend)"],
        "delete",
    );
}

/// Leaves a message and waits until it can be read: Redis tells nobody when its slaves have caught up.
fn sign(site: &str, message: &str) {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(10)))
        .max_redirects(0)
        .max_idle_connections(0)
        .build()
        .into();
    let url = format!("{site}/messages");
    let began = Instant::now();
    let last = || began.elapsed() > Duration::from_secs(90);
    while let Err(error) = agent.post(&url).send_form([("message", message)]) {
        assert!(!last(), "{error}");
        std::thread::sleep(Duration::from_millis(200));
    }
    loop {
        let seen = agent
            .get(&url)
            .call()
            .and_then(|answer| answer.into_body().read_to_string());
        if seen
            .as_ref()
            .is_ok_and(|messages| messages.contains(message))
        {
            return;
        }
        assert!(!last(), "{message} is not in {seen:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
