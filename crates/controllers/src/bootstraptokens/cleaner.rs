//! Removes bootstrap tokens that have expired.

use std::sync::Arc;

use control::{Action, Key, Look, Plan, Reconciler, Wake};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use super::{expiration, is_token};

/// The controller.
pub struct TokenCleaner;

/// All that a decision may depend on.
pub struct Observed {
    /// The token.
    pub secret: Arc<Secret>,
    /// The moment of the decision.
    pub now: Timestamp,
}

impl Reconciler for TokenCleaner {
    type Observed = Observed;

    const NAME: &'static str = "token-cleaner";

    fn wake(on: &mut Wake<'_>) {
        on.on::<Secret>(|change, _| {
            let concerns = is_token(change.latest()) && !change.is_deletion();
            concerns
                .then(|| Key::of(change.latest()))
                .into_iter()
                .collect()
        });
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        let secret = look.caches.of::<Secret>().get(look.key)?;
        let now = look.now;
        is_token(&secret).then_some(Observed { secret, now })
    }

    fn reconcile(o: &Observed) -> Plan {
        match expiration(&o.secret) {
            None => Plan::idle("it does not expire"),
            Some(at) if at > o.now => Plan {
                requeue_after: at.duration_since(o.now).try_into().ok(),
                ..Plan::idle("it has not expired yet")
            },
            Some(_) => Plan {
                actions: vec![Action::delete(o.secret.as_ref(), None)],
                because: "it has expired".to_owned(),
                ..Plan::default()
            },
        }
    }
}
