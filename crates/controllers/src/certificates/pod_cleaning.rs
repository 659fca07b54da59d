//! Removes requests for certificates of pods when they are a quarter of an hour old: whoever asked has the answer by then.
//!
//! Upstream looks every five minutes; here each request is looked at when its time comes. Upstream:
//! `pkg/controller/certificates/cleaner/pcrcleaner.go`.

use std::sync::Arc;

use control::{Action, Look, Plan, Reconciler, Wake};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::PodCertificateRequest;

const AGE: SignedDuration = SignedDuration::from_mins(15);

/// The controller.
pub struct PodCertificateRequestCleaner;

/// All that a decision may depend on.
pub struct Observed {
    /// The request.
    pub request: Arc<PodCertificateRequest>,
    /// The moment of the decision.
    pub now: Timestamp,
}

impl Reconciler for PodCertificateRequestCleaner {
    type Observed = Observed;

    const NAME: &'static str = "podcertificaterequestcleaner";

    fn wake(on: &mut Wake<'_>) {
        on.on_root::<PodCertificateRequest>()
            .trim::<PodCertificateRequest>(|request| {
                request.spec = Default::default();
                request.status = None;
            });
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        let request = look.caches.of::<PodCertificateRequest>().get(look.key)?;
        let now = look.now;
        Some(Observed { request, now })
    }

    fn reconcile(o: &Observed) -> Plan {
        let created = o.request.metadata.creation_timestamp.as_ref();
        let Some(at) = created.and_then(|t| t.0.checked_add(AGE).ok()) else {
            return Plan::idle("it says nothing about its age");
        };
        if at > o.now {
            return Plan {
                requeue_after: at.duration_since(o.now).try_into().ok(),
                ..Plan::idle("it is not old yet")
            };
        }
        Plan {
            actions: vec![Action::delete(o.request.as_ref(), None)],
            because: "it is a quarter of an hour old".to_owned(),
            ..Plan::default()
        }
    }
}
