//! What is counted of webhooks: admission and conversion.
//!
//! Upstream: `k8s.io/apiserver/pkg/admission/metrics`, `k8s.io/apiextensions-apiserver/pkg/apiserver/conversion/metrics.go`.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::{head, line};

/// A counter with labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Counter {
    Request,
    Rejection,
    FailOpen,
    ConditionError,
    ConditionExclusion,
    Conversion,
}

/// A histogram with labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timing {
    Admission,
    Conditions,
    Conversion,
    ConversionOfKind,
}

impl Counter {
    /// Name and help.
    fn text(self) -> (&'static str, &'static str) {
        match self {
            Self::Request => (
                "apiserver_admission_webhook_request_total",
                "Admission webhook request total, identified by name and broken out for each admission type \
                 (validating or admit) and operation. Additional labels specify whether the request was rejected or \
                 not and an HTTP status code. Codes greater than 600 are truncated to 600, to keep the metrics \
                 cardinality bounded.",
            ),
            Self::Rejection => (
                "apiserver_admission_webhook_rejection_count",
                "Admission webhook rejection count, identified by name and broken out for each admission type \
                 (validating or admit) and operation. Additional labels specify an error type (calling_webhook_error \
                 or apiserver_internal_error if an error occurred; no_error otherwise) and optionally a non-zero \
                 rejection code if the webhook rejects the request with an HTTP status code (honored by the apiserver \
                 when the code is greater or equal to 400). Codes greater than 600 are truncated to 600, to keep the \
                 metrics cardinality bounded.",
            ),
            Self::FailOpen => (
                "apiserver_admission_webhook_fail_open_count",
                "Admission webhook fail open count, identified by name and broken out for each admission type \
                 (validating or admit).",
            ),
            Self::ConditionError => (
                "apiserver_admission_match_condition_evaluation_errors_total",
                "Admission match condition evaluation errors count, identified by name of resource containing the \
                 match condition and broken out for each kind containing matchConditions (webhook or policy), \
                 operation and admission type (validate or admit).",
            ),
            Self::ConditionExclusion => (
                "apiserver_admission_match_condition_exclusions_total",
                "Admission match condition evaluation exclusions count, identified by name of resource containing \
                 the match condition and broken out for each kind containing matchConditions (webhook or policy), \
                 operation and admission type (validate or admit).",
            ),
            Self::Conversion => (
                "apiserver_conversion_webhook_request_total",
                "Counter for conversion webhook requests with success/failure and failure error type",
            ),
        }
    }
}

impl Timing {
    /// Name, level and help.
    fn text(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Admission => (
                "apiserver_admission_webhook_admission_duration_seconds",
                "STABLE",
                "Admission webhook latency histogram in seconds, identified by name and broken out for each \
                 operation and API resource and type (validate or admit).",
            ),
            Self::Conditions => (
                "apiserver_admission_match_condition_evaluation_seconds",
                "ALPHA",
                "Admission match condition evaluation time in seconds, identified by name and broken out for each \
                 kind containing matchConditions (webhook or policy), operation and type (validate or admit).",
            ),
            Self::Conversion => (
                "apiserver_conversion_webhook_duration_seconds",
                "ALPHA",
                "Conversion webhook request latency",
            ),
            Self::ConversionOfKind => (
                "apiserver_crd_conversion_webhook_duration_seconds",
                "ALPHA",
                "CRD webhook conversion duration in seconds",
            ),
        }
    }

    fn buckets(self) -> &'static [f64] {
        match self {
            Self::Admission => &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0],
            Self::Conditions => &[0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25],
            Self::Conversion => &[
                0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0,
            ],
            Self::ConversionOfKind => &[
                0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048,
                4.096, 8.192, 16.384,
            ],
        }
    }
}

#[derive(Default)]
struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    sum: f64,
}

#[derive(Default)]
struct State {
    counters: BTreeMap<(Counter, String), u64>,
    timings: BTreeMap<(Timing, String), Histogram>,
}

/// The counters of webhooks.
#[derive(Default)]
pub(crate) struct Webhooks {
    state: Mutex<State>,
}

/// One write at one webhook, as it is counted.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The webhook's name.
    pub(crate) name: &'a str,
    /// It may change the object.
    pub(crate) mutating: bool,
    /// For example `CREATE`.
    pub(crate) operation: &'a str,
}

/// How asking a webhook ended.
#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    /// It agreed.
    Allowed,
    /// It refused with this code.
    Denied(u16),
    /// It could not be asked, for which this code stands; the write goes on all the same, or does not.
    Uncalled { code: u16, tolerated: bool },
    /// The server refused on its behalf.
    Refused,
}

impl Asked<'_> {
    /// What steps of admission are called here: conditions have another word than webhooks.
    fn step(self, validating: &'static str) -> &'static str {
        match self.mutating {
            true => "admit",
            false => validating,
        }
    }

    fn labels(self, more: &str) -> String {
        let Self {
            name, operation, ..
        } = self;
        let step = self.step("validating");
        format!("name=\"{name}\",operation=\"{operation}\",{more}type=\"{step}\"")
    }
}

impl Webhooks {
    /// Counts an answer of a webhook.
    pub(crate) fn asked(&self, asked: Asked<'_>, took: Duration, outcome: Outcome) {
        let (code, rejected, error) = match outcome {
            Outcome::Allowed => (200, false, ""),
            Outcome::Denied(code) => (code.min(600), true, "no_error"),
            Outcome::Uncalled { code, tolerated } => {
                (code.min(600), !tolerated, "calling_webhook_error")
            }
            Outcome::Refused => (0, true, "apiserver_internal_error"),
        };
        let Asked {
            name, operation, ..
        } = asked;
        let step = asked.step("validating");
        let mut state = self.state.lock();
        let labels = format!(
            "code=\"{code}\",name=\"{name}\",operation=\"{operation}\",rejected=\"{rejected}\",type=\"{step}\""
        );
        state.count(Counter::Request, labels);
        if rejected {
            let labels = format!(
                "error_type=\"{error}\",name=\"{name}\",operation=\"{operation}\",rejection_code=\"{code}\",type=\"{step}\""
            );
            state.count(Counter::Rejection, labels);
        }
        if let Outcome::Uncalled {
            tolerated: true, ..
        } = outcome
        {
            state.count(
                Counter::FailOpen,
                format!("name=\"{name}\",type=\"{step}\""),
            );
        }
        let labels = asked.labels(&format!("rejected=\"{rejected}\","));
        state.time(Timing::Admission, labels, took);
    }

    /// Counts a look at a webhook's conditions: `None` when they could not be told.
    pub(crate) fn conditions(&self, asked: Asked<'_>, took: Duration, matched: Option<bool>) {
        let Asked {
            name, operation, ..
        } = asked;
        let step = asked.step("validate");
        let labels =
            format!("kind=\"webhook\",name=\"{name}\",operation=\"{operation}\",type=\"{step}\"");
        let mut state = self.state.lock();
        match matched {
            None => state.count(Counter::ConditionError, labels.clone()),
            Some(false) => state.count(Counter::ConditionExclusion, labels.clone()),
            Some(true) => {}
        }
        state.time(Timing::Conditions, labels, took);
    }

    /// Counts a question about objects of a definition: from which version to which, and how it failed.
    pub(crate) fn converted(
        &self,
        definition: &str,
        (from, to): (&str, &str),
        took: Duration,
        result: Result<(), &'static str>,
    ) {
        let (outcome, failure) = match result {
            Ok(()) => ("success", ""),
            Err(failure) => ("failure", failure),
        };
        let labels = format!("failure_type=\"{failure}\",result=\"{outcome}\"");
        let mut state = self.state.lock();
        state.count(Counter::Conversion, labels.clone());
        state.time(Timing::Conversion, labels, took);
        let succeeded = result.is_ok();
        let labels = format!(
            "crd_name=\"{definition}\",from_version=\"{from}\",succeeded=\"{succeeded}\",to_version=\"{to}\""
        );
        state.time(Timing::ConversionOfKind, labels, took);
    }

    /// Their part of the page at `/metrics`; what was never counted is not there.
    pub(super) fn render(&self, out: &mut String) {
        let state = self.state.lock();
        let mut last = None;
        for ((counter, labels), count) in &state.counters {
            let (name, help) = counter.text();
            if last.replace(*counter) != Some(*counter) {
                head(out, name, "counter", "ALPHA", help);
            }
            line(out, name, labels, count);
        }
        let mut last = None;
        for ((timing, labels), histogram) in &state.timings {
            let (name, level, help) = timing.text();
            if last.replace(*timing) != Some(*timing) {
                head(out, name, "histogram", level, help);
            }
            let bucket = format!("{name}_bucket");
            for (count, le) in histogram.buckets.iter().zip(timing.buckets()) {
                line(out, &bucket, &format!("{labels},le=\"{le}\""), count);
            }
            line(
                out,
                &bucket,
                &format!("{labels},le=\"+Inf\""),
                histogram.count,
            );
            line(out, &format!("{name}_sum"), labels, histogram.sum);
            line(out, &format!("{name}_count"), labels, histogram.count);
        }
    }
}

impl State {
    fn count(&mut self, counter: Counter, labels: String) {
        *self.counters.entry((counter, labels)).or_default() += 1;
    }

    fn time(&mut self, timing: Timing, labels: String, took: Duration) {
        let histogram = self.timings.entry((timing, labels)).or_default();
        let (seconds, bounds) = (took.as_secs_f64(), timing.buckets());
        histogram.buckets.resize(bounds.len(), 0);
        histogram.count += 1;
        histogram.sum += seconds;
        for (bucket, bound) in histogram.buckets.iter_mut().zip(bounds) {
            *bucket += u64::from(seconds <= *bound);
        }
    }
}
