//! Calls that are tried again when the far end says, or it seems, that another time it may work.
//!
//! Behaviour: `k8s.io/apiserver/pkg/util/webhook` (`WithExponentialBackoff`, `DefaultShouldRetry`).

use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;

use super::{Cause, Destination, Message};
use crate::server::Server;

const FACTOR: f64 = 1.5;
const JITTER: f64 = 0.2;
const TRIES: usize = 5;

/// A far end to which JSON is posted.
#[derive(Clone)]
pub(crate) struct Callee {
    /// Who it is.
    pub(crate) destination: Destination,
    /// The path there.
    pub(crate) path: String,
    /// How long an answer may take.
    pub(crate) timeout: Duration,
    /// How long to wait before it is asked a second time.
    pub(crate) first_pause: Duration,
}

/// What went wrong, and whether it may be otherwise next time.
struct Failure {
    text: String,
    again: bool,
}

impl Callee {
    /// The pause of those who say nothing about it.
    pub(crate) const USUAL_PAUSE: Duration = Duration::from_millis(500);

    /// Posts a question and gives the body of the answer.
    ///
    /// # Errors
    /// What the last try said.
    pub(crate) async fn ask(&self, server: &Server, question: &Bytes) -> Result<Bytes, String> {
        let mut pause = self.first_pause;
        let mut tried = 1;
        loop {
            let failure = match self.ask_once(server, question).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if !failure.again || tried == TRIES {
                return Err(failure.text);
            }
            let jitter = 1.0 + rand::rng().random_range(0.0..JITTER);
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            pause = pause.mul_f64(FACTOR);
            tried += 1;
        }
    }

    async fn ask_once(&self, server: &Server, question: &Bytes) -> Result<Bytes, Failure> {
        let message = Message::json(self.path.clone(), question.clone(), self.timeout);
        let sent = server
            .outbound()
            .exchange(server, &self.destination, message);
        let answer = sent.await.map_err(|error| Failure {
            text: error.to_string(),
            again: matches!(&error.cause, Cause::Broken(why) if why.contains("reset by peer")),
        })?;
        answer.success().map_err(|error| Failure {
            again: matches!(error.code, 429 | 500 | 504)
                || error
                    .details
                    .as_ref()
                    .is_some_and(|d| d.retry_after_seconds > 0),
            text: error.message,
        })
    }
}
