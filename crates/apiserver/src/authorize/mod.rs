//! Whether the request may be made: the authorizers of `access` over views that the watch caches feed, and those elsewhere.
//!
//! One [`Chain`] answers for all; a file may replace it while the server runs. Admission is pure and cannot wait: it
//! decides by [`decide`], again and again, until no question is open.

mod reload;
mod webhook;

use std::sync::Arc;

use access::authorization::{Asked, Configuration, Link};
use access::authorizer::Opinions;
use access::node::Graph;
use access::rbac::Index;
use access::{
    Always, Attributes, Authorizer, Decision, Privileged, Rules, Shared, Union, User, Verdict,
};
use machinery::ApiError;

use crate::server::Server;
use webhook::Webhook;

pub(crate) use reload::follow;

/// The authorizers in their order.
pub(crate) struct Chain {
    links: Vec<Step>,
    /// All of them, when none is elsewhere.
    local: Option<Union>,
}

enum Step {
    Here(Arc<dyn Authorizer>),
    Elsewhere(Box<Webhook>),
}

/// The views that authorizers in this process look at.
#[derive(Clone)]
pub(crate) struct Views {
    pub(crate) nodes: Arc<Shared<Graph>>,
    pub(crate) rbac: Arc<Shared<Index>>,
}

impl Chain {
    /// The chain of a configuration, behind the power of `system:masters`.
    ///
    /// # Errors
    /// An authorizer elsewhere is described in a way that cannot be used.
    pub(crate) fn new(configuration: &Configuration, views: &Views) -> Result<Self, String> {
        let mut links = vec![Step::Here(Arc::new(Privileged))];
        for link in &configuration.links {
            links.push(match link {
                Link::Node => Step::Here(views.nodes.clone()),
                Link::Rbac => Step::Here(views.rbac.clone()),
                Link::AlwaysAllow => Step::Here(Arc::new(Always::Allow)),
                Link::AlwaysDeny => Step::Here(Arc::new(Always::Deny)),
                Link::Abac(policies) => Step::Here(policies.clone()),
                Link::Webhook(settings) => Step::Elsewhere(Box::new(Webhook::new(settings)?)),
            });
        }
        let here: Option<Vec<_>> = links
            .iter()
            .map(|link| match link {
                Step::Here(authorizer) => Some(authorizer.clone()),
                Step::Elsewhere(_) => None,
            })
            .collect();
        let local = here.map(Union);
        Ok(Self { links, local })
    }

    /// The decision of those in this process that come before any elsewhere, for whoever cannot wait.
    pub(crate) fn decide_here(&self, attributes: &Attributes) -> Verdict {
        if let Some(local) = &self.local {
            return local.authorize(attributes);
        }
        for link in &self.links {
            let Step::Here(authorizer) = link else { break };
            let verdict = authorizer.authorize(attributes);
            if verdict.decision != Decision::NoOpinion {
                return verdict;
            }
        }
        Verdict::no_opinion("an authorizer elsewhere cannot be asked about this")
    }

    /// The decision on a request.
    pub(crate) async fn decide(&self, server: &Server, attributes: &Attributes) -> Verdict {
        if let Some(local) = &self.local {
            return local.authorize(attributes);
        }
        let mut opinions = Opinions::default();
        for link in &self.links {
            let verdict = match link {
                Step::Here(authorizer) => authorizer.authorize(attributes),
                Step::Elsewhere(webhook) => webhook.decide(server, attributes).await,
            };
            if let Some(decided) = opinions.hear(verdict) {
                return decided;
            }
        }
        opinions.none()
    }

    /// All that a user may do in a namespace, as far as it can be told.
    pub(crate) fn rules_for(&self, user: &User, namespace: &str) -> Rules {
        let all = self.links.iter().map(|link| match link {
            Step::Here(authorizer) => authorizer.rules_for(user, namespace),
            Step::Elsewhere(_) => Rules {
                incomplete: true,
                evaluation_error: "webhook authorizer does not support user rule resolution"
                    .to_owned(),
                ..Rules::default()
            },
        });
        Rules::merge(all)
    }
}

/// Lets a request pass or refuses it.
///
/// # Errors
/// 403; 500 when it cannot be decided.
pub(crate) async fn authorize(server: &Server, attributes: &Attributes) -> Result<(), ApiError> {
    let verdict = server.authorizers().decide(server, attributes).await;
    outcome(attributes, &verdict)
}

/// What a verdict means for the request.
///
/// # Errors
/// As [`authorize`].
pub(crate) fn outcome(attributes: &Attributes, verdict: &Verdict) -> Result<(), ApiError> {
    if verdict.is_allowed() {
        return Ok(());
    }
    if verdict.error.is_empty() {
        return Err(attributes.forbidden(&verdict.reason));
    }
    let why = format!(
        "Internal Server Error: {:?}: {}",
        attributes.path, verdict.error
    );
    Err(ApiError::new(500, "InternalError", why))
}

/// Makes a decision that asks authorizers, which may be elsewhere: it is made again with their answers until it has asked
/// for nothing new.
pub(crate) async fn decide<T>(
    server: &Server,
    mut decision: impl FnMut(&dyn Authorizer) -> T,
) -> T {
    let chain = server.authorizers();
    if let Some(local) = &chain.local {
        return decision(local);
    }
    decide_apart(server, decision).await
}

/// The same, for a decision that holds a view which authorizers in this process would look at as well: they are asked only
/// when it has let go of it.
pub(crate) async fn decide_apart<T>(
    server: &Server,
    mut decision: impl FnMut(&dyn Authorizer) -> T,
) -> T {
    let chain = server.authorizers();
    let mut asked = Asked::default();
    loop {
        let result = decision(&asked);
        let open = asked.take_open();
        if open.is_empty() {
            return result;
        }
        for question in open {
            let answer = chain.decide(server, &question).await;
            asked.know(question, answer);
        }
    }
}
