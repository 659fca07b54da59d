//! A certificate comes out that openssl's and ring's eyes find good.

use controllers::certificates::signing::{Order, Sign};
use jiff::Timestamp;
use machinery::certificate::Request;
use rcgen::{CertificateParams, DnType, IsCa, KeyPair, SanType};
use x509_parser::prelude::*;

use super::{Authority, AuthorityError};

fn authority() -> (Authority, String) {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, "ca");
    parameters.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let certificate = parameters.self_signed(&key).expect("signed").pem();
    let made = Authority::from_pem(&certificate, &key.serialize_pem()).expect("an authority");
    (made, certificate)
}

fn order() -> Order {
    let mut parameters = CertificateParams::default();
    parameters
        .distinguished_name
        .push(DnType::OrganizationName, "system:nodes");
    parameters
        .distinguished_name
        .push(DnType::CommonName, "system:node:n1");
    parameters.subject_alt_names = vec![
        SanType::DnsName("n1".try_into().expect("a name")),
        SanType::IpAddress("10.0.0.7".parse().expect("an address")),
    ];
    let key = KeyPair::generate().expect("a key");
    let request = parameters.serialize_request(&key).expect("a request");
    let pem = request.pem().expect("PEM");
    Order {
        request: Request::parse(pem.as_bytes()).expect("readable"),
        usages: ["digital signature", "key encipherment", "server auth"]
            .map(str::to_owned)
            .to_vec(),
        seconds: 3600,
    }
}

#[test]
fn what_is_ordered_is_certified() {
    let (authority, ca) = authority();
    let now: Timestamp = "2026-01-02T03:04:05Z".parse().expect("a time");
    let order = order();
    assert!(order.request.is_signed);
    let pem = authority.sign(&order, now).expect("signed");
    let (_, block) = parse_x509_pem(&pem).expect("PEM");
    let (_, certificate) = X509Certificate::from_der(&block.contents).expect("a certificate");
    let (_, ca) = parse_x509_pem(ca.as_bytes()).expect("PEM");
    let (_, ca) = X509Certificate::from_der(&ca.contents).expect("a certificate");
    certificate
        .verify_signature(Some(ca.public_key()))
        .expect("signed by the authority");
    assert_eq!(certificate.issuer(), ca.subject());
    assert_eq!(
        certificate.subject().to_string(),
        "CN=system:node:n1, O=system:nodes"
    );
    let validity = certificate.validity();
    assert_eq!(validity.not_before.timestamp(), now.as_second() - 300);
    assert_eq!(validity.not_after.timestamp(), now.as_second() + 3600);
    let usage = certificate
        .key_usage()
        .expect("well-formed")
        .expect("there")
        .value;
    assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
    let extended = certificate
        .extended_key_usage()
        .expect("well-formed")
        .expect("there")
        .value;
    assert!(extended.server_auth && !extended.client_auth);
    let names = certificate
        .subject_alternative_name()
        .expect("well-formed")
        .expect("there");
    let names: Vec<String> = names
        .value
        .general_names
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["DNSName(n1)", "IPAddress(0a:00:00:07)"]);
    assert!(!certificate.is_ca());
}

#[test]
fn nothing_is_signed_after_the_authority_has_expired() {
    let (authority, _) = authority();
    let late = "4990-01-01T00:00:00Z".parse().expect("a time");
    let why = authority.sign(&order(), late).expect_err("expired");
    assert!(why.starts_with("refusing to sign a certificate"), "{why}");
}

#[test]
fn a_key_must_fit() {
    let (_, ca) = authority();
    let other = KeyPair::generate().expect("a key").serialize_pem();
    assert!(matches!(
        Authority::from_pem(&ca, &other),
        Err(AuthorityError::Pair)
    ));
}
