//! Components as processes of their own, over TLS, in network namespaces of their own: two of each of which one dies, and
//! a node that joins a server by its token.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cluster_tests::{Cluster, Output, kubectl_at};

/// How long things may take to come about, a lease's end included.
const PATIENCE: Duration = Duration::from_secs(90);

/// A network namespace with an address, and a directory for all that runs in it.
struct Host {
    name: String,
    dir: tempfile::TempDir,
    processes: Vec<(String, Child)>,
}

fn ip(arguments: &str) {
    let done = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("iproute2");
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "ip {arguments}: {told}");
}

impl Host {
    fn new(purpose: &str) -> Self {
        let name = format!("oxkt{}{purpose}", std::process::id());
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        Self {
            name,
            dir: tempfile::tempdir().expect("a directory"),
            processes: Vec::new(),
        }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn text(&self, file: &str) -> String {
        self.path(file).to_str().expect("text").to_owned()
    }

    /// A program in this namespace.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.name))
            .arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// Starts `oxikube ARGUMENTS`; what it says is in the file of its name.
    fn start(&mut self, name: &str, arguments: &[String]) {
        let log = std::fs::File::create(self.path(&format!("{name}.log"))).expect("a log");
        let mut command = self.command(&Cluster::program("oxikube"));
        command.args(arguments);
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        let child = command.spawn().expect("started");
        self.processes.push((name.to_owned(), child));
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    /// Ends a process; `gently`: as a supervisor does.
    fn end(&mut self, name: &str, gently: bool) {
        let at = self.processes.iter().position(|(n, _)| n == name);
        let (_, mut child) = self.processes.remove(at.expect("it was started"));
        if gently {
            let told = Command::new("kill").arg(child.id().to_string()).status();
            assert!(told.expect("kill").success());
        } else {
            child.kill().expect("it is ours");
        }
        child.wait().expect("it is ours");
    }

    fn kubectl(&self, kubeconfig: &str, arguments: &[&str]) -> Output {
        let mut command = self.command(&Cluster::kubectl_program(36));
        command.args(["--kubeconfig", kubeconfig]).args(arguments);
        kubectl_at(command)
    }

    /// Waits until kubectl says something that fits.
    #[track_caller]
    fn wait(&self, kubeconfig: &str, arguments: &[&str], fits: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let said = self.kubectl(kubeconfig, arguments);
            if said.code == 0 && fits(&said.stdout) {
                return said.stdout;
            }
            let logs = self.processes.iter().map(|(name, _)| self.log(name));
            assert!(
                began.elapsed() < PATIENCE,
                "{arguments:?}: {}{}\n{}",
                said.stdout,
                said.stderr,
                logs.collect::<Vec<_>>().join("\n--\n")
            );
            // Another process is asked; this is how often, not how long.
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for (_, child) in &mut self.processes {
            let _ = child.kill();
            let _ = child.wait();
        }
        // Pods outlive the process that started them.
        let pids = Command::new("ip")
            .args(["netns", "pids", &self.name])
            .output();
        let mut left = pids
            .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
            .unwrap_or_default();
        left.push_str(&keepers(self.dir.path()));
        for pid in left.split_whitespace() {
            let _ = Command::new("kill").args(["-9", pid]).status();
        }
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = self.dir.path().to_string_lossy().into_owned();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let mut places: Vec<&str> = places.filter(|place| place.starts_with(&own)).collect();
        places.sort_unstable();
        for place in places.into_iter().rev() {
            let _ = Command::new("umount").args(["-l", place]).status();
        }
        remove_groups(&self.name);
    }
}

/// The keepers of pods whose files are below this directory, and what they keep.
fn keepers(dir: &Path) -> String {
    let own = dir.to_string_lossy().into_owned();
    let mut found = String::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&words).contains(&own) {
            found.push_str(&format!(" {}", entry.file_name().to_string_lossy()));
        }
    }
    found
}

/// Removes the control groups of a host's pods, the deepest first; what is in them was killed.
fn remove_groups(name: &str) {
    fn remove(dir: &Path) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            }
        }
        let _ = std::fs::remove_dir(dir);
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        let roots = std::fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten();
        let groups = roots
            .map(|root| root.path().join(name))
            .chain([Path::new("/sys/fs/cgroup").join(name)]);
        let there: Vec<PathBuf> = groups.filter(|group| group.exists()).collect();
        if there.is_empty() {
            return;
        }
        there.iter().for_each(|group| remove(group));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A kubeconfig with one of the certificates of a server.
fn kubeconfig(host: &Host, pki: &Path, url: &str, who: &str) -> String {
    let file = host.text(&format!("{who}.kubeconfig"));
    let at = |name: &str| pki.join(name).display().to_string();
    let (ca, certificate, key) = (
        at("ca.crt"),
        at(&format!("{who}.crt")),
        at(&format!("{who}.key")),
    );
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\n\
         clusters: [{{name: c, cluster: {{server: \"{url}\", certificate-authority: {ca}}}}}]\n\
         users: [{{name: u, user: {{client-certificate: {certificate}, client-key: {key}}}}}]\n\
         contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n"
    );
    std::fs::write(&file, text).expect("written");
    file
}

#[test]
fn of_two_of_each_one_may_die() {
    let mut host = Host::new("c");
    let name = host.name.clone();
    ip(&format!("-n {name} link add d0 type bridge"));
    ip(&format!("-n {name} addr add 172.29.97.1/24 dev d0"));
    ip(&format!("-n {name} link set d0 up"));
    ip(&format!("-n {name} route add default dev d0"));
    // A server without anything beside the API makes all certificates.
    let (data, admin) = (host.text("data"), host.text("admin"));
    let only_api = "--disable-agent --disable-dns --disable-scheduler --disable-controller-manager";
    host.start(
        "server",
        &words(&format!(
            "server --data-dir {data} --node-name n1 --node-ip 172.29.97.1 --write-kubeconfig {admin} {only_api}"
        )),
    );
    host.wait(&admin, &["get", "--raw", "/readyz"], |said| said == "ok");
    host.end("server", true);
    let pki = host.path("data/server/pki");
    let (store, p) = (host.text("store"), pki.display().to_string());
    host.start(
        "kube-apiserver",
        &words(&format!(
            "kube-apiserver --data-dir={store} --client-ca-file={p}/ca.crt --tls-cert-file={p}/apiserver.crt \
             --tls-private-key-file={p}/apiserver.key --service-account-issuer=https://kubernetes.default.svc \
             --service-account-key-file={p}/sa.key --service-account-signing-key-file={p}/sa.key \
             --service-cluster-ip-range=10.96.0.0/16 --authorization-mode=Node,RBAC \
             --enable-admission-plugins=NodeRestriction --kubelet-client-certificate={p}/apiserver-kubelet-client.crt \
             --kubelet-client-key={p}/apiserver-kubelet-client.key --kubelet-certificate-authority={p}/ca.crt"
        )),
    );
    host.wait(&admin, &["get", "--raw", "/readyz"], |said| said == "ok");
    let url = "https://172.29.97.1:6443";
    let config = |host: &Host, who: &str| kubeconfig(host, &pki, url, who);
    let (manager, scheduler) = (
        config(&host, "controller-manager"),
        config(&host, "scheduler"),
    );
    let (kubelet, proxy) = (config(&host, "kubelet"), config(&host, "kube-proxy"));
    for number in [0, 1] {
        host.start(
            &format!("kube-controller-manager-{number}"),
            &words(&format!(
                "kube-controller-manager --kubeconfig={manager} --use-service-account-credentials \
                 --allocate-node-cidrs --cluster-cidr=10.244.0.0/16 --root-ca-file={p}/ca.crt \
                 --cluster-signing-cert-file={p}/ca.crt --cluster-signing-key-file={p}/ca.key \
                 --leader-elect-lease-duration=3s --leader-elect-renew-deadline=2s \
                 --leader-elect-retry-period=500ms --secure-port={}",
                10257 + 10 * number
            )),
        );
        host.start(
            &format!("kube-scheduler-{number}"),
            &words(&format!(
                "kube-scheduler --kubeconfig={scheduler} --leader-elect-lease-duration=3s \
                 --leader-elect-renew-deadline=2s --leader-elect-retry-period=500ms --secure-port={}",
                10259 + 10 * number
            )),
        );
    }
    let (run, root) = (host.text("runtime"), host.text("kubelet"));
    host.start(
        "kubelet",
        &words(&format!(
            "kubelet --kubeconfig={kubelet} --hostname-override=n1 --node-ip=172.29.97.1 \
             --client-ca-file={p}/ca.crt --tls-cert-file={p}/kubelet-server.crt \
             --tls-private-key-file={p}/kubelet-server.key --runtime-dir={run} --root-dir={root} \
             --cgroup-root={name} --node-labels=disk=ssd"
        )),
    );
    host.start(
        "kube-proxy",
        &words(&format!(
            "kube-proxy --kubeconfig={proxy} --cluster-cidr=10.244.0.0/16 --hostname-override=n1"
        )),
    );
    let ready = ["get", "nodes", "-l", "disk=ssd", "--no-headers"];
    host.wait(&admin, &ready, |said| said.contains(" Ready "));
    let proxied = ["get", "--raw", "/api/v1/nodes/n1/proxy/healthz"];
    host.wait(&admin, &proxied, |said| said == "ok");
    // Whoever leads is killed; the other one goes on with its work.
    for component in ["kube-controller-manager", "kube-scheduler"] {
        let holder = [
            "-n",
            "kube-system",
            "get",
            "lease",
            component,
            "-o",
            "jsonpath={.spec.holderIdentity}",
        ];
        let before = host.wait(&admin, &holder, |said| !said.is_empty());
        let leader = [0, 1]
            .into_iter()
            .find(|number| host.log(&format!("{component}-{number}")).contains(&before));
        host.end(
            &format!("{component}-{}", leader.expect("one of them")),
            false,
        );
        host.wait(&admin, &holder, |said| !said.is_empty() && said != before);
    }
    host.kubectl(
        &admin,
        &[
            "create",
            "deployment",
            "d",
            "--image=nowhere.invalid/x",
            "--replicas=2",
        ],
    )
    .ok();
    let nodes = ["get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}"];
    host.wait(&admin, &nodes, |said| said == "n1 n1");
    let events = [
        "-n",
        "kube-system",
        "get",
        "events",
        "-o",
        "jsonpath={.items[*].message}",
    ];
    host.wait(&admin, &events, |said| {
        said.matches("became leader").count() >= 4
    });
}

#[test]
fn a_node_joins_by_its_token_and_pods_outlive_the_server() {
    let (mut server, mut agent) = (Host::new("s"), Host::new("a"));
    let (s, a) = (server.name.clone(), agent.name.clone());
    ip(&format!(
        "link add oxkv0 netns {s} type veth peer name oxkv1 netns {a}"
    ));
    for (host, cable, own, other) in [(&s, "oxkv0", 1, 2), (&a, "oxkv1", 2, 1)] {
        ip(&format!(
            "-n {host} addr add 172.29.96.{own}/24 dev {cable}"
        ));
        ip(&format!("-n {host} link set {cable} up"));
        ip(&format!(
            "-n {host} route add default via 172.29.96.{other}"
        ));
    }
    let (data, admin) = (server.text("data"), server.text("admin"));
    let serve = words(&format!(
        "server --data-dir {data} --node-name first --node-ip 172.29.96.1 --write-kubeconfig {admin} --cgroup {s}"
    ));
    server.start("server", &serve);
    server.wait(&admin, &["get", "nodes", "--no-headers"], |said| {
        said.contains(" Ready ")
    });
    let token = std::fs::read_to_string(server.path("data/server/token")).expect("a token");
    let home = agent.text("data");
    let join = format!(
        "agent --server https://172.29.96.1:6443 --data-dir {home} --node-name second --node-ip 172.29.96.2 --cgroup {a}"
    );
    // A token with another cluster's digest does not believe this server.
    let (_, bearer) = token.trim().split_once("::").expect("a digest before it");
    let wrong = format!("K10{}::{bearer}", "0".repeat(64));
    let refused = agent
        .command(&Cluster::program("oxikube"))
        .args(words(&join))
        .args(["--token", &wrong])
        .output()
        .expect("started");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("its authority is another one"), "{told}");
    let mut joining = words(&join);
    joining.extend(["--token".to_owned(), token.trim().to_owned()]);
    agent.start("agent", &joining);
    server.wait(&admin, &["get", "node", "second", "--no-headers"], |said| {
        said.contains(" Ready ")
    });
    let requests = server.wait(&admin, &["get", "csr", "--no-headers"], |said| {
        said.matches("Approved,Issued").count() == 2
    });
    assert!(
        requests.contains("kubernetes.io/kubelet-serving"),
        "{requests}"
    );
    // The kubelet's serving certificate is one that the API server believes.
    let proxied = ["get", "--raw", "/api/v1/nodes/second/proxy/healthz"];
    server.wait(&admin, &proxied, |said| said == "ok");
    let image = demo_images::samples::busybox()
        .expect("an image")
        .build()
        .expect("an image");
    let archive = tempfile::NamedTempFile::new().expect("a file");
    image.archive(archive.as_file()).expect("written");
    let loaded = Command::new(Cluster::program("oxikube"))
        .args(["image", "load", "--data-dir", &home])
        .arg(archive.path())
        .output()
        .expect("started");
    assert!(
        loaded.status.success(),
        "{}",
        String::from_utf8_lossy(&loaded.stderr)
    );
    let pod = "{\"spec\":{\"nodeName\":\"second\",\"terminationGracePeriodSeconds\":0}}";
    let run = [
        "run",
        "p",
        "--image=busybox:latest",
        "--image-pull-policy=Never",
        "--overrides",
        pod,
        "--",
        "sh",
        "-c",
        "echo hello; sleep 10000",
    ];
    server.kubectl(&admin, &run).ok();
    let state = [
        "get",
        "pod",
        "p",
        "-o",
        "jsonpath={.status.phase} {.status.containerStatuses[0].containerID}",
    ];
    let before = server.wait(&admin, &state, |said| {
        said.starts_with("Running containerd") || said.starts_with("Running oxikube")
    });
    server.wait(&admin, &["logs", "p"], |said| said.trim() == "hello");
    let said = server
        .kubectl(&admin, &["exec", "p", "--", "echo", "inside"])
        .ok();
    assert_eq!(said.trim(), "inside");
    // Both processes end and come back, the agent without a token; the pod has seen nothing of it.
    server.end("server", true);
    agent.end("agent", true);
    server.start("server", &serve);
    agent.start("agent", &words(&join));
    server.wait(&admin, &["exec", "p", "--", "echo", "inside"], |said| {
        said.trim() == "inside"
    });
    assert_eq!(
        server.wait(&admin, &state, |said| said.starts_with("Running")),
        before
    );
    let restarts = [
        "get",
        "pod",
        "p",
        "-o",
        "jsonpath={.status.containerStatuses[0].restartCount}",
    ];
    assert_eq!(server.kubectl(&admin, &restarts).ok(), "0");
    server.kubectl(&admin, &["delete", "pod", "p"]).ok();
}
