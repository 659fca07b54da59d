//! Admission webhooks with the real kubectl: a server in a pod is asked about writes, reached by its service or by its
//! address, and what it says is what users read.

use cluster_tests::{Cluster, Namespace};

/// A server whose paths say what it answers, and its service.
const SERVER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: hooks, labels: {app: hooks}}
spec:
  containers:
  - name: hooks
    image: docker.io/oxikube/operator-demo:v1
    imagePullPolicy: IfNotPresent
    args: [hooks, "--hosts=hooks.$(NAMESPACE).svc,$(ADDRESS)"]
    env:
    - {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: ADDRESS, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    readinessProbe: {httpGet: {path: /ready, port: 8443, scheme: HTTPS}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: hooks}
spec: {selector: {app: hooks}, ports: [{port: 443, targetPort: 8443}]}
"#;

/// A namespace with such a server, which the webhooks of the test stay in.
struct Hooks {
    space: Namespace,
    bundle: String,
    /// Configurations to be taken away: they belong to the whole cluster.
    made: Vec<(&'static str, String)>,
}

impl Hooks {
    fn start(name: &str, minor: u32) -> Self {
        let space = Cluster::shared().namespace(name, minor);
        space.input(&["apply", "-f", "-"], SERVER).ok();
        space.wait(&["pod/hooks"], "condition=Ready");
        let log = space.kubectl(&["logs", "hooks"]).ok();
        let (_, rest) = log.split_once("\"caBundle\":\"").expect("a bundle");
        let bundle = rest.split('"').next().unwrap_or("").to_owned();
        let made = Vec::new();
        Self {
            space,
            bundle,
            made,
        }
    }

    /// Configures webhooks: each a path and more fields. They are asked about the config maps of this namespace.
    fn configure(&mut self, kind: &'static str, name: &str, hooks: &[(&str, &str)]) {
        let space = self.space.name();
        let name = format!("{space}-{name}");
        let mut manifest = format!(
            "apiVersion: admissionregistration.k8s.io/v1\nkind: {kind}WebhookConfiguration\nmetadata: {{name: {name}}}\nwebhooks:\n"
        );
        for (number, (path, more)) in hooks.iter().enumerate() {
            let bundle = &self.bundle;
            let mut fields = String::new();
            for (field, usual) in [
                ("clientConfig", format!("{{service: {{namespace: {space}, name: hooks, path: {path}}}, caBundle: {bundle}}}")),
                ("rules", "[{apiGroups: [''], apiVersions: [v1], operations: ['*'], resources: [configmaps]}]".to_owned()),
            ] {
                if !more.contains(field) {
                    fields += &format!("  {field}: {usual}\n");
                }
            }
            let more: String = more.lines().map(|line| format!("  {line}\n")).collect();
            manifest += &format!(
                "- name: h{number}.{name}.example.com\n{fields}  sideEffects: None\n  admissionReviewVersions: [v1]\n  \
                   namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {space}}}}}\n{more}"
            );
        }
        self.space.input(&["apply", "-f", "-"], &manifest).ok();
        let plural = match kind {
            "Mutating" => "mutatingwebhookconfigurations",
            _ => "validatingwebhookconfigurations",
        };
        self.made.push((plural, name));
    }

    /// Takes all configurations away.
    fn clear(&mut self) {
        for (plural, name) in self.made.drain(..) {
            self.space.kubectl(&["delete", plural, &name]).ok();
        }
    }

    fn create(&self, name: &str) -> cluster_tests::Output {
        self.space.kubectl(&["create", "configmap", name])
    }

    /// The reviews that the server was asked at a path.
    fn asked(&self, path: &str) -> Vec<serde_json::Value> {
        let log = self.space.kubectl(&["logs", "hooks"]).ok();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let reviews = lines.filter(|line: &serde_json::Value| line["path"] == path);
        reviews.map(|mut line| line["request"].take()).collect()
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        for (plural, name) in &self.made {
            self.space.kubectl(&["delete", plural, name]);
        }
    }
}

#[test]
fn webhooks_change_and_refuse_what_kubectl_writes() {
    for minor in cluster_tests::KUBECTLS {
        let mut hooks = Hooks::start("webhooks", minor);
        hooks.configure("Mutating", "b", &[("/append/b", "")]);
        hooks.configure(
            "Mutating",
            "a",
            &[("/append/a", "reinvocationPolicy: IfNeeded")],
        );
        hooks.create("ordered").ok();
        let trail = [
            "get",
            "configmap",
            "ordered",
            "-o",
            "jsonpath={.data.trail}",
        ];
        // The first is asked again because the second changed what it had seen.
        assert_eq!(hooks.space.kubectl(&trail).ok(), "aba");
        hooks.clear();
        hooks.configure("Validating", "deny", &[("/deny/403/forbidden", "")]);
        let name = format!("h0.{}-deny.example.com", hooks.space.name());
        assert_eq!(
            hooks.create("refused").failed(),
            format!(
                "error: failed to create configmap: admission webhook {name:?} denied the request: it is not to be\n"
            )
        );
        let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: refused}\n";
        assert_eq!(
            hooks.space.input(&["apply", "-f", "-"], manifest).failed(),
            format!(
                "Error from server (Forbidden): error when creating \"STDIN\": admission webhook {name:?} denied the request: it is not to be\n"
            )
        );
        let deleted = hooks.space.kubectl(&["delete", "configmap", "ordered"]);
        assert_eq!(
            deleted.failed(),
            format!(
                "Error from server (Forbidden): admission webhook {name:?} denied the request: it is not to be\n"
            )
        );
        hooks.clear();
        hooks.configure("Validating", "warn", &[("/warn", "")]);
        let warned = hooks.create("warned");
        assert_eq!(warned.stderr, "Warning: mind the gap\n");
        warned.ok();
        let dry = ["create", "configmap", "dry", "--dry-run=server"];
        hooks.space.kubectl(&dry).ok();
        let asked = hooks.asked("/warn");
        assert_eq!(asked.last().map(|a| &a["dryRun"]), Some(&true.into()));
    }
}

#[test]
fn webhooks_that_do_not_answer_stop_a_write_or_do_not() {
    let mut hooks = Hooks::start("silent-webhooks", 36);
    let space = hooks.space.name().to_owned();
    hooks.configure("Validating", "never", &[("/never", "timeoutSeconds: 1")]);
    assert_eq!(
        hooks.create("late").failed(),
        format!(
            "error: failed to create configmap: Internal error occurred: failed calling webhook \"h0.{space}-never.example.com\": failed to call webhook: Post \"https://hooks.{space}.svc:443/never?timeout=1s\": context deadline exceeded\n"
        )
    );
    hooks.clear();
    hooks.configure("Validating", "broken", &[("/broken", "")]);
    assert_eq!(
        hooks.create("broken").failed(),
        format!(
            "error: failed to create configmap: Internal error occurred: failed calling webhook \"h0.{space}-broken.example.com\": failed to call webhook: an error on the server (\"out of order\") has prevented the request from succeeding\n"
        )
    );
    hooks.clear();
    let gone = "clientConfig: {service: {namespace: default, name: gone}}";
    let ignored = "failurePolicy: Ignore";
    hooks.configure(
        "Validating",
        "ignored",
        &[
            ("/broken", ignored),
            ("/other", ignored),
            ("/", &format!("{ignored}\n{gone}")),
        ],
    );
    hooks.create("all-the-same").ok();
    hooks.clear();
    hooks.configure("Validating", "gone", &[("/", gone)]);
    assert_eq!(
        hooks.create("gone").failed(),
        format!(
            "error: failed to create configmap: Internal error occurred: failed calling webhook \"h0.{space}-gone.example.com\": failed to call webhook: Post \"https://gone.default.svc:443/?timeout=10s\": service \"gone\" not found\n"
        )
    );
}

#[test]
fn webhooks_hear_of_what_they_want_to() {
    let mut hooks = Hooks::start("choosy-webhooks", 36);
    let address = ["get", "pod", "hooks", "-o", "jsonpath={.status.podIP}"];
    let address = hooks.space.kubectl(&address).ok();
    let bundle = hooks.bundle.clone();
    hooks.configure(
        "Validating",
        "chosen",
        &[
            ("/deny/403/forbidden", "objectSelector: {matchLabels: {deny: 'yes'}}"),
            (
                "/deny/409/conflict",
                "matchConditions: [{name: named, expression: \"request.name == 'conflict'\"}]",
            ),
            // By its address instead of its service.
            (
                "",
                &format!(
                    "clientConfig: {{url: 'https://{address}:8443/allow', caBundle: {bundle}}}"
                ),
            ),
            // Nobody is asked about those who are asked.
            (
                "/deny/403/forbidden",
                "rules: [{apiGroups: [admissionregistration.k8s.io], apiVersions: ['*'], operations: ['*'], resources: ['*']}]",
            ),
            // The same objects under another version.
            (
                "/allow/equivalent",
                "rules: [{apiGroups: [autoscaling], apiVersions: [v2], operations: [CREATE], resources: [horizontalpodautoscalers]}]",
            ),
        ],
    );
    hooks.create("a").ok();
    let labelled = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, labels: {deny: 'yes'}}\n";
    let refused = hooks.space.input(&["create", "-f", "-"], labelled).failed();
    assert!(refused.contains("(Forbidden)"), "{refused}");
    let refused = hooks.create("conflict").failed();
    assert!(refused.contains("it is not to be"), "{refused}");
    let scaler = "apiVersion: autoscaling/v1\nkind: HorizontalPodAutoscaler\nmetadata: {name: a}\nspec: {maxReplicas: 3, targetCPUUtilizationPercentage: 50, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: a}}\n";
    hooks.space.input(&["create", "-f", "-"], scaler).ok();
    let asked = hooks.asked("/allow/equivalent").remove(0);
    assert_eq!(asked["resource"]["version"], "v2");
    assert_eq!(asked["requestResource"]["version"], "v1");
    assert_eq!(asked["object"]["apiVersion"], "autoscaling/v2");
    assert_eq!(asked["object"]["spec"]["metrics"][0]["type"], "Resource");
    // All that a write concerns are asked at once, also about what another one refuses.
    assert_eq!(hooks.asked("/allow").len(), 3);
}

#[test]
fn connections_and_custom_objects_may_be_refused() {
    let mut hooks = Hooks::start("connected-webhooks", 36);
    let group = format!("{}.example.com", hooks.space.name());
    let definition = format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: things.{group}}}\nspec: {{group: {group}, scope: Namespaced, names: {{plural: things, singular: thing, kind: Thing}}, versions: [{{name: v1, served: true, storage: true, schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}}}]}}\n"
    );
    hooks.space.input(&["apply", "-f", "-"], &definition).ok();
    let kind = format!("crd/things.{group}");
    hooks.space.wait_established(&kind);
    let things = format!(
        "rules: [{{apiGroups: [{group}], apiVersions: [v1], operations: [CREATE], resources: [things]}}]"
    );
    let connections = "rules: [{apiGroups: [''], apiVersions: [v1], operations: [CONNECT], resources: [pods/attach, pods/exec]}]";
    hooks.configure("Mutating", "things", &[("/append/x", &things)]);
    hooks.configure(
        "Validating",
        "exec",
        &[("/deny/403/forbidden", connections)],
    );
    let thing = format!("apiVersion: {group}/v1\nkind: Thing\nmetadata: {{name: a}}\n");
    hooks.space.input(&["create", "-f", "-"], &thing).ok();
    let trail = [
        "get",
        &format!("things.{group}"),
        "a",
        "-o",
        "jsonpath={.data.trail}",
    ];
    assert_eq!(hooks.space.kubectl(&trail).ok(), "x");
    for command in [
        &["exec", "hooks", "--", "/operator-demo"][..],
        &["attach", "hooks"],
    ] {
        let refused = hooks.space.kubectl(command).failed();
        let name = format!("h0.{}-exec.example.com", hooks.space.name());
        assert!(
            refused.contains(&format!(
                "admission webhook {name:?} denied the request: it is not to be"
            )),
            "{refused}"
        );
    }
    let asked = hooks.asked("/deny/403/forbidden").remove(0);
    assert_eq!(asked["kind"]["kind"], "PodExecOptions");
    assert_eq!(
        asked["object"]["command"],
        serde_json::json!(["/operator-demo"])
    );
    hooks.space.kubectl(&["delete", &kind]).ok();
}
