//! ValidatingAdmissionPolicy: rules in CEL that writes keep to, once a binding puts them in force.
//!
//! Upstream: `pkg/registry/admissionregistration/validatingadmissionpolicy`, `validateValidatingAdmissionPolicy*` in
//! `pkg/apis/admissionregistration/validation`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    AuditAnnotation, ValidatingAdmissionPolicy as Typed, ValidatingAdmissionPolicySpec, Validation,
};
use machinery::cel::Type;
use machinery::cel::environment::{Environment, Options};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names};

use super::expressions::{self, compiles};
use super::matching;
use super::webhook::not_static;
use crate::check::{self, ErrorListExt, json};
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::{Items, OrEmpty, fill_with};

const MAX_ANNOTATIONS: usize = 20;
const MAX_ANNOTATION_EXPRESSION: usize = 5 * 1024;
const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge"];

/// The kind `ValidatingAdmissionPolicy`.
pub struct ValidatingAdmissionPolicy;

impl Kind for ValidatingAdmissionPolicy {
    type Object = Typed;
    const NAMES: Names = Names {
        categories: kind::Words::Fixed(&["api-extensions"]),
        ..Names::new(
            "admissionregistration.k8s.io",
            "v1",
            "ValidatingAdmissionPolicy",
            "validatingadmissionpolicies",
            "validatingadmissionpolicy",
        )
    };
    const SCOPE: Scope = Scope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const STATUS_RESETS: &'static [&'static [&'static str]] = crate::kind::METADATA_AND_SPEC;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::integer(
            "Validations",
            "Validations indicates the number of validation rules defined in this configuration",
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

    fn prepare_create(_context: &Context, new: &mut Object) {
        new.0.insert("status".into(), serde_json::json!({}));
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = policy(new, false);
        not_static(&mut errors, new.metadata.name.text());
        errors
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        if part == Part::Status {
            return status(new);
        }
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
            spec.map_or(0, |s| s.validations.items().len()).into(),
            params.into(),
            kind::age(tree, now).into(),
        ])
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
    let params = spec.param_kind.is_some();
    if !old_conditions {
        let at = path.child("matchConditions");
        expressions::match_conditions(&mut errors, &at, spec.match_conditions.items(), params);
    }
    let name = policy.metadata.name.text();
    rules(&mut errors, &path, name, &spec);
    errors
}

fn rules(errors: &mut ErrorList, path: &Path, name: &str, spec: &ValidatingAdmissionPolicySpec) {
    let params = spec.param_kind.is_some();
    let environment = |authorizer| Environment::admission(Options { params, authorizer });
    let (mut full, mut message) = (environment(true), environment(false));
    let variables = spec.variables.items();
    if !variables.is_empty() {
        full = full.composed();
        expressions::variables(errors, &path.child("variables"), variables, &mut full);
        message = message.composed_as(&full);
    }
    let (validations, annotations) = (spec.validations.items(), spec.audit_annotations.items());
    if validations.is_empty() && annotations.is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        errors.required(&path.child("validations"), why);
        errors.required(&path.child("auditAnnotations"), why);
        return;
    }
    for (index, rule) in validations.iter().enumerate() {
        let at = path.child("validations").index(index);
        validation(errors, &at, rule, &full, &message);
    }
    let path = path.child("auditAnnotations");
    if annotations.len() > MAX_ANNOTATIONS {
        let why = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
        errors.invalid(&path, json(&annotations), why);
    }
    let mut keys = BTreeSet::new();
    for (index, annotation) in annotations.iter().enumerate() {
        let path = path.index(index);
        audit_annotation(errors, &path, name, annotation, &full);
        if !keys.insert(&annotation.key) {
            errors.duplicate(&path.child("key"), annotation.key.as_str());
        }
    }
}

fn validation(
    errors: &mut ErrorList,
    path: &Path,
    rule: &Validation,
    full: &Environment<'_>,
    message: &Environment<'_>,
) {
    let (text, at) = (&rule.expression, path.child("expression"));
    if errors.required_text(&at, text.trim(), "expression is not specified") {
        compiles(errors, &at, text, full, &[Type::Bool]);
    }
    let blank = |text: &str| !text.is_empty() && text.trim().is_empty();
    let (text, at) = (
        rule.message_expression.text(),
        path.child("messageExpression"),
    );
    if blank(text) {
        errors.invalid(&at, text, "must be non-empty if specified");
    } else if !text.is_empty() {
        compiles(errors, &at, text, message, &[Type::String]);
    }
    let (text, at) = (rule.message.text(), path.child("message"));
    if blank(text) {
        errors.invalid(&at, text, "must be non-empty if specified");
    } else if text.trim().contains(['\n', '\r']) {
        errors.invalid(&at, text, "must not contain line breaks");
    }
    if let Some(reason) = rule.reason.as_deref() {
        errors.one_of(&path.child("reason"), reason, REASONS);
    }
}

fn audit_annotation(
    errors: &mut ErrorList,
    path: &Path,
    name: &str,
    annotation: &AuditAnnotation,
    environment: &Environment<'_>,
) {
    let (key, at) = (&annotation.key, path.child("key"));
    if name.is_empty() {
        errors.invalid(&at, key.as_str(), "requires metadata.name be non-empty");
    } else {
        let whole = format!("{name}/{key}");
        errors.invalid_each(&at, &whole, names::qualified_name(&whole));
    }
    let (text, at) = (
        annotation.value_expression.trim(),
        path.child("valueExpression"),
    );
    if !errors.required_text(&at, text, "valueExpression is not specified") {
    } else if text.len() > MAX_ANNOTATION_EXPRESSION {
        let why = format!("must not exceed {MAX_ANNOTATION_EXPRESSION} bytes in length");
        errors.required(&at, why);
    } else if let Err(why) = environment.compile(text, &[Type::String, Type::Null]) {
        errors.invalid(&at, annotation.value_expression.as_str(), why);
    }
}

fn status(policy: &Typed) -> ErrorList {
    let mut errors = ErrorList::new();
    let status = policy.status.clone().unwrap_or_default();
    let path = Path::new("status");
    let warnings = status.type_checking.unwrap_or_default().expression_warnings;
    let at = path.child("typeChecking").child("expressionWarnings");
    for (index, warning) in warnings.items().iter().enumerate() {
        let at = at.index(index);
        errors.required_text(&at.child("warning"), &warning.warning, "");
        let field = warning.field_ref.trim();
        let at = at.child("fieldRef");
        // Written as errors write fields: without a dot before the first.
        let path = match field.starts_with(['.', '[']) {
            true => field.to_owned(),
            false => format!(".{field}"),
        };
        if errors.required_text(&at, field, "")
            && let Err(why) = machinery::jsonpath::JsonPath::parse(&path)
        {
            errors.invalid(&at, field, format!("invalid JSONPath: {why}"));
        }
    }
    check::conditions(
        &mut errors,
        &path.child("conditions"),
        status.conditions.items(),
    );
    errors
}
