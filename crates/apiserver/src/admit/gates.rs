//! The plug-ins that are more than a function over one request: one asks somebody elsewhere about images, one remembers how
//! many events there were, one makes namespaces, and two show webhooks who asks. What they decide stands in `access::admission`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use access::admission::event_rate_limit::Enforcers;
use access::admission::image_policy::{self, AUDIT_PREFIX, Answer, Configuration, FAILED_OPEN};
use access::admission::manifests::Source;
use access::admission::{self, Settings};
use bytes::Bytes;
use http::Method;
use machinery::{ApiError, Object};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Operation;
use crate::bootstrap::Own;
use crate::kept::Kept;
use crate::outbound::Callee;
use crate::outbound::kubeconfig::{self, HookUsers};
use crate::server::Server;

/// Answers about images that are kept at most.
const MOST_ANSWERS: usize = 1024;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What these plug-ins have beside their settings.
pub(crate) struct Gates {
    began: Instant,
    events: Mutex<Enforcers>,
    images: Option<Images>,
    /// Who the server is for webhooks that may change objects, and for those that may not.
    hook_users: [HookUsers; 2],
}

struct Images {
    settings: Configuration,
    callee: Callee,
    answers: Mutex<Kept<String, Answer>>,
}

impl Gates {
    /// As the operator set them.
    ///
    /// # Errors
    /// The far end cannot be used as it is described.
    pub(crate) fn new(settings: &Settings) -> Result<Self, String> {
        let images = settings.image_policy.as_ref().map(Images::new).transpose();
        let users = |source: Source| match settings.webhook_users.get(&source) {
            None => Ok(HookUsers::default()),
            Some(path) => HookUsers::load(path).map_err(|why| {
                let plugin = source.plugin();
                format!("couldn't init admission plugin {plugin:?}: {why}")
            }),
        };
        let hook_users = [Source::MutatingWebhooks, Source::ValidatingWebhooks].map(users);
        let [mutating, validating] = hook_users;
        Ok(Self {
            hook_users: [mutating?, validating?],
            began: Instant::now(),
            events: Mutex::new(Enforcers::new(&settings.event_limits)),
            images: images.map_err(|why| {
                format!("couldn't init admission plugin \"ImagePolicyWebhook\": {why}")
            })?,
        })
    }

    /// What the server shows to an admission webhook.
    pub(crate) fn hook_users(&self, mutating: bool) -> &HookUsers {
        &self.hook_users[usize::from(!mutating)]
    }

    /// NamespaceAutoProvision: makes the namespace of something new.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) async fn provide(
        &self,
        operation: &Operation<'_>,
        object: &Object,
    ) -> Result<(), ApiError> {
        let call = operation.call;
        let (server, namespace) = (&call.server, call.info.namespace.as_str());
        let new = operation.operation == admission::Operation::Create && !operation.dry_run;
        let inside = !namespace.is_empty() && operation.kind != "Namespace";
        let chosen = server.policy().admission.has("NamespaceAutoProvision");
        let missing = || access::Lookup::get(&**server, "", "namespaces", "", namespace).is_none();
        if !(new && inside && chosen && missing()) {
            return Ok(());
        }
        let wanted = Object::from_value(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace},
        }));
        let wanted = wanted.unwrap_or_default();
        let own = Own::of(server);
        // Boxed, for the write below is one of those that come here.
        let made = Box::pin(own.send(Method::POST, "/api/v1/namespaces", Some(&wanted)));
        match made.await {
            Err(error) if error.code != 409 => Err(operation.with(object, None, |request| {
                request.forbidden(object, &error.message)
            })),
            _ => Ok(()),
        }
    }

    /// EventRateLimit, then ImagePolicyWebhook.
    ///
    /// # Errors
    /// There are too many events, or an image may not run.
    pub(super) async fn validate(
        &self,
        operation: &Operation<'_>,
        object: &Object,
        old: Option<&Object>,
    ) -> Result<(), ApiError> {
        if !operation.dry_run {
            let now = self.began.elapsed();
            operation.with(object, old, |request| {
                self.events.lock().accept(request, object, now)
            })?;
        }
        match &self.images {
            Some(images) => images.validate(operation, object, old).await,
            None => Ok(()),
        }
    }
}

impl Images {
    fn new(settings: &Configuration) -> Result<Self, String> {
        let (destination, path) = kubeconfig::load(&settings.kubeconfig)?;
        Ok(Self {
            settings: settings.clone(),
            callee: Callee {
                destination,
                path,
                timeout: PATIENCE,
                first_pause: settings.retry_backoff,
            },
            answers: Mutex::new(Kept::new(MOST_ANSWERS)),
        })
    }

    async fn validate(
        &self,
        operation: &Operation<'_>,
        pod: &Object,
        old: Option<&Object>,
    ) -> Result<(), ApiError> {
        let question = operation.with(pod, old, |request| image_policy::question(request, pod));
        let Some(spec) = question else { return Ok(()) };
        let call = operation.call;
        let refused = |why: String| operation.with(pod, old, |request| request.forbidden(pod, why));
        let answer = match self.answer(&call.server, &spec).await {
            Ok(answer) => answer,
            Err(error) if self.settings.default_allow => {
                tracing::warn!(error, "an image policy webhook does not answer");
                call.annotate(&format!("{AUDIT_PREFIX}{FAILED_OPEN}"), "true");
                return Ok(());
            }
            Err(error) => return Err(refused(error)),
        };
        for (key, value) in &answer.audit_annotations {
            call.annotate(&format!("{AUDIT_PREFIX}{key}"), value);
        }
        answer.refusal().map_or(Ok(()), |why| Err(refused(why)))
    }

    async fn answer(&self, server: &Arc<Server>, spec: &Value) -> Result<Answer, String> {
        let key = spec.to_string();
        if let Some(known) = self.answers.lock().get(&key) {
            return Ok(known);
        }
        let question = Bytes::from(image_policy::review(spec).to_string());
        let answer = Answer::read(&self.callee.ask(server, &question).await?)?;
        let time = match answer.allowed {
            true => self.settings.allow_ttl,
            false => self.settings.deny_ttl,
        };
        if !time.is_zero() {
            self.answers.lock().put(key, answer.clone(), time);
        }
        Ok(answer)
    }
}
