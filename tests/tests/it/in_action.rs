//! `kubernetes-in-action-notes.md`: chapters 2 to 4, as one goes through them.

use std::io::{Read, Write};
use std::net::TcpStream;

use cluster_tests::{Cluster, KUBECTLS, Namespace};

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: kubia-manual}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - image: luksa/kubia
    imagePullPolicy: IfNotPresent
    name: kubia
    ports: [{containerPort: 8080, protocol: TCP}]
---
apiVersion: v1
kind: Pod
metadata: {name: kubia-manual-v2, labels: {creation_method: manual, env: prod}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {image: luksa/kubia, imagePullPolicy: IfNotPresent, name: kubia}
";

/// Names of the pods that a selector chooses.
fn chosen(space: &Namespace, selector: &str) -> Vec<String> {
    let names = space
        .kubectl(&["get", "po", "-l", selector, "-o", "name"])
        .ok();
    names
        .lines()
        .map(|n| n.trim_start_matches("pod/").to_owned())
        .collect()
}

#[test]
fn pods_labels_selectors_and_annotations() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("kubia", minor);
        space.input(&["create", "-f", "-"], PODS).ok();
        space.wait(
            &["pod/kubia-manual", "pod/kubia-manual-v2"],
            "condition=Ready",
        );
        let logs = space.kubectl(&["logs", "kubia-manual", "-c", "kubia"]).ok();
        assert!(logs.contains("Kubia server starting..."), "{logs}");
        let said = forwarded(&space, "kubia-manual");
        assert!(said.contains("You have hit kubia-manual"), "{said}");

        let shown = space
            .kubectl(&["get", "po", "-L", "creation_method,env"])
            .ok();
        assert!(
            shown.contains("CREATION_METHOD") && shown.contains("manual"),
            "{shown}"
        );
        let refused = space
            .kubectl(&["label", "po", "kubia-manual-v2", "env=debug"])
            .failed();
        assert!(refused.contains("--overwrite is false"), "{refused}");
        space
            .kubectl(&["label", "po", "kubia-manual-v2", "env=debug", "--overwrite"])
            .ok();
        let second = ["kubia-manual-v2"];
        for (selector, expected) in [
            ("creation_method=manual", &second[..]),
            ("env", &second),
            ("!env", &["kubia-manual"]),
            ("env!=debug", &["kubia-manual"]),
            ("env in (prod,debug)", &second),
            ("env notin (prod,debug)", &["kubia-manual"]),
            ("env=debug,creation_method=manual", &second),
        ] {
            assert_eq!(chosen(&space, selector), expected, "{selector}");
        }
        let key = "mycompany.com/someannotation=foo bar";
        space
            .kubectl(&["annotate", "pod", "kubia-manual", key])
            .ok();
        let described = space.kubectl(&["describe", "pod", "kubia-manual"]).ok();
        assert!(
            described.contains("mycompany.com/someannotation: foo bar"),
            "{described}"
        );
        space
            .kubectl(&["delete", "po", "-l", "creation_method=manual"])
            .ok();
        assert_eq!(chosen(&space, ""), ["kubia-manual"]);
    }
}

/// What a pod answers through `kubectl port-forward`.
fn forwarded(space: &Namespace, pod: &str) -> String {
    let forward = space.running(&["port-forward", pod, ":8080"]);
    let line = forward.line("Forwarding from 127.0.0.1:");
    let mut words = line.split([':', ' ']);
    let port = words
        .find_map(|word| word.parse::<u16>().ok())
        .expect("a port");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("forwarded");
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn name_spaces_and_contexts() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("custom-namespace", 36);
    space.input(&["create", "-f", "-"], PODS).ok();
    // A file of its own: others use the context too.
    let raw = space.kubectl(&["config", "view", "--raw", "--minify"]).ok();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), raw).expect("written");
    let config = format!("--kubeconfig={}", file.path().display());
    let own = |arguments: &[&str]| {
        cluster
            .kubectl(36, &[&[config.as_str()], arguments].concat(), "")
            .ok()
    };
    let context = own(&["config", "current-context"]);
    let named = format!("--namespace={}", space.name());
    own(&["config", "set-context", context.trim(), &named]);
    let shown = own(&["config", "view", "--minify"]);
    assert!(
        shown.contains(&format!("namespace: {}", space.name())),
        "{shown}"
    );
    assert!(
        own(&["get", "pods"]).contains("kubia-manual"),
        "without --namespace"
    );
    space.kubectl(&["delete", "all", "--all"]).ok();
    let left = space.kubectl(&["get", "pods", "-o", "name"]).ok();
    assert_eq!(left, "");
}

#[test]
fn a_liveness_probe_restarts_what_is_not_well() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("liveness", 36);
    space
        .input(
            &["create", "-f", "-"],
            "
apiVersion: v1
kind: Pod
metadata: {name: kubia-liveness}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - image: luksa/kubia-unhealthy
    imagePullPolicy: IfNotPresent
    name: kubia
    livenessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
",
        )
        .ok();
    let restarts = "jsonpath={.status.containerStatuses[0].restartCount}=1";
    space.wait(&["pod/kubia-liveness"], restarts);
    let before = space
        .kubectl(&["logs", "kubia-liveness", "--previous"])
        .ok();
    assert!(before.contains("Kubia server starting..."), "{before}");
    let described = space.kubectl(&["describe", "po", "kubia-liveness"]).ok();
    for part in [
        "Last State:     Terminated",
        "Exit Code:    1",
        "Liveness probe failed: HTTP probe failed with statuscode: 500",
        "Container kubia failed liveness probe, will be restarted",
        "http-get http://:8080/ delay=0s timeout=1s period=1s #success=1 #failure=3",
    ] {
        assert!(described.contains(part), "{part:?} is not in\n{described}");
    }
}

const RC: &str = "
apiVersion: v1
kind: ReplicationController
metadata: {name: kubia}
spec:
  replicas: 3
  selector: {app: kubia}
  template:
    metadata: {labels: {app: kubia}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: kubia, image: luksa/kubia, imagePullPolicy: IfNotPresent, ports: [{containerPort: 8080}]}
";

#[test]
fn a_replication_controller_adopts_and_releases() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("adoption", minor);
        space.input(&["create", "-f", "-"], RC).ok();
        space.wait(&["rc/kubia"], "jsonpath={.status.readyReplicas}=3");
        let pods = chosen(&space, "app=kubia");
        space.kubectl(&["delete", "pod", &pods[0]]).ok();
        space.wait(&["rc/kubia"], "jsonpath={.status.readyReplicas}=3");

        let moved = chosen(&space, "app=kubia")[0].clone();
        space
            .kubectl(&["label", "pod", &moved, "app=foo", "--overwrite"])
            .ok();
        space.wait(
            &[&format!("pod/{moved}")],
            "jsonpath={.metadata.labels.app}=foo",
        );
        space.wait(&["rc/kubia"], "jsonpath={.status.readyReplicas}=3");
        let owner = "jsonpath={.metadata.ownerReferences}";
        assert_eq!(
            space.kubectl(&["get", "pod", &moved, "-o", owner]).ok(),
            "",
            "it is released"
        );
        space
            .kubectl(&["label", "pod", &moved, "app=kubia", "--overwrite"])
            .ok();
        // One too many: it is adopted, and one of the four goes.
        space.wait(&["rc/kubia"], "jsonpath={.status.replicas}=3");

        space
            .kubectl(&["scale", "rc", "kubia", "--replicas=4"])
            .ok();
        space.wait(&["rc/kubia"], "jsonpath={.status.readyReplicas}=4");
        space
            .kubectl(&["delete", "rc", "kubia", "--cascade=orphan"])
            .ok();
        let orphans = chosen(&space, "app=kubia");
        assert_eq!(orphans.len(), 4, "{orphans:?}");

        let set = RC
            .replace(
                "v1\nkind: ReplicationController",
                "apps/v1\nkind: ReplicaSet",
            )
            .replace(
                "{app: kubia}\n  template",
                "{matchExpressions: [{key: app, operator: In, values: [kubia]}]}\n  template",
            );
        space.input(&["create", "-f", "-"], &set).ok();
        space.wait(&["rs/kubia"], "jsonpath={.status.readyReplicas}=3");
        space
            .kubectl(&["delete", "rs", "kubia", "--cascade=foreground"])
            .ok();
        assert_eq!(chosen(&space, "app=kubia"), Vec::<String>::new());
    }
}

const SSD_MONITOR: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: ssd-monitor}
spec:
  selector: {matchLabels: {app: ssd-monitor}}
  template:
    metadata: {labels: {app: ssd-monitor}}
    spec:
      terminationGracePeriodSeconds: 0
      nodeSelector: {disk: ssd}
      containers:
      - {name: main, image: luksa/ssd-monitor, imagePullPolicy: IfNotPresent}
";

#[test]
fn a_daemon_set_follows_the_label_of_the_node() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("daemons", 36);
    let node = space.kubectl(&["get", "nodes", "-o", "name"]).ok();
    let node = node.trim();
    space.input(&["create", "-f", "-"], SSD_MONITOR).ok();
    space.wait(
        &["ds/ssd-monitor"],
        "jsonpath={.status.observedGeneration}=1",
    );
    assert_eq!(chosen(&space, "app=ssd-monitor"), Vec::<String>::new());
    space.kubectl(&["label", node, "disk=ssd"]).ok();
    space.wait(&["ds/ssd-monitor"], "jsonpath={.status.numberReady}=1");
    let table = space.kubectl(&["get", "ds"]).ok();
    assert!(
        table.contains("NODE SELECTOR") && table.contains("disk=ssd"),
        "{table}"
    );
    space
        .kubectl(&["label", node, "disk=hdd", "--overwrite"])
        .ok();
    space.wait(
        &["ds/ssd-monitor"],
        "jsonpath={.status.desiredNumberScheduled}=0",
    );
    space.wait(&["pod", "-l", "app=ssd-monitor"], "delete");
    space.kubectl(&["label", node, "disk-"]).ok();
}

const JOB: &str = "
apiVersion: batch/v1
kind: Job
metadata: {name: NAME}
spec:
  MORE
  template:
    metadata: {labels: {app: NAME}}
    spec:
      terminationGracePeriodSeconds: 0
      restartPolicy: Never
      containers:
      - {name: main, image: luksa/batch-job, imagePullPolicy: IfNotPresent}
";

fn job(space: &Namespace, name: &str, more: &str) {
    let manifest = JOB.replace("NAME", name).replace("MORE", more);
    space.input(&["create", "-f", "-"], &manifest).ok();
}

#[test]
fn jobs_once_many_times_side_by_side_and_in_time() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("jobs", minor);
        job(&space, "batch-job", "backoffLimit: 6");
        job(&space, "multi", "completions: 5\n  parallelism: 2");
        job(&space, "late", "activeDeadlineSeconds: 1");
        space.wait(&["job/batch-job"], "condition=Complete");
        let logs = space.kubectl(&["logs", "job/batch-job"]).ok();
        assert!(logs.contains("Finished succesfully"), "{logs}");
        let table = space.kubectl(&["get", "jobs"]).ok();
        assert!(
            table.contains("COMPLETIONS") && table.contains("1/1"),
            "{table}"
        );

        let parallelism = r#"{"spec":{"parallelism":3}}"#;
        space
            .kubectl(&["patch", "job", "multi", "-p", parallelism])
            .ok();
        space.wait(&["job/multi"], "condition=Complete");
        let path = "jsonpath={.status.succeeded}";
        assert_eq!(
            space.kubectl(&["get", "job", "multi", "-o", path]).ok(),
            "5"
        );

        space.wait(&["job/late"], "condition=Failed");
        let path = "jsonpath={.status.conditions[?(@.type==\"Failed\")].reason}";
        assert_eq!(
            space.kubectl(&["get", "job", "late", "-o", path]).ok(),
            "DeadlineExceeded"
        );

        let manifest = JOB
            .replace("NAME", "failing")
            .replace("MORE", "backoffLimit: 0")
            .replace("name: main, ", "name: main, command: [\"false\"], ");
        space.input(&["create", "-f", "-"], &manifest).ok();
        space.wait(&["job/failing"], "condition=Failed");
        let described = space.kubectl(&["describe", "job", "failing"]).ok();
        assert!(described.contains("BackoffLimitExceeded"), "{described}");
    }
}

#[test]
fn a_cron_job_makes_jobs() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("cron", 36);
    let cron = "
apiVersion: batch/v1
kind: CronJob
metadata: {name: batch-job-every-fifteen-minutes}
spec:
  schedule: \"0,15,30,45 * * * *\"
  startingDeadlineSeconds: 15
  jobTemplate:
    spec:
      template:
        metadata: {labels: {app: periodic-batch-job}}
        spec:
          restartPolicy: OnFailure
          containers:
          - {name: main, image: luksa/batch-job, imagePullPolicy: IfNotPresent}
";
    space.input(&["create", "-f", "-"], cron).ok();
    let table = space.kubectl(&["get", "cronjobs"]).ok();
    assert!(
        table.contains("0,15,30,45 * * * *") && table.contains("SUSPEND"),
        "{table}"
    );
    let from = "--from=cronjob/batch-job-every-fifteen-minutes";
    space.kubectl(&["create", "job", "now", from]).ok();
    space.wait(&["job/now"], "condition=Complete");
}

#[test]
fn configuration_as_arguments_environment_and_files() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("fortune", 36);
    space
        .kubectl(&[
            "create",
            "configmap",
            "fortune-config",
            "--from-literal=sleep-interval=25",
            "--from-literal=my.conf=gzip on",
        ])
        .ok();
    space
        .kubectl(&[
            "create",
            "secret",
            "generic",
            "fortune-https",
            "--from-literal=key=private",
        ])
        .ok();
    space
        .input(
            &["create", "-f", "-"],
            "
apiVersion: v1
kind: Pod
metadata: {name: fortune}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, 'echo $0 $INTERVAL $CONFIG_my; cat /etc/conf/renamed.conf /etc/https/key; ls -l /etc/https/..data/key | cut -c1-10']
    args: [\"$(INTERVAL)s\"]
    env:
    - {name: INTERVAL, valueFrom: {configMapKeyRef: {name: fortune-config, key: sleep-interval}}}
    - {name: ABSENT, valueFrom: {configMapKeyRef: {name: none, key: none, optional: true}}}
    envFrom: [{prefix: CONFIG_, configMapRef: {name: fortune-config}}]
    volumeMounts: [{name: config, mountPath: /etc/conf}, {name: certs, mountPath: /etc/https}]
  volumes:
  - {name: config, configMap: {name: fortune-config, items: [{key: my.conf, path: renamed.conf}]}}
  - {name: certs, secret: {secretName: fortune-https, defaultMode: 256}}
",
        )
        .ok();
    space.wait(&["pod/fortune"], "jsonpath={.status.phase}=Succeeded");
    let logs = space.kubectl(&["logs", "fortune"]).ok();
    assert_eq!(logs, "25s 25\ngzip onprivate-r--------\n");
}
