//! What an operator may choose about who is known, who decides and what is left out; by default what every cluster made
//! by one command has.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use access::admission::Settings;
use access::authorization::{Configuration, Link};
use access::{User, authentication};
use serde_json::{Map, Value, json};

use crate::token_signer::TokenSigner;

/// The operator's choices.
#[derive(Clone)]
pub struct Policy {
    /// Who shows nothing is `system:anonymous`; otherwise he is refused.
    pub anonymous: bool,
    /// Bootstrap tokens are looked at.
    pub bootstrap_tokens: bool,
    /// Tokens that do not change while the server runs, with their users.
    pub static_tokens: Vec<(String, User)>,
    /// Where others find the keys of service accounts' tokens; at the server itself when empty.
    pub keys_url: String,
    /// Who signs service accounts' tokens, when that is somebody elsewhere.
    pub token_signer: Option<Arc<TokenSigner>>,
    /// Issuers of tokens that are believed, and for which paths nobody needs to say who he is.
    pub authentication: authentication::Configuration,
    /// The file which that was read from, and its text: when it changes, so does who is believed.
    pub authentication_file: Option<(PathBuf, String)>,
    /// Who is asked whose a token is that nobody here knows.
    pub token_webhook: Option<TokenWebhook>,
    /// Who is asked, in order, after `system:masters` has been let in.
    pub authorization: Configuration,
    /// The file which that was read from, and its text: when it changes, so do the authorizers.
    pub authorization_file: Option<(PathBuf, String)>,
    /// Which admission plug-ins there are, and how they are set.
    pub admission: Settings,
    /// Who signs client certificates, PEM: published for other servers that ask this one.
    pub client_authorities: Option<String>,
    /// Who may say in headers for whom a request is: published for other servers that this one passes requests on to.
    pub front_proxy: Option<FrontProxy>,
}

/// A reviewer of tokens elsewhere.
#[derive(Clone)]
pub struct TokenWebhook {
    /// How it is reached: a kubeconfig.
    pub kubeconfig: PathBuf,
    /// Version of the TokenReview.
    pub version: String,
    /// How long its answers are good.
    pub ttl: Duration,
}

/// How other servers know that a request comes from this one, and for whom.
#[derive(Clone, Default)]
pub struct FrontProxy {
    /// Who signs the certificates of those that pass requests on, PEM.
    pub authorities: String,
    /// Their common names; empty is any.
    pub allowed_names: Vec<String>,
    /// Headers with the user's name.
    pub username_headers: Vec<String>,
    /// Headers with the user's UID.
    pub uid_headers: Vec<String>,
    /// Headers with a group each.
    pub group_headers: Vec<String>,
    /// What headers with extra begin with.
    pub extra_headers_prefix: Vec<String>,
}

impl FrontProxy {
    /// As every cluster made by one command has it.
    pub fn usual(authorities: String, allowed_name: &str) -> Self {
        let one = |text: &str| vec![text.to_owned()];
        Self {
            authorities,
            allowed_names: one(allowed_name),
            username_headers: one("X-Remote-User"),
            uid_headers: one("X-Remote-Uid"),
            group_headers: one("X-Remote-Group"),
            extra_headers_prefix: one("X-Remote-Extra-"),
        }
    }

    fn publish(&self, data: &mut Map<String, Value>) {
        let mut put = |key: &str, value: String| {
            data.insert(format!("requestheader-{key}"), value.into());
        };
        put("client-ca-file", self.authorities.clone());
        let lists = [
            ("allowed-names", &self.allowed_names),
            ("username-headers", &self.username_headers),
            ("uid-headers", &self.uid_headers),
            ("group-headers", &self.group_headers),
            ("extra-headers-prefix", &self.extra_headers_prefix),
        ];
        for (key, list) in lists {
            // As upstream: what it may lack is left out when it is empty.
            if key != "uid-headers" || !list.is_empty() {
                put(key, json!(list).to_string());
            }
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            anonymous: true,
            bootstrap_tokens: true,
            static_tokens: Vec::new(),
            keys_url: String::new(),
            token_signer: None,
            authentication: authentication::Configuration::default(),
            authentication_file: None,
            token_webhook: None,
            authorization: Configuration {
                links: vec![Link::Node, Link::Rbac],
            },
            authorization_file: None,
            admission: Settings::default(),
            client_authorities: None,
            front_proxy: None,
        }
    }
}

impl Policy {
    /// The user of a token that does not change. All tokens are compared, so that the time it takes tells nothing.
    pub(crate) fn static_user(&self, token: &str) -> Option<User> {
        use sha2::{Digest, Sha256};
        let given = Sha256::digest(token);
        let mut all = self.static_tokens.iter();
        all.find(|(known, _)| Sha256::digest(known) == given)
            .map(|(_, user)| user.clone())
    }

    /// The ConfigMap by which other servers learn how this one knows its clients.
    pub(crate) fn published(&self) -> Value {
        let mut data = Map::new();
        if let Some(authorities) = &self.client_authorities {
            data.insert("client-ca-file".to_owned(), authorities.clone().into());
        }
        if let Some(front_proxy) = &self.front_proxy {
            front_proxy.publish(&mut data);
        }
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": "extension-apiserver-authentication", "namespace": "kube-system",
            },
            "data": data,
        })
    }
}
