//! The members of the cluster: one is used as long as it answers, then the next.
//!
//! Contract: [`Members::read`] is for what may be done twice and tries every member for a while;
//! [`Members::write`] goes to another member only when the first one surely did nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use store::StoreError;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

use crate::{OpenError, Options, Tls, unavailable};

/// After every member was tried in vain, a rest before it is tried again.
const REST: Duration = Duration::from_millis(100);
/// A connection that is silent for so long is asked whether it is alive.
const ALIVE_EVERY: Duration = Duration::from_secs(10);

pub(crate) struct Members {
    channels: Vec<Channel>,
    current: AtomicUsize,
    request_timeout: Duration,
    patience: Duration,
}

impl Members {
    pub(crate) fn new(
        endpoints: &[String],
        tls: Option<&Tls>,
        options: &Options,
    ) -> Result<Members, OpenError> {
        if endpoints.is_empty() {
            return Err(OpenError::Endpoint("none is given".into()));
        }
        let channel = |url: &String| {
            let wrong =
                |error: &dyn std::fmt::Display| OpenError::Endpoint(format!("{url}: {error}"));
            let mut endpoint = Endpoint::from_shared(url.clone())
                .map_err(|error| wrong(&error))?
                .connect_timeout(options.request_timeout)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(ALIVE_EVERY)
                .keep_alive_timeout(options.request_timeout)
                .keep_alive_while_idle(true);
            if url.starts_with("https://") {
                let tls = tls.ok_or_else(|| wrong(&"no certificate authority is given"))?;
                let mut config =
                    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.authority));
                if let Some((chain, key)) = &tls.identity {
                    config = config.identity(Identity::from_pem(chain, key));
                }
                endpoint = endpoint.tls_config(config).map_err(|error| wrong(&error))?;
            }
            Ok(endpoint.connect_lazy())
        };
        Ok(Members {
            channels: endpoints.iter().map(channel).collect::<Result<_, _>>()?,
            current: AtomicUsize::new(0),
            request_timeout: options.request_timeout,
            patience: options.patience,
        })
    }

    /// The member in use, with its number for [`Members::leave`].
    pub(crate) fn current(&self) -> (usize, Channel) {
        let number = self.current.load(Ordering::Relaxed) % self.channels.len();
        (number, self.channels[number].clone())
    }

    /// Goes on to the next member, unless somebody else did already.
    pub(crate) fn leave(&self, number: usize) {
        let next = (number + 1) % self.channels.len();
        let _ = self
            .current
            .compare_exchange(number, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    async fn once<T>(&self, request: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        match tokio::time::timeout(self.request_timeout, request).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::deadline_exceeded(
                "a member of etcd does not answer",
            )),
        }
    }

    /// A request that may be carried out more than once.
    pub(crate) async fn read<T, F: Future<Output = Result<T, Status>>>(
        &self,
        request: impl Fn(Channel) -> F,
    ) -> Result<T, StoreError> {
        self.attempts(request, is_transient).await
    }

    /// A request that must not be carried out more than once.
    pub(crate) async fn write<T, F: Future<Output = Result<T, Status>>>(
        &self,
        request: impl Fn(Channel) -> F,
    ) -> Result<T, StoreError> {
        self.attempts(request, was_not_begun).await
    }

    async fn attempts<T, F: Future<Output = Result<T, Status>>>(
        &self,
        request: impl Fn(Channel) -> F,
        again: fn(&Status) -> bool,
    ) -> Result<T, StoreError> {
        let deadline = Instant::now() + self.patience;
        let mut tried = 0;
        loop {
            let (number, channel) = self.current();
            let status = match self.once(request(channel)).await {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            if is_transient(&status) {
                self.leave(number);
            }
            if !again(&status) || Instant::now() >= deadline {
                return Err(refusal(&status));
            }
            tried += 1;
            if tried % self.channels.len() == 0 {
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Another member, or this one later, may well do it.
pub(crate) fn is_transient(status: &Status) -> bool {
    let passing = matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown
    );
    passing && !is_no_space(status)
}

/// The request surely got nowhere.
fn was_not_begun(status: &Status) -> bool {
    let message = status.message();
    let refused = message.contains("etcdserver: no leader")
        || message.contains("too many requests")
        || message.contains("etcdserver: not leader");
    refused || never_connected(status)
}

/// No connection was made, so that nothing was sent.
fn never_connected(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return error.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        source = error.source();
    }
    false
}

fn is_no_space(status: &Status) -> bool {
    status.message().contains("database space exceeded")
}

/// What a status says, in the store's words.
pub(crate) fn refusal(status: &Status) -> StoreError {
    let message = status.message();
    if is_no_space(status) {
        return StoreError::NoSpace;
    }
    if message.contains("too many operations") {
        return StoreError::Invalid("more operations than etcd takes in one transaction");
    }
    if message.contains("request is too large") || status.code() == Code::OutOfRange {
        return unavailable(message);
    }
    unavailable(&format!("{:?}: {message}", status.code()))
}
