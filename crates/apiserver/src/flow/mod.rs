//! How many requests are on the road at a time: priority and fairness, or two plain limits.
//!
//! Contract: a request holds its seats until its answer has been made (for a list: has been sent; for a watch: has begun).
//! A request that finds a seat free costs two looks at a clock, two short locks of its level and two of the table of those who are
//! served, less than a
//! microsecond (`cargo xtask bench api --only seats`, see `flow/probe.rs`). Requests that stay open by nature, watches apart,
//! are not counted. Who belongs where, who waits and who goes first is decided in `access::flow`; this is what waits, wakes
//! and counts.
//!
//! Seats are lent between levels when a request comes and the last time was ten seconds ago: an idle server has no timer.
//!
//! Behaviour: `k8s.io/apiserver/pkg/server/filters/{priority-and-fairness,maxinflight}.go`.

mod counts;
mod describe;
mod fairness;
mod flows;
mod permit;
mod probe;
mod requests;
#[cfg(test)]
mod tests;
pub(crate) mod watchers;

use std::sync::Arc;

use access::flow::Digest;
use access::user::SYSTEM_MASTERS;
use http::header::RETRY_AFTER;
use http::{HeaderValue, Response};
use machinery::ApiError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::body::Body;
use crate::call::Call;
use crate::limits::Limits;
use crate::respond;
use crate::server::Server;
pub(crate) use fairness::Fairness;
use permit::Permit;
pub use probe::seat_cost;
pub(crate) use requests::Served;

/// The limits of the server.
pub(crate) struct Flow {
    reading: Arc<Semaphore>,
    writing: Arc<Semaphore>,
    fairness: Option<Arc<Fairness>>,
}

/// A place on the road, as long as it is held.
pub(crate) enum Seat {
    /// Not counted.
    Free,
    /// One of a plain limit.
    Plain(#[expect(dead_code, reason = "it is held, not looked at")] OwnedSemaphorePermit),
    /// Seats of a level.
    Fair(Permit),
}

/// A request that goes no further.
pub(crate) enum Refusal {
    /// As an error of the API.
    Error(ApiError),
    /// As it is.
    Answer(Box<Response<Body>>),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

impl Flow {
    /// With these limits.
    pub(crate) fn new(limits: &Limits) -> Self {
        let seats = (limits.reading + limits.writing) as u64;
        let wait = limits.request_timeout / 4;
        let fairness = limits.priority_and_fairness;
        Self {
            reading: Arc::new(Semaphore::new(limits.reading)),
            writing: Arc::new(Semaphore::new(limits.writing)),
            fairness: fairness.then(|| Arc::new(Fairness::new(seats, wait))),
        }
    }

    /// Priority and fairness, if it is on.
    pub(crate) fn fairness(&self) -> Option<&Arc<Fairness>> {
        self.fairness.as_ref()
    }

    /// Follows the flow schemas and levels of the moment.
    pub(crate) fn configure(&self, server: &Server) {
        if let Some(fairness) = &self.fairness {
            fairness.configure(server);
        }
    }

    /// A place on the road.
    ///
    /// # Errors
    /// 429.
    pub(crate) async fn enter(&self, call: &mut Call) -> Result<Seat, Refusal> {
        if call.info.is_long_running() && call.info.verb != "watch" {
            return Ok(Seat::Free);
        }
        match &self.fairness {
            Some(fairness) => fairness.enter(call).await.map(Seat::Fair),
            None => self.enter_plainly(call),
        }
    }

    /// The request has its place: it is told of from now on.
    pub(crate) fn serve(&self, call: &Arc<Call>, seat: Seat) -> Served {
        Served::new(self.fairness.as_ref(), call, seat)
    }

    fn enter_plainly(&self, call: &Call) -> Result<Seat, Refusal> {
        if call.info.verb == "watch" || call.user.is_in(SYSTEM_MASTERS) {
            return Ok(Seat::Free);
        }
        let places = match reads(call.info.verb) {
            true => &self.reading,
            false => &self.writing,
        };
        match places.clone().try_acquire_owned() {
            Ok(permit) => Ok(Seat::Plain(permit)),
            Err(_) => Err(Refusal::Answer(too_many(1))),
        }
    }
}

/// Whether a verb changes nothing.
fn reads(verb: &str) -> bool {
    matches!(verb, "get" | "list" | "watch" | "head" | "options")
}

/// What somebody who is held back gets to hear: no Status, as upstream.
fn too_many(seconds: i64) -> Box<Response<Body>> {
    let mut response = respond::text(429, "Too many requests, please try again later.\n");
    let after = HeaderValue::from(seconds);
    response.headers_mut().insert(RETRY_AFTER, after);
    Box::new(response)
}

/// The request as flow schemas see it.
fn digest(call: &Call) -> Digest<'_> {
    let info = &call.info;
    Digest {
        user: &call.user,
        verb: info.verb,
        is_resource: info.is_resource,
        path: &info.path,
        group: &info.group,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
    }
}
