//! IngressClass: which controller serves an Ingress.
//!
//! Upstream: `pkg/registry/networking/ingressclass`, `ValidateIngressClass*` in `pkg/apis/networking/validation`.

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{
    IngressClass as Typed, IngressClassParametersReference, IngressClassSpec,
};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names};

use crate::check::{self, ErrorListExt};
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope};
use crate::view::{OrEmpty, fill_with};

/// The annotation that makes a class the one of every Ingress that names none.
pub const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
const CONTROLLER_MAX: usize = 250;

/// The kind `IngressClass`.
pub struct IngressClass;

impl Kind for IngressClass {
    type Object = Typed;
    const NAMES: Names = Names::new(
        "networking.k8s.io",
        "v1",
        "IngressClass",
        "ingressclasses",
        "ingressclass",
    );
    const SCOPE: Scope = Scope::Cluster;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "Controller",
            "Controller that is responsible for handling this class",
        ),
        columns::text(
            "Parameters",
            "A reference to a resource with additional parameters",
        ),
        columns::AGE,
    ];
    const HAS_GENERATION: bool = true;

    fn default(object: &mut Typed) {
        let parameters = object.spec.as_mut().and_then(|s| s.parameters.as_mut());
        if let Some(parameters) = parameters {
            fill_with(&mut parameters.scope, "Cluster".to_owned());
        }
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        spec(&mut errors, &new.spec.clone().unwrap_or_default());
        errors
    }

    fn validate_update(context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        let controller = |class: &Typed| {
            let spec = class.spec.as_ref();
            spec.map_or("", |s| s.controller.text()).to_owned()
        };
        let at = Path::new("spec").child("controller");
        errors.immutable(&at, &controller(new), &controller(old));
        errors.append(Self::validate_create(context, new));
        errors
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let spec = object.spec.clone().unwrap_or_default();
        let mut name = tree.name().to_owned();
        if tree.str_at(&["metadata", "annotations", IS_DEFAULT]) == "true" {
            name.push_str(" (default)");
        }
        let parameters = spec.parameters.map_or("<none>".to_owned(), |p| {
            let group = p.api_group.map(|g| format!(".{g}")).unwrap_or_default();
            format!("{}{group}/{}", p.kind, p.name)
        });
        Row::from(vec![
            name.into(),
            spec.controller.text().into(),
            parameters.into(),
            kind::age(tree, now).into(),
        ])
    }
}

fn spec(errors: &mut ErrorList, spec: &IngressClassSpec) {
    let path = Path::new("spec");
    let at = path.child("controller");
    let controller = spec.controller.text();
    if controller.len() > CONTROLLER_MAX {
        errors.too_long(&at, CONTROLLER_MAX);
    }
    check::domain_prefixed_path(errors, &at, controller);
    if let Some(reference) = &spec.parameters {
        parameters(errors, &path.child("parameters"), reference);
    }
}

fn parameters(errors: &mut ErrorList, path: &Path, reference: &IngressClassParametersReference) {
    if let Some(group) = &reference.api_group {
        let messages = names::dns1123_subdomain(group);
        errors.invalid_each(&path.child("apiGroup"), group, messages);
    }
    check::required_path_segment(errors, &path.child("kind"), &reference.kind);
    check::required_path_segment(errors, &path.child("name"), &reference.name);
    let Some(scope) = &reference.scope else {
        return errors.required(&path.child("scope"), "");
    };
    let at = path.child("namespace");
    match (scope.as_str(), &reference.namespace) {
        ("Namespace", None) => errors.required(&at, "`parameters.scope` is set to 'Namespace'"),
        ("Namespace", Some(namespace)) => {
            errors.invalid_each(&at, namespace, names::dns1123_label(namespace));
        }
        ("Cluster", None) => {}
        ("Cluster", Some(_)) => errors.forbidden(&at, "`parameters.scope` is set to 'Cluster'"),
        (other, _) => {
            errors.not_supported(&path.child("scope"), other, &["Cluster", "Namespace"]);
        }
    }
}
