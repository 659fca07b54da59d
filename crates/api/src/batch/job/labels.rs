//! The labels by which a Job knows its pods, made from its own name and UID.

use k8s_openapi::api::batch::v1::Job;
use machinery::{ErrorList, Object, Path, labels::Selector};
use serde_json::{Map, Value};

use crate::check::{self, ErrorListExt as _};
use crate::view::OrEmpty;
use crate::workload;

/// Holds the UID of the Job.
pub const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
/// Holds the name of the Job.
pub const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// [`CONTROLLER_UID`] as it was called before.
pub const OLD_CONTROLLER_UID: &str = "controller-uid";
/// [`JOB_NAME`] as it was called before.
pub const OLD_JOB_NAME: &str = "job-name";

/// Labels the template and selects by the UID; what the writer has set stays, and validation objects to it.
pub(super) fn generate(job: &mut Object) {
    let (name, uid) = (job.name().to_owned(), job.uid().to_owned());
    let labels = job.object_at_mut(&["spec", "template", "metadata", "labels"]);
    let wanted = [
        (OLD_JOB_NAME, &name),
        (JOB_NAME, &name),
        (OLD_CONTROLLER_UID, &uid),
        (CONTROLLER_UID, &uid),
    ];
    for (key, value) in wanted {
        labels.entry(key).or_insert_with(|| value.as_str().into());
    }
    let labels = labels.clone();
    let selected = job.object_at_mut(&["spec", "selector", "matchLabels"]);
    selected
        .entry(CONTROLLER_UID)
        .or_insert_with(|| uid.as_str().into());
    // A Job without labels of its own takes those of its template, the new ones too, when it is read back.
    let own = job.at(&["metadata", "labels"]).and_then(Value::as_object);
    if own.is_none_or(Map::is_empty) {
        job.metadata_mut().insert("labels".into(), labels.into());
    }
}

/// Everything wrong with generated labels.
pub(super) fn validate(errors: &mut ErrorList, job: &Job) {
    let Some(spec) = job
        .spec
        .as_ref()
        .filter(|s| s.manual_selector != Some(true))
    else {
        return;
    };
    let Some(selector) = &spec.selector else {
        return;
    };
    let uid = job.metadata.uid.text();
    let name = job.metadata.name.text();
    errors.required_text(&Path::new("metadata").child("uid"), uid, "");
    let expected = [
        (OLD_CONTROLLER_UID, uid),
        (OLD_JOB_NAME, name),
        (CONTROLLER_UID, uid),
        (JOB_NAME, name),
    ];
    let path = Path::new("spec").child("template").child("metadata");
    let labels = workload::template_labels(&spec.template);
    for (key, value) in expected {
        let at = path.child("labels").key(key);
        let detail = format!("must be '{value}'");
        match labels.and_then(|l| l.get(key)) {
            None => errors.required(&at, detail),
            Some(actual) if actual != value => errors.invalid(&at, check::json(&labels), detail),
            Some(_) => {}
        }
    }
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    if let Ok(compiled) = Selector::from_label_selector(selector)
        && !compiled.matches_map(Some(&expected.into()))
    {
        let at = Path::new("spec").child("selector");
        let shown = check::prune(check::json(selector));
        errors.invalid(&at, shown, "`selector` not auto-generated");
    }
}
