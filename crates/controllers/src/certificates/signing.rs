//! Hands approved requests to their signer, and puts its certificate into the status.
//!
//! A request that the signer may not sign fails for good. The key is not here: a [`Sign`] holds it. Upstream:
//! `pkg/controller/certificates/signer`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use control::{Look, Plan, Reconciler, StatusWrite, Wake};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use machinery::certificate::{self, Request};

use super::{
    API_CLIENT, APPROVED, DENIED, FAILED, IDENTITY, KUBELET_CLIENT, KUBELET_SERVING,
    LEGACY_UNKNOWN, has, issued, with_condition,
};

/// Nobody gets a certificate for less.
const MIN_SECONDS: i64 = 600;
/// When a signer that could not sign is asked again.
const AGAIN: Duration = Duration::from_secs(60);

/// What is to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Whom and which key.
    pub request: Request,
    /// What for, in the API's words.
    pub usages: Vec<String>,
    /// For how long from now.
    pub seconds: i64,
}

/// Somebody with the key of an authority.
pub trait Sign: Send + Sync {
    /// A certificate, PEM.
    ///
    /// # Errors
    /// The authority has expired, or cannot sign this.
    fn sign(&self, order: &Order, now: Timestamp) -> Result<Vec<u8>, String>;
}

/// The controller: signers by name, and for how long they sign at most.
pub struct CsrSigning {
    /// Who signs what.
    pub signers: BTreeMap<&'static str, Arc<dyn Sign>>,
    /// The longest life of a certificate, and the one of those who do not ask.
    pub max_seconds: i64,
}

/// All that a decision may depend on.
pub struct Observed {
    /// The request.
    pub request: Arc<CertificateSigningRequest>,
    /// What is to be done, and what the signer said to it.
    pub step: Step,
    /// The moment of the decision.
    pub now: Timestamp,
}

/// What is to be done about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Leave(&'static str),
    /// It can never be signed.
    Fail(String),
    /// The signer answered.
    Signed(Result<Vec<u8>, String>),
}

impl Reconciler for CsrSigning {
    type Observed = Observed;

    const NAME: &'static str = "csrsigning";
    const IDENTITY: &'static str = IDENTITY;

    fn wake(on: &mut Wake<'_>) {
        on.on_root::<CertificateSigningRequest>();
    }

    fn observe(&self, look: &Look<'_>) -> Option<Observed> {
        let request = look
            .caches
            .of::<CertificateSigningRequest>()
            .get(look.key)?;
        let signer = self.signers.get(request.spec.signer_name.as_str());
        let step = match order(&request, self.max_seconds) {
            Err(step) => step,
            Ok(order) => match signer {
                Some(signer) => Step::Signed(signer.sign(&order, look.now)),
                None => Step::Leave("no signer of that name is here"),
            },
        };
        let now = look.now;
        Some(Observed { request, step, now })
    }

    fn reconcile(o: &Observed) -> Plan {
        match &o.step {
            Step::Leave(why) => Plan::idle(*why),
            Step::Fail(why) => {
                let mut failed =
                    with_condition(&o.request, FAILED, "SignerValidationFailure", why.clone());
                let conditions = failed.status.as_mut().and_then(|s| s.conditions.as_mut());
                if let Some(last) = conditions.and_then(|all| all.last_mut()) {
                    last.last_update_time = Some(Time(machinery::time::truncate(o.now)));
                }
                Plan {
                    status: Some(StatusWrite::of(&failed)),
                    because: why.clone(),
                    ..Plan::default()
                }
            }
            Step::Signed(Err(why)) => Plan {
                requeue_after: Some(AGAIN),
                ..Plan::idle(format!("the signer cannot sign: {why}"))
            },
            Step::Signed(Ok(certificate)) => {
                let mut request = CertificateSigningRequest::clone(&o.request);
                let status = request.status.get_or_insert_default();
                status.certificate = Some(ByteString(certificate.clone()));
                Plan {
                    status: Some(StatusWrite::of(&request)),
                    because: "it is approved".to_owned(),
                    ..Plan::default()
                }
            }
        }
    }
}

/// What the signer is to sign, or why it is not asked.
fn order(request: &CertificateSigningRequest, max_seconds: i64) -> Result<Order, Step> {
    if !issued(request).is_empty() {
        return Err(Step::Leave("it is signed"));
    }
    if !has(request, APPROVED) || has(request, DENIED) {
        return Err(Step::Leave("it is not approved"));
    }
    if has(request, FAILED) {
        return Err(Step::Leave("it has failed"));
    }
    let spec = &request.spec;
    let usages = spec.usages.clone().unwrap_or_default();
    let parsed = Request::parse(&spec.request.0);
    let parsed = parsed.map_err(|_| Step::Leave("it cannot be read"))?;
    let checked = match spec.signer_name.as_str() {
        KUBELET_SERVING => certificate::check_kubelet_serving(&parsed, &usages),
        KUBELET_CLIENT => certificate::check_kubelet_client(&parsed, &usages),
        API_CLIENT => check_client_usages(&usages),
        LEGACY_UNKNOWN => Ok(()),
        _ => return Err(Step::Leave("its signer is somebody else")),
    };
    checked.map_err(Step::Fail)?;
    let asked = spec.expiration_seconds.map(i64::from);
    let seconds = asked.map_or(max_seconds, |s| s.max(MIN_SECONDS).min(max_seconds));
    Ok(Order {
        request: parsed,
        usages,
        seconds,
    })
}

fn check_client_usages(usages: &[String]) -> Result<(), String> {
    const OPTIONAL: [&str; 2] = ["digital signature", "key encipherment"];
    let wanted = "client auth";
    let other = |u: &&String| !OPTIONAL.contains(&u.as_str()) && *u != wanted;
    if let Some(other) = usages.iter().find(other) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    match usages.iter().any(|u| u == wanted) {
        true => Ok(()),
        false => Err(format!(
            "missing required usage for client certificate: {wanted}"
        )),
    }
}
