//! The group `authorization.k8s.io`: questions about what somebody may do. Nothing here is stored.
//!
//! Upstream: `pkg/registry/authorization`, `pkg/apis/authorization/validation`.

use k8s_openapi::api::authorization::v1 as typed;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelectorRequirement, ObjectMeta};
use machinery::{ErrorList, Path};

use crate::check::{self, ErrorListExt, same};
use crate::kind::{Context, Kind, Names, Part, Scope, Verb};
use crate::view::{Items, OrEmpty};

const GROUP: &str = "authorization.k8s.io";
const ONE: &str = "exactly one of nonResourceAttributes or resourceAttributes must be specified";

/// The kind `SubjectAccessReview`: may they?
pub struct SubjectAccessReview;

impl Kind for SubjectAccessReview {
    type Object = typed::SubjectAccessReview;
    const NAMES: Names = Names::new(
        GROUP,
        "v1",
        "SubjectAccessReview",
        "subjectaccessreviews",
        "subjectaccessreview",
    );
    const SCOPE: Scope = Scope::Cluster;
    const VERBS: &'static [Verb] = Verb::CREATE_ONLY;

    fn validate_create(_context: &Context, new: &Self::Object) -> ErrorList {
        let mut errors = ErrorList::new();
        subject(&mut errors, &new.spec);
        no_metadata(
            &mut errors,
            &new.metadata,
            new.metadata.clone(),
            "must be empty",
        );
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

/// The kind `LocalSubjectAccessReview`: may they, in this namespace?
pub struct LocalSubjectAccessReview;

impl Kind for LocalSubjectAccessReview {
    type Object = typed::LocalSubjectAccessReview;
    const NAMES: Names = Names::new(
        GROUP,
        "v1",
        "LocalSubjectAccessReview",
        "localsubjectaccessreviews",
        "localsubjectaccessreview",
    );
    const SCOPE: Scope = Scope::Namespaced;
    const VERBS: &'static [Verb] = Verb::CREATE_ONLY;

    fn validate_create(_context: &Context, new: &Self::Object) -> ErrorList {
        let mut errors = ErrorList::new();
        subject(&mut errors, &new.spec);
        let rest = ObjectMeta {
            namespace: None,
            ..new.metadata.clone()
        };
        let detail = "must be empty except for namespace";
        no_metadata(&mut errors, &new.metadata, rest, detail);
        if let Some(attributes) = &new.spec.resource_attributes
            && attributes.namespace.text() != new.metadata.namespace.text()
        {
            let path = Path::new("spec.resourceAttributes.namespace");
            errors.invalid(
                &path,
                attributes.namespace.text(),
                "must match metadata.namespace",
            );
        }
        if let Some(attributes) = &new.spec.non_resource_attributes {
            let path = Path::new("spec.nonResourceAttributes");
            let detail = "disallowed on this kind of request";
            errors.invalid(&path, check::json(attributes), detail);
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

/// The kind `SelfSubjectAccessReview`: may I?
pub struct SelfSubjectAccessReview;

impl Kind for SelfSubjectAccessReview {
    type Object = typed::SelfSubjectAccessReview;
    const NAMES: Names = Names::new(
        GROUP,
        "v1",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        "selfsubjectaccessreview",
    );
    const SCOPE: Scope = Scope::Cluster;
    const VERBS: &'static [Verb] = Verb::CREATE_ONLY;

    fn validate_create(_context: &Context, new: &Self::Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = &new.spec;
        let (on, off) = (
            spec.resource_attributes.as_ref(),
            spec.non_resource_attributes.as_ref(),
        );
        one_question(&mut errors, on, off);
        attributes(&mut errors, on);
        no_metadata(
            &mut errors,
            &new.metadata,
            new.metadata.clone(),
            "must be empty",
        );
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

/// The kind `SelfSubjectRulesReview`: what may I?
pub struct SelfSubjectRulesReview;

impl Kind for SelfSubjectRulesReview {
    type Object = typed::SelfSubjectRulesReview;
    const NAMES: Names = Names::new(
        GROUP,
        "v1",
        "SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
        "selfsubjectrulesreview",
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

fn subject(errors: &mut ErrorList, spec: &typed::SubjectAccessReviewSpec) {
    let (on, off) = (
        spec.resource_attributes.as_ref(),
        spec.non_resource_attributes.as_ref(),
    );
    one_question(errors, on, off);
    if spec.user.text().is_empty() && spec.groups.items().is_empty() {
        let path = Path::new("spec").child("user");
        errors.invalid(&path, "", "at least one of user or group must be specified");
    }
    attributes(errors, on);
}

fn one_question(
    errors: &mut ErrorList,
    on: Option<&typed::ResourceAttributes>,
    off: Option<&typed::NonResourceAttributes>,
) {
    if on.is_some() == off.is_some() {
        let shown = off.map(|o| serde_json::json!({"Path": o.path.text(), "Verb": o.verb.text()}));
        errors.invalid(&Path::new("spec"), shown.unwrap_or_default(), ONE);
    }
}

/// Apart from the book-keeping of the server, a question has no metadata.
/// Refuses metadata in which more is set than may be; `rest` is what may not.
fn no_metadata(errors: &mut ErrorList, metadata: &ObjectMeta, rest: ObjectMeta, detail: &str) {
    let rest = ObjectMeta {
        managed_fields: None,
        ..rest
    };
    if !same(&rest, &ObjectMeta::default()) {
        errors.invalid(&Path::new("metadata"), check::json(metadata), detail);
    }
}

fn attributes(errors: &mut ErrorList, attributes: Option<&typed::ResourceAttributes>) {
    let Some(attributes) = attributes else { return };
    let path = Path::new("spec.resourceAttributes");
    if let Some(selector) = &attributes.field_selector {
        let path = path.child("fieldSelector");
        let requirements = selector.requirements.items();
        raw_or_parsed(
            errors,
            &path,
            selector.raw_selector.text(),
            requirements.is_empty(),
        );
        for (i, r) in requirements.iter().enumerate() {
            let at = path.child("requirements").index(i);
            errors.required_text(&at.child("key"), &r.key, "must be specified");
            values(errors, &at, &r.operator, r.values.items());
        }
    }
    if let Some(selector) = &attributes.label_selector {
        let path = path.child("labelSelector");
        let requirements = selector.requirements.items();
        raw_or_parsed(
            errors,
            &path,
            selector.raw_selector.text(),
            requirements.is_empty(),
        );
        for (i, r) in requirements.iter().enumerate() {
            label_requirement(errors, &path.child("requirements").index(i), r);
        }
    }
}

fn raw_or_parsed(errors: &mut ErrorList, path: &Path, raw: &str, none: bool) {
    if !raw.is_empty() && !none {
        let detail = "may not specified at the same time as requirements";
        errors.invalid(&path.child("rawSelector"), raw, detail);
    }
    if raw.is_empty() && none {
        let detail = format!("when {path} is specified, requirements or rawSelector is required");
        errors.required(&path.child("requirements"), detail);
    }
}

/// Operators that this server does not know may be asked about: newer clients know more.
fn values(errors: &mut ErrorList, path: &Path, operator: &str, values: &[String]) {
    let at = path.child("values");
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&at, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.forbidden(&at, detail);
        }
        _ => {}
    }
}

fn label_requirement(errors: &mut ErrorList, path: &Path, requirement: &LabelSelectorRequirement) {
    let list = requirement.values.items();
    values(errors, path, &requirement.operator, list);
    check::label_name(errors, &path.child("key"), &requirement.key);
    for (i, value) in list.iter().enumerate() {
        let messages = machinery::names::label_value(value);
        errors.invalid_each(&path.child("values").index(i), value, messages);
    }
}
