//! ValidatingWebhookConfiguration: webhooks that may refuse what is written.

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, ValidatingWebhookConfiguration as Typed,
};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object};

use super::{COLUMNS, Unset, as_mutating, validate, warnings};
use crate::kind::{self, Context, Kind, Names, Part, Scope};
use crate::view::Items;

/// The kind `ValidatingWebhookConfiguration`.
pub struct ValidatingWebhookConfiguration;

impl Kind for ValidatingWebhookConfiguration {
    type Object = Typed;
    const NAMES: Names = Names::new(
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        "validatingwebhookconfiguration",
    )
    .in_api_extensions();
    const SCOPE: Scope = Scope::Cluster;
    const COLUMNS: &'static [Column] = COLUMNS;
    const HAS_GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(object: &mut Typed) {
        for hook in object.webhooks.iter_mut().flatten() {
            let unset = Unset {
                failure_policy: &mut hook.failure_policy,
                match_policy: &mut hook.match_policy,
                namespace_selector: &mut hook.namespace_selector,
                object_selector: &mut hook.object_selector,
                timeout_seconds: &mut hook.timeout_seconds,
                rules: &mut hook.rules,
                client: &mut hook.client_config,
            };
            unset.fill();
        }
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        validate(name(new), &hooks(new), None)
    }

    fn correct(errors: &mut ErrorList, new: &Object) {
        super::correct(errors, new);
    }

    fn validate_update(_context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        validate(name(new), &hooks(new), Some(&hooks(old)))
    }

    fn warnings(new: &Typed) -> Vec<String> {
        warnings(name(new), &hooks(new))
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        Row::from(vec![
            tree.name().into(),
            object.webhooks.items().len().into(),
            kind::age(tree, now).into(),
        ])
    }
}

fn name(object: &Typed) -> &str {
    object.metadata.name.as_deref().unwrap_or("")
}

fn hooks(object: &Typed) -> Vec<MutatingWebhook> {
    object.webhooks.items().iter().map(as_mutating).collect()
}
