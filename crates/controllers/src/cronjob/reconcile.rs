//! The decision about a CronJob.

use std::sync::Arc;

use api::batch::schedule::Schedule;
use control::plan::reference;
use control::{Action, Event, EventType, Plan, Propagation, Report, StatusWrite, Target};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::Observed;
use super::times::{self, Clock};
use crate::ownership::controller_reference;

/// Holds the time that a Job was due.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

struct Work<'a> {
    o: &'a Observed,
    root: &'a CronJob,
    status: CronJobStatus,
    actions: Vec<Action>,
    plan: Plan,
}

/// Decides about one CronJob.
pub(super) fn reconcile(o: &Observed) -> Plan {
    let root = o.root.as_ref();
    let mut work = Work {
        o,
        root,
        status: root.status.clone().unwrap_or_default(),
        actions: Vec::new(),
        plan: Plan::default(),
    };
    work.look_at_jobs();
    work.plan.because = if root.metadata.deletion_timestamp.is_some() {
        "it is being deleted".to_owned()
    } else {
        work.schedule()
    };
    work.keep_history();
    work.finish()
}

fn is_finished(job: &Job) -> Option<&str> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ended = conditions
        .iter()
        .find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True");
    ended.map(|c| c.type_.as_str())
}

fn name_of(job: &Job) -> &str {
    job.metadata.name.as_deref().unwrap_or_default()
}

/// The name of the Job that is due at a time.
fn job_name(root: &CronJob, at: Timestamp) -> String {
    let name = root.metadata.name.as_deref().unwrap_or_default();
    format!("{name}-{}", at.as_second().div_euclid(60))
}

/// Whether we made the Job: it is named after the time it carries.
fn is_ours(root: &CronJob, job: &Job) -> bool {
    let annotations = job.metadata.annotations.as_ref();
    let at = annotations.and_then(|a| machinery::time::parse(a.get(SCHEDULED)?));
    at.is_some_and(|at| job_name(root, at) == name_of(job))
}

impl Work<'_> {
    fn tell(&mut self, event_type: EventType, reason: &str, message: String) {
        self.actions.push(Action::Event(Event {
            about: reference(self.root),
            event_type,
            reason: reason.to_owned(),
            message,
        }));
    }

    fn active(&mut self) -> &mut Vec<ObjectReference> {
        self.status.active.get_or_insert_default()
    }

    fn is_active(&mut self, job: &Job) -> bool {
        let uid = job.metadata.uid.clone();
        self.active().iter().any(|r| r.uid == uid)
    }

    /// Brings the list of those that run up to date.
    fn look_at_jobs(&mut self) {
        let jobs = self.o.jobs.clone();
        for job in &jobs {
            let listed = self.is_active(job);
            match is_finished(job) {
                None if listed => {}
                None if is_ours(self.root, job) => {
                    self.active().push(reference(job.as_ref()));
                }
                None => {
                    let name = name_of(job);
                    let message =
                        format!("Saw a job that the controller did not create or forgot: {name}");
                    self.tell(EventType::Warning, "UnexpectedJob", message);
                }
                Some(condition) => {
                    if listed {
                        let name = name_of(job);
                        let message = format!("Saw completed job: {name}, condition: {condition}");
                        let uid = job.metadata.uid.clone();
                        self.active().retain(|r| r.uid != uid);
                        self.tell(EventType::Normal, "SawCompletedJob", message);
                    }
                    let end = job.status.as_ref().and_then(|s| s.completion_time.clone());
                    let last = &mut self.status.last_successful_time;
                    if condition == "Complete" && end > *last {
                        *last = end;
                    }
                }
            }
        }
        let there = |r: &ObjectReference| jobs.iter().any(|j| j.metadata.uid == r.uid);
        let (there, gone): (Vec<_>, Vec<_>) = self.active().drain(..).partition(|r| there(r));
        *self.active() = there;
        for missing in gone {
            let name = missing.name.unwrap_or_default();
            let message = format!("Active job went missing: {name}");
            self.tell(EventType::Normal, "MissingJob", message);
        }
    }

    /// Makes the Job that is due; says what is done or waited for.
    fn schedule(&mut self) -> String {
        let spec = &self.root.spec;
        let zone = match times::zone(self.root) {
            Ok(zone) => zone,
            Err(why) => {
                let zone = spec.time_zone.clone().unwrap_or_default();
                let message = format!("invalid timeZone: {zone:?}: {why}");
                self.tell(EventType::Warning, "UnknownTimeZone", message.clone());
                return message;
            }
        };
        if spec.suspend == Some(true) {
            return "it is suspended".to_owned();
        }
        let text = spec.schedule.clone();
        if text.contains("TZ") {
            let message = format!(
                "CRON_TZ or TZ used in schedule {text:?} is not officially supported, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
            );
            self.tell(EventType::Warning, "UnsupportedSchedule", message);
        }
        let clock = match Schedule::parse(&text) {
            Ok(schedule) => Clock { schedule, zone },
            Err(why) => {
                let message = format!("unparseable schedule: {text:?} : {why}");
                self.tell(EventType::Warning, "UnparseableSchedule", message.clone());
                return message;
            }
        };
        let due = match clock.due(self.root, self.o.now) {
            Ok(due) => due,
            Err(why) => {
                let message = format!("invalid schedule: {text} : {why}");
                self.tell(EventType::Warning, "InvalidSchedule", message.clone());
                return message;
            }
        };
        let because = match due {
            None => "it is not due".to_owned(),
            Some(due) => {
                if due.many_missed {
                    let message = "too many missed start times. Set or decrease \
                                   .spec.startingDeadlineSeconds or check clock skew";
                    self.tell(EventType::Warning, "TooManyMissedTimes", message.to_owned());
                }
                self.start(due.at, &clock)
            }
        };
        let mut root = self.root.clone();
        root.status = Some(self.status.clone());
        self.plan.requeue_after = clock.wait(&root, self.o.now);
        because
    }

    /// Makes the Job that was due at a time, if it may be made.
    fn start(&mut self, at: Timestamp, clock: &Clock) -> String {
        let spec = &self.root.spec;
        let late = self.o.now.duration_since(at);
        let deadline = spec.starting_deadline_seconds;
        if deadline.is_some_and(|d| late > jiff::SignedDuration::from_secs(d)) {
            let time = at.strftime("%a, %d %b %Y %H:%M:%S +0000");
            let message = format!("Missed scheduled time to start a job: {time}");
            self.tell(EventType::Warning, "MissSchedule", message.clone());
            return message;
        }
        let name = job_name(self.root, at);
        let mine = self.o.jobs.iter().any(|j| name_of(j) == name);
        let last = self.status.last_schedule_time.as_ref().map(|t| t.0);
        if last == Some(at) || self.o.taken.contains(&name) {
            return format!("job {name} was made already");
        }
        if mine {
            // It was made, but that could not be noted.
            self.status.last_schedule_time = Some(Time(at));
            return format!("job {name} was made already");
        }
        let policy = spec.concurrency_policy.as_deref();
        if policy == Some("Forbid") && !self.active().is_empty() {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            self.tell(EventType::Normal, "JobAlreadyActive", message.to_owned());
            return message.to_owned();
        }
        if policy == Some("Replace") {
            let running = self.o.jobs.clone();
            for job in running.iter().filter(|j| is_finished(j).is_none()) {
                self.delete(job);
            }
        }
        let job = self.job(&name, at, clock);
        let report = Report {
            about: reference(self.root),
            success: Some(("SuccessfulCreate", format!("Created job {name}"))),
            failure: Some(("FailedCreate", "Error creating job: ".to_owned())),
        };
        self.actions.push(Action::create(&job, Some(report)));
        self.status.last_schedule_time = Some(Time(at));
        format!("making job {name}")
    }

    fn job(&self, name: &str, at: Timestamp, clock: &Clock) -> Job {
        let template = &self.root.spec.job_template;
        let from = template.metadata.clone().unwrap_or_default();
        let mut annotations = from.annotations.unwrap_or_default();
        let local = at.to_zoned(clock.zone.clone());
        let offset = local.offset();
        let time = if offset.is_zero() {
            machinery::time::rfc3339(at)
        } else {
            local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
        };
        annotations.insert(SCHEDULED.to_owned(), time);
        Job {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: self.root.metadata.namespace.clone(),
                labels: from.labels,
                annotations: Some(annotations),
                owner_references: Some(vec![controller_reference(self.root)]),
                ..ObjectMeta::default()
            },
            spec: template.spec.clone(),
            status: None,
        }
    }

    fn delete(&mut self, job: &Arc<Job>) {
        if job.metadata.deletion_timestamp.is_some() {
            return;
        }
        let name = name_of(job);
        let uid = job.metadata.uid.clone();
        self.active().retain(|r| r.uid != uid);
        self.actions.push(Action::Delete {
            target: Target::of(job.as_ref()),
            uid: uid.unwrap_or_default(),
            resource_version: None,
            propagation: Some(Propagation::Background),
            grace_seconds: None,
            report: Some(Report {
                about: reference(self.root),
                success: Some(("SuccessfulDelete", format!("Deleted job {name}"))),
                failure: Some(("FailedDelete", "Deleted job: ".to_owned())),
            }),
        });
    }

    /// Removes the oldest Jobs that have ended, well and badly each beyond its limit.
    fn keep_history(&mut self) {
        let spec = &self.root.spec;
        let limits = [
            ("Complete", spec.successful_jobs_history_limit),
            ("Failed", spec.failed_jobs_history_limit),
        ];
        for (condition, limit) in limits {
            let Some(limit) = limit.and_then(|l| usize::try_from(l).ok()) else {
                continue;
            };
            let ended = self.o.jobs.iter();
            let mut ended: Vec<Arc<Job>> = ended
                .filter(|j| is_finished(j) == Some(condition))
                .cloned()
                .collect();
            ended.sort_by_key(|j| {
                let start = j.status.as_ref().and_then(|s| s.start_time.clone());
                (start.is_none(), start, j.metadata.name.clone())
            });
            let surplus = ended.len().saturating_sub(limit);
            for job in &ended[..surplus] {
                self.delete(job);
            }
        }
    }

    fn finish(mut self) -> Plan {
        self.status.active = self.status.active.take().filter(|a| !a.is_empty());
        let old = self.root.status.clone().unwrap_or_default();
        let old_active = old.active.clone().filter(|a| !a.is_empty());
        let same = old_active == self.status.active
            && old.last_schedule_time == self.status.last_schedule_time
            && old.last_successful_time == self.status.last_successful_time;
        self.plan.actions = self.actions;
        self.plan.status = (!same).then(|| {
            let mut root = self.root.clone();
            root.status = Some(self.status);
            StatusWrite::of(&root)
        });
        self.plan
    }
}
