//! Workloads beyond Deployments, with real clients: StatefulSets, DaemonSets, Jobs and CronJobs through their lives.

use cluster_tests::{Cluster, KUBECTLS, Namespace};

const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: nginx}
spec:
  clusterIP: None
  selector: {app: nginx}
  ports: [{port: 80, name: web}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: nginx
  replicas: 3
  selector: {matchLabels: {app: nginx}}
  template:
    metadata: {labels: {app: nginx}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: nginx
        image: nginx:1.7.9
        imagePullPolicy: IfNotPresent
        ports: [{containerPort: 80, name: web}]
        readinessProbe: {httpGet: {path: /, port: web}, periodSeconds: 1}
";

/// A field of an object.
#[track_caller]
fn field(space: &Namespace, object: &str, path: &str) -> String {
    let path = format!("jsonpath={{{path}}}");
    space.kubectl(&["get", object, "-o", &path]).ok()
}

/// The pods of an application with their images, by name.
#[track_caller]
fn pods(space: &Namespace, app: &str) -> Vec<String> {
    let path =
        "jsonpath={range .items[*]}{.metadata.name} {.spec.containers[0].image}{\"\\n\"}{end}";
    let selector = format!("app={app}");
    let all = space
        .kubectl(&["get", "pods", "-l", &selector, "-o", path])
        .ok();
    all.lines().map(str::to_owned).collect()
}

#[test]
fn a_stateful_set_keeps_names_and_order() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("stateful", minor);
        space.input(&["apply", "-f", "-"], WEB).ok();
        let status = space.kubectl(&["rollout", "status", "sts/web"]).ok();
        assert!(
            status.contains("partitioned roll out complete: 3 new pods have been updated...")
                || status.contains("statefulset rolling update complete 3 pods at revision"),
            "{status}"
        );
        assert_eq!(
            pods(&space, "nginx"),
            [
                "web-0 nginx:1.7.9",
                "web-1 nginx:1.7.9",
                "web-2 nginx:1.7.9"
            ]
        );
        came_in_order(&space);
        names_are_stable(&space);
        rolls_and_comes_back(&space);
        scales(&space);
        let described = space.kubectl(&["describe", "sts", "web"]).ok();
        for part in [
            "Update Strategy:    RollingUpdate",
            "Pods Status:        1 Running / 0 Waiting / 0 Succeeded / 0 Failed",
            "Create Pod web-0 in StatefulSet web successful",
        ] {
            assert!(described.contains(part), "{part} is missing: {described}");
        }
    }
}

/// Each was made when the one before was ready.
#[track_caller]
fn came_in_order(space: &Namespace) {
    let ready = ".status.conditions[?(@.type==\"Ready\")].lastTransitionTime";
    let made = ".metadata.creationTimestamp";
    for (before, after) in [("pod/web-0", "pod/web-1"), ("pod/web-1", "pod/web-2")] {
        assert!(field(space, before, ready) <= field(space, after, made));
    }
}

/// A pod knows its name, and others find it by that.
#[track_caller]
fn names_are_stable(space: &Namespace) {
    let host = space.kubectl(&["exec", "web-1", "--", "hostname"]).ok();
    assert_eq!(host.trim(), "web-1");
    let uid = field(space, "pod/web-1", ".metadata.uid");
    space.kubectl(&["delete", "pod", "web-1"]).ok();
    space.wait(&["sts/web"], "jsonpath={.status.readyReplicas}=3");
    assert_ne!(field(space, "pod/web-1", ".metadata.uid"), uid);
    let fetch = ["exec", "web-0", "--", "wget", "-qO-", "http://web-1.nginx"];
    assert_eq!(space.kubectl(&fetch).ok(), "nginx 1.7.9\n");
}

/// A new image from the top down, and back by the history.
#[track_caller]
fn rolls_and_comes_back(space: &Namespace) {
    space
        .kubectl(&["set", "image", "sts/web", "nginx=nginx:1.9.1"])
        .ok();
    space.kubectl(&["rollout", "status", "sts/web"]).ok();
    assert_eq!(
        pods(space, "nginx"),
        [
            "web-0 nginx:1.9.1",
            "web-1 nginx:1.9.1",
            "web-2 nginx:1.9.1"
        ]
    );
    let made = |pod: &str| field(space, pod, ".metadata.creationTimestamp");
    assert!(made("pod/web-2") <= made("pod/web-1") && made("pod/web-1") <= made("pod/web-0"));
    let history = space.kubectl(&["rollout", "history", "sts/web"]).ok();
    assert!(
        history.contains("REVISION") && history.contains("\n2 "),
        "{history}"
    );
    let one = ["rollout", "history", "sts/web", "--revision=1"];
    let first = space.kubectl(&one).ok();
    assert!(first.contains("nginx:1.7.9"), "{first}");
    let undone = space.kubectl(&["rollout", "undo", "sts/web"]).ok();
    assert_eq!(undone, "statefulset.apps/web rolled back\n");
    space.kubectl(&["rollout", "status", "sts/web"]).ok();
    assert_eq!(
        pods(space, "nginx"),
        [
            "web-0 nginx:1.7.9",
            "web-1 nginx:1.7.9",
            "web-2 nginx:1.7.9"
        ]
    );
    let partition = r#"{"spec":{"updateStrategy":{"rollingUpdate":{"partition":2}}}}"#;
    space
        .kubectl(&["patch", "sts", "web", "-p", partition])
        .ok();
    space.kubectl(&["rollout", "restart", "sts/web"]).ok();
    space.wait(&["sts/web"], "jsonpath={.status.updatedReplicas}=1");
    let status = space.kubectl(&["rollout", "status", "sts/web"]).ok();
    assert!(
        status.contains("partitioned roll out complete: 1 new pods have been updated..."),
        "{status}"
    );
}

/// The last ones go first.
#[track_caller]
fn scales(space: &Namespace) {
    let table = space.kubectl(&["get", "sts", "-o", "wide"]).ok();
    assert!(table.contains("3/3") && table.contains("IMAGES"), "{table}");
    space.kubectl(&["scale", "sts", "web", "--replicas=1"]).ok();
    space.wait(&["sts/web"], "jsonpath={.status.replicas}=1");
    assert_eq!(pods(space, "nginx"), ["web-0 nginx:1.7.9"]);
}

const AGENT: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: main, image: 'nginx:1.7.9', imagePullPolicy: IfNotPresent}
";

#[test]
fn a_daemon_set_rolls_and_comes_back() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("agents", minor);
        space.input(&["apply", "-f", "-"], AGENT).ok();
        let rolled = "daemon set \"agent\" successfully rolled out\n";
        let status = space.kubectl(&["rollout", "status", "ds/agent"]).ok();
        assert!(status.ends_with(rolled), "{status}");
        space
            .kubectl(&["set", "image", "ds/agent", "main=nginx:1.9.1"])
            .ok();
        let status = space.kubectl(&["rollout", "status", "ds/agent"]).ok();
        assert!(status.ends_with(rolled), "{status}");
        let images = |space: &Namespace| -> Vec<String> {
            let all = pods(space, "agent").into_iter();
            all.map(|p| p.split(' ').nth(1).unwrap_or_default().to_owned())
                .collect()
        };
        assert_eq!(images(&space), ["nginx:1.9.1"]);
        let history = space.kubectl(&["rollout", "history", "ds/agent"]).ok();
        assert!(
            history.contains("\n1 ") && history.contains("\n2 "),
            "{history}"
        );
        let undo = ["rollout", "undo", "ds/agent", "--to-revision=1"];
        assert_eq!(
            space.kubectl(&undo).ok(),
            "daemonset.apps/agent rolled back\n"
        );
        space.kubectl(&["rollout", "status", "ds/agent"]).ok();
        assert_eq!(images(&space), ["nginx:1.7.9"]);
        let history = space.kubectl(&["rollout", "history", "ds/agent"]).ok();
        assert!(
            history.contains("\n2 ") && history.contains("\n3 "),
            "{history}"
        );
        space.kubectl(&["rollout", "restart", "ds/agent"]).ok();
        space.kubectl(&["rollout", "status", "ds/agent"]).ok();
        let described = space.kubectl(&["describe", "ds", "agent"]).ok();
        for part in [
            "Desired Number of Nodes Scheduled: 1",
            "Number of Nodes Misscheduled: 0",
            "SuccessfulCreate",
        ] {
            assert!(described.contains(part), "{part} is missing: {described}");
        }
        a_cordon_stops_no_daemon(&space);
    }
}

#[track_caller]
fn a_cordon_stops_no_daemon(space: &Namespace) {
    let node = space.kubectl(&["get", "nodes", "-o", "name"]).ok();
    space.kubectl(&["cordon", node.trim()]).ok();
    let old = space
        .kubectl(&["get", "pods", "-l", "app=agent", "-o", "name"])
        .ok();
    space.kubectl(&["delete", old.trim()]).ok();
    space.wait(&["ds/agent"], "jsonpath={.status.numberReady}=1");
    space.wait(&["pod", "-l", "app=agent"], "condition=Ready");
    space.kubectl(&["uncordon", node.trim()]).ok();
}

/// A Job of a shell command.
fn job(name: &str, more: &str, command: &str) -> String {
    format!(
        "
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
  {more}
  template:
    spec:
      terminationGracePeriodSeconds: 0
      restartPolicy: Never
      containers:
      - {{name: main, image: busybox, imagePullPolicy: IfNotPresent, command: [sh, -c, '{command}']}}
"
    )
}

#[test]
fn jobs_fail_rest_and_go() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("batch", minor);
        let create = |manifest: &str| space.input(&["create", "-f", "-"], manifest).ok();
        create(&job("gone", "ttlSecondsAfterFinished: 1", "true"));
        create(&job("retried", "backoffLimit: 1", "exit 3"));
        create(&job("resting", "suspend: true", "true"));
        create(&job(
            "indexed",
            "completionMode: Indexed\n  completions: 3\n  parallelism: 3",
            "echo $JOB_COMPLETION_INDEX on $(hostname)",
        ));
        create(&job(
            "fatal",
            "podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [42]}}]}",
            "exit 42",
        ));

        space.wait(&["job/indexed"], "condition=Complete");
        assert_eq!(
            field(&space, "job/indexed", ".status.completedIndexes"),
            "0-2"
        );
        let label = "job-name=indexed,batch.kubernetes.io/job-completion-index=1";
        let said = space.kubectl(&["logs", "-l", label]).ok();
        assert_eq!(said, "1 on indexed-1\n");
        space.wait(&["job/fatal"], "condition=Failed");
        let reason = ".status.conditions[?(@.type==\"Failed\")].reason";
        assert_eq!(field(&space, "job/fatal", reason), "PodFailurePolicy");

        assert_eq!(field(&space, "job/resting", ".status.active"), "");
        let resume = r#"{"spec":{"suspend":false}}"#;
        space
            .kubectl(&["patch", "job", "resting", "-p", resume])
            .ok();
        space.wait(&["job/resting"], "condition=Complete");
        let described = space.kubectl(&["describe", "job", "resting"]).ok();
        for part in ["Suspended", "Resumed", "Completed", "1 Succeeded"] {
            assert!(described.contains(part), "{part} is missing: {described}");
        }

        space.wait(&["job/retried"], "condition=Failed");
        assert_eq!(field(&space, "job/retried", reason), "BackoffLimitExceeded");
        assert_eq!(field(&space, "job/retried", ".status.failed"), "2");
        space.wait(&["job/gone"], "delete");
        space.wait(&["pod", "-l", "job-name=gone"], "delete");

        // Nothing holds back the pods of Jobs that are deleted.
        space.kubectl(&["delete", "job", "--all"]).ok();
        space.wait(&["pod", "-l", "job-name"], "delete");
    }
}

#[test]
fn a_cron_job_fires_and_keeps_little() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("clock", minor);
        let schedule = ["--schedule=@every 3s", "--image=busybox"];
        let create = [&["create", "cronjob", "tick"], &schedule[..]].concat();
        let refused = space.kubectl(&[
            "create",
            "cronjob",
            "bad",
            "--image=busybox",
            "--schedule=* * * *",
        ]);
        let why = "spec.schedule: Invalid value: \"* * * *\": expected exactly 5 fields, found 4: [* * * *]";
        let refused = refused.failed();
        assert!(refused.contains(why), "{refused}");
        let dry = [
            &create[..],
            &["--dry-run=client", "-o", "yaml", "--", "true"],
        ]
        .concat();
        let manifest = space.kubectl(&dry).ok();
        let manifest = manifest.replace(
            "image: busybox",
            "image: busybox\n            imagePullPolicy: IfNotPresent",
        );
        let events = space.running(&["get", "events", "--watch"]);
        space.input(&["create", "-f", "-"], &manifest).ok();
        events.line("SawCompletedJob");
        let table = space.kubectl(&["get", "cronjobs"]).ok();
        assert!(
            table.contains("@every 3s") && table.contains("TIMEZONE"),
            "{table}"
        );
        let suspend = r#"{"spec":{"suspend":true}}"#;
        space
            .kubectl(&["patch", "cronjob", "tick", "-p", suspend])
            .ok();
        let owner = field(&space, "job", ".items[0].metadata.ownerReferences[0].name");
        assert_eq!(owner, "tick");
        let described = space.kubectl(&["describe", "cronjob", "tick"]).ok();
        for part in ["SuccessfulCreate", "SawCompletedJob", "Created job tick-"] {
            assert!(described.contains(part), "{part} is missing: {described}");
        }
    }
}

const DATA: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete, whenScaled: Retain}
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: busybox
        imagePullPolicy: IfNotPresent
        command: [sh, -c, 'hostname >> /data/log; cat /data/log; sleep 3600']
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      resources: {requests: {storage: 16Mi}}
";

#[test]
fn a_stateful_set_keeps_its_data() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("data", 36);
    space.input(&["apply", "-f", "-"], DATA).ok();
    space.kubectl(&["rollout", "status", "sts/db"]).ok();
    let claims = |space: &Namespace| space.kubectl(&["get", "pvc", "-o", "name"]).ok();
    let both = "persistentvolumeclaim/data-db-0\npersistentvolumeclaim/data-db-1\n";
    assert_eq!(claims(&space), both);
    let owner = field(&space, "pvc/data-db-0", ".metadata.ownerReferences[0].kind");
    assert_eq!(owner, "StatefulSet");
    space.kubectl(&["scale", "sts", "db", "--replicas=1"]).ok();
    space.wait(&["sts/db"], "jsonpath={.status.replicas}=1");
    assert_eq!(claims(&space), both);
    space.kubectl(&["scale", "sts", "db", "--replicas=2"]).ok();
    space.kubectl(&["rollout", "status", "sts/db"]).ok();
    assert_eq!(space.kubectl(&["logs", "db-1"]).ok(), "db-1\ndb-1\n");
    space.kubectl(&["delete", "sts", "db"]).ok();
    space.wait(&["pvc/data-db-0", "pvc/data-db-1"], "delete");
}
