//! The far end of a webhook as a kubeconfig describes it: cluster, user, current context; and who the server is for which of
//! the admission webhooks, which bring their places themselves.
//!
//! Behaviour: `k8s.io/client-go/tools/clientcmd`, `k8s.io/apiserver/pkg/util/webhook` (`LoadKubeconfig`,
//! `NewDefaultAuthenticationInfoResolver`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use machinery::codec;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::exec::{Plugin, VERSIONS};
use super::login::{Login, read_token};
use super::proxy::Proxy;
use super::{Credentials, Destination, Place, Trust};
use crate::server::Identity;

/// What a cluster tells the programs that are asked for credentials.
const EXEC_EXTENSION: &str = "client.authentication.k8s.io/exec";

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: bool,
    tls_server_name: Option<String>,
    proxy_url: Option<String>,
    disable_compression: bool,
    extensions: Option<Vec<Extension>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Extension {
    name: String,
    extension: Value,
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
    username: Option<String>,
    password: Option<String>,
    auth_provider: Option<Provider>,
    exec: Option<Exec>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Provider {
    name: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Exec {
    api_version: String,
    command: String,
    args: Option<Vec<String>>,
    env: Option<Vec<Variable>>,
    install_hint: Option<String>,
    provide_cluster_info: bool,
    interactive_mode: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Variable {
    name: String,
    value: String,
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
    let (file, directory) = read_file(path)?;
    of_value(&file, directory).map_err(|why| format!("{}: {why}", path.display()))
}

fn read_file(path: &Path) -> Result<(Value, &Path), String> {
    let text = std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let (file, _) = codec::decode_yaml_value(&text).map_err(|e| e.to_string())?;
    Ok((file, path.parent().unwrap_or(Path::new("/"))))
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
    user.check(&context.user)?;
    let (place, path) = Place::of_url(&cluster.server).map_err(|e| e.to_string())?;
    let mut destination = Destination::new(place, cluster.trust(directory)?);
    let text = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    destination.server_name = text(&cluster.tls_server_name).map(Into::into);
    let proxy = text(&cluster.proxy_url).map(|url| Proxy::of_url(&url));
    destination.proxy = proxy.transpose()?.map(Arc::new);
    let shows = user.shows(Some(&cluster), directory)?;
    (destination.credentials, destination.login) = (shows.credentials, shows.login);
    Ok((destination, path))
}

/// What the server shows of itself at a place.
#[derive(Clone, Default)]
pub(crate) struct Shows {
    pub(crate) credentials: Option<Credentials>,
    pub(crate) login: Option<Arc<Login>>,
}

/// Who the server is for which admission webhook: users of a kubeconfig that are named after places.
#[derive(Default)]
pub(crate) struct HookUsers {
    users: BTreeMap<String, Shows>,
    current: Option<String>,
}

impl HookUsers {
    /// Reads them.
    ///
    /// # Errors
    /// The file cannot be read, or one of them has credentials that cannot be used.
    pub(crate) fn load(path: &Path) -> Result<Self, String> {
        let (file, directory) = read_file(path)?;
        let mut users = BTreeMap::new();
        for one in file["users"].as_array().into_iter().flatten() {
            let name = one["name"].as_str().unwrap_or_default();
            let failed = |why: String| format!("{}: user {name:?}: {why}", path.display());
            let user: User = read(&one["user"]).map_err(failed)?;
            user.check(name).map_err(failed)?;
            let shows = user.shows(None, directory).map_err(failed)?;
            users.entry(name.to_owned()).or_insert(shows);
        }
        let current = file["current-context"].as_str().unwrap_or_default();
        let context: Option<Context> = named(&file, "contexts", "context", current)?;
        Ok(Self {
            users,
            current: context.map(|context| context.user),
        })
    }

    /// Who the server is at a place: the user of this name, of a pattern for it (`*.example.com:8443`), of `*`, or the one of
    /// the current context. The port may be left out when it is that of HTTPS.
    pub(crate) fn at(&self, host: &str, port: u16) -> Option<&Shows> {
        let target = match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        let plain = Some(host).filter(|_| port == 443);
        let near = self.like(&target).or_else(|| self.like(plain?));
        let any = || self.users.get("*");
        let current = || self.users.get(self.current.as_deref()?);
        near.or_else(any).or_else(current)
    }

    fn like(&self, target: &str) -> Option<&Shows> {
        let pattern = |(dot, _): (usize, &str)| self.users.get(&format!("*{}", &target[dot..]));
        let exact = self.users.get(target);
        exact.or_else(|| target.match_indices('.').find_map(pattern))
    }
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

    /// What a program is told of it.
    fn told(&self, directory: &Path) -> Result<Value, String> {
        let data = self.certificate_authority_data.as_ref();
        let pem = content(data, self.certificate_authority.as_ref(), directory)?;
        let mut all = self.extensions.iter().flatten();
        let own = all.find(|one| one.name == EXEC_EXTENSION);
        let mut told = json!({
            "server": self.server, "config": own.map_or(&Value::Null, |own| &own.extension),
        });
        let mut put = |key: &str, value: Value| told[key] = value;
        if let Some(name) = &self.tls_server_name {
            put("tls-server-name", json!(name));
        }
        if self.insecure_skip_tls_verify {
            put("insecure-skip-tls-verify", json!(true));
        }
        if let Some(pem) = pem {
            put("certificate-authority-data", json!(STANDARD.encode(pem)));
        }
        if let Some(url) = &self.proxy_url {
            put("proxy-url", json!(url));
        }
        if self.disable_compression {
            put("disable-compression", json!(true));
        }
        Ok(told)
    }
}

impl Exec {
    /// What is wrong with how it is asked for.
    fn problem(&self, user: &str) -> Option<String> {
        let to_use = format!("must be specified for {user} to use exec authentication plugin");
        let mode = self.interactive_mode.as_deref().unwrap_or_default();
        let nameless = |all: &Vec<Variable>| all.iter().any(|variable| variable.name.is_empty());
        if self.command.is_empty() {
            return Some(format!("command {to_use}"));
        }
        if self.api_version.is_empty() {
            return Some(format!("apiVersion {to_use}"));
        }
        if self.env.as_ref().is_some_and(nameless) {
            return Some(format!("env variable name {to_use}"));
        }
        match mode {
            // The version before could not say.
            "" if self.api_version == VERSIONS[1] => {}
            "" => return Some(format!("interactiveMode {to_use}")),
            "Never" | "IfAvailable" => {}
            "Always" => {
                let why = "exec plugin cannot support interactive mode";
                return Some(format!("{why}: standard input is not a terminal"));
            }
            other => return Some(format!("invalid interactiveMode for {user}: {other:?}")),
        }
        let known = VERSIONS.contains(&self.api_version.as_str());
        (!known).then(|| format!("exec plugin: invalid apiVersion {:?}", self.api_version))
    }

    fn plugin(&self, cluster: Option<&Cluster>, directory: &Path) -> Result<Plugin, String> {
        // A name alone is looked for where programs are; anything else is a path.
        let command = match self.command.contains('/') {
            true => directory.join(&self.command),
            false => PathBuf::from(&self.command),
        };
        let mut plugin = Plugin::new(command, self.api_version.clone());
        plugin.args = self.args.clone().unwrap_or_default();
        let env = self.env.iter().flatten();
        plugin.env = env.map(|v| (v.name.clone(), v.value.clone())).collect();
        plugin.install_hint = self.install_hint.clone().unwrap_or_default();
        if let Some(cluster) = cluster.filter(|_| self.provide_cluster_info) {
            plugin.cluster = Some(cluster.told(directory)?);
        }
        Ok(plugin)
    }
}

impl User {
    /// Whether there is one way to know who we are.
    fn check(&self, name: &str) -> Result<(), String> {
        let wrong = |why: String| Err(format!("invalid configuration: {why}"));
        if let Some(provider) = &self.auth_provider {
            return wrong(format!(
                "no Auth Provider found for name {:?}",
                provider.name
            ));
        }
        if let Some(why) = self.exec.as_ref().and_then(|exec| exec.problem(name)) {
            return wrong(why);
        }
        if self.has_token() && self.has_password() {
            return wrong(format!(
                "more than one authentication method found for {name}; found [token basicAuth], only one is allowed"
            ));
        }
        Ok(())
    }

    fn has_token(&self) -> bool {
        self.token.as_ref().is_some_and(|t| !t.is_empty())
    }

    fn has_password(&self) -> bool {
        let has = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
        has(&self.username) || has(&self.password)
    }

    /// What is shown for this user; a program is asked only where nothing else is there.
    fn shows(&self, cluster: Option<&Cluster>, directory: &Path) -> Result<Shows, String> {
        let credentials = self.identity(directory)?.map(Credentials::new);
        let mut login = self.login(directory)?;
        if let (None, None, Some(exec)) = (&login, &credentials, &self.exec) {
            login = Some(Login::Exec(Arc::new(exec.plugin(cluster, directory)?)));
        }
        Ok(Shows {
            credentials,
            login: login.map(Arc::new),
        })
    }

    fn login(&self, directory: &Path) -> Result<Option<Login>, String> {
        let token = self.token.clone().unwrap_or_default();
        let file = self.token_file.as_ref();
        if let Some(file) = file.filter(|file| !file.as_os_str().is_empty()) {
            let path = directory.join(file);
            if token.is_empty() {
                read_token(&path)?;
            }
            return Ok(Some(Login::file(path, token)));
        }
        if !token.is_empty() {
            return Ok(Some(Login::Token(token.into())));
        }
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let password = || Login::Password(text(&self.username), text(&self.password));
        Ok(self.has_password().then(password))
    }

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
}
