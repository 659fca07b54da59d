//! The group `authentication.k8s.io`: questions about who somebody is, and tokens. Nothing here is stored.
//!
//! Upstream: `pkg/registry/authentication`, `pkg/apis/authentication/validation`.

use k8s_openapi::api::authentication::v1 as typed;
use machinery::{ErrorList, Path, names};

use crate::check;
use crate::kind::{Context, Kind, Names, Part, Scope, Verb};
use crate::view::{Items, OrEmpty, fill_with};

const GROUP: &str = "authentication.k8s.io";
const HOUR: i64 = 3600;

/// The kind `TokenReview`: is this token good, and whose is it?
pub struct TokenReview;

impl Kind for TokenReview {
    type Object = typed::TokenReview;
    const NAMES: Names = Names::new(GROUP, "v1", "TokenReview", "tokenreviews", "tokenreview");
    const SCOPE: Scope = Scope::Cluster;
    const VERBS: &'static [Verb] = Verb::CREATE_ONLY;

    fn validate_create(_context: &Context, _new: &Self::Object) -> ErrorList {
        ErrorList::new()
    }

    fn validate_update(
        _context: &Context,
        _part: Part,
        _new: &Self::Object,
        _old: &Self::Object,
    ) -> ErrorList {
        ErrorList::new()
    }
}

/// The kind `SelfSubjectReview`: who am I?
pub struct SelfSubjectReview;

impl Kind for SelfSubjectReview {
    type Object = typed::SelfSubjectReview;
    const NAMES: Names = Names::new(
        GROUP,
        "v1",
        "SelfSubjectReview",
        "selfsubjectreviews",
        "selfsubjectreview",
    );
    const SCOPE: Scope = Scope::Cluster;
    const VERBS: &'static [Verb] = Verb::CREATE_ONLY;

    fn validate_create(_context: &Context, _new: &Self::Object) -> ErrorList {
        ErrorList::new()
    }

    fn validate_update(
        _context: &Context,
        _part: Part,
        _new: &Self::Object,
        _old: &Self::Object,
    ) -> ErrorList {
        ErrorList::new()
    }
}

/// The kind `TokenRequest`: the body of a service account's `token`.
pub struct TokenRequest;

impl Kind for TokenRequest {
    type Object = typed::TokenRequest;
    const NAMES: Names = Names::new(GROUP, "v1", "TokenRequest", "tokenrequests", "tokenrequest");
    const SCOPE: Scope = Scope::Namespaced;
    const VERBS: &'static [Verb] = Verb::CREATE_ONLY;

    fn default(object: &mut Self::Object) {
        fill_with(
            &mut object.spec.get_or_insert_default().expiration_seconds,
            HOUR,
        );
    }

    fn validate_create(_context: &Context, new: &Self::Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = new.spec.clone().unwrap_or_default();
        let path = Path::new("spec");
        let seconds = spec.expiration_seconds.unwrap_or(0);
        let at = path.child("expirationSeconds");
        if seconds < 600 {
            errors.invalid(
                &at,
                seconds,
                "may not specify a duration less than 10 minutes",
            );
        }
        if seconds > 1 << 32 {
            errors.invalid(
                &at,
                seconds,
                "may not specify a duration larger than 2^32 seconds",
            );
        }
        let at = path.child("attestations");
        if spec.bound_object_ref.as_ref().is_some_and(is_webhook) {
            if spec.audiences.items().len() != 1 {
                let detail = "must be length 1 when bound to a webhook config";
                let shown = spec.audiences.items().to_vec();
                errors.invalid(&path.child("audiences"), shown, detail);
            }
            attestations(&mut errors, &at, &spec);
        } else if spec.attestations.iter().flatten().next().is_some() {
            let mut alone = ErrorList::new();
            let detail = "attestations may only be specified with a webhook bound object reference";
            alone.invalid(&at, check::json(&spec.attestations), detail);
            return alone;
        }
        errors
    }

    fn validate_update(
        context: &Context,
        _part: Part,
        new: &Self::Object,
        _old: &Self::Object,
    ) -> ErrorList {
        Self::validate_create(context, new)
    }
}

fn is_webhook(reference: &typed::BoundObjectReference) -> bool {
    let kinds = [
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
    ];
    kinds.contains(&reference.kind.text())
        && reference.api_version.text() == "admissionregistration.k8s.io/v1"
}

fn attestations(errors: &mut ErrorList, path: &Path, spec: &typed::TokenRequestSpec) {
    const GROUPS: &str = "admissionReviewAPIGroups";
    let all: Vec<_> = spec.attestations.iter().flatten().collect();
    let [(key, values)] = all[..] else {
        let detail =
            "webhook bound requests require exactly one admissionReviewAPIGroups attestation";
        return errors.invalid(path, check::json(&spec.attestations), detail);
    };
    let path = path.key(key);
    if key != GROUPS {
        return errors.not_supported(&path, key.as_str(), &[GROUPS]);
    }
    let [group] = &values[..] else {
        return errors.invalid(&path, values.clone(), "must specify a single value");
    };
    let path = path.index(0);
    if group.is_empty() {
        errors.invalid(&path, "", "may not be an empty string");
    } else if group != "*" {
        for reason in names::dns1123_subdomain(group) {
            let detail = format!("must specify a valid API Group: {reason}");
            errors.invalid(&path, group.as_str(), detail);
        }
    }
}
