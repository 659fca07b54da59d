//! What controllers of pods share: their template, their replica counts, their columns.

use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery::table::Column;
use machinery::{ErrorList, Object, Path, names};
use serde_json::Value;

use crate::check::{self, ErrorListExt};
use crate::columns;
use crate::core::pod::{disabled, validation};
use crate::kind::Subresource;
use crate::view::OrEmpty;

const MORE_THAN_REPLICAS: &str = "cannot be greater than status.replicas";

/// The sub-resource `scale` of every controller with replicas.
pub const SCALE: Subresource = Subresource::Scale {
    spec_replicas: &["spec", "replicas"],
    status_replicas: &["status", "replicas"],
    selector: &["spec", "selector"],
};

/// The wide columns about the template.
pub const CONTAINERS: Column =
    columns::wide("Containers", "Names of each container in the template.");
/// The wide columns about the template.
pub const IMAGES: Column = columns::wide(
    "Images",
    "Images referenced by each container in the template.",
);

/// Names and images of a template's containers, joined by commas.
pub fn containers_and_images(template: Option<&PodTemplateSpec>) -> [Value; 2] {
    let containers = template
        .and_then(|t| t.spec.as_ref())
        .map_or(&[][..], |s| &s.containers);
    let join = |pick: fn(&Container) -> &str| {
        Value::from(containers.iter().map(pick).collect::<Vec<_>>().join(","))
    };
    [join(|c| &c.name), join(|c| c.image.text())]
}

/// Drops from the template of a controller what stands behind closed gates.
pub(crate) fn drop_disabled(object: &mut Object) {
    let template = object
        .0
        .get_mut("spec")
        .and_then(|spec| spec.get_mut("template"));
    disabled::drop_disabled(template.and_then(|template| template.get_mut("spec")));
}

/// Labels of a template.
pub fn template_labels(
    template: &PodTemplateSpec,
) -> Option<&std::collections::BTreeMap<String, String>> {
    template.metadata.as_ref().and_then(|m| m.labels.as_ref())
}

/// A template whose pods are meant to run for ever.
pub fn template(
    errors: &mut ErrorList,
    path: &Path,
    kind: &str,
    template: &PodTemplateSpec,
    old: Option<&PodSpec>,
) {
    validation::template(errors, path, template, old);
    runs_for_ever(errors, path, kind, template);
}

/// The pods of a template are started again, and have no deadline.
pub fn runs_for_ever(errors: &mut ErrorList, path: &Path, kind: &str, template: &PodTemplateSpec) {
    let at = path.child("spec");
    let policy = template
        .spec
        .as_ref()
        .map_or("", |s| s.restart_policy.text());
    errors.one_of(&at.child("restartPolicy"), policy, &["Always"]);
    if template
        .spec
        .as_ref()
        .is_some_and(|s| s.active_deadline_seconds.is_some())
    {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.forbidden(&at.child("activeDeadlineSeconds"), detail);
    }
}

/// The error when a selector would not select the pods made from the template.
pub fn selector_mismatch(errors: &mut ErrorList, path: &Path, template: &PodTemplateSpec) {
    let at = path.child("metadata").child("labels");
    let shown = check::json(&template_labels(template));
    errors.invalid(&at, shown, "`selector` does not match template `labels`");
}

/// Counts of a status.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// `status.replicas`
    pub replicas: i32,
    /// `status.readyReplicas`
    pub ready: i32,
    /// `status.availableReplicas`
    pub available: i32,
    /// `status.observedGeneration`
    pub observed_generation: i64,
    /// `status.fullyLabeledReplicas` or `status.updatedReplicas`, with its name.
    pub other: (&'static str, i32),
    /// `status.terminatingReplicas`
    pub terminating: Option<i32>,
}

/// Counts that are not negative and fit each other.
pub fn counts(errors: &mut ErrorList, counts: &Counts) {
    let path = Path::new("status");
    let all = [
        ("replicas", i64::from(counts.replicas)),
        (counts.other.0, i64::from(counts.other.1)),
        ("readyReplicas", i64::from(counts.ready)),
        ("availableReplicas", i64::from(counts.available)),
        ("observedGeneration", counts.observed_generation),
        (
            "terminatingReplicas",
            i64::from(counts.terminating.unwrap_or(0)),
        ),
    ];
    for (key, count) in all {
        errors.not_negative(&path.child(key), count);
    }
    let parts = [
        counts.other,
        ("readyReplicas", counts.ready),
        ("availableReplicas", counts.available),
    ];
    for (key, count) in parts
        .into_iter()
        .filter(|(_, count)| *count > counts.replicas)
    {
        errors.invalid(&path.child(key), count, MORE_THAN_REPLICAS);
    }
    if counts.available > counts.ready {
        let at = path.child("availableReplicas");
        errors.invalid(
            &at,
            counts.available,
            "cannot be greater than readyReplicas",
        );
    }
}

/// The warning about a name that makes bad host names of pods.
pub fn name_warning(name: &str) -> Option<String> {
    let messages = names::dns1123_label(name);
    (!messages.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS \
             label is recommended: [{}]",
            messages.join(" ")
        )
    })
}

/// Warnings about a controller's name and template.
pub fn warnings(name: &str, template: Option<&PodTemplateSpec>) -> Vec<String> {
    let about_template = template_warnings(template, &Path::new("spec").child("template"));
    name_warning(name)
        .into_iter()
        .chain(about_template)
        .collect()
}

/// Warnings about a template at `path`.
pub fn template_warnings(template: Option<&PodTemplateSpec>, path: &Path) -> Vec<String> {
    let spec = template.and_then(|t| t.spec.as_ref());
    let metadata = template.and_then(|t| t.metadata.as_ref());
    validation::warnings::template(spec, metadata, path)
}

/// Warnings about the template of an object that is written anew: only where its owner's specification changed.
pub fn changed_template_warnings(
    new: &ObjectMeta,
    old: &ObjectMeta,
    template: Option<&PodTemplateSpec>,
    path: &Path,
) -> Vec<String> {
    match new.generation == old.generation {
        true => Vec::new(),
        false => template_warnings(template, path),
    }
}

/// A collision count only grows.
pub fn collisions(errors: &mut ErrorList, new: Option<i32>, old: Option<i32>) {
    let at = Path::new("status").child("collisionCount");
    let count = new.unwrap_or(0);
    errors.not_negative(&at, i64::from(count));
    if old.is_some_and(|old| new.is_none_or(|new| new < old)) {
        errors.invalid(&at, count, "cannot be decremented");
    }
}
