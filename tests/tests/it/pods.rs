//! Pods on the real kernel: logs, exec, files, probes, volumes, restarts.

use std::io::{Read, Write};
use std::net::TcpStream;

use cluster_tests::{Cluster, KUBECTLS, Namespace};

fn apply(space: &Namespace, manifest: &str) {
    space.input(&["apply", "-f", "-"], manifest).ok();
}

/// A pod of one busybox container that runs this script.
fn pod(name: &str, script: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  \
         terminationGracePeriodSeconds: 1\n{more}\n  containers:\n  - name: main\n    \
         image: busybox\n    imagePullPolicy: IfNotPresent\n    command: [sh, -c, {script:?}]\n"
    )
}

#[test]
fn logs_exec_attach_copy_and_port_forward() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("streams", minor);
        let script = "echo one; echo two >&2; mkdir /www; echo served > /www/index.html; \
                      exec httpd -f -p 8080 -h /www";
        apply(&space, &pod("web", script, ""));
        space.wait(&["pod/web"], "condition=Ready");
        let logs = space.kubectl(&["logs", "web"]).ok();
        assert!(logs.contains("one\n") && logs.contains("two\n"), "{logs}");
        let last = space
            .kubectl(&["logs", "web", "--tail=1", "--timestamps"])
            .ok();
        assert_eq!(last.lines().count(), 1, "{last}");
        assert!(last.starts_with("20"), "{last}");

        let said = space.kubectl(&[
            "exec",
            "web",
            "--",
            "sh",
            "-c",
            "echo out; echo err >&2; exit 7",
        ]);
        assert_eq!((said.stdout.as_str(), said.code), ("out\n", 7));
        assert!(said.stderr.contains("err\n"), "{}", said.stderr);
        let echoed = space
            .input(
                &["exec", "-i", "web", "--", "cat"],
                "through standard input",
            )
            .ok();
        assert_eq!(echoed, "through standard input");
        let large = "x".repeat(1 << 20);
        assert_eq!(
            space
                .input(&["exec", "-i", "web", "--", "cat"], &large)
                .ok(),
            large
        );

        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "copied").expect("written");
        let path = file.path().to_str().expect("text");
        space.kubectl(&["cp", path, "web:/tmp/there"]).ok();
        assert_eq!(
            space
                .kubectl(&["exec", "web", "--", "cat", "/tmp/there"])
                .ok(),
            "copied"
        );
        let back = tempfile::tempdir().expect("a directory");
        let back = back.path().join("back");
        space
            .kubectl(&["cp", "web:/tmp/there", back.to_str().expect("text")])
            .ok();
        assert_eq!(
            std::fs::read_to_string(&back).expect("copied back"),
            "copied"
        );

        let forward = space.running(&["port-forward", "pod/web", ":8080"]);
        let line = forward.line("Forwarding from 127.0.0.1:");
        let port = line
            .split([':', ' '])
            .find_map(|word| word.parse::<u16>().ok())
            .expect("a port");
        for _ in 0..3 {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("forwarded");
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            assert!(answer.contains("served"), "{answer}");
        }
    }
}

#[test]
fn configuration_reaches_files_and_environment_and_updates_reach_files() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("config", 36);
    space
        .kubectl(&["create", "configmap", "conf", "--from-literal=key=first"])
        .ok();
    space
        .kubectl(&[
            "create",
            "secret",
            "generic",
            "hidden",
            "--from-literal=password=s3cret",
        ])
        .ok();
    apply(
        &space,
        r#"
apiVersion: v1
kind: Pod
metadata: {name: reader, labels: {app: reader}, annotations: {note: seen}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, 'until grep -q second /conf/key; do sleep 0.2; done; echo updated; exec sleep 100000']
    resources: {limits: {memory: 64Mi, cpu: 500m}}
    env:
    - {name: FROM_MAP, valueFrom: {configMapKeyRef: {name: conf, key: key}}}
    - {name: FROM_SECRET, valueFrom: {secretKeyRef: {name: hidden, key: password}}}
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
    - {name: BOTH, value: "$(FROM_MAP)-$(FROM_SECRET)"}
    volumeMounts:
    - {name: conf, mountPath: /conf}
    - {name: hidden, mountPath: /hidden}
    - {name: info, mountPath: /info}
    - {name: memory, mountPath: /memory}
  volumes:
  - {name: conf, configMap: {name: conf}}
  - {name: hidden, secret: {secretName: hidden, defaultMode: 0400}}
  - {name: memory, emptyDir: {medium: Memory}}
  - name: info
    downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
"#,
    );
    space.wait(&["pod/reader"], "condition=Ready");
    let run = |script: &str| {
        space
            .kubectl(&["exec", "reader", "--", "sh", "-c", script])
            .ok()
    };
    assert_eq!(run("echo $BOTH $LIMIT"), "first-s3cret 67108864\n");
    let ip = space
        .kubectl(&["get", "pod", "reader", "-o", "jsonpath={.status.podIP}"])
        .ok();
    assert_eq!(run("echo -n $POD_IP"), ip);
    assert_eq!(
        run("cat /hidden/password; stat -Lc %a /hidden/password"),
        "s3cret400\n"
    );
    assert_eq!(run("cat /info/labels").trim(), "app=\"reader\"");
    assert!(run("grep /memory /proc/mounts").contains("tmpfs"));
    let token = run("cat /var/run/secrets/kubernetes.io/serviceaccount/token");
    assert_eq!(token.split('.').count(), 3, "{token}");
    let follow = space.running(&["logs", "-f", "reader"]);
    let patch = r#"{"data":{"key":"second"}}"#;
    space
        .kubectl(&["patch", "configmap", "conf", "-p", patch])
        .ok();
    follow.line("updated");
}

#[test]
fn names_resolve_and_services_answer_inside_pods() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("dns", 36);
    apply(
        &space,
        &pod(
            "server",
            "mkdir /www; echo hi > /www/index.html; exec httpd -f -p 80 -h /www",
            "",
        ),
    );
    space
        .kubectl(&["label", "pod", "server", "app=server"])
        .ok();
    space
        .kubectl(&["expose", "pod", "server", "--port=80"])
        .ok();
    apply(&space, &pod("client", "exec sleep 100000", ""));
    space.wait(&["pod/server", "pod/client"], "condition=Ready");
    let run = |script: &str| space.kubectl(&["exec", "client", "--", "sh", "-c", script]);
    let full = format!("server.{}.svc.cluster.local", space.name());
    for name in ["server", full.as_str()] {
        assert_eq!(run(&format!("wget -qO- http://{name}/")).ok(), "hi\n");
    }
    assert!(
        run("nslookup kubernetes.default.svc.cluster.local")
            .ok()
            .contains("10.")
    );
    let resolv = run("cat /etc/resolv.conf").ok();
    let search = format!(
        "search {}.svc.cluster.local svc.cluster.local cluster.local",
        space.name()
    );
    assert!(
        resolv.contains(&search) && resolv.contains("ndots:5"),
        "{resolv}"
    );
    assert_eq!(run("hostname").ok(), "client\n");
}

#[test]
fn probes_hooks_and_restarts_show_in_status_and_events() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("probes", 36);
    apply(
        &space,
        r#"
apiVersion: v1
kind: Pod
metadata: {name: sick}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, 'touch /tmp/alive; echo started; sleep 3; rm /tmp/alive; exec sleep 100000']
    livenessProbe: {exec: {command: [cat, /tmp/alive]}, periodSeconds: 1, failureThreshold: 2}
"#,
    );
    space.wait(
        &["pod/sick"],
        "jsonpath={.status.containerStatuses[0].restartCount}=1",
    );
    let events = space
        .kubectl(&[
            "get",
            "events",
            "--field-selector",
            "involvedObject.name=sick",
        ])
        .ok();
    for reason in [
        "Scheduled",
        "Pulled",
        "Created",
        "Started",
        "Unhealthy",
        "Killing",
    ] {
        assert!(events.contains(reason), "{reason} is not in\n{events}");
    }
    assert!(events.contains("Liveness probe failed"), "{events}");
    assert!(
        space
            .kubectl(&["logs", "sick", "--previous"])
            .ok()
            .contains("started")
    );

    let order = "  restartPolicy: Never\n  initContainers:\n  - {name: first, image: busybox, \
                 imagePullPolicy: IfNotPresent, command: [sh, -c, 'echo first > /order/log'], \
                 volumeMounts: [{name: order, mountPath: /order}]}\n  volumes: [{name: order, emptyDir: {}}]";
    let mut manifest = pod("ordered", "cat /order/log; echo second; exit 3", order);
    manifest.push_str("    volumeMounts: [{name: order, mountPath: /order}]\n");
    apply(&space, &manifest);
    space.wait(&["pod/ordered"], "jsonpath={.status.phase}=Failed");
    assert_eq!(space.kubectl(&["logs", "ordered"]).ok(), "first\nsecond\n");
    let table = space.kubectl(&["get", "pod", "ordered"]).ok();
    assert!(table.contains("Error") && table.contains("0/1"), "{table}");

    apply(&space, &pod("crash", "exit 1", ""));
    space.wait(
        &["pod/crash"],
        "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CrashLoopBackOff",
    );
    apply(
        &space,
        &pod("absent", "true", "").replace("busybox", "registry.invalid/none:v1"),
    );
    space.wait(&["pod/absent"], "jsonpath={.status.phase}=Pending");
    let hungry = pod("hungry", "exec tail /dev/zero", "  restartPolicy: Never")
        + "    resources: {limits: {memory: 16Mi}}\n";
    apply(&space, &hungry);
    space.wait(
        &["pod/hungry"],
        "jsonpath={.status.containerStatuses[0].state.terminated.reason}=OOMKilled",
    );
}

#[test]
fn a_pod_that_fits_nowhere_says_why() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("pending", 36);
    apply(
        &space,
        &(pod("big", "true", "") + "    resources: {requests: {cpu: '1000'}}\n"),
    );
    space.wait(&["pod/big"], "condition=PodScheduled=false");
    let path = "jsonpath={.status.conditions[?(@.type==\"PodScheduled\")].message}";
    let message = space.kubectl(&["get", "pod", "big", "-o", path]).ok();
    assert!(
        message.starts_with("0/1 nodes are available: 1 Insufficient cpu."),
        "{message}"
    );
}
