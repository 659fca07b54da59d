//! ValidatingAdmissionPolicy in force: what policies and their bindings say about a write.
//!
//! [`Policies`] keeps policies compiled, one for each version of a policy; [`Policies::validate`] asks every policy that a binding
//! puts in force. Without bindings it looks at nothing.
//! Behaviour and wording: `k8s.io/apiserver/pkg/admission/plugin/policy/{validating,generic,matching}`.

mod compiled;
mod matching;
mod params;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBindingSpec;
use machinery::{ApiError, Object};
use serde_json::Value;

use super::Request;
use crate::Lookup;
use compiled::{Denial, Policy};
use matching::Target;

const GROUP: &str = "admissionregistration.k8s.io";

/// What a policy needs to know of a write beyond the plug-ins' [`Request`].
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// API version of the resource.
    pub version: &'a str,
    /// Whether nothing is going to be stored.
    pub dry_run: bool,
}

/// The policies that were asked, compiled.
#[derive(Debug, Default)]
pub struct Policies(Mutex<BTreeMap<String, Kept>>);

/// A policy and the version it was made of.
#[derive(Debug)]
struct Kept {
    version: String,
    policy: Arc<Policy>,
}

impl Policies {
    fn compiled(&self, object: &Object) -> Option<Arc<Policy>> {
        let version = object.meta_str("resourceVersion");
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = kept.get(object.name())
            && own.version == version
        {
            return Some(own.policy.clone());
        }
        let policy = Arc::new(Policy::of(object)?);
        let version = version.to_owned();
        let own = Kept {
            version,
            policy: policy.clone(),
        };
        kept.insert(object.name().to_owned(), own);
        Some(policy)
    }

    /// Asks every policy in force about a write. Gives warnings.
    ///
    /// # Errors
    /// The first refusal.
    pub fn validate(
        &self,
        request: &Request<'_>,
        write: Write<'_>,
        object: &Object,
        lookup: &dyn Lookup,
    ) -> Result<Vec<String>, ApiError> {
        let mut bindings = lookup.list(GROUP, "validatingadmissionpolicybindings", "");
        if bindings.is_empty() || matching::is_exempt(request) {
            return Ok(Vec::new());
        }
        bindings.sort_by(|a, b| a.name().cmp(b.name()));
        let mut policies = lookup.list(GROUP, "validatingadmissionpolicies", "");
        policies.sort_by(|a, b| a.name().cmp(b.name()));
        let tree = (!object.0.is_empty()).then(|| Value::Object(object.0.clone()));
        let old = request.old.map(|old| Value::Object(old.0.clone()));
        let target = Target::new(request, write, tree.as_ref(), old.as_ref(), lookup);
        let mut outcome = Outcome::default();
        for policy in &policies {
            let spec = |binding: &Arc<Object>| {
                (binding.str_at(&["spec", "policyName"]) == policy.name())
                    .then(|| (binding.name().to_owned(), read(binding)))
            };
            let own: Vec<(String, _)> = bindings.iter().filter_map(spec).collect();
            if own.is_empty() {
                continue;
            }
            let Some(compiled) = self.compiled(policy) else {
                continue;
            };
            if !target.matches(compiled.constraints.as_ref()) {
                continue;
            }
            for (name, binding) in &own {
                if target.matches(binding.match_resources.as_ref()) {
                    ask(
                        &compiled,
                        policy.name(),
                        name,
                        binding,
                        &target,
                        &mut outcome,
                    );
                }
            }
        }
        match outcome.denied {
            None => Ok(outcome.warnings),
            Some((message, reason)) => Err(refusal(request, object, &message, &reason)),
        }
    }
}

#[derive(Default)]
struct Outcome {
    denied: Option<(String, String)>,
    warnings: Vec<String>,
}

fn read(binding: &Object) -> ValidatingAdmissionPolicyBindingSpec {
    let spec = binding.0.get("spec").cloned().unwrap_or_default();
    serde_json::from_value(spec).unwrap_or_default()
}

/// Asks one policy as one binding puts it in force.
fn ask(
    policy: &Policy,
    name: &str,
    binding: &str,
    spec: &ValidatingAdmissionPolicyBindingSpec,
    target: &Target<'_>,
    outcome: &mut Outcome,
) {
    let mut deny = |message: &str, reason: &str| {
        let message = format!(
            "ValidatingAdmissionPolicy '{name}' with binding '{binding}' denied request: {message}"
        );
        outcome.denied.get_or_insert((message, reason.to_owned()));
    };
    let found = params::collect(policy.param_kind.as_ref(), spec.param_ref.as_ref(), target);
    let all = match found {
        Ok(all) => all,
        Err(_) if policy.ignores_failures => return,
        Err(why) => return deny(&format!("failed to configure binding: {why}"), "Invalid"),
    };
    for param in &all {
        for denial in policy.validate(target, param.as_deref()) {
            let Denial {
                message,
                reason,
                always,
            } = denial;
            if always {
                deny(&message, &reason);
                continue;
            }
            for action in &spec.validation_actions {
                match action.as_str() {
                    "Deny" => deny(&message, &reason),
                    "Warn" => outcome.warnings.push(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{name}' with binding '{binding}': {message}"
                    )),
                    // What is for the audit log alone does not change the answer.
                    _ => {}
                }
            }
        }
    }
}

fn refusal(request: &Request<'_>, object: &Object, message: &str, reason: &str) -> ApiError {
    let mut error = request.forbidden(object, message);
    let (reason, code) = match reason {
        "Forbidden" => ("Forbidden", 403),
        "Unauthorized" => ("Unauthorized", 401),
        "RequestEntityTooLarge" => ("RequestEntityTooLarge", 413),
        _ => ("Invalid", 422),
    };
    error.reason = reason;
    error.code = code;
    error.caused_by("", message)
}

#[cfg(test)]
mod tests;
