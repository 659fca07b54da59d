//! `/healthz` and its like, and what came of it (`/metrics/slis`).

use hyper::{Response, StatusCode};
use machinery::health::{self, Asked, Records};
use parking_lot::Mutex;

use super::{Body, text};

/// What has been asked so far.
#[derive(Default)]
pub(super) struct Health(Mutex<Records>);

/// All that is looked at: that nothing stands in the way of an answer. Workers of pods have no loop that could stand still.
const CHECKS: [&str; 1] = ["ping"];

impl Health {
    /// The page, or one check of it.
    pub(super) fn page(&self, kind: &str, check: Option<&str>, query: &str) -> Response<Body> {
        match check {
            Some(name) if CHECKS.contains(&name) => return text(StatusCode::OK, "ok"),
            Some(_) => return text(StatusCode::NOT_FOUND, "404: Page Not Found"),
            None => {}
        }
        let mut asked = Asked::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "verbose" => asked.verbose = true,
                "exclude" => asked.exclude.push(value.into_owned()),
                _ => {}
            }
        }
        let outcomes = CHECKS.map(|name| (name, (!asked.excludes(name)).then_some(Ok(()))));
        self.0.lock().note(kind, &outcomes);
        text(StatusCode::OK, health::page(kind, &asked, &outcomes).1)
    }

    /// The page at `/metrics/slis`.
    pub(super) fn records(&self) -> String {
        self.0.lock().render()
    }
}
