//! Keys for certificates of pods, each with the proof that whoever asks has it: a certificate request (PKCS #10) that says
//! nothing and is signed with the key.

use machinery::pem;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rsa::pkcs8::EncodePrivateKey;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: &[u8] = &[0x05, 0];
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// The attributes of a request: none.
const NO_ATTRIBUTES: &[u8] = &[0xa0, 0];

const EC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
const ECDSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04];
const RSA_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// A key and the request for its certificate.
pub(super) struct Made {
    /// The key: PKCS #8 as PEM.
    pub(super) key: String,
    /// The request, DER.
    pub(super) request: Vec<u8>,
}

/// Makes a key of one of the kinds that pods may ask for. Those of RSA take seconds.
pub(super) fn generate(key_type: &str) -> Result<Made, String> {
    match key_type {
        "RSA3072" => of_rsa(3072),
        "RSA4096" => of_rsa(4096),
        "ECDSAP256" => of_curve(&ECDSA_P256_SHA256_ASN1_SIGNING, P256, ECDSA_SHA256),
        "ECDSAP384" => of_curve(&ECDSA_P384_SHA384_ASN1_SIGNING, P384, ECDSA_SHA384),
        "ECDSAP521" => of_p521(),
        "ED25519" => of_ed25519(),
        other => Err(format!("unknown key type {other:?}")),
    }
}

fn of_curve(
    algorithm: &'static EcdsaSigningAlgorithm,
    curve: &[u8],
    signature: &[u8],
) -> Result<Made, String> {
    let random = SystemRandom::new();
    let failed = |why: &dyn std::fmt::Display| format!("while generating ECDSA key: {why}");
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(|e| failed(&e))?;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random);
    let pair = pair.map_err(|e| failed(&e))?;
    let info = info(
        &[EC_KEY, curve].map(object).concat(),
        pair.public_key().as_ref(),
    );
    let signed = pair.sign(&random, &info).map_err(|e| failed(&e))?;
    Ok(Made {
        key: pem::encode("PRIVATE KEY", document.as_ref()),
        request: request(&info, &object(signature), signed.as_ref()),
    })
}

fn of_p521() -> Result<Made, String> {
    use p521::ecdsa::signature::Signer;
    use p521::ecdsa::{DerSignature, SigningKey};
    const TRIES: usize = 64;
    let random = SystemRandom::new();
    let failed = |why: &dyn std::fmt::Display| format!("while generating ECDSA P521 key: {why}");
    let mut found = None;
    for _ in 0..TRIES {
        let mut bytes = [0; 66];
        random.fill(&mut bytes).map_err(|e| failed(&e))?;
        // The order of the curve is a little less than 2^521: nearly every such number is a key.
        bytes[0] &= 1;
        found = p521::SecretKey::from_slice(&bytes).ok();
        if found.is_some() {
            break;
        }
    }
    let secret = found.ok_or_else(|| failed(&"no luck"))?;
    let document = secret.to_pkcs8_der().map_err(|e| failed(&e))?;
    let key = SigningKey::from(secret);
    let public = key.verifying_key().to_sec1_point(false);
    let info = info(&[EC_KEY, P521].map(object).concat(), public.as_bytes());
    let signed: DerSignature = key.try_sign(&info).map_err(|e| failed(&e))?;
    Ok(Made {
        key: pem::encode("PRIVATE KEY", document.as_bytes()),
        request: request(&info, &object(ECDSA_SHA512), signed.as_bytes()),
    })
}

fn of_ed25519() -> Result<Made, String> {
    let failed = |why: &dyn std::fmt::Display| format!("while generating Ed25519 key: {why}");
    let mut seed = [0; 32];
    let random = SystemRandom::new();
    random.fill(&mut seed).map_err(|e| failed(&e))?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|e| failed(&e))?;
    let algorithm = object(ED25519);
    // Version 1, without the public key: the one that every reader knows.
    let document = [
        wrap(INTEGER, &[0]),
        wrap(SEQUENCE, &algorithm),
        wrap(OCTET_STRING, &wrap(OCTET_STRING, &seed)),
    ];
    let info = info(&algorithm, pair.public_key().as_ref());
    Ok(Made {
        key: pem::encode("PRIVATE KEY", &wrap(SEQUENCE, &document.concat())),
        request: request(&info, &algorithm, pair.sign(&info).as_ref()),
    })
}

fn of_rsa(bits: usize) -> Result<Made, String> {
    let failed = |why: &dyn std::fmt::Display| format!("while generating RSA {bits} key: {why}");
    let key = rsa::RsaPrivateKey::new(&mut rand::rng(), bits).map_err(|e| failed(&e))?;
    let document = key.to_pkcs8_der().map_err(|e| failed(&e))?;
    let pair = RsaKeyPair::from_pkcs8(document.as_bytes()).map_err(|e| failed(&e))?;
    let algorithm = |name| [&object(name), NULL].concat();
    let info = info(&algorithm(RSA_KEY), pair.public().as_ref());
    let mut signed = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &info, &mut signed)
        .map_err(|e| failed(&e))?;
    Ok(Made {
        key: pem::encode("PRIVATE KEY", document.as_bytes()),
        request: request(&info, &algorithm(RSA_SHA256), &signed),
    })
}

/// What is signed: no name, this key, no attributes.
fn info(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let key = [wrap(SEQUENCE, algorithm), bits(key)].concat();
    let parts = [
        wrap(INTEGER, &[0]),
        wrap(SEQUENCE, &[]),
        wrap(SEQUENCE, &key),
        NO_ATTRIBUTES.to_vec(),
    ];
    wrap(SEQUENCE, &parts.concat())
}

fn request(info: &[u8], algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    let parts = [info, &wrap(SEQUENCE, algorithm), &bits(signature)];
    wrap(SEQUENCE, &parts.concat())
}

fn object(name: &[u8]) -> Vec<u8> {
    wrap(OBJECT, name)
}

fn bits(content: &[u8]) -> Vec<u8> {
    wrap(BIT_STRING, &[&[0], content].concat())
}

/// Tag, length and content.
fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = length.iter().skip_while(|b| **b == 0).copied();
    let significant: Vec<u8> = significant.collect();
    let mut out = vec![tag];
    match (content.len(), u8::try_from(significant.len())) {
        (0..=0x7f, _) => out.extend(length.last()),
        (_, Ok(count)) => {
            out.push(0x80 | count);
            out.extend(significant);
        }
        (_, Err(_)) => {}
    }
    out.extend(content);
    out
}

#[cfg(test)]
mod tests {
    use api::core::pod::validation::KEY_TYPES;
    use machinery::certificate::{Request, pod_key_problem};

    use super::generate;

    #[test]
    fn every_kind_of_key_proves_itself() {
        for kind in KEY_TYPES {
            let mut made = generate(kind).expect(kind);
            let request = Request::parse_der(&made.request).expect(kind);
            assert!(request.is_signed, "{kind}");
            assert_eq!(pod_key_problem(&request.key_der), None, "{kind}");
            assert_eq!(request.common_name, "", "{kind}");
            assert!(made.key.starts_with("-----BEGIN PRIVATE KEY-----\n"));
            let last = made.request.last_mut().expect("a request");
            *last ^= 1;
            let forged = Request::parse_der(&made.request);
            assert!(forged.is_ok_and(|r| !r.is_signed), "{kind}");
        }
        assert!(generate("RSA2048").is_err());
    }
}
