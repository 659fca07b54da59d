//! Objects through the real kubectl: every way to write them, read them and delete them.

use cluster_tests::{Cluster, KUBECTLS};
use serde_json::Value;

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: main, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "100000"]}
"#;

#[test]
fn every_way_to_write_and_read_an_object() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("objects", minor);
        let run = |arguments: &[&str]| space.kubectl(arguments).ok();
        let applied = |text: &str| space.input(&["apply", "-f", "-"], text).ok();
        assert_eq!(applied(DEPLOYMENT), "deployment.apps/web created\n");
        assert_eq!(applied(DEPLOYMENT), "deployment.apps/web unchanged\n");
        let changed = DEPLOYMENT.replace("replicas: 2", "replicas: 3");
        assert_eq!(applied(&changed), "deployment.apps/web configured\n");
        space.wait(
            &["deployment/web"],
            "jsonpath={.status.availableReplicas}=3",
        );
        let sided = space
            .input(
                &["apply", "--server-side", "--force-conflicts", "-f", "-"],
                &changed,
            )
            .ok();
        assert_eq!(sided, "deployment.apps/web serverside-applied\n");
        let wrong = changed.replace("replicas:", "replicaz:");
        let error = space.input(&["apply", "-f", "-"], &wrong).failed();
        assert!(error.contains("unknown field \"spec.replicaz\""), "{error}");

        for (format, part) in [
            ("json", "\"kind\": \"Deployment\""),
            ("yaml", "kind: Deployment"),
            ("wide", "SELECTOR"),
            ("name", "deployment.apps/web"),
            ("jsonpath={.spec.replicas}", "3"),
            ("go-template={{.metadata.name}}", "web"),
            ("custom-columns=N:.metadata.name", "web"),
        ] {
            let text = run(&["get", "deployment", "web", "-o", format]);
            assert!(text.contains(part), "{format}: {text}");
        }
        assert!(run(&["get", "deploy", "web", "--show-labels"]).contains("app=web"));
        let described = run(&["describe", "deployment", "web"]);
        for part in [
            "RollingUpdateStrategy:  25% max unavailable, 25% max surge",
            "ScalingReplicaSet",
        ] {
            assert!(described.contains(part), "{part} is not in\n{described}");
        }
        run(&["annotate", "deployment", "web", "note=yes"]);
        run(&[
            "patch",
            "deployment",
            "web",
            "-p",
            r#"{"spec":{"replicas":1}}"#,
        ]);
        run(&[
            "patch",
            "deployment",
            "web",
            "--type=json",
            "-p",
            r#"[{"op":"replace","path":"/spec/replicas","value":2}]"#,
        ]);
        run(&[
            "patch",
            "deployment",
            "web",
            "--type=merge",
            "-p",
            r#"{"spec":{"replicas":1}}"#,
        ]);
        space.wait(&["deployment/web"], "jsonpath={.status.replicas}=1");
        run(&["rollout", "restart", "deployment/web"]);
        run(&["rollout", "status", "deployment/web", "--timeout=60s"]);
        run(&["rollout", "pause", "deployment/web"]);
        run(&["rollout", "resume", "deployment/web"]);
        assert!(run(&["explain", "deployment.spec.replicas"]).contains("Number of desired pods"));
        assert!(run(&["api-resources"]).contains("deployments"));
        assert!(run(&["api-versions"]).contains("apps/v1"));
        assert_eq!(run(&["auth", "can-i", "delete", "pods"]), "yes\n");
        let denied = space.kubectl(&["auth", "can-i", "delete", "pods", "--as=nobody"]);
        assert_eq!(denied.stdout, "no\n");
        assert!(run(&["cluster-info"]).contains("is running at"));
        assert!(run(&["events"]).contains("ScalingReplicaSet"));

        run(&[
            "run",
            "single",
            "--image=busybox",
            "--image-pull-policy=IfNotPresent",
            "--",
            "sleep",
            "1000",
        ]);
        space.wait(&["pod/single"], "condition=Ready");
        run(&["delete", "pod", "single", "--grace-period=0", "--force"]);
        run(&["delete", "deployment", "web", "--cascade=orphan"]);
        let left: Value =
            serde_json::from_str(&run(&["get", "replicasets", "-o", "json"])).expect("JSON");
        assert!(
            left["items"]
                .as_array()
                .is_some_and(|items| !items.is_empty())
        );
        assert_eq!(applied(DEPLOYMENT), "deployment.apps/web created\n");
        space.wait(&["deployment/web"], "condition=Available");
        run(&["delete", "deployment", "web", "--cascade=foreground"]);
        space.wait(&["pods", "-l", "app=web"], "delete");
    }
}

#[test]
fn a_watch_shows_changes_and_a_name_space_goes_with_all_it_holds() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("watch", 36);
    let watch = space.running(&["get", "configmaps", "-w"]);
    watch.line("kube-root-ca.crt");
    space
        .kubectl(&["create", "configmap", "seen", "--from-literal=a=b"])
        .ok();
    watch.line("seen");
    let name = "watch-extra";
    space.kubectl(&["create", "namespace", name]).ok();
    space
        .kubectl(&["create", "configmap", "inside", "-n", name])
        .ok();
    space
        .kubectl(&["delete", "namespace", name, "--timeout=60s"])
        .ok();
    let error = space.kubectl(&["get", "namespace", name]).failed();
    assert!(error.contains("(NotFound)"), "{error}");
}

#[test]
fn a_node_is_cordoned_drained_and_tainted() {
    let cluster = Cluster::start("node");
    cluster.load(&demo_images::samples::busybox().expect("an image"));
    let run = |arguments: &[&str]| cluster.kubectl(36, arguments, "").ok();
    cluster.kubectl(36, &["apply", "-f", "-"], DEPLOYMENT).ok();
    run(&[
        "wait",
        "deployment/web",
        "--for=condition=Available",
        "--timeout=60s",
    ]);
    let node = run(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
    run(&["drain", &node, "--ignore-daemonsets", "--timeout=60s"]);
    assert!(run(&["get", "node", &node]).contains("SchedulingDisabled"));
    run(&[
        "wait",
        "pod",
        "-l",
        "app=web",
        "--for=condition=PodScheduled=false",
        "--timeout=60s",
    ]);
    run(&["uncordon", &node]);
    run(&[
        "wait",
        "deployment/web",
        "--for=condition=Available",
        "--timeout=60s",
    ]);
    run(&["taint", "node", &node, "special=yes:NoSchedule"]);
    run(&["taint", "node", &node, "special-"]);
}
