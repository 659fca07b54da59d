//! MutatingAdmissionPolicy: changes in CEL that writes get, once a binding puts them in force.
//!
//! Upstream: `pkg/registry/admissionregistration/mutatingadmissionpolicy`, `validateMutatingAdmissionPolicy*` in
//! `pkg/apis/admissionregistration/validation`.

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy as Typed, Mutation, NamedRuleWithOperations,
};
use machinery::cel::environment::{self, Environment, Options};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};

use super::webhook::not_static;
use super::{expressions, matching};
use crate::check::ErrorListExt;
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope};
use crate::view::{Items, OrEmpty, fill_with};

/// The kind `MutatingAdmissionPolicy`.
pub struct MutatingAdmissionPolicy;

impl Kind for MutatingAdmissionPolicy {
    type Object = Typed;
    const NAMES: Names = Names {
        categories: kind::Words::Fixed(&["api-extensions"]),
        ..Names::new(
            "admissionregistration.k8s.io",
            "v1",
            "MutatingAdmissionPolicy",
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicy",
        )
    };
    const SCOPE: Scope = Scope::Cluster;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::integer(
            "Mutations",
            "Mutation indicates the number of mutations rules defined in this configuration",
        ),
        columns::text(
            "ParamKind",
            "ParamKind specifies the kind of resources used to parameterize this policy",
        ),
        columns::AGE,
    ];
    const HAS_GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(object: &mut Typed) {
        let spec = object.spec.get_or_insert_default();
        fill_with(&mut spec.failure_policy, "Fail".to_owned());
        if let Some(constraints) = spec.match_constraints.as_mut() {
            matching::default_match_resources(constraints);
        }
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = policy(new, false);
        not_static(&mut errors, new.metadata.name.text());
        errors
    }

    fn validate_update(_context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let conditions = |p: &Typed| {
            let spec = p.spec.clone().unwrap_or_default();
            (spec.param_kind, spec.match_conditions)
        };
        policy(new, conditions(new) == conditions(old))
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let spec = object.spec.as_ref();
        let params = expressions::param_kind_cell(spec.and_then(|s| s.param_kind.as_ref()));
        Row::from(vec![
            tree.name().into(),
            spec.map_or(0, |s| s.mutations.items().len()).into(),
            params.into(),
            kind::age(tree, now).into(),
        ])
    }
}

/// The rules of a mutating policy are about writes that have an object: no deletes.
pub(super) fn only_mutable(errors: &mut ErrorList, path: &Path, rules: &[NamedRuleWithOperations]) {
    let at = path.child("resourceRules").child("operations");
    for operation in rules.iter().flat_map(|r| r.operations.items()) {
        errors.one_of(&at, operation, &["*", "CONNECT", "CREATE", "UPDATE"]);
    }
}

/// Everything wrong with a policy; conditions that have not changed may be of any age.
fn policy(policy: &Typed, old_conditions: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = policy.spec.clone().unwrap_or_default();
    let path = Path::new("spec");
    let at = path.child("failurePolicy");
    matching::failure_policy(&mut errors, &at, spec.failure_policy.as_deref());
    if let Some(kind) = &spec.param_kind {
        expressions::param_kind(&mut errors, &path.child("paramKind"), kind);
    }
    let at = path.child("matchConstraints");
    matching::constraints(&mut errors, &at, spec.match_constraints.as_ref());
    if let Some(constraints) = &spec.match_constraints {
        only_mutable(&mut errors, &at, constraints.resource_rules.items());
    }
    let params = spec.param_kind.is_some();
    if !old_conditions {
        let at = path.child("matchConditions");
        expressions::match_conditions(&mut errors, &at, spec.match_conditions.items(), params);
    }
    let options = Options {
        params,
        authorizer: true,
    };
    let mut environment = Environment::admission(options).composed();
    let at = path.child("variables");
    expressions::variables(&mut errors, &at, spec.variables.items(), &mut environment);
    let environment = environment.with_patches();
    let (mutations, at) = (spec.mutations.items(), path.child("mutations"));
    if mutations.is_empty() {
        errors.required(&at, "mutations must contain at least one item");
    }
    for (index, one) in mutations.iter().enumerate() {
        mutation(&mut errors, &at.index(index), one, &environment);
    }
    let (policy, at) = (
        spec.reinvocation_policy.text(),
        path.child("reinvocationPolicy"),
    );
    if errors.required_text(&at, policy, "") {
        errors.one_of(&at, policy, &["IfNeeded", "Never"]);
    }
    errors
}

fn mutation(errors: &mut ErrorList, path: &Path, own: &Mutation, environment: &Environment<'_>) {
    let apply = own
        .apply_configuration
        .as_ref()
        .map(|a| a.expression.text());
    let patch = own.json_patch.as_ref().map(|p| p.expression.text());
    let (used, other, name, other_name, wanted) = match own.patch_type.as_str() {
        "" => return errors.required(&path.child("patchType"), ""),
        "JSONPatch" => (
            patch,
            apply,
            "jsonPatch",
            "applyConfiguration",
            environment::patch_type(),
        ),
        "ApplyConfiguration" => (
            apply,
            patch,
            "applyConfiguration",
            "jsonPatch",
            environment::object_type(),
        ),
        other => {
            let supported = &["ApplyConfiguration", "JSONPatch"];
            return errors.not_supported(&path.child("patchType"), other, supported);
        }
    };
    let kind = &own.patch_type;
    match used {
        None => {
            let why = format!("must be specified when patchType is {kind}");
            errors.required(&path.child(name), why);
        }
        Some(text) => {
            let (text, at) = (text.trim(), path.child(name).child("expression"));
            if errors.required_text(&at, text, "") {
                expressions::compiles(errors, &at, text, environment, &[wanted]);
            }
        }
    }
    if other.is_some() {
        let why = format!("must not be specified when patchType is {kind}");
        errors.invalid(&path.child(other_name), format!("{{{other_name}}}"), why);
    }
}
