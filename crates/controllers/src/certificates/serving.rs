//! Approves the serving certificates that kubelets ask for, when all names and addresses in them are the node's own.
//!
//! Upstream leaves this to the operator (`kubectl certificate approve`); a cluster made by one command has none. The
//! names a node may have are those in its status, which only it and the control plane write.

use std::net::IpAddr;
use std::sync::Arc;

use control::{Caches, Change, Key, Look, Plan, Reconciler, Wake};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use machinery::certificate::{self, Request};

use super::{KUBELET_SERVING, approve, is_pending};

const NODE_PREFIX: &str = "system:node:";
/// Index of requests by the node that asks.
const BY_NODE: &str = "node";
const MESSAGE: &str =
    "Auto approving kubelet serving certificate: its names and addresses are those of the node.";

/// The controller.
pub struct ServingApprover;

/// All that a decision may depend on.
pub struct Observed {
    /// The request.
    pub request: Arc<CertificateSigningRequest>,
    /// The node that asks, if it is there.
    pub node: Option<Arc<Node>>,
}

impl Reconciler for ServingApprover {
    type Observed = Observed;

    const NAME: &'static str = "kubelet-serving-approver";

    fn wake(on: &mut Wake<'_>) {
        on.on_root::<CertificateSigningRequest>()
            .index::<CertificateSigningRequest>(BY_NODE, |request| {
                node_of(request).into_iter().map(str::to_owned).collect()
            })
            .on::<Node>(keys_of_node);
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        let request = look
            .caches
            .of::<CertificateSigningRequest>()
            .get(look.key)?;
        let node = node_of(&request).and_then(|name| look.caches.of::<Node>().named("", name));
        Some(Observed { request, node })
    }

    fn reconcile(o: &Observed) -> Plan {
        if !is_pending(&o.request) {
            return Plan::idle("it has been decided about");
        }
        if let Err(why) = check(&o.request, o.node.as_deref()) {
            return Plan::idle(why);
        }
        Plan {
            actions: vec![approve(&o.request, MESSAGE)],
            because: "all names in it are those of the node that asks".to_owned(),
            ..Plan::default()
        }
    }
}

/// The node that asks for its serving certificate.
fn node_of(request: &CertificateSigningRequest) -> Option<&str> {
    let spec = &request.spec;
    let serving = spec.signer_name == KUBELET_SERVING;
    let user = spec.username.as_deref().filter(|_| serving)?;
    user.strip_prefix(NODE_PREFIX)
}

/// What was missing before may be in the node's status now.
fn keys_of_node(change: &Change<Node>, caches: &Caches) -> Vec<Key> {
    let addresses = |node: Option<&Arc<Node>>| node.map(|n| addresses(n).to_vec());
    if addresses(change.old.as_ref()) == addresses(change.new.as_ref()) {
        return Vec::new();
    }
    let name = change.latest().metadata.name.as_deref().unwrap_or_default();
    let requests = caches
        .of::<CertificateSigningRequest>()
        .indexed(BY_NODE, name);
    requests.iter().map(|r| Key::of(r.as_ref())).collect()
}

fn addresses(node: &Node) -> &[k8s_openapi::api::core::v1::NodeAddress] {
    let status = node.status.as_ref();
    status
        .and_then(|s| s.addresses.as_deref())
        .unwrap_or_default()
}

fn check(request: &CertificateSigningRequest, node: Option<&Node>) -> Result<(), String> {
    let name = node_of(request).ok_or("it is not the serving certificate of a node")?;
    let parsed = Request::parse(&request.spec.request.0)?;
    let usages = request.spec.usages.as_deref().unwrap_or_default();
    certificate::check_kubelet_serving(&parsed, usages)?;
    if Some(parsed.common_name.as_str()) != request.spec.username.as_deref() {
        return Err("it is not for the one who asks".to_owned());
    }
    let node = node.ok_or_else(|| format!("the node {name} is not there yet"))?;
    let known = addresses(node);
    let dns = |asked: &String| {
        asked == name
            || known
                .iter()
                .any(|a| a.type_ != "InternalIP" && a.type_ != "ExternalIP" && a.address == *asked)
    };
    if let Some(other) = parsed.dns_names.iter().find(|asked| !dns(asked)) {
        return Err(format!("{other} is no name of the node"));
    }
    let ip = |asked: &IpAddr| known.iter().any(|a| a.address.parse() == Ok(*asked));
    match parsed.ip_addresses.iter().find(|asked| !ip(asked)) {
        Some(other) => Err(format!("{other} is no address of the node")),
        None => Ok(()),
    }
}
