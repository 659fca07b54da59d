//! `kubernetes-guide.md` 2.8: every kind of Service, from outside and from pods, and the names that DNS gives them.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use cluster_tests::{Cluster, Namespace};

/// Two pods that say who they are and who asks, on port 8080, and one to ask from.
const PODS: &str = r#"
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
      - name: web
        image: busybox
        imagePullPolicy: IfNotPresent
        ports: [{name: pages, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: pages}, periodSeconds: 1}
        command: [sh, -c]
        args:
        - |
          mkdir -p /tmp/www/cgi-bin
          cat > /tmp/www/cgi-bin/index.cgi <<'END'
          #!/bin/sh
          printf 'Content-Type: text/plain\r\n\r\n%s %s\n' "$(hostname)" "$REMOTE_ADDR"
          END
          chmod +x /tmp/www/cgi-bin/index.cgi
          exec httpd -f -p 8080 -h /tmp/www
---
apiVersion: v1
kind: Pod
metadata: {name: asker}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: asker, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "100000"]}
"#;

fn agent(patience: Duration) -> ureq::Agent {
    // A connection a request, as curl does; otherwise one end point would answer all.
    ureq::Agent::config_builder()
        .timeout_global(Some(patience))
        .max_idle_connections(0)
        .http_status_as_error(false)
        .build()
        .into()
}

/// Status, and what is said.
fn get_with(url: &str, patience: Duration) -> Result<(u16, String), String> {
    let answer = agent(patience).get(url).call().map_err(|e| e.to_string())?;
    let status = answer.status().as_u16();
    let text = answer.into_body().read_to_string();
    Ok((status, text.map_err(|e| e.to_string())?))
}

/// The pod that answers and the address that it sees.
fn ask(url: &str) -> Result<(String, String), String> {
    let (status, text) = get_with(url, Duration::from_secs(5))?;
    let (pod, client) = text
        .trim()
        .split_once(' ')
        .ok_or(format!("{status} {text}"))?;
    Ok((pod.to_owned(), client.to_owned()))
}

/// Asks until the answer is as wanted: rules follow objects, but not in the same moment.
#[track_caller]
fn until<T: std::fmt::Debug>(
    what: &str,
    mut ask: impl FnMut() -> T,
    wanted: impl Fn(&T) -> bool,
) -> T {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let answer = ask();
        if wanted(&answer) {
            return answer;
        }
        assert!(std::time::Instant::now() < deadline, "{what}: {answer:?}");
        std::thread::yield_now();
    }
}

/// The first answer; there may be none yet.
#[track_caller]
fn answer(url: &str) -> (String, String) {
    until(url, || ask(url), Result::is_ok).expect("answered")
}

/// Nothing answers any more.
#[track_caller]
fn silent(url: &str) {
    let error = until(
        url,
        || get_with(url, Duration::from_secs(1)),
        Result::is_err,
    );
    error.expect_err("silent");
}

fn pods_behind(url: &str) -> BTreeSet<String> {
    (0..40).map(|_| ask(url).expect("answered").0).collect()
}

/// A service of the pods, with these fields on top.
fn service(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, \
         spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: pages}}], {spec}}}}}\n---\n"
    )
}

struct Walk {
    space: Namespace,
    node: String,
}

impl Walk {
    fn start(cluster: &Arc<Cluster>, name: &str) -> Self {
        let space = cluster.namespace(name, 36);
        space.input(&["apply", "-f", "-"], PODS).ok();
        space.wait(&["deployment/web"], "condition=Available");
        space.wait(&["pod/asker"], "condition=Ready");
        Self {
            node: cluster.node_address(),
            space,
        }
    }

    fn apply(&self, manifest: &str) {
        self.space.input(&["apply", "-f", "-"], manifest).ok();
    }

    fn field(&self, what: &str, path: &str) -> String {
        let path = format!("jsonpath={path}");
        self.space.kubectl(&["get", what, "-o", &path]).ok()
    }

    fn node_port(&self, service: &str) -> String {
        self.field(&format!("service/{service}"), "{.spec.ports[0].nodePort}")
    }

    fn by_node_port(&self, service: &str) -> String {
        format!(
            "http://{}:{}/cgi-bin/index.cgi",
            self.node,
            self.node_port(service)
        )
    }

    /// The address that the load balancer of the service has got.
    fn balanced(&self, service: &str) -> String {
        let path = "{.status.loadBalancer.ingress[0].ip}";
        let object = format!("service/{service}");
        self.space.wait(&[&object], &format!("jsonpath={path}"));
        self.field(&object, path)
    }

    /// What a command says in the pod that asks.
    fn inside(&self, command: &str) -> String {
        let output = self
            .space
            .kubectl(&["exec", "asker", "--", "sh", "-c", command]);
        output.stdout + &output.stderr
    }

    fn cluster_ip(&self, service: &str) -> String {
        self.field(&format!("service/{service}"), "{.spec.clusterIP}")
    }

    /// One of the pods answers the pod that asks.
    #[track_caller]
    fn answers_inside(&self, to: &str) {
        let command = format!("wget -q -O - http://{to}/cgi-bin/index.cgi");
        until(
            to,
            || self.inside(&command),
            |answer| answer.starts_with("web-"),
        );
    }

    /// What the name service says in the pod that asks, once it knows.
    #[track_caller]
    fn look_up(&self, question: &str, wanted: &[&str]) {
        let command = format!("nslookup {question}");
        let has_all = |answer: &String| wanted.iter().all(|w| answer.contains(w));
        until(question, || self.inside(&command), has_all);
    }
}

#[test]
fn every_kind_of_service() {
    let cluster = Cluster::shared();
    let walk = Walk::start(&cluster, "services");
    affinity(&walk);
    policies(&walk);
    load_balancers(&walk);
    other_addresses(&walk);
    nobody_there(&walk);
    own_end_points(&walk);
    names(&walk);
    udp(&walk);
}

fn affinity(walk: &Walk) {
    let sticky = "type: NodePort, sessionAffinity: ClientIP, \
                  sessionAffinityConfig: {clientIP: {timeoutSeconds: 600}}";
    walk.apply(&(service("plain", "type: NodePort") + &service("sticky", sticky)));
    let plain = walk.by_node_port("plain");
    answer(&plain);
    assert_eq!(pods_behind(&plain).len(), 2, "spread");
    let sticky = walk.by_node_port("sticky");
    answer(&sticky);
    let stays = pods_behind(&sticky);
    assert_eq!(stays.len(), 1, "{stays:?}");
    // The pod goes: the client moves to another one and stays there.
    let gone = stays.first().expect("one");
    walk.space.kubectl(&["delete", "pod", gone]).ok();
    let moved = until(
        "another pod",
        || ask(&sticky).map_or(String::new(), |(pod, _)| pod),
        |pod| !pod.is_empty() && pod != gone,
    );
    assert!(moved.starts_with("web-"), "{moved}");
    assert_eq!(pods_behind(&sticky).len(), 1);
    walk.space
        .wait(&["deployment/web"], "jsonpath={.status.readyReplicas}=2");
}

/// `externalTrafficPolicy: Local` keeps the client's address, `Cluster` does not.
fn policies(walk: &Walk) {
    walk.apply(&service(
        "kept",
        "type: NodePort, externalTrafficPolicy: Local",
    ));
    walk.apply(&service("inner", "internalTrafficPolicy: Local"));
    let kept = walk.by_node_port("kept");
    let (_, sees) = answer(&kept);
    let machine = walk.node.rsplit_once('.').expect("an address").0.to_owned() + ".1";
    assert!(sees.contains(&machine), "{sees} is not the client's own");
    let (_, sees) = ask(&walk.by_node_port("plain")).expect("answered");
    assert!(!sees.contains(&machine), "{sees} is not the node's");
    walk.answers_inside("inner");
}

fn load_balancers(walk: &Walk) {
    let local = "type: LoadBalancer, externalTrafficPolicy: Local";
    walk.apply(&(service("lb", "type: LoadBalancer") + &service("lb-local", local)));
    let address = walk.balanced("lb");
    let url = |address: &str| format!("http://{address}/cgi-bin/index.cgi");
    answer(&url(&address));
    assert_eq!(pods_behind(&url(&address)).len(), 2, "spread");
    let described = walk.space.kubectl(&["describe", "service", "lb"]).ok();
    for text in ["EnsuringLoadBalancer", "Ensured load balancer"] {
        assert!(described.contains(text), "{described}");
    }
    let listed = walk.space.kubectl(&["get", "service", "lb"]).ok();
    assert!(
        listed.contains("LoadBalancer") && listed.contains(&address),
        "{listed}"
    );

    let local = walk.balanced("lb-local");
    assert_ne!(local, address, "each has its own");
    answer(&url(&local));
    let check = walk.field("service/lb-local", "{.spec.healthCheckNodePort}");
    let health = format!("http://{}:{check}/healthz", walk.node);
    let (status, text) = get_with(&health, Duration::from_secs(5)).expect("answered");
    assert!(
        status == 200 && text.contains("\"localEndpoints\": 2"),
        "{status} {text}"
    );

    // Nothing of the node shows under the address.
    let api = get_with(&format!("http://{address}:6443/"), Duration::from_secs(5));
    assert!(api.is_err(), "{api:?}");

    let ranges = |ranges: &str| format!(r#"{{"spec":{{"loadBalancerSourceRanges":[{ranges}]}}}}"#);
    let patch = |text: String| {
        walk.space
            .kubectl(&["patch", "service", "lb", "-p", &text])
            .ok()
    };
    patch(ranges("\"198.51.100.0/24\""));
    silent(&url(&address));
    patch(ranges("\"198.51.100.0/24\",\"172.30.0.0/16\""));
    answer(&url(&address));

    walk.space.kubectl(&["delete", "service", "lb"]).ok();
    silent(&url(&address));
}

fn other_addresses(walk: &Walk) {
    let two = "externalIPs: [198.51.100.7]";
    walk.apply(&service("external", two).replace(
        "ports: [{port: 80, targetPort: pages}]",
        "ports: [{name: a, port: 80, targetPort: pages}, {name: b, port: 81, targetPort: 8080}]",
    ));
    for address in ["198.51.100.7", "external"] {
        walk.answers_inside(address);
        walk.answers_inside(&format!("{address}:81"));
    }
}

fn nobody_there(walk: &Walk) {
    let nobody = service("nobody", "type: NodePort").replace("app: web", "app: nobody");
    walk.apply(&nobody);
    let url = walk.by_node_port("nobody");
    let refused = || ask(&url).err().unwrap_or_default();
    until("refused", refused, |error| error.contains("refused"));
    let inside = "wget -O - http://nobody/";
    let refused = || walk.inside(inside);
    until("refused", refused, |error| error.contains("refused"));
}

/// A service without selector, for what is not in the cluster: here a pod, by its address.
fn own_end_points(walk: &Walk) {
    let path = "{.items[0].status.podIP}";
    let all = [
        "get",
        "pods",
        "-l",
        "app=web",
        "-o",
        &format!("jsonpath={path}"),
    ];
    let address = walk.space.kubectl(&all).ok();
    let manifest = format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: own}}
spec: {{type: NodePort, ports: [{{protocol: TCP, port: 80, targetPort: 9376}}]}}
---
apiVersion: v1
kind: Endpoints
metadata: {{name: own}}
subsets: [{{addresses: [{{ip: {address}}}], ports: [{{port: 8080}}]}}]
---
apiVersion: v1
kind: Service
metadata: {{name: own-headless}}
spec: {{clusterIP: None, ports: [{{port: 80}}]}}
---
apiVersion: v1
kind: Endpoints
metadata: {{name: own-headless}}
subsets: [{{addresses: [{{ip: {address}}}], ports: [{{port: 8080}}]}}]
"
    );
    walk.apply(&manifest);
    answer(&walk.by_node_port("own"));
    let label = "kubernetes.io/service-name=own";
    let slices = walk
        .space
        .kubectl(&["get", "endpointslices", "-l", label, "-o", "wide"])
        .ok();
    assert!(slices.contains(&address), "{slices}");
    walk.look_up("own-headless", &[&address]);
}

fn names(walk: &Walk) {
    let space = walk.space.name();
    let headless = format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: set}}
spec:
  clusterIP: None
  selector: {{app: member}}
  ports: [{{name: pages, port: 8080, targetPort: 8080}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: member, labels: {{app: member}}}}
spec:
  hostname: first
  subdomain: set
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: member, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, \"100000\"]}}
---
apiVersion: v1
kind: Service
metadata: {{name: alias}}
spec: {{type: ExternalName, externalName: plain.{space}.svc.cluster.local}}
"
    );
    walk.apply(&headless);
    walk.space.wait(&["pod/member"], "condition=Ready");
    let member = walk.field("pod/member", "{.status.podIP}");
    let plain = walk.cluster_ip("plain");
    let domain = format!("{space}.svc.cluster.local");
    walk.look_up("plain", &[&plain]);
    walk.look_up(&format!("plain.{domain}"), &[&plain]);
    walk.look_up("set", &[&member]);
    walk.look_up(&format!("first.set.{domain}"), &[&member]);
    walk.look_up(
        &format!("-type=srv _pages._tcp.set.{domain}"),
        &[&format!("8080 first.set.{domain}")],
    );
    walk.look_up(
        &format!("-type=srv _a._tcp.external.{domain}"),
        &[&format!("80 external.{domain}")],
    );
    walk.look_up(&plain, &[&format!("plain.{domain}")]);
    walk.look_up(&member, &[&format!("first.set.{domain}")]);
    walk.look_up(
        &format!("alias.{domain}"),
        &[&format!("plain.{domain}"), &plain],
    );
    let dashed = member.replace('.', "-");
    walk.look_up(&format!("{dashed}.{space}.pod.cluster.local"), &[&member]);
    walk.answers_inside("alias");
    walk.look_up("nothing.here.svc.cluster.local", &["NXDOMAIN"]);
}

/// The cluster's name service behind a node port of its own.
fn udp(walk: &Walk) {
    let manifest = format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: udp}}
spec: {{type: NodePort, ports: [{{name: dns, protocol: UDP, port: 53}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: udp-1, labels: {{kubernetes.io/service-name: udp}}}}
addressType: IPv4
endpoints: [{{addresses: [{}]}}]
ports: [{{name: dns, protocol: UDP, port: 10053}}]
",
        walk.node
    );
    walk.apply(&manifest);
    let to = format!("{}:{}", walk.node, walk.node_port("udp"));
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
    let patience = Some(Duration::from_secs(1));
    socket.set_read_timeout(patience).expect("a time");
    // `cluster.local. SOA`, the number of the question first.
    let mut question = b"\x13\x37\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    question.extend(b"\x07cluster\x05local\x00\x00\x06\x00\x01");
    let ask = || {
        socket.send_to(&question, &to).map_err(|e| e.to_string())?;
        let mut answer = [0; 512];
        let len = socket.recv(&mut answer).map_err(|e| e.to_string())?;
        Ok::<_, String>(answer[..len].to_vec())
    };
    let answer = until("UDP", ask, Result::is_ok).expect("answered");
    assert_eq!(answer[..2], question[..2]);
    assert_eq!(answer[3] & 0x0f, 0, "no error");
}
