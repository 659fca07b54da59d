//! Admission webhooks: servers elsewhere that are asked about writes.
//!
//! Contract: a configuration takes effect when the write that made it is answered. Webhooks that may change an object are
//! asked one after the other, after the plug-ins; when one changed it, the plug-ins run again, and so do those webhooks
//! before it that want to see that. Webhooks that may only refuse are asked all at once, after the plug-ins had their last word.
//! Without webhooks a write costs one look at a pointer.
//!
//! What is asked and answered is decided in `access::admission::{webhook, review, rules}`; [`ask`] sends it.
//! Behaviour: `k8s.io/apiserver/pkg/admission/plugin/webhook`.

mod ask;
pub(crate) mod write;

use std::collections::BTreeSet;
use std::sync::Arc;

use access::admission::webhook::{Webhook, Webhooks};
use arc_swap::ArcSwap;
use futures::future::join_all;
use machinery::{ApiError, Object};
use parking_lot::Mutex;
use serde_json::{Value, json};
use store::EventKind;

use crate::admit::Operation;
use crate::cache::Change;
use ask::{Asked, Failure, ask};
use write::{Audience, Write};

/// The webhooks of the moment.
#[derive(Default)]
pub(crate) struct Table {
    current: ArcSwap<Webhooks>,
    changing: Mutex<()>,
}

impl Table {
    /// All of them, as they are now.
    pub(crate) fn load(&self) -> Arc<Webhooks> {
        self.current.load_full()
    }

    /// Puts configurations of files in the place of those that were there before.
    pub(crate) fn replace_static(&self, mutating: bool, before: &[Object], now: &[Object]) {
        let _changing = self.changing.lock();
        let mut next = Webhooks::clone(&self.current.load());
        for gone in before {
            next.apply(mutating, gone.name(), None);
        }
        for new in now {
            next.apply(mutating, new.name(), Some(new));
        }
        self.current.store(Arc::new(next));
    }

    /// Follows the configurations of one of the two kinds.
    pub(crate) fn apply(&self, mutating: bool, change: &Change) {
        let object = match change.kind {
            EventKind::Put => change.object.decode(),
            EventKind::Delete => None,
        };
        let _changing = self.changing.lock();
        let mut next = Webhooks::clone(&self.current.load());
        next.apply(mutating, change.object.name(), object.as_ref());
        self.current.store(Arc::new(next));
    }
}

/// The webhooks that may change one write, and which of them want to look again.
pub(crate) struct Rounds {
    audience: Audience,
    webhooks: Arc<Webhooks>,
    asked_again: BTreeSet<usize>,
    /// Asked already, and wanting to look at what others do after them.
    waiting: BTreeSet<usize>,
    round: usize,
}

impl Rounds {
    /// For one write; `None` when no webhook is to be asked about it.
    pub(crate) fn of(operation: &Operation<'_>) -> Option<Self> {
        let webhooks = operation.call().server.webhooks().load();
        let audience = Audience::of_webhooks(operation);
        let some = !webhooks.mutating().is_empty() && audience != Audience::Nobody;
        some.then(|| Self {
            audience,
            webhooks,
            asked_again: BTreeSet::new(),
            waiting: BTreeSet::new(),
            round: 0,
        })
    }

    /// Asks the webhooks of a round one after the other; true when one of them changed the object.
    ///
    /// # Errors
    /// A refusal, or a webhook that cannot be asked and must be.
    pub(crate) async fn run(
        &mut self,
        operation: &Operation<'_>,
        object: &mut Object,
        old: Option<&Object>,
    ) -> Result<bool, ApiError> {
        let webhooks = self.webhooks.clone();
        let mut changed_any = false;
        for (index, webhook) in webhooks.mutating().iter().enumerate() {
            if !self.audience.holds(webhook.is_static()) {
                continue;
            }
            let write = Write::new(operation, object, old);
            let Some(name) = write.concerns(webhook, true).await? else {
                continue;
            };
            if self.round > 0 && !self.asked_again.contains(&index) {
                continue;
            }
            let mark = Mark {
                operation,
                webhook,
                round: self.round,
                index,
            };
            let asked = match ask(&write, webhook, name, true).await {
                Ok(asked) => asked,
                Err(failure) => {
                    mark.mutation(false);
                    tolerate(webhook, failure)?;
                    mark.failed_open("mutation");
                    Asked::default()
                }
            };
            if let Some(patch) = &asked.patch {
                mark.patch(patch);
            }
            let changed = asked.object.filter(|new| new != &*object);
            mark.mutation(changed.is_some());
            if let Some(new) = changed {
                *object = new;
                changed_any = true;
                self.require_again();
            }
            if webhook.wants_again() {
                self.waiting.insert(index);
            }
        }
        self.round += 1;
        Ok(changed_any)
    }

    /// The object has changed: whoever wants to see that looks again.
    pub(crate) fn require_again(&mut self) {
        self.asked_again.append(&mut self.waiting);
    }
}

/// Asks all webhooks that may refuse a write, at once.
///
/// # Errors
/// The first refusal, in the order of the webhooks.
pub(crate) async fn validate(
    operation: &Operation<'_>,
    object: &Object,
    old: Option<&Object>,
) -> Result<(), ApiError> {
    let webhooks = operation.call().server.webhooks().load();
    let audience = Audience::of_webhooks(operation);
    if webhooks.validating().is_empty() || audience == Audience::Nobody {
        return Ok(());
    }
    let write = Write::new(operation, object, old);
    let mut asking = Vec::new();
    let all = webhooks.validating().iter();
    for webhook in all.filter(|webhook| audience.holds(webhook.is_static())) {
        if let Some(name) = write.concerns(webhook, false).await? {
            let write = &write;
            let mark = Mark {
                operation,
                webhook,
                round: 0,
                index: asking.len(),
            };
            asking.push(async move {
                let Err(failure) = ask(write, webhook, name, false).await else {
                    return Ok(());
                };
                tolerate(webhook, failure)?;
                mark.failed_open("validating");
                Ok(())
            });
        }
    }
    join_all(asking).await.into_iter().collect()
}

/// What the audit log is told of one webhook and one write.
struct Mark<'a> {
    operation: &'a Operation<'a>,
    webhook: &'a Webhook,
    round: usize,
    index: usize,
}

impl Mark<'_> {
    fn key(&self, prefix: &str) -> String {
        let Self { round, index, .. } = self;
        format!("{prefix}.webhook.admission.k8s.io/round_{round}_index_{index}")
    }

    /// Whether the webhook changed the object.
    fn mutation(&self, mutated: bool) {
        let (configuration, webhook) = (&self.webhook.configuration, &self.webhook.spec.name);
        let told = format!(
            "{{\"configuration\":{},\"webhook\":{},\"mutated\":{mutated}}}",
            json!(configuration),
            json!(webhook)
        );
        self.operation.call().annotate(&self.key("mutation"), &told);
    }

    /// How the webhook changed the object; only where bodies are written down.
    fn patch(&self, patch: &Value) {
        let (configuration, webhook) = (&self.webhook.configuration, &self.webhook.spec.name);
        let told = || {
            format!(
                "{{\"configuration\":{},\"webhook\":{},\"patch\":{patch},\"patchType\":\"JSONPatch\"}}",
                json!(configuration),
                json!(webhook)
            )
        };
        let trail = &self.operation.call().trail;
        trail.annotate_bodies(&self.key("patch"), told);
    }

    /// The webhook could not be asked, and the write went on.
    fn failed_open(&self, what: &str) {
        let key = self.key(&format!("failed-open.{what}"));
        self.operation
            .call()
            .annotate(&key, &self.webhook.spec.name);
    }
}

/// A failure is the client's, unless the webhook's configuration says that it does not matter.
fn tolerate(webhook: &Webhook, failure: Failure) -> Result<(), ApiError> {
    let name = &webhook.spec.name;
    match failure {
        Failure::Denied(error) | Failure::Refused(error) => Err(error),
        Failure::Calling { why, .. } if webhook.ignores_failure() => {
            tracing::warn!(
                webhook = name,
                why,
                "a webhook could not be asked, and need not be"
            );
            Ok(())
        }
        Failure::Calling { why, .. } => {
            let why = format!("failed calling webhook {name:?}: {why}");
            Err(ApiError::internal(why))
        }
    }
}
