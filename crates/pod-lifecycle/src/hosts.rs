//! The `/etc/hosts` of a pod.

use k8s_openapi::api::core::v1::{HostAlias, Pod};

use crate::{dns, pod};

/// The whole file. `node_hosts` is the node's own, which pods on the network of the node get.
pub fn content(pod: &Pod, ips: &[String], cluster_domain: &str, node_hosts: &str) -> String {
    let spec = pod::spec(pod);
    let aliases = aliases(spec.host_aliases.as_deref().unwrap_or_default());
    if pod::is_host_network(pod) {
        return format!("{HOST_HEADER}{node_hosts}{aliases}");
    }
    let (host, domain) = dns::host_and_domain(pod, cluster_domain);
    let mut out = String::from(MANAGED);
    for ip in ips {
        if domain.is_empty() {
            out.push_str(&format!("{ip}\t{host}\n"));
        } else {
            out.push_str(&format!("{ip}\t{host}.{domain}\t{host}\n"));
        }
    }
    out + &aliases
}

const HOST_HEADER: &str = "# Kubernetes-managed hosts file (host network).\n";

const MANAGED: &str = "# Kubernetes-managed hosts file.\n\
    127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    fe00::0\tip6-mcastprefix\n\
    fe00::1\tip6-allnodes\n\
    fe00::2\tip6-allrouters\n";

fn aliases(list: &[HostAlias]) -> String {
    if list.is_empty() {
        return String::new();
    }
    let mut out = String::from("\n# Entries added by HostAliases.\n");
    for alias in list {
        let names = alias.hostnames.as_deref().unwrap_or_default();
        out.push_str(&format!("{}\t{}\n", alias.ip, names.join("\t")));
    }
    out
}
