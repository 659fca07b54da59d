//! ValidatingAdmissionPolicyBinding and MutatingAdmissionPolicyBinding: where a policy is in force, and with which parameters.
//!
//! Upstream: `pkg/registry/admissionregistration/{validating,mutating}admissionpolicybinding`,
//! `validate*AdmissionPolicyBinding*` in `pkg/apis/admissionregistration/validation`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicyBinding as Mutating, ParamRef,
    ValidatingAdmissionPolicyBinding as Validating,
};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names};

use super::webhook::not_static;
use super::{matching, mutatingadmissionpolicy};
use crate::check::{self, ErrorListExt, json};
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope};
use crate::view::{Items, OrEmpty};

const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];
const COLUMNS: &[Column] = &[
    columns::NAME,
    columns::text(
        "PolicyName",
        "PolicyName indicates the policy definition which the policy binding binded to",
    ),
    columns::text(
        "ParamRef",
        "ParamRef indicates the param resource which sets the configuration param",
    ),
    columns::AGE,
];

/// The kind `ValidatingAdmissionPolicyBinding`.
pub struct ValidatingAdmissionPolicyBinding;

impl Kind for ValidatingAdmissionPolicyBinding {
    type Object = Validating;
    const NAMES: Names = Names {
        categories: kind::Words::Fixed(&["api-extensions"]),
        ..Names::new(
            "admissionregistration.k8s.io",
            "v1",
            "ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybindings",
            "validatingadmissionpolicybinding",
        )
    };
    const SCOPE: Scope = Scope::Cluster;
    const COLUMNS: &'static [Column] = COLUMNS;
    const HAS_GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(object: &mut Validating) {
        if let Some(resources) = object.spec.match_resources.as_mut() {
            matching::default_match_resources(resources);
        }
    }

    fn validate_create(_context: &Context, new: &Validating) -> ErrorList {
        let mut errors = validating(new);
        not_static(&mut errors, new.metadata.name.text());
        errors
    }

    fn validate_update(
        _context: &Context,
        _part: Part,
        new: &Validating,
        _old: &Validating,
    ) -> ErrorList {
        validating(new)
    }

    fn row(object: &Validating, tree: &Object, now: Timestamp) -> Row {
        let spec = &object.spec;
        row(&spec.policy_name, spec.param_ref.as_ref(), tree, now)
    }
}

/// The kind `MutatingAdmissionPolicyBinding`.
pub struct MutatingAdmissionPolicyBinding;

impl Kind for MutatingAdmissionPolicyBinding {
    type Object = Mutating;
    const NAMES: Names = Names {
        categories: kind::Words::Fixed(&["api-extensions"]),
        ..Names::new(
            "admissionregistration.k8s.io",
            "v1",
            "MutatingAdmissionPolicyBinding",
            "mutatingadmissionpolicybindings",
            "mutatingadmissionpolicybinding",
        )
    };
    const SCOPE: Scope = Scope::Cluster;
    const COLUMNS: &'static [Column] = COLUMNS;
    const HAS_GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(object: &mut Mutating) {
        let spec = object.spec.as_mut();
        if let Some(resources) = spec.and_then(|s| s.match_resources.as_mut()) {
            matching::default_match_resources(resources);
        }
    }

    fn validate_create(_context: &Context, new: &Mutating) -> ErrorList {
        let mut errors = mutating(new);
        not_static(&mut errors, new.metadata.name.text());
        errors
    }

    fn validate_update(
        _context: &Context,
        _part: Part,
        new: &Mutating,
        _old: &Mutating,
    ) -> ErrorList {
        mutating(new)
    }

    fn row(object: &Mutating, tree: &Object, now: Timestamp) -> Row {
        let spec = object.spec.clone().unwrap_or_default();
        row(spec.policy_name.text(), spec.param_ref.as_ref(), tree, now)
    }
}

/// Everything wrong with a binding.
fn validating(new: &Validating) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (&new.spec, Path::new("spec"));
    policy_name(&mut errors, &path, &spec.policy_name);
    param_ref(
        &mut errors,
        &path.child("paramRef"),
        spec.param_ref.as_ref(),
    );
    let at = path.child("matchResources");
    matching::match_resources(&mut errors, &at, spec.match_resources.as_ref());
    actions(
        &mut errors,
        &path.child("validationActions"),
        &spec.validation_actions,
    );
    errors
}

/// Everything wrong with a binding.
fn mutating(new: &Mutating) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (new.spec.clone().unwrap_or_default(), Path::new("spec"));
    policy_name(&mut errors, &path, spec.policy_name.text());
    param_ref(
        &mut errors,
        &path.child("paramRef"),
        spec.param_ref.as_ref(),
    );
    let at = path.child("matchResources");
    matching::match_resources(&mut errors, &at, spec.match_resources.as_ref());
    if let Some(resources) = &spec.match_resources {
        mutatingadmissionpolicy::only_mutable(&mut errors, &at, resources.resource_rules.items());
    }
    errors
}

fn row(policy: &str, params: Option<&ParamRef>, tree: &Object, now: Timestamp) -> Row {
    let params = params.map_or_else(
        || "<unset>".to_owned(),
        |p| match (p.name.text(), p.namespace.text(), &p.selector) {
            ("", _, Some(selector)) => json(selector).to_string(),
            ("", _, None) => "<unset>".to_owned(),
            (name, "", _) => format!("*/{name}"),
            (name, namespace, _) => format!("{namespace}/{name}"),
        },
    );
    Row::from(vec![
        tree.name().into(),
        policy.into(),
        params.into(),
        kind::age(tree, now).into(),
    ])
}

fn policy_name(errors: &mut ErrorList, path: &Path, name: &str) {
    let at = path.child("policyName");
    if errors.required_text(&at, name, "") {
        errors.invalid_each(&at, name, names::dns1123_subdomain(name));
    }
}

fn param_ref(errors: &mut ErrorList, path: &Path, reference: Option<&ParamRef>) {
    let Some(reference) = reference else { return };
    let (name, selector) = (reference.name.text(), reference.selector.as_ref());
    let exclusive = "name and selector are mutually exclusive";
    if !name.is_empty() {
        let at = path.child("name");
        errors.invalid_each(&at, name, names::path_segment_name(name));
        if selector.is_some() {
            errors.forbidden(&at, exclusive);
        }
    }
    if selector.is_some() {
        let at = path.child("selector");
        check::label_selector(errors, &at, selector);
        if !name.is_empty() {
            errors.forbidden(&at, exclusive);
        }
    }
    if name.is_empty() && selector.is_none() {
        errors.required(path, "one of name or selector must be specified");
    }
    let (action, at) = (
        reference.parameter_not_found_action.text(),
        path.child("parameterNotFoundAction"),
    );
    if errors.required_text(&at, action, "") {
        errors.one_of(&at, action, &["Deny", "Allow"]);
    }
}

fn actions(errors: &mut ErrorList, path: &Path, actions: &[String]) {
    let mut seen = BTreeSet::new();
    for (index, action) in actions.iter().enumerate() {
        let at = path.index(index);
        errors.one_of(&at, action, ACTIONS);
        if !seen.insert(action.as_str()) {
            errors.duplicate(&at, action.as_str());
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.invalid(path, json(&actions), why);
    }
    if seen.is_empty() {
        errors.required(path, "");
    }
}
