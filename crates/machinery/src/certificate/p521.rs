//! Signatures by keys on the curve P-521, which the usual provider does not know.

use ::p521::ecdsa::signature::hazmat::PrehashVerifier;
use ::p521::ecdsa::{DerSignature, VerifyingKey};
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_parser::certification_request::X509CertificationRequest;

const CURVE: &str = "1.3.132.0.35";
const WITH_SHA256: &str = "1.2.840.10045.4.3.2";
const WITH_SHA384: &str = "1.2.840.10045.4.3.3";
const WITH_SHA512: &str = "1.2.840.10045.4.3.4";

/// Whether the request is about such a key and signed with it.
pub(super) fn is_signed(request: &X509CertificationRequest<'_>) -> bool {
    verify(request).is_some()
}

fn verify(request: &X509CertificationRequest<'_>) -> Option<()> {
    let info = &request.certification_request_info;
    let key = &info.subject_pki;
    let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?;
    if curve.to_id_string() != CURVE {
        return None;
    }
    let digest = match request
        .signature_algorithm
        .algorithm
        .to_id_string()
        .as_str()
    {
        WITH_SHA256 => Sha256::digest(info.raw).to_vec(),
        WITH_SHA384 => Sha384::digest(info.raw).to_vec(),
        WITH_SHA512 => Sha512::digest(info.raw).to_vec(),
        _ => return None,
    };
    let key = VerifyingKey::from_sec1_bytes(&key.subject_public_key.data).ok()?;
    let signature = DerSignature::from_bytes(&request.signature_value.data).ok()?;
    key.verify_prehash(&digest, &signature).ok()
}
