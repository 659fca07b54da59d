//! How a pod resolves names, and its own name.

use cri::v1::DnsConfig;
use k8s_openapi::api::core::v1::Pod;

use crate::pod;

/// Nameservers the C library reads.
const MAX_SERVERS: usize = 3;
/// Search domains allowed.
const MAX_SEARCHES: usize = 32;
/// Letters allowed in all search domains together.
const MAX_SEARCH_LETTERS: usize = 2048;

/// The resolver configuration of a pod by its `dnsPolicy`. `host` is the node's own.
pub fn resolver(pod: &Pod, cluster_dns: &[String], domain: &str, host: &DnsConfig) -> DnsConfig {
    let spec = pod::spec(pod);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !pod::is_host_network(pod),
        _ => false,
    };
    let mut dns = if policy == "None" {
        DnsConfig::default()
    } else if cluster && !cluster_dns.is_empty() {
        DnsConfig {
            servers: cluster_dns.to_vec(),
            searches: cluster_searches(pod::namespace(pod), domain, &host.searches),
            options: vec!["ndots:5".to_owned()],
        }
    } else {
        host.clone()
    };
    if let Some(own) = &spec.dns_config {
        dns.servers
            .extend(own.nameservers.iter().flatten().cloned());
        dns.searches.extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            dns.options.retain(|o| o.split(':').next() != Some(name));
            dns.options.push(match option.value.as_deref() {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name.to_owned(),
            });
        }
    }
    within_limits(dns)
}

fn cluster_searches(namespace: &str, domain: &str, host: &[String]) -> Vec<String> {
    if domain.is_empty() {
        return host.to_vec();
    }
    let mut list = vec![
        format!("{namespace}.svc.{domain}"),
        format!("svc.{domain}"),
        domain.to_owned(),
    ];
    list.extend(host.iter().cloned());
    list
}

fn within_limits(mut dns: DnsConfig) -> DnsConfig {
    unique(&mut dns.servers);
    unique(&mut dns.searches);
    dns.servers.truncate(MAX_SERVERS);
    dns.searches.truncate(MAX_SEARCHES);
    while dns.searches.join(" ").len() > MAX_SEARCH_LETTERS {
        dns.searches.pop();
    }
    dns
}

fn unique(list: &mut Vec<String>) {
    let mut seen = Vec::with_capacity(list.len());
    list.retain(|item| {
        let new = !seen.contains(item);
        if new {
            seen.push(item.clone());
        }
        new
    });
}

/// Reads a `resolv.conf`.
pub fn parse(text: &str) -> DnsConfig {
    let mut dns = DnsConfig::default();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        let mut words = line.split_whitespace();
        let keyword = words.next().unwrap_or_default();
        let rest = words.map(str::to_owned);
        match keyword {
            "nameserver" => dns.servers.extend(rest.take(1)),
            "search" | "domain" => dns.searches = rest.filter(|d| d != ".").collect(),
            "options" => dns.options = rest.collect(),
            _ => {}
        }
    }
    dns
}

/// Writes a `resolv.conf`.
pub fn render(dns: &DnsConfig) -> String {
    let mut out = String::new();
    if !dns.searches.is_empty() {
        out.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        out.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        out.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    out
}

/// Host name and, with a subdomain, the domain of a pod.
pub fn host_and_domain(pod: &Pod, cluster_domain: &str) -> (String, String) {
    /// Longer host names the kernel does not take.
    const MAX_HOST_NAME: usize = 63;
    let spec = pod::spec(pod);
    let shorten = |name: &str| {
        let cut: String = name.chars().take(MAX_HOST_NAME).collect();
        cut.trim_end_matches(['-', '.']).to_owned()
    };
    if let Some(name) = spec.hostname_override.as_deref() {
        return (shorten(name), String::new());
    }
    let own = spec.hostname.as_deref().filter(|h| !h.is_empty());
    let host = shorten(own.unwrap_or_else(|| pod::name(pod)));
    let domain = match spec.subdomain.as_deref() {
        None | Some("") => String::new(),
        Some(sub) => format!("{sub}.{}.svc.{cluster_domain}", pod::namespace(pod)),
    };
    (host, domain)
}
