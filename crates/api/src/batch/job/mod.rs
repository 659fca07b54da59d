//! Job: pods that run until so many of them have succeeded.
//!
//! Upstream: `pkg/registry/batch/job`, `ValidateJob*` in `pkg/apis/batch/validation`, `printJob`.

pub mod labels;
mod status;
mod validation;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job as Typed, JobSpec, JobStatus};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, labels::Selector};
use serde_json::{Value, json};

use crate::columns;
use crate::core::pod::{defaults, disabled};
use crate::kind::{self, Context, Dependents, Kind, Names, Part, Scope, Subresource};
use crate::view::{Items, OrEmpty, fill, fill_with};
use crate::workload;

pub(super) use validation::template as template_errors;

/// The kind `Job`.
pub struct Job;

impl Kind for Job {
    type Object = Typed;
    const NAMES: Names = Names::new("batch", "v1", "Job", "jobs", "job").in_all();
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text("Status", "Status of the job."),
        columns::text(
            "Completions",
            "The number of pods which reached phase Succeeded. The value \
                                      increases monotonically for a given spec. However, it may \
                                      decrease in reaction to scale down of elastic indexed jobs.",
        ),
        columns::text("Duration", "Time required to complete the job."),
        columns::AGE,
        workload::CONTAINERS,
        workload::IMAGES,
        columns::wide(
            "Selector",
            "A label query over pods that should match the pod count. \
                                   Normally, the system sets this field for you. More info: \
                                   https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
        ),
    ];
    const HAS_GENERATION: bool = true;
    const DEPENDENTS: Dependents = Dependents::Orphaned(
        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set \
         propagationPolicy=Orphan to suppress this warning",
    );
    const SELECTABLE: &'static [&'static str] = &["status.successful"];

    fn default(object: &mut Typed) {
        let spec = object.spec.get_or_insert_default();
        default_template(spec);
        if spec.completions.is_none() && spec.parallelism.is_none() {
            spec.completions = Some(1);
        }
        fill_with(&mut spec.parallelism, 1);
        let limit = match spec.backoff_limit_per_index {
            Some(_) => i32::MAX,
            None => 6,
        };
        fill_with(&mut spec.backoff_limit, limit);
        // What is about to be selected by generated labels takes these along with the template's, when they are made.
        let generates = spec.selector.is_none() && spec.manual_selector != Some(true);
        if !generates
            && object.metadata.labels.as_ref().is_none_or(|l| l.is_empty())
            && let Some(labels) = workload::template_labels(&spec.template)
        {
            object.metadata.labels = Some(labels.clone());
        }
        fill_with(&mut spec.completion_mode, "NonIndexed".to_owned());
        fill_with(&mut spec.suspend, false);
        let replacement = match spec.pod_failure_policy {
            Some(_) => "Failed",
            None => "TerminatingOrFailed",
        };
        fill_with(&mut spec.pod_replacement_policy, replacement.to_owned());
        fill_with(&mut spec.manual_selector, false);
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        if new.at(&["spec", "manualSelector"]) != Some(&Value::Bool(true)) {
            labels::generate(new);
        }
        new.0.insert("status".into(), json!({}));
        drop_disabled(new, &["spec"]);
    }

    fn prepare_update(_context: &Context, part: Part, new: &mut Object, old: &Object) {
        kind::keep_other_part(part, new, old);
        drop_disabled(new, &["spec"]);
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        validation::create(new)
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        match part {
            Part::Status => status::update(new, old),
            _ => validation::update(new, old),
        }
    }

    fn warnings(new: &Typed) -> Vec<String> {
        let about_name = workload::name_warning(new.metadata.name.text());
        let about_spec = warnings(new.spec.as_ref(), &Path::new("spec"));
        about_name.into_iter().chain(about_spec).collect()
    }

    fn update_warnings(_part: Part, new: &Typed, old: &Typed) -> Vec<String> {
        match new.metadata.generation == old.metadata.generation {
            true => Vec::new(),
            false => warnings(new.spec.as_ref(), &Path::new("spec")),
        }
    }

    fn selectable_fields(object: &Object) -> Vec<(&'static str, String)> {
        let succeeded = object.at(&["status", "succeeded"]).and_then(Value::as_i64);
        vec![("status.successful", succeeded.unwrap_or(0).to_string())]
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let spec = object.spec.clone().unwrap_or_default();
        let status = object.status.clone().unwrap_or_default();
        let [containers, images] = workload::containers_and_images(Some(&spec.template));
        Row::from(vec![
            tree.name().into(),
            state(object, &status).into(),
            completions(&spec, &status).into(),
            duration(&status, now).into(),
            kind::age(tree, now).into(),
            containers,
            images,
            format_selector(&spec).into(),
        ])
    }
}

/// Defaults of the pods of a Job, its failure policy included; those of a CronJob's template too.
pub(super) fn default_template(spec: &mut JobSpec) {
    defaults::template(&mut spec.template);
    let policy = spec.pod_failure_policy.as_mut();
    for rule in policy.map(|p| &mut p.rules).into_iter().flatten() {
        for pattern in rule.on_pod_conditions.iter_mut().flatten() {
            fill(&mut pattern.status, "True");
        }
    }
}

/// Drops what stands behind closed gates from the specification of a Job at `path`: `scheduling` (`WorkloadWithJob`) and
/// what pods may not have.
pub(super) fn drop_disabled(object: &mut Object, path: &[&str]) {
    if !object.at(path).is_some_and(Value::is_object) {
        return;
    }
    let spec = object.object_at_mut(path);
    spec.remove("scheduling");
    disabled::drop_disabled(spec.get_mut("template").and_then(|t| t.get_mut("spec")));
}

/// Warnings about the specification of a Job at `path`.
pub(super) fn warnings(spec: Option<&JobSpec>, path: &Path) -> Vec<String> {
    const TOO_MANY: &str = "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than \
        10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail";
    let Some(spec) = spec else { return Vec::new() };
    let mut warnings = Vec::new();
    let (completions, parallelism) = (spec.completions.unwrap_or(0), spec.parallelism.unwrap_or(0));
    if spec.completion_mode.text() == "Indexed" && completions > 100_000 && parallelism > 10_000 {
        warnings.push(format!("{path}: {TOO_MANY}"));
    }
    warnings.extend(workload::template_warnings(
        Some(&spec.template),
        &path.child("template"),
    ));
    warnings
}

/// Whether the condition is there and true.
pub fn has_condition(status: Option<&JobStatus>, name: &str) -> bool {
    let conditions = status.map_or(&[][..], |s| s.conditions.items());
    conditions
        .iter()
        .any(|c| c.type_ == name && c.status == "True")
}

fn state(job: &Typed, status: &JobStatus) -> &'static str {
    let has = |name| has_condition(Some(status), name);
    match () {
        () if has("Complete") => "Complete",
        () if has("Failed") => "Failed",
        () if job.metadata.deletion_timestamp.is_some() => "Terminating",
        () if has("Suspended") => "Suspended",
        () if has("FailureTarget") => "FailureTarget",
        () if has("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(spec: &JobSpec, status: &JobStatus) -> String {
    let succeeded = status.succeeded.unwrap_or(0);
    match (spec.completions, spec.parallelism.unwrap_or(0)) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(status: &JobStatus, now: Timestamp) -> String {
    let Some(start) = columns::moment(status.start_time.as_ref()) else {
        return String::new();
    };
    let end = columns::moment(status.completion_time.as_ref()).unwrap_or(now);
    machinery::time::human_duration(end.duration_since(start))
}

/// The selector as the columns show it.
pub(super) fn format_selector(spec: &JobSpec) -> String {
    match Selector::from_optional(spec.selector.as_ref()) {
        Ok(selector) if selector.is_everything() || selector.is_nothing() => "<none>".to_owned(),
        Ok(selector) => selector.to_string(),
        Err(_) => "<error>".to_owned(),
    }
}
