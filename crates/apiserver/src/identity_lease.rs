//! The lease by which this server is known beside others: `apiserver-<hash of the host's name>` in `kube-system`.
//!
//! It is made anew when the server starts, so that nobody takes a dead server's for it, renewed from then on, and removed
//! when the server leaves. What servers that died have left behind is removed by the others when it has expired.
//!
//! Behaviour: `pkg/controlplane/apiserver/server.go`, `pkg/controlplane/controller/apiserverleasegc`, and
//! `k8s.io/component-helpers/apimachinery/lease`.

use std::sync::{Arc, Weak};
use std::time::Duration;

use access::Lookup;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use machinery::{ApiError, Object, time};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use crate::bootstrap::Own;
use crate::server::Server;

const GROUP: &str = "coordination.k8s.io";
const NAMESPACE: &str = "kube-system";
const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
/// Tells leases of servers from others.
const LABEL: &str = "apiserver.kubernetes.io/identity";
const COMPONENT: &str = "kube-apiserver";
/// A server that has not come back for so long is gone.
const LIVES_SECONDS: i64 = 3600;
const RENEW_EVERY: Duration = Duration::from_secs(10);
const CLEAR_EVERY: Duration = Duration::from_secs(3600);
/// Others may write the lease, but not for ever.
const ATTEMPTS: usize = 5;

/// The lease of this server.
pub(crate) struct IdentityLease {
    host_name: String,
    name: String,
    holder: String,
    /// As it was written last. Whoever reads or writes the lease holds this, so that none is made after the server has left.
    written: Mutex<Option<Object>>,
}

impl IdentityLease {
    /// The lease of a server on the host of this name.
    pub(crate) fn new(host_name: String) -> Self {
        let name = name(&host_name);
        Self {
            holder: format!("{name}_{}", crate::write::create::new_uid()),
            written: Mutex::default(),
            host_name,
            name,
        }
    }

    /// By which the server is known beside others.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> String {
        format!("{PATH}/{}", self.name)
    }

    /// A lease, or the one that is there, renewed.
    fn renewed(&self, base: Option<Object>, now: Timestamp) -> Object {
        let new = || {
            let new = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": self.name, "namespace": NAMESPACE},
                "spec": {"holderIdentity": self.holder},
            });
            Object::from_value(new).unwrap_or_default()
        };
        let mut lease = base.unwrap_or_else(new);
        let labels = lease.object_at_mut(&["metadata", "labels"]);
        labels.insert(LABEL.to_owned(), COMPONENT.into());
        let host_name = self.host_name.as_str();
        labels.insert("kubernetes.io/hostname".to_owned(), host_name.into());
        let spec = lease.object_at_mut(&["spec"]);
        spec.insert("leaseDurationSeconds".to_owned(), LIVES_SECONDS.into());
        spec.insert("renewTime".to_owned(), time::micro(now).into());
        lease
    }

    /// Removes what an earlier server on this host has left.
    async fn begin(&self, own: &Own) -> Result<(), ApiError> {
        let _written = self.written.lock().await;
        match own.get(&self.path()).await? {
            Some(_) => gone(own.send(Method::DELETE, &self.path(), None).await),
            None => Ok(()),
        }
    }

    /// One write: of what was written last, or of what is found when somebody else has written since.
    async fn renew(&self, server: &Arc<Server>, own: &Own) -> Result<(), ApiError> {
        let mut written = self.written.lock().await;
        let mut base = written.take();
        let mut attempts = 1..=ATTEMPTS;
        while !server.leaving_token().is_cancelled() {
            let lease = self.renewed(base.take(), crate::call::now());
            let done = match lease.resource_version() {
                "" => own.send(Method::POST, PATH, Some(&lease)).await,
                _ => own.send(Method::PUT, &self.path(), Some(&lease)).await,
            };
            attempts.next();
            match done {
                Err(error) if matches!(error.code, 404 | 409) && !attempts.is_empty() => {
                    base = own.get(&self.path()).await?;
                }
                done => {
                    *written = Some(done?);
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Something that was to be removed, and is not there.
fn gone(removed: Result<Object, ApiError>) -> Result<(), ApiError> {
    match removed {
        Err(error) if error.code != 404 => Err(error),
        _ => Ok(()),
    }
}

/// What the lease of a server on a host is called: `apiserver-` and sixteen bytes of a hash.
fn name(host_name: &str) -> String {
    let mut hash = Sha256::new();
    for part in [host_name, COMPONENT] {
        hash.update((part.len() as u16).to_be_bytes());
        hash.update(part);
    }
    format!("apiserver-{}", base32(&hash.finalize()[..16]))
}

/// RFC 4648's base 32 in small letters, without padding.
fn base32(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    let letter = |at: usize| (at..at + 5).fold(0, |value, at| value << 1 | bit(at));
    let starts = (0..bytes.len() * 8).step_by(5);
    starts
        .map(|at| char::from(LETTERS[usize::from(letter(at))]))
        .collect()
}

/// Makes the lease and keeps it, and removes those that have expired, until the server leaves.
pub(crate) async fn keep(server: Weak<Server>) {
    let Some(strong) = server.upgrade() else {
        return;
    };
    let Some(lease) = strong.identity_lease() else {
        return;
    };
    if let Err(error) = lease.begin(&Own::of(&strong)).await {
        tracing::warn!(%error, "the lease of an earlier server cannot be removed");
    }
    let leaving = strong.leaving_token();
    drop(strong);
    let (mut renewal, mut clearing) = (interval(RENEW_EVERY), interval(CLEAR_EVERY));
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clearing.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let renews = tokio::select! {
            biased;
            () = leaving.cancelled() => return,
            _ = renewal.tick() => true,
            _ = clearing.tick() => false,
        };
        let Some(server) = server.upgrade() else {
            return;
        };
        let own = Own::of(&server);
        let done = match (renews, server.identity_lease()) {
            (true, Some(lease)) => lease.renew(&server, &own).await,
            _ => clear(&server, &own).await,
        };
        if let Err(error) = done {
            tracing::warn!(%error, "the leases of API servers cannot be kept");
        }
    }
}

/// Removes the lease: the server is not there any more. Nothing makes it again, because the server says that it leaves
/// before this is called.
///
/// # Errors
/// It cannot be removed.
pub(crate) async fn leave(server: &Arc<Server>) -> Result<(), ApiError> {
    let Some(lease) = server.identity_lease() else {
        return Ok(());
    };
    let _written = lease.written.lock().await;
    let own = Own::of(server);
    gone(own.send(Method::DELETE, &lease.path(), None).await)
}

/// Removes leases of servers that have expired.
async fn clear(server: &Server, own: &Own) -> Result<(), ApiError> {
    let now = crate::call::now();
    for lease in server.list(GROUP, "leases", NAMESPACE) {
        if lease.label(LABEL) == Some(COMPONENT) && has_expired(&lease, now) {
            // One that is renewed at this moment stays.
            let options = json!({
                "apiVersion": "v1", "kind": "DeleteOptions",
                "preconditions": {"uid": lease.uid(), "resourceVersion": lease.resource_version()},
            });
            let options = Object::from_value(options).unwrap_or_default();
            let path = format!("{PATH}/{}", lease.name());
            match own.send(Method::DELETE, &path, Some(&options)).await {
                Err(error) if error.code == 409 => {}
                removed => gone(removed)?,
            }
        }
    }
    Ok(())
}

/// A lease that does not say until when it counts has expired, too.
fn has_expired(lease: &Object, now: Timestamp) -> bool {
    let renewed = lease.at(&["spec", "renewTime"]).and_then(Value::as_str);
    let renewed = renewed.and_then(time::parse);
    let lives = lease.at(&["spec", "leaseDurationSeconds"]);
    let lives = lives.and_then(Value::as_i64).map(SignedDuration::from_secs);
    let until = renewed.zip(lives).map(|(at, lives)| at.checked_add(lives));
    until.is_none_or(|until| until.is_ok_and(|until| until < now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_called_after_its_host_as_upstream_does() {
        assert_eq!(name("vm"), "apiserver-wlv32tlttr4jl3gtroqexyxapa");
        assert_eq!(base32(b"foobar"), "mzxw6ytboi");
    }

    #[test]
    fn a_lease_expires_when_nobody_renews_it() {
        let now: Timestamp = "2026-01-01T02:00:00Z".parse().unwrap();
        let expired = |spec: Value| {
            let lease = Object::from_value(json!({"spec": spec})).unwrap();
            has_expired(&lease, now)
        };
        let spec = |at: &str| json!({"renewTime": at, "leaseDurationSeconds": 3600});
        assert!(!expired(spec("2026-01-01T01:00:00.000000Z")));
        assert!(expired(spec("2026-01-01T00:59:59.000000Z")));
        assert!(expired(json!({"leaseDurationSeconds": 3600})));
        assert!(expired(json!({"renewTime": "2026-01-01T02:00:00.000000Z"})));
    }
}
