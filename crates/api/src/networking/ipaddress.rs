//! IPAddress: one address of the cluster, and what it belongs to. Those of Services are made with their Services.
//!
//! Upstream: `pkg/registry/networking/ipaddress`, `ValidateIPAddress*` in `pkg/apis/networking/validation`.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress as Typed, ParentReference};
use machinery::field::ErrorType;
use machinery::table::{Column, Row};
use machinery::{ErrorList, FieldError, Object, Path, names};
use serde_json::{Value, json};

use crate::check::{self, ErrorListExt};
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope};
use crate::view::OrEmpty;

/// The label that says to which family an address belongs.
pub const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
/// The label that says who made an address.
pub const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
/// Who makes those of Services.
pub const ALLOCATOR: &str = "ipallocator.k8s.io";

/// The kind `IPAddress`.
pub struct IpAddress;

impl Kind for IpAddress {
    type Object = Typed;
    const NAMES: Names = Names::new(
        "networking.k8s.io",
        "v1",
        "IPAddress",
        "ipaddresses",
        "ipaddress",
    )
    .short(&["ip"]);
    const SCOPE: Scope = Scope::Cluster;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "ParentRef",
            "parentRef references the resource that an IPAddress is attached to. An IPAddress must reference a parent object.",
        ),
    ];

    fn validate_name(name: &str, _prefix: bool) -> Vec<String> {
        names::ip(name)
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("spec").child("parentRef");
        let parent = &new.spec.parent_ref;
        if *parent == ParentReference::default() {
            errors.required(&path, "");
            return errors;
        }
        let (at, group) = (path.child("group"), parent.group.text());
        if !group.is_empty() {
            errors.invalid_each(&at, group, names::dns1123_subdomain(group));
        }
        check::required_path_segment(&mut errors, &path.child("resource"), &parent.resource);
        check::required_path_segment(&mut errors, &path.child("name"), &parent.name);
        let (at, namespace) = (path.child("namespace"), parent.namespace.text());
        if !namespace.is_empty() {
            errors.invalid_each(&at, namespace, names::path_segment_name(namespace));
        }
        errors
    }

    fn correct(errors: &mut ErrorList, new: &Object) {
        let parent = Path::new("spec").child("parentRef");
        let is_missing = |e: &FieldError| e.path == parent && e.kind == ErrorType::Required;
        let is_there = new.at(&["spec", "parentRef"]).is_some_and(Value::is_object);
        if is_there && errors.0.iter().any(is_missing) {
            errors.0.retain(|e| !is_missing(e));
            errors.required(&parent.child("resource"), "");
            errors.required(&parent.child("name"), "");
        }
    }

    fn validate_update(context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = Self::validate_create(context, new);
        let path = Path::new("spec").child("parentRef");
        errors.fixed(&path, &new.spec.parent_ref, &old.spec.parent_ref);
        errors
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let parent = &object.spec.parent_ref;
        let shown = match *parent == ParentReference::default() {
            true => "<none>".to_owned(),
            false => {
                let group = match parent.group.text() {
                    "" => String::new(),
                    group => format!(".{group}"),
                };
                let resource = format!("{}{group}", parent.resource).to_lowercase();
                let parts = [&*resource, parent.namespace.text(), &*parent.name];
                let parts: Vec<&str> = parts.into_iter().filter(|p| !p.is_empty()).collect();
                parts.join("/")
            }
        };
        Row::from(vec![
            tree.name().into(),
            shown.into(),
            // Upstream has a cell for the age and no column.
            kind::age(tree, now).into(),
        ])
    }
}

/// The object that says that an address belongs to a Service.
pub fn of_service(address: IpAddr, namespace: &str, name: &str) -> Object {
    let Value::Object(tree) = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {
            "name": address.to_string(),
            "labels": {FAMILY: family(address), MANAGED_BY: ALLOCATOR},
        },
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": name}},
    }) else {
        return Object::default();
    };
    Object(tree)
}

/// The family of an address, as labels and Services spell it.
pub fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

/// The Service that an address belongs to: its namespace and name.
pub fn service(object: &Object) -> Option<(&str, &str)> {
    let at = |key: &str| object.str_at(&["spec", "parentRef", key]);
    let is_service = at("group").is_empty() && at("resource") == "services";
    is_service.then(|| (at("namespace"), at("name")))
}

/// Whether the allocator made it.
pub fn is_allocated(object: &Object) -> bool {
    object.label(MANAGED_BY) == Some(ALLOCATOR)
}
