//! One event, and how it is written.

use std::collections::BTreeMap;

use jiff::Timestamp;
use machinery::{Object, time};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{Level, Stage};
use crate::{Attributes, User};

/// What is said of a user agent that is too long.
const TRUNCATED: &str = "...TRUNCATED";
const MAX_USER_AGENT: usize = 1024;
/// What tells that bodies were left out because of their size.
const TRUNCATED_KEY: &str = "audit.k8s.io/truncated";

/// A user, as events and reviews show it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Person {
    /// The name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// The UID.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What else is known.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl From<&User> for Person {
    fn from(user: &User) -> Self {
        Self {
            username: user.name.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
        }
    }
}

/// What a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// Plural name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// Namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// UID.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    /// Version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// As the request's body says it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Sub-resource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
}

/// How somebody came to be known as who he is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthenticationMetadata {
    /// The verb that allowed the caller to act as somebody else.
    pub impersonation_constraint: String,
}

/// One event: what is known of a request at one stage.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    kind: &'static str,
    api_version: &'static str,
    /// How much it tells.
    pub level: Level,
    /// The number of the request, the same in all its events.
    #[serde(rename = "auditID")]
    pub audit_id: String,
    /// How far the request has come.
    pub stage: Stage,
    /// Path and query.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// The verb.
    pub verb: String,
    /// Who asks.
    pub user: Person,
    /// Who he wants to be taken for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impersonated_user: Option<Person>,
    /// How that was allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication_metadata: Option<AuthenticationMetadata>,
    /// From where; only the last is certain.
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    pub source_ips: Vec<String>,
    /// What the client calls itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
    /// What it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_ref: Option<ObjectReference>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_status: Option<Value>,
    /// The body of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_object: Option<Value>,
    /// The body of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_object: Option<Value>,
    /// When it came.
    #[serde(serialize_with = "micro")]
    pub request_received_timestamp: Timestamp,
    /// When it reached the stage.
    #[serde(serialize_with = "micro")]
    pub stage_timestamp: Timestamp,
    /// What others had to say.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

fn micro<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time::micro(*time))
}

impl Event {
    /// What is known when a request has arrived.
    pub fn new(level: Level, audit_id: &str, request: &Attributes, received: Timestamp) -> Self {
        let about = || ObjectReference {
            resource: request.resource.clone(),
            namespace: request.namespace.clone(),
            name: request.name.clone(),
            api_group: request.api_group.clone(),
            api_version: request.api_version.clone(),
            subresource: request.subresource.clone(),
            ..ObjectReference::default()
        };
        Self {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level,
            audit_id: audit_id.to_owned(),
            stage: Stage::RequestReceived,
            request_uri: String::new(),
            verb: request.verb.clone(),
            user: Person::from(&*request.user),
            impersonated_user: None,
            authentication_metadata: None,
            source_ips: Vec::new(),
            user_agent: String::new(),
            object_ref: request.is_resource_request.then(about),
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: received,
            stage_timestamp: received,
            annotations: BTreeMap::new(),
        }
    }

    /// What the client calls itself, within bounds.
    pub fn set_user_agent(&mut self, agent: &str) {
        agent.clone_into(&mut self.user_agent);
        if let Some((at, _)) = agent
            .char_indices()
            .find(|(at, c)| at + c.len_utf8() > MAX_USER_AGENT)
        {
            self.user_agent.truncate(at);
            self.user_agent.push_str(TRUNCATED);
        }
    }

    /// The names that a request's body adds to those of its path.
    pub fn refer_to(&mut self, body: &Object) {
        let Some(about) = &mut self.object_ref else {
            return;
        };
        let fields = [
            (&mut about.namespace, "namespace"),
            (&mut about.name, "name"),
            (&mut about.uid, "uid"),
            (&mut about.resource_version, "resourceVersion"),
        ];
        for (own, key) in fields {
            if own.is_empty() {
                body.meta_str(key).clone_into(own);
            }
        }
    }

    /// One line of JSON.
    pub fn to_json(&self) -> Vec<u8> {
        // Texts, numbers and trees of JSON have no way to fail to encode.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// One line for people.
    pub fn to_text(&self) -> String {
        let quoted = |text: &str| format!("{text:?}");
        let list = |list: &[String]| list.iter().map(|t| quoted(t)).collect::<Vec<_>>().join(",");
        let user = &self.user;
        let (name, mut groups) = match user.username.as_str() {
            "" => ("<none>", "<none>".to_owned()),
            name => (name, list(&user.groups)),
        };
        if groups.is_empty() {
            "<none>".clone_into(&mut groups);
        }
        let other = self.impersonated_user.as_ref();
        let as_groups = other
            .filter(|o| !o.groups.is_empty())
            .map(|o| list(&o.groups));
        let namespace = self.object_ref.as_ref().map(|o| o.namespace.as_str());
        let code = self.response_status.as_ref().map(|s| s["code"].to_string());
        format!(
            "{} AUDIT: id={:?} stage={:?} ip={:?} method={:?} user={name:?} groups={groups:?} as={:?} \
             asgroups={:?} user-agent={:?} namespace={:?} uri={:?} response=\"{}\"",
            time::micro(self.request_received_timestamp),
            self.audit_id,
            self.stage.as_str(),
            self.source_ips.first().map_or("<unknown>", String::as_str),
            self.verb,
            other.map_or("<self>", |o| o.username.as_str()),
            as_groups.as_deref().unwrap_or("<lookup>"),
            self.user_agent,
            namespace.filter(|n| !n.is_empty()).unwrap_or("<none>"),
            self.request_uri,
            code.as_deref().unwrap_or("<deferred>"),
        )
    }

    /// The same without bodies, for those who take no more than so many bytes; `None` when even that is too long.
    pub fn within(self, bytes: usize) -> Option<Self> {
        if self.to_json().len() <= bytes {
            return Some(self);
        }
        let mut short = self;
        if short.level >= Level::Request {
            short.request_object = None;
            short.response_object = None;
            let (key, value) = (TRUNCATED_KEY.to_owned(), "true".to_owned());
            short.annotations.insert(key, value);
        }
        (short.to_json().len() <= bytes).then_some(short)
    }
}

/// Takes the managed fields out of a body: an object, the items of a list, or the objects in the rows of a table.
pub fn without_managed_fields(body: &mut Value) {
    let clear = |object: &mut Value| {
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            metadata.remove("managedFields");
        }
    };
    clear(body);
    for key in ["items", "rows"] {
        let Some(Value::Array(items)) = body.get_mut(key) else {
            continue;
        };
        for item in items {
            match key {
                "rows" => item.get_mut("object").into_iter().for_each(clear),
                _ => clear(item),
            }
        }
    }
}
