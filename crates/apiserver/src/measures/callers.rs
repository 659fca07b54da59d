//! What is counted of those who ask: with which tokens and certificates, and what the server asks of itself.
//!
//! Upstream: `pkg/serviceaccount/metrics.go`, `k8s.io/apiserver/pkg/authentication/request/x509`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::timing::Timing;
use crate::metrics::{head, line};

const DAY: f64 = 24.0 * 3600.0;
/// Upper ends of the time that a certificate is still good for: half an hour to a year.
static LIFETIMES: [f64; 14] = [
    0.0,
    1800.0,
    3600.0,
    7200.0,
    21600.0,
    43200.0,
    DAY,
    2.0 * DAY,
    4.0 * DAY,
    7.0 * DAY,
    30.0 * DAY,
    90.0 * DAY,
    180.0 * DAY,
    360.0 * DAY,
];

/// The use of a service account's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenUse {
    /// Of one that ends, in its time.
    Valid,
    /// Of one that is older than its holder asked for.
    Stale,
    /// Of one that a secret holds, which somebody asked for.
    Manual,
    /// Of one that a secret holds, which nobody asked for.
    Automatic,
    /// Of one that nobody asked for, and that is no good any more.
    Invalid,
}

pub(crate) struct Callers {
    tokens: [AtomicU64; 5],
    lifetimes: Timing,
    /// By group, resource, sub-resource or path, and verb.
    own: Mutex<BTreeMap<[String; 4], u64>>,
}

impl Default for Callers {
    fn default() -> Self {
        Self {
            tokens: Default::default(),
            lifetimes: Timing::new(&LIFETIMES),
            own: Mutex::default(),
        }
    }
}

impl Callers {
    /// A token was shown.
    pub(crate) fn token(&self, how: TokenUse) {
        self.tokens[how as usize].fetch_add(1, Relaxed);
    }

    /// Somebody has shown a certificate that is good for so long.
    pub(crate) fn certificate(&self, rest: Duration) {
        self.lifetimes.note(rest);
    }

    /// The server has asked itself.
    pub(crate) fn own(&self, of: [&str; 4]) {
        *self.own.lock().entry(of.map(str::to_owned)).or_default() += 1;
    }

    pub(super) fn render(&self, out: &mut String) {
        let of = |how: TokenUse| self.tokens[how as usize].load(Relaxed);
        let (manual, automatic) = (of(TokenUse::Manual), of(TokenUse::Automatic));
        let figures = [
            (
                "serviceaccount_invalid_legacy_auto_token_uses_total",
                "ALPHA",
                "Cumulative invalid auto-generated legacy tokens used",
                of(TokenUse::Invalid),
            ),
            (
                "serviceaccount_legacy_auto_token_uses_total",
                "ALPHA",
                "Cumulative auto-generated legacy tokens used",
                automatic,
            ),
            (
                "serviceaccount_legacy_manual_token_uses_total",
                "ALPHA",
                "Cumulative manually created legacy tokens used",
                manual,
            ),
            (
                "serviceaccount_legacy_tokens_total",
                "BETA",
                "Cumulative legacy service account tokens used",
                manual + automatic,
            ),
            (
                "serviceaccount_stale_tokens_total",
                "BETA",
                "Cumulative stale projected service account tokens used",
                of(TokenUse::Stale),
            ),
            (
                "serviceaccount_valid_tokens_total",
                "BETA",
                "Cumulative valid projected service account tokens used",
                of(TokenUse::Valid),
            ),
        ];
        for (name, level, help, count) in figures {
            head(out, name, "counter", level, help);
            line(out, name, "", count);
        }
        let name = "apiserver_client_certificate_expiration_seconds";
        let help = "Distribution of the remaining lifetime on the certificate used to authenticate a request.";
        head(out, name, "histogram", "ALPHA", help);
        self.lifetimes.render(out, name, "");
        let name = "apiserver_selfrequest_total";
        let help = "Counter of apiserver self-requests broken out for each verb, API resource and subresource.";
        head(out, name, "counter", "ALPHA", help);
        for ([group, resource, subresource, verb], count) in self.own.lock().iter() {
            let labels = format!(
                "group=\"{group}\",resource=\"{resource}\",subresource=\"{subresource}\",verb=\"{verb}\""
            );
            line(out, name, &labels, count);
        }
    }
}
