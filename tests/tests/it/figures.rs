//! What somebody who watches a node reads at its kubelet, through the API server.

use cluster_tests::Cluster;

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www"]
    readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}
"#;

#[test]
fn a_node_tells_what_it_uses_what_it_did_and_how_it_is_configured() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("figures", 36);
    space.input(&["apply", "-f", "-"], POD).ok();
    space.wait(&["pod/web"], "condition=Ready");
    let path = "jsonpath={.spec.nodeName}";
    let node = space.kubectl(&["get", "pod", "web", "-o", path]).ok();
    let ask = |page: &str| {
        let path = format!("/api/v1/nodes/{node}/proxy/{page}");
        space.kubectl(&["get", "--raw", &path]).ok()
    };
    let own = format!("namespace=\"{}\",pod=\"web\"", space.name());
    // A line of this name and these words, without its value.
    let told = |page: &str, name: &str, words: &[&str]| {
        let text = ask(page);
        let found = text.lines().any(|line| {
            line.starts_with(&format!("{name}{{")) && words.iter().all(|word| line.contains(word))
        });
        assert!(found, "{name} {words:?} in {text}");
    };
    let container = ["container=\"main\"", "image=\"busybox\"", own.as_str()];
    for name in [
        "container_cpu_usage_seconds_total",
        "container_memory_working_set_bytes",
        "container_start_time_seconds",
    ] {
        told("metrics/cadvisor", name, &container);
    }
    let pod = ["container=\"\"", "interface=\"eth0\"", own.as_str()];
    told(
        "metrics/cadvisor",
        "container_network_receive_bytes_total",
        &pod,
    );
    let probe = [
        "probe_type=\"Readiness\"",
        "result=\"successful\"",
        "pod=\"web\"",
    ];
    told("metrics/probes", "prober_probe_total", &probe);
    told(
        "metrics",
        "kubelet_runtime_operations_total",
        &["operation_type=\"start_container\""],
    );
    ask("healthz");
    told("metrics/slis", "kubernetes_healthcheck", &["name=\"ping\""]);
    let configuration = ask("configz");
    assert!(
        configuration.starts_with("{\"kubeletconfig\":{")
            && configuration.contains("\"kind\":\"KubeletConfiguration\""),
        "{configuration}"
    );
}
