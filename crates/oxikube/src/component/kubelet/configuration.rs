//! The file with a KubeletConfiguration.
//!
//! Fields that mean something here are used; upstream's other fields are told and change nothing; what upstream does not
//! know either is an error.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Taint;
use serde_json::{Map, Value, json};

use crate::component::flags;

/// What a kubelet is told, with upstream's defaults.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) container_runtime_endpoint: String,
    pub(super) image_service_endpoint: String,
    pub(super) register_node: bool,
    pub(super) register_with_taints: Vec<Taint>,
    pub(super) static_pod_path: Option<PathBuf>,
    pub(super) max_pods: u32,
    pub(super) node_status_update_frequency: Duration,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) healthz_port: u16,
    pub(super) healthz_bind_address: IpAddr,
    pub(super) client_ca_file: Option<PathBuf>,
    pub(super) tls_cert_file: Option<PathBuf>,
    pub(super) tls_private_key_file: Option<PathBuf>,
    pub(super) rotate_certificates: bool,
    pub(super) server_tls_bootstrap: bool,
    pub(super) cluster_dns: Vec<String>,
    pub(super) cluster_domain: String,
    pub(super) resolv_conf: PathBuf,
    pub(super) cgroup_root: String,
    pub(super) pod_logs_dir: PathBuf,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            container_runtime_endpoint: String::new(),
            image_service_endpoint: String::new(),
            register_node: true,
            register_with_taints: Vec::new(),
            static_pod_path: None,
            max_pods: 110,
            node_status_update_frequency: Duration::from_secs(300),
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: 10250,
            healthz_port: 10248,
            healthz_bind_address: Ipv4Addr::LOCALHOST.into(),
            client_ca_file: None,
            tls_cert_file: None,
            tls_private_key_file: None,
            rotate_certificates: false,
            server_tls_bootstrap: false,
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: "/etc/resolv.conf".into(),
            cgroup_root: String::new(),
            pod_logs_dir: "/var/log/pods".into(),
        }
    }
}

/// Fields of upstream's that change nothing here.
const UNUSED: &[&str] = &[
    "allowedUnsafeSysctls",
    "authorization",
    "cgroupDriver",
    "cgroupsPerQOS",
    "configMapAndSecretChangeDetectionStrategy",
    "containerLogMaxFiles",
    "containerLogMaxSize",
    "containerLogMaxWorkers",
    "containerLogMonitorInterval",
    "contentType",
    "cpuCFSQuota",
    "cpuCFSQuotaPeriod",
    "cpuManagerPolicy",
    "cpuManagerPolicyOptions",
    "cpuManagerReconcilePeriod",
    "crashLoopBackOff",
    "enableControllerAttachDetach",
    "enableDebugFlagsHandler",
    "enableDebuggingHandlers",
    "enableProfilingHandler",
    "enableServer",
    "enableSystemLogHandler",
    "enableSystemLogQuery",
    "enforceNodeAllocatable",
    "eventBurst",
    "eventRecordQPS",
    "evictionHard",
    "evictionMaxPodGracePeriod",
    "evictionMinimumReclaim",
    "evictionPressureTransitionPeriod",
    "evictionSoft",
    "evictionSoftGracePeriod",
    "failCgroupV1",
    "failSwapOn",
    "featureGates",
    "fileCheckFrequency",
    "hairpinMode",
    "httpCheckFrequency",
    "imageGCHighThresholdPercent",
    "imageGCLowThresholdPercent",
    "imageMaximumGCAge",
    "imageMinimumGCAge",
    "imagePullCredentialsVerificationPolicy",
    "iptablesDropBit",
    "iptablesMasqueradeBit",
    "kernelMemcgNotification",
    "kubeAPIBurst",
    "kubeAPIQPS",
    "kubeReserved",
    "kubeReservedCgroup",
    "kubeletCgroups",
    "localStorageCapacityIsolation",
    "logging",
    "makeIPTablesUtilChains",
    "maxOpenFiles",
    "maxParallelImagePulls",
    "memoryManagerPolicy",
    "memorySwap",
    "memoryThrottlingFactor",
    "mergeDefaultEvictionSettings",
    "nodeLeaseDurationSeconds",
    "nodeStatusMaxImages",
    "nodeStatusReportFrequency",
    "oomScoreAdj",
    "podCIDR",
    "podPidsLimit",
    "podsPerCore",
    "preloadedImagesVerificationAllowlist",
    "protectKernelDefaults",
    "providerID",
    "qosReserved",
    "registryBurst",
    "registryPullQPS",
    "reservedMemory",
    "reservedSystemCPUs",
    "runOnce",
    "runtimeRequestTimeout",
    "seccompDefault",
    "serializeImagePulls",
    "showHiddenMetricsForVersion",
    "shutdownGracePeriod",
    "shutdownGracePeriodByPodPriority",
    "shutdownGracePeriodCriticalPods",
    "staticPodURL",
    "staticPodURLHeader",
    "streamingConnectionIdleTimeout",
    "syncFrequency",
    "systemCgroups",
    "systemReserved",
    "systemReservedCgroup",
    "tlsCipherSuites",
    "tlsCurvePreferences",
    "tlsMinVersion",
    "topologyManagerPolicy",
    "topologyManagerPolicyOptions",
    "topologyManagerScope",
    "tracing",
    "userNamespaces",
    "volumePluginDir",
    "volumeStatsAggPeriod",
];

impl Configuration {
    /// Reads the text of a file.
    pub(super) fn read(text: &str) -> anyhow::Result<Self> {
        let file: Map<String, Value> = serde_saphyr::from_str(text)?;
        let (kind, version) = (file.get("kind"), file.get("apiVersion"));
        if kind != Some(&"KubeletConfiguration".into())
            || version != Some(&"kubelet.config.k8s.io/v1beta1".into())
        {
            bail!("it is no KubeletConfiguration of kubelet.config.k8s.io/v1beta1");
        }
        let mut out = Self::default();
        for (field, value) in file.iter().filter(|(_, value)| !value.is_null()) {
            out.take(field, value)
                .with_context(|| format!("field {field}"))?;
        }
        Ok(out)
    }

    /// What the kubelet itself is not told, in the words of the file; `runtime` is the directory of the runtime in this binary.
    pub(super) fn told(&self, runtime: &Path) -> Map<String, Value> {
        let own = format!("unix://{}", runtime.join("run/cri.sock").display());
        let runtime = match self.container_runtime_endpoint.as_str() {
            "" | super::EMBEDDED => own.as_str(),
            endpoint => endpoint,
        };
        let mut told = Map::new();
        let mut put = |name: &str, value: Value| drop(told.insert(name.to_owned(), value));
        put("containerRuntimeEndpoint", runtime.into());
        put("rotateCertificates", self.rotate_certificates.into());
        put("serverTLSBootstrap", self.server_tls_bootstrap.into());
        if !self.image_service_endpoint.is_empty() {
            let endpoint = self.image_service_endpoint.as_str();
            put("imageServiceEndpoint", endpoint.into());
        }
        for (name, path) in [
            ("tlsCertFile", &self.tls_cert_file),
            ("tlsPrivateKeyFile", &self.tls_private_key_file),
        ] {
            if let Some(path) = path {
                put(name, json!(path));
            }
        }
        if let Some(path) = &self.client_ca_file {
            put("authentication", json!({"x509": {"clientCAFile": path}}));
        }
        told
    }

    fn take(&mut self, field: &str, value: &Value) -> anyhow::Result<()> {
        match field {
            "apiVersion" | "kind" => {}
            "containerRuntimeEndpoint" => self.container_runtime_endpoint = text(value)?,
            "imageServiceEndpoint" => self.image_service_endpoint = text(value)?,
            "registerNode" => self.register_node = serde_json::from_value(value.clone())?,
            "registerWithTaints" => {
                self.register_with_taints = serde_json::from_value(value.clone())?;
            }
            "staticPodPath" => self.static_pod_path = path(value)?,
            "maxPods" => self.max_pods = serde_json::from_value(value.clone())?,
            "nodeStatusUpdateFrequency" => {
                let read = flags::duration(&text(value)?).map_err(anyhow::Error::msg)?;
                if !read.is_zero() {
                    self.node_status_update_frequency = read;
                }
            }
            "address" => self.address = text(value)?.parse()?,
            "port" => self.port = serde_json::from_value(value.clone())?,
            "readOnlyPort" if value == 0 => {}
            "readOnlyPort" => bail!("a port that asks nobody who he is is not served"),
            "healthzPort" => self.healthz_port = serde_json::from_value(value.clone())?,
            "healthzBindAddress" => self.healthz_bind_address = text(value)?.parse()?,
            "authentication" => self.authentication(value)?,
            "tlsCertFile" => self.tls_cert_file = path(value)?,
            "tlsPrivateKeyFile" => self.tls_private_key_file = path(value)?,
            "rotateCertificates" => {
                self.rotate_certificates = serde_json::from_value(value.clone())?
            }
            "serverTLSBootstrap" => {
                self.server_tls_bootstrap = serde_json::from_value(value.clone())?
            }
            "clusterDNS" => self.cluster_dns = serde_json::from_value(value.clone())?,
            "clusterDomain" => self.cluster_domain = text(value)?,
            "resolvConf" => self.resolv_conf = text(value)?.into(),
            "cgroupRoot" => self.cgroup_root = text(value)?,
            "podLogsDir" => self.pod_logs_dir = text(value)?.into(),
            other if UNUSED.contains(&other) => {
                tracing::warn!(field, "a field of the configuration changes nothing here");
            }
            _ => bail!("strict decoding error: unknown field"),
        }
        Ok(())
    }

    /// Callers are known by certificate or token, and never nobody.
    fn authentication(&mut self, value: &Value) -> anyhow::Result<()> {
        self.client_ca_file = path(&value["x509"]["clientCAFile"])?;
        if value["anonymous"]["enabled"] == true {
            bail!("anonymous requests are not served");
        }
        Ok(())
    }
}

fn text(value: &Value) -> anyhow::Result<String> {
    value.as_str().map(str::to_owned).context("must be text")
}

fn path(value: &Value) -> anyhow::Result<Option<PathBuf>> {
    match value {
        Value::Null => Ok(None),
        value => Ok(Some(text(value)?)
            .filter(|t| !t.is_empty())
            .map(PathBuf::from)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

    #[test]
    fn a_usual_file_is_understood() {
        let text = "authentication: {anonymous: {enabled: false}, x509: {clientCAFile: /pki/ca.crt}}\n\
            authorization: {mode: Webhook}\ncgroupDriver: systemd\nclusterDNS: [10.96.0.10]\n\
            rotateCertificates: true\nstaticPodPath: /etc/kubernetes/manifests\nsyncFrequency: 0s\n\
            nodeStatusUpdateFrequency: 10s\nmaxPods: 50\n";
        let read = Configuration::read(&format!("{HEAD}{text}")).expect("understood");
        assert_eq!(read.client_ca_file, Some("/pki/ca.crt".into()));
        assert_eq!(
            read.static_pod_path,
            Some("/etc/kubernetes/manifests".into())
        );
        assert!(read.rotate_certificates && read.max_pods == 50);
        assert_eq!(read.node_status_update_frequency, Duration::from_secs(10));
    }

    #[test]
    fn what_nobody_knows_and_what_is_open_is_refused() {
        for wrong in [
            "flying: true",
            "readOnlyPort: 10255",
            "authentication: {anonymous: {enabled: true}}",
        ] {
            assert!(
                Configuration::read(&format!("{HEAD}{wrong}\n")).is_err(),
                "{wrong}"
            );
        }
        assert!(Configuration::read("kind: Pod").is_err());
    }
}
