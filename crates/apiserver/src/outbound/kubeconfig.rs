//! The far end of a webhook as a kubeconfig describes it: cluster, user, current context.
//!
//! Behaviour: `k8s.io/client-go/tools/clientcmd`, `k8s.io/apiserver/pkg/util/webhook` (`LoadKubeconfig`).

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use machinery::codec;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Credentials, Destination, Place, Trust};
use crate::server::Identity;

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: bool,
    tls_server_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    exec: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
}

/// The destination of a kubeconfig's current context, and the path of its URL.
///
/// # Errors
/// The file cannot be read, or does not describe a far end.
pub(crate) fn load(path: &Path) -> Result<(Destination, String), String> {
    let text = std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let (file, _) = codec::decode_yaml_value(&text).map_err(|e| e.to_string())?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    of_value(&file, directory).map_err(|why| format!("{}: {why}", path.display()))
}

fn of_value(file: &Value, directory: &Path) -> Result<(Destination, String), String> {
    let current = file["current-context"].as_str().unwrap_or_default();
    let context: Context = named(file, "contexts", "context", current)?.unwrap_or_default();
    let mut cluster: Option<Cluster> = named(file, "clusters", "cluster", &context.cluster)?;
    let mut user: Option<User> = named(file, "users", "user", &context.user)?;
    // Files of webhooks often have one of each, and no context worth its name.
    if current.is_empty() {
        cluster = cluster.map_or_else(|| only(file, "clusters", "cluster"), |c| Ok(Some(c)))?;
        user = user.map_or_else(|| only(file, "users", "user"), |u| Ok(Some(u)))?;
    }
    let cluster = cluster.ok_or("invalid configuration: no configuration has been provided")?;
    let user = user.unwrap_or_default();
    if user.exec.is_some() {
        return Err("credentials by a program (exec) are not supported here".to_owned());
    }
    if cluster.tls_server_name.is_some() {
        return Err("tls-server-name is not supported here".to_owned());
    }
    let (place, path) = Place::of_url(&cluster.server).map_err(|e| e.to_string())?;
    let mut destination = Destination::new(place, cluster.trust(directory)?);
    destination.credentials = user.identity(directory)?.map(Credentials::new);
    destination.bearer = user.bearer(directory)?.map(Into::into);
    Ok((destination, path))
}

fn named<T: DeserializeOwned>(
    file: &Value,
    list: &str,
    part: &str,
    name: &str,
) -> Result<Option<T>, String> {
    let mut all = file[list].as_array().into_iter().flatten();
    let found = all.find(|one| one["name"].as_str() == Some(name));
    found.map(|one| read(&one[part])).transpose()
}

fn only<T: DeserializeOwned>(file: &Value, list: &str, part: &str) -> Result<Option<T>, String> {
    match file[list].as_array().map(Vec::as_slice) {
        Some([one]) => read(&one[part]).map(Some),
        _ => Ok(None),
    }
}

fn read<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    serde_json::from_value(value.clone()).map_err(|e| e.to_string())
}

/// What stands in the file itself, or in another that it names.
fn content(
    data: Option<&String>,
    file: Option<&PathBuf>,
    directory: &Path,
) -> Result<Option<Vec<u8>>, String> {
    if let Some(data) = data.filter(|d| !d.is_empty()) {
        let decoded = STANDARD.decode(data).map_err(|e| e.to_string())?;
        return Ok(Some(decoded));
    }
    let Some(file) = file.filter(|f| !f.as_os_str().is_empty()) else {
        return Ok(None);
    };
    let file = directory.join(file);
    let read = std::fs::read(&file);
    read.map(Some)
        .map_err(|e| format!("cannot read {}: {e}", file.display()))
}

impl Cluster {
    fn trust(&self, directory: &Path) -> Result<Trust, String> {
        let data = self.certificate_authority_data.as_ref();
        let pem = content(data, self.certificate_authority.as_ref(), directory)?;
        Ok(match pem {
            _ if self.insecure_skip_tls_verify => Trust::Anybody,
            Some(pem) => Trust::bundle(&pem),
            None => Trust::System,
        })
    }
}

impl User {
    fn identity(&self, directory: &Path) -> Result<Option<Identity>, String> {
        let certificate = self.client_certificate_data.as_ref();
        let certificate = content(certificate, self.client_certificate.as_ref(), directory)?;
        let key = content(
            self.client_key_data.as_ref(),
            self.client_key.as_ref(),
            directory,
        )?;
        let (certificate, key) = match (certificate, key) {
            (Some(certificate), Some(key)) => (certificate, key),
            (None, None) => return Ok(None),
            _ => return Err("a client certificate needs its key".to_owned()),
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate).collect();
        Ok(Some(Identity {
            chain: chain.map_err(|e| e.to_string())?,
            key: PrivateKeyDer::from_pem_slice(&key).map_err(|e| e.to_string())?,
        }))
    }

    fn bearer(&self, directory: &Path) -> Result<Option<String>, String> {
        if let Some(bytes) = content(None, self.token_file.as_ref(), directory)? {
            let token = String::from_utf8(bytes).map_err(|_| "the token is no text")?;
            return Ok(Some(token.trim().to_owned()));
        }
        Ok(self.token.clone().filter(|t| !t.is_empty()))
    }
}
