//! DeviceClass: a kind of device by which claims ask, with selectors and configuration of the administrator's.
//!
//! Upstream: `pkg/registry/resource/deviceclass`, `ValidateDeviceClass`, `printDeviceClass`.

use k8s_openapi::api::resource::v1::{DeviceClass as Typed, DeviceClassSpec};
use machinery::{ErrorList, Path};

use super::request::CONFIG_MAX;
use super::{parts, selector};
use crate::check;
use crate::core::resources;
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
    if let Some(name) = new
        .extended_resource_name
        .as_deref()
        .filter(|n| !resources::is_extended(n))
    {
        let at = path.child("extendedResourceName");
        errors.invalid(&at, name, "must be a valid extended resource name");
    }
    errors
}
