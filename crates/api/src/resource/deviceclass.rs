//! DeviceClass: a kind of device by which claims ask, with selectors and configuration of the administrator's.
//!
//! Upstream: `pkg/registry/resource/deviceclass`, `ValidateDeviceClass`, `printDeviceClass`.

use k8s_openapi::api::resource::v1::{DeviceClass as Typed, DeviceClassSpec};
use machinery::{ErrorList, Path, names};

use super::request::CONFIG_MAX;
use super::{parts, selector};
use crate::check;
use crate::kind::{Context, Kind, Names, Part, Scope};
use crate::view::Items;

/// The kind `DeviceClass`.
pub struct DeviceClass;

impl Kind for DeviceClass {
    type Object = Typed;
    const NAMES: Names = Names::new(
        super::GROUP,
        "v1",
        "DeviceClass",
        "deviceclasses",
        "deviceclass",
    );
    const SCOPE: Scope = Scope::Cluster;
    const RETURNS_DELETED: bool = true;
    const HAS_GENERATION: bool = true;

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        validate(new, None)
    }

    fn validate_update(_context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        validate(new, Some(old))
    }
}

/// What did not change was valid when it was written.
fn validate(new: &Typed, old: Option<&Typed>) -> ErrorList {
    let empty = DeviceClassSpec::default();
    let spec = |class: &'_ Typed| class.spec.clone().unwrap_or_default();
    let (new, old) = (new.spec.as_ref().unwrap_or(&empty), old.map(spec));
    let mut errors = ErrorList::new();
    let path = Path::new("spec");
    let stored = old
        .as_ref()
        .is_some_and(|old| check::same(&new.selectors, &old.selectors));
    let at = path.child("selectors");
    selector::selectors(&mut errors, &at, new.selectors.items(), stored);
    let stored = old
        .as_ref()
        .is_some_and(|old| check::same(&new.config, &old.config));
    let at = path.child("config");
    parts::each(
        &mut errors,
        &at,
        new.config.items(),
        CONFIG_MAX,
        |errors, at, entry| {
            parts::configuration(errors, at, entry.opaque.as_ref(), stored);
        },
    );
    if let Some(name) = &new.extended_resource_name {
        extended_name(&mut errors, &path.child("extendedResourceName"), name);
    }
    errors
}

/// The name of a resource that pods ask for as they ask for memory, and that quotas count.
fn extended_name(errors: &mut ErrorList, path: &Path, name: &str) {
    const OWN: &str = "kubernetes.io/";
    const QUOTA: &str = "requests.";
    if !name.contains('/') {
        let why = "a name must be a domain-prefixed path, such as 'example.com/my-prop'";
        errors.invalid(path, name, why);
    } else if name.contains(OWN) {
        errors.invalid(path, name, format!("must not have {OWN:?} domain"));
    }
    if name.starts_with(QUOTA) {
        errors.invalid(path, name, format!("must not have {QUOTA:?} prefix"));
    }
    for why in names::qualified_name(&format!("{QUOTA}{name}")) {
        errors.invalid(path, name, why);
    }
}
