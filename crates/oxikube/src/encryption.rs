//! Encryption at rest: the store below the API server, encrypted as a file says.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use store::Store;
use store_encryption::{Configuration, Encrypted};
use tokio_util::sync::CancellationToken;

use crate::cluster::write_private;

/// The flags of `kube-apiserver`, which `oxikube server` has as well.
#[derive(clap::Args, Clone, Default)]
#[group(id = "encryption")]
pub(crate) struct Flags {
    /// File with an EncryptionConfiguration: which resources are encrypted in the store, by which keys or key management
    /// services. Values that are not encrypted by the first provider are written anew at the start.
    #[arg(long)]
    encryption_provider_config: Option<PathBuf>,
    /// Changes of that file count at once.
    #[arg(long, requires = "encryption_provider_config")]
    encryption_provider_config_automatic_reload: bool,
}

/// The same, and a key of one's own.
#[derive(clap::Args, Clone, Default)]
#[group(id = "own_encryption")]
pub(crate) struct OwnFlags {
    #[command(flatten)]
    file: Flags,
    /// Secrets are encrypted in the store, by a key that is made in the data directory.
    #[arg(long, conflicts_with = "encryption_provider_config")]
    secrets_encryption: bool,
}

impl OwnFlags {
    /// Those of a cluster that one command makes.
    pub(crate) fn of_cluster(secrets_encryption: bool) -> Self {
        Self {
            secrets_encryption,
            ..Self::default()
        }
    }

    /// The flags as those of `kube-apiserver`; the key is made when there is none.
    pub(crate) fn settled(&self, data: &Path, shared: bool) -> anyhow::Result<Flags> {
        let path = data.join("encryption.json");
        if !self.secrets_encryption {
            if path.exists() && self.file.encryption_provider_config.is_none() {
                bail!(
                    "secrets are encrypted by {}: start with --secrets-encryption, or with --encryption-provider-config \
                     and a file in which identity comes before that key, and secrets are decrypted",
                    path.display()
                );
            }
            return Ok(self.file.clone());
        }
        if shared {
            bail!(
                "--secrets-encryption is for a single server: those that share a datastore need the same keys, by \
                 --encryption-provider-config"
            );
        }
        if !path.exists() {
            write_private(&path, own_configuration()?.as_bytes())?;
        }
        Ok(Flags {
            encryption_provider_config: Some(path),
            ..Flags::default()
        })
    }
}

/// Secrets by a new key; values that are not encrypted yet can be read.
fn own_configuration() -> anyhow::Result<String> {
    let mut key = [0; 32];
    let filled = SystemRandom::new().fill(&mut key);
    filled.map_err(|_| anyhow!("the system gives no random numbers"))?;
    let keys = json!([{"name": "oxikube", "secret": STANDARD.encode(key)}]);
    let configuration = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
        "resources": [{
            "resources": ["secrets"],
            "providers": [{"secretbox": {"keys": keys}}, {"identity": {}}],
        }],
    });
    Ok(configuration.to_string())
}

impl Flags {
    /// The store that the API server uses over the one below; values that are stale are written anew.
    pub(crate) async fn over(
        &self,
        store: Arc<dyn Store>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Arc<dyn Store>> {
        let Some(path) = &self.encryption_provider_config else {
            return Ok(store);
        };
        let what = || format!("cannot use {}", path.display());
        let text = std::fs::read_to_string(path).with_context(what)?;
        let configuration = Configuration::parse(&text).map_err(anyhow::Error::msg);
        let encrypted = Arc::new(Encrypted::new(store, configuration.with_context(what)?));
        let rewritten = encrypted.rewrite_stale().await;
        told(rewritten.context("values cannot be encrypted anew")?);
        if self.encryption_provider_config_automatic_reload {
            let own = encrypted.clone();
            apiserver::follow_file(path.clone(), text, shutdown.clone(), move |text| {
                reload(&own, text);
            });
        }
        Ok(encrypted)
    }
}

fn told(rewritten: usize) {
    if rewritten > 0 {
        let what = "values were written anew by the first encryption provider";
        tracing::info!(rewritten, "{what}");
    }
}

/// Another text counts from now on; one that cannot be used changes nothing.
fn reload(encrypted: &Arc<Encrypted>, text: &str) {
    match Configuration::parse(text) {
        Ok(configuration) => encrypted.replace(configuration),
        Err(error) => {
            return tracing::error!(error, "the encryption configuration is not reloaded");
        }
    }
    tracing::info!("reloaded encryption config");
    let own = encrypted.clone();
    tokio::spawn(async move {
        match own.rewrite_stale().await {
            Ok(rewritten) => told(rewritten),
            Err(error) => tracing::error!(%error, "values cannot be encrypted anew"),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_makes_a_key_of_its_own_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let flags = OwnFlags {
            secrets_encryption: true,
            ..OwnFlags::default()
        };
        let read = || std::fs::read_to_string(dir.path().join("encryption.json")).expect("a file");
        let settled = flags.settled(dir.path(), false).expect("settled");
        assert!(settled.encryption_provider_config.is_some());
        let first = read();
        Configuration::parse(&first).expect("a configuration");
        flags.settled(dir.path(), false).expect("settled");
        assert_eq!(read(), first);
        assert!(flags.settled(dir.path(), true).is_err());
        // Without the flag the server would not be able to read what it has.
        assert!(OwnFlags::default().settled(dir.path(), false).is_err());
    }
}
