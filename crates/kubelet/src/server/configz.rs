//! What this kubelet is configured with, as a KubeletConfiguration; what it does not know or do is left out.

use serde_json::{Value, json};
use serving::configz;

use crate::config::{Config, ServerConfig};
use crate::images;
use crate::logs::rotate;
use crate::node::LEASE_SECONDS;

/// The page at `/configz`.
pub(super) fn configuration(kubelet: &Config, server: &ServerConfig) -> String {
    let duration = configz::seconds;
    let mut own = json!({
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "enableServer": true,
        "address": server.address.ip().to_string(),
        "port": server.address.port(),
        "readOnlyPort": 0,
        "authentication": {
            "webhook": {"enabled": true, "cacheTTL": duration(serving::TOKEN_HOLDS)},
            "anonymous": {"enabled": false},
        },
        "authorization": {
            "mode": "Webhook",
            "webhook": {
                "cacheAuthorizedTTL": duration(serving::HOLDS.0),
                "cacheUnauthorizedTTL": duration(serving::HOLDS.1),
            },
        },
        "healthzPort": kubelet.healthz.map_or(0, |address| address.port()),
        "registerNode": kubelet.registers,
        "clusterDomain": kubelet.cluster_domain,
        "clusterDNS": kubelet.cluster_dns,
        "nodeStatusReportFrequency": duration(kubelet.status_every),
        "nodeLeaseDurationSeconds": LEASE_SECONDS,
        "maxPods": kubelet.max_pods,
        "podLogsDir": kubelet.log_dir,
        "resolvConf": kubelet.resolv_conf,
        "containerLogMaxSize": format!("{}Mi", rotate::MAX_BYTES >> 20),
        "containerLogMaxFiles": rotate::MAX_FILES,
        "serializeImagePulls": false,
        "maxParallelImagePulls": images::PARALLEL,
    });
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            own[name] = value;
        }
    };
    let healthz = kubelet.healthz.map(|address| address.ip().to_string());
    put("healthzBindAddress", healthz.map(Value::from));
    put(
        "staticPodPath",
        kubelet.static_pods.as_ref().map(|path| json!(path)),
    );
    put(
        "cgroupRoot",
        kubelet
            .cgroup_root
            .as_ref()
            .map(|root| json!(format!("/{root}"))),
    );
    put(
        "registerWithTaints",
        (!kubelet.taints.is_empty()).then(|| json!(kubelet.taints)),
    );
    for (name, value) in &server.configuration {
        match (&mut own[name], value) {
            (Value::Object(known), Value::Object(more)) => known.extend(more.clone()),
            (slot, value) => *slot = value.clone(),
        }
    }
    configz::text("kubeletconfig", &own)
}
