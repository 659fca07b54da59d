//! Approves the client certificates that kubelets ask for, when the API says that they may have them.
//!
//! A kubelet that renews its own needs `create` on `certificatesigningrequests/selfnodeclient`, one that joins on
//! `.../nodeclient`. Upstream: `pkg/controller/certificates/approver`.

use std::sync::Arc;

use control::{Action, Answer, Answers, Look, Plan, Question, Reconciler, Wake};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use machinery::certificate::{self, Request};
use serde_json::json;

use super::{IDENTITY, KUBELET_CLIENT, approve, is_pending};

/// The controller.
pub struct CsrApproving;

/// All that a decision may depend on.
pub struct Observed {
    /// The request.
    pub request: Arc<CertificateSigningRequest>,
    /// Which of the rights in question the one who asks has, as far as the API has been asked.
    pub rights: Vec<Right>,
}

/// One right by which a certificate is approved.
pub struct Right {
    /// What the API is asked.
    pub question: Question,
    /// What it said.
    pub answer: Option<bool>,
    /// What the approval says.
    pub message: &'static str,
    subresource: &'static str,
}

impl Reconciler for CsrApproving {
    type Observed = Observed;

    const NAME: &'static str = "csrapproving";
    const IDENTITY: &'static str = IDENTITY;

    fn wake(on: &mut Wake<'_>) {
        on.on_root::<CertificateSigningRequest>();
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        let request = look
            .caches
            .of::<CertificateSigningRequest>()
            .get(look.key)?;
        let rights = match is_pending(&request) {
            true => rights(&request, look.answers),
            false => Vec::new(),
        };
        Some(Observed { request, rights })
    }

    fn reconcile(o: &Observed) -> Plan {
        if !is_pending(&o.request) {
            return Plan::idle("it has been decided about");
        }
        if let Some(right) = o.rights.iter().find(|r| r.answer == Some(true)) {
            return Plan {
                actions: vec![approve(&o.request, right.message)],
                because: "the one who asks may have it".to_owned(),
                ..Plan::default()
            };
        }
        // Answers hold for one look only, so all are asked for together.
        if o.rights.iter().any(|r| r.answer.is_none()) {
            let ask = |right: &Right| Action::Confirm(right.question.clone());
            return Plan {
                actions: o.rights.iter().map(ask).collect(),
                because: "whether the one who asks may have it is asked".to_owned(),
                ..Plan::default()
            };
        }
        let tried: Vec<&str> = o.rights.iter().map(|r| r.subresource).collect();
        Plan::idle(match tried.as_slice() {
            [] => "it is not the client certificate of a kubelet".to_owned(),
            tried => format!("recognized as {tried:?} but not allowed"),
        })
    }
}

/// The rights that would do, the narrower one first; none when it is no client certificate of a kubelet.
fn rights(request: &CertificateSigningRequest, answers: &Answers) -> Vec<Right> {
    let spec = &request.spec;
    let usages = spec.usages.as_deref().unwrap_or_default();
    let Ok(parsed) = Request::parse(&spec.request.0) else {
        return Vec::new();
    };
    if spec.signer_name != KUBELET_CLIENT
        || certificate::check_kubelet_client(&parsed, usages).is_err()
    {
        return Vec::new();
    }
    let right = |subresource, message| {
        let question = question(request, subresource);
        let answer = answers.get(&question).map(|answer| match answer {
            Answer::Present(review) => review["status"]["allowed"] == true,
            _ => false,
        });
        Right {
            question,
            answer,
            message,
            subresource,
        }
    };
    let own = spec.username.as_deref() == Some(parsed.common_name.as_str());
    let own = own.then(|| {
        let message = "Auto approving self kubelet client certificate after SubjectAccessReview.";
        right("selfnodeclient", message)
    });
    let message = "Auto approving kubelet client certificate after SubjectAccessReview.";
    own.into_iter()
        .chain([right("nodeclient", message)])
        .collect()
}

fn question(request: &CertificateSigningRequest, subresource: &str) -> Question {
    let spec = &request.spec;
    let review = json!({
        "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
        "resourceAttributes": {
            "group": "certificates.k8s.io", "version": "*", "verb": "create",
            "resource": "certificatesigningrequests", "subresource": subresource,
        },
    });
    Question::Access(review.to_string())
}
