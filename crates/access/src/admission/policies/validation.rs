//! All that validating policies say about a write together: refusals, warnings, what the audit log is told.

use machinery::ApiError;
use serde::Serialize;

use super::{Binding, Decision, Hook};
use crate::admission::policies::compiled::Opinion;

/// The most failures that the audit log is told of a write.
const MAX_FAILURES: usize = 50;
/// An annotation is cut there.
const MAX_ANNOTATION: usize = 10 * 1024;
/// Where the audit log keeps failures.
const FAILURES: &str = "validation.policy.admission.k8s.io/validation_failure";

/// A check, for those who count them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The policy.
    pub policy: String,
    /// The binding.
    pub binding: String,
    /// What went wrong: `no_error`, `compile_error`, `out_of_budget`, `invalid_error`.
    pub error: &'static str,
    /// What followed: `allow`, `deny`, `audit`, `warn`.
    pub action: &'static str,
}

/// A rule that a write breaks, as the audit log is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Broken {
    message: String,
    policy: String,
    binding: String,
    expression_index: usize,
    validation_actions: Vec<String>,
}

/// What policies say about a write.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Message and reason of the first refusal.
    denied: Option<(String, String)>,
    /// What the client is told beside the answer.
    pub warnings: Vec<String>,
    /// What is counted.
    pub checks: Vec<Check>,
    failures: Vec<Broken>,
    /// By key: the values of all bindings.
    annotations: Vec<(String, Vec<String>)>,
}

/// What went wrong, as it is counted; `why` is what the client is told.
pub fn error_type(why: Option<&str>) -> &'static str {
    match why {
        None => "no_error",
        Some(why) if why.starts_with("compilation") => "compile_error",
        Some(why) if why.starts_with("validation failed due to running out of cost budget") => {
            "out_of_budget"
        }
        Some(_) => "invalid_error",
    }
}

impl Outcome {
    fn deny(&mut self, hook: &Hook, binding: Option<&Binding>, message: &str, reason: &str) {
        let policy = &hook.name;
        let with = binding.map_or_else(String::new, |b| format!(" with binding '{}'", b.name));
        let message =
            format!("ValidatingAdmissionPolicy '{policy}'{with} denied request: {message}");
        self.denied.get_or_insert((message, reason.to_owned()));
    }

    /// A policy (or a binding of it) that cannot be asked.
    pub fn misconfigured(&mut self, hook: &Hook, binding: Option<&Binding>, why: &str) {
        if hook.ignores_failures() {
            return;
        }
        let what = match binding {
            None => "policy",
            Some(_) => "binding",
        };
        let message = format!("failed to configure {what}: {why}");
        self.deny(hook, binding, &message, "Invalid");
    }

    /// What a policy said, as one of its bindings puts it in force.
    pub fn hear(&mut self, hook: &Hook, binding: &Binding, opinion: Opinion) {
        for (index, decision) in opinion.decisions.into_iter().enumerate() {
            let (message, reason) = match decision {
                Decision::Admit => continue,
                Decision::Ignored(why) => {
                    self.count(hook, binding, "allow", &why);
                    continue;
                }
                Decision::Failed(why) => (why, "Invalid".to_owned()),
                Decision::Deny(message, reason) => (message, reason),
            };
            for action in &binding.actions {
                self.act(hook, binding, action, index, &message, &reason);
            }
        }
        for (key, value) in opinion.annotations {
            let key = format!("{}/{key}", hook.name);
            self.annotate(key, cut(value));
        }
        for why in opinion.failed_annotations {
            self.count(hook, binding, "deny", &why);
            self.deny(hook, Some(binding), &why, "Invalid");
        }
    }

    fn act(
        &mut self,
        hook: &Hook,
        binding: &Binding,
        action: &str,
        index: usize,
        message: &str,
        reason: &str,
    ) {
        match action {
            "Deny" => {
                self.deny(hook, Some(binding), message, reason);
                self.count(hook, binding, "deny", message);
            }
            "Audit" => {
                self.failures.push(Broken {
                    message: message.to_owned(),
                    policy: hook.name.clone(),
                    binding: binding.name.clone(),
                    expression_index: index,
                    validation_actions: binding.actions.clone(),
                });
                self.count(hook, binding, "audit", message);
            }
            _ => {
                self.warnings.push(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {message}",
                    hook.name, binding.name
                ));
                self.count(hook, binding, "warn", message);
            }
        }
    }

    fn count(&mut self, hook: &Hook, binding: &Binding, action: &'static str, why: &str) {
        self.checks.push(Check {
            policy: hook.name.clone(),
            binding: binding.name.clone(),
            error: error_type(Some(why)),
            action,
        });
    }

    fn annotate(&mut self, key: String, value: String) {
        match self.annotations.iter_mut().find(|(own, _)| *own == key) {
            Some((_, values)) if values.contains(&value) => {}
            Some((_, values)) => values.push(value),
            None => self.annotations.push((key, vec![value])),
        }
    }

    /// Key and value of what the audit log is told.
    pub fn annotations(&self) -> Vec<(String, String)> {
        let all = self.annotations.iter();
        let mut all: Vec<(String, String)> = all
            .map(|(key, values)| (key.clone(), values.join(", ")))
            .collect();
        if !self.failures.is_empty() {
            let failures = &self.failures[..self.failures.len().min(MAX_FAILURES)];
            if let Ok(text) = serde_json::to_string(failures) {
                all.push((FAILURES.to_owned(), text));
            }
        }
        all
    }

    /// The answer to the write, if it is refused; `forbidden` makes one of a message.
    pub fn refusal(&self, forbidden: impl FnOnce(&str) -> ApiError) -> Option<ApiError> {
        let (message, reason) = self.denied.as_ref()?;
        let mut error = forbidden(message);
        let (reason, code) = match reason.as_str() {
            "Forbidden" => ("Forbidden", 403),
            "Unauthorized" => ("Unauthorized", 401),
            "RequestEntityTooLarge" => ("RequestEntityTooLarge", 413),
            _ => ("Invalid", 422),
        };
        error.reason = reason;
        error.code = code;
        Some(error.caused_by("", message))
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_ANNOTATION {
        let mut end = MAX_ANNOTATION;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}
