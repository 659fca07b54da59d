//! Service accounts' tokens that somebody elsewhere signs (`--service-account-signing-endpoint`): when he is asked, and what of his
//! answers is believed. The protocol stands in the crate `token-signer`.
//!
//! His keys are asked for at the start, whenever he has said that they may be others, and when a token names one that is not
//! known: once at a time, whoever waits for it. When he does not answer, the keys that there are stay.
//! Behaviour: `pkg/serviceaccount/externaljwt`, `pkg/controlplane/apiserver/options`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use access::tokens::{PublicKey, Tokens};
use parking_lot::Mutex;
use token_signer::{Client, Failure, Keys};

use crate::metrics::{Histogram, head, line};
use crate::server::Server;

/// In this time keys come.
const PATIENCE: Duration = Duration::from_secs(60);
/// In this time the signer says what he can.
const METADATA_PATIENCE: Duration = Duration::from_secs(10);
/// After a failure keys are asked for again.
const AGAIN: Duration = Duration::from_secs(10);
/// A signer must sign tokens for so many seconds at least.
const LEAST_SECONDS: i64 = 600;
static SECONDS: [f64; 14] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Who signs elsewhere.
pub struct TokenSigner {
    client: Client,
    /// How often keys have been asked for.
    rounds: AtomicU64,
    asking: tokio::sync::Mutex<Result<(), String>>,
    /// When the keys are to be asked for again.
    next: Mutex<Instant>,
    counts: Mutex<Counts>,
}

/// What is counted.
#[derive(Default)]
struct Counts {
    fetched: BTreeMap<&'static str, u64>,
    signed: BTreeMap<&'static str, u64>,
    /// By method and code.
    took: BTreeMap<(&'static str, &'static str), Option<Histogram>>,
    /// The last success, and the age of what it brought: seconds since 1970.
    at: Option<(f64, f64)>,
}

/// What a signer has said at the start.
pub struct Introduced {
    /// Himself.
    pub signer: TokenSigner,
    /// His keys.
    pub keys: Vec<PublicKey>,
    /// For so many seconds he signs tokens at most.
    pub most_seconds: i64,
}

impl TokenSigner {
    /// Asks a signer, by his socket, for his keys and what he can.
    ///
    /// # Errors
    /// He does not answer in time, or not as he should.
    pub async fn introduce(socket: &str) -> Result<Introduced, String> {
        let signer = Self {
            client: Client::new(socket),
            rounds: AtomicU64::new(0),
            asking: tokio::sync::Mutex::new(Ok(())),
            next: Mutex::new(Instant::now()),
            counts: Mutex::default(),
        };
        let up = |why: String| format!("while setting up external-jwt-signer: {why}");
        let keys = signer.fetch(PATIENCE).await.map_err(|why| {
            let step = "while initially filling key cache: while performing initial cache fill";
            up(format!("{step}: {why}"))
        })?;
        let began = Instant::now();
        let most = signer.client.longest(METADATA_PATIENCE).await;
        signer.took("Metadata", &most, began);
        let most_seconds = most.map_err(|why| up(why.to_string()))?;
        if most_seconds < LEAST_SECONDS {
            return Err(format!(
                "max token life supported by external-jwt-signer ({most_seconds}s) is less than acceptable (min {LEAST_SECONDS}s)"
            ));
        }
        Ok(Introduced {
            signer,
            keys,
            most_seconds,
        })
    }

    /// A token with this middle part.
    ///
    /// # Errors
    /// He does not sign, or with a key that is not for that.
    pub(crate) async fn sign(
        &self,
        tokens: &Tokens,
        payload: &str,
        within: Duration,
    ) -> Result<String, String> {
        let began = Instant::now();
        let signed = self.client.sign(payload, within).await;
        self.took("Sign", &signed, began);
        let code = signed.as_ref().err().map_or("OK", Failure::code);
        *self.counts.lock().signed.entry(code).or_default() += 1;
        let signed = signed.map_err(|why| why.to_string())?;
        if tokens.publishes(&signed.key_id).is_none() {
            self.renew(tokens, within).await;
        }
        if tokens.publishes(&signed.key_id) == Some(false) {
            let id = signed.key_id;
            return Err(format!(
                "while validating header: key used for signing JWT (kid: {id}) is excluded from OIDC discovery docs"
            ));
        }
        Ok(format!("{}.{payload}.{}", signed.header, signed.signature))
    }

    /// Makes sure that the key of a token is known, if it is one of his.
    pub(crate) async fn know(&self, tokens: &Tokens, token: &str, within: Duration) {
        let Some(id) = tokens.unknown_key(token) else {
            return;
        };
        self.renew(tokens, within).await;
        if tokens.publishes(&id).is_none() {
            tracing::error!(id, "key id not found after refresh");
        }
    }

    /// For how long the keys of now will do.
    pub(crate) fn good_for(&self) -> Duration {
        self.next.lock().saturating_duration_since(Instant::now())
    }

    /// Asks for the keys anew; whoever comes while somebody asks has his answer.
    async fn renew(&self, tokens: &Tokens, within: Duration) {
        let before = self.rounds.load(Relaxed);
        let work = async {
            let mut last = self.asking.lock().await;
            if self.rounds.load(Relaxed) != before {
                return last.clone();
            }
            let found = self.fetch(within).await;
            self.rounds.fetch_add(1, Relaxed);
            *last = found.map(|keys| tokens.accept(keys));
            last.clone()
        };
        let done = tokio::time::timeout(within, work).await;
        let late = |_| Err("context deadline exceeded".to_owned());
        if let Err(error) = done.unwrap_or_else(late) {
            tracing::error!(error, "while syncing keys");
        }
    }

    async fn fetch(&self, within: Duration) -> Result<Vec<PublicKey>, String> {
        let began = Instant::now();
        let found = self.client.keys(within).await;
        self.took("FetchKeys", &found, began);
        let read = found.and_then(|found| read(&found).map(|keys| (keys, found)));
        let mut counts = self.counts.lock();
        let code = read.as_ref().err().map_or("OK", Failure::code);
        *counts.fetched.entry(code).or_default() += 1;
        let failed = |why: Failure| format!("while fetching token verification keys: {why}");
        let (keys, found) = read.map_err(|why| {
            *self.next.lock() = Instant::now() + AGAIN;
            failed(why)
        })?;
        let now = crate::call::now().as_millisecond() as f64 / 1e3;
        counts.at = Some((now, found.data_timestamp));
        *self.next.lock() = Instant::now() + found.refresh_after;
        Ok(keys)
    }

    fn took<T>(&self, method: &'static str, answer: &Result<T, Failure>, began: Instant) {
        let code = answer.as_ref().err().map_or("OK", Failure::code);
        let mut counts = self.counts.lock();
        let histogram = counts.took.entry((method, code)).or_default();
        let histogram = histogram.get_or_insert_with(|| Histogram::new(&SECONDS));
        histogram.note(began.elapsed().as_secs_f64());
    }

    /// Adds to the page of metrics.
    pub(crate) fn render(&self, out: &mut String) {
        let counts = self.counts.lock();
        let totals = [
            (
                "apiserver_externaljwt_fetch_keys_request_total",
                "Total attempts at syncing supported JWKs",
                &counts.fetched,
            ),
            (
                "apiserver_externaljwt_sign_request_total",
                "Total attempts at signing JWT",
                &counts.signed,
            ),
        ];
        for (name, help, counts) in totals {
            head(out, name, "counter", "ALPHA", help);
            for (code, count) in counts {
                line(out, name, &format!("code=\"{code}\""), *count);
            }
        }
        let name = "apiserver_externaljwt_request_duration_seconds";
        let help = "Request duration and time for calls to external-jwt-signer";
        head(out, name, "histogram", "ALPHA", help);
        for ((method, code), histogram) in &counts.took {
            let labels = format!("code=\"{code}\",method=\"/v1.ExternalJWTSigner/{method}\"");
            if let Some(histogram) = histogram {
                histogram.render(out, name, &labels);
            }
        }
        let Some((success, data)) = counts.at else {
            return;
        };
        let times = [
            (
                "apiserver_externaljwt_fetch_keys_success_timestamp",
                "Unix Timestamp in seconds of the last successful FetchKeys request",
                success,
            ),
            (
                "apiserver_externaljwt_fetch_keys_data_timestamp",
                "Unix Timestamp in seconds of the last successful FetchKeys data_timestamp value returned by the external signer",
                data,
            ),
        ];
        for (name, help, at) in times {
            head(out, name, "gauge", "ALPHA", help);
            // Writing into a String has no way to fail.
            let _ = writeln!(out, "{name} {at}");
        }
    }
}

fn read(found: &Keys) -> Result<Vec<PublicKey>, Failure> {
    let keys = found.keys.iter().map(|key| {
        let read = PublicKey::from_spki(&key.spki).map_err(|error| {
            Failure::Answer(format!("while parsing external public keys: {error}"))
        })?;
        Ok(read.named(key.id.clone(), key.hidden))
    });
    keys.collect()
}

/// Asks for the keys again when it is time, as long as the server is there.
pub(crate) fn follow(server: &Arc<Server>, signer: Arc<TokenSigner>) {
    let shutdown = server.shutdown_token();
    let weak: Weak<Server> = Arc::downgrade(server);
    tokio::spawn(async move {
        loop {
            let until = *signer.next.lock();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(until.into()) => {}
            }
            // Somebody else may have asked meanwhile.
            if signer.good_for() > Duration::ZERO {
                continue;
            }
            let Some(server) = weak.upgrade() else { return };
            signer.renew(server.tokens(), PATIENCE).await;
        }
    });
}
