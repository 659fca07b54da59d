//! What a user would notice if two components did not understand each other.

use crate::processes::{ADDRESS, Plane};

const WORKLOAD: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: c
        image: busybox:latest
        imagePullPolicy: Never
        command: [sh, -c, 'mkdir /www; hostname > /www/index.html; echo up; exec httpd -f -p 8080 -h /www']
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
        resources: {requests: {cpu: 10m, memory: 8Mi}, limits: {memory: 64Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: http, nodePort: 30080}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: each}
spec:
  selector: {matchLabels: {app: each}}
  template:
    metadata: {labels: {app: each}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: c, image: 'busybox:latest', imagePullPolicy: Never, command: [sleep, '100000']}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: c
        image: busybox:latest
        imagePullPolicy: Never
        command: [sh, -c, 'echo $WORD > /data/word; exec sleep 100000']
        env: [{name: WORD, valueFrom: {configMapKeyRef: {name: words, key: word}}}]
        volumeMounts: [{name: data, mountPath: /data}, {name: words, mountPath: /words}]
      volumes:
      - {name: data, emptyDir: {}}
      - {name: words, configMap: {name: words}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {word: hello}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  completions: 2
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: c, image: 'busybox:latest', imagePullPolicy: Never, command: [echo, done]}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: quota}
spec: {hard: {configmaps: '10'}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}
";

/// The whole walk.
pub(crate) fn all(plane: &Plane) {
    let walk = Walk(plane);
    let node = ["get", "nodes", "--no-headers"];
    walk.until(&node, |said| said.contains(" Ready "));
    walk.told("the node is ready");
    walk.run(&["create", "namespace", "walk"]);
    walk.until(
        &["-n", "walk", "get", "serviceaccounts,configmaps"],
        |said| {
            said.contains("serviceaccount/default") && said.contains("configmap/kube-root-ca.crt")
        },
    );
    let applied = ["-n", "walk", "apply", "-f", "-"];
    let done = walk.0.host.kubectl_with(&walk.0.admin, &applied, WORKLOAD);
    done.ok();
    for what in ["deployment/web", "daemonset/each", "statefulset/db"] {
        walk.until(
            &["-n", "walk", "rollout", "status", what, "--timeout=2s"],
            |_| true,
        );
    }
    walk.told("deployment, daemon set and stateful set are rolled out");
    let job = [
        "-n",
        "walk",
        "get",
        "job",
        "once",
        "-o",
        "jsonpath={.status.succeeded}",
    ];
    walk.until(&job, |said| said == "2");
    walk.told("the job is complete");
    inside(&walk);
    services(&walk);
    changes(&walk);
    walk.run(&["delete", "namespace", "walk", "--wait=false"]);
    walk.until(&["get", "namespaces"], |said| !said.contains("walk"));
    walk.told("the name-space and all that was in it are gone");
}

/// Logs, commands, what a pod is given.
fn inside(walk: &Walk<'_>) {
    walk.until(&["-n", "walk", "logs", "deployment/web"], |said| {
        said.contains("up")
    });
    let exec = |command: &[&str]| {
        let all = [&["-n", "walk", "exec", "db-0", "--"], command].concat();
        walk.run(&all)
    };
    assert_eq!(
        exec(&["cat", "/data/word", "/words/word"]).replace('\n', ""),
        "hellohello"
    );
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    let token = exec(&["cat", &format!("{account}/token")]);
    assert_eq!(token.split('.').count(), 3, "{token}");
    let who = [
        "--token",
        token.trim(),
        "auth",
        "whoami",
        "-o",
        "jsonpath={.status.userInfo.username}",
    ];
    let who = walk.anonymously(&who);
    assert_eq!(who, "system:serviceaccount:walk:default");
    walk.told("logs, exec, volumes, and tokens of pods");
}

/// The cluster IP from a pod, the node port from the host.
fn services(walk: &Walk<'_>) {
    let path = "jsonpath={.spec.clusterIP}";
    let address = walk.run(&["-n", "walk", "get", "service", "web", "-o", path]);
    for url in [
        format!("http://{address}/"),
        format!("http://{ADDRESS}:30080/"),
    ] {
        let ask = [
            "-n", "walk", "exec", "db-0", "--", "busybox", "timeout", "2", "wget", "-q", "-O", "-",
            &url,
        ];
        walk.until(&ask, |said| said.starts_with("web-"));
    }
    let own = walk.0.host.path("ask");
    walk.0.host.until("the node port answers the host", || {
        let _ = std::fs::remove_file(&own);
        let mut wget = walk.0.host.command("busybox".as_ref());
        let url = format!("http://{ADDRESS}:30080/");
        let done = wget
            .args(["timeout", "2", "wget", "-q", "-O"])
            .arg(&own)
            .arg(url)
            .output();
        let said = std::fs::read_to_string(&own).unwrap_or_default();
        match said.starts_with("web-") {
            true => Ok(()),
            false => Err(format!("{said} {done:?}")),
        }
    });
    walk.told("the service answers by its cluster IP and its node port");
}

/// Rollout, scaling, eviction, garbage.
fn changes(walk: &Walk<'_>) {
    walk.run(&["-n", "walk", "set", "env", "deployment/web", "A=b"]);
    walk.until(
        &[
            "-n",
            "walk",
            "rollout",
            "status",
            "deployment/web",
            "--timeout=2s",
        ],
        |_| true,
    );
    walk.run(&["-n", "walk", "rollout", "undo", "deployment/web"]);
    walk.run(&["-n", "walk", "scale", "deployment/web", "--replicas=3"]);
    let ready = [
        "-n",
        "walk",
        "get",
        "deployment",
        "web",
        "-o",
        "jsonpath={.status.readyReplicas} {.status.updatedReplicas}",
    ];
    walk.until(&ready, |said| said == "3 3");
    let slice = [
        "-n",
        "walk",
        "get",
        "endpointslices",
        "-l",
        "kubernetes.io/service-name=web",
        "-o",
        "jsonpath={.items[*].endpoints[*].conditions.ready}",
    ];
    walk.until(&slice, |said| said == "true true true");
    let budget = [
        "-n",
        "walk",
        "get",
        "pdb",
        "web",
        "-o",
        "jsonpath={.status.disruptionsAllowed}",
    ];
    walk.until(&budget, |said| said == "2");
    let quota = [
        "-n",
        "walk",
        "get",
        "resourcequota",
        "quota",
        "-o",
        "jsonpath={.status.used.configmaps}",
    ];
    walk.until(&quota, |said| said == "2");
    walk.run(&["-n", "walk", "delete", "daemonset", "each"]);
    walk.until(
        &["-n", "walk", "get", "pods", "-l", "app=each", "-o", "name"],
        str::is_empty,
    );
    walk.told("rollout, undo, scale, end points, budget, quota, garbage");
}

struct Walk<'a>(&'a Plane);

impl Walk<'_> {
    fn run(&self, arguments: &[&str]) -> String {
        self.0.host.kubectl(&self.0.admin, arguments).ok()
    }

    fn until(&self, arguments: &[&str], fits: impl Fn(&str) -> bool) -> String {
        self.0.host.wait(&self.0.admin, arguments, fits)
    }

    /// Without the administrator's certificate.
    fn anonymously(&self, arguments: &[&str]) -> String {
        let file = self.0.host.text("nobody.kubeconfig");
        let text = std::fs::read_to_string(&self.0.admin).expect("written before");
        let lines = text.lines().map(|line| match line.starts_with("users:") {
            true => "users: [{name: u, user: {}}]",
            false => line,
        });
        let text: Vec<&str> = lines.collect();
        std::fs::write(&file, text.join("\n")).expect("written");
        self.0.host.kubectl(&file, arguments).ok()
    }

    fn told(&self, what: &str) {
        println!("    {what}");
    }
}
