//! Removes requests that have been dealt with for an hour, have waited for a day, or whose certificate has expired.
//!
//! Upstream looks every hour; here each request is looked at when its time comes. Upstream:
//! `pkg/controller/certificates/cleaner`.

use std::sync::Arc;

use control::{Action, Look, Plan, Reconciler, Wake};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use machinery::certificate::Certificate;

use super::{APPROVED, DENIED, FAILED, IDENTITY, conditions, issued};

const DEALT_WITH: SignedDuration = SignedDuration::from_hours(1);
const WAITING: SignedDuration = SignedDuration::from_hours(24);

/// The controller.
pub struct CsrCleaner;

/// All that a decision may depend on.
pub struct Observed {
    /// The request.
    pub request: Arc<CertificateSigningRequest>,
    /// The moment of the decision.
    pub now: Timestamp,
}

impl Reconciler for CsrCleaner {
    type Observed = Observed;

    const NAME: &'static str = "csrcleaner";
    const IDENTITY: &'static str = IDENTITY;

    fn wake(on: &mut Wake<'_>) {
        on.on_root::<CertificateSigningRequest>();
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        let request = look
            .caches
            .of::<CertificateSigningRequest>()
            .get(look.key)?;
        let now = look.now;
        Some(Observed { request, now })
    }

    fn reconcile(o: &Observed) -> Plan {
        let Some((at, because)) = deadline(&o.request) else {
            return Plan::idle("it says nothing about its age");
        };
        if at >= o.now {
            let left = at.duration_since(o.now) + SignedDuration::from_secs(1);
            return Plan {
                requeue_after: left.try_into().ok(),
                ..Plan::idle("it is not old yet")
            };
        }
        Plan {
            actions: vec![Action::delete(o.request.as_ref(), None)],
            because: because.to_owned(),
            ..Plan::default()
        }
    }
}

/// When the first reason to remove it comes true.
fn deadline(request: &CertificateSigningRequest) -> Option<(Timestamp, &'static str)> {
    let mut all = Vec::new();
    let mut after = |from: Option<Timestamp>, time: SignedDuration, why| {
        all.extend(
            from.and_then(|from| from.checked_add(time).ok())
                .map(|at| (at, why)),
        );
    };
    if conditions(request).is_empty() {
        let created = request.metadata.creation_timestamp.as_ref();
        after(
            created.map(|t| t.0),
            WAITING,
            "nobody has looked at it for a day",
        );
    }
    let certificate = issued(request);
    for condition in conditions(request) {
        let updated = condition.last_update_time.as_ref().map(|t| t.0);
        match condition.type_.as_str() {
            DENIED => after(updated, DEALT_WITH, "it was denied an hour ago"),
            FAILED => after(updated, DEALT_WITH, "it failed an hour ago"),
            APPROVED if certificate.is_empty() => {
                after(updated, WAITING, "nobody has signed it for a day");
            }
            APPROVED => {
                after(updated, DEALT_WITH, "it was signed an hour ago");
                let expires = Certificate::parse(certificate).map(|c| c.not_after);
                after(expires, SignedDuration::ZERO, "its certificate has expired");
            }
            _ => {}
        }
    }
    all.into_iter().min()
}
