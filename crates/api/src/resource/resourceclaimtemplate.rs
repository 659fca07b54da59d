//! ResourceClaimTemplate: what claims are made from, one for each pod that names it.
//!
//! Upstream: `pkg/registry/resource/resourceclaimtemplate`, `ValidateResourceClaimTemplate`.

use k8s_openapi::api::resource::v1::ResourceClaimTemplate as Typed;
use machinery::{ErrorList, Object, Path};

use super::request;
use crate::check::ErrorListExt;
use crate::kind::{Context, Kind, Names, Part, Scope};
use crate::meta;

/// The kind `ResourceClaimTemplate`.
pub struct ResourceClaimTemplate;

impl Kind for ResourceClaimTemplate {
    type Object = Typed;
    const NAMES: Names = Names::new(
        super::GROUP,
        "v1",
        "ResourceClaimTemplate",
        "resourceclaimtemplates",
        "resourceclaimtemplate",
    );
    const SCOPE: Scope = Scope::Namespaced;
    const RETURNS_DELETED: bool = true;

    fn default(object: &mut Typed) {
        request::default(object.spec.as_mut().and_then(|s| s.spec.as_mut()));
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        request::drop_disabled(request::spec_of(new).and_then(|spec| spec.get_mut("spec")));
    }

    fn prepare_update(_context: &Context, _part: Part, new: &mut Object, _old: &Object) {
        request::drop_disabled(request::spec_of(new).and_then(|spec| spec.get_mut("spec")));
    }

    fn validate_create(context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        let template = new.spec.as_ref();
        let spec = template.and_then(|t| t.spec.as_ref());
        let namespace = new.metadata.namespace.as_deref().unwrap_or_default();
        // Upstream names the path of a claim here too.
        let wanted = || request::wants_admin(spec, &Path::new("spec"));
        request::admin_access(&mut errors, context, namespace, wanted);
        if let Some(own) = template.and_then(|t| t.metadata.as_ref()) {
            meta::template(&mut errors, &Path::new("spec").child("metadata"), own);
        }
        request::validate(&mut errors, &Path::new("spec").child("spec"), spec);
        errors
    }

    fn validate_update(context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = Self::validate_create(context, new);
        errors.immutable(&Path::new("spec"), &new.spec, &old.spec);
        errors
    }
}
