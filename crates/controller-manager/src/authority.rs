//! A certificate authority with its key: signs what `controllers::certificates` orders.
//!
//! The certificate holds the subject and the public key just as the request encodes them, the names that are understood,
//! and nothing else that the request asks for. Behaviour: `pkg/controller/certificates/authority`.

use std::net::IpAddr;

use controllers::certificates::signing::{Order, Sign};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use ring::rand::{SecureRandom, SystemRandom};
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};
use yasna::models::{GeneralizedTime, ObjectIdentifier, UTCTime};
use yasna::{DERWriter, Tag};

/// Clocks differ; a certificate is good from a little before it was asked for.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);
/// Shorter certificates are not shortened by [`BACKDATE`].
const SHORT: i64 = 8 * 3600;

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The certificate cannot be used.
    #[error("the certificate of the signing authority cannot be read")]
    Certificate,
    /// The key cannot be used.
    #[error("the key of the signing authority cannot be used")]
    Key(#[source] rcgen::Error),
    /// They do not belong together.
    #[error("the key of the signing authority does not fit its certificate")]
    Pair,
}

/// A certificate that signs, and its key.
pub struct Authority {
    key: KeyPair,
    subject: Vec<u8>,
    key_id: Option<Vec<u8>>,
    not_after: Timestamp,
}

impl Authority {
    /// Reads certificate and key, PEM; the key may be PKCS #8, PKCS #1 or SEC 1.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, AuthorityError> {
        let (_, block) = x509_parser::pem::parse_x509_pem(certificate.as_bytes())
            .map_err(|_| AuthorityError::Certificate)?;
        let (_, certificate) =
            X509Certificate::from_der(&block.contents).map_err(|_| AuthorityError::Certificate)?;
        let key = read_key(key)?;
        let public = key.subject_public_key_info();
        if public != certificate.public_key().raw {
            return Err(AuthorityError::Pair);
        }
        let key_id = certificate
            .extensions()
            .iter()
            .find_map(|e| match e.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            });
        let not_after = certificate.validity().not_after.timestamp();
        Ok(Self {
            subject: certificate.subject().as_raw().to_vec(),
            not_after: Timestamp::from_second(not_after)
                .map_err(|_| AuthorityError::Certificate)?,
            key_id,
            key,
        })
    }

    fn validity(&self, seconds: i64, now: Timestamp) -> Result<(Timestamp, Timestamp), String> {
        if now >= self.not_after {
            let at = self.not_after;
            return Err(format!(
                "refusing to sign a certificate that expired in the past: NotAfter={at}"
            ));
        }
        let mut after = now + SignedDuration::from_secs(seconds);
        if seconds >= SHORT {
            after -= BACKDATE;
        }
        Ok((now - BACKDATE, after.min(self.not_after)))
    }
}

impl Sign for Authority {
    fn sign(&self, order: &Order, now: Timestamp) -> Result<Vec<u8>, String> {
        let (from, until) = self.validity(order.seconds, now)?;
        let purposes = Purposes::of(&order.usages)?;
        let mut serial = [0; 16];
        SystemRandom::new()
            .fill(&mut serial)
            .map_err(|_| "the system gives no random numbers".to_owned())?;
        // A positive number without a zero in front.
        serial[0] = serial[0] & 0x7f | 0x40;
        let algorithm = algorithm(&self.key)?;
        let body = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer
                    .next()
                    .write_tagged(Tag::context(0), |writer| writer.write_u8(2));
                writer.next().write_bigint_bytes(&serial, true);
                writer.next().write_der(&algorithm);
                writer.next().write_der(&self.subject);
                writer.next().write_sequence(|writer| {
                    write_time(writer.next(), from);
                    write_time(writer.next(), until);
                });
                writer.next().write_der(&order.request.subject_der);
                writer.next().write_der(&order.request.key_der);
                writer.next().write_tagged(Tag::context(3), |writer| {
                    writer.write_sequence(|writer| {
                        self.extensions(writer, order, &purposes);
                    });
                });
            });
        });
        let signature = self.key.sign(&body).map_err(|error| error.to_string())?;
        let der = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_der(&body);
                writer.next().write_der(&algorithm);
                writer
                    .next()
                    .write_bitvec_bytes(&signature, signature.len() * 8);
            });
        });
        Ok(pem(&der).into_bytes())
    }
}

impl Authority {
    fn extensions(&self, writer: &mut yasna::DERWriterSeq<'_>, order: &Order, purposes: &Purposes) {
        if purposes.usage != 0 {
            extension(writer, &[2, 5, 29, 15], true, |writer| {
                let bits = purposes.usage.reverse_bits().to_be_bytes();
                let length = 16 - purposes.usage.leading_zeros() as usize;
                writer.write_bitvec_bytes(&bits[..length.div_ceil(8)], length);
            });
        }
        if !purposes.extended.is_empty() {
            extension(writer, &[2, 5, 29, 37], false, |writer| {
                writer.write_sequence(|writer| {
                    for oid in &purposes.extended {
                        writer.next().write_oid(&ObjectIdentifier::from_slice(oid));
                    }
                });
            });
        }
        extension(writer, &[2, 5, 29, 19], true, |writer| {
            writer.write_sequence(|_| {});
        });
        if let Some(id) = &self.key_id {
            extension(writer, &[2, 5, 29, 35], false, |writer| {
                writer.write_sequence(|writer| {
                    writer
                        .next()
                        .write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(id));
                });
            });
        }
        let names = names(order);
        if !names.is_empty() {
            extension(writer, &[2, 5, 29, 17], false, |writer| {
                writer.write_sequence(|writer| {
                    for (tag, bytes) in &names {
                        writer
                            .next()
                            .write_tagged_implicit(Tag::context(*tag), |writer| {
                                writer.write_bytes(bytes);
                            });
                    }
                });
            });
        }
    }
}

/// Alternative names: their tag and their bytes.
fn names(order: &Order) -> Vec<(u64, Vec<u8>)> {
    let request = &order.request;
    let texts = |tag, names: &[String]| -> Vec<(u64, Vec<u8>)> {
        names
            .iter()
            .map(|n| (tag, n.clone().into_bytes()))
            .collect()
    };
    let mut all = texts(2, &request.dns_names);
    all.extend(texts(1, &request.emails));
    all.extend(request.ip_addresses.iter().map(|address| match address {
        IpAddr::V4(address) => (7, address.octets().to_vec()),
        IpAddr::V6(address) => (7, address.octets().to_vec()),
    }));
    all.extend(texts(6, &request.uris));
    all
}

fn extension(
    writer: &mut yasna::DERWriterSeq<'_>,
    oid: &[u64],
    critical: bool,
    value: impl FnOnce(DERWriter<'_>),
) {
    writer.next().write_sequence(|writer| {
        writer.next().write_oid(&ObjectIdentifier::from_slice(oid));
        if critical {
            writer.next().write_bool(true);
        }
        let value = yasna::construct_der(value);
        writer.next().write_bytes(&value);
    });
}

/// Years from 2050 on need the longer form.
fn write_time(writer: DERWriter<'_>, time: Timestamp) {
    let time = time.to_zoned(TimeZone::UTC);
    if time.year() < 2050 {
        let text = time.strftime("%y%m%d%H%M%SZ").to_string();
        if let Ok(time) = UTCTime::parse(text.as_bytes()).ok_or(()) {
            return writer.write_utctime(&time);
        }
    }
    let text = time.strftime("%Y%m%d%H%M%SZ").to_string();
    let time = GeneralizedTime::parse(text.as_bytes());
    writer.write_generalized_time(&time.expect("a time as it has just been written"));
}

/// Key usages as bits (bit 0 first), extended ones as object identifiers in upstream's order.
struct Purposes {
    usage: u16,
    extended: Vec<&'static [u64]>,
}

const EXTENDED: &[(&str, &[u64])] = &[
    ("any", &[2, 5, 29, 37, 0]),
    ("server auth", &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
    ("client auth", &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
    ("code signing", &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    ("netscape sgc", &[2, 16, 840, 1, 113_730, 4, 1]),
];

impl Purposes {
    fn of(usages: &[String]) -> Result<Self, String> {
        let mut out = Self {
            usage: 0,
            extended: Vec::new(),
        };
        for usage in usages {
            let bit = match usage.as_str() {
                "signing" | "digital signature" => 0,
                "content commitment" => 1,
                "key encipherment" => 2,
                "data encipherment" => 3,
                "key agreement" => 4,
                "cert sign" => 5,
                "crl sign" => 6,
                "encipher only" => 7,
                "decipher only" => 8,
                other if EXTENDED.iter().any(|(name, _)| *name == other) => continue,
                other => return Err(format!("unrecognized usage values: [{other:?}]")),
            };
            out.usage |= 1 << bit;
        }
        let wanted = EXTENDED
            .iter()
            .filter(|(name, _)| usages.iter().any(|u| u == name));
        for (_, oid) in wanted {
            if !out.extended.contains(oid) {
                out.extended.push(oid);
            }
        }
        Ok(out)
    }
}

/// The identifier of the algorithm that this key signs with.
fn algorithm(key: &KeyPair) -> Result<Vec<u8>, String> {
    let known: [(_, &[u64], bool); 4] = [
        (
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &[1, 2, 840, 10045, 4, 3, 2],
            false,
        ),
        (
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &[1, 2, 840, 10045, 4, 3, 3],
            false,
        ),
        (&rcgen::PKCS_ED25519, &[1, 3, 101, 112], false),
        (
            &rcgen::PKCS_RSA_SHA256,
            &[1, 2, 840, 113_549, 1, 1, 11],
            true,
        ),
    ];
    let own = PublicKeyData::algorithm(key);
    let found = known.into_iter().find(|(algorithm, ..)| *algorithm == own);
    let (_, oid, null) = found.ok_or("the authority's key is of a kind that cannot sign here")?;
    Ok(yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_oid(&ObjectIdentifier::from_slice(oid));
            if null {
                writer.next().write_null();
            }
        });
    }))
}

/// A private key; the older encodings are put into the newer one.
fn read_key(pem: &str) -> Result<KeyPair, AuthorityError> {
    // A file of openssl may begin with the curve's parameters.
    let start = pem
        .find("-----BEGIN RSA PRIVATE")
        .or_else(|| pem.find("-----BEGIN EC PRIVATE"));
    let Some(start) = start else {
        return KeyPair::from_pem(pem).map_err(AuthorityError::Key);
    };
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem.as_bytes()[start..])
        .map_err(|_| AuthorityError::Key(rcgen::Error::CouldNotParseKeyPair))?;
    let curve: &[u64] = match block.contents.len() {
        0..150 => &[1, 2, 840, 10045, 3, 1, 7],
        _ => &[1, 3, 132, 0, 34],
    };
    let rsa = block.label.starts_with("RSA");
    let der = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(0);
            writer.next().write_sequence(|writer| {
                let kind: &[u64] = match rsa {
                    true => &[1, 2, 840, 113_549, 1, 1, 1],
                    false => &[1, 2, 840, 10045, 2, 1],
                };
                writer.next().write_oid(&ObjectIdentifier::from_slice(kind));
                match rsa {
                    true => writer.next().write_null(),
                    false => writer
                        .next()
                        .write_oid(&ObjectIdentifier::from_slice(curve)),
                }
            });
            writer.next().write_bytes(&block.contents);
        });
    });
    KeyPair::try_from(der).map_err(AuthorityError::Key)
}

fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, left) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = left;
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

#[cfg(test)]
mod tests;
