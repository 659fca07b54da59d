//! Pictures of clusters in trouble, and what is said about them.

use control::Resource;
use expect_test::{Expect, expect};
use serde_json::Value;

use crate::{Item, Picture, answer};

fn resource(object: &Value) -> Resource {
    let text = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
    let (api, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = api.split_once('/').unwrap_or(("", &api));
    let plural = match kind.as_str() {
        "StorageClass" => "storageclasses".to_owned(),
        "Endpoints" => "endpoints".to_owned(),
        _ => format!("{}s", kind.to_lowercase()),
    };
    Resource {
        group: group.to_owned().into(),
        version: version.to_owned().into(),
        plural: plural.into(),
        namespaced: !object["metadata"]["namespace"].is_null(),
        kind: kind.into(),
    }
}

/// The first document is the subject; every object has its name for UID.
fn check(documents: &str, expected: &Expect) {
    let mut items = documents.split("\n---").map(|document| {
        let mut object: Value = serde_saphyr::from_str(document)
            .unwrap_or_else(|e| panic!("test YAML: {e}\n{document}"));
        let name = object["metadata"]["name"].clone();
        object["metadata"]["uid"] = name;
        Item {
            resource: resource(&object),
            object,
        }
    });
    let picture = Picture {
        subject: items.next().expect("a subject"),
        around: items.collect(),
        unread: Vec::new(),
        now: "2026-01-01T00:10:00Z".parse().expect("a time"),
    };
    expected.assert_eq(&answer(&picture).to_string());
}

const NODE: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {kubernetes.io/os: linux}}
status:
  allocatable: {cpu: "2", memory: 1Gi, pods: "110"}
  conditions: [{type: Ready, status: "True"}]
"#;

#[test]
fn a_pod_that_asks_for_too_much() {
    let pod = "
apiVersion: v1
kind: Pod
metadata: {name: big, namespace: d}
spec: {containers: [{name: c, image: i, resources: {requests: {cpu: '64'}}}]}
status: {phase: Pending}
---";
    check(
        &format!("{pod}{NODE}"),
        &expect![[r#"
            Pod d/big: it is pending: it has no node
            - 0/1 nodes are available: 1 Insufficient cpu.
            - it asks for 64000m cpu; the most that is free is 2000m, on n1 (of 2000m)
              > no node is that big: lower resources.requests
        "#]],
    );
}

#[test]
fn a_pod_that_wants_a_label_nobody_has() {
    let pod = "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: d}
spec: {nodeSelector: {disk: ssd, kubernetes.io/os: linux}, containers: [{name: c, image: i}]}
status: {phase: Pending}
---";
    check(
        &format!("{pod}{NODE}"),
        &expect![[r#"
            Pod d/p: it is pending: it has no node
            - 0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.
            - no node has the labels that it wants
                no node has disk=ssd
              > kubectl label node NODE disk=ssd
        "#]],
    );
}

#[test]
fn a_pod_whose_claim_has_no_class() {
    let pod = "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: d}
spec:
  containers: [{name: c, image: i}]
  volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]
status: {phase: Pending}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: d}
spec: {storageClassName: fast, accessModes: [ReadWriteOnce]}
status: {phase: Pending}
---";
    check(
        &format!("{pod}{NODE}"),
        &expect![[r#"
            Pod d/p: it is pending: it has no node
            - its claim data is not bound
              - its class fast does not exist, and no volume of that class fits
                > create the StorageClass, or name one of: kubectl get storageclass
        "#]],
    );
}

#[test]
fn a_container_that_crashes() {
    let pod = "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: d}
spec: {nodeName: n1, containers: [{name: c, image: i}]}
status:
  phase: Running
  containerStatuses:
  - name: c
    image: i
    imageID: ''
    ready: false
    restartCount: 4
    state: {waiting: {reason: CrashLoopBackOff, message: back-off 40s restarting failed container}}
    lastState: {terminated: {exitCode: 127, reason: Error}}
---";
    check(
        &format!("{pod}{NODE}"),
        &expect![[r#"
            Pod d/p: it is not ready on node n1
            - container c does not run: CrashLoopBackOff
                the last run: exit code 127, the command was not found; restarted 4 times
                back-off 40s restarting failed container
              > kubectl logs -n d p -c c --previous
        "#]],
    );
}

#[test]
fn a_probe_that_fails() {
    let pod = "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: d}
spec: {nodeName: n1, containers: [{name: c, image: i, readinessProbe: {tcpSocket: {port: 1}}}]}
status:
  phase: Running
  containerStatuses:
  - name: c
    image: i
    imageID: ''
    ready: false
    started: true
    restartCount: 0
    state: {running: {startedAt: '2026-01-01T00:09:00Z'}}
---
apiVersion: v1
kind: Event
metadata: {name: e, namespace: d}
involvedObject: {kind: Pod, name: p, namespace: d, uid: p}
type: Warning
reason: Unhealthy
message: 'Readiness probe failed: dial tcp: connection refused'
count: 6
lastTimestamp: '2026-01-01T00:09:55Z'
---";
    check(
        &format!("{pod}{NODE}"),
        &expect![[r#"
            Pod d/p: it is not ready on node n1
            - container c runs, but its readiness probe does not succeed after 60s
                Readiness probe failed: dial tcp: connection refused
              > kubectl logs -n d p -c c
        "#]],
    );
}

const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: d}
spec: {selector: {app: web, tier: front}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: w1, namespace: d, labels: LABELS}
spec: {nodeName: n1, containers: [{name: c, image: i}]}
status: {phase: Running, conditions: [{type: Ready, status: 'True'}]}
---";

#[test]
fn a_service_whose_selector_misses() {
    check(
        &format!("{}{NODE}", WEB.replace("LABELS", "{app: web, tier: back}")),
        &expect![[r#"
            Service d/web: it has no end point that is ready: whoever asks it is refused
            - no pod in its namespace has the labels app=web,tier=front
                closest is pod w1, which lacks tier=front
        "#]],
    );
}

#[test]
fn a_service_whose_port_has_no_name() {
    check(
        &format!("{}{NODE}", WEB.replace("LABELS", "{app: web, tier: front}")),
        &expect![[r#"
            Service d/web: it has no end point that is ready: whoever asks it is refused
            - its target port http is no named port of its pods
              > name the container's port so, or use the number
        "#]],
    );
}

#[test]
fn a_rollout_on_an_image_that_is_not_there() {
    check(
        &format!(
            "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: d}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: c, image: bad}}]}}}}
status:
  replicas: 3
  updatedReplicas: 1
  readyReplicas: 2
  conditions:
  - {{type: Progressing, status: 'False', reason: ProgressDeadlineExceeded, message: ReplicaSet web-2 has timed out progressing.}}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: web-2
  namespace: d
  annotations: {{deployment.kubernetes.io/revision: '2'}}
  ownerReferences: [{{apiVersion: apps/v1, kind: Deployment, name: web, uid: web, controller: true}}]
spec: {{replicas: 1, selector: {{matchLabels: {{app: web, v: '2'}}}}}}
status: {{replicas: 1, readyReplicas: 0, fullyLabeledReplicas: 1}}
---
apiVersion: v1
kind: Pod
metadata:
  name: web-2-x
  namespace: d
  labels: {{app: web, v: '2'}}
  ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: web-2, uid: web-2, controller: true}}]
spec: {{nodeName: n1, containers: [{{name: c, image: bad}}]}}
status:
  phase: Pending
  containerStatuses:
  - name: c
    image: bad
    imageID: ''
    ready: false
    restartCount: 0
    state: {{waiting: {{reason: ImagePullBackOff, message: 'Back-off pulling image \"bad\"'}}}}
---{NODE}"
        ),
        &expect![[r#"
            Deployment d/web: its rollout is not complete: 1 of 2 pods are of the newest revision, 2 pods are ready
            - condition Progressing is False (ProgressDeadlineExceeded)
                ReplicaSet web-2 has timed out progressing.
            - newest replica set web-2: 0 of 1 pods are ready
              - pod web-2-x: it is pending on node n1
                - container c does not run: ImagePullBackOff
                    Back-off pulling image "bad"
                  > check the image name bad and access to its registry, or load it: oxikube image load FILE
            - its controller: adopting or releasing replica sets
        "#]],
    );
}

#[test]
fn a_claim_that_is_still_used() {
    check(
        "
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: data
  namespace: d
  deletionTimestamp: '2026-01-01T00:00:00Z'
  finalizers: [kubernetes.io/pvc-protection]
spec: {accessModes: [ReadWriteOnce]}
status: {phase: Bound}
---
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: d}
spec:
  containers: [{name: c, image: i}]
  volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]
",
        &expect![[r#"
            PersistentVolumeClaim d/data: its deletion was due 600s ago and is not done
            - pods still use it: it goes with the last of them
              - pod p
        "#]],
    );
}

#[test]
fn a_namespace_with_something_left_in_it() {
    check(
        "
apiVersion: v1
kind: Namespace
metadata: {name: d, deletionTimestamp: '2026-01-01T00:09:00Z'}
spec: {finalizers: [kubernetes]}
status: {phase: Terminating}
---
apiVersion: example.com/v1
kind: Widget
metadata: {name: w, namespace: d, finalizers: [example.com/cleanup]}
",
        &expect![[r#"
            Namespace d: its deletion was due 60s ago and is not done
            - 1 widgets.example.com are left: w
                finalizer example.com/cleanup holds w
        "#]],
    );
}

#[test]
fn a_pod_on_a_node_that_is_silent() {
    check(
        "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: d, deletionTimestamp: '2026-01-01T00:05:00Z'}
spec: {nodeName: n2, containers: [{name: c, image: i}]}
status: {phase: Running}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
status: {conditions: [{type: Ready, status: Unknown, message: Kubelet stopped posting node status.}]}
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: n2, namespace: kube-node-lease}
spec: {renewTime: '2026-01-01T00:08:00.000000Z'}
",
        &expect![[r#"
            Pod d/p: its deletion was due 300s ago and is not done
            - its node has to confirm that it has ended
              > if its node never comes back: kubectl delete pod p --grace-period=0 --force
              - node n2 has fallen silent: its lease was renewed 120s ago
                  Kubelet stopped posting node status.
                > see whether the machine and its kubelet run; start it again: oxikube node start n2
        "#]],
    );
}

#[test]
fn a_stateful_set_waits_for_the_pod_before() {
    let set = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web, namespace: d, generation: 1}
spec:
  replicas: 3
  serviceName: web
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}
status: {replicas: 1, currentRevision: web-1}
---
apiVersion: apps/v1
kind: ControllerRevision
metadata:
  name: web-1
  namespace: d
  labels: {app: web}
  ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: web, uid: web, controller: true}]
data: {spec: {template: {$patch: replace, metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}}}
revision: 1
---
apiVersion: v1
kind: Pod
metadata:
  name: web-0
  namespace: d
  labels: {app: web, controller-revision-hash: web-1, statefulset.kubernetes.io/pod-name: web-0}
  ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: web, uid: web, controller: true}]
spec: {nodeName: n1, containers: [{name: c, image: i}]}
status: {phase: Running, conditions: [{type: Ready, status: 'False'}]}
---";
    check(
        &format!("{set}{NODE}"),
        &expect![[r#"
        StatefulSet d/web: 0 of 3 pods are ready
        - pod web-0: it is not ready on node n1
          - the kubelet of n1 has not told anything about it yet
        - its controller: waiting for pod web-0 to be running and ready
    "#]],
    );
}

#[test]
fn a_job_waits_after_a_failure_and_a_cron_job_for_its_time() {
    check(
        "
apiVersion: batch/v1
kind: Job
metadata: {name: j, namespace: d}
spec:
  completions: 1
  parallelism: 1
  backoffLimit: 6
  selector: {matchLabels: {j: j}}
  template: {metadata: {labels: {j: j}}, spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}
status: {startTime: '2026-01-01T00:09:00Z', failed: 1, ready: 0, terminating: 0, uncountedTerminatedPods: {}}
---
apiVersion: v1
kind: Pod
metadata:
  name: j-1
  namespace: d
  labels: {j: j}
  ownerReferences: [{apiVersion: batch/v1, kind: Job, name: j, uid: j, controller: true}]
spec: {nodeName: n1, restartPolicy: Never, containers: [{name: c, image: i}]}
status:
  phase: Failed
  containerStatuses:
  - {name: c, ready: false, restartCount: 0, image: i, imageID: '', state: {terminated: {exitCode: 3, finishedAt: '2026-01-01T00:09:56Z'}}}",
        &expect![[r#"
            Job d/j: it is not complete: 0 active, 0 succeeded, 1 failed
            - pod j-1: it has failed: a container ended with an error
              - container c has ended: exit code 3
                > kubectl logs -n d j-1 -c c
            - its controller: a pod has failed, the next comes in 6s
        "#]],
    );
    check(
        "
apiVersion: batch/v1
kind: CronJob
metadata: {name: c, namespace: d, creationTimestamp: '2026-01-01T00:09:30Z'}
spec:
  schedule: '*/15 * * * *'
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}",
        &expect![[r#"
            CronJob d/c: 0 jobs are active; it is not due; the next job is due in 5m
        "#]],
    );
}
