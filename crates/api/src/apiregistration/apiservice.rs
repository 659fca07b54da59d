//! APIService: who serves a group version, this server or another one behind a service.
//!
//! Upstream: `k8s.io/kube-aggregator/pkg/registry/apiservice`, `.../pkg/apis/apiregistration/{v1,validation}`.

use jiff::Timestamp;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{
    APIService as Typed, APIServiceSpec,
};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names, time};
use serde_json::{Value, json};

use crate::check::ErrorListExt;
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource, Words};
use crate::view::{Items, OrEmpty, Yes, fill_with};

/// The port of a server that does not say which.
const DEFAULT_PORT: i32 = 443;

/// The kind `APIService`.
pub struct ApiService;

impl Kind for ApiService {
    type Object = Typed;
    const NAMES: Names = Names {
        categories: Words::Fixed(&["api-extensions"]),
        ..Names::new(
            "apiregistration.k8s.io",
            "v1",
            "APIService",
            "apiservices",
            "apiservice",
        )
    };
    const SCOPE: Scope = Scope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const STATUS_RESETS: &'static [&'static [&'static str]] = crate::kind::METADATA_AND_SPEC;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "Service",
            "The reference to the service that hosts this API endpoint.",
        ),
        columns::text("Available", "Whether this service is available."),
        columns::AGE,
    ];
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(object: &mut Typed) {
        if let Some(service) = object.spec.as_mut().and_then(|s| s.service.as_mut()) {
            fill_with(&mut service.port, DEFAULT_PORT);
        }
    }

    fn prepare_create(context: &Context, new: &mut Object) {
        let local = new.at(&["spec", "service"]).is_none();
        let status = match local {
            false => json!({}),
            true => json!({"conditions": [{
                "type": "Available", "status": "True", "reason": "Local",
                "message": "Local APIServices are always available",
                "lastTransitionTime": time::rfc3339(context.now),
            }]}),
        };
        kind::set_or_remove(new, "status", Some(status));
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        validate(new)
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, _old: &Typed) -> ErrorList {
        if part != Part::Status {
            return validate(new);
        }
        let mut errors = ErrorList::new();
        let status = new.status.as_ref();
        let conditions = status.map_or(&[][..], |s| s.conditions.items());
        let path = Path::new("status").child("conditions");
        for (i, condition) in conditions.iter().enumerate() {
            let at = path.index(i).child("status");
            errors.one_of(&at, &condition.status, &["True", "False", "Unknown"]);
        }
        errors
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        kind::path_segment(name, prefix)
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let service = object.spec.as_ref().and_then(|s| s.service.as_ref());
        let shown = service.map_or("Local".to_owned(), |s| {
            format!("{}/{}", s.namespace.text(), s.name.text())
        });
        Row::from(vec![
            tree.name().into(),
            shown.into(),
            available(object),
            kind::age(tree, now).into(),
        ])
    }
}

/// Whether it is available, with the reason why not.
fn available(object: &Typed) -> Value {
    let status = object.status.as_ref();
    let conditions = status.map_or(&[][..], |s| s.conditions.items());
    let found = conditions.iter().find(|c| c.type_ == "Available");
    match found {
        None => "Unknown".into(),
        Some(c) if c.status == "True" => "True".into(),
        Some(c) => format!("{} ({})", c.status, c.reason.text()).into(),
    }
}

fn validate(object: &Typed) -> ErrorList {
    let mut errors = ErrorList::new();
    let empty = APIServiceSpec::default();
    let spec = object.spec.as_ref().unwrap_or(&empty);
    let (group, version) = (spec.group.text(), spec.version.text());
    let (name, required) = (object.metadata.name.text(), format!("{version}.{group}"));
    if name != required && !name.is_empty() {
        let why = format!("must be `spec.version+\".\"+spec.group`: {required:?}");
        errors.invalid(&Path::new("metadata").child("name"), name, why);
    }
    let path = Path::new("spec");
    let at = path.child("group");
    if group.is_empty() && version != "v1" {
        let why = "only v1 may have an empty group and it better be legacy kube";
        errors.required(&at, why);
    }
    if !group.is_empty() {
        errors.invalid_each(&at, group, names::dns1123_subdomain(group));
    }
    errors.invalid_each(
        &path.child("version"),
        version,
        names::dns1035_label(version),
    );
    let priorities = [
        ("groupPriorityMinimum", spec.group_priority_minimum, 20_000),
        ("versionPriority", spec.version_priority, 1000),
    ];
    for (field, value, most) in priorities {
        if value <= 0 || value > most {
            let why = format!("must be positive and less than {most}");
            errors.invalid(&path.child(field), value, why);
        }
    }
    validate_service(&mut errors, &path, spec);
    errors
}

fn validate_service(errors: &mut ErrorList, path: &Path, spec: &APIServiceSpec) {
    let bundle = spec.ca_bundle.as_ref().map_or(0, |bundle| bundle.0.len());
    let insecure = path.child("insecureSkipTLSVerify");
    let Some(service) = &spec.service else {
        if bundle > 0 {
            let why = "local APIServices may not have a caBundle";
            errors.invalid(&path.child("caBundle"), format!("{bundle} bytes"), why);
        }
        if spec.insecure_skip_tls_verify.yes() {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            errors.invalid(&insecure, true, why);
        }
        return;
    };
    let path = path.child("service");
    errors.required_text(&path.child("namespace"), service.namespace.text(), "");
    errors.required_text(&path.child("name"), service.name.text(), "");
    let port = service.port.unwrap_or(0);
    let problems = names::port_number(port.into());
    if !problems.is_empty() {
        let why = format!("port is not valid: {}", problems.join(", "));
        errors.invalid(&path.child("port"), port, why);
    }
    if spec.insecure_skip_tls_verify.yes() && bundle > 0 {
        let why = "may not be true if caBundle is present";
        errors.invalid(&insecure, true, why);
    }
}
