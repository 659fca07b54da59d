//! What an operator may choose about who is known, who decides and what is left out; by default what every cluster made
//! by one command has.

use std::collections::BTreeSet;
use std::path::PathBuf;

use access::User;
use access::authorization::{Configuration, Link};
use serde_json::{Map, Value, json};

/// The operator's choices.
#[derive(Clone)]
pub struct Policy {
    /// Who shows nothing is `system:anonymous`; otherwise he is refused.
    pub anonymous: bool,
    /// Bootstrap tokens are looked at.
    pub bootstrap_tokens: bool,
    /// Tokens that do not change while the server runs, with their users.
    pub static_tokens: Vec<(String, User)>,
    /// Who is asked, in order, after `system:masters` has been let in.
    pub authorization: Configuration,
    /// The file which that was read from, and its text: when it changes, so do the authorizers.
    pub authorization_file: Option<(PathBuf, String)>,
    /// Admission plug-ins that are left out.
    pub without_admission: BTreeSet<String>,
    /// Who signs client certificates, PEM: published for other servers that ask this one.
    pub client_authorities: Option<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            anonymous: true,
            bootstrap_tokens: true,
            static_tokens: Vec::new(),
            authorization: Configuration {
                links: vec![Link::Node, Link::Rbac],
            },
            authorization_file: None,
            without_admission: BTreeSet::new(),
            client_authorities: None,
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
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": "extension-apiserver-authentication", "namespace": "kube-system",
            },
            "data": data,
        })
    }
}
