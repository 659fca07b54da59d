//! Names and amounts of resources: which names are known, which are whole numbers, which may be overcommitted.
//!
//! Upstream: `pkg/apis/core/helper`, `ValidateResourceQuantityValue` and its neighbours in `pkg/apis/core/validation`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::quantity::Quantity;
use machinery::{ErrorList, Path, names};

use crate::check::{ErrorListExt, NOT_NEGATIVE};

/// The prefix of huge page resources.
pub const HUGEPAGES: &str = "hugepages-";
const REQUESTS: &str = "requests.";
/// What is said about a fraction of a whole-number resource.
pub const NOT_INTEGER: &str = "must be an integer";

/// Names that quotas and objects may use without a domain.
const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];

const COUNTED: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// `hugepages-2Mi` and the like.
pub fn is_huge_page(name: &str) -> bool {
    name.starts_with(HUGEPAGES)
}

/// In the `kubernetes.io/` name space, to which names without a domain belong.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A resource that some vendor defines, like `example.com/gpu`.
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with(REQUESTS)
        && names::qualified_name(&format!("{REQUESTS}{name}")).is_empty()
}

/// A node may promise more of it than it has.
pub fn is_overcommit_allowed(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// Measured in whole numbers.
pub fn is_integer(name: &str) -> bool {
    COUNTED.contains(&name) || is_extended(name)
}

/// Known to the system without a domain.
pub fn is_standard(name: &str) -> bool {
    STANDARD.contains(&name) || is_huge_page(name) || name.starts_with("requests.hugepages-")
}

/// A quota may name it without a domain.
pub fn is_standard_for_quota(name: &str) -> bool {
    is_standard(name) && name != "storage"
}

/// A container may ask for it without a domain.
pub fn is_standard_for_containers(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge_page(name)
}

/// An amount: a quantity, not negative, whole where it must be.
pub fn amount(errors: &mut ErrorList, path: &Path, name: &str, text: &Text) {
    let Some(quantity) = parse(errors, path, text) else {
        return;
    };
    if quantity.signum() < 0 {
        errors.invalid(path, text.0.as_str(), NOT_NEGATIVE);
    }
    if is_integer(name) && quantity.milli_value() % 1000 != 0 {
        errors.invalid(path, text.0.as_str(), NOT_INTEGER);
    }
}

/// An amount of what is there: a quantity that is not negative.
pub fn basic(errors: &mut ErrorList, path: &Path, text: &Text) {
    if let Some(quantity) = parse(errors, path, text)
        && quantity.value() < 0
    {
        errors.invalid(path, quantity.value(), "must be a valid resource quantity");
    }
}

/// The number, or an error about the text.
pub fn parse(errors: &mut ErrorList, path: &Path, text: &Text) -> Option<Quantity> {
    match Quantity::of(text) {
        Ok(quantity) => Some(quantity),
        Err(why) => {
            errors.invalid(path, text.0.as_str(), why.to_string());
            None
        }
    }
}

/// Brings every amount to its canonical text, rounded up to thousandths.
pub fn canonical(list: Option<&mut BTreeMap<String, Text>>) {
    for text in list.into_iter().flat_map(BTreeMap::values_mut) {
        canonical_text(text);
    }
}

/// Brings one amount to its canonical text, rounded up to thousandths.
pub fn canonical_text(text: &mut Text) {
    if let Ok(quantity) = Quantity::of(text) {
        let rounded = Quantity::from_milli(quantity.milli_value(), quantity.format());
        // Beyond 64 bits of thousandths there is no fraction to round.
        let fits = quantity.milli_value() != i64::MAX && quantity.milli_value() != i64::MIN;
        text.0 = if fits { rounded } else { quantity }.to_string();
    }
}

/// A resource name: of the system, or with a domain.
pub fn resource_name(errors: &mut ErrorList, path: &Path, name: &str) {
    let messages = names::qualified_name(name);
    if messages.is_empty() && !name.contains('/') && !is_standard(name) {
        let detail = "must be a standard resource type or fully qualified";
        errors.invalid(path, name, detail);
    }
    errors.invalid_each(path, name, messages);
}

/// A resource name of a container.
pub fn container_resource_name(errors: &mut ErrorList, path: &Path, name: &str) {
    let before = errors.0.len();
    errors.invalid_each(path, name, names::qualified_name(name));
    if errors.0.len() > before {
        return;
    }
    if !name.contains('/') {
        if !is_standard(name) {
            errors.invalid(
                path,
                name,
                "must be a standard resource type or fully qualified",
            );
        }
        if !is_standard_for_containers(name) {
            errors.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid(path, name, "doesn't follow extended resource name standard");
    }
}
