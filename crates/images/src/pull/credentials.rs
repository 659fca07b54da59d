//! What a pull may show to a registry, as the CRI hands it over.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The fields of the CRI's `AuthConfig`; all empty means anonymous. Debug output shows none of the secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// A user's name.
    pub username: String,
    /// The password to it.
    pub password: String,
    /// Name and password as `name:password` in base64.
    pub auth: String,
    /// The registry that these are for; empty means the one in the image's name. Others are never shown them.
    pub server_address: String,
    /// A refresh token, which the registry's token service exchanges.
    pub identity_token: String,
    /// A bearer token for the registry itself.
    pub registry_token: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

/// One way to log in.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    Anonymous,
    Password {
        username: String,
        password: String,
    },
    /// To be exchanged at the token service.
    Refresh(String),
    /// To be sent as it is.
    Bearer(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Login::Anonymous => "Anonymous",
            Login::Password { .. } => "Password",
            Login::Refresh(_) => "Refresh",
            Login::Bearer(_) => "Bearer",
        })
    }
}

impl Credentials {
    /// How to log in at a registry: anonymously when these are for another one. `Err` says what is malformed.
    pub(super) fn login(&self, registry: &str) -> Result<Login, &'static str> {
        if !self.server_address.is_empty() && server(&self.server_address) != server(registry) {
            return Ok(Login::Anonymous);
        }
        let password = |username: &str, password: &str| Login::Password {
            username: username.to_owned(),
            password: password.to_owned(),
        };
        if !self.username.is_empty() {
            return Ok(password(&self.username, &self.password));
        }
        if !self.identity_token.is_empty() {
            return Ok(Login::Refresh(self.identity_token.clone()));
        }
        if !self.auth.is_empty() {
            let malformed = "invalid auth config: auth must be name:password in base64";
            let bytes = STANDARD.decode(&self.auth).map_err(|_| malformed)?;
            let text = String::from_utf8(bytes).map_err(|_| malformed)?;
            let (name, secret) = text.split_once(':').ok_or(malformed)?;
            return Ok(password(name, secret.trim_end_matches('\0')));
        }
        if !self.registry_token.is_empty() {
            return Ok(Login::Bearer(self.registry_token.clone()));
        }
        Ok(Login::Anonymous)
    }
}

/// The host and port in a server's address as configuration files write it. Docker Hub has several names.
fn server(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    match rest.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" => oci::reference::DEFAULT_REGISTRY,
        host => host,
    }
}
