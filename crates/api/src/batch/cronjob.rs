//! CronJob: a Job again and again, when its schedule says so.
//!
//! Upstream: `pkg/registry/batch/cronjob`, `ValidateCronJob*` in `pkg/apis/batch/validation`, `printCronJob`.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob as Typed, CronJobSpec, JobSpec};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};
use serde_json::json;

use super::{job, schedule};
use crate::check::{self, ErrorListExt};
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::{Items, OrEmpty, Yes, fill, fill_with};
use crate::workload;

/// Eleven characters come behind the name in the name of a Job.
const NAME_MAX: usize = 63 - 11;

/// The kind `CronJob`.
pub struct CronJob;

impl Kind for CronJob {
    type Object = Typed;
    const NAMES: Names = Names::new("batch", "v1", "CronJob", "cronjobs", "cronjob")
        .short(&["cj"])
        .in_all();
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "Schedule",
            "The schedule in Cron format, see \
                                   https://en.wikipedia.org/wiki/Cron.",
        ),
        columns::text(
            "Timezone",
            "The time zone name for the given schedule, see \
                                   https://en.wikipedia.org/wiki/List_of_tz_database_time_zones. If \
                                   not specified, this will default to the time zone of the \
                                   kube-controller-manager process. The set of valid time zone \
                                   names and the time zone offset is loaded from the system-wide \
                                   time zone database by the API server during CronJob validation \
                                   and the controller manager during execution. If no system-wide \
                                   time zone database can be found a bundled version of the \
                                   database is used instead. If the time zone name becomes invalid \
                                   during the lifetime of a CronJob or due to a change in host \
                                   configuration, the controller will stop creating new new Jobs \
                                   and will create a system event with the reason UnknownTimeZone. \
                                   More information can be found in \
                                   https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#time-zones",
        ),
        Column {
            kind: "boolean",
            ..columns::text(
                "Suspend",
                "This flag tells the controller to suspend subsequent \
                                        executions, it does not apply to already started \
                                        executions.  Defaults to false.",
            )
        },
        columns::integer("Active", "A list of pointers to currently running jobs."),
        columns::text(
            "Last Schedule",
            "Information when was the last time the job was successfully \
                                        scheduled.",
        ),
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

    fn default(object: &mut Typed) {
        let spec = &mut object.spec;
        fill(&mut spec.concurrency_policy, "Allow");
        fill_with(&mut spec.suspend, false);
        fill_with(&mut spec.successful_jobs_history_limit, 3);
        fill_with(&mut spec.failed_jobs_history_limit, 1);
        job::default_template(spec.job_template.spec.get_or_insert_default());
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        new.0.insert("status".into(), json!({}));
        job::drop_disabled(new, &["spec", "jobTemplate", "spec"]);
    }

    fn prepare_update(_context: &Context, part: Part, new: &mut Object, old: &Object) {
        kind::keep_other_part(part, new, old);
        job::drop_disabled(new, &["spec", "jobTemplate", "spec"]);
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        spec(&mut errors, &new.spec, None);
        let name = new.metadata.name.text();
        if name.len() > NAME_MAX {
            let detail = "must be no more than 52 characters";
            errors.invalid(&Path::new("metadata").child("name"), name, detail);
        }
        errors
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        if part != Part::Status {
            spec(&mut errors, &new.spec, Some(&old.spec));
        }
        errors
    }

    fn warnings(new: &Typed) -> Vec<String> {
        let about_name = workload::name_warning(new.metadata.name.text());
        about_name.into_iter().chain(job_warnings(new)).collect()
    }

    fn update_warnings(_part: Part, new: &Typed, old: &Typed) -> Vec<String> {
        const TIME_ZONE: &str = "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
            https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details";
        let mut warnings = match new.metadata.generation == old.metadata.generation {
            true => Vec::new(),
            false => job_warnings(new),
        };
        if new.spec.schedule.contains("TZ") {
            warnings.push(TIME_ZONE.to_owned());
        }
        warnings
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let spec = object.spec.clone();
        let status = object.status.clone().unwrap_or_default();
        let job = spec.job_template.spec.clone().unwrap_or_default();
        let [containers, images] = workload::containers_and_images(Some(&job.template));
        let last = columns::moment(status.last_schedule_time.as_ref());
        let last = last.map_or("<none>".to_owned(), |at| columns::since(Some(at), now));
        Row::from(vec![
            tree.name().into(),
            spec.schedule.into(),
            spec.time_zone.unwrap_or_else(|| "<none>".to_owned()).into(),
            if spec.suspend.yes() { "True" } else { "False" }.into(),
            status.active.items().len().into(),
            last.into(),
            kind::age(tree, now).into(),
            containers,
            images,
            job::format_selector(&job).into(),
        ])
    }
}

fn spec(errors: &mut ErrorList, spec: &CronJobSpec, old: Option<&CronJobSpec>) {
    let path = Path::new("spec");
    let schedule_at = path.child("schedule");
    if !spec.schedule.is_empty() {
        schedule(errors, &schedule_at, spec, old);
    }
    if let Some(deadline) = spec.starting_deadline_seconds {
        errors.not_negative(&path.child("startingDeadlineSeconds"), deadline);
    }
    if old.is_none_or(|o| o.time_zone != spec.time_zone) {
        time_zone(errors, &path.child("timeZone"), spec.time_zone.as_deref());
    }
    let (at, policy) = (
        path.child("concurrencyPolicy"),
        spec.concurrency_policy.text(),
    );
    if errors.required_text(&at, policy, "") {
        errors.one_of(&at, policy, &["Allow", "Forbid", "Replace"]);
    }
    let before = old.and_then(|o| o.job_template.spec.as_ref());
    let job = spec.job_template.spec.clone().unwrap_or_default();
    job_template(
        errors,
        &path.child("jobTemplate").child("spec"),
        &job,
        before,
    );
    let limits = [
        (
            "successfulJobsHistoryLimit",
            spec.successful_jobs_history_limit,
        ),
        ("failedJobsHistoryLimit", spec.failed_jobs_history_limit),
    ];
    for (key, limit) in limits {
        errors.not_negative(&path.child(key), i64::from(limit.unwrap_or(0)));
    }
    errors.required_text(&schedule_at, &spec.schedule, "");
}

fn job_template(errors: &mut ErrorList, path: &Path, spec: &JobSpec, old: Option<&JobSpec>) {
    let before = old.and_then(|o| o.template.spec.as_ref());
    job::template_errors(errors, path, spec, before);
    if let Some(selector) = &spec.selector {
        let shown = check::prune(check::json(selector));
        let detail = "`selector` will be auto-generated";
        errors.invalid(&path.child("selector"), shown, detail);
    }
    if spec.manual_selector.yes() {
        errors.not_supported(&path.child("manualSelector"), true, &["nil", "false"]);
    }
}

/// A time zone in the schedule itself is kept where it was, and never taken anew.
fn schedule(errors: &mut ErrorList, at: &Path, spec: &CronJobSpec, old: Option<&CronJobSpec>) {
    let text = spec.schedule.as_str();
    if let Err(why) = schedule::Schedule::parse(text) {
        errors.invalid(at, text, why);
    }
    if !text.contains("TZ") {
        return;
    }
    let had_zone = old.is_some_and(|o| o.schedule.contains("TZ"));
    if !had_zone {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.invalid(at, text, detail);
    } else if spec.time_zone.is_some() {
        let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        errors.invalid(at, text, detail);
    }
}

fn time_zone(errors: &mut ErrorList, at: &Path, name: Option<&str>) {
    let Some(name) = name else { return };
    if name.is_empty() {
        return errors.invalid(at, "", "timeZone must be nil or non-empty string");
    }
    let fits = |part: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || b".-_+".contains(&b);
        part != "."
            && part != ".."
            && !part.starts_with('-')
            && (1..=14).contains(&part.len())
            && part.bytes().all(known)
    };
    if !name.split('/').all(fits) {
        return errors.invalid(at, name, format!("unknown time zone {name}"));
    }
    if name.eq_ignore_ascii_case("local") {
        let detail =
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(at, name, detail);
    }
    // Exactly "Local" has a meaning of its own, and is known.
    if name != "Local"
        && let Err(why) = schedule::time_zone(name)
    {
        errors.invalid(at, name, why);
    }
}

fn job_warnings(new: &Typed) -> Vec<String> {
    let path = Path::new("spec").child("jobTemplate").child("spec");
    job::warnings(new.spec.job_template.spec.as_ref(), &path)
}
