//! Which changes of a Job's status make sense. Controllers of others write it too (`spec.managedBy`), and clients rely on
//! what a terminal Job means, so the rules are strict; each is asked only when what it is about has changed.

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use machinery::{ErrorList, Path};

use super::has_condition;
use crate::batch::indexes;
use crate::check::{self, ErrorListExt};
use crate::view::{Items, OrEmpty, Yes};

struct Change<'a> {
    spec: &'a JobSpec,
    new: &'a JobStatus,
    old: &'a JobStatus,
}

impl Change<'_> {
    fn has(&self, name: &str) -> bool {
        has_condition(Some(self.new), name)
    }

    fn had(&self, name: &str) -> bool {
        has_condition(Some(self.old), name)
    }

    fn switched(&self, name: &str) -> bool {
        self.has(name) != self.had(name)
    }

    fn is_finished(&self) -> bool {
        self.has("Complete") || self.has("Failed")
    }

    fn finish_switched(&self) -> bool {
        self.is_finished() != (self.had("Complete") || self.had("Failed"))
    }
}

/// Everything wrong with a write of the status.
pub(super) fn update(new: &Job, old: &Job) -> ErrorList {
    let (spec, empty) = (new.spec.clone().unwrap_or_default(), JobStatus::default());
    let change = Change {
        spec: &spec,
        new: new.status.as_ref().unwrap_or(&empty),
        old: old.status.as_ref().unwrap_or(&empty),
    };
    let mut errors = ErrorList::new();
    let path = Path::new("status");
    numbers(&mut errors, &path, change.new);
    uncounted(
        &mut errors,
        &path.child("uncountedTerminatedPods"),
        change.new,
    );
    conditions(&mut errors, &path.child("conditions"), &change);
    times(&mut errors, &path, &change);
    finished(&mut errors, &path, &change);
    index_sets(&mut errors, &path, &change);
    rest(&mut errors, &path, &change);
    transitions(&mut errors, &path, &change);
    errors
}

fn numbers(errors: &mut ErrorList, path: &Path, status: &JobStatus) {
    let numbers = [
        ("active", status.active),
        ("succeeded", status.succeeded),
        ("failed", status.failed),
        ("ready", status.ready),
        ("terminating", status.terminating),
    ];
    for (key, number) in numbers {
        errors.not_negative(&path.child(key), i64::from(number.unwrap_or(0)));
    }
}

fn uncounted(errors: &mut ErrorList, path: &Path, status: &JobStatus) {
    let Some(uncounted) = &status.uncounted_terminated_pods else {
        return;
    };
    let mut seen: Vec<&str> = Vec::new();
    let lists = [
        ("succeeded", uncounted.succeeded.items()),
        ("failed", uncounted.failed.items()),
    ];
    for (key, uids) in lists {
        for (i, uid) in uids.iter().enumerate() {
            let at = path.child(key).index(i);
            if uid.is_empty() {
                errors.invalid(&at, "", "must not be empty");
            } else if seen.contains(&uid.as_str()) {
                errors.duplicate(&at, uid.as_str());
            } else {
                seen.push(uid);
            }
        }
    }
}

fn conditions(errors: &mut ErrorList, at: &Path, c: &Change<'_>) {
    let (complete, failed) = (c.has("Complete"), c.has("Failed"));
    let mut refuse = |wrong: bool, detail: &str| {
        if wrong {
            errors.invalid_unshown(at, detail);
        }
    };
    let (complete_switched, failed_switched) = (c.switched("Complete"), c.switched("Failed"));
    refuse(
        (complete_switched || failed_switched) && complete && failed,
        "cannot set Complete=True and Failed=true conditions",
    );
    refuse(
        (complete_switched || c.switched("FailureTarget")) && complete && c.has("FailureTarget"),
        "cannot set Complete=True and FailureTarget=true conditions",
    );
    let failed_indexes_changed = c.new.failed_indexes != c.old.failed_indexes;
    refuse(
        (failed_switched || failed_indexes_changed) && failed && !c.has("FailureTarget"),
        "cannot set Failed=True condition without the FailureTarget=true condition",
    );
    refuse(
        (complete_switched || c.switched("SuccessCriteriaMet"))
            && complete
            && !c.has("SuccessCriteriaMet"),
        "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
    );
    let success = c.has("SuccessCriteriaMet");
    refuse(
        success && failed,
        "cannot set SuccessCriteriaMet=True and Failed=true conditions",
    );
    refuse(
        success && c.has("FailureTarget"),
        "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
    );
    refuse(
        c.spec.success_policy.is_some() && !success && complete,
        "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
    );
}

fn times(errors: &mut ErrorList, path: &Path, c: &Change<'_>) {
    let (start, end) = (&c.new.start_time, &c.new.completion_time);
    let start_changed = *start != c.old.start_time;
    let end_changed = *end != c.old.completion_time;
    let at = path.child("completionTime");
    if c.switched("Complete") || end_changed {
        match end {
            Some(end) if !c.has("Complete") => {
                let detail = "cannot set completionTime when there is no Complete=True condition";
                errors.invalid(&at, check::json(end), detail);
            }
            None if c.has("Complete") => {
                errors.required(&at, "completionTime is required for Complete jobs");
            }
            _ => {}
        }
    }
    if let (Some(start), Some(end)) = (start, end)
        && (start_changed || end_changed)
        && end.0 < start.0
    {
        errors.invalid(
            &at,
            check::json(end),
            "must be equal to or after `startTime`",
        );
    }
    if let (Some(end), Some(before)) = (end, &c.old.completion_time)
        && end != before
    {
        errors.invalid(&at, check::json(end), check::IMMUTABLE);
    }
}

fn finished(errors: &mut ErrorList, path: &Path, c: &Change<'_>) {
    if !c.is_finished() {
        return;
    }
    let switched = c.finish_switched();
    let active = c.new.active.unwrap_or(0);
    if (switched || c.new.active != c.old.active) && active > 0 {
        let detail = "active>0 is invalid for finished job";
        errors.invalid(&path.child("active"), active, detail);
    }
    let empty = c.spec.suspend.yes() && c.spec.completions == Some(0);
    let start_changed = c.new.start_time != c.old.start_time;
    if (switched || start_changed) && !empty && c.new.start_time.is_none() {
        let detail = "startTime is required for finished job";
        errors.required(&path.child("startTime"), detail);
    }
    let uncounted = &c.new.uncounted_terminated_pods;
    let changed = *uncounted != c.old.uncounted_terminated_pods;
    if let Some(uncounted) = uncounted
        && (switched || changed)
        && !(uncounted.failed.items().is_empty() && uncounted.succeeded.items().is_empty())
    {
        let at = path.child("uncountedTerminatedPods");
        errors.invalid(
            &at,
            check::json(uncounted),
            "must be empty for finished job",
        );
    }
    let terminating = c.new.terminating.unwrap_or(0);
    if (switched || c.new.terminating != c.old.terminating) && terminating > 0 {
        let detail = "terminating>0 is invalid for finished job";
        errors.invalid(&path.child("terminating"), terminating, detail);
    }
}

fn index_sets(errors: &mut ErrorList, path: &Path, c: &Change<'_>) {
    let (completed, failed) = (c.new.completed_indexes.text(), &c.new.failed_indexes);
    let completed_changed = completed != c.old.completed_indexes.text();
    let failed_changed = *failed != c.old.failed_indexes;
    let at = path.child("completedIndexes");
    let per_index = c.spec.backoff_limit_per_index.is_some();
    let mut parse = |key: &str, text: &str| {
        let Some(completions) = c.spec.completions else {
            return;
        };
        if let Err(why) = indexes::count(text, completions) {
            let detail = format!("error parsing {key}: {why}");
            errors.invalid(&path.child(key), text, detail);
        }
    };
    if completed_changed {
        parse("completedIndexes", completed);
    }
    if failed_changed && per_index {
        parse("failedIndexes", failed.text());
    }
    if completed_changed && !completed.is_empty() && c.spec.completion_mode.text() != "Indexed" {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.invalid(&at, completed, detail);
    }
    let Some(failed) = failed else { return };
    let at = path.child("failedIndexes");
    if failed_changed && !per_index {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.invalid(&at, failed.as_str(), detail);
    }
    if let Some(completions) = c.spec.completions
        && (failed_changed || completed_changed)
        && let Some(index) = indexes::overlap(completed, failed, completions)
    {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.invalid(&at, failed.as_str(), detail);
    }
}

fn rest(errors: &mut ErrorList, path: &Path, c: &Change<'_>) {
    let changed = c.new.ready != c.old.ready || c.new.active != c.old.active;
    if let Some(ready) = c.new.ready
        && changed
        && ready > c.new.active.unwrap_or(0)
    {
        let detail = "cannot set more ready pods than active";
        errors.invalid(&path.child("ready"), ready, detail);
    }
}

/// What was said once and may not be taken back.
fn transitions(errors: &mut ErrorList, path: &Path, c: &Change<'_>) {
    let at = path.child("conditions");
    for name in ["Failed", "Complete", "FailureTarget"] {
        if c.had(name) && !c.has(name) {
            let detail = format!("cannot disable the terminal {name}=True condition");
            errors.invalid_unshown(&at, detail);
        }
    }
    let decreased = |new: Option<i32>, old: Option<i32>| new.unwrap_or(0) < old.unwrap_or(0);
    if decreased(c.new.failed, c.old.failed) {
        let at = path.child("failed");
        let detail = "cannot decrease the failed counter";
        errors.invalid(&at, c.new.failed.unwrap_or(0), detail);
    }
    let elastic =
        c.spec.completion_mode.text() == "Indexed" && c.spec.completions == c.spec.parallelism;
    if !elastic && decreased(c.new.succeeded, c.old.succeeded) {
        let at = path.child("succeeded");
        let detail = "cannot decrease the succeeded counter";
        errors.invalid(&at, c.new.succeeded.unwrap_or(0), detail);
    }
    let resumed = c.had("Suspended")
        && c.new
            .conditions
            .items()
            .iter()
            .any(|c| c.type_ == "Suspended" && c.status == "False");
    let started_again = c.old.start_time.is_some() && c.new.start_time != c.old.start_time;
    if started_again && !resumed && !c.spec.suspend.yes() {
        let detail = "field is immutable for unsuspended job once set";
        let shown = check::json(&c.new.start_time);
        errors.invalid(&path.child("startTime"), shown, detail);
    }
    if c.had("SuccessCriteriaMet") && !c.has("SuccessCriteriaMet") {
        let detail = "cannot disable the SuccessCriteriaMet=True condition";
        errors.invalid_unshown(&at, detail);
    }
    if c.had("Complete") && !c.had("SuccessCriteriaMet") && c.has("SuccessCriteriaMet") {
        let detail =
            "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.invalid_unshown(&at, detail);
    }
}
