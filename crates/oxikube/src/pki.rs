//! Certificates and keys of a cluster, made once, when the cluster is made.
//!
//! Names and groups are upstream's (`kubeadm` lays them out the same way), so that every identity is one RBAC knows.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use access::user;
use anyhow::Context;
use jiff::Zoned;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

use crate::cluster::{API_SERVICE, CLUSTER_DOMAIN, Config, make_private_dir, write_private};
use crate::member::NodeConfig;

/// How long everything is good for.
const YEARS: i32 = 10;

/// The name of the authority of all certificates but the front proxy's.
const AUTHORITY: &str = "kubernetes";

struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate is for.
enum Purpose {
    /// Shown by a server under these names and addresses.
    Server(Vec<SanType>),
    /// Shown by a client.
    Client,
}

/// Makes all files under `dir`; they appear together or not at all.
pub(crate) fn create(dir: &Path, config: &Config) -> anyhow::Result<()> {
    let first = NodeConfig::first(config);
    let api = api_names(&first.name(), &[API_SERVICE, first.address()], &[])?;
    create_for(dir, api, (&first.name(), first.address()))
}

/// A control plane on the host itself: makes what is missing under `dir`, and makes its serving certificates anew, for
/// names and addresses that may be others than the last time.
pub(crate) fn settle(
    dir: &Path,
    (node, address): (&str, Ipv4Addr),
    service: Ipv4Addr,
    more: &[String],
) -> anyhow::Result<()> {
    let api = || api_names(node, &[service, address], more);
    if !dir.exists() {
        create_for(dir, api()?, (node, address))?;
    }
    let ca = Authority::read(dir, "ca", AUTHORITY)?;
    ca.issue(
        dir,
        "apiserver",
        "kube-apiserver",
        &[],
        Purpose::Server(api()?),
    )?;
    node_identities(&ca, dir, (node, address))
}

fn create_for(dir: &Path, api: Vec<SanType>, node: (&str, Ipv4Addr)) -> anyhow::Result<()> {
    let new = dir.with_extension("new");
    if new.exists() {
        fs::remove_dir_all(&new)?;
    }
    make_private_dir(&new)?;
    let ca = Authority::create(&new, "ca", AUTHORITY)?;
    let front_proxy = Authority::create(&new, "front-proxy-ca", "front-proxy-ca")?;
    ca.issue(
        &new,
        "apiserver",
        "kube-apiserver",
        &[],
        Purpose::Server(api),
    )?;
    node_identities(&ca, &new, node)?;
    let masters: &[&str] = &[user::SYSTEM_MASTERS];
    for (file, name, groups) in [
        ("admin", "kubernetes-admin", masters),
        (
            "apiserver-kubelet-client",
            "kube-apiserver-kubelet-client",
            masters,
        ),
        ("controller-manager", user::KUBE_CONTROLLER_MANAGER, &[]),
        ("scheduler", user::KUBE_SCHEDULER, &[]),
    ] {
        ca.issue(&new, file, name, groups, Purpose::Client)?;
    }
    front_proxy.issue(
        &new,
        "front-proxy-client",
        "front-proxy-client",
        &[],
        Purpose::Client,
    )?;
    let service_accounts = KeyPair::generate()?;
    write_private(
        &new.join("sa.key"),
        service_accounts.serialize_pem().as_bytes(),
    )?;
    fs::rename(&new, dir).with_context(|| format!("cannot put {} in place", dir.display()))
}

/// Makes the files of a node other than the first under `dir`; the cluster's own are in `cluster`.
pub(crate) fn create_for_node(cluster: &Path, dir: &Path, node: &NodeConfig) -> anyhow::Result<()> {
    make_private_dir(dir)?;
    let certificate = cluster.join("ca.crt");
    let text =
        fs::read(&certificate).with_context(|| format!("cannot read {}", certificate.display()))?;
    write_private(&dir.join("ca.crt"), &text)?;
    let ca = Authority::read(cluster, "ca", AUTHORITY)?;
    node_identities(&ca, dir, (&node.name(), node.address()))
}

/// What every node has: who it is, and who its service proxy is.
fn node_identities(
    ca: &Authority,
    dir: &Path,
    (name, address): (&str, Ipv4Addr),
) -> anyhow::Result<()> {
    let names = vec![dns(name)?, ip(address), ip([127, 0, 0, 1])];
    ca.issue(dir, "kubelet-server", name, &[], Purpose::Server(names))?;
    let kubelet = format!("{}{name}", user::NODE_USER_PREFIX);
    let nodes = &[user::SYSTEM_NODES];
    ca.issue(dir, "kubelet", &kubelet, nodes, Purpose::Client)?;
    ca.issue(dir, "kube-proxy", user::KUBE_PROXY, &[], Purpose::Client)
}

/// Every name and address under which the API is reached.
fn api_names(node: &str, addresses: &[Ipv4Addr], more: &[String]) -> anyhow::Result<Vec<SanType>> {
    let service = format!("kubernetes.default.svc.{CLUSTER_DOMAIN}");
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        &service,
        node,
        "localhost",
    ];
    let mut all = names
        .into_iter()
        .map(dns)
        .collect::<anyhow::Result<Vec<_>>>()?;
    all.push(ip([127, 0, 0, 1]));
    all.extend(addresses.iter().map(|address| ip(*address)));
    for name in more {
        all.push(match name.parse::<IpAddr>() {
            Ok(address) => ip(address),
            Err(_) => dns(name)?,
        });
    }
    Ok(all)
}

fn dns(name: &str) -> anyhow::Result<SanType> {
    Ok(SanType::DnsName(
        name.try_into()
            .with_context(|| format!("{name} is no DNS name"))?,
    ))
}

fn ip(address: impl Into<IpAddr>) -> SanType {
    SanType::IpAddress(address.into())
}

/// Parameters good from yesterday (clocks differ) for [`YEARS`].
fn parameters(common_name: &str, organizations: &[&str]) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    let mut subject = rcgen::DistinguishedName::new();
    for organization in organizations {
        subject.push(DnType::OrganizationName, *organization);
    }
    subject.push(DnType::CommonName, common_name);
    parameters.distinguished_name = subject;
    let now = Zoned::now().date();
    let from = now.yesterday().unwrap_or(now);
    let date = |year: i16| {
        let month = from.month().unsigned_abs();
        // The 29th of February does not exist in every year.
        date_time_ymd(year.into(), month, from.day().unsigned_abs().min(28))
    };
    parameters.not_before = date(from.year());
    parameters.not_after = date(from.year() + i16::try_from(YEARS).unwrap_or(1));
    parameters.use_authority_key_identifier_extension = true;
    parameters
}

fn write_pair(dir: &Path, file: &str, certificate: &str, key: &KeyPair) -> anyhow::Result<()> {
    write_private(&dir.join(format!("{file}.crt")), certificate.as_bytes())?;
    write_private(
        &dir.join(format!("{file}.key")),
        key.serialize_pem().as_bytes(),
    )
}

impl Authority {
    fn create(dir: &Path, file: &str, common_name: &str) -> anyhow::Result<Self> {
        let mut parameters = parameters(common_name, &[]);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let key = KeyPair::generate()?;
        let certificate = parameters.self_signed(&key)?;
        write_pair(dir, file, &certificate.pem(), &key)?;
        Ok(Self {
            issuer: Issuer::new(parameters, key),
        })
    }

    /// An authority of before: what it signs depends on its name and its key only.
    fn read(dir: &Path, file: &str, common_name: &str) -> anyhow::Result<Self> {
        let path = dir.join(format!("{file}.key"));
        let what = || format!("cannot use {}", path.display());
        let key = fs::read_to_string(&path).with_context(what)?;
        let key = KeyPair::from_pem(&key).with_context(what)?;
        Ok(Self {
            issuer: Issuer::new(parameters(common_name, &[]), key),
        })
    }

    fn issue(
        &self,
        dir: &Path,
        file: &str,
        common_name: &str,
        groups: &[&str],
        purpose: Purpose,
    ) -> anyhow::Result<()> {
        let mut parameters = parameters(common_name, groups);
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = match purpose {
            Purpose::Server(names) => {
                parameters.subject_alt_names = names;
                vec![ExtendedKeyUsagePurpose::ServerAuth]
            }
            Purpose::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        write_pair(dir, file, &certificate.pem(), &key)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use x509_parser::prelude::*;

    use super::*;

    fn read(dir: &Path, file: &str) -> Vec<u8> {
        let text = fs::read(dir.join(file)).expect("a file");
        let (_, pem) = x509_parser::pem::parse_x509_pem(&text).expect("PEM");
        pem.contents
    }

    #[test]
    fn identities_are_signed_and_private() {
        let temporary = tempfile::tempdir().expect("a directory");
        let dir = temporary.path().join("pki");
        create(&dir, &Config::new("c", 7, 6443)).expect("made");
        let (ca, admin) = (read(&dir, "ca.crt"), read(&dir, "admin.crt"));
        let (_, ca) = X509Certificate::from_der(&ca).expect("a certificate");
        let (_, admin) = X509Certificate::from_der(&admin).expect("a certificate");
        assert!(admin.verify_signature(Some(ca.public_key())).is_ok() && ca.is_ca());
        assert_eq!(
            admin.subject().to_string(),
            "O=system:masters, CN=kubernetes-admin"
        );
        let kubelet = read(&dir, "kubelet.crt");
        let (_, kubelet) = X509Certificate::from_der(&kubelet).expect("a certificate");
        assert_eq!(
            kubelet.subject().to_string(),
            "O=system:nodes, CN=system:node:oxikube-c"
        );
        for entry in fs::read_dir(&dir).expect("a directory").flatten() {
            let mode = entry.metadata().expect("metadata").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
        }
        let key = fs::read_to_string(dir.join("sa.key")).expect("a key");
        assert!(access::tokens::SigningKey::from_pem(&key).is_ok());
    }

    #[test]
    fn a_node_added_later_is_signed_by_the_same_authority() {
        let temporary = tempfile::tempdir().expect("a directory");
        let (dir, node) = (temporary.path().join("pki"), temporary.path().join("node"));
        let config = Config::new("c", 7, 6443);
        create(&dir, &config).expect("made");
        create_for_node(&dir, &node, &NodeConfig::first(&config)).expect("made");
        let (ca, kubelet) = (read(&dir, "ca.crt"), read(&node, "kubelet.crt"));
        let (_, ca) = X509Certificate::from_der(&ca).expect("a certificate");
        let (_, kubelet) = X509Certificate::from_der(&kubelet).expect("a certificate");
        assert!(kubelet.verify_signature(Some(ca.public_key())).is_ok());
        assert_eq!(kubelet.issuer(), ca.subject());
        let first = read(&dir, "kubelet.crt");
        let (_, first) = X509Certificate::from_der(&first).expect("a certificate");
        let authority = |certificate: &X509Certificate<'_>| {
            let extensions = certificate.extensions().iter();
            let mut found = extensions.filter_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    Some(id.key_identifier.as_ref()?.0.to_vec())
                }
                _ => None,
            });
            found.next()
        };
        assert!(authority(&kubelet).is_some() && authority(&kubelet) == authority(&first));
        let mut files: Vec<_> = fs::read_dir(&node)
            .expect("a directory")
            .flatten()
            .map(|entry| entry.file_name().into_string().expect("text"))
            .collect();
        files.sort();
        let files = files.join(" ");
        assert_eq!(
            files,
            "ca.crt kube-proxy.crt kube-proxy.key kubelet-server.crt kubelet-server.key kubelet.crt kubelet.key"
        );
    }

    #[test]
    fn the_api_is_reached_under_all_its_names() {
        let temporary = tempfile::tempdir().expect("a directory");
        let dir = temporary.path().join("pki");
        create(&dir, &Config::new("c", 7, 6443)).expect("made");
        let server = read(&dir, "apiserver.crt");
        let (_, server) = X509Certificate::from_der(&server).expect("a certificate");
        let names = server
            .subject_alternative_name()
            .expect("well-formed")
            .expect("present");
        let names: Vec<String> = names
            .value
            .general_names
            .iter()
            .map(ToString::to_string)
            .collect();
        let names = names.join("\n");
        expect_test::expect![[r#"
            DNSName(kubernetes)
            DNSName(kubernetes.default)
            DNSName(kubernetes.default.svc)
            DNSName(kubernetes.default.svc.cluster.local)
            DNSName(oxikube-c)
            DNSName(localhost)
            IPAddress(7f:00:00:01)
            IPAddress(0a:60:00:01)
            IPAddress(ac:1e:07:02)"#]]
        .assert_eq(&names);
    }
}
