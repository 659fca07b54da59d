//! The page at `/configz`: what a component is configured with, in the words of its configuration file.
//!
//! Upstream: `k8s.io/component-base/configz`.

use std::time::Duration;

use machinery::duration;
use serde_json::{Value, json};

use crate::Page;

/// Where it is.
pub const PATH: &str = "/configz";

/// The text of the page: the configuration under the name that upstream registers it by.
pub fn text(name: &str, configuration: &Value) -> String {
    json!({name: configuration}).to_string()
}

/// The page; `open`: it is on a port that asks nobody who he is.
pub fn page(name: &str, configuration: &Value, open: bool) -> Page {
    let text = text(name, configuration);
    Page {
        path: PATH,
        media_type: "application/json",
        open,
        text: Box::new(move || (200, text.clone())),
    }
}

/// A duration as configuration files have it: `1m0s`.
pub fn seconds(duration: Duration) -> Value {
    let nanoseconds = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    duration::go(nanoseconds).into()
}
