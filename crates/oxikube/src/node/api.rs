//! The API server's configuration, and its certificates from disk.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use access::tokens::{SigningKey, Tokens};
use anyhow::Context;
use apiserver::{
    Alive, AuditOptions, Component, Identity, KubeletClient, Pulse, Server, TlsSettings,
};
use ipnet::IpNet;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use store::Store;

use crate::cluster::{API_PORT, CLUSTER_DOMAIN, Config, SERVICE_CIDR};
use crate::member::NodeConfig;

/// The directory of certificates and keys.
pub(crate) struct Pki(PathBuf);

impl Pki {
    /// Uses this directory.
    pub(crate) fn read(dir: &Path) -> anyhow::Result<Self> {
        let pki = Self(dir.to_owned());
        pki.authorities()?;
        Ok(pki)
    }

    /// A file of it.
    pub(crate) fn text(&self, file: &str) -> anyhow::Result<String> {
        let path = self.0.join(file);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn certificates(&self, file: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        let path = self.0.join(file);
        let what = || format!("cannot use {}", path.display());
        let all = CertificateDer::pem_file_iter(&path).with_context(what)?;
        all.collect::<Result<_, _>>().with_context(what)
    }

    fn identity(&self, name: &str) -> anyhow::Result<Identity> {
        let key = self.0.join(format!("{name}.key"));
        let what = || format!("cannot use {}", key.display());
        Ok(Identity {
            chain: self.certificates(&format!("{name}.crt"))?,
            key: PrivateKeyDer::from_pem_file(&key).with_context(what)?,
        })
    }

    fn authorities(&self) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        self.certificates("ca.crt")
    }

    /// How the API's connections are secured.
    pub(crate) fn serving(&self) -> anyhow::Result<TlsSettings> {
        let (identity, client_authorities) = (self.identity("apiserver")?, self.authorities()?);
        Ok(TlsSettings {
            identity,
            client_authorities,
        })
    }

    fn tokens(&self) -> anyhow::Result<Tokens> {
        let key = SigningKey::from_pem(&self.text("sa.key")?).context("sa.key cannot be used")?;
        let issuer = format!("https://kubernetes.default.svc.{CLUSTER_DOMAIN}");
        Ok(Tokens::new(&issuer, Vec::new(), key, Vec::new()))
    }
}

/// The parts of the control plane beside the API server, as this process has them.
#[derive(Default)]
pub(crate) struct Pulses {
    /// The controllers.
    pub(crate) controllers: Pulse,
    /// The scheduler.
    pub(crate) scheduler: Pulse,
}

/// Where a controller manager of its own serves.
const CONTROLLERS_PORT: u16 = 10257;
/// Where a scheduler of its own serves.
const SCHEDULER_PORT: u16 = 10259;

impl Pulses {
    /// How the API server asks them; those that are not here may be processes of their own on this machine.
    pub(crate) fn components(
        &self,
        controllers_here: bool,
        scheduler_here: bool,
    ) -> Vec<Component> {
        let alive = |here: bool, pulse: &Pulse, port: u16| match here {
            true => Alive::Here(pulse.clone()),
            false => Alive::At(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        };
        let controllers = alive(controllers_here, &self.controllers, CONTROLLERS_PORT);
        let scheduler = alive(scheduler_here, &self.scheduler, SCHEDULER_PORT);
        vec![
            Component {
                name: "controller-manager",
                alive: controllers,
            },
            Component {
                name: "scheduler",
                alive: scheduler,
            },
        ]
    }
}

/// The ports that services may have on nodes.
const NODE_PORTS: RangeInclusive<u16> = 30000..=32767;

/// The API server, with all that every cluster has in its store.
pub(crate) async fn server(
    config: &Config,
    store: Arc<dyn Store>,
    pki: &Pki,
    pulses: &Pulses,
) -> anyhow::Result<Arc<Server>> {
    let at = (NodeConfig::first(config).address(), API_PORT);
    let parts = pulses.components(true, true);
    let audit = AuditOptions::default();
    serve_at(store, pki, SERVICE_CIDR.parse()?, at, parts, audit).await
}

/// The same at an address of the host itself.
pub(crate) async fn serve_at(
    store: Arc<dyn Store>,
    pki: &Pki,
    services: IpNet,
    (address, port): (Ipv4Addr, u16),
    components: Vec<Component>,
    audit: AuditOptions,
) -> anyhow::Result<Arc<Server>> {
    let kubelet_client = KubeletClient {
        identity: pki.identity("apiserver-kubelet-client")?,
        authorities: pki.authorities()?,
    };
    // The server has no command line here; this is what it is made of.
    let flags = [
        ("advertise-address", address.to_string()),
        ("authorization-mode", "[Node,RBAC]".to_owned()),
        ("secure-port", port.to_string()),
        ("service-cluster-ip-range", services.to_string()),
        (
            "service-node-port-range",
            format!("{}-{}", NODE_PORTS.start(), NODE_PORTS.end()),
        ),
    ];
    let flags = flags.map(|(name, value)| (name.to_owned(), value)).into();
    let config = apiserver::Config {
        store,
        tokens: pki.tokens()?,
        service_cidr: services,
        node_ports: NODE_PORTS,
        advertise_address: address.into(),
        advertise_port: port,
        host_name: Some(crate::component::plain_host_name()),
        kubelet_client: Some(kubelet_client),
        policy: apiserver::Policy {
            client_authorities: Some(pki.text("ca.crt")?),
            front_proxy: Some(apiserver::FrontProxy::usual(
                pki.text("front-proxy-ca.crt")?,
                "front-proxy-client",
            )),
            ..apiserver::Policy::default()
        },
        components,
        audit,
        proxy_client: Some(pki.identity("front-proxy-client")?),
        limits: apiserver::Limits::default(),
        flags,
    };
    Server::new(config)
        .await
        .context("the API server cannot start")
}
