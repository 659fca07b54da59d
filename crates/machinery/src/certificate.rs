//! Certificate signing requests (PKCS #10) and certificates, as far as decisions about them need to look inside.
//!
//! Reading only: signing needs a key and randomness, and happens outside. Behaviour: `pkg/apis/certificates/helpers.go`.

mod p521;
mod pair;

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use crate::pem;

pub use pair::pair_problem;

const REQUEST: &str = "CERTIFICATE REQUEST";
const CERTIFICATE: &str = "CERTIFICATE";

/// What somebody wants to have certified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// CN of the subject; empty when there is none.
    pub common_name: String,
    /// O of the subject, in order.
    pub organizations: Vec<String>,
    /// Alternative names: DNS.
    pub dns_names: Vec<String>,
    /// Alternative names: IP addresses.
    pub ip_addresses: Vec<IpAddr>,
    /// Alternative names: mail addresses.
    pub emails: Vec<String>,
    /// Alternative names: URIs.
    pub uris: Vec<String>,
    /// The subject as it is encoded.
    pub subject_der: Vec<u8>,
    /// The public key as it is encoded (`SubjectPublicKeyInfo`).
    pub key_der: Vec<u8>,
    /// The request is signed with the key it is about.
    pub is_signed: bool,
}

impl Request {
    /// Reads the first PEM block.
    ///
    /// # Errors
    /// It is no request, in upstream's words where it has its own.
    pub fn parse(pem: &[u8]) -> Result<Self, String> {
        let wrong = "PEM block type must be CERTIFICATE REQUEST";
        let (_, block) = x509_parser::pem::parse_x509_pem(pem).map_err(|_| wrong.to_owned())?;
        if block.label != REQUEST {
            return Err(wrong.to_owned());
        }
        Self::parse_der(&block.contents)
    }

    /// Reads a request without its PEM clothes.
    ///
    /// # Errors
    /// It is no request.
    pub fn parse_der(der: &[u8]) -> Result<Self, String> {
        let parsed = X509CertificationRequest::from_der(der);
        let (_, request) = parsed.map_err(|error| error.to_string())?;
        let info = &request.certification_request_info;
        let mut out = Self {
            common_name: last_text(&info.subject),
            organizations: organizations(&info.subject),
            subject_der: info.subject.as_raw().to_vec(),
            key_der: info.subject_pki.raw.to_vec(),
            is_signed: request.verify_signature().is_ok() || p521::is_signed(&request),
            ..Self::default()
        };
        let extensions = request.requested_extensions().into_iter().flatten();
        for extension in extensions {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                names.general_names.iter().for_each(|name| out.note(name));
            }
        }
        Ok(out)
    }

    fn note(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::RFC822Name(name) => self.emails.push((*name).to_owned()),
            GeneralName::URI(name) => self.uris.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => self.ip_addresses.extend(address(bytes)),
            _ => {}
        }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn last_text(name: &X509Name<'_>) -> String {
    let names = name.iter_common_name().filter_map(|n| n.as_str().ok());
    names.last().unwrap_or_default().to_owned()
}

fn organizations(name: &X509Name<'_>) -> Vec<String> {
    let names = name.iter_organization().filter_map(|n| n.as_str().ok());
    names.map(str::to_owned).collect()
}

/// The public key of a certificate, as it is encoded (`SubjectPublicKeyInfo`).
pub fn public_key(certificate_der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(certificate_der).ok()?;
    Some(certificate.public_key().raw.to_vec())
}

/// What is wrong with a chain of certificates; nothing at all is fine.
///
/// # Errors
/// The first problem.
pub fn check_chain(pem: &[u8]) -> Result<(), String> {
    if pem.is_empty() {
        return Ok(());
    }
    let mut rest = pem;
    let mut blocks = 0;
    while let Ok((left, block)) = x509_parser::pem::parse_x509_pem(rest) {
        if block.label != CERTIFICATE {
            let label = block.label;
            return Err(format!(
                "only CERTIFICATE PEM blocks are allowed, found {label:?}"
            ));
        }
        X509Certificate::from_der(&block.contents).map_err(|error| error.to_string())?;
        blocks += 1;
        rest = left;
    }
    match blocks {
        0 => Err("must contain at least one CERTIFICATE PEM block".to_owned()),
        _ => Ok(()),
    }
}

/// What is wrong with the certificates of authorities that somebody is to be believed by: one good one is enough.
///
/// # Errors
/// There is none, in the words of Go's clients.
pub fn check_authorities(pem: &[u8]) -> Result<(), String> {
    let failed = |why: &str| Err(format!("unable to load root certificates: {why}"));
    let mut rest = pem;
    let mut wrong = None;
    while !rest.is_empty() {
        let Ok((left, block)) = x509_parser::pem::parse_x509_pem(rest) else {
            return failed(
                &wrong.unwrap_or_else(|| "unable to parse bytes as PEM block".to_owned()),
            );
        };
        if block.label == CERTIFICATE {
            match X509Certificate::from_der(&block.contents) {
                Ok(_) => return Ok(()),
                Err(error) => {
                    wrong.get_or_insert_with(|| format!("failed to parse certificate: {error}"));
                }
            }
        }
        rest = left;
    }
    failed(
        wrong
            .as_deref()
            .unwrap_or("no valid certificate authority data seen"),
    )
}

/// Why a public key (`SubjectPublicKeyInfo`) is none that pods may have certificates for: what to show of it, and the detail.
pub fn pod_key_problem(key_der: &[u8]) -> Option<(Option<String>, String)> {
    const UNKNOWN: &str = "unknown public key type; supported types are Ed25519, ECDSA, and RSA";
    let unknown = Some((None, UNKNOWN.to_owned()));
    let Ok((_, info)) = SubjectPublicKeyInfo::from_der(key_der) else {
        return unknown;
    };
    // Ed25519 has no parsed form here.
    if info.algorithm.algorithm.to_id_string() == "1.3.101.112" {
        return None;
    }
    match info.parsed() {
        Ok(PublicKey::RSA(key)) => {
            let bits = key.key_size().next_multiple_of(8);
            let fits = matches!(bits, 3072 | 4096);
            let shown = Some(format!("{bits}-bit modulus"));
            (!fits).then(|| {
                (
                    shown,
                    "RSA keys must have modulus size 3072 or 4096".to_owned(),
                )
            })
        }
        Ok(PublicKey::EC(key)) => match key.key_size() {
            256 | 384 | 521 | 528 => None,
            bits => {
                let shown = Some(format!("curve P-{bits}"));
                let detail = "elliptic public keys must use curve P256, P384, or P521";
                Some((shown, detail.to_owned()))
            }
        },
        _ => unknown,
    }
}

/// What is wrong with a bundle of trust anchors; empty when nothing is.
pub fn trust_problems(text: &[u8]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut seen: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    for (entry, block) in pem::blocks(text).enumerate() {
        match anchor_problem(&block) {
            Some(why) => problems.push(format!("entry {entry} {why}")),
            None => seen.entry(block.contents).or_default().push(entry),
        }
    }
    if !problems.is_empty() {
        return problems;
    }
    if seen.is_empty() {
        return vec!["at least one trust anchor must be provided".to_owned()];
    }
    let mut twice: Vec<Vec<usize>> = seen.into_values().filter(|p| p.len() > 1).collect();
    twice.sort();
    let told = twice.into_iter().map(|places| {
        let places: Vec<String> = places.iter().map(ToString::to_string).collect();
        format!("duplicate trust anchor (indices [{}])", places.join(" "))
    });
    told.collect()
}

fn anchor_problem(block: &pem::Block) -> Option<String> {
    if block.label != CERTIFICATE {
        return Some(format!("has bad block type: {}", block.label));
    }
    if block.has_headers {
        return Some("has PEM block headers".to_owned());
    }
    let Ok((_, certificate)) = X509Certificate::from_der(&block.contents) else {
        return Some("does not parse as X.509".to_owned());
    };
    match certificate.is_ca() {
        true => None,
        false => Some("does not have the CA bit set".to_owned()),
    }
}

/// The first certificate of a chain, as far as it says whether it answers a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The public key as it is encoded (`SubjectPublicKeyInfo`).
    pub key_der: Vec<u8>,
    /// Alternative names: DNS.
    pub dns_names: Vec<String>,
    /// Good from, in seconds since 1970.
    pub not_before: i64,
    /// Good until, in seconds since 1970.
    pub not_after: i64,
}

impl Leaf {
    /// Reads the first certificate of a chain, and looks at the others.
    ///
    /// # Errors
    /// The chain is none, in upstream's words.
    pub fn of_chain(pem: &[u8]) -> Result<Self, &'static str> {
        let only = "issued certificate chain must consist entirely of CERTIFICATE PEM blocks";
        let (mut rest, block) = x509_parser::pem::parse_x509_pem(pem)
            .map_err(|_| "issued certificate chain must contain at least one certificate")?;
        if block.label != CERTIFICATE {
            return Err(only);
        }
        let (_, certificate) = X509Certificate::from_der(&block.contents)
            .map_err(|_| "leaf certificate does not parse as valid X.509")?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map(|names| names.value.general_names.iter());
        let dns = names.into_iter().flatten().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        let leaf = Self {
            key_der: certificate.public_key().raw.to_vec(),
            dns_names: dns.collect(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        };
        while let Ok((left, block)) = x509_parser::pem::parse_x509_pem(rest) {
            rest = left;
            if block.label != CERTIFICATE {
                return Err(
                    "issued certificate chain must consist entirely of CERTFICATE PEM blocks",
                );
            }
            X509Certificate::from_der(&block.contents)
                .map_err(|_| "intermediate certificate does not parse as valid X.509")?;
        }
        Ok(leaf)
    }
}

/// Who a certificate names, and when it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// CN of the subject; empty when there is none.
    pub common_name: String,
    /// O of the subject.
    pub organizations: Vec<String>,
    /// Good from.
    pub not_before: Timestamp,
    /// Good until.
    pub not_after: Timestamp,
}

impl Certificate {
    /// Reads the first PEM block.
    pub fn parse(pem: &[u8]) -> Option<Self> {
        let (_, block) = x509_parser::pem::parse_x509_pem(pem).ok()?;
        let (_, certificate) = X509Certificate::from_der(&block.contents).ok()?;
        let validity = certificate.validity();
        let moment = |seconds: i64| Timestamp::from_second(seconds).ok();
        Some(Self {
            common_name: last_text(certificate.subject()),
            organizations: organizations(certificate.subject()),
            not_before: moment(validity.not_before.timestamp())?,
            not_after: moment(validity.not_after.timestamp())?,
        })
    }
}

/// The group of kubelets, which their certificates name.
const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

/// Why a request is none for the client certificate of a kubelet.
///
/// # Errors
/// Upstream's text.
pub fn check_kubelet_client(request: &Request, usages: &[String]) -> Result<(), String> {
    check_nodes(request)?;
    let none = |empty: bool, what: &str| match empty {
        true => Ok(()),
        false => Err(format!("{what} subjectAltNames are not allowed")),
    };
    none(request.dns_names.is_empty(), "DNS")?;
    none(request.emails.is_empty(), "Email")?;
    none(request.ip_addresses.is_empty(), "IP")?;
    none(request.uris.is_empty(), "URI")?;
    check_node_name(request)?;
    check_usages(usages, "client auth")
}

/// Why a request is none for the serving certificate of a kubelet.
///
/// # Errors
/// Upstream's text.
pub fn check_kubelet_serving(request: &Request, usages: &[String]) -> Result<(), String> {
    check_nodes(request)?;
    if request.dns_names.is_empty() && request.ip_addresses.is_empty() {
        return Err("DNS or IP subjectAltName is required".to_owned());
    }
    if !request.emails.is_empty() {
        return Err("Email subjectAltNames are not allowed".to_owned());
    }
    if !request.uris.is_empty() {
        return Err("URI subjectAltNames are not allowed".to_owned());
    }
    check_usages(usages, "server auth")?;
    check_node_name(request)
}

fn check_nodes(request: &Request) -> Result<(), String> {
    match request.organizations.as_slice() {
        [only] if only == NODES => Ok(()),
        _ => Err("subject organization is not system:nodes".to_owned()),
    }
}

fn check_node_name(request: &Request) -> Result<(), String> {
    match request.common_name.starts_with(NODE_PREFIX) {
        true => Ok(()),
        false => Err("subject common name does not begin with system:node:".to_owned()),
    }
}

/// Exactly the signature and this one, with or without the key encipherment that RSA keys need.
fn check_usages(usages: &[String], wanted: &str) -> Result<(), String> {
    let mut set: Vec<&str> = usages.iter().map(String::as_str).collect();
    set.sort_unstable();
    set.dedup();
    let mut all = vec!["digital signature", "key encipherment", wanted];
    all.sort_unstable();
    let without: Vec<&str> = all
        .iter()
        .copied()
        .filter(|usage| *usage != "key encipherment")
        .collect();
    match set == all || set == without {
        true => Ok(()),
        false => Err(format!("usages did not match [{}]", all.join(" "))),
    }
}
