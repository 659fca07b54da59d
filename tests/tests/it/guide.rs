//! `kubernetes-guide.md` 2.8, 2.9, 2.10 and 5: its volumes manifest by manifest, and the commands and resource types of its tables
//! that other tests do not use.

use std::time::{Duration, Instant};

use cluster_tests::{Cluster, KUBECTLS, Namespace};
use demo_images::Image;

/// The pods' images under the names of the guide.
const IMAGES: [&str; 3] = [
    "gcr.io/google_containers/test-webserver:latest",
    "docker.io/library/mysql:latest",
    "docker.io/library/php:latest",
];

const EMPTY_DIR: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: test-pd
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - image: gcr.io/google_containers/test-webserver
      name: test-container
      volumeMounts:
        - mountPath: /cache
          name: cache-volume
  volumes:
  - name: cache-volume
    emptyDir: {}
";

const HOST_PATH: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: test-pd
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - image: gcr.io/google_containers/test-webserver
    name: test-container
    volumeMounts:
    - mountPath: /test-pd
      name: test-volume
  volumes:
  - name: test-volume
    hostPath:
      # directory location on host
      path: /data
";

const GIT_REPO: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: server
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - image: nginx:1.7.9
      name: nginx
      volumeMounts:
        - mountPath: /mypath
          name: git-volume
  volumes:
  - name: git-volume
    gitRepo:
      repository: git@somewhere:me/my-git-repository.git
      revision: 22f1d8406d464b0c0874075539c1f2e96c253775
";

const PROJECTED: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: volume-test
  labels: {app: projected}
spec:
  restartPolicy: Never
  containers:
  - name: container-test
    image: busybox
    command: [sh, -c, 'cd /projected-volume; cat labels; echo; cat cpu_limit my-group/*; stat -Lc %a my-group/my-password']
    resources: {limits: {cpu: 200m}}
    volumeMounts:
    - name: all-in-one
      mountPath: \"/projected-volume\"
      readOnly: true
  volumes:
  - name: all-in-one
    projected:
      sources:
      - secret:
          name: mysecret
          items:
          - key: username
            path: my-group/my-username
      - downwardAPI:
          items:
          - path: \"labels\"
            fieldRef:
              fieldPath: metadata.labels
          - path: \"cpu_limit\"
            resourceFieldRef:
              containerName: container-test
              resource: limits.cpu
      - configMap:
          name: myconfigmap
          items:
          - key: config
            path: my-group/my-config
      - secret:
          name: mysecret2
          items:
          - key: password
            path: my-group/my-password
            mode: 511
";

const LOCAL: &str = "
apiVersion: v1
kind: PersistentVolume
metadata:
  name: example-pv
spec:
  capacity:
    storage: 100Gi
  accessModes:
    - ReadWriteOnce
  persistentVolumeReclaimPolicy: Delete
  storageClassName: local-storage
  local:
    path: /mnt/disks/ssd1
";

const SUB_PATH: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: my-lamp-site-data}
spec: {accessModes: [ReadWriteOnce], storageClassName: local-storage, resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata:
  name: my-lamp-site
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: mysql
      image: mysql
      volumeMounts:
        - mountPath: /var/lib/mysql
          name: site-data
          subPath: mysql
    - name: php
      image: php
      volumeMounts:
        - mountPath: /var/www/html
          name: site-data
          subPath: html
  volumes:
    - name: site-data
      persistentVolumeClaim:
        claimName: my-lamp-site-data
";

fn on_node(cluster: &Cluster, script: &str) -> String {
    let shell = ["node", "shell", "--", "sh", "-c", script];
    cluster.oxikube(&shell).ok()
}

fn exec(space: &Namespace, pod: &str, container: &str, script: &str) -> String {
    let shell = ["exec", pod, "-c", container, "--", "sh", "-c", script];
    space.kubectl(&shell).ok()
}

fn apply(space: &Namespace, manifest: &str) {
    space.input(&["apply", "-f", "-"], manifest).ok();
}

#[test]
fn every_volume_that_needs_no_vendor() {
    let cluster = Cluster::shared();
    for name in IMAGES {
        let image = Image::new(name).busybox().expect("an image");
        cluster.load(&image.entrypoint(&["sleep", "1000000"]));
    }
    let space = cluster.namespace("volumes", 36);
    // emptyDir: outlives the container, not the pod.
    apply(&space, EMPTY_DIR);
    space.wait(&["pod/test-pd"], "condition=Ready");
    exec(
        &space,
        "test-pd",
        "test-container",
        "echo kept > /cache/file; kill -9 1 || true",
    );
    let uid = space
        .kubectl(&["get", "pod", "test-pd", "-o", "jsonpath={.metadata.uid}"])
        .ok();
    let container = [
        "get",
        "pod",
        "test-pd",
        "-o",
        "jsonpath={.status.containerStatuses[0].containerID}",
    ];
    let id = space.kubectl(&container).ok();
    on_node(
        &cluster,
        &format!(
            "kill -9 $(grep -l {uid} /proc/[0-9]*/cgroup | cut -d/ -f3 | \
        while read p; do grep -q '^sleep' /proc/$p/comm && echo $p; done)"
        ),
    );
    space.wait(
        &["pod/test-pd"],
        "jsonpath={.status.containerStatuses[0].restartCount}=1",
    );
    space.wait(&["pod/test-pd"], "condition=Ready");
    assert_ne!(space.kubectl(&container).ok(), id);
    assert_eq!(
        exec(&space, "test-pd", "test-container", "cat /cache/file"),
        "kept\n"
    );
    space.kubectl(&["delete", "pod", "test-pd"]).ok();
    // The kubelet tidies up once the object is gone.
    let began = Instant::now();
    let left = format!("ls -d /var/lib/kubelet/pods/{uid} 2> /dev/null || true");
    while !on_node(&cluster, &left).is_empty() {
        let patience = Duration::from_secs(30);
        assert!(began.elapsed() < patience, "{}", on_node(&cluster, &left));
        // Another process is asked; this is how often, not how long.
        std::thread::sleep(Duration::from_millis(100));
    }
    // hostPath: the node's own directory.
    on_node(&cluster, "mkdir -p /data && echo host > /data/file");
    apply(&space, HOST_PATH);
    space.wait(&["pod/test-pd"], "condition=Ready");
    assert_eq!(
        exec(
            &space,
            "test-pd",
            "test-container",
            "cat /test-pd/file; echo pod > /test-pd/back"
        ),
        "host\n"
    );
    assert_eq!(on_node(&cluster, "cat /data/back; rm -r /data"), "pod\n");
    // secret, downwardAPI and configMap, one by one in `pods.rs`, and here all in one.
    space
        .kubectl(&[
            "create",
            "secret",
            "generic",
            "mysecret",
            "--from-literal=username=admin",
        ])
        .ok();
    space
        .kubectl(&[
            "create",
            "secret",
            "generic",
            "mysecret2",
            "--from-literal=password=1f2d",
        ])
        .ok();
    space
        .kubectl(&[
            "create",
            "configmap",
            "myconfigmap",
            "--from-literal=config=on",
        ])
        .ok();
    apply(&space, PROJECTED);
    space.wait(&["pod/volume-test"], "jsonpath={.status.phase}=Succeeded");
    let said = space.kubectl(&["logs", "volume-test"]).ok();
    assert_eq!(said, "app=\"projected\"\n1on1f2dadmin777\n");
    // gitRepo is known to the API and mounted nowhere any more.
    let warned = space.input(&["apply", "-f", "-"], GIT_REPO);
    assert!(warned.stderr.contains("gitRepo"), "{}", warned.stderr);
    assert!(warned.ok().contains("pod/server created"));
    local_and_sub_paths(&cluster, &space);
}

/// A local volume of an administrator's, shared by two containers below different directories.
fn local_and_sub_paths(cluster: &Cluster, space: &Namespace) {
    let refused = space.input(&["apply", "-f", "-"], LOCAL).failed();
    assert!(
        refused.contains("Local volume requires node affinity"),
        "{refused}"
    );
    let name = ["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"];
    let node = space.kubectl(&name).ok();
    let bound = format!(
        "{LOCAL}  nodeAffinity:\n    required:\n      nodeSelectorTerms:\n      - matchExpressions:\n        \
         - {{key: kubernetes.io/hostname, operator: In, values: [{node}]}}\n"
    );
    on_node(cluster, "mkdir -p /mnt/disks/ssd1");
    apply(space, &bound);
    apply(space, SUB_PATH);
    space.wait(&["pod/my-lamp-site"], "condition=Ready");
    exec(
        space,
        "my-lamp-site",
        "mysql",
        "echo rows > /var/lib/mysql/table",
    );
    exec(
        space,
        "my-lamp-site",
        "php",
        "echo page > /var/www/html/index",
    );
    let found = on_node(cluster, "cd /mnt/disks/ssd1; cat mysql/table html/index");
    assert_eq!(found, "rows\npage\n");
    space.kubectl(&["delete", "pod", "my-lamp-site"]).ok();
    space.kubectl(&["delete", "pvc", "my-lamp-site-data"]).ok();
    // Nobody here empties it: "a local PersistentVolume has to be cleaned up and deleted by hand".
    space.wait(&["pv/example-pv"], "jsonpath={.status.phase}=Failed");
    space.kubectl(&["delete", "pv", "example-pv"]).ok();
    on_node(cluster, "rm -r /mnt/disks");
}

/// The guide's table of types, those that v1.37 still has, by their short names where there are some.
const TYPES: &[&str] = &[
    "apiservices",
    "csr",
    "clusterrolebindings",
    "clusterroles",
    "cs",
    "cm",
    "controllerrevisions",
    "cronjobs",
    "crd",
    "ds",
    "deploy",
    "ep",
    "ev",
    "hpa",
    "ing",
    "jobs",
    "limits",
    "ns",
    "netpol",
    "no",
    "pvc",
    "pv",
    "pdb",
    "po",
    "podtemplates",
    "rs",
    "rc",
    "quota",
    "rolebindings",
    "roles",
    "secrets",
    "sa",
    "svc",
    "statefulsets",
    "storageclasses",
];

#[test]
fn the_rest_of_the_tables() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("tables", minor);
        let run = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            space.kubectl(&words).ok()
        };
        run(&format!("get {} --ignore-not-found", TYPES.join(",")));
        let role = format!("{}-role", space.name());
        assert!(
            run(&format!(
                "create clusterrole {role} --verb=get --resource=pods"
            ))
            .ends_with("created\n")
        );
        let binding = format!("create clusterrolebinding {role} --clusterrole={role} --user=ann");
        assert!(run(&binding).ends_with("created\n"));
        assert_eq!(run("auth can-i get pods --as=ann"), "yes\n");
        run(&format!("delete clusterrole,clusterrolebinding {role}"));
        certificates(&space);
        files(&space);
        assert!(run("completion bash").contains("__start_kubectl"));
        assert!(run("version").contains("v1.37.0"));
        name_spaces(&space);
    }
}

/// `create secret tls`, from the certificate of the context.
fn certificates(space: &Namespace) {
    let file = |path: &str| {
        let path =
            format!("go-template={{{{index (index .users 0).user \"{path}\" | base64decode}}}}");
        let view = ["config", "view", "--raw", "--minify", "-o", &path];
        let text = space.kubectl(&view).ok();
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        file
    };
    let (certificate, key) = (file("client-certificate-data"), file("client-key-data"));
    let flags = [
        format!("--cert={}", certificate.path().display()),
        format!("--key={}", key.path().display()),
    ];
    let create = ["create", "secret", "tls", "pair", &flags[0], &flags[1]];
    assert_eq!(space.kubectl(&create).ok(), "secret/pair created\n");
    let kind = space
        .kubectl(&["get", "secret", "pair", "-o", "jsonpath={.type}"])
        .ok();
    assert_eq!(kind, "kubernetes.io/tls");
}

/// Output formats that are read from files, several files, an editor, a kustomization.
fn files(space: &Namespace) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let write = |name: &str, text: &str| std::fs::write(path(name), text).expect("written");
    for name in ["one", "two"] {
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{word: {name}}}\n"
        );
        write(&format!("{name}.yaml"), &text);
    }
    write(
        "columns",
        "NAME            WORD\nmetadata.name   data.word\n",
    );
    write("path", "{.data.word}");
    write(
        "kustomization.yaml",
        "resources: [one.yaml]\nnamePrefix: my-\ncommonAnnotations: {made: here}\n",
    );
    let get = |arguments: &[&str]| space.kubectl(&[&["get"], arguments].concat()).ok();
    space
        .kubectl(&["create", "-f", &path("one.yaml"), "-f", &path("two.yaml")])
        .ok();
    let columns = format!("custom-columns-file={}", path("columns"));
    let shown = get(&["cm/one", "cm/two", "-o", &columns]);
    let words: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!(words, ["NAME", "WORD", "one", "one", "two", "two"]);
    let by_path = format!("jsonpath-file={}", path("path"));
    assert_eq!(get(&["-f", &path("two.yaml"), "-o", &by_path]), "two");
    space
        .kubectl(&["apply", "-k", directory.path().to_str().expect("text")])
        .ok();
    assert_eq!(
        get(&[
            "cm",
            "my-one",
            "-o",
            "jsonpath={.metadata.annotations.made}"
        ]),
        "here"
    );
    write("edit", "sed -i 's/word: two/word: three/' \"$1\"\n");
    let program = format!("sh {}", path("edit"));
    let editor = [("KUBE_EDITOR", program.as_str())];
    let edited = space.with(&editor, &["edit", "configmap", "two"], "").ok();
    assert_eq!(edited, "configmap/two edited\n");
    assert_eq!(get(&["cm", "two", "-o", &by_path]), "three");
}

/// 2.10: made by a file, deleted with what it holds; two cannot be deleted.
fn name_spaces(space: &Namespace) {
    let name = format!("new-{}", space.name());
    let manifest = format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n");
    space.input(&["create", "-f", "-"], &manifest).ok();
    let all = space.kubectl(&["get", "namespaces"]).ok();
    for there in ["default ", "kube-system ", &name] {
        assert!(all.contains(there), "{all}");
    }
    space.kubectl(&["delete", "namespaces", &name]).ok();
    for kept in ["default", "kube-system"] {
        let refused = space.kubectl(&["delete", "namespace", kept]).failed();
        assert!(
            refused.contains("this namespace may not be deleted"),
            "{refused}"
        );
    }
}

/// 2.8: an address of one's own choice, and what a pod that comes later finds in its environment.
#[test]
fn a_service_at_a_chosen_address_is_found_by_environment() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("chosen", 36);
    let service = |address: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: redis-master}}\nspec:\n  selector: {{app: redis}}\n  \
             ports: [{{port: 6379}}]\n{address}"
        )
    };
    apply(&space, &service(""));
    let path = "jsonpath={.spec.clusterIP}";
    let get = ["get", "service", "redis-master", "-o", path];
    let address = space.kubectl(&get).ok();
    space.kubectl(&["delete", "service", "redis-master"]).ok();
    let outside = service("  clusterIP: 192.0.2.4\n");
    let refused = space.input(&["apply", "-f", "-"], &outside).failed();
    assert!(
        refused.contains("failed to allocate IP 192.0.2.4"),
        "{refused}"
    );
    apply(&space, &service(&format!("  clusterIP: {address}\n")));
    assert_eq!(space.kubectl(&get).ok(), address);
    let run = "run env --image=busybox --image-pull-policy=IfNotPresent --restart=Never -- env";
    let words: Vec<&str> = run.split(' ').collect();
    space.kubectl(&words).ok();
    space.wait(&["pod/env"], "jsonpath={.status.phase}=Succeeded");
    let said = space.kubectl(&["logs", "env"]).ok();
    for variable in [
        format!("REDIS_MASTER_SERVICE_HOST={address}"),
        "REDIS_MASTER_SERVICE_PORT=6379".to_owned(),
        format!("REDIS_MASTER_PORT=tcp://{address}:6379"),
        format!("REDIS_MASTER_PORT_6379_TCP=tcp://{address}:6379"),
        "REDIS_MASTER_PORT_6379_TCP_PROTO=tcp".to_owned(),
        "REDIS_MASTER_PORT_6379_TCP_PORT=6379".to_owned(),
        format!("REDIS_MASTER_PORT_6379_TCP_ADDR={address}"),
    ] {
        assert!(
            said.lines().any(|line| line == variable),
            "{variable}: {said}"
        );
    }
}
