//! Two servers on one etcd cluster of three, each with a node: members of etcd are killed and paused while clients write,
//! one server is killed, and nothing stops or is lost.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cluster_tests::{Cluster, Host, ip, words};

use crate::writes::Client;

const ETCD: &str = "172.29.98.1";
const FIRST: &str = "172.29.98.2";
const SECOND: &str = "172.29.98.3";
const TOKEN: &str = "abcdef.0123456789abcdef";
/// How long a client may wait for writes to be taken again.
const PATIENCE: Duration = Duration::from_secs(90);

/// An authority, and a certificate that members and servers both show.
fn certificates(host: &Host) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(vec!["etcd-ca".to_owned()]).expect("a name");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).expect("signed");
    let issuer = rcgen::Issuer::new(params, key);
    let own_key = rcgen::KeyPair::generate().expect("a key");
    let names = [ETCD, "127.0.0.1", "localhost"].map(str::to_owned);
    let own = rcgen::CertificateParams::new(names.to_vec()).expect("names");
    let own = own.signed_by(&own_key, &issuer).expect("signed");
    let files = [
        ("ca.pem", authority.pem()),
        ("etcd.pem", own.pem()),
        ("etcd.key", own_key.serialize_pem()),
    ];
    for (name, text) in files {
        std::fs::write(host.path(name), text).expect("written");
    }
}

fn member(host: &Host, number: usize) -> Vec<String> {
    let (client, peer) = (2379 + 10 * number, 2380 + 10 * number);
    let all = (0..3).map(|n| format!("m{n}=http://127.0.0.1:{}", 2380 + 10 * n));
    let all: Vec<String> = all.collect();
    let at = |name: &str| host.text(name);
    words(&format!(
        "--name=m{number} --data-dir={} --listen-client-urls=https://0.0.0.0:{client} \
         --advertise-client-urls=https://{ETCD}:{client} --listen-peer-urls=http://127.0.0.1:{peer} \
         --initial-advertise-peer-urls=http://127.0.0.1:{peer} --initial-cluster={} --initial-cluster-state=new \
         --client-cert-auth --trusted-ca-file={} --cert-file={} --key-file={} --logger=zap --log-level=error",
        at(&format!("m{number}")),
        all.join(","),
        at("ca.pem"),
        at("etcd.pem"),
        at("etcd.key"),
    ))
}

/// Waits until a member has joined the others.
fn member_is_well(host: &Host, number: usize) {
    let files = [
        ("cacert", "ca.pem"),
        ("cert", "etcd.pem"),
        ("key", "etcd.key"),
    ];
    let files = files.map(|(flag, file)| format!("--{flag}={}", host.text(file)));
    let began = Instant::now();
    loop {
        let mut command = host.command(Path::new("etcdctl"));
        command.env("ETCDCTL_API", "3").args(&files);
        let at = format!("--endpoints=https://127.0.0.1:{}", 2379 + 10 * number);
        let output = command.args([&at, "endpoint", "health"]).output();
        if output.expect("etcdctl").status.success() {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "member {number} is not well");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Three machines on one cable: the first has etcd's members.
fn machines() -> [Host; 3] {
    let hosts = ["e", "es", "et"].map(Host::new);
    let etcd = hosts[0].name();
    ip(&format!("-n {etcd} link add cable type bridge"));
    ip(&format!("-n {etcd} addr add {ETCD}/24 dev cable"));
    ip(&format!("-n {etcd} link set cable up"));
    for (host, address) in hosts[1..].iter().zip([FIRST, SECOND]) {
        let (name, plug) = (host.name(), format!("to{}", &address[address.len() - 1..]));
        ip(&format!(
            "link add uplink netns {name} type veth peer name {plug} netns {etcd}"
        ));
        ip(&format!("-n {etcd} link set {plug} master cable up"));
        ip(&format!("-n {name} addr add {address}/24 dev uplink"));
        ip(&format!("-n {name} link set uplink up"));
        ip(&format!("-n {name} route add default via {ETCD}"));
    }
    hosts
}

struct Server {
    host: Host,
    node: &'static str,
    flags: Vec<String>,
    admin: String,
}

impl Server {
    fn new(host: Host, node: &'static str, address: &str, etcd: &Host, token: &str) -> Self {
        let (data, admin, cgroup) = (host.text("data"), host.text("admin"), host.name());
        let members = [0, 1, 2].map(|n| format!("{ETCD}:{}", 2379 + 10 * n));
        let flags = words(&format!(
            "server --data-dir {data} --node-name {node} --node-ip {address} --write-kubeconfig {admin} \
             --cgroup {cgroup} --token {token} --node-label=server={node} \
             --datastore-endpoint https://{} --datastore-cafile {} --datastore-certfile {} --datastore-keyfile {}",
            members.join(","),
            etcd.text("ca.pem"),
            etcd.text("etcd.pem"),
            etcd.text("etcd.key"),
        ));
        Self {
            host,
            node,
            flags,
            admin,
        }
    }

    fn start(&mut self) {
        self.host.start("server", &self.flags);
        let node = ["get", "node", self.node, "--no-headers"];
        self.wait(&node, |said| said.contains(" Ready "));
    }

    #[track_caller]
    fn wait(&self, arguments: &[&str], fits: impl Fn(&str) -> bool) -> String {
        self.host.wait(&self.admin, arguments, fits)
    }

    #[track_caller]
    fn kubectl(&self, arguments: &[&str]) -> String {
        self.host.kubectl(&self.admin, arguments).ok()
    }

    /// Which server a component works on.
    fn leader(&self, component: &str, fits: impl Fn(&str) -> bool) -> String {
        let holder = "jsonpath={.spec.holderIdentity}";
        let lease = ["-n", "kube-system", "get", "lease", component, "-o", holder];
        self.wait(&lease, |said| fits(said.split('_').next().unwrap_or("")))
    }

    /// Waits until the end points of the service `kubernetes` are these.
    fn servers_are(&self, addresses: &str) {
        let ips = "jsonpath={.subsets[*].addresses[*].ip}";
        let endpoints = ["get", "endpoints", "kubernetes", "-o", ips];
        self.wait(&endpoints, |said| said == addresses);
        let ips = "jsonpath={.endpoints[*].addresses[0]}";
        let slice = ["get", "endpointslice", "kubernetes", "-o", ips];
        self.wait(&slice, |said| said == addresses);
    }
}

fn load_busybox(server: &Server) {
    let image = demo_images::samples::busybox().expect("an image");
    let image = image.build().expect("an image");
    let archive = tempfile::NamedTempFile::new().expect("a file");
    image.archive(archive.as_file()).expect("written");
    let loaded = Command::new(Cluster::program("oxikube"))
        .args(["image", "load", "--data-dir", &server.host.text("data")])
        .arg(archive.path())
        .output()
        .expect("started");
    let told = String::from_utf8_lossy(&loaded.stderr);
    assert!(loaded.status.success(), "{told}");
}

/// A deployment whose pods run on the second node.
fn deployment(name: &str) -> String {
    format!(
        r#"{{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"name":"{name}"}},"spec":{{"replicas":2,
        "selector":{{"matchLabels":{{"app":"{name}"}}}},"template":{{"metadata":{{"labels":{{"app":"{name}"}}}},
        "spec":{{"nodeSelector":{{"server":"second"}},"terminationGracePeriodSeconds":0,"containers":[{{"name":"c",
        "image":"busybox:latest","imagePullPolicy":"Never","command":["sleep","100000"]}}]}}}}}}}}"#
    )
}

fn deploy(server: &Server, name: &str) {
    let file = server.host.text(&format!("{name}.json"));
    std::fs::write(&file, deployment(name)).expect("written");
    server.kubectl(&["create", "-f", &file]);
    let ready = [
        "get",
        "deployment",
        name,
        "-o",
        "jsonpath={.status.readyReplicas}",
    ];
    server.wait(&ready, |said| said == "2");
}

#[test]
fn servers_share_an_etcd_cluster_and_any_of_it_may_die() {
    let [mut etcd, first, second] = machines();
    certificates(&etcd);
    for number in 0..3 {
        let arguments = member(&etcd, number);
        etcd.start_program(Path::new("etcd"), &format!("m{number}"), &arguments);
    }
    let mut first = Server::new(first, "first", FIRST, &etcd, TOKEN);
    let mut second = Server::new(second, "second", SECOND, &etcd, TOKEN);
    first.start();
    first.servers_are(FIRST);
    first.leader("kube-scheduler", |node| node == "first");
    first.leader("kube-controller-manager", |node| node == "first");

    // The second one takes the authority and the keys from the datastore, for which it needs the token.
    let stranger = TOKEN.replace('0', "1");
    let wrong = second
        .flags
        .iter()
        .map(|flag| flag.replace(TOKEN, &stranger));
    let wrong: Vec<String> = wrong.collect();
    let mut refused = second.host.command(&Cluster::program("oxikube"));
    let refused = refused.args(wrong).output().expect("started");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("another token"), "{told}");
    second.start();
    for file in ["ca.crt", "ca.key", "sa.key", "front-proxy-ca.crt"] {
        let of =
            |server: &Server| std::fs::read(server.host.path(&format!("data/server/pki/{file}")));
        assert_eq!(of(&first).expect(file), of(&second).expect(file), "{file}");
    }
    let both = format!("{FIRST} {SECOND}");
    second.servers_are(&both);
    load_busybox(&second);
    deploy(&first, "before");
    let pods = ["get", "pods", "-l", "app=before", "-o"];
    let identities = [&pods[..], &["jsonpath={.items[*].metadata.uid}"]].concat();
    let pods_before = second.kubectl(&identities);

    // Members die and hang, one at a time, while clients of both servers write.
    let clients = [
        Client::start(&first.host, &first.admin, "a"),
        Client::start(&second.host, &second.admin, "b"),
    ];
    let all_go_on = |clients: &[Client; 2]| {
        clients[0].goes_on(5);
        clients[1].goes_on(5);
    };
    all_go_on(&clients);
    for number in [0, 1] {
        let name = format!("m{number}");
        etcd.end(&name, false);
        all_go_on(&clients);
        let mut again = member(&etcd, number);
        again.retain(|flag| !flag.starts_with("--initial-cluster-state"));
        etcd.start_program(Path::new("etcd"), &name, &again);
        member_is_well(&etcd, number);
        all_go_on(&clients);
    }
    etcd.signal("m2", "STOP");
    all_go_on(&clients);
    etcd.signal("m2", "CONT");
    member_is_well(&etcd, 2);
    all_go_on(&clients);

    let [of_first, of_second] = clients;
    let mut written = of_first.finish();

    // A server dies without a word; the other one takes over, and its clients notice nothing.
    first.host.end("server", false);
    of_second.goes_on(5);
    second.leader("kube-scheduler", |node| node == "second");
    second.leader("kube-controller-manager", |node| node == "second");
    second.servers_are(SECOND);
    deploy(&second, "after");
    of_second.goes_on(5);
    written.extend(of_second.finish());
    let there = second.kubectl(&["get", "configmaps", "-o", "name"]);
    let there: std::collections::HashSet<&str> = there.lines().collect();
    for name in &written {
        assert!(
            there.contains(format!("configmap/{name}").as_str()),
            "{name} was lost"
        );
    }
    assert_eq!(
        second.kubectl(&identities),
        pods_before,
        "pods saw nothing of it"
    );

    // It comes back.
    first.start();
    first.servers_are(&both);
    second.leader("kube-scheduler", |node| node == "second");
    // Without most of its members nothing can be written; the servers wait for them, and whoever led leads again or not.
    for member in ["m1", "m2"] {
        etcd.signal(member, "STOP");
    }
    let (began, lost) = (Instant::now(), "kube-scheduler: leaderelection lost");
    while !second.host.log("server").contains(lost) {
        assert!(began.elapsed() < PATIENCE, "the lead is not lost");
        std::thread::sleep(Duration::from_millis(200));
    }
    for (number, member) in [(1, "m1"), (2, "m2")] {
        etcd.signal(member, "CONT");
        member_is_well(&etcd, number);
    }
    first.wait(&["get", "--raw", "/readyz"], |said| said == "ok");
    deploy(&first, "again");

    // One that is told to end is taken out at once.
    second.host.end("server", true);
    first.servers_are(FIRST);
    first.leader("kube-controller-manager", |node| node == "first");
    first.kubectl(&["create", "configmap", "last"]);
    second.start();
    second.kubectl(&["get", "configmap", "last"]);
    second.kubectl(&["delete", "deployment", "before", "again", "after"]);
    second.wait(&["get", "pods", "-o", "name"], |said| said.is_empty());
}

/// The files of a directory, by name; none when it is not there.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "backup"));
    files.sort();
    files
}

#[test]
fn a_cluster_is_backed_up_while_it_runs_and_restored() {
    let cluster = Cluster::new("backup");
    let schedule = ["start", "--snapshot-every", "1s", "--snapshot-keep", "2"];
    cluster.oxikube(&schedule).ok();
    let kubectl = |arguments: &[&str]| cluster.kubectl(36, arguments, "").ok();
    let names = || kubectl(&["get", "configmaps", "-o", "name"]);
    let has = |name: &str| names().contains(&format!("configmap/{name}\n"));
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("backup");
    let file = file.to_str().expect("text");
    kubectl(&["create", "configmap", "before"]);
    let version = "jsonpath={.metadata.resourceVersion}";
    let old = kubectl(&["get", "configmap", "before", "-o", version]);
    cluster.oxikube(&["backup", file]).ok();
    kubectl(&["create", "configmap", "after"]);
    cluster.oxikube(&["store", "check"]).ok();
    let stats = cluster.oxikube(&["store", "stats", "--json"]).ok();
    assert!(stats.contains("\"condition\": \"ok\""), "{stats}");
    cluster.oxikube(&["store", "compact"]).ok();

    // Backups come by themselves, and old ones go.
    let snapshots = cluster.state().join(cluster.name()).join("snapshots");
    let began = Instant::now();
    let first = loop {
        if let Some(first) = files(&snapshots).first() {
            break first.clone();
        }
        assert!(began.elapsed() < PATIENCE, "no snapshot is taken");
        std::thread::sleep(Duration::from_millis(50));
    };
    while first.exists() {
        kubectl(&["annotate", "--overwrite", "configmap", "after", "at=x"]);
        kubectl(&["annotate", "--overwrite", "configmap", "after", "at=y"]);
        assert!(began.elapsed() < PATIENCE, "old snapshots stay");
    }
    assert!(files(&snapshots).len() <= 3, "{:?}", files(&snapshots));

    // Data is never mixed or overwritten.
    let refused = cluster.oxikube(&["restore", file, "--replace"]).failed();
    assert!(refused.contains("in use by process"), "{refused}");
    let refused = cluster.oxikube(&["start", "--snapshot-every", "never"]);
    assert!(refused.failed().contains("switch it off"));
    cluster.oxikube(&["stop"]).ok();
    let refused = cluster.oxikube(&["restore", file]).failed();
    assert!(refused.contains("holds a store already"), "{refused}");
    let newest = files(&snapshots).pop().expect("a snapshot");
    let restore = |file: &str| cluster.oxikube(&["restore", file, "--replace"]).ok();
    restore(newest.to_str().expect("text"));
    cluster
        .oxikube(&["start", "--snapshot-every", "never"])
        .ok();
    assert!(has("before") && has("after"), "{}", names());
    cluster.oxikube(&["stop"]).ok();
    restore(file);
    cluster.oxikube(&["start"]).ok();
    assert!(has("before") && !has("after"), "{}", names());
    // Whoever knows the lost time is told to read anew: revisions have not run backwards.
    let new = kubectl(&["create", "configmap", "new", "-o", version]);
    let number = |text: &str| text.parse::<u64>().expect("a revision");
    assert!(number(&new) > number(&old) + 1_000_000_000);
    let watch = format!("/api/v1/configmaps?watch=1&resourceVersion={old}&timeoutSeconds=5");
    let told = cluster.kubectl(36, &["get", "--raw", &watch], "");
    let told = told.stdout + &told.stderr;
    assert!(told.contains("too old resource version"), "{told}");
}

/// A member of etcd alone on loopback, killed with the value.
struct Etcd {
    child: std::process::Child,
    url: String,
    _data: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Self {
        let free = || std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let (client, peer) = (free(), free());
        let at = |listener: std::net::TcpListener| {
            format!("http://{}", listener.local_addr().expect("an address"))
        };
        let (url, peer) = (at(client), at(peer));
        let data = tempfile::tempdir().expect("a directory");
        let arguments = words(&format!(
            "--data-dir={} --listen-client-urls={url} --advertise-client-urls={url} --listen-peer-urls={peer} \
             --initial-advertise-peer-urls={peer} --initial-cluster=default={peer} --logger=zap --log-level=error",
            data.path().display()
        ));
        let child = Command::new("etcd").args(arguments).spawn();
        Self {
            child: child.expect("Debian's etcd-server"),
            url,
            _data: data,
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // One that has ended already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_cluster_moves_to_etcd_and_back() {
    let cluster = Cluster::start("migrate");
    let kubectl = |arguments: &[&str]| cluster.kubectl(36, arguments, "").ok();
    kubectl(&["create", "configmap", "moved", "--from-literal=a=b"]);
    let object = || kubectl(&["get", "configmap", "moved", "-o", "yaml"]);
    let before = object();
    let etcd = Etcd::start();
    let to = ["store", "migrate", "--to", &etcd.url];
    let refused = cluster.oxikube(&to).failed();
    assert!(refused.contains("in use by process"), "{refused}");
    cluster.oxikube(&["stop"]).ok();
    cluster.oxikube(&to).ok();
    let refused = cluster.oxikube(&to).failed();
    assert!(refused.contains("nothing is mixed"), "{refused}");
    let store = cluster.state().join(cluster.name()).join("store");
    let aside = store.with_file_name("store-before");
    let back = [
        "store",
        "migrate",
        "--from",
        &etcd.url,
        "--to",
        store.to_str().expect("text"),
    ];
    let refused = cluster.oxikube(&back).failed();
    assert!(refused.contains("holds a store already"), "{refused}");
    std::fs::rename(&store, &aside).expect("put aside");
    cluster.oxikube(&back).ok();
    cluster.oxikube(&["store", "check"]).ok();
    cluster.oxikube(&["start"]).ok();
    let version = |yaml: &str| {
        let line = yaml.lines().find(|line| line.contains("resourceVersion"));
        let number = line.and_then(|line| line.split('"').nth(1));
        number
            .and_then(|n| n.parse::<u64>().ok())
            .expect("a number")
    };
    let after = object();
    assert!(
        version(&after) >= version(&before),
        "time does not run backwards"
    );
    let rest = |yaml: &str| -> Vec<String> {
        let lines = yaml
            .lines()
            .filter(|line| !line.contains("resourceVersion"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(rest(&after), rest(&before));
    kubectl(&["create", "configmap", "goes-on"]);
}
