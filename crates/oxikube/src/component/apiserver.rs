//! `kube-apiserver`.

mod admission;
mod authentication;
mod authorization;
mod front_proxy;
mod limits;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use access::User;
use access::tokens::{Lifetimes, PublicKey, SigningKey, Tokens};
use anyhow::{Context, bail};
use apiserver::{Identity, KubeletClient, Policy, Server, TlsSettings, TokenSigner};
use clap::Parser;
use clap::builder::ArgAction;
use ipnet::IpNet;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::audit::AuditFlags;
use super::flags::{Common, duration, read};
use crate::node::api::Pulses;
use crate::{datastore, encryption};

/// Serves the API.
#[derive(Parser)]
#[command(
    name = "kube-apiserver",
    args_override_self = true,
    version = "v1.37.0"
)]
pub(super) struct Flags {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    tokens: TokenFlags,
    #[command(flatten)]
    authorization: authorization::Flags,
    #[command(flatten)]
    kubelet: KubeletFlags,
    #[command(flatten)]
    audit: AuditFlags,
    #[command(flatten)]
    front_proxy: front_proxy::Flags,
    #[command(flatten)]
    admission: admission::Flags,
    #[command(flatten)]
    limits: limits::Flags,
    #[command(flatten)]
    encryption: encryption::Flags,
    #[command(flatten)]
    authentication: authentication::Flags,
    #[command(flatten)]
    unused: Unused,
    /// Directory of the built-in store. Not a flag of upstream's, which has none.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Servers of an etcd cluster, scheme://host:port.
    #[arg(long, value_delimiter = ',')]
    etcd_servers: Vec<String>,
    /// Who signs etcd's certificates.
    #[arg(long)]
    etcd_cafile: Option<PathBuf>,
    /// The certificate to show to etcd.
    #[arg(long, requires = "etcd_keyfile")]
    etcd_certfile: Option<PathBuf>,
    /// Its key.
    #[arg(long, requires = "etcd_certfile")]
    etcd_keyfile: Option<PathBuf>,
    /// Address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    bind_address: IpAddr,
    /// Port of HTTPS.
    #[arg(long, default_value_t = 6443)]
    secure_port: u16,
    /// Where others reach the server; the host's own address when not given.
    #[arg(long)]
    advertise_address: Option<IpAddr>,
    /// File with the serving certificate; without it one is made that nobody has signed.
    #[arg(long, requires = "tls_private_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// File with its key.
    #[arg(long)]
    tls_private_key_file: Option<PathBuf>,
    /// File with the authority of clients' certificates.
    #[arg(long)]
    client_ca_file: Option<PathBuf>,
    /// Who shows no credentials is system:anonymous.
    #[arg(long, action = ArgAction::Set, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    anonymous_auth: bool,
    /// File with tokens that do not change: token,user,uid,"group1,group2".
    #[arg(long)]
    token_auth_file: Option<PathBuf>,
    /// Secrets of type bootstrap.kubernetes.io/token are credentials.
    #[arg(long, action = ArgAction::Set, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    enable_bootstrap_token_auth: bool,
    /// Networks of cluster IPs; the first is used.
    #[arg(long, value_delimiter = ',', default_value = "10.0.0.0/24")]
    service_cluster_ip_range: Vec<IpNet>,
    /// Ports of services on nodes.
    #[arg(long, default_value = "30000-32767", value_parser = ports)]
    service_node_port_range: RangeInclusive<u16>,
}

/// Service-account tokens.
#[derive(clap::Args)]
struct TokenFlags {
    /// Who issues tokens; of several the first does, and the tokens of the others are good until they end.
    #[arg(long)]
    service_account_issuer: Vec<String>,
    /// Where others find the keys of tokens, https; at this server when not given.
    #[arg(long, default_value = "")]
    service_account_jwks_uri: String,
    /// Files with keys whose tokens are accepted.
    #[arg(long)]
    service_account_key_file: Vec<PathBuf>,
    /// File with the key that signs tokens.
    #[arg(long)]
    service_account_signing_key_file: Option<PathBuf>,
    /// Socket of the program that signs tokens and has their keys (ExternalJWTSigner), instead of files; `@name` is an
    /// abstract one.
    #[arg(long)]
    service_account_signing_endpoint: Option<String>,
    /// No token is issued for longer; 0: no bound.
    #[arg(long, value_parser = duration, value_name = "DURATION", default_value = "0s")]
    service_account_max_token_expiration: Duration,
    /// Tokens of pods live on for a year, and tell when they should have been renewed.
    #[arg(long, num_args = 0..=1, default_value = "true", default_missing_value = "true", require_equals = true,
        action = clap::ArgAction::Set)]
    service_account_extend_token_expiration: bool,
    /// For whom tokens are meant; the issuer when not given.
    #[arg(long, value_delimiter = ',')]
    api_audiences: Vec<String>,
}

/// Connections to kubelets.
#[derive(clap::Args)]
struct KubeletFlags {
    /// File with the client certificate shown to kubelets.
    #[arg(long, requires = "kubelet_client_key")]
    kubelet_client_certificate: Option<PathBuf>,
    /// File with its key.
    #[arg(long)]
    kubelet_client_key: Option<PathBuf>,
    /// File with the authority of the kubelets' serving certificates.
    #[arg(long)]
    kubelet_certificate_authority: Option<PathBuf>,
}

/// Flags that clusters in the wild carry and that change nothing here.
#[derive(clap::Args)]
struct Unused {
    /// Privileged containers are always allowed.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    allow_privileged: Option<bool>,
    /// Kubelets are reached at their internal addresses first.
    #[arg(long, value_delimiter = ',')]
    kubelet_preferred_address_types: Vec<String>,
    /// Profiles are not served.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    profiling: Option<bool>,
}

impl super::Flags for Flags {
    fn common(&self) -> &Common {
        &self.common
    }
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || format!("{text:?} is no range of ports such as 30000-32767");
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first > 0 && first <= last => Ok(first..=last),
        _ => Err(wrong()),
    }
}

/// The address from which this host reaches others. Nothing is sent.
pub(crate) fn own_address() -> anyhow::Result<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // Any address far away: the kernel chooses the one of ours that it would send from.
    socket
        .connect((Ipv4Addr::new(192, 0, 2, 1), 9))
        .context("this host has no address by which others could reach it")?;
    Ok(socket.local_addr()?.ip())
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let what = || format!("cannot use {}", path.display());
    let all = CertificateDer::pem_file_iter(path).with_context(what)?;
    all.collect::<Result<_, _>>().with_context(what)
}

fn identity(certificate: &Path, key: &Path) -> anyhow::Result<Identity> {
    Ok(Identity {
        chain: certificates(certificate)?,
        key: PrivateKeyDer::from_pem_file(key)
            .with_context(|| format!("cannot use {}", key.display()))?,
    })
}

impl TokenFlags {
    /// The issuer, and who signs for it if that is somebody elsewhere.
    async fn tokens(&self) -> anyhow::Result<(Tokens, Option<Arc<TokenSigner>>)> {
        let most = i64::try_from(self.service_account_max_token_expiration.as_secs())?;
        if most != 0 && !(3600..=1 << 32).contains(&most) {
            bail!(
                "the service-account-max-token-expiration must be between 1 hour and 2^32 seconds"
            );
        }
        let mut lifetimes = Lifetimes {
            most_seconds: most,
            extends: self.service_account_extend_token_expiration,
            ..Lifetimes::default()
        };
        let Some(endpoint) = &self.service_account_signing_endpoint else {
            return Ok((self.own_tokens()?.with_lifetimes(lifetimes), None));
        };
        self.check_endpoint(endpoint)?;
        let (issuer, former) = self.issuers()?;
        let found = TokenSigner::introduce(endpoint).await;
        let found = found.map_err(anyhow::Error::msg)?;
        let bound = found.most_seconds;
        if most > bound {
            let go = |seconds: i64| machinery::duration::go(seconds.saturating_mul(1_000_000_000));
            bail!(
                "service-account-max-token-expiration cannot be set longer than the token expiration supported by \
                 service-account-signing-endpoint: {} > {}",
                go(most),
                go(bound)
            );
        }
        if most == 0 {
            lifetimes.most_seconds = bound;
        }
        lifetimes.extended_seconds = lifetimes.extended_seconds.min(bound);
        let tokens = Tokens::signed_elsewhere(issuer, self.api_audiences.clone(), found.keys);
        let tokens = tokens.with_former_issuers(former.to_vec());
        let signer = Arc::new(found.signer);
        Ok((tokens.with_lifetimes(lifetimes), Some(signer)))
    }

    fn check_endpoint(&self, endpoint: &str) -> anyhow::Result<()> {
        if self.service_account_signing_key_file.is_some()
            || !self.service_account_key_file.is_empty()
        {
            bail!(
                "can't set `--service-account-signing-key-file` and/or `--service-account-key-file` with \
                 `--service-account-signing-endpoint` (They are mutually exclusive)"
            );
        }
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let part = |part: &str| !part.is_empty() && part.chars().all(letter);
        match endpoint.strip_prefix('@') {
            Some(name) if !name.split('.').all(part) => bail!(
                "invalid value {endpoint:?} passed for `--service-account-signing-endpoint`, when prefixed with @ must be \
                 a valid abstract socket name"
            ),
            _ => Ok(()),
        }
    }

    /// The issuer of new tokens, and those of before.
    fn issuers(&self) -> anyhow::Result<(&String, &[String])> {
        let [issuer, former @ ..] = self.service_account_issuer.as_slice() else {
            bail!("--service-account-issuer is a required flag");
        };
        let uri = &self.service_account_jwks_uri;
        if !uri.is_empty() && !uri.starts_with("https://") {
            bail!("service-account-jwks-uri requires https scheme, parsed as: {uri}");
        }
        Ok((issuer, former))
    }

    fn own_tokens(&self) -> anyhow::Result<Tokens> {
        let (issuer, former) = self.issuers()?;
        let Some(path) = &self.service_account_signing_key_file else {
            bail!("--service-account-signing-key-file is a required flag");
        };
        let key = SigningKey::from_pem(&read(path)?);
        let key = key.with_context(|| format!("cannot sign tokens with {}", path.display()))?;
        let mut accepted = Vec::new();
        for path in &self.service_account_key_file {
            let text = read(path)?;
            let keys = PublicKey::all_from_pem(&text);
            accepted.extend(keys.with_context(|| format!("cannot use {}", path.display()))?);
        }
        let tokens = Tokens::new(issuer, self.api_audiences.clone(), key, accepted);
        Ok(tokens.with_former_issuers(former.to_vec()))
    }
}

impl KubeletFlags {
    fn client(&self) -> anyhow::Result<Option<KubeletClient>> {
        let (Some(certificate), Some(key)) =
            (&self.kubelet_client_certificate, &self.kubelet_client_key)
        else {
            return Ok(None);
        };
        let Some(authority) = &self.kubelet_certificate_authority else {
            bail!(
                "--kubelet-certificate-authority is needed with --kubelet-client-certificate: \
                 kubelets that nobody has signed are not talked to"
            );
        };
        Ok(Some(KubeletClient {
            identity: identity(certificate, key)?,
            authorities: certificates(authority)?,
        }))
    }
}

impl Flags {
    fn policy(&self) -> anyhow::Result<Policy> {
        let (authorization, authorization_file) = self.authorization.chosen()?;
        let own = &self.tokens.service_account_issuer;
        let (authentication, authentication_file) = self.authentication.chosen(own)?;
        Ok(Policy {
            anonymous: self.anonymous_auth,
            bootstrap_tokens: self.enable_bootstrap_token_auth,
            static_tokens: match &self.token_auth_file {
                Some(path) => static_tokens(&read(path)?)
                    .with_context(|| format!("cannot use {}", path.display()))?,
                None => Vec::new(),
            },
            keys_url: self.tokens.service_account_jwks_uri.clone(),
            // Asked when everything else is in order.
            token_signer: None,
            authentication,
            authentication_file,
            token_webhook: self.authentication.webhook(),
            authorization,
            authorization_file,
            admission: self.admission.settings()?,
            client_authorities: self.client_ca_file.as_deref().map(read).transpose()?,
            front_proxy: self.front_proxy.front_proxy()?,
        })
    }

    fn serving(&self) -> anyhow::Result<Identity> {
        if let (Some(certificate), Some(key)) = (&self.tls_cert_file, &self.tls_private_key_file) {
            return identity(certificate, key);
        }
        let names = ["localhost", "kubernetes.default.svc", "127.0.0.1"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names.to_vec())?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der());
        Ok(Identity {
            chain: vec![made.cert.der().clone()],
            key: key.map_err(anyhow::Error::msg)?,
        })
    }
}

/// Lines of `token,user,uid,"group1,group2"`.
fn static_tokens(text: &str) -> anyhow::Result<Vec<(String, User)>> {
    let mut out = Vec::new();
    let lines = text.lines().map(str::trim);
    for line in lines.filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let mut parts = line.splitn(4, ',').map(str::trim);
        let (Some(token), Some(name), Some(uid)) = (parts.next(), parts.next(), parts.next())
        else {
            bail!("a line has fewer than three columns");
        };
        if token.is_empty() || name.is_empty() {
            bail!("a line has no token or no user");
        }
        let groups = parts.next().unwrap_or_default().trim_matches('"');
        let groups: Vec<&str> = groups
            .split(',')
            .map(str::trim)
            .filter(|g| !g.is_empty())
            .collect();
        let mut known = User::new(name, &groups);
        uid.clone_into(&mut known.uid);
        out.push((token.to_owned(), known));
    }
    Ok(out)
}

/// Runs until `shutdown`.
pub(super) async fn serve(flags: Flags, shutdown: CancellationToken) -> anyhow::Result<()> {
    let datastore = datastore::Flags {
        datastore_endpoint: (!flags.etcd_servers.is_empty()).then(|| flags.etcd_servers.join(",")),
        datastore_cafile: flags.etcd_cafile.clone(),
        datastore_certfile: flags.etcd_certfile.clone(),
        datastore_keyfile: flags.etcd_keyfile.clone(),
        ..datastore::Flags::default()
    };
    let data = match (&flags.data_dir, &datastore.datastore_endpoint) {
        (Some(data), None) => data.clone(),
        (None, Some(_)) => PathBuf::new(),
        _ => bail!("either --etcd-servers or --data-dir must be specified: where the data is"),
    };
    let store = datastore::open(&datastore, &data).await?;
    let advertise_address = match flags.advertise_address {
        Some(address) => address,
        None if !flags.bind_address.is_unspecified() => flags.bind_address,
        None => own_address()?,
    };
    let kept = flags.encryption.over(store.store(), &shutdown).await?;
    let (tokens, token_signer) = flags.tokens.tokens().await?;
    let policy = Policy {
        token_signer,
        ..flags.policy()?
    };
    let server = Server::new(apiserver::Config {
        store: kept,
        tokens,
        service_cidr: *flags
            .service_cluster_ip_range
            .first()
            .context("--service-cluster-ip-range is empty")?,
        node_ports: flags.service_node_port_range.clone(),
        advertise_address,
        advertise_port: flags.secure_port,
        host_name: Some(super::plain_host_name()),
        kubelet_client: flags.kubelet.client()?,
        policy,
        components: Pulses::default().components(false, false),
        audit: flags.audit.options()?,
        proxy_client: flags.front_proxy.client()?,
        limits: flags.limits.limits()?,
        flags: flags.common.told(),
    })
    .await
    .context("the API server cannot start")?;
    let address = SocketAddr::new(flags.bind_address, flags.secure_port);
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
    let tls = TlsSettings {
        identity: flags.serving()?,
        client_authorities: match &flags.client_ca_file {
            Some(path) => certificates(path)?,
            None => Vec::new(),
        },
    };
    tracing::info!(%address, "serving the API");
    let serving = server.serve(vec![listener], tls);
    tokio::pin!(serving);
    let result = tokio::select! {
        ended = &mut serving => ended.context("the API server ended"),
        () = shutdown.cancelled() => {
            server.leave().await;
            server.shut_down();
            serving.await.context("the API server ended")
        }
    };
    server.shut_down();
    store.close();
    result
}

#[cfg(test)]
mod tests {
    use access::user;

    use super::*;

    #[test]
    fn tokens_that_do_not_change_are_read_from_a_file() {
        let text = "# who\nsecret,jane,u1,\"devs,system:masters\"\nother,joe,u2\n";
        let read = static_tokens(text).expect("readable");
        assert_eq!(read[0].1.groups, ["devs", user::SYSTEM_MASTERS]);
        assert_eq!(
            (read[1].0.as_str(), read[1].1.uid.as_str()),
            ("other", "u2")
        );
        assert!(static_tokens("a,b").is_err() && static_tokens(",b,c").is_err());
    }

    #[test]
    fn ports_are_a_range() {
        assert_eq!(ports("30000-32767"), Ok(30000..=32767));
        assert!(ports("32767-30000").is_err() && ports("1").is_err());
    }
}
