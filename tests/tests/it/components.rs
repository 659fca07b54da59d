//! Components as processes of their own, over TLS, in network namespaces of their own: two of each of which one dies, and
//! a node that joins a server by its token.

use std::process::Command;

use cluster_tests::{Cluster, Host, ip, kubeconfig, words};

#[test]
fn of_two_of_each_one_may_die() {
    let mut host = Host::new("c");
    let name = host.name().to_owned();
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
                 --authentication-kubeconfig={manager} --authorization-kubeconfig={manager} \
                 --allocate-node-cidrs --cluster-cidr=10.244.0.0/16 --root-ca-file={p}/ca.crt \
                 --cluster-signing-cert-file={p}/ca.crt --cluster-signing-key-file={p}/ca.key \
                 --leader-elect-lease-duration=8s --leader-elect-renew-deadline=6s \
                 --leader-elect-retry-period=500ms --secure-port={}",
                10257 + 10 * number
            )),
        );
        host.start(
            &format!("kube-scheduler-{number}"),
            &words(&format!(
                "kube-scheduler --kubeconfig={scheduler} --leader-elect-lease-duration=8s \
                 --authentication-kubeconfig={scheduler} --authorization-kubeconfig={scheduler} \
                 --leader-elect-renew-deadline=6s --leader-elect-retry-period=500ms --secure-port={}",
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
    // What each of them is, is told to who may know.
    let flags = host.kubectl(&admin, &["get", "--raw", "/flagz"]).ok();
    assert!(
        flags.contains("\nauthorization-mode=[Node,RBAC]\n"),
        "{flags}"
    );
    let about = ["get", "--raw", "/api/v1/nodes/n1/proxy/flagz"];
    let flags = host.kubectl(&admin, &about).ok();
    assert!(flags.contains("\nhostname-override=n1\n"), "{flags}");
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
        let number = leader.expect("one of them");
        let (first, shown, kind) = match component {
            "kube-scheduler" => (
                10259,
                "leader_election_master_status{name=\"kube-scheduler\"} 1",
                "\"kind\":\"KubeSchedulerConfiguration\"",
            ),
            _ => (
                10257,
                "workqueue_depth{name=\"deployment\"} ",
                "\"kind\":\"KubeControllerManagerConfiguration\"",
            ),
        };
        let server = format!("--server=https://172.29.97.1:{}", first + 10 * number);
        let ask = |path: &str| {
            let arguments = [&*server, "--insecure-skip-tls-verify", "get", "--raw", path];
            host.kubectl(&admin, &arguments).ok()
        };
        let (status, figures) = (ask("/statusz"), ask("/metrics"));
        assert!(status.contains(&format!("{component} statusz")), "{status}");
        assert!(figures.contains(shown), "{figures}");
        assert!(figures.contains("rest_client_requests_total{"), "{figures}");
        let configuration = ask("/configz");
        assert!(configuration.contains(kind), "{configuration}");
        host.end(&format!("{component}-{number}"), false);
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
    // Rules outlive their proxy, until somebody asks for their end.
    let tables = |host: &Host| {
        let listed = host
            .command("nft".as_ref())
            .args(["list", "tables"])
            .output();
        String::from_utf8_lossy(&listed.expect("nft").stdout).into_owned()
    };
    host.end("kube-proxy", true);
    assert!(tables(&host).contains("oxikube-services"));
    let mut cleanup = host.command(&Cluster::program("oxikube"));
    let done = cleanup.args(["kube-proxy", "--cleanup"]).output();
    assert!(done.expect("started").status.success());
    assert!(!tables(&host).contains("oxikube-services"));
}

#[test]
fn a_node_joins_by_its_token_and_pods_outlive_the_server() {
    let (mut server, mut agent) = (Host::new("s"), Host::new("a"));
    let (s, a) = (server.name().to_owned(), agent.name().to_owned());
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
