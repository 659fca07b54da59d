//! NetworkPolicy: which traffic pods of a selection take part in.
//!
//! Upstream: `pkg/registry/networking/networkpolicy`, `ValidateNetworkPolicy*` in `pkg/apis/networking/validation`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy as Typed, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use machinery::labels::Selector;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names};

use crate::check::{self, ErrorListExt};
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope};
use crate::view::{Items, fill_with};
use crate::warn;

/// The kind `NetworkPolicy`.
pub struct NetworkPolicy;

impl Kind for NetworkPolicy {
    type Object = Typed;
    const NAMES: Names = Names::new(
        "networking.k8s.io",
        "v1",
        "NetworkPolicy",
        "networkpolicies",
        "networkpolicy",
    )
    .short(&["netpol"]);
    const SCOPE: Scope = Scope::Namespaced;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "Pod-Selector",
            "podSelector selects the pods to which this NetworkPolicy object applies. The array of \
             rules is applied to any pods selected by this field. An empty selector matches all \
             pods in the policy's namespace. Multiple network policies can select the same set of \
             pods. In this case, the ingress rules for each are combined additively. This field is \
             optional. If it is not specified, it defaults to an empty selector.",
        ),
        columns::AGE,
    ];
    const HAS_GENERATION: bool = true;

    fn default(object: &mut Typed) {
        let spec = object.spec.get_or_insert_default();
        let ingress = spec.ingress.iter_mut().flatten().map(|r| &mut r.ports);
        let egress = spec.egress.iter_mut().flatten().map(|r| &mut r.ports);
        for port in ingress.chain(egress).flat_map(|p| p.iter_mut().flatten()) {
            fill_with(&mut port.protocol, "TCP".to_owned());
        }
        if spec.policy_types.items().is_empty() {
            let mut types = vec!["Ingress".to_owned()];
            if !spec.egress.items().is_empty() {
                types.push("Egress".to_owned());
            }
            spec.policy_types = Some(types);
        }
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        spec(&mut errors, &new.spec.clone().unwrap_or_default(), None);
        errors
    }

    fn warnings(new: &Typed) -> Vec<String> {
        let spec = new.spec.clone().unwrap_or_default();
        let from = spec.ingress.items().iter().map(|rule| rule.from.items());
        let to = spec.egress.items().iter().map(|rule| rule.to.items());
        let from = from.enumerate().map(|rule| (("ingress", "from"), rule));
        let to = to.enumerate().map(|rule| (("egress", "to"), rule));
        let mut warnings = Vec::new();
        for ((direction, side), (i, peers)) in from.chain(to) {
            for (j, peer) in peers.iter().enumerate() {
                let Some(block) = &peer.ip_block else {
                    continue;
                };
                let rule = Path::new("spec").child(direction).index(i);
                let path = rule.child(side).index(j).child("ipBlock");
                warn::cidr(&mut warnings, &path.child("cidr"), &block.cidr);
                for (k, except) in block.except.items().iter().enumerate() {
                    warn::cidr(&mut warnings, &path.child("except").index(k), except);
                }
            }
        }
        warnings
    }

    fn validate_update(_context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        let own = new.spec.clone().unwrap_or_default();
        spec(&mut errors, &own, old.spec.as_ref());
        errors
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let selector = object.spec.as_ref().and_then(|s| s.pod_selector.clone());
        let selector = match Selector::from_label_selector(&selector.unwrap_or_default()) {
            Ok(compiled) if compiled.is_everything() => "<none>".to_owned(),
            Ok(compiled) => compiled.to_string(),
            Err(_) => "<error>".to_owned(),
        };
        Row::from(vec![
            tree.name().into(),
            selector.into(),
            kind::age(tree, now).into(),
        ])
    }
}

/// All CIDRs of a policy: what is there may stay, however it is spelled.
fn ranges(spec: &NetworkPolicySpec) -> BTreeSet<&str> {
    let ingress = spec.ingress.items().iter().flat_map(|r| r.from.items());
    let egress = spec.egress.items().iter().flat_map(|r| r.to.items());
    let blocks = ingress
        .chain(egress)
        .filter_map(|peer| peer.ip_block.as_ref());
    let texts = blocks.flat_map(|b| std::iter::once(&b.cidr).chain(b.except.items()));
    texts.map(String::as_str).collect()
}

fn spec(errors: &mut ErrorList, spec: &NetworkPolicySpec, old: Option<&NetworkPolicySpec>) {
    let path = Path::new("spec");
    let known = old.map(ranges).unwrap_or_default();
    let selector = spec.pod_selector.as_ref();
    check::label_selector(errors, &path.child("podSelector"), selector);
    for (i, rule) in spec.ingress.items().iter().enumerate() {
        let at = path.child("ingress").index(i);
        ports(errors, &at, rule.ports.items());
        peers(errors, &at.child("from"), rule.from.items(), &known);
    }
    for (i, rule) in spec.egress.items().iter().enumerate() {
        let at = path.child("egress").index(i);
        ports(errors, &at, rule.ports.items());
        peers(errors, &at.child("to"), rule.to.items(), &known);
    }
    let types = spec.policy_types.items();
    let at = path.child("policyTypes");
    if types.len() > 2 {
        errors.invalid(
            &at,
            types.to_vec(),
            "may not specify more than two policyTypes",
        );
        return;
    }
    for (i, given) in types.iter().enumerate() {
        errors.one_of(&at.index(i), given, &["Ingress", "Egress"]);
    }
}

fn ports(errors: &mut ErrorList, path: &Path, ports: &[NetworkPolicyPort]) {
    for (i, given) in ports.iter().enumerate() {
        port(errors, &path.child("ports").index(i), given);
    }
}

fn port(errors: &mut ErrorList, path: &Path, given: &NetworkPolicyPort) {
    if let Some(protocol) = &given.protocol {
        errors.one_of(&path.child("protocol"), protocol, &["TCP", "UDP", "SCTP"]);
    }
    let (at, end_at) = (path.child("port"), path.child("endPort"));
    match (&given.port, given.end_port) {
        (Some(IntOrString::Int(number)), end) => {
            check::port(errors, &at, *number);
            if let Some(end) = end {
                if end < *number {
                    errors.invalid(&end_at, end, "must be greater than or equal to `port`");
                }
                check::port(errors, &end_at, end);
            }
        }
        (Some(IntOrString::String(name)), end) => {
            if let Some(end) = end {
                errors.invalid(
                    &end_at,
                    end,
                    "may not be specified when `port` is non-numeric",
                );
            }
            errors.invalid_each(&at, name, names::port_name(name));
        }
        (None, Some(end)) => {
            errors.invalid(
                &end_at,
                end,
                "may not be specified when `port` is not specified",
            );
        }
        (None, None) => {}
    }
}

fn peers(errors: &mut ErrorList, path: &Path, peers: &[NetworkPolicyPeer], known: &BTreeSet<&str>) {
    for (i, peer) in peers.iter().enumerate() {
        let path = path.index(i);
        let selectors = [
            ("podSelector", &peer.pod_selector),
            ("namespaceSelector", &peer.namespace_selector),
        ];
        for (key, selector) in selectors {
            check::label_selector(errors, &path.child(key), selector.as_ref());
        }
        let selects = selectors.iter().any(|(_, selector)| selector.is_some());
        match (selects, peer.ip_block.is_some()) {
            (false, false) => errors.required(&path, "must specify a peer"),
            (true, true) => {
                errors.forbidden(&path, "may not specify both ipBlock and another peer");
            }
            _ => {}
        }
        if let Some(block) = &peer.ip_block {
            ip_block(errors, &path.child("ipBlock"), block, known);
        }
    }
}

fn ip_block(errors: &mut ErrorList, path: &Path, block: &IPBlock, known: &BTreeSet<&str>) {
    let at = path.child("cidr");
    if !errors.required_text(&at, &block.cidr, "") {
        return;
    }
    let strict = |text: &str| !known.contains(text);
    let messages = names::legacy_cidr(&block.cidr, strict(&block.cidr));
    errors.invalid_each(&at, &block.cidr, messages);
    let Some((whole, length)) = names::parse_cidr_sloppy(&block.cidr) else {
        return;
    };
    for (i, text) in block.except.items().iter().enumerate() {
        let at = path.child("except").index(i);
        errors.invalid_each(&at, text, names::legacy_cidr(text, strict(text)));
        let Some((part, part_length)) = names::parse_cidr_sloppy(text) else {
            continue;
        };
        if length >= part_length || !contains(whole, length, part) {
            errors.invalid(&at, text.as_str(), "must be a strict subset of `cidr`");
        }
    }
}

/// Whether an address is within a network.
fn contains(network: IpAddr, length: u8, address: IpAddr) -> bool {
    let shifted = |bits: u128, width: u8| bits.checked_shr(u32::from(width - length)).unwrap_or(0);
    match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            shifted(a.to_bits().into(), 32) == shifted(b.to_bits().into(), 32)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => shifted(a.to_bits(), 128) == shifted(b.to_bits(), 128),
        _ => false,
    }
}
