//! Requests for certificates: approved when a kubelet asks for itself, signed when approved, removed when old.
//!
//! Four controllers over one kind, and one over the requests of pods. [`approving`] asks the API whether the one who asks may have it; [`serving`] looks at
//! the node instead, which upstream leaves to others; [`signing`] hands to a signer what is approved; [`cleaning`]
//! removes, and [`pod_cleaning`] does so with PodCertificateRequests. Upstream: `pkg/controller/certificates`.

pub mod approving;
pub mod cleaning;
pub mod pod_cleaning;
pub mod serving;
pub mod signing;
#[cfg(test)]
mod tests;

use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition as Condition,
};

/// The service account of upstream's controllers for certificates.
const IDENTITY: &str = "certificate-controller";
/// Client certificates of kubelets.
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Serving certificates of kubelets.
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// Client certificates of anybody.
pub const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// Whatever is asked for.
pub const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";

const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
const FAILED: &str = "Failed";

fn conditions(request: &CertificateSigningRequest) -> &[Condition] {
    let status = request.status.as_ref();
    status
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default()
}

fn has(request: &CertificateSigningRequest, type_: &str) -> bool {
    conditions(request).iter().any(|c| c.type_ == type_)
}

fn issued(request: &CertificateSigningRequest) -> &[u8] {
    let certificate = request.status.as_ref().and_then(|s| s.certificate.as_ref());
    certificate.map_or(&[], |c| &c.0)
}

/// Nobody has decided about it yet.
fn is_pending(request: &CertificateSigningRequest) -> bool {
    issued(request).is_empty() && !has(request, APPROVED) && !has(request, DENIED)
}

/// The request with one more condition.
fn with_condition(
    request: &CertificateSigningRequest,
    type_: &str,
    reason: &str,
    message: String,
) -> CertificateSigningRequest {
    let mut request = request.clone();
    let status = request.status.get_or_insert_default();
    status.conditions.get_or_insert_default().push(Condition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: None,
        last_transition_time: None,
    });
    request
}

/// The write that approves.
fn approve(request: &CertificateSigningRequest, message: &str) -> control::Action {
    let approved = with_condition(request, APPROVED, "AutoApproved", message.to_owned());
    control::Action::Update {
        target: control::Target::of(&approved),
        object: control::plan::to_value(&approved),
        subresource: Some("approval"),
        report: None,
    }
}
