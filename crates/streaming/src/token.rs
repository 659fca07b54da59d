//! Single-use tokens that stand for a request (cri-streaming, `request_cache.go`).

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// After this a token is worthless.
pub(crate) const LIFETIME: Duration = Duration::from_secs(60);
/// Requests that may wait for their client.
pub(crate) const MOST: usize = 1000;

/// Requests that wait for their client to come with the token.
pub(crate) struct Tokens<T> {
    waiting: HashMap<String, (Instant, T)>,
    /// Oldest first; consumed ones stay until their time is over.
    by_age: VecDeque<(Instant, String)>,
}

impl<T> Tokens<T> {
    pub(crate) fn new() -> Tokens<T> {
        Tokens {
            waiting: HashMap::new(),
            by_age: VecDeque::new(),
        }
    }

    /// Keeps a request; `None` when there are too many.
    pub(crate) fn insert(&mut self, request: T, now: Instant) -> Option<String> {
        while self
            .by_age
            .front()
            .is_some_and(|(born, _)| *born + LIFETIME < now)
        {
            let (_, token) = self.by_age.pop_front().expect("looked at above");
            self.waiting.remove(&token);
        }
        if self.waiting.len() >= MOST {
            return None;
        }
        let token = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 15]>());
        self.waiting.insert(token.clone(), (now, request));
        self.by_age.push_back((now, token.clone()));
        Some(token)
    }

    /// Hands the request out, once.
    pub(crate) fn consume(&mut self, token: &str, now: Instant) -> Option<T> {
        let (born, request) = self.waiting.remove(token)?;
        (born + LIFETIME >= now).then_some(request)
    }
}
