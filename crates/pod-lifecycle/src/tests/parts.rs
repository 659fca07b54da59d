use expect_test::expect;
use k8s_openapi::api::core::v1::{Container, Pod, Service};

use crate::field_path::Facts;
use crate::payload;
use crate::security::{self, ImageUser};
use crate::{admission, dns, env, hosts, image, qos, quantity, resources, service_env};

fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> T {
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
    for (text, milli) in [
        ("1", 1000),
        ("100m", 100),
        ("1.5", 1500),
        ("1Ki", 1_024_000),
        ("2e3", 2_000_000),
        ("1n", 1),
        ("0.5Gi", 536_870_912_000),
        ("-1", -1000),
    ] {
        let quantity = yaml(&format!("\"{text}\""));
        assert_eq!(quantity::milli(&quantity), Some(milli), "{text}");
    }
    assert_eq!(quantity::milli(&yaml("\"x\"")), None);
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
    expect![[""]].assert_eq(&lines(true));
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
    sources.config_maps.insert("settings".into(), Some(std::sync::Arc::new(map)));
    let services = yaml("{REDIS_SERVICE_HOST: 10.96.0.9}");
    let list = env::variables(&pod, &container, &services, &sources, &facts()).unwrap();
    let lines: Vec<String> = list.iter().map(|v| format!("{}={}", v.key, v.value)).collect();
    expect![[""]].assert_eq(&lines.join("\n"));
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
    out += &describe("containers: [{name: a, resources: {requests: {cpu: '1', memory: 64Mi}, limits: {cpu: '1', memory: 64Mi}}}]");
    out += &describe("containers: [{name: a, resources: {limits: {cpu: 5m}}}]");
    expect![[""]].assert_eq(&out);
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
    expect![[""]].assert_eq(&out);
}

#[test]
fn hosts_file() {
    let pod = pod(
        "containers: [], hostname: h, subdomain: sub, hostAliases: [{ip: 1.2.3.4, hostnames: [x, y]}]",
    );
    let text = hosts::content(&pod, &["10.1.0.7".into()], "cluster.local", "");
    expect![[""]].assert_eq(&text);
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
        ("securityContext: {runAsNonRoot: true, runAsUser: 0}", image(Some(7), "")),
        ("securityContext: {runAsNonRoot: true, runAsUser: 9}", image(Some(0), "")),
    ] {
        let pod = pod(&format!("containers: [{{name: a, {spec}}}]"));
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let verdict = security::check_non_root(&pod, container, &user);
        out += &format!("{verdict:?}\n");
    }
    expect![[""]].assert_eq(&out);
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
  - {secret: {name: nope, optional: true}}",
    );
    let mut sources = env::Sources::default();
    let map = yaml("{data: {ca.crt: PEM}}");
    sources.config_maps.insert("ca".into(), Some(std::sync::Arc::new(map)));
    let files = payload::files(&pod, &volume, &sources, &facts(), &["T".into()]).unwrap();
    let mut out = String::new();
    for (path, file) in files {
        let text = String::from_utf8_lossy(&file.data).into_owned();
        out += &format!("{path} {:o} {:?} {text:?}\n", file.mode, file.owner);
    }
    expect![[""]].assert_eq(&out);
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
        sources.config_maps.insert("c".into(), Some(std::sync::Arc::new(map)));
        let files = payload::files(&pod, &volume, &sources, &facts(), &[]);
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
        out += &format!("{name} -> {:?} in {}\n", image::with_tag(name), image::repository(name));
    }
    expect![[""]].assert_eq(&out);
}

#[test]
fn pull_secrets_match_registries() {
    let json = r#"{"auths": {"https://index.docker.io/v1/": {"username": "hub"}, "*.example.com": {"username": "glob"}, "reg.example.com/team": {"username": "team"}}}"#;
    let secret = k8s_openapi::api::core::v1::Secret {
        type_: Some("kubernetes.io/dockerconfigjson".into()),
        data: Some([(".dockerconfigjson".to_owned(), k8s_openapi::ByteString(json.into()))].into()),
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
    let other = pod("containers: [{name: a, ports: [{containerPort: 1, hostPort: 80}], resources: {requests: {cpu: '1'}}}]");
    let mut out = String::new();
    for spec in [
        format!("containers: [{{name: a}}], {tolerant}"),
        "containers: [{name: a}]".to_owned(),
        "containers: [{name: a, resources: {requests: {cpu: 1500m}}}]".to_owned(),
        "containers: [{name: a, resources: {requests: {memory: 2Gi}}}]".to_owned(),
        format!("containers: [{{name: a}}], nodeSelector: {{disk: hdd}}, {tolerant}"),
        format!("containers: [{{name: a, ports: [{{containerPort: 9, hostPort: 80, hostIP: 1.2.3.4}}]}}], {tolerant}"),
    ] {
        let verdict = admission::admit(&pod(&spec), &node, [&other].into_iter());
        out += &match verdict {
            Ok(()) => "admitted\n".to_owned(),
            Err(r) => format!("{}: {}\n", r.reason, r.message),
        };
    }
    let full = admission::admit(&pod("containers: []"), &node, [&other, &other].into_iter());
    out += &full.unwrap_err().message;
    expect![[""]].assert_eq(&out);
}
