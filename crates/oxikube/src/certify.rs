//! Certificates by request: a key is made here, the API certifies it, and does so again before the certificate expires.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use client::watch::{Change, store};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::runtime::watcher;
use kube::{Api, Client};
use machinery::certificate::Certificate;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use crate::cluster::write_private;
use crate::worker::Tasks;

/// How long a signer may take; then another request is made.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// The pause after a request that came to nothing.
const PAUSE: Duration = Duration::from_secs(10);

/// A certificate that somebody wants.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// Who is asked to sign.
    pub(crate) signer: &'static str,
    /// CN.
    pub(crate) name: String,
    /// O.
    pub(crate) group: &'static str,
    /// `server auth` or `client auth`.
    pub(crate) usage: &'static str,
    /// Names and addresses of a server.
    pub(crate) dns_names: Vec<String>,
    /// See there.
    pub(crate) addresses: Vec<IpAddr>,
}

impl Wish {
    /// The client certificate of a node's kubelet.
    pub(crate) fn kubelet_client(node: &str) -> Self {
        Self {
            signer: controller_manager::KUBELET_CLIENT,
            name: format!("system:node:{node}"),
            group: "system:nodes",
            usage: "client auth",
            dns_names: Vec::new(),
            addresses: Vec::new(),
        }
    }

    /// The serving certificate of a node's kubelet.
    pub(crate) fn kubelet_serving(node: &str, addresses: Vec<IpAddr>) -> Self {
        Self {
            signer: controller_manager::KUBELET_SERVING,
            usage: "server auth",
            dns_names: vec![node.to_owned()],
            addresses,
            ..Self::kubelet_client(node)
        }
    }

    /// The request and its key.
    fn request(&self) -> anyhow::Result<(String, KeyPair)> {
        let mut parameters = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        subject.push(DnType::OrganizationName, self.group);
        subject.push(DnType::CommonName, self.name.as_str());
        parameters.distinguished_name = subject;
        for name in &self.dns_names {
            let name = name.as_str().try_into();
            parameters.subject_alt_names.push(SanType::DnsName(name?));
        }
        let addresses = self.addresses.iter().map(|a| SanType::IpAddress(*a));
        parameters.subject_alt_names.extend(addresses);
        let key = KeyPair::generate()?;
        let request = parameters.serialize_request(&key)?.pem()?;
        Ok((request, key))
    }
}

/// A certificate and its key, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pair {
    /// Both in one file, as upstream's kubelet keeps them.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let at = text.find("-----BEGIN PRIVATE KEY-----")?;
        let (certificate, key) = text.split_at(at);
        Some(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        })
    }

    /// Writes both into one file.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        write_private(path, format!("{}{}", self.certificate, self.key).as_bytes())
    }

    /// How long until it should be replaced; nothing when it is too late or cannot be told.
    pub(crate) fn left(&self, now: Timestamp) -> Duration {
        let Some(read) = Certificate::parse(self.certificate.as_bytes()) else {
            return Duration::ZERO;
        };
        let life = read.not_after.duration_since(read.not_before);
        // Between 70 % and 90 % of its life, as upstream; nodes that joined together do not all ask together.
        let part = 0.7 + 0.2 * f64::from(now.subsec_nanosecond() % 1000) / 1000.0;
        let due = read.not_before + life.mul_f64(part);
        due.duration_since(now).try_into().unwrap_or(Duration::ZERO)
    }

    /// It is good for a while yet.
    pub(crate) fn is_good(&self, now: Timestamp) -> bool {
        Certificate::parse(self.certificate.as_bytes()).is_some_and(|c| c.not_after > now)
    }
}

/// Asks until there is a certificate.
pub(crate) async fn obtain(client: &Client, wish: &Wish) -> Pair {
    loop {
        match tokio::time::timeout(PATIENCE, ask(client, wish)).await {
            Ok(Ok(pair)) => return pair,
            Ok(Err(error)) => {
                let signer = wish.signer;
                tracing::warn!(
                    signer,
                    error = format!("{error:#}"),
                    "no certificate yet, asking again"
                );
            }
            Err(_) => tracing::warn!(
                signer = wish.signer,
                "nobody approved the request for a certificate"
            ),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// One request, until it is answered.
pub(crate) async fn ask(client: &Client, wish: &Wish) -> anyhow::Result<Pair> {
    let (pem, key) = wish.request()?;
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let request = CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: Some("csr-".to_owned()),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: wish.signer.to_owned(),
            usages: Some(vec!["digital signature".to_owned(), wish.usage.to_owned()]),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let made = api.create(&PostParams::default(), &request).await;
    let made = made.context("cannot ask for a certificate")?;
    let name = made.metadata.name.unwrap_or_default();
    let own = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let (_reader, changes) = store(api, own);
    let mut changes = std::pin::pin!(changes);
    while let Some(change) = changes.next().await {
        let request = match change {
            Change::Applied { new, .. } => new,
            Change::Deleted(_) => bail!("the request {name} was deleted"),
            Change::Synced => continue,
        };
        let Some(status) = &request.status else {
            continue;
        };
        let refused = status.conditions.iter().flatten();
        if let Some(why) = refused
            .clone()
            .find(|c| matches!(c.type_.as_str(), "Denied" | "Failed"))
        {
            let message = why.message.as_deref().unwrap_or_default();
            bail!(
                "the request {name} was {}: {message}",
                why.type_.to_lowercase()
            );
        }
        if let Some(certificate) = status.certificate.as_ref().filter(|c| !c.0.is_empty()) {
            return Ok(Pair {
                certificate: String::from_utf8(certificate.0.clone())?,
                key: key.serialize_pem(),
            });
        }
    }
    bail!("the watch of the request {name} ended")
}

/// Replaces a certificate before it expires, for ever. `take` is given each new one.
pub(crate) async fn renew(
    client: Client,
    wish: Wish,
    file: PathBuf,
    mut current: Pair,
    take: impl Fn(&Pair) -> anyhow::Result<()>,
) {
    loop {
        tokio::time::sleep(current.left(Timestamp::now())).await;
        let new = obtain(&client, &wish).await;
        let taken = new.write(&file).and_then(|()| take(&new));
        match taken {
            Ok(()) => tracing::info!(
                name = wish.name,
                usage = wish.usage,
                "the certificate was renewed"
            ),
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "a new certificate cannot be used"
                );
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        }
        current = new;
    }
}

/// A serving certificate that is asked for in the background and renewed for ever; until it has come, no connection
/// comes about.
pub(crate) fn serving(
    client: Client,
    wish: Wish,
    file: PathBuf,
    tasks: &mut Tasks,
) -> Arc<serving::Certificate> {
    let certificate = serving::Certificate::none();
    let shown = Arc::clone(&certificate);
    tasks.spawn(async move {
        let take = |pair: &Pair| Ok(shown.set(&pair.certificate, &pair.key)?);
        let known = Pair::read(&file).filter(|pair| pair.is_good(Timestamp::now()));
        let first = match known {
            Some(pair) => pair,
            None => {
                let pair = obtain(&client, &wish).await;
                pair.write(&file)?;
                pair
            }
        };
        take(&first)?;
        renew(client, wish, file, first, take).await;
        Ok(())
    });
    certificate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_what_kubelets_may_ask() {
        let wish = Wish::kubelet_serving("n1", vec!["10.0.0.7".parse().expect("an address")]);
        let (pem, _) = wish.request().expect("a request");
        let read = machinery::certificate::Request::parse(pem.as_bytes()).expect("readable");
        let usages = ["digital signature", "server auth"].map(str::to_owned);
        assert_eq!(
            machinery::certificate::check_kubelet_serving(&read, &usages),
            Ok(())
        );
        let (pem, _) = Wish::kubelet_client("n1").request().expect("a request");
        let read = machinery::certificate::Request::parse(pem.as_bytes()).expect("readable");
        let usages = ["digital signature", "client auth"].map(str::to_owned);
        assert_eq!(
            machinery::certificate::check_kubelet_client(&read, &usages),
            Ok(())
        );
    }

    #[test]
    fn a_certificate_is_replaced_in_the_last_third_of_its_life() {
        let mut parameters = CertificateParams::default();
        parameters.not_before = rcgen::date_time_ymd(2026, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2026, 1, 11);
        let key = KeyPair::generate().expect("a key");
        let pair = Pair {
            certificate: parameters.self_signed(&key).expect("signed").pem(),
            key: key.serialize_pem(),
        };
        let left = |now: &str| pair.left(now.parse().expect("a time")).as_secs() / 86400;
        assert!((6..=8).contains(&left("2026-01-01T00:00:00Z")));
        assert_eq!(left("2026-01-10T00:00:00Z"), 0);
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("pair.pem");
        pair.write(&file).expect("written");
        assert_eq!(Pair::read(&file), Some(pair));
    }
}
