//! What is counted of PodSecurity.
//!
//! Upstream: `k8s.io/pod-security-admission/metrics`.

use std::collections::BTreeMap;

use access::admission::pod_security::Seen;
use parking_lot::Mutex;

use crate::metrics::{head, line};

#[derive(Default)]
struct Counts {
    evaluations: BTreeMap<String, u64>,
    exemptions: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
}

/// By their labels.
pub(crate) struct PodSecurity(Mutex<Counts>);

/// Shown from the beginning, as upstream does: where nobody asks for anything.
impl Default for PodSecurity {
    fn default() -> Self {
        let mut counts = Counts::default();
        for operation in ["create", "update"] {
            let labels = format!(
                "decision=\"allow\",mode=\"enforce\",policy_level=\"privileged\",policy_version=\"latest\",request_operation=\"{operation}\",resource=\"pod\",subresource=\"\""
            );
            counts.evaluations.insert(labels, 0);
            for resource in ["controller", "pod"] {
                let labels = format!(
                    "request_operation=\"{operation}\",resource=\"{resource}\",subresource=\"\""
                );
                counts.exemptions.insert(labels, 0);
            }
        }
        Self(Mutex::new(counts))
    }
}

impl PodSecurity {
    /// What was seen on a request: its operation in small letters, what it is about, and the sub-resource.
    pub(crate) fn note(
        &self,
        seen: &[Seen],
        (operation, resource, subresource): (&str, &str, &str),
    ) {
        let of = format!(
            "request_operation=\"{operation}\",resource=\"{resource}\",subresource=\"{subresource}\""
        );
        let mut counts = self.0.lock();
        for one in seen {
            let (map, labels) = match one {
                Seen::Exempt => (&mut counts.exemptions, of.clone()),
                Seen::Error { fatal } => (&mut counts.errors, format!("fatal=\"{fatal}\",{of}")),
                Seen::Evaluated {
                    allowed,
                    mode,
                    level,
                    version,
                } => {
                    let decision = if *allowed { "allow" } else { "deny" };
                    let labels = format!(
                        "decision=\"{decision}\",mode=\"{mode}\",policy_level=\"{level}\",policy_version=\"{version}\",{of}"
                    );
                    (&mut counts.evaluations, labels)
                }
            };
            *map.entry(labels).or_default() += 1;
        }
    }

    pub(super) fn render(&self, out: &mut String) {
        let counts = self.0.lock();
        let all = [
            (
                "pod_security_errors_total",
                "Number of errors preventing normal evaluation. Non-fatal errors may result in the latest restricted profile being used for evaluation.",
                &counts.errors,
            ),
            (
                "pod_security_evaluations_total",
                "Number of policy evaluations that occurred, not counting ignored or exempt requests.",
                &counts.evaluations,
            ),
            (
                "pod_security_exemptions_total",
                "Number of exempt requests, not counting ignored or out of scope requests.",
                &counts.exemptions,
            ),
        ];
        for (name, help, counts) in all.into_iter().filter(|(.., counts)| !counts.is_empty()) {
            head(out, name, "counter", "ALPHA", help);
            for (labels, count) in counts {
                line(out, name, labels, count);
            }
        }
    }
}
