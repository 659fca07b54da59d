//! An authorizer elsewhere: asked by `SubjectAccessReview`, its answers kept for a while.
//!
//! Behaviour: `k8s.io/apiserver/plugin/pkg/authorizer/webhook`.

use std::path::Path;
use std::time::Duration;

use access::authorization::{Webhook as Settings, review};
use access::{Attributes, Decision, Verdict};
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;

use crate::kept::Kept;
use crate::outbound::{Callee, kubeconfig};
use crate::server::Server;

/// Answers that are kept at most.
const MOST_ANSWERS: usize = 8192;

/// One authorizer elsewhere.
pub(super) struct Webhook {
    settings: Settings,
    callee: Callee,
    answers: Mutex<Kept<String, Verdict>>,
}

impl Webhook {
    /// As the operator described it.
    ///
    /// # Errors
    /// The kubeconfig cannot be used.
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let Some(kubeconfig) = &settings.kubeconfig else {
            return Err(
                "connectionInfo.type=InClusterConfig is for servers that run in a pod".to_owned(),
            );
        };
        let (destination, path) = kubeconfig::load(Path::new(kubeconfig))?;
        Ok(Self {
            settings: settings.clone(),
            callee: Callee {
                destination,
                path,
                timeout: settings.timeout,
                first_pause: Callee::USUAL_PAUSE,
            },
            answers: Mutex::new(Kept::new(MOST_ANSWERS)),
        })
    }

    pub(super) async fn decide(&self, server: &Server, attributes: &Attributes) -> Verdict {
        let failed =
            |error: String| Verdict::failed(self.settings.failure_policy.decision(), error);
        let spec = review::spec(attributes);
        match self.settings.conditions.hold(&spec) {
            Ok(true) => {}
            Ok(false) => return Verdict::no_opinion(""),
            Err(error) => return failed(error),
        }
        let key = spec.to_string();
        if let Some(known) = self.answers.lock().get(&key) {
            return known;
        }
        let answer = match self.ask(server, &spec).await {
            Ok(answer) => answer,
            Err(error) => {
                let name = &self.settings.name;
                tracing::error!(name, %error, "failed to make webhook authorizer request");
                return failed(error);
            }
        };
        let verdict = review::verdict(&answer);
        if review::may_be_kept(attributes) {
            let time = match verdict.decision {
                Decision::Allow => self.settings.authorized_ttl,
                _ => self.settings.unauthorized_ttl,
            };
            self.keep(key, &verdict, time);
        }
        verdict
    }

    fn keep(&self, key: String, verdict: &Verdict, time: Duration) {
        if !time.is_zero() {
            self.answers.lock().put(key, verdict.clone(), time);
        }
    }

    async fn ask(&self, server: &Server, spec: &Value) -> Result<Value, String> {
        let question = review::question(&self.settings.version, spec).to_string();
        let body = self.callee.ask(server, &Bytes::from(question)).await?;
        serde_json::from_slice(&body).map_err(|e| e.to_string())
    }
}
