//! What a kubelet may ask for.

use std::sync::LazyLock;

use k8s_openapi::api::rbac::v1::PolicyRule;
use volumes::local;

use super::graph::{Graph, Kind};
use crate::rbac::rule;
use crate::{Attributes, Authorizer, Rules, User, Verdict, bootstrap};

/// The rules of the role `system:node`, for what is not divided between nodes.
static NODE_RULES: LazyLock<Vec<PolicyRule>> = LazyLock::new(bootstrap::node_rules);

impl Authorizer for Graph {
    fn authorize(&self, attributes: &Attributes) -> Verdict {
        let Some(node) = attributes.user.node_name() else {
            return Verdict::no_opinion("");
        };
        let ask = Ask {
            graph: self,
            node,
            attributes,
        };
        let resource = (attributes.api_group.as_str(), attributes.resource.as_str());
        let divided = attributes.is_resource_request.then_some(resource);
        match divided {
            Some(("", "secrets")) => ask.read(Kind::Secret),
            Some(("", "configmaps")) => ask.read(Kind::ConfigMap),
            Some(("", "persistentvolumeclaims")) if attributes.subresource == "status" => {
                ask.update_status(Kind::Claim)
            }
            Some(("", "persistentvolumeclaims")) => ask.get(|| ask.related(Kind::Claim)),
            Some(("", "persistentvolumes")) => ask.volume(),
            Some(("resource.k8s.io", "resourceclaims")) => {
                ask.get(|| ask.related(Kind::ResourceClaim))
            }
            Some(("storage.k8s.io", "volumeattachments")) => {
                ask.get(|| ask.related(Kind::Attachment))
            }
            Some(("", "serviceaccounts")) => ask.service_account(),
            Some(("coordination.k8s.io", "leases")) => ask.lease(),
            Some(("storage.k8s.io", "csinodes")) => ask.csi_node(),
            Some(("resource.k8s.io", "resourceslices")) => ask.resource_slice(),
            Some(("certificates.k8s.io", "podcertificaterequests")) => ask.certificate_request(),
            Some(("", "nodes")) => ask.node(),
            Some(("", "pods")) => ask.pod(),
            _ if NODE_RULES.iter().any(|rule| rule::allows(rule, attributes)) => Verdict::allow(""),
            _ => Verdict::no_opinion(""),
        }
    }

    fn rules_for(&self, user: &User, _namespace: &str) -> Rules {
        if user.node_name().is_none() {
            return Rules::default();
        }
        let evaluation_error = "node authorizer does not support user rule resolution".to_owned();
        Rules {
            incomplete: true,
            evaluation_error,
            ..Rules::default()
        }
    }
}

/// One question of one node.
struct Ask<'a> {
    graph: &'a Graph,
    node: &'a str,
    attributes: &'a Attributes,
}

impl Ask<'_> {
    fn verb(&self) -> &str {
        &self.attributes.verb
    }

    fn subresource(&self) -> &str {
        &self.attributes.subresource
    }

    fn no_relationship(&self) -> Verdict {
        let node = self.node;
        Verdict::no_opinion(format!(
            "no relationship found between node '{node}' and this object"
        ))
    }

    fn related(&self, kind: Kind) -> Verdict {
        let (namespace, name) = (&self.attributes.namespace, &self.attributes.name);
        if name.is_empty() {
            Verdict::no_opinion("No Object name found")
        } else if self.graph.needs(self.node, kind, namespace, name) {
            Verdict::allow("")
        } else {
            self.no_relationship()
        }
    }

    fn related_volume(&self) -> Verdict {
        let name = &self.attributes.name;
        if name.is_empty() {
            Verdict::no_opinion("No Object name found")
        } else if self.graph.needs_volume(self.node, name) {
            Verdict::allow("")
        } else {
            self.no_relationship()
        }
    }

    /// A node sees to the directories of local volumes: it watches them, and says when one is gone. Admission sees to it
    /// that it touches no others, and nothing else in them.
    fn volume(&self) -> Verdict {
        let selector = self.attributes.label_selector.as_ref();
        let selected = selector.and_then(|s| s.required_value(local::NODE_LABEL));
        match (self.verb(), self.subresource()) {
            ("patch", "") => Verdict::allow(""),
            ("list" | "watch", "") if selected == Some(self.node) => Verdict::allow(""),
            _ => self.get(|| self.related_volume()),
        }
    }

    fn selects_own(&self, field: &str) -> bool {
        let own =
            |r: &crate::FieldRequirement| r.equals && r.field == field && r.value == self.node;
        self.attributes.field_selector.iter().any(own)
    }

    fn read(&self, kind: Kind) -> Verdict {
        if !self.attributes.is_read_only() {
            Verdict::no_opinion("can only read resources of this type")
        } else if !self.subresource().is_empty() {
            Verdict::no_opinion("cannot read subresource")
        } else if self.attributes.namespace.is_empty() {
            Verdict::no_opinion("can only read namespaced object of this type")
        } else {
            self.related(kind)
        }
    }

    fn get(&self, related: impl Fn() -> Verdict) -> Verdict {
        if self.verb() != "get" {
            Verdict::no_opinion("can only get individual resources of this type")
        } else if !self.subresource().is_empty() {
            Verdict::no_opinion("cannot get subresource")
        } else {
            related()
        }
    }

    fn update_status(&self, kind: Kind) -> Verdict {
        match self.verb() {
            "update" | "patch" => self.related(kind),
            _ => Verdict::no_opinion("can only get/update/patch this type"),
        }
    }

    fn service_account(&self) -> Verdict {
        if self.verb() == "get" && self.subresource().is_empty() {
            return self.read(Kind::ServiceAccount);
        }
        if self.verb() != "create" || self.attributes.name.is_empty() {
            Verdict::no_opinion("can only create tokens for individual service accounts")
        } else if self.subresource() != "token" {
            Verdict::no_opinion("can only create token subresource of serviceaccount")
        } else {
            self.related(Kind::ServiceAccount)
        }
    }

    fn lease(&self) -> Verdict {
        if !matches!(
            self.verb(),
            "get" | "create" | "update" | "patch" | "delete"
        ) {
            let why = "can only get, create, update, patch, or delete a node lease";
            Verdict::no_opinion(why)
        } else if self.attributes.namespace != "kube-node-lease" {
            let why = "can only access leases in the \"kube-node-lease\" system namespace";
            Verdict::no_opinion(why)
        } else if self.verb() != "create" && self.attributes.name != self.node {
            // On create the name is not known here: admission compares it.
            let why = "can only access node lease with the same name as the requesting node";
            Verdict::no_opinion(why)
        } else {
            Verdict::allow("")
        }
    }

    fn csi_node(&self) -> Verdict {
        match self.subresource() {
            "" => {}
            "status" => {
                let why = "CSINode status access requires CSIVolumeHealth feature";
                return Verdict::no_opinion(why);
            }
            _ => return Verdict::no_opinion("cannot authorize CSINode subresources"),
        }
        if !matches!(
            self.verb(),
            "get" | "create" | "update" | "patch" | "delete"
        ) {
            Verdict::no_opinion("can only get, create, update, patch, or delete a CSINode")
        } else if self.verb() != "create" && self.attributes.name != self.node {
            let why = "can only access CSINode with the same name as the requesting node";
            Verdict::no_opinion(why)
        } else {
            Verdict::allow("")
        }
    }

    fn resource_slice(&self) -> Verdict {
        if !self.subresource().is_empty() {
            return Verdict::no_opinion("cannot authorize ResourceSlice subresources");
        }
        match self.verb() {
            // Admission compares the node name of a new slice.
            "create" => Verdict::allow(""),
            "get" | "update" | "patch" | "delete" => self.related(Kind::Slice),
            "watch" | "list" | "deletecollection" if self.selects_own("spec.nodeName") => {
                Verdict::allow("")
            }
            "watch" | "list" | "deletecollection" => Verdict::no_opinion(
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            _ => Verdict::no_opinion(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn certificate_request(&self) -> Verdict {
        if !self.subresource().is_empty() {
            let why = "nodes may not access the status subresource of PodCertificateRequests";
            return Verdict::no_opinion(why);
        }
        match self.verb() {
            // Admission compares what it says about node, pod and service account.
            "create" => Verdict::allow(""),
            "get" => self.related(Kind::CertificateRequest),
            "list" | "watch" if self.selects_own("spec.nodeName") => Verdict::allow(""),
            "list" | "watch" => Verdict::no_opinion(
                "can only list/watch podcertificaterequests with nodeName field selector",
            ),
            verb => Verdict::no_opinion(format!("nodes may not {verb} podcertificaterequests")),
        }
    }

    fn node(&self) -> Verdict {
        let name = self.attributes.name.as_str();
        match (self.subresource(), self.verb()) {
            // Admission sees to it that it is the node's own object.
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => {
                Verdict::allow("")
            }
            // By name and not by graph: a kubelet may ask for its node before it exists.
            ("", "get" | "list" | "watch") if name == self.node => Verdict::allow(""),
            ("", "get" | "list" | "watch") if name.is_empty() => Verdict::no_opinion(format!(
                "node '{}' cannot read all nodes, only its own Node object",
                self.node
            )),
            ("", "get" | "list" | "watch") => Verdict::no_opinion(format!(
                "node '{}' cannot read '{name}', only its own Node object",
                self.node
            )),
            _ => Verdict::no_opinion(""),
        }
    }

    fn pod(&self) -> Verdict {
        match (self.subresource(), self.verb()) {
            ("", "get") => self.related(Kind::Pod),
            ("", "list" | "watch") if self.selects_own("spec.nodeName") => Verdict::allow(""),
            ("", "list" | "watch") if !self.attributes.name.is_empty() => self.related(Kind::Pod),
            ("", "list" | "watch") => {
                Verdict::no_opinion("can only list/watch pods with spec.nodeName field selector")
            }
            // Admission sees to it that these are pods of the node.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                Verdict::allow("")
            }
            _ => Verdict::no_opinion(""),
        }
    }
}
