//! Binding: assigns a pod to a node. Asked as `pods/binding`, or in the old way as `bindings`; never kept.
//!
//! Upstream: `ValidatePodBinding` in `pkg/apis/core/validation`.

use k8s_openapi::api::core::v1::Binding as Typed;
use machinery::{ErrorList, Path, names};

use crate::check::ErrorListExt;
use crate::kind::{Context, Kind, Names, Part, Scope, Verb};
use crate::view::OrEmpty;

/// The kind `Binding`.
pub struct Binding;

impl Kind for Binding {
    type Object = Typed;
    const NAMES: Names = Names::new("", "v1", "Binding", "bindings", "binding");
    const SCOPE: Scope = Scope::Namespaced;
    const VERBS: &'static [Verb] = Verb::CREATE_ONLY;

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("target");
        let (kind, name) = (new.target.kind.text(), new.target.name.text());
        let to_node = matches!(kind, "" | "Node");
        if !to_node {
            errors.not_supported(&path.child("kind"), kind, &["Node", "<empty>"]);
        }
        if errors.required_text(&path.child("name"), name, "") && to_node {
            errors.invalid_each(&path.child("name"), name, names::dns1123_subdomain(name));
        }
        errors
    }

    fn validate_update(context: &Context, _part: Part, new: &Typed, _old: &Typed) -> ErrorList {
        Self::validate_create(context, new)
    }
}
