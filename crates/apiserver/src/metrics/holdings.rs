//! What the caches hold and have heard of, and what services have been given.

use std::fmt::Write as _;

use super::{head, line};
use crate::allocate;
use crate::cache::Heard;
use crate::server::Server;

/// A sample tells how large the objects of a resource are.
const SAMPLE: usize = 32;

/// Adds what the store takes on its disk; a store that does not answer tells nothing.
pub(crate) async fn render_store(server: &Server, out: &mut String) {
    let Ok(bytes) = server.store().size_bytes().await else {
        return;
    };
    let name = "apiserver_storage_size_bytes";
    let help = "Size of the storage database file physically allocated in bytes.";
    head(out, name, "gauge", "STABLE", help);
    line(out, name, "storage_cluster_id=\"etcd-0\"", bytes);
}

/// Adds what the caches hold.
pub(crate) fn render_caches(server: &Server, out: &mut String) {
    let measured: Vec<_> = server
        .resources()
        .storages()
        .map(|s| (s, s.cache.measure(SAMPLE), s.cache.applied()))
        .collect();
    let name = "apiserver_resource_objects";
    let help = "Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.";
    head(out, name, "gauge", "ALPHA", help);
    let labels = |group: &str, resource: &str| format!("group=\"{group}\",resource=\"{resource}\"");
    for (storage, (count, _), _) in &measured {
        line(out, name, &labels(&storage.group, &storage.resource), count);
    }
    let name = "apiserver_resource_size_estimate_bytes";
    let help = "Estimated size of stored objects in database. Estimate is based on sum of last observed sizes of serialized objects. In case of a fetching error, the value will be -1.";
    head(out, name, "gauge", "ALPHA", help);
    for (storage, (count, average), _) in &measured {
        let bytes = count * average;
        line(out, name, &labels(&storage.group, &storage.resource), bytes);
    }
    let name = "apiserver_watch_cache_resource_version";
    let help = "Current resource version of watch cache broken by resource type. This is truncated to the 15 least significant digits.";
    head(out, name, "gauge", "ALPHA", help);
    for (storage, _, applied) in &measured {
        let applied = applied % 1_000_000_000_000_000;
        line(
            out,
            name,
            &labels(&storage.group, &storage.resource),
            applied,
        );
    }
}

/// One figure of what a cache has heard of.
type Figure = fn(&Heard) -> u64;

/// Adds what the caches have heard of.
pub(crate) fn render_feeds(server: &Server, out: &mut String) {
    let known: Vec<_> = server
        .resources()
        .storages()
        .map(|s| (s, s.cache.heard()))
        .collect();
    let figures: [(&str, &str, &str, &str, Figure); 5] = [
        (
            "apiserver_storage_events_received_total",
            "counter",
            "BETA",
            "Number of etcd events received split by kind.",
            |h| h.changes,
        ),
        (
            "apiserver_watch_cache_events_received_total",
            "counter",
            "ALPHA",
            "Counter of events received in watch cache broken by resource type.",
            |h| h.changes,
        ),
        (
            "apiserver_watch_cache_events_dispatched_total",
            "counter",
            "ALPHA",
            "Counter of events dispatched in watch cache broken by resource type.",
            |h| h.changes,
        ),
        (
            "apiserver_watch_cache_initializations_total",
            "counter",
            "ALPHA",
            "Counter of watch cache initializations broken by resource type.",
            |h| h.reads,
        ),
        (
            "watch_cache_capacity",
            "gauge",
            "ALPHA",
            "Total capacity of watch cache broken by resource type.",
            |h| h.capacity,
        ),
    ];
    for (name, kind, level, help, of) in figures {
        head(out, name, kind, level, help);
        for (storage, heard) in &known {
            let labels = format!(
                "group=\"{}\",resource=\"{}\"",
                storage.group, storage.resource
            );
            line(out, name, &labels, of(heard));
        }
    }
}

/// Adds what services have been given.
pub(crate) fn render_given(server: &Server, out: &mut String) {
    let usage = allocate::usage(server);
    let name = "kube_apiserver_clusterip_allocator_allocated_ips";
    let help = "Gauge measuring the number of allocated IPs for Services";
    head(out, name, "gauge", "ALPHA", help);
    for (range, taken) in &usage {
        line(out, name, &format!("cidr=\"{range}\""), taken);
    }
    let name = "kube_apiserver_clusterip_allocator_available_ips";
    let help = "Gauge measuring the number of available IPs for Services";
    head(out, name, "gauge", "ALPHA", help);
    for (range, taken) in &usage {
        let free = range.size().saturating_sub(u128::from(*taken));
        line(out, name, &format!("cidr=\"{range}\""), free);
    }
    let (given, free) = server.books().ports();
    let figures = [
        (
            "kube_apiserver_nodeport_allocator_allocated_ports",
            "Gauge measuring the number of allocated NodePorts for Services",
            given,
        ),
        (
            "kube_apiserver_nodeport_allocator_available_ports",
            "Gauge measuring the number of available NodePorts for Services",
            free,
        ),
    ];
    for (name, help, count) in figures {
        head(out, name, "gauge", "ALPHA", help);
        let _ = writeln!(out, "{name} {count}");
    }
}
