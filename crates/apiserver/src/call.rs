//! One request on its way, and what every stage after authentication may ask about it.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use access::user::{API_SERVER, SYSTEM_MASTERS};
use access::{Attributes, FieldRequirement, Lookup, User};
use api::Context;
use api::kind::{Ask, Requester, Surroundings};
use http::{HeaderMap, HeaderValue, Method};
use hyper::upgrade::OnUpgrade;
use jiff::Timestamp;
use machinery::{fields, labels};
use parking_lot::Mutex;

use crate::audit::{PeerAddress, Trail};
use crate::negotiate::Form;
use crate::request::{Query, RequestInfo};
use crate::server::Server;

/// Warnings may be that long together, as upstream's.
const WARNING_LETTERS: usize = 4 * 1024;
/// And each of them that long once they are longer.
const WARNING_LETTERS_EACH: usize = 256;

/// One request on its way.
pub(crate) struct Call {
    pub(crate) server: Arc<Server>,
    pub(crate) method: Method,
    pub(crate) info: RequestInfo,
    pub(crate) query: Query,
    /// The query as it was sent.
    pub(crate) raw_query: String,
    /// The path as it was sent.
    pub(crate) raw_path: String,
    pub(crate) headers: HeaderMap,
    /// Where the connection comes from.
    pub(crate) peer: Option<IpAddr>,
    /// Who asks; see [`Call::known_as`].
    pub(crate) user: Arc<User>,
    /// The form of errors and of answers with one shape.
    pub(crate) form: Form,
    pub(crate) now: Timestamp,
    /// The way to the bare connection, for upgrades.
    pub(crate) upgrade: Mutex<Option<OnUpgrade>>,
    /// In what time it is answered.
    pub(crate) timeout: Duration,
    /// So long it waited for its seat.
    pub(crate) waited: Duration,
    /// The UIDs of the flow schema and the level that it belongs to.
    pub(crate) flow: Option<(HeaderValue, HeaderValue)>,
    /// What is written down of it.
    pub(crate) trail: Arc<Trail>,
    /// The server's own work, in which admission has no say.
    pub(crate) own: bool,
    warnings: Mutex<Vec<String>>,
    /// Made when somebody asks for them first, as several do.
    attributes: OnceLock<Arc<Attributes>>,
    context: OnceLock<Context>,
}

impl Call {
    /// A request as it arrives, by nobody yet.
    pub(crate) fn new<B>(server: Arc<Server>, request: &mut http::Request<B>) -> Self {
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let raw_query = request.uri().query().unwrap_or("").to_owned();
        let query = Query::parse(&raw_query);
        let info = RequestInfo::parse(request.method(), request.uri().path(), &query);
        let form = Form::lenient(request.headers(), &query);
        let peer = request.extensions().get::<PeerAddress>().map(|p| p.0);
        let headers = std::mem::take(request.headers_mut());
        let trail = Arc::new(Trail::new(server.audit(), &headers));
        let timeout = server.limits().request_timeout;
        Self {
            server,
            method: request.method().clone(),
            info,
            query,
            raw_query,
            raw_path: request.uri().path().to_owned(),
            headers,
            peer,
            user: Arc::default(),
            form,
            now: now(),
            upgrade: Mutex::new(upgrade),
            timeout,
            waited: Duration::ZERO,
            flow: None,
            trail,
            own: false,
            warnings: Mutex::default(),
            attributes: OnceLock::new(),
            context: OnceLock::new(),
        }
    }

    /// A request that the server makes of itself past everybody else.
    pub(crate) fn own<B>(server: Arc<Server>, request: &mut http::Request<B>) -> Self {
        Self {
            user: Arc::new(User::new(API_SERVER, &[SYSTEM_MASTERS])),
            own: true,
            ..Self::new(server, request)
        }
    }

    /// The same request, as if its path had named this object's sub-resource.
    pub(crate) fn redirected(&self, resource: &str, subresource: &str, name: &str) -> Self {
        Self {
            server: self.server.clone(),
            method: self.method.clone(),
            info: RequestInfo {
                resource: resource.to_owned(),
                subresource: subresource.to_owned(),
                name: name.to_owned(),
                ..self.info.clone()
            },
            query: self.query.clone(),
            raw_query: self.raw_query.clone(),
            raw_path: self.raw_path.clone(),
            headers: self.headers.clone(),
            peer: self.peer,
            user: self.user.clone(),
            form: self.form.clone(),
            now: self.now,
            upgrade: Mutex::default(),
            timeout: self.timeout,
            waited: self.waited,
            flow: None,
            trail: self.trail.clone(),
            own: self.own,
            warnings: Mutex::default(),
            attributes: OnceLock::new(),
            context: OnceLock::new(),
        }
    }

    /// From now on this user asks.
    pub(crate) fn known_as(&mut self, user: Arc<User>) {
        self.user = user;
        (self.attributes, self.context) = (OnceLock::new(), OnceLock::new());
    }

    /// Tells the client something beside the answer; each text once.
    pub(crate) fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        let mut warnings = self.warnings.lock();
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// Adds to what is written down of the request; nothing when nothing is. The first to say something under a key is
    /// heard.
    pub(crate) fn annotate(&self, key: &str, value: &str) {
        self.trail.annotate(key, value);
    }

    /// What is to be told, once. When it is more than headers should hold, each text is cut, and the last ones go.
    pub(crate) fn take_warnings(&self) -> Vec<String> {
        let mut warnings = std::mem::take(&mut *self.warnings.lock());
        let letters = |text: &String| text.chars().count();
        if warnings.iter().map(letters).sum::<usize>() <= WARNING_LETTERS {
            return warnings;
        }
        let mut told = 0;
        warnings.retain_mut(|text| {
            if told >= WARNING_LETTERS {
                return false;
            }
            *text = text.chars().take(WARNING_LETTERS_EACH).collect();
            told += letters(text);
            true
        });
        warnings
    }

    /// What the kinds' decisions may know.
    pub(crate) fn context(&self) -> &Context {
        self.context.get_or_init(|| Context {
            now: self.now,
            user: self.user.name.clone(),
            requester: Requester {
                uid: self.user.uid.clone(),
                groups: self.user.groups.clone(),
                extra: self.user.extra.clone(),
            },
            surroundings: Arc::new(Around {
                server: Arc::clone(&self.server),
                attributes: self.attributes().clone(),
            }),
        })
    }

    /// The request as authorization sees it.
    pub(crate) fn attributes(&self) -> &Arc<Attributes> {
        self.attributes
            .get_or_init(|| Arc::new(self.read_attributes()))
    }

    fn read_attributes(&self) -> Attributes {
        let info = &self.info;
        if !info.is_resource {
            return Attributes::path(&self.user, info.verb, &info.path);
        }
        let selector = fields::Selector::parse(self.query.text("fieldSelector"));
        let requirements = selector
            .map(|s| s.requirements().to_vec())
            .unwrap_or_default();
        let field_selector = requirements.into_iter().map(|r| FieldRequirement {
            field: r.field,
            equals: r.equal,
            value: r.value,
        });
        Attributes {
            user: self.user.clone(),
            verb: info.verb.to_owned(),
            api_group: info.group.clone(),
            resource: info.resource.clone(),
            is_resource_request: true,
            api_version: info.version.clone(),
            subresource: info.subresource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            path: info.path.clone(),
            field_selector: field_selector.collect(),
            label_selector: Some(self.query.text("labelSelector"))
                .filter(|text| !text.is_empty())
                .and_then(|text| labels::Selector::parse(text).ok()),
        }
    }

    /// What is left of the time in which a request is answered.
    pub(crate) fn time_left(&self) -> Duration {
        let passed = now().duration_since(self.now);
        let passed = Duration::try_from(passed).unwrap_or_default();
        self.timeout.saturating_sub(passed)
    }

    /// A header as text, empty when absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
    }
}

/// The server around a decision about an object.
struct Around {
    server: Arc<Server>,
    attributes: Arc<Attributes>,
}

impl Surroundings for Around {
    fn verb(&self) -> &str {
        &self.attributes.verb
    }

    fn namespace_label(&self, namespace: &str, label: &str) -> Option<String> {
        let namespace = self.server.get("", "namespaces", "", namespace)?;
        let value = namespace.at(&["metadata", "labels", label])?;
        value.as_str().map(str::to_owned)
    }

    fn may_for_signer(&self, verb: &str, signer: &str) -> bool {
        let domain = signer.split('/').next().unwrap_or_default();
        let names = [signer.to_owned(), format!("{domain}/*")];
        names.into_iter().any(|name| {
            let attributes = Attributes {
                api_version: "*".to_owned(),
                name,
                ..Attributes::resource(
                    &self.attributes.user,
                    verb,
                    "certificates.k8s.io",
                    "signers",
                )
            };
            let verdict = self.server.authorizers().decide_here(&attributes);
            verdict.is_allowed()
        })
    }

    fn may(&self, ask: Ask<'_>) -> Result<(), String> {
        let own = &self.attributes;
        let attributes = Attributes {
            verb: format!("{}{}", ask.verb_prefix, own.verb),
            subresource: ask.subresource.to_owned(),
            namespace: match ask.namespaced {
                true => own.namespace.clone(),
                false => String::new(),
            },
            name: ask.name.to_owned(),
            ..Attributes::clone(own)
        };
        // Asked of the authorizers in this process: decisions about objects wait for nobody.
        let verdict = self.server.authorizers().decide_here(&attributes);
        match verdict.is_allowed() {
            true => Ok(()),
            false => Err(attributes.forbidden(&verdict.reason).message),
        }
    }
}

/// The time of a request. The server is an outside: it reads the clock once a request and passes the time on.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
