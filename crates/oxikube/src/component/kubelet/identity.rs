//! The kubelet's client and serving certificates: from files, or certified by the API server and renewed.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use client::connect::Rotating;
use client::requests::Requests;
use jiff::Timestamp;
use kube::config::Kubeconfig;
use kube::{Client, Config};
use serde_json::json;
use serving::Certificate;

use super::COMPONENT;
use super::configuration::Configuration;
use crate::certify::{self, Pair, Wish};
use crate::cluster::{make_private_dir, write_private};
use crate::component::credentials;
use crate::component::flags::read;
use crate::worker::Tasks;

/// Where a kubelet keeps who it is.
pub(super) struct Place {
    pub(super) node: String,
    pub(super) dir: PathBuf,
    pub(super) kubeconfig: Option<PathBuf>,
    pub(super) bootstrap: Option<PathBuf>,
}

impl Place {
    fn client_file(&self) -> PathBuf {
        self.dir.join("kubelet-client-current.pem")
    }

    fn serving_file(&self) -> PathBuf {
        self.dir.join("kubelet-server-current.pem")
    }
}

/// A client as the node; its certificate is asked for when there is none, and renewed when that is wanted.
pub(super) async fn client(
    place: &Place,
    renews: bool,
    requests: &Requests,
    tasks: &mut Tasks,
) -> anyhow::Result<Client> {
    let Some(path) = &place.kubeconfig else {
        bail!("--kubeconfig is needed: how to reach the API server, and as whom");
    };
    let known = Pair::read(&place.client_file());
    let usable = known
        .as_ref()
        .is_some_and(|pair| pair.is_good(Timestamp::now()));
    if let Some(bootstrap) = &place.bootstrap
        && !(path.exists() && usable)
    {
        join(place, bootstrap, path).await?;
    }
    let config = credentials::config(COMPONENT, path, None).await?;
    let own = place.client_file();
    let ours = config.auth_info.client_certificate.as_deref() == own.to_str();
    let Some(current) = Pair::read(&own).filter(|_| ours && renews) else {
        return Ok(requests.client(config)?);
    };
    let rotating = Rotating::new(with(&config, &current, requests)?);
    let client = rotating.client();
    let requests = requests.clone();
    let take = move |pair: &Pair| {
        rotating.replace(with(&config, pair, &requests)?);
        Ok(())
    };
    let renewing = certify::renew(
        client.clone(),
        Wish::kubelet_client(&place.node),
        own,
        current,
        take,
    );
    tasks.spawn(async move {
        renewing.await;
        Ok(())
    });
    Ok(client)
}

/// The same server with these credentials.
fn with(config: &Config, pair: &Pair, requests: &Requests) -> anyhow::Result<Client> {
    use base64::Engine;
    let encode = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
    let mut config = config.clone();
    let auth = &mut config.auth_info;
    (auth.client_certificate, auth.client_key) = (None, None);
    auth.client_certificate_data = Some(encode(&pair.certificate));
    auth.client_key_data = Some(encode(&pair.key).into());
    Ok(requests.client(config)?)
}

/// Asks for the first client certificate, and writes the kubeconfig that uses it.
async fn join(place: &Place, bootstrap: &Path, kubeconfig: &Path) -> anyhow::Result<()> {
    let client = Client::try_from(credentials::config(COMPONENT, bootstrap, None).await?)?;
    make_private_dir(&place.dir)?;
    let pair = certify::obtain(&client, &Wish::kubelet_client(&place.node)).await;
    pair.write(&place.client_file())?;
    let file = Kubeconfig::read_from(bootstrap)?;
    let cluster = file.clusters.first().and_then(|c| c.cluster.as_ref());
    let cluster = cluster.context("the bootstrap kubeconfig names no cluster")?;
    let own = place.client_file();
    let config = json!({
        "apiVersion": "v1", "kind": "Config",
        "clusters": [{"name": "default-cluster", "cluster": cluster}],
        "users": [{"name": "default-auth", "user": {"client-certificate": own, "client-key": own}}],
        "contexts": [{
            "name": "default-context",
            "context": {"cluster": "default-cluster", "namespace": "default", "user": "default-auth"},
        }],
        "current-context": "default-context",
    });
    write_private(kubeconfig, serde_saphyr::to_string(&config)?.as_bytes())
}

/// The serving certificate: from files, signed by the API server, or signed by nobody.
pub(super) async fn serving(
    place: &Place,
    configuration: &Configuration,
    client: &Client,
    addresses: Vec<IpAddr>,
    tasks: &mut Tasks,
) -> anyhow::Result<Arc<Certificate>> {
    if let (Some(certificate), Some(key)) = (
        &configuration.tls_cert_file,
        &configuration.tls_private_key_file,
    ) {
        return Ok(Certificate::from_pem(&read(certificate)?, &read(key)?)?);
    }
    if !configuration.server_tls_bootstrap {
        let names = addresses.iter().map(ToString::to_string);
        let names: Vec<String> = std::iter::once(place.node.clone()).chain(names).collect();
        return Ok(Certificate::self_signed(&names)?);
    }
    make_private_dir(&place.dir)?;
    let wish = Wish::kubelet_serving(&place.node, addresses);
    Ok(crate::certify::serving(
        client.clone(),
        wish,
        place.serving_file(),
        tasks,
    ))
}
