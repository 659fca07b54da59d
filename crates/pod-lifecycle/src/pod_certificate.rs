//! The life of one certificate that a pod's volume asks for: asked for, issued, renewed in time.
//!
//! A refusal is final. While a new certificate is asked for, the old one stays. What was asked for is forgotten with the
//! kubelet's process: the next asks anew. Upstream: `pkg/kubelet/podcertificate`.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::PodCertificateRequest;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use machinery::pem;

use crate::Event;
use crate::pod::after;

/// A request that nobody sees for so long, in seconds, was deleted.
const ABANDONED: i64 = 600;
/// A certificate that was not renewed for so long after its time, in seconds, is overdue.
const OVERDUE: i64 = 600;

/// A private key as PEM. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(pub Arc<str>);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The key.
    pub key: PrivateKey,
    /// The certificate and those between it and its root, PEM.
    pub chain: Arc<str>,
    begin_refresh_at: Timestamp,
    not_after: Timestamp,
    told_overdue: bool,
    told_expired: bool,
}

impl Credentials {
    fn overdue_at(&self) -> Timestamp {
        after(self.begin_refresh_at, OVERDUE)
    }

    /// What has to be said about their age, once each.
    fn complaints(&mut self, now: Timestamp) -> Vec<Event> {
        let mut events = Vec::new();
        if now > self.overdue_at() && !self.told_overdue {
            self.told_overdue = true;
            let what = "PodCertificate refresh overdue";
            events.push(Event::warning("CertificateOverdueForRefresh", what));
        }
        if now > self.not_after && !self.told_expired {
            self.told_expired = true;
            let what = "PodCertificate expired";
            events.push(Event::warning("CertificateExpired", what));
        }
        events
    }

    /// When there will be something to say about their age.
    fn complain_at(&self) -> Option<Timestamp> {
        let overdue = (!self.told_overdue).then(|| after(self.overdue_at(), 1));
        let expired = (!self.told_expired).then(|| after(self.not_after, 1));
        [overdue, expired].into_iter().flatten().min()
    }
}

/// A request of ours that has no answer yet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    key: PrivateKey,
    name: String,
    abandon_at: Timestamp,
}

impl Asked {
    /// When to look whether it was deleted. One that is there will be seen to go.
    fn look_for_at(&self, seen: Option<&PodCertificateRequest>) -> Option<Timestamp> {
        seen.is_none().then(|| after(self.abandon_at, 1))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was asked for.
    Initial,
    /// The first certificate is on its way.
    Waiting(Asked),
    /// The signer will not, and has said so for good.
    Refused(String),
    /// There is a certificate.
    Fresh(Credentials),
    /// There is one, and the next is on its way.
    Renewing(Credentials, Asked),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCertificate {
    state: State,
}

impl Default for PodCertificate {
    fn default() -> Self {
        Self {
            state: State::Initial,
        }
    }
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// Make a key, ask for a certificate, and say so with [`PodCertificate::asked`].
    pub ask: bool,
    /// What to tell.
    pub events: Vec<Event>,
    /// When to look again although nothing happened.
    pub wake_at: Option<Timestamp>,
}

impl PodCertificate {
    /// The name of the request whose answer is waited for.
    pub fn awaited(&self) -> Option<&str> {
        match &self.state {
            State::Waiting(asked) | State::Renewing(_, asked) => Some(&asked.name),
            _ => None,
        }
    }

    /// Whether nothing but an answer is missing for the first certificate.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    /// Takes in what became of the awaited request, and what time it is. `jitter` seconds keep the pods of a node apart.
    pub fn step(
        &mut self,
        seen: Option<&PodCertificateRequest>,
        now: Timestamp,
        jitter: i64,
    ) -> Step {
        let mut step = Step::default();
        self.take_answer(seen, now, jitter, &mut step.events);
        match &mut self.state {
            State::Initial => step.ask = true,
            State::Waiting(asked) => step.wake_at = asked.look_for_at(seen),
            State::Refused(_) => {}
            State::Fresh(credentials) => {
                if now < credentials.begin_refresh_at {
                    step.wake_at = Some(credentials.begin_refresh_at);
                } else {
                    step.ask = true;
                    step.events.extend(credentials.complaints(now));
                }
            }
            State::Renewing(credentials, asked) => {
                step.events.extend(credentials.complaints(now));
                let both = [asked.look_for_at(seen), credentials.complain_at()];
                step.wake_at = both.into_iter().flatten().min();
            }
        }
        step
    }

    fn take_answer(
        &mut self,
        seen: Option<&PodCertificateRequest>,
        now: Timestamp,
        jitter: i64,
        events: &mut Vec<Event>,
    ) {
        let (old, asked) = match &self.state {
            State::Waiting(asked) => (None, asked),
            State::Renewing(old, asked) => (Some(old.clone()), asked),
            _ => return,
        };
        match seen {
            // The watch lags behind, or somebody has deleted it.
            None if now > asked.abandon_at => {
                self.state = old.map_or(State::Initial, State::Fresh);
            }
            None => {}
            Some(request) => match answer(request) {
                None => {}
                Some(Answer::Issued(chain, begin_refresh_at, not_after)) => {
                    self.state = State::Fresh(Credentials {
                        key: asked.key.clone(),
                        chain: clean(chain).into(),
                        begin_refresh_at: after(begin_refresh_at, jitter),
                        not_after,
                        told_overdue: false,
                        told_expired: false,
                    });
                }
                Some(Answer::Refused(condition)) => {
                    events.push(refusal(request, condition));
                    self.state = State::Refused(format!(
                        "PodCertificateRequest was permanently {}: reason={:?} message={:?}",
                        condition.type_.to_lowercase(),
                        condition.reason,
                        condition.message
                    ));
                }
            },
        }
    }

    /// A request of this name was made at that time, for a certificate for this key.
    pub fn asked(&mut self, key: PrivateKey, name: String, created: Timestamp, jitter: i64) {
        let asked = Asked {
            key,
            name,
            abandon_at: after(created, ABANDONED + jitter),
        };
        self.state = match std::mem::replace(&mut self.state, State::Initial) {
            State::Fresh(old) | State::Renewing(old, _) => State::Renewing(old, asked),
            _ => State::Waiting(asked),
        };
    }

    /// What the pod has now.
    ///
    /// # Errors
    /// There is nothing yet, or never will be.
    pub fn credentials(&self) -> Result<&Credentials, String> {
        match &self.state {
            State::Fresh(credentials) | State::Renewing(credentials, _) => Ok(credentials),
            State::Refused(why) => Err(why.clone()),
            State::Initial | State::Waiting(_) => {
                Err("credential bundle is not issued yet".to_owned())
            }
        }
    }
}

enum Answer<'a> {
    Issued(&'a str, Timestamp, Timestamp),
    Refused(&'a Condition),
}

/// The first condition that says something. A certificate that does not say how long it is good is none.
fn answer(request: &PodCertificateRequest) -> Option<Answer<'_>> {
    let status = request.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    conditions.find_map(|condition| match condition.type_.as_str() {
        "Denied" | "Failed" => Some(Answer::Refused(condition)),
        "Issued" => Some(Answer::Issued(
            status.certificate_chain.as_deref()?,
            status.begin_refresh_at.as_ref()?.0,
            status.not_after.as_ref()?.0,
        )),
        _ => None,
    })
}

/// Upstream hands these words to a format that has no place for them; here they stand as they are meant.
fn refusal(request: &PodCertificateRequest, condition: &Condition) -> Event {
    let meta = &request.metadata;
    let what = match condition.type_.as_str() {
        "Denied" => "was denied",
        _ => "failed",
    };
    let message = format!(
        "PodCertificateRequest {}/{} {what}, reason={:?}, message={:?}",
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
        condition.reason,
        condition.message
    );
    Event::warning(&condition.type_, message)
}

/// The certificates and nothing that stands between them.
fn clean(chain: &str) -> String {
    let blocks = pem::blocks(chain.as_bytes());
    blocks
        .map(|block| pem::encode("CERTIFICATE", &block.contents))
        .collect()
}
