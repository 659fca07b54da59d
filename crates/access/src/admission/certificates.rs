//! Who may approve and sign requests for certificates, and which are refused whoever asks.
//!
//! A right on the synthetic resource `signers`: its name is the signer's, or its domain and `/*`.
//! Behaviour: `plugin/pkg/admission/certificates/{approval,signing,ctbattest,subjectrestriction}`, `pkg/certauthorization`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use machinery::{ApiError, Object, certificate};
use serde_json::Value;

use super::{Operation, Request};
use crate::user::SYSTEM_MASTERS;
use crate::{Attributes, Lookup};

const GROUP: &str = "certificates.k8s.io";
const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";

fn concerns(request: &Request, operation: Operation, subresource: &str) -> bool {
    request.is_for(GROUP, "certificatesigningrequests")
        && request.operation == operation
        && request.subresource == subresource
}

/// Whether the one who asks has this right on a signer.
fn may(request: &Request, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    [signer.to_owned(), format!("{domain}/*")]
        .iter()
        .any(|name| {
            let attributes = Attributes {
                api_version: "*".to_owned(),
                name: name.clone(),
                ..Attributes::resource(request.user, verb, GROUP, "signers")
            };
            request.authorizer.authorize(&attributes).is_allowed()
        })
}

/// The signer is the one in the stored object: a writer cannot choose another.
fn old_signer<'a>(request: &Request<'a>) -> &'a str {
    request
        .old
        .map_or("", |old| old.str_at(&["spec", "signerName"]))
}

/// CertificateApproval.
pub(super) fn approval(request: &Request, object: &Object, _: &dyn Lookup) -> Result<(), ApiError> {
    if !concerns(request, Operation::Update, "approval") {
        return Ok(());
    }
    let signer = old_signer(request);
    match may(request, "approve", signer) {
        true => Ok(()),
        false => {
            let why = format!("user not permitted to approve requests with signerName {signer:?}");
            Err(request.forbidden(object, why))
        }
    }
}

/// CertificateSigning.
pub(super) fn signing(request: &Request, object: &Object, _: &dyn Lookup) -> Result<(), ApiError> {
    if !concerns(request, Operation::Update, "status") {
        return Ok(());
    }
    let part = |object: Option<&Object>, key: &str| {
        let value = object.and_then(|o| o.at(&["status", key]).cloned());
        value.filter(|v| !v.is_null() && v.as_array().is_none_or(|a| !a.is_empty()))
    };
    let same = |key: &str| part(Some(object), key) == part(request.old, key);
    let signer = old_signer(request);
    if (same("certificate") && same("conditions")) || may(request, "sign", signer) {
        return Ok(());
    }
    let why = format!("user not permitted to sign requests with signerName {signer:?}");
    Err(request.forbidden(object, why))
}

/// ClusterTrustBundleAttest: who publishes a signer's roots may speak for the signer.
pub(super) fn attest(request: &Request, object: &Object, _: &dyn Lookup) -> Result<(), ApiError> {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    let signer = object.str_at(&["spec", "signerName"]);
    if !request.is_for(GROUP, "clustertrustbundles") || !writes || signer.is_empty() {
        return Ok(());
    }
    // Collecting garbage and writing anew what is stored need no right on the signer.
    let unchanged = request.operation == Operation::Update
        && request
            .old
            .is_some_and(|old| crate::rbac::only_collector_fields(object, old));
    if unchanged || may(request, "attest", signer) {
        return Ok(());
    }
    let why = format!("user not permitted to attest for signerName {signer:?}");
    Err(request.forbidden(object, why))
}

/// CertificateSubjectRestriction.
pub(super) fn subject(request: &Request, object: &Object, _: &dyn Lookup) -> Result<(), ApiError> {
    let asked = object.at(&["spec", "signerName"]).and_then(Value::as_str);
    if !concerns(request, Operation::Create, "") || asked != Some(API_CLIENT) {
        return Ok(());
    }
    let pem = STANDARD.decode(object.str_at(&["spec", "request"]));
    let parsed = certificate::Request::parse(&pem.unwrap_or_default());
    let parsed =
        parsed.map_err(|why| request.forbidden(object, format!("failed to parse CSR: {why}")))?;
    if parsed
        .organizations
        .iter()
        .any(|group| group == SYSTEM_MASTERS)
    {
        let why = format!("use of {API_CLIENT} signer with {SYSTEM_MASTERS} group is not allowed");
        return Err(request.forbidden(object, why));
    }
    Ok(())
}
