//! A webhook of a configuration, made ready to be asked.
//!
//! What it wants to hear of stands in its [`Criteria`]; how its questions and answers look in [`super::review`].

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use api::admissionregistration::webhook::as_mutating;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use machinery::Object;

use super::expression::conditions::Condition;
use super::expression::{Environment, Options, Type};
use super::manifests::STATIC;
use super::rules::Criteria;

/// A webhook.
pub struct Webhook {
    /// The configuration that it stands in.
    pub configuration: String,
    /// All that the configuration says of it. A validating one has no reinvocation policy.
    pub spec: MutatingWebhook,
    /// What it wants to hear of, or what is wrong with that.
    pub criteria: Result<Criteria, String>,
    /// What must hold besides.
    pub conditions: Vec<Condition>,
}

impl Webhook {
    fn new(configuration: &str, spec: MutatingWebhook) -> Arc<Self> {
        let criteria = Criteria::new(
            spec.rules.clone().unwrap_or_default(),
            spec.namespace_selector.as_ref(),
            spec.object_selector.as_ref(),
            spec.match_policy.as_deref(),
        );
        let environment = LazyLock::new(|| {
            Environment::admission(Options {
                authorizer: true,
                ..Options::default()
            })
        });
        let conditions = spec.match_conditions.iter().flatten();
        let conditions = conditions.map(|condition| Condition {
            name: condition.name.clone(),
            expression: environment.compile(condition.expression.trim(), &[Type::Bool]),
        });
        Arc::new(Self {
            conditions: conditions.collect(),
            configuration: configuration.to_owned(),
            spec,
            criteria,
        })
    }

    /// Whether its configuration stands in a file.
    pub fn is_static(&self) -> bool {
        self.configuration.ends_with(STATIC)
    }

    /// A webhook that cannot be asked is as good as one that agrees.
    pub fn ignores_failure(&self) -> bool {
        self.spec.failure_policy.as_deref() == Some("Ignore")
    }

    /// Wants to see what others made of the object after it.
    pub fn wants_again(&self) -> bool {
        self.spec.reinvocation_policy.as_deref() == Some("IfNeeded")
    }

    /// Does nothing else on a dry run.
    pub fn allows_dry_run(&self) -> bool {
        matches!(self.spec.side_effects.as_str(), "None" | "NoneOnDryRun")
    }
}

/// All webhooks, in the order in which they are asked: by the name of their configuration, then as they stand there.
#[derive(Clone, Default)]
pub struct Webhooks {
    by_configuration: BTreeMap<(bool, String), Vec<Arc<Webhook>>>,
    mutating: Vec<Arc<Webhook>>,
    validating: Vec<Arc<Webhook>>,
}

impl Webhooks {
    /// Those that may change objects.
    pub fn mutating(&self) -> &[Arc<Webhook>] {
        &self.mutating
    }

    /// Those that may only refuse.
    pub fn validating(&self) -> &[Arc<Webhook>] {
        &self.validating
    }

    /// Takes a configuration in, or what it says now; `None` when it is gone.
    pub fn apply(&mut self, mutating: bool, name: &str, configuration: Option<&Object>) {
        let key = (mutating, name.to_owned());
        let specs = configuration.and_then(|object| specs(mutating, object));
        match specs {
            None => self.by_configuration.remove(&key),
            Some(specs) => {
                let hooks = specs.into_iter().map(|spec| Webhook::new(name, spec));
                self.by_configuration.insert(key, hooks.collect())
            }
        };
        let all = |mutating| {
            let own = self
                .by_configuration
                .iter()
                .filter(|(key, _)| key.0 == mutating);
            let mut all: Vec<Arc<Webhook>> =
                own.flat_map(|(_, hooks)| hooks.iter().cloned()).collect();
            // Those of files come first.
            all.sort_by_key(|hook| !hook.is_static());
            all
        };
        (self.mutating, self.validating) = (all(true), all(false));
    }
}

/// What is stored has been validated: it has the shape.
fn specs(mutating: bool, object: &Object) -> Option<Vec<MutatingWebhook>> {
    if mutating {
        let typed: MutatingWebhookConfiguration = object.view().ok()?;
        return Some(typed.webhooks.unwrap_or_default());
    }
    let typed: ValidatingWebhookConfiguration = object.view().ok()?;
    let hooks = typed.webhooks.unwrap_or_default();
    Some(hooks.iter().map(as_mutating).collect())
}
