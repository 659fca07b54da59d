use expect_test::expect;
use k8s_openapi::api::core::v1::{Container, Pod, Service};

use crate::field_path::Facts;
use crate::payload;
use crate::security::{self, ImageUser};
use crate::{admission, dns, env, hosts, image, qos, quantity, resources, service_env};

pub(super) fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_saphyr::from_str(text).unwrap()
}

fn pod(spec: &str) -> Pod {
    yaml(&format!(
        "metadata: {{name: web, namespace: shop, uid: u1, labels: {{b: \"x\\\"y\", a: one}}}}\nspec: {{nodeName: n1, {spec}}}"
    ))
}

fn facts() -> Facts {
    Facts {
        pod_ips: vec!["10.1.0.7".into()],
        host_ips: vec!["10.0.0.1".into()],
        allocatable: yaml("{cpu: '2', memory: 4Gi}"),
    }
}

#[test]
fn quantities() {
    assert_eq!(quantity::milli(&yaml("1.5")), Some(1500));
    assert_eq!(quantity::milli(&yaml("1n")), Some(1), "rounded up");
    assert_eq!(quantity::units(&yaml("0.5Gi")), Some(512 << 20));
    assert_eq!(quantity::milli(&yaml("x")), None);
    assert_eq!(quantity::div_ceil(7, 2), 4);
}

#[test]
fn services_become_variables() {
    let services: Vec<Service> = yaml(
        "
- {metadata: {name: kubernetes, namespace: default}, spec: {clusterIP: 10.96.0.1, ports: [{name: https, port: 443}]}}
- {metadata: {name: redis-master, namespace: shop}, spec: {clusterIP: 10.96.0.9, ports: [{port: 6379, protocol: TCP}]}}
- {metadata: {name: headless, namespace: shop}, spec: {clusterIP: None, ports: [{port: 1}]}}
- {metadata: {name: other, namespace: elsewhere}, spec: {clusterIP: 10.96.0.8, ports: [{port: 1}]}}",
    );
    let lines = |links| {
        let map = service_env::variables(services.iter(), "shop", links);
        let lines: Vec<String> = map.iter().map(|(k, v)| format!("{k}={v}")).collect();
        lines.join("\n")
    };
    expect![[r#"
        KUBERNETES_PORT=tcp://10.96.0.1:443
        KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443
        KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1
        KUBERNETES_PORT_443_TCP_PORT=443
        KUBERNETES_PORT_443_TCP_PROTO=tcp
        KUBERNETES_SERVICE_HOST=10.96.0.1
        KUBERNETES_SERVICE_PORT=443
        KUBERNETES_SERVICE_PORT_HTTPS=443
        REDIS_MASTER_PORT=tcp://10.96.0.9:6379
        REDIS_MASTER_PORT_6379_TCP=tcp://10.96.0.9:6379
        REDIS_MASTER_PORT_6379_TCP_ADDR=10.96.0.9
        REDIS_MASTER_PORT_6379_TCP_PORT=6379
        REDIS_MASTER_PORT_6379_TCP_PROTO=tcp
        REDIS_MASTER_SERVICE_HOST=10.96.0.9
        REDIS_MASTER_SERVICE_PORT=6379"#]]
    .assert_eq(&lines(true));
    assert_eq!(lines(false).lines().count(), 8);
}

#[test]
fn environment_of_a_container() {
    let pod = pod("containers: []");
    let container: Container = yaml(
        r#"
name: app
envFrom:
- {configMapRef: {name: settings}, prefix: P_}
- {secretRef: {name: gone, optional: true}}
env:
- {name: A, value: "1"}
- {name: B, value: "$(A)-$(REDIS_SERVICE_HOST)-$(NOPE)-$$(A)-$"}
- {name: P_x, value: own}
- {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
- {name: L, valueFrom: {fieldRef: {fieldPath: "metadata.labels['b']"}}}
- {name: MEM, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
- {name: CPU, valueFrom: {resourceFieldRef: {resource: requests.cpu}}}
- {name: S, valueFrom: {secretKeyRef: {name: gone, key: k, optional: true}}}
- {name: E}
resources: {requests: {cpu: 1500m}}"#,
    );
    let mut sources = env::Sources::default();
    let map = yaml("{data: {x: from-map, y: other}}");
    sources
        .config_maps
        .insert("settings".into(), Some(std::sync::Arc::new(map)));
    let services = yaml("{REDIS_SERVICE_HOST: 10.96.0.9}");
    let list = env::variables(&pod, &container, &services, &sources, &facts()).unwrap();
    let lines: Vec<String> = list
        .iter()
        .map(|v| format!("{}={}", v.key, v.value))
        .collect();
    expect![[r#"
        P_x=own
        P_y=other
        A=1
        B=1-10.96.0.9-$(NOPE)-$(A)-$
        IP=10.1.0.7
        L=x"y
        MEM=4096
        CPU=2
        E=
        REDIS_SERVICE_HOST=10.96.0.9"#]]
    .assert_eq(&lines.join("\n"));
    sources.config_maps.clear();
    let missing = env::variables(&pod, &container, &services, &sources, &facts());
    assert_eq!(missing.unwrap_err(), "configmap \"settings\" not found");
}

#[test]
fn resources_and_classes() {
    let describe = |spec: &str| {
        let pod = pod(spec);
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let r = resources::of_container(&pod, container, 8 << 30);
        format!(
            "{} {} shares {} quota {} memory {} oom {}\n",
            qos::class(&pod),
            qos::cgroup_parent(&pod),
            r.cpu_shares,
            r.cpu_quota,
            r.memory_limit_in_bytes,
            r.oom_score_adj
        )
    };
    let mut out = describe("containers: [{name: a}]");
    out += &describe("containers: [{name: a, resources: {requests: {cpu: 100m, memory: 1Gi}}}]");
    out += &describe(
        "containers: [{name: a, resources: {requests: {cpu: '1', memory: 64Mi}, limits: {cpu: '1', memory: 64Mi}}}]",
    );
    out += &describe("containers: [{name: a, resources: {limits: {cpu: 5m}}}]");
    expect![[r#"
        BestEffort /kubepods/besteffort/podu1 shares 2 quota 0 memory 0 oom 1000
        Burstable /kubepods/burstable/podu1 shares 102 quota 0 memory 0 oom 875
        Guaranteed /kubepods/podu1 shares 1024 quota 100000 memory 67108864 oom -997
        Burstable /kubepods/burstable/podu1 shares 5 quota 1000 memory 0 oom 999
    "#]]
    .assert_eq(&out);
}

#[test]
fn a_pod_requests_what_its_containers_need_at_any_time() {
    let pod = pod(
        "initContainers: [{name: i, resources: {requests: {cpu: '3'}}}, {name: s, restartPolicy: Always, resources: {requests: {cpu: '1'}}}], containers: [{name: a, resources: {requests: {cpu: '1', memory: 1k}}}, {name: b, resources: {requests: {cpu: '1'}}}], overhead: {cpu: 100m}",
    );
    let requests = resources::pod_requests(&pod);
    assert_eq!(requests["cpu"], 3100);
    assert_eq!(requests["memory"], 1_000_000);
}

#[test]
fn resolv_conf_by_policy() {
    let host = dns::parse("nameserver 1.1.1.1\nsearch example.org\noptions rotate ndots:1\n");
    let cluster = ["10.96.0.10".to_owned()];
    let mut out = String::new();
    for spec in [
        "dnsPolicy: ClusterFirst",
        "dnsPolicy: ClusterFirst, hostNetwork: true",
        "dnsPolicy: Default",
        "dnsPolicy: None, dnsConfig: {nameservers: [9.9.9.9], searches: [a.b], options: [{name: ndots, value: '2'}]}",
        "dnsPolicy: ClusterFirst, dnsConfig: {options: [{name: ndots, value: '2'}, {name: edns0}]}",
    ] {
        let pod = pod(&format!("containers: [], {spec}"));
        let dns = dns::resolver(&pod, &cluster, "cluster.local", &host);
        out += &format!("# {spec}\n{}", dns::render(&dns));
    }
    expect![[r#"
        # dnsPolicy: ClusterFirst
        search shop.svc.cluster.local svc.cluster.local cluster.local example.org
        nameserver 10.96.0.10
        options ndots:5
        # dnsPolicy: ClusterFirst, hostNetwork: true
        search example.org
        nameserver 1.1.1.1
        options rotate ndots:1
        # dnsPolicy: Default
        search example.org
        nameserver 1.1.1.1
        options rotate ndots:1
        # dnsPolicy: None, dnsConfig: {nameservers: [9.9.9.9], searches: [a.b], options: [{name: ndots, value: '2'}]}
        search a.b
        nameserver 9.9.9.9
        options ndots:2
        # dnsPolicy: ClusterFirst, dnsConfig: {options: [{name: ndots, value: '2'}, {name: edns0}]}
        search shop.svc.cluster.local svc.cluster.local cluster.local example.org
        nameserver 10.96.0.10
        options ndots:2 edns0
    "#]].assert_eq(&out);
}

#[test]
fn hosts_file() {
    let pod = pod(
        "containers: [], hostname: h, subdomain: sub, hostAliases: [{ip: 1.2.3.4, hostnames: [x, y]}]",
    );
    let text = hosts::content(&pod, &["10.1.0.7".into()], "cluster.local", "");
    expect![[r#"
        # Kubernetes-managed hosts file.
        127.0.0.1	localhost
        ::1	localhost ip6-localhost ip6-loopback
        fe00::0	ip6-localnet
        fe00::0	ip6-mcastprefix
        fe00::1	ip6-allnodes
        fe00::2	ip6-allrouters
        10.1.0.7	h.sub.shop.svc.cluster.local	h

        # Entries added by HostAliases.
        1.2.3.4	x	y
    "#]]
    .assert_eq(&text);
}

#[test]
fn run_as_non_root_is_checked_against_the_image() {
    let strict = "securityContext: {runAsNonRoot: true}";
    let image = |uid, name: &str| ImageUser {
        uid,
        name: name.into(),
    };
    let mut out = String::new();
    for (spec, user) in [
        ("", image(Some(0), "")),
        (strict, image(None, "")),
        (strict, image(Some(0), "")),
        (strict, image(Some(7), "")),
        (strict, image(None, "web")),
        (strict, image(Some(4_294_967_296), "")),
        (
            "securityContext: {runAsNonRoot: true, runAsUser: 0}",
            image(Some(7), ""),
        ),
        (
            "securityContext: {runAsNonRoot: true, runAsUser: 9}",
            image(Some(0), ""),
        ),
    ] {
        let pod = pod(&format!("containers: [{{name: a, {spec}}}]"));
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let verdict = security::check_non_root(&pod, container, &user);
        out += &format!("{verdict:?}\n");
    }
    expect![[r#"
        Ok(())
        Err("container has runAsNonRoot and image will run as root (pod: \"web_shop(u1)\", container: a)")
        Err("container has runAsNonRoot and image will run as root (pod: \"web_shop(u1)\", container: a)")
        Ok(())
        Err("container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root (pod: \"web_shop(u1)\", container: a)")
        Err("container has runAsNonRoot and image has an invalid user id (4294967296). (Must be 1-(2147483647)): must be between 0 and 2147483647, inclusive (pod: \"web_shop(u1)\", container: a)")
        Err("container's runAsUser breaks non-root policy (pod: \"web_shop(u1)\", container: a)")
        Ok(())
    "#]].assert_eq(&out);
}

#[test]
fn files_of_a_projected_volume() {
    let pod = pod("containers: [{name: a, securityContext: {runAsUser: 7}}]");
    let volume = yaml(
        "
name: v
projected:
  defaultMode: 0o640
  sources:
  - {serviceAccountToken: {path: token}}
  - {configMap: {name: ca, items: [{key: ca.crt, path: certs/ca.crt, mode: 0o444}]}}
  - {downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}, {path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
  - {secret: {name: nope, optional: true}}
  - {podCertificate: {signerName: a.b/c, keyType: ED25519, credentialBundlePath: own/all.pem, keyPath: ./key.pem, certificateChainPath: chain.pem}}
  - {clusterTrustBundle: {name: roots, path: roots.pem}}",
    );
    let mut sources = env::Sources::default();
    let map = yaml("{data: {ca.crt: PEM}}");
    sources
        .config_maps
        .insert("ca".into(), Some(std::sync::Arc::new(map)));
    let given = payload::Given {
        tokens: vec!["T".into()],
        anchors: vec![b"ROOTS ".to_vec()],
        credentials: vec![("KEY ".into(), "CHAIN ".into())],
    };
    let files = payload::files(&pod, &volume, &sources, &facts(), given).unwrap();
    let mut out = String::new();
    for (path, file) in files {
        let text = String::from_utf8_lossy(&file.data).into_owned();
        out += &format!("{path} {:o} {:?} {text:?}\n", file.mode, file.owner);
    }
    expect![[r#"
        certs/ca.crt 444 None "PEM"
        chain.pem 600 Some(7) "CHAIN "
        key.pem 600 Some(7) "KEY "
        labels 640 None "a=\"one\"\nb=\"x\\\"y\""
        namespace 640 None "shop"
        own/all.pem 600 Some(7) "KEY CHAIN "
        roots.pem 600 Some(7) "ROOTS "
        token 600 Some(7) "T"
    "#]]
    .assert_eq(&out);
}

#[test]
fn volume_paths_do_not_leave_the_volume() {
    let pod = pod("containers: []");
    for path in ["../x", "a/../../x", "/etc/passwd", "..data", "a//b"] {
        let volume = yaml(&format!(
            "{{name: v, configMap: {{name: c, items: [{{key: k, path: \"{path}\"}}]}}}}"
        ));
        let mut sources = env::Sources::default();
        let map = yaml("{data: {k: v}}");
        sources
            .config_maps
            .insert("c".into(), Some(std::sync::Arc::new(map)));
        let files = payload::files(&pod, &volume, &sources, &facts(), payload::Given::default());
        assert!(files.is_err(), "{path}: {files:?}");
    }
}

#[test]
fn image_names_and_policies() {
    let mut out = String::new();
    for name in [
        "nginx",
        "nginx:1",
        "localhost:5000/a/b",
        "a/b@sha256:0123456789012345678901234567890123456789012345678901234567890123",
        "Nginx",
        "nginx:",
        "a b",
    ] {
        out += &format!(
            "{name} -> {:?} in {}\n",
            image::with_tag(name),
            image::repository(name)
        );
    }
    expect![[r#"
        nginx -> Ok("nginx:latest") in docker.io/library/nginx
        nginx:1 -> Ok("nginx:1") in docker.io/library/nginx
        localhost:5000/a/b -> Ok("localhost:5000/a/b:latest") in localhost:5000/a/b
        a/b@sha256:0123456789012345678901234567890123456789012345678901234567890123 -> Ok("a/b@sha256:0123456789012345678901234567890123456789012345678901234567890123") in docker.io/a/b
        Nginx -> Err("couldn't parse image name \"Nginx\": invalid reference format: repository name must be lowercase") in docker.io/library/Nginx
        nginx: -> Err("couldn't parse image name \"nginx:\": invalid reference format") in docker.io/library/nginx
        a b -> Err("couldn't parse image name \"a b\": invalid reference format") in docker.io/library/a b
    "#]].assert_eq(&out);
}

#[test]
fn pull_secrets_match_registries() {
    let json = r#"{"auths": {"https://index.docker.io/v1/": {"username": "hub"}, "*.example.com": {"username": "glob"}, "reg.example.com/team": {"username": "team"}}}"#;
    let secret = k8s_openapi::api::core::v1::Secret {
        type_: Some("kubernetes.io/dockerconfigjson".into()),
        data: Some(
            [(
                ".dockerconfigjson".to_owned(),
                k8s_openapi::ByteString(json.into()),
            )]
            .into(),
        ),
        ..Default::default()
    };
    let secrets = [std::sync::Arc::new(secret)];
    let users = |image: &str| {
        let found = image::credentials(image, &secrets);
        let users: Vec<String> = found.into_iter().map(|a| a.username).collect();
        users.join(",")
    };
    assert_eq!(users("nginx"), "hub");
    assert_eq!(users("reg.example.com/team/app:1"), "team,glob");
    assert_eq!(users("reg.example.com/teams/app:1"), "glob");
    assert_eq!(users("localhost:5000/x"), "");
}

#[test]
fn admission_on_the_node() {
    let node = yaml(
        "{metadata: {name: n1, labels: {disk: ssd}}, spec: {taints: [{key: bad, effect: NoExecute}]}, status: {allocatable: {cpu: '2', memory: 1Gi, pods: '2'}}}",
    );
    let tolerant = "tolerations: [{operator: Exists}]";
    let other = pod(
        "containers: [{name: a, ports: [{containerPort: 1, hostPort: 80}], resources: {requests: {cpu: '1'}}}]",
    );
    let mut out = String::new();
    for spec in [
        format!("containers: [{{name: a}}], {tolerant}"),
        "containers: [{name: a}]".to_owned(),
        "containers: [{name: a, resources: {requests: {cpu: 1500m}}}]".to_owned(),
        "containers: [{name: a, resources: {requests: {memory: 2Gi}}}]".to_owned(),
        format!("containers: [{{name: a}}], nodeSelector: {{disk: hdd}}, {tolerant}"),
        format!(
            "containers: [{{name: a, ports: [{{containerPort: 9, hostPort: 80, hostIP: 1.2.3.4}}]}}], {tolerant}"
        ),
    ] {
        let verdict = admission::admit(&pod(&spec), &node, [&other].into_iter());
        out += &match verdict {
            Ok(()) => "admitted\n".to_owned(),
            Err(r) => format!("{}: {}\n", r.reason, r.message),
        };
    }
    let full = admission::admit(&pod("containers: []"), &node, [&other, &other].into_iter());
    out += &full.unwrap_err().message;
    expect![[r#"
        admitted
        TaintToleration: Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate
        OutOfcpu: Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000
        OutOfmemory: Node didn't have enough resource: memory, requested: 2147483648, used: 0, capacity: 1073741824
        NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector
        NodePorts: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports
        Node didn't have enough resource: pods, requested: 1, used: 2, capacity: 2"#]].assert_eq(&out);
}
