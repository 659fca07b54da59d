//! Expressions of policies and webhooks, and what they are given.
//!
//! Upstream: `validateMatchCondition*`, `validateVariable`, `validateParamKind` in
//! `pkg/apis/admissionregistration/validation`.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use k8s_openapi::api::admissionregistration::v1::{MatchCondition, ParamKind, Variable};
use machinery::cel::environment::{Environment, Options};
use machinery::cel::{RESERVED, Type};
use machinery::{ErrorList, Path, names};

use crate::check::ErrorListExt;
use crate::view::OrEmpty;

const MAX_CONDITIONS: usize = 64;

/// Everything wrong with conditions; `params` says whether they may use `params`.
pub fn match_conditions(
    errors: &mut ErrorList,
    path: &Path,
    conditions: &[MatchCondition],
    params: bool,
) {
    if conditions.len() > MAX_CONDITIONS {
        errors.too_many(path, conditions.len(), MAX_CONDITIONS);
    }
    let environment = LazyLock::new(|| {
        Environment::admission(Options {
            params,
            authorizer: true,
        })
    });
    let mut seen = BTreeSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        let at = path.child("expression");
        let text = condition.expression.trim();
        if errors.required_text(&at, text, "") {
            compiles(errors, &at, text, &environment, &[Type::Bool]);
        }
        let at = path.child("name");
        if errors.required_text(&at, &condition.name, "") {
            let name = &condition.name;
            errors.invalid_each(&at, name, names::qualified_name(name));
            if !seen.insert(name) {
                errors.duplicate(&at, name.as_str());
            }
        }
    }
}

/// What is wrong with an expression that has to give one of some types.
pub(super) fn compiles(
    errors: &mut ErrorList,
    path: &Path,
    text: &str,
    environment: &Environment<'_>,
    wanted: &[Type<'_>],
) {
    if let Err(why) = environment.compile(text, wanted) {
        errors.invalid(path, text, why);
    }
}

/// Everything wrong with variables; each is declared in the environments for the expressions after it.
pub(super) fn variables(
    errors: &mut ErrorList,
    path: &Path,
    variables: &[Variable],
    environment: &mut Environment<'_>,
) {
    for (index, variable) in variables.iter().enumerate() {
        let path = path.index(index);
        let (name, at) = (&variable.name, path.child("name"));
        if errors.required_text(&at, name.trim(), "name is not specified") && !is_identifier(name) {
            errors.invalid(&at, name.as_str(), "must be a valid CEL identifier");
        }
        let (text, at) = (&variable.expression, path.child("expression"));
        if errors.required_text(&at, text.trim(), "expression is not specified")
            && let Err(why) = environment.compose(name, text)
        {
            errors.invalid(&at, text.as_str(), why);
        }
    }
}

fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars
        .next()
        .is_some_and(|c| c == '_' || c.is_ascii_alphabetic())
        && chars.all(|c| c == '_' || c.is_ascii_alphanumeric())
        && !RESERVED.contains(&name)
}

/// The kind of parameters, as tables show it.
pub(super) fn param_kind_cell(kind: Option<&ParamKind>) -> String {
    kind.map_or_else(
        || "<unset>".to_owned(),
        |p| format!("{}/{}", p.api_version.text(), p.kind.text()),
    )
}

/// Everything wrong with the kind of parameters.
pub(super) fn param_kind(errors: &mut ErrorList, path: &Path, kind: &ParamKind) {
    let (version, at) = (kind.api_version.text(), path.child("apiVersion"));
    if errors.required_text(&at, version, "") {
        match version.split('/').collect::<Vec<_>>().as_slice() {
            ["", ""] => errors.invalid(&at, version, "version must be specified"),
            [own] => api_version(errors, &at, "", own, version),
            [group, own] => api_version(errors, &at, group, own, version),
            _ => {
                let why = format!("unexpected GroupVersion string: {version}");
                errors.invalid(&at, version, why);
            }
        }
    }
    let (name, at) = (kind.kind.text(), path.child("kind"));
    if errors.required_text(&at, name, "") {
        let wrong = names::dns1035_label(&name.to_lowercase());
        if !wrong.is_empty() {
            let why = wrong.join(",");
            let why = format!("may have mixed case, but should otherwise match: {why}");
            errors.invalid(&at, name, why);
        }
    }
}

fn api_version(errors: &mut ErrorList, at: &Path, group: &str, version: &str, whole: &str) {
    let wrong = names::dns1123_subdomain(group);
    if !group.is_empty() && !wrong.is_empty() {
        errors.invalid(at, group, wrong.join(","));
    }
    if version.is_empty() {
        errors.invalid(at, whole, "version must be specified");
        return;
    }
    let wrong = names::dns1035_label(version);
    if !wrong.is_empty() {
        errors.invalid(at, version, wrong.join(","));
    }
}
