//! What a Job must look like, and what may change.

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule, SuccessPolicyRule,
};
use k8s_openapi::api::core::v1::{Affinity, Container, PodSpec};
use machinery::labels::Selector;
use machinery::{ErrorList, Path, names};

use super::{has_condition, labels};
use crate::batch::indexes;
use crate::check::{self, ErrorListExt};
use crate::core::pod::validation;
use crate::view::{Items, OrEmpty, Yes};
use crate::workload;

const MAX_PARALLELISM: i32 = 100_000;
const MAX_FAILED_INDEXES: i32 = 100_000;
/// Above so many completions, a back-off limit per index asks for tighter bounds.
const MANY_COMPLETIONS: i32 = 100_000;
const BOUND_FOR_MANY: i32 = 10_000;
const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_PATTERNS: usize = 20;
const MAX_MANAGED_BY: usize = 63;
const MAX_INDEXES_TEXT: usize = 64 * 1024;

fn spec_of(job: &Job) -> JobSpec {
    job.spec.clone().unwrap_or_default()
}

pub(super) fn create(job: &Job) -> ErrorList {
    let mut errors = ErrorList::new();
    labels::validate(&mut errors, job);
    whole(&mut errors, &spec_of(job), None);
    host_names(&mut errors, job);
    errors
}

pub(super) fn update(new: &Job, old: &Job) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("spec");
    let (spec, before) = (spec_of(new), spec_of(old));
    whole(&mut errors, &spec, Some(&before));
    completions_change(&mut errors, &path.child("completions"), &spec, &before);
    errors.immutable(&path.child("selector"), &spec.selector, &before.selector);
    template_change(&mut errors, &path.child("template"), &spec, &before, old);
    let at = path.child("completionMode");
    errors.immutable(&at, &spec.completion_mode, &before.completion_mode);
    let at = path.child("podFailurePolicy");
    errors.immutable(&at, &spec.pod_failure_policy, &before.pod_failure_policy);
    let (limit, limit_before) = (spec.backoff_limit_per_index, before.backoff_limit_per_index);
    errors.immutable(&path.child("backoffLimitPerIndex"), &limit, &limit_before);
    let at = path.child("managedBy");
    errors.immutable(&at, &spec.managed_by, &before.managed_by);
    let at = path.child("successPolicy");
    errors.immutable(&at, &spec.success_policy, &before.success_policy);
    host_names(&mut errors, new);
    errors
}

/// Pods of an indexed Job are called after their index, which must fit in a host name.
fn host_names(errors: &mut ErrorList, job: &Job) {
    let Some(spec) = &job.spec else { return };
    let completions = spec.completions.unwrap_or(0);
    if spec.completion_mode.text() != "Indexed" || completions <= 0 {
        return;
    }
    let name = job.metadata.name.text();
    let longest = format!("{name}-{}", completions - 1);
    if !names::dns1123_label(&longest).is_empty() {
        let detail = format!("will not able to create pod with invalid DNS label: {longest}");
        errors.invalid(&Path::new("metadata").child("name"), name, detail);
    }
}

fn whole(errors: &mut ErrorList, spec: &JobSpec, old: Option<&JobSpec>) {
    let path = Path::new("spec");
    let before = old.and_then(|o| o.template.spec.as_ref());
    template(errors, &path, spec, before);
    let at = path.child("selector");
    match &spec.selector {
        None => errors.required(&at, ""),
        Some(selector) => check::label_selector(errors, &at, Some(selector)),
    }
    if let Ok(compiled) = Selector::from_optional(spec.selector.as_ref())
        && !compiled.matches_map(workload::template_labels(&spec.template))
    {
        workload::selector_mismatch(errors, &path.child("template"), &spec.template);
    }
}

/// What Jobs and the Jobs in CronJobs have in common: everything but the selector.
pub(in crate::batch) fn template(
    errors: &mut ErrorList,
    path: &Path,
    spec: &JobSpec,
    old: Option<&PodSpec>,
) {
    numbers(errors, path, spec);
    completion_mode(errors, path, spec);
    if let Some(policy) = &spec.pod_failure_policy {
        pod_failure_policy(errors, &path.child("podFailurePolicy"), spec, policy);
    }
    success_policy(errors, &path.child("successPolicy"), spec);
    if let Some(replacement) = &spec.pod_replacement_policy {
        let supported: &[&str] = match spec.pod_failure_policy {
            Some(_) => &["Failed"],
            None => &["Failed", "TerminatingOrFailed"],
        };
        errors.one_of(&path.child("podReplacementPolicy"), replacement, supported);
    }
    let path = path.child("template");
    validation::template(errors, &path, &spec.template, old);
    let at = path.child("spec").child("restartPolicy");
    let policy = spec.template.spec.as_ref();
    match policy.map_or("", |s| s.restart_policy.text()) {
        "Always" | "" => {
            errors.required(&at, "valid values: \"OnFailure\", \"Never\"");
        }
        "Never" => {}
        policy @ "OnFailure" => {
            if spec.pod_failure_policy.is_some() {
                let detail = "only \"Never\" is supported when podFailurePolicy is specified";
                errors.invalid(&at, policy, detail);
            }
        }
        other => errors.not_supported(&at, other, &["OnFailure", "Never"]),
    }
}

fn numbers(errors: &mut ErrorList, path: &Path, spec: &JobSpec) {
    let numbers = [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        (
            "ttlSecondsAfterFinished",
            spec.ttl_seconds_after_finished.map(i64::from),
        ),
        (
            "backoffLimitPerIndex",
            spec.backoff_limit_per_index.map(i64::from),
        ),
        ("maxFailedIndexes", spec.max_failed_indexes.map(i64::from)),
    ];
    for (key, number) in numbers {
        errors.not_negative(&path.child(key), number.unwrap_or(0));
    }
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        let at = path.child("backoffLimitPerIndex");
        errors.required(&at, "when maxFailedIndexes is specified");
    }
    if let Some(manager) = &spec.managed_by {
        let at = path.child("managedBy");
        check::domain_prefixed_path(errors, &at, manager);
        if manager.len() > MAX_MANAGED_BY {
            errors.too_long(&at, MAX_MANAGED_BY);
        }
    }
}

fn completion_mode(errors: &mut ErrorList, path: &Path, spec: &JobSpec) {
    if let Some(mode) = &spec.completion_mode {
        errors.one_of(
            &path.child("completionMode"),
            mode,
            &["NonIndexed", "Indexed"],
        );
    }
    match spec.completion_mode.as_deref() {
        Some("Indexed") => indexed(errors, path, spec),
        None | Some("NonIndexed") => {
            let only_indexed = [
                ("backoffLimitPerIndex", spec.backoff_limit_per_index),
                ("maxFailedIndexes", spec.max_failed_indexes),
            ];
            for (key, value) in only_indexed {
                if let Some(value) = value {
                    let detail = "requires indexed completion mode";
                    errors.invalid(&path.child(key), value, detail);
                }
            }
        }
        Some(_) => {}
    }
}

fn indexed(errors: &mut ErrorList, path: &Path, spec: &JobSpec) {
    const MODE: &str = "when completion mode is Indexed";
    let at_most = |bound: i32| format!("must be less than or equal to {bound}");
    if spec.completions.is_none() {
        errors.required(&path.child("completions"), MODE);
    }
    let at = path.child("parallelism");
    if let Some(parallelism) = spec.parallelism.filter(|p| *p > MAX_PARALLELISM) {
        let detail = format!("{} {MODE}", at_most(MAX_PARALLELISM));
        errors.invalid(&at, parallelism, detail);
    }
    let failed_at = path.child("maxFailedIndexes");
    if let (Some(completions), Some(failed)) = (spec.completions, spec.max_failed_indexes)
        && failed > completions
    {
        errors.invalid(
            &failed_at,
            failed,
            "must be less than or equal to completions",
        );
    }
    if let Some(failed) = spec.max_failed_indexes.filter(|f| *f > MAX_FAILED_INDEXES) {
        errors.invalid(&failed_at, failed, at_most(MAX_FAILED_INDEXES));
    }
    if spec.completions.is_none_or(|c| c <= MANY_COMPLETIONS)
        || spec.backoff_limit_per_index.is_none()
    {
        return;
    }
    if spec.max_failed_indexes.is_none() {
        let detail = format!("must be specified when completions is above {MANY_COMPLETIONS}");
        errors.required(&failed_at, detail);
    }
    let detail = format!(
        "{} when completions are above {MANY_COMPLETIONS} and used with backoff limit per index",
        at_most(BOUND_FOR_MANY)
    );
    for (at, value) in [(at, spec.parallelism), (failed_at, spec.max_failed_indexes)] {
        if let Some(value) = value.filter(|v| *v > BOUND_FOR_MANY) {
            errors.invalid(&at, value, detail.as_str());
        }
    }
}

fn pod_failure_policy(
    errors: &mut ErrorList,
    path: &Path,
    spec: &JobSpec,
    policy: &PodFailurePolicy,
) {
    let path = path.child("rules");
    if policy.rules.len() > MAX_RULES {
        errors.too_many(&path, policy.rules.len(), MAX_RULES);
    }
    for (i, rule) in policy.rules.iter().enumerate() {
        failure_rule(errors, &path.index(i), spec, rule);
    }
}

fn failure_rule(errors: &mut ErrorList, path: &Path, spec: &JobSpec, rule: &PodFailurePolicyRule) {
    const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
    let at = path.child("action");
    let detail = r#"valid values: ["Count" "FailIndex" "FailJob" "Ignore"]"#;
    if errors.required_text(&at, &rule.action, detail) {
        if rule.action != "FailIndex" {
            errors.one_of(&at, &rule.action, ACTIONS);
        } else if spec.backoff_limit_per_index.is_none() {
            let detail = "requires the backoffLimitPerIndex to be set";
            errors.invalid(&at, rule.action.as_str(), detail);
        }
    }
    if let Some(codes) = &rule.on_exit_codes {
        exit_codes(errors, &path.child("onExitCodes"), spec, codes);
    }
    let patterns = rule.on_pod_conditions.items();
    if !patterns.is_empty() {
        condition_patterns(errors, &path.child("onPodConditions"), patterns);
    }
    match (rule.on_exit_codes.is_some(), !patterns.is_empty()) {
        (true, true) => errors.invalid_unshown(
            path,
            "specifying both OnExitCodes and OnPodConditions is not supported",
        ),
        (false, false) => errors.invalid_unshown(
            path,
            "specifying one of OnExitCodes and OnPodConditions is required",
        ),
        _ => {}
    }
}

fn condition_patterns(
    errors: &mut ErrorList,
    path: &Path,
    patterns: &[PodFailurePolicyOnPodConditionsPattern],
) {
    if patterns.len() > MAX_PATTERNS {
        errors.too_many(path, patterns.len(), MAX_PATTERNS);
    }
    for (i, pattern) in patterns.iter().enumerate() {
        let path = path.index(i);
        let messages = names::qualified_name(&pattern.type_);
        errors.invalid_each(&path.child("type"), &pattern.type_, messages);
        let (at, status) = (path.child("status"), pattern.status.text());
        if errors.required_text(&at, status, r#"valid values: ["False" "True" "Unknown"]"#) {
            errors.one_of(&at, status, &["False", "True", "Unknown"]);
        }
    }
}

fn exit_codes(
    errors: &mut ErrorList,
    path: &Path,
    spec: &JobSpec,
    codes: &PodFailurePolicyOnExitCodesRequirement,
) {
    let at = path.child("operator");
    if errors.required_text(&at, &codes.operator, r#"valid values: ["In" "NotIn"]"#) {
        errors.one_of(&at, &codes.operator, &["In", "NotIn"]);
    }
    let pod = spec.template.spec.as_ref();
    let containers = |s: &PodSpec| -> Vec<String> {
        let all = s.containers.iter().chain(s.init_containers.items());
        all.map(|c| c.name.clone()).collect()
    };
    if let Some(name) = &codes.container_name
        && !pod.is_some_and(|s| containers(s).contains(name))
    {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.invalid(&path.child("containerName"), name.as_str(), detail);
    }
    let (path, values) = (path.child("values"), &codes.values);
    if values.is_empty() {
        errors.invalid(
            &path,
            serde_json::json!([]),
            "at least one value is required",
        );
    } else if values.len() > MAX_EXIT_CODES {
        errors.too_many(&path, values.len(), MAX_EXIT_CODES);
    }
    for (i, value) in values.iter().enumerate() {
        let at = path.index(i);
        if codes.operator == "In" && *value == 0 {
            errors.invalid(&at, *value, "must not be 0 for the In operator");
        }
        if values[..i].contains(value) {
            errors.duplicate(&at, *value);
        }
    }
    if !values.is_sorted() {
        errors.invalid(&path, values.clone(), "must be ordered");
    }
}

fn success_policy(errors: &mut ErrorList, path: &Path, spec: &JobSpec) {
    let Some(policy) = &spec.success_policy else {
        return;
    };
    if spec.completion_mode.text() != "Indexed" {
        let detail = "requires indexed completion mode";
        return errors.invalid(path, check::json(policy), detail);
    }
    let path = path.child("rules");
    if policy.rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.required(&path, detail);
    }
    if policy.rules.len() > MAX_RULES {
        errors.too_many(&path, policy.rules.len(), MAX_RULES);
    }
    // Without completions the Job is wrong already.
    let completions = spec.completions.unwrap_or(0);
    for (i, rule) in policy.rules.iter().enumerate() {
        success_rule(errors, &path.index(i), completions, rule);
    }
}

fn success_rule(errors: &mut ErrorList, path: &Path, completions: i32, rule: &SuccessPolicyRule) {
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        errors.required(path, detail);
    }
    let mut total = 0;
    if let Some(text) = &rule.succeeded_indexes {
        let at = path.child("succeededIndexes");
        if text.len() > MAX_INDEXES_TEXT {
            errors.too_long(&at, MAX_INDEXES_TEXT);
        }
        match indexes::count(text, completions) {
            Ok(count) => total = count,
            Err(why) => {
                let detail = format!("error parsing succeededIndexes: {why}");
                errors.invalid(&at, text.as_str(), detail);
            }
        }
    }
    let Some(count) = rule.succeeded_count else {
        return;
    };
    let at = path.child("succeededCount");
    errors.not_negative(&at, i64::from(count));
    if count > completions {
        let detail = format!(
            "must be less than or equal to {completions} (the number of specified completions)"
        );
        errors.invalid(&at, count, detail);
    }
    if rule.succeeded_indexes.is_some() && count > total {
        let detail = format!(
            "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        );
        errors.invalid(&at, count, detail);
    }
}

/// Completions of an indexed Job change together with its parallelism, those of another never.
fn completions_change(errors: &mut ErrorList, at: &Path, new: &JobSpec, old: &JobSpec) {
    if new.completion_mode.text() != "Indexed" {
        return errors.immutable(at, &new.completions, &old.completions);
    }
    let changed = new
        .completions
        .filter(|_| new.completions != old.completions);
    if let Some(completions) = changed.filter(|_| new.completions != new.parallelism) {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.invalid(at, completions, detail);
    }
}

/// The template of a suspended Job without pods may change in what queueing systems set: where its pods may run, and
/// what they ask for.
fn template_change(errors: &mut ErrorList, path: &Path, new: &JobSpec, old: &JobSpec, job: &Job) {
    let status = job.status.as_ref();
    let suspended = old.suspend.yes();
    let not_started = status.is_none_or(|s| s.start_time.is_none());
    let idle = status.is_none_or(|s| s.active.unwrap_or(0) == 0);
    let mutable = suspended && idle && (not_started || has_condition(status, "Suspended"));
    let mut allowed = old.template.clone();
    if mutable {
        scheduling_of(&new.template, &mut allowed);
    }
    if !mutable {
        return errors.immutable(path, &new.template, &allowed);
    }
    if let (Some(new), Some(allowed)) = (&new.template.spec, &mut allowed.spec) {
        resources_of(&new.containers, &mut allowed.containers);
        if let Some(containers) = &mut allowed.init_containers {
            resources_of(new.init_containers.items(), containers);
        }
    }
    let at = path.child("spec");
    errors.immutable(&at, &new.template.spec, &allowed.spec);
}

fn scheduling_of(
    new: &k8s_openapi::api::core::v1::PodTemplateSpec,
    allowed: &mut k8s_openapi::api::core::v1::PodTemplateSpec,
) {
    allowed.metadata.clone_from(&new.metadata);
    let (Some(from), Some(to)) = (&new.spec, &mut allowed.spec) else {
        return;
    };
    let wanted = from.affinity.as_ref().and_then(|a| a.node_affinity.clone());
    if wanted.is_some() || to.affinity.is_some() {
        let affinity = to.affinity.get_or_insert_default();
        affinity.node_affinity = wanted;
        if from.affinity.is_none() && *affinity == Affinity::default() {
            to.affinity = None;
        }
    }
    to.node_selector.clone_from(&from.node_selector);
    to.tolerations.clone_from(&from.tolerations);
    to.scheduling_gates.clone_from(&from.scheduling_gates);
}

fn resources_of(new: &[Container], allowed: &mut [Container]) {
    if new.len() != allowed.len() {
        return;
    }
    for (from, to) in new.iter().zip(allowed).filter(|(a, b)| a.name == b.name) {
        to.resources.clone_from(&from.resources);
    }
}
