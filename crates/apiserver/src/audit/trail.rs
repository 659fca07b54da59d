//! What one request leaves behind, from its arrival to the end of its answer.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use access::User;
use access::audit::{
    AuthenticationMetadata, Event, Level, Person, RequestConfig, Stage, without_managed_fields,
};
use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use machinery::{ApiError, Object};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Audit;
use crate::body::{Body, BoxError};
use crate::call::{Call, now};
use crate::decode;
use crate::negotiate::Media;

/// The header with the number of a request.
const AUDIT_ID: &str = "audit-id";
/// An answer that is streamed is written down up to this size.
const MAX_RESPONSE_BYTES: usize = machinery::codec::MAX_BODY_BYTES;
/// A status is found in answers up to this size.
const MAX_STATUS_BYTES: usize = 64 * 1024;

/// Where the other end of a connection is.
#[derive(Clone, Copy)]
pub(crate) struct PeerAddress(pub(crate) IpAddr);

/// What one request leaves behind.
pub(crate) struct Trail {
    id: HeaderValue,
    audit: Option<Arc<Audit>>,
    phase: Mutex<Phase>,
}

enum Phase {
    /// Nobody knows yet how much is wanted.
    Before(BTreeMap<String, String>),
    /// Nothing is, or all has been written.
    Off,
    On(Box<Open>),
}

struct Open {
    event: Event,
    config: RequestConfig,
    /// The head of the answer is on its way, and its end is an [`Ending`]'s affair.
    left: bool,
    /// The [`Ending`] has come.
    ended: bool,
}

/// The end of an answer that outlives its request: when the last of it is dropped, the request is complete.
pub(crate) struct Ending(Arc<Trail>);

impl Drop for Ending {
    fn drop(&mut self) {
        let done = match &mut *self.0.phase.lock() {
            Phase::On(open) => {
                open.ended = true;
                open.left
            }
            _ => false,
        };
        if done {
            let trail = self.0.clone();
            tokio::spawn(async move { trail.emit(Stage::ResponseComplete).await });
        }
    }
}

impl Trail {
    /// A request as it arrives.
    pub(crate) fn new(audit: Option<&Arc<Audit>>, headers: &HeaderMap) -> Self {
        let given = headers.get(AUDIT_ID).filter(|id| !id.is_empty());
        let made = || {
            let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
            // Letters and digits are a header value.
            HeaderValue::from_str(&id.to_string()).unwrap_or(HeaderValue::from_static("unknown"))
        };
        Self {
            id: given.cloned().unwrap_or_else(made),
            audit: audit.cloned(),
            phase: Mutex::new(Phase::Before(BTreeMap::new())),
        }
    }

    /// By what the request is known in logs, here and on other servers.
    pub(crate) fn id(&self) -> &str {
        self.id.to_str().unwrap_or("")
    }

    /// Adds to what is known of the request. The first to say something under a key is heard.
    pub(crate) fn annotate(&self, key: &str, value: &str) {
        if self.audit.is_none() {
            return;
        }
        let mut phase = self.phase.lock();
        let annotations = match &mut *phase {
            Phase::Before(early) => early,
            Phase::Off => return,
            Phase::On(open) => &mut open.event.annotations,
        };
        if !annotations.contains_key(key) {
            annotations.insert(key.to_owned(), value.to_owned());
        }
    }

    /// Adds what shows a part of a body: only where bodies are written down.
    pub(crate) fn annotate_bodies(&self, key: &str, value: impl FnOnce() -> String) {
        if self.level() >= Level::Request {
            self.annotate(key, &value());
        }
    }

    /// Somebody is known to ask: the policy decides, and the arrival is written down.
    ///
    /// # Errors
    /// 500: it cannot be, and must.
    pub(crate) async fn begin(&self, call: &Call, extensions: &Extensions) -> Result<(), ApiError> {
        if self.open(call, extensions) && !self.emit(Stage::RequestReceived).await {
            return Err(ApiError::internal("failed to store audit event"));
        }
        Ok(())
    }

    /// Nobody is known to ask: that is written down with the refusal.
    pub(crate) async fn refused(&self, call: &Call, extensions: &Extensions, error: &ApiError) {
        if self.open(call, extensions) {
            self.with(|open| open.event.response_status = Some(status_of(error)));
            self.emit(Stage::ResponseStarted).await;
            *self.phase.lock() = Phase::Off;
        }
    }

    fn open(&self, call: &Call, extensions: &Extensions) -> bool {
        let Some(audit) = &self.audit else {
            return false;
        };
        let attributes = call.attributes();
        let config = audit.policy.config(attributes);
        audit.counts.levels[config.level as usize].fetch_add(1, Ordering::Relaxed);
        let mut phase = self.phase.lock();
        if config.level == Level::None {
            *phase = Phase::Off;
            return false;
        }
        let id = self.id.to_str().unwrap_or_default();
        let mut event = Event::new(config.level, id, attributes, call.now);
        event.request_uri = match call.raw_query.as_str() {
            "" => call.raw_path.clone(),
            query => format!("{}?{query}", call.raw_path),
        };
        event.set_user_agent(call.header(header::USER_AGENT.as_str()));
        event.source_ips = source_ips(&call.headers, extensions);
        if let Phase::Before(early) = &mut *phase {
            event.annotations = std::mem::take(early);
        }
        let (left, ended) = (false, false);
        *phase = Phase::On(Box::new(Open {
            event,
            config,
            left,
            ended,
        }));
        true
    }

    fn with<T>(&self, act: impl FnOnce(&mut Open) -> T) -> Option<T> {
        match &mut *self.phase.lock() {
            Phase::On(open) => Some(act(open)),
            _ => None,
        }
    }

    fn level(&self) -> Level {
        self.with(|open| open.config.level).unwrap_or_default()
    }

    /// The answer is to be seen as it is: no encoding that only the client reads.
    pub(crate) fn reads_answers(&self) -> bool {
        self.level() == Level::RequestResponse
    }

    /// The caller acts as somebody else, by the right to this verb if it is a constrained one.
    pub(crate) fn impersonated(&self, user: &User, constraint: Option<&str>) {
        self.with(|open| {
            open.event.impersonated_user = Some(Person::from(user));
            open.event.authentication_metadata = constraint.map(|verb| AuthenticationMetadata {
                impersonation_constraint: verb.to_owned(),
            });
        });
    }

    /// The body of the request.
    pub(crate) fn request_body(&self, body: &Object) {
        self.with(|open| {
            open.event.refer_to(body);
            if open.config.level >= Level::Request {
                let body = Value::Object(body.0.clone());
                open.event.request_object = Some(trimmed(open.config.omit_managed_fields, body));
            }
        });
    }

    /// The same for a patch, which has no names.
    pub(crate) fn request_patch(&self, patch: impl FnOnce() -> Value) {
        if self.level() >= Level::Request {
            let patch = patch();
            self.with(|open| open.event.request_object = Some(patch));
        }
    }

    /// What the answer is to be held by until its end.
    pub(crate) fn ending(self: &Arc<Self>) -> Ending {
        Ending(self.clone())
    }

    async fn emit(&self, stage: Stage) -> bool {
        let last = matches!(stage, Stage::ResponseComplete | Stage::Panic);
        let event = {
            let mut phase = self.phase.lock();
            let Phase::On(open) = &mut *phase else {
                return true;
            };
            let omitted = open.config.omit_stages.contains(&stage);
            open.event.stage = stage;
            if stage != Stage::RequestReceived {
                open.event.stage_timestamp = now();
            }
            let event = (!omitted).then(|| open.event.clone());
            if last {
                *phase = Phase::Off;
            }
            event
        };
        match (event, &self.audit) {
            (Some(event), Some(audit)) => audit.emit(event).await,
            _ => true,
        }
    }

    /// The work on the request has panicked.
    pub(crate) async fn panicked(&self, why: &str) {
        let status = ApiError::new(500, "InternalError", format!("APIServer panic'd: {why}"));
        self.with(|open| open.event.response_status = Some(status_of(&status)));
        self.emit(Stage::Panic).await;
    }

    /// The answer is made: its head is written down, and its end as soon as it comes.
    pub(crate) async fn finish(
        self: &Arc<Self>,
        long_running: bool,
        mut response: Response<Body>,
    ) -> Response<Body> {
        let headers = response.headers_mut();
        headers.entry(AUDIT_ID).or_insert_with(|| self.id.clone());
        if self.with(|open| note_head(open, &response)).is_none() {
            return response;
        }
        if long_running {
            self.emit(Stage::ResponseStarted).await;
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let ended = self.with(|open| {
                open.left = true;
                open.ended
            });
            if ended == Some(true) {
                self.emit(Stage::ResponseComplete).await;
            }
            return response;
        }
        if response.body().whole().is_some() {
            self.emit(Stage::ResponseComplete).await;
            return response;
        }
        self.with(|open| open.left = true);
        let keep = self.reads_answers() && !long_running;
        let media = media_of(response.headers());
        response.map(|body| {
            Body::wrap(Followed {
                body,
                kept: keep.then(Vec::new),
                media,
                ending: self.ending(),
            })
        })
    }
}

/// Writes down what a head tells, and the body if it is whole.
fn note_head(open: &mut Open, response: &Response<Body>) {
    let code = response.status().as_u16();
    let mut status = json!({"metadata": {}, "code": code});
    let bytes = response.body().whole().unwrap_or_default();
    let wants_all = open.config.level == Level::RequestResponse;
    let may_be_status = bytes.len() <= MAX_STATUS_BYTES
        && bytes.windows(STATUS_MARK.len()).any(|w| w == STATUS_MARK);
    if wants_all || may_be_status || code >= 400 {
        let body = read_body(media_of(response.headers()), bytes);
        if let Some(body) = &body
            && body["kind"] == "Status"
            && body["apiVersion"] == "v1"
        {
            for key in ["status", "message", "reason", "details"] {
                if let Some(value) = body.get(key) {
                    status[key] = value.clone();
                }
            }
        }
        if wants_all {
            open.event.response_object =
                body.map(|body| trimmed(open.config.omit_managed_fields, body));
        }
    }
    open.event.response_status = Some(status);
}

const STATUS_MARK: &[u8] = b"\"Status\"";

fn trimmed(omit_managed_fields: bool, mut body: Value) -> Value {
    if omit_managed_fields {
        without_managed_fields(&mut body);
    }
    body
}

fn media_of(headers: &HeaderMap) -> Option<Media> {
    let text = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let plain = text.split(';').next()?.trim();
    [Media::Json, Media::Yaml, Media::Protobuf, Media::Cbor]
        .into_iter()
        .find(|media| media.as_str() == plain)
}

fn read_body(media: Option<Media>, bytes: &[u8]) -> Option<Value> {
    let decoded = decode::parse(media?, bytes).ok()?;
    Some(decoded.object.into_value())
}

fn status_of(error: &ApiError) -> Value {
    let mut status = error.to_status();
    if let Value::Object(map) = &mut status {
        map.remove("kind");
        map.remove("apiVersion");
    }
    status
}

/// From where a request comes: what proxies say, then the connection itself.
fn source_ips(headers: &HeaderMap, extensions: &Extensions) -> Vec<String> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
    };
    let forwarded = text("x-forwarded-for").split(',');
    let mut found: Vec<IpAddr> = forwarded.filter_map(|ip| ip.trim().parse().ok()).collect();
    if let Ok(real) = text("x-real-ip").trim().parse()
        && !found.contains(&real)
    {
        found.push(real);
    }
    let loopback = PeerAddress(IpAddr::from([127, 0, 0, 1]));
    let peer = extensions.get::<PeerAddress>().copied().unwrap_or(loopback);
    let peer = peer.0.to_canonical();
    if found.last() != Some(&peer) {
        found.push(peer);
    }
    found.iter().map(IpAddr::to_string).collect()
}

/// A streamed answer, and what is kept of it.
struct Followed {
    body: Body,
    kept: Option<Vec<u8>>,
    media: Option<Media>,
    ending: Ending,
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let data = frame.data_ref();
                let room =
                    |kept: &Vec<u8>, data: &Bytes| kept.len() + data.len() <= MAX_RESPONSE_BYTES;
                if let (Some(kept), Some(data)) = (&mut self.kept, data) {
                    match room(kept, data) {
                        true => kept.extend_from_slice(data),
                        // Half an object is none.
                        false => self.kept = None,
                    }
                }
            }
            Poll::Ready(None) => {
                if let Some(kept) = self.kept.take() {
                    let body = read_body(self.media, &kept);
                    self.ending.0.with(|open| {
                        let omit = open.config.omit_managed_fields;
                        open.event.response_object = body.map(|body| trimmed(omit, body));
                    });
                }
            }
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        // Whoever asks before the end would leave out the last look above.
        self.kept.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
