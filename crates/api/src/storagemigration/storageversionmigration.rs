//! StorageVersionMigration: everything of a resource is to be written anew, in the version and the encryption of today.
//!
//! Upstream: `pkg/registry/storagemigration`, `pkg/apis/storagemigration/validation`.

use jiff::Timestamp;
use k8s_openapi::api::storagemigration::v1::StorageVersionMigration as Typed;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, GroupResource};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names};

use crate::check::{self, ErrorListExt, IMMUTABLE};
use crate::columns;
use crate::kind::{Context, Kind, Names, Part, Scope, Subresource};
use crate::view::{Items, OrEmpty};

/// The condition of one that is worked on.
pub const RUNNING: &str = "Running";
/// The condition of one that is done.
pub const SUCCEEDED: &str = "Succeeded";
/// The condition of one that was given up.
pub const FAILED: &str = "Failed";

/// The kind `StorageVersionMigration`.
pub struct StorageVersionMigration;

impl Kind for StorageVersionMigration {
    type Object = Typed;
    const NAMES: Names = Names::new(
        "storagemigration.k8s.io",
        "v1",
        "StorageVersionMigration",
        "storageversionmigrations",
        "storageversionmigration",
    );
    const SCOPE: Scope = Scope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const STATUS_RESETS: &'static [&'static [&'static str]] = crate::kind::METADATA_AND_SPEC;
    const UNCONDITIONAL_UPDATE: bool = false;
    const COLUMNS: &'static [Column] = &[
        Column {
            format: "",
            ..columns::NAME
        },
        columns::text("Resource", "GroupResource to migrate"),
        columns::text("Status", "Status of the migration"),
    ];

    fn prepare_create(_context: &Context, new: &mut Object) {
        new.0.remove("status");
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        let wanted = resource(new);
        let path = Path::new("spec").child("resource");
        let at = path.child("resource");
        if errors.required_text(&at, &wanted.resource, "resource is required to be set") {
            joined(&mut errors, &at, &wanted.resource, names::dns1035_label);
        }
        if !wanted.group.is_empty() {
            let at = path.child("group");
            joined(&mut errors, &at, &wanted.group, names::dns1123_subdomain);
        }
        errors
    }

    fn validate_update(context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        if part == Part::Status {
            return status(new, old);
        }
        let mut errors = Self::validate_create(context, new);
        errors.immutable(&Path::new("spec"), &new.spec, &old.spec);
        errors
    }

    fn row(object: &Typed, tree: &Object, _now: Timestamp) -> Row {
        let wanted = resource(object);
        let shown = match wanted.group.as_str() {
            "" => wanted.resource,
            group => format!("{}.{group}", wanted.resource),
        };
        let known = |c: &&Condition| {
            c.status == "True" && [RUNNING, SUCCEEDED, FAILED].contains(&c.type_.as_str())
        };
        let state = conditions(object).iter().rfind(known);
        Row::from(vec![
            tree.name().into(),
            shown.into(),
            state.map_or("Unknown", |c| c.type_.as_str()).into(),
        ])
    }
}

fn resource(object: &Typed) -> GroupResource {
    let spec = object.spec.as_ref();
    spec.map(|s| s.resource.clone()).unwrap_or_default()
}

/// All problems of one text in one error.
fn joined(errors: &mut ErrorList, path: &Path, value: &str, check: fn(&str) -> Vec<String>) {
    let problems = check(value);
    if !problems.is_empty() {
        errors.invalid(path, value, problems.join(","));
    }
}

fn conditions(object: &Typed) -> &[Condition] {
    object.status.as_ref().map_or(&[], |s| s.conditions.items())
}

fn is(object: &Typed, type_: &str) -> bool {
    let found = conditions(object).iter().find(|c| c.type_ == type_);
    found.is_some_and(|c| c.status == "True")
}

fn status(new: &Typed, old: &Typed) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("status");
    let version = |object: &Typed| {
        let status = object.status.as_ref();
        status.map_or(String::new(), |s| s.resource_version.text().to_owned())
    };
    let (after, before) = (version(new), version(old));
    let at = path.child("resourceVersion");
    if let Some(why) = version_problem(&after) {
        errors.invalid(&at, after.as_str(), why);
    }
    let all = path.child("conditions");
    check::conditions(&mut errors, &all, conditions(new));
    if !before.is_empty() && before != after {
        errors.invalid(&at, after.as_str(), IMMUTABLE);
    }
    let mut wrong = |detail: &str| {
        errors.invalid(&all, check::json(&conditions(new)), detail);
    };
    if is(new, SUCCEEDED) && is(new, FAILED) {
        wrong("Both success and failed conditions cannot be true at the same time");
    }
    if is(old, SUCCEEDED) && !is(new, SUCCEEDED) {
        wrong("Success condition cannot be set to false once it is true");
    }
    if is(old, FAILED) && !is(new, FAILED) {
        wrong("Failed condition cannot be set to false once it is true");
    }
    errors
}

/// Why a text is no resourceVersion; an empty one is none, and fine.
fn version_problem(version: &str) -> Option<String> {
    let digits = version.bytes().all(|b| b.is_ascii_digit());
    if version.is_empty() || (digits && !version.starts_with('0')) {
        return None;
    }
    Some(format!("resource version is not well formed: {version}"))
}
