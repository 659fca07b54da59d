//! Services and pods that the tests of both controllers of end points share.

use serde_json::{Value, json};

/// A service with a numbered and a named port.
pub(crate) const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default, uid: svc-uid, labels: {tier: front}}
spec:
  clusterIP: 10.96.0.7
  ipFamilies: [IPv4]
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080, protocol: TCP}
  - {name: metrics, port: 9090, targetPort: prom, protocol: TCP}
";

/// The same service, perhaps headless, perhaps publishing everything.
pub(crate) fn service_with(headless: bool, all: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "default", "uid": "svc-uid"},
        "spec": {
            "clusterIP": if headless { "None" } else { "10.96.0.7" },
            "publishNotReadyAddresses": all,
            "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": "prom"}],
        },
    })
}

/// A pod that the service selects.
pub(crate) fn pod(name: &str, ip: &str, ready: bool, leaving: bool) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [
            {"name": "c", "image": "i", "ports": [{"name": "prom", "containerPort": 9999}]},
        ]},
        "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" },
                            "lastTransitionTime": "2025-12-31T12:00:00Z"}],
        },
    });
    if leaving {
        pod["metadata"]["deletionTimestamp"] = json!("2025-12-31T23:00:00Z");
        pod["metadata"]["finalizers"] = json!(["test/held"]);
    }
    pod
}
