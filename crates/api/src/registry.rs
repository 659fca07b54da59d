//! The table of all kinds. Adding a kind is one line here and one module.

use crate::kind::AnyKind;

/// Every kind served, in discovery order (core first, then groups).
pub static KINDS: &[&dyn AnyKind] = &[];

/// The kind that serves `group/version/plural`.
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static dyn AnyKind> {
    KINDS.iter().copied().find(|k| {
        let names = k.names();
        names.plural == plural && names.group == group && names.version == version
    })
}

/// The kind with this group, version and CamelCase name.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static dyn AnyKind> {
    KINDS.iter().copied().find(|k| {
        let names = k.names();
        names.kind == kind && names.group == group && names.version == version
    })
}
