//! `oxikube why`: what is wrong is said, on the real thing.

use cluster_tests::{Cluster, Namespace};

fn why(space: &Namespace, object: &str) -> String {
    space
        .cluster()
        .oxikube(&["why", object, "--namespace", space.name()])
        .ok()
}

#[track_caller]
fn says(answer: &str, parts: &[&str]) {
    for part in parts {
        assert!(answer.contains(part), "{part:?} is not in\n{answer}");
    }
}

#[test]
fn what_stands_in_the_way_is_said_in_one_screen() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("why", 36);
    space
        .kubectl(&["create", "deployment", "typo", "--image=nginx:1.91"])
        .ok();
    let reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}=ImagePullBackOff";
    space.wait(
        &["deployment/typo"],
        "jsonpath={.status.unavailableReplicas}=1",
    );
    space.wait(&["pod", "-l", "app=typo"], reason);
    says(
        &why(&space, "deploy/typo"),
        &[
            "its rollout is not complete",
            "newest replica set typo-",
            "does not run",
            "check the image name nginx:1.91",
        ],
    );

    let big = r#"{"spec":{"containers":[{"name":"c","image":"busybox","resources":{"requests":{"cpu":"640"}}}]}}"#;
    let overrides = format!("--overrides={big}");
    space
        .kubectl(&["run", "big", "--image=busybox", &overrides])
        .ok();
    says(
        &why(&space, "po/big"),
        &[
            "it has no node",
            "1 Insufficient cpu",
            "asks for 640000m cpu",
        ],
    );

    space
        .kubectl(&["create", "service", "clusterip", "typos", "--tcp=80"])
        .ok();
    says(&why(&space, "svc/typos"), &["no end point", "app=typos"]);

    let held =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: held, finalizers: [example.com/mine]}\n";
    space.input(&["apply", "-f", "-"], held).ok();
    space
        .kubectl(&["delete", "cm", "held", "--wait=false"])
        .ok();
    says(
        &why(&space, "cm/held"),
        &[
            "its deletion was due",
            "the finalizer example.com/mine holds it",
        ],
    );
    let free = r#"{"metadata":{"finalizers":null}}"#;
    space
        .kubectl(&["patch", "cm", "held", "--type=merge", "-p", free])
        .ok();

    let none = space.cluster().oxikube(&["why", "pod/none"]).failed();
    assert_eq!(
        none,
        "error: cannot read pods default/none: pods \"none\" not found\n"
    );
}
