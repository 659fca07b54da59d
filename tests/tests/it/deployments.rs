//! `kubernetes-guide.md` 2.6: the whole life of a Deployment.

use cluster_tests::{Cluster, KUBECTLS, Namespace};

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: nginx-deployment}
spec:
  replicas: 3
  selector: {matchLabels: {app: nginx}}
  template:
    metadata: {labels: {app: nginx}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: nginx
        image: nginx:1.7.9
        ports: [{containerPort: 80}]
";
const DEPLOYMENT: &str = "deployment/nginx-deployment";

/// A part of the Deployment's status or specification.
fn get(space: &Namespace, path: &str) -> String {
    space
        .kubectl(&["get", DEPLOYMENT, "-o", &format!("jsonpath={{{path}}}")])
        .ok()
}

/// Sizes of the replica sets, by image.
fn sizes(space: &Namespace) -> Vec<(String, u32)> {
    let path = "jsonpath={range .items[*]}{.spec.template.spec.containers[0].image} {.spec.replicas}{\"\\n\"}{end}";
    let text = space.kubectl(&["get", "rs", "-o", path]).ok();
    let mut sizes: Vec<(String, u32)> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(image, size)| (image.to_owned(), size.parse().expect("a number")))
        .collect();
    sizes.sort();
    sizes
}

fn rolled_out(space: &Namespace) {
    let said = space
        .kubectl(&["rollout", "status", DEPLOYMENT, "--timeout=120s"])
        .ok();
    assert!(said.contains("successfully rolled out"), "{said}");
}

#[test]
fn created_updated_stuck_and_rolled_back() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("deployments", minor);
        space.input(&["create", "-f", "-"], MANIFEST).ok();
        rolled_out(&space);
        // Whoever leaves fields to their owners goes by these names.
        let managers = "jsonpath={.items[*].metadata.managedFields[*].manager}";
        let managers = |kind: &str| {
            let list = ["get", kind, "--show-managed-fields", "-o", managers];
            space.kubectl(&list).ok()
        };
        // Both may have written in the same second, and then go by their names.
        let both = managers("deployment");
        for one in ["kubectl-create", "kube-controller-manager"] {
            assert!(both.contains(one), "{both}");
        }
        assert!(!both.contains("unknown"), "{both}");
        let pods = managers("pods");
        for one in pods.split_whitespace() {
            assert!(
                ["kube-controller-manager", "kubelet"].contains(&one),
                "{pods}"
            );
        }
        let table = space.kubectl(&["get", "deployments"]).ok();
        let columns = ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"];
        assert!(
            columns.iter().all(|c| table.contains(c)) && table.contains("3/3"),
            "{table}"
        );
        let labels = space.kubectl(&["get", "pods", "--show-labels"]).ok();
        assert_eq!(
            labels.matches("app=nginx,pod-template-hash=").count(),
            3,
            "{labels}"
        );

        space
            .kubectl(&["set", "image", DEPLOYMENT, "nginx=nginx:1.9.1"])
            .ok();
        space
            .kubectl(&[
                "annotate",
                DEPLOYMENT,
                "kubernetes.io/change-cause=to 1.9.1",
            ])
            .ok();
        rolled_out(&space);
        assert_eq!(
            sizes(&space),
            [("nginx:1.7.9".into(), 0), ("nginx:1.9.1".into(), 3)]
        );

        stuck(&space);
        let history = space.kubectl(&["rollout", "history", DEPLOYMENT]).ok();
        assert!(
            history.contains("REVISION  CHANGE-CAUSE") && history.contains("2         to 1.9.1"),
            "{history}"
        );
        let second = space
            .kubectl(&["rollout", "history", DEPLOYMENT, "--revision=2"])
            .ok();
        assert!(second.contains("nginx:1.9.1"), "{second}");

        space.kubectl(&["rollout", "undo", DEPLOYMENT]).ok();
        rolled_out(&space);
        assert_eq!(
            get(&space, ".spec.template.spec.containers[0].image"),
            "nginx:1.9.1"
        );
        space
            .kubectl(&["rollout", "undo", DEPLOYMENT, "--to-revision=1"])
            .ok();
        rolled_out(&space);
        assert_eq!(
            get(&space, ".spec.template.spec.containers[0].image"),
            "nginx:1.7.9"
        );
        assert_eq!(
            get(
                &space,
                ".metadata.annotations.deployment\\.kubernetes\\.io/revision"
            ),
            "5"
        );
    }
}

/// A typing error in the image: the rollout stands still, the old pods go on, the deadline is told.
fn stuck(space: &Namespace) {
    let deadline = r#"{"spec":{"progressDeadlineSeconds":2}}"#;
    space.kubectl(&["patch", DEPLOYMENT, "-p", deadline]).ok();
    space
        .kubectl(&["set", "image", DEPLOYMENT, "nginx=nginx:1.91"])
        .ok();
    let status = space.kubectl(&["rollout", "status", DEPLOYMENT, "--timeout=60s"]);
    let told = status.stderr.clone() + &status.stdout;
    assert!(told.contains("exceeded its progress deadline"), "{told}");
    assert_eq!(status.code, 1, "{told}");
    let condition = ".status.conditions[?(@.type==\"Progressing\")]";
    assert_eq!(get(space, &format!("{condition}.status")), "False");
    assert_eq!(
        get(space, &format!("{condition}.reason")),
        "ProgressDeadlineExceeded"
    );
    assert_eq!(get(space, ".status.readyReplicas"), "3");
    let new = sizes(space)
        .into_iter()
        .find(|(image, _)| image == "nginx:1.91");
    assert_eq!(new, Some(("nginx:1.91".into(), 1)));
    let described = space.kubectl(&["describe", DEPLOYMENT]).ok();
    for word in [
        "ScalingReplicaSet",
        "ProgressDeadlineExceeded",
        "25% max unavailable, 25% max surge",
    ] {
        assert!(described.contains(word), "{word} is not in\n{described}");
    }
    let slow = r#"{"spec":{"progressDeadlineSeconds":600}}"#;
    space.kubectl(&["patch", DEPLOYMENT, "-p", slow]).ok();
}

#[test]
fn paused_changed_and_resumed() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("paused", 36);
    space.input(&["create", "-f", "-"], MANIFEST).ok();
    rolled_out(&space);
    space.kubectl(&["rollout", "pause", DEPLOYMENT]).ok();
    space
        .kubectl(&["set", "image", DEPLOYMENT, "nginx=nginx:1.9.1"])
        .ok();
    let limits = "--limits=cpu=200m,memory=64Mi";
    space
        .kubectl(&["set", "resources", DEPLOYMENT, "-c=nginx", limits])
        .ok();
    let generation = get(&space, ".metadata.generation");
    space.wait(
        &[DEPLOYMENT],
        &format!("jsonpath={{.status.observedGeneration}}={generation}"),
    );
    assert_eq!(
        sizes(&space),
        [("nginx:1.7.9".into(), 3)],
        "nothing moves while it is paused"
    );
    let undo = space
        .kubectl(&["rollout", "undo", DEPLOYMENT, "--to-revision=1"])
        .failed();
    assert!(undo.contains("paused"), "{undo}");
    space.kubectl(&["rollout", "resume", DEPLOYMENT]).ok();
    rolled_out(&space);
    assert_eq!(
        sizes(&space),
        [("nginx:1.7.9".into(), 0), ("nginx:1.9.1".into(), 3)]
    );

    space.kubectl(&["rollout", "restart", DEPLOYMENT]).ok();
    rolled_out(&space);
    assert_eq!(sizes(&space).len(), 3, "a restart is a revision");
    let limit = r#"{"spec":{"revisionHistoryLimit":0}}"#;
    space.kubectl(&["patch", DEPLOYMENT, "-p", limit]).ok();
    let old = space.kubectl(&["get", "rs", "-o", "name"]).ok();
    for name in old.lines() {
        let size = space
            .kubectl(&[
                "get",
                name,
                "-o",
                "jsonpath={.spec.replicas}",
                "--ignore-not-found",
            ])
            .ok();
        if size == "0" {
            space.wait(&[name], "delete");
        }
    }
    assert_eq!(sizes(&space), [("nginx:1.9.1".into(), 3)]);
}

#[test]
fn a_rollout_is_scaled_in_proportion_and_a_failure_to_create_is_told() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("proportion", 36);
    let ten = MANIFEST.replace(
        "replicas: 3",
        "replicas: 10\n  strategy: {rollingUpdate: {maxSurge: 3, maxUnavailable: 2}}",
    );
    space.input(&["create", "-f", "-"], &ten).ok();
    rolled_out(&space);
    space
        .kubectl(&["set", "image", DEPLOYMENT, "nginx=nginx:sometag"])
        .ok();
    space.wait(&[DEPLOYMENT], "jsonpath={.status.updatedReplicas}=5");
    assert_eq!(
        sizes(&space),
        [("nginx:1.7.9".into(), 8), ("nginx:sometag".into(), 5)]
    );
    space.kubectl(&["scale", DEPLOYMENT, "--replicas=15"]).ok();
    space.wait(&[DEPLOYMENT], "jsonpath={.status.replicas}=18");
    assert_eq!(
        sizes(&space),
        [("nginx:1.7.9".into(), 11), ("nginx:sometag".into(), 7)]
    );

    space
        .kubectl(&["delete", DEPLOYMENT, "--cascade=foreground"])
        .ok();
    space
        .kubectl(&["create", "quota", "few", "--hard=pods=2"])
        .ok();
    space.wait(&["resourcequota/few"], "jsonpath={.status.hard.pods}=2");
    space.input(&["create", "-f", "-"], MANIFEST).ok();
    space.wait(&[DEPLOYMENT], "condition=ReplicaFailure");
    let message = get(
        &space,
        ".status.conditions[?(@.type==\"ReplicaFailure\")].message",
    );
    assert!(
        message.contains("exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2"),
        "{message}"
    );
}
