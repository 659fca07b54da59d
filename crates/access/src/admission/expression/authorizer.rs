//! `authorizer`: what a user may do, asked by an expression.
//!
//! Behaviour and wording: `k8s.io/apiserver/pkg/cel/library/authz.go`.

use std::sync::Arc;

use machinery::cel::environment::{AUTHORIZER, RESOURCE_CHECK};
use machinery::cel::{EvalError, Foreign, Val};
use machinery::labels::Selector;
use machinery::names;
use serde_json::Value;

use crate::{Attributes, Authorizer, FieldRequirement, User, Verdict};

type Answer<'a> = Option<Result<Val<'a>, EvalError>>;

/// Asks for a user.
#[derive(Clone)]
pub struct Asker<'a> {
    user: Arc<User>,
    authorizer: &'a dyn Authorizer,
}

impl std::fmt::Debug for Asker<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Asker").field(&self.user.name).finish()
    }
}

impl<'a> Asker<'a> {
    /// Asks this authorizer for this user.
    pub fn new(user: &User, authorizer: &'a dyn Authorizer) -> Self {
        Self {
            user: Arc::new(user.clone()),
            authorizer,
        }
    }

    /// The check of what a request is for.
    pub(super) fn request_resource(&self, request: &Value) -> ResourceCheck<'a> {
        let text = |pointer: &str| {
            let found = request.pointer(pointer).and_then(Value::as_str);
            found.unwrap_or_default().to_owned()
        };
        ResourceCheck {
            asker: self.clone(),
            attributes: Attributes {
                user: Arc::new((*self.user).clone()),
                is_resource_request: true,
                api_group: text("/resource/group"),
                api_version: "*".to_owned(),
                resource: text("/resource/resource"),
                subresource: text("/subResource"),
                namespace: text("/namespace"),
                name: text("/name"),
                ..Attributes::default()
            },
        }
    }
}

fn failed<'a>(why: &str) -> Answer<'a> {
    Some(Err(EvalError::Failed(why.to_owned())))
}

fn foreign<'a>(value: impl Foreign<'a> + 'a) -> Answer<'a> {
    Some(Ok(Val::Foreign(Arc::new(value))))
}

impl<'a> Foreign<'a> for Asker<'a> {
    fn type_name(&self) -> &'static str {
        AUTHORIZER
    }

    fn call(&self, name: &str, args: &[Val<'a>]) -> Answer<'a> {
        match (name, args) {
            ("path", [Val::Str(path)]) => match path.trim() {
                "" => failed("path must not be empty"),
                _ => foreign(PathCheck {
                    asker: self.clone(),
                    path: path.to_string(),
                }),
            },
            ("group", [Val::Str(group)]) => foreign(GroupCheck {
                asker: self.clone(),
                group: group.to_string(),
            }),
            ("serviceAccount", [Val::Str(namespace), Val::Str(name)]) => {
                if !names::dns1123_subdomain(name).is_empty() {
                    return failed("Invalid service account name");
                }
                if !names::dns1123_label(namespace).is_empty() {
                    return failed("Invalid service account namespace");
                }
                let user = Arc::new(User::service_account(namespace, name, ""));
                let authorizer = self.authorizer;
                foreign(Asker { user, authorizer })
            }
            _ => None,
        }
    }
}

#[derive(Debug)]
struct PathCheck<'a> {
    asker: Asker<'a>,
    path: String,
}

impl<'a> Foreign<'a> for PathCheck<'a> {
    fn type_name(&self) -> &'static str {
        "kubernetes.authorization.PathCheck"
    }

    fn call(&self, name: &str, args: &[Val<'a>]) -> Answer<'a> {
        let ("check", [Val::Str(verb)]) = (name, args) else {
            return None;
        };
        let attributes = Attributes::path(&self.asker.user, verb, &self.path);
        foreign(Answered(self.asker.authorizer.authorize(&attributes)))
    }
}

#[derive(Debug)]
struct GroupCheck<'a> {
    asker: Asker<'a>,
    group: String,
}

impl<'a> Foreign<'a> for GroupCheck<'a> {
    fn type_name(&self) -> &'static str {
        "kubernetes.authorization.GroupCheck"
    }

    fn call(&self, name: &str, args: &[Val<'a>]) -> Answer<'a> {
        let ("resource", [Val::Str(resource)]) = (name, args) else {
            return None;
        };
        if resource.trim().is_empty() {
            return failed("resource must not be empty");
        }
        let mut attributes = Attributes::resource(&self.asker.user, "", &self.group, resource);
        "*".clone_into(&mut attributes.api_version);
        foreign(ResourceCheck {
            asker: self.asker.clone(),
            attributes,
        })
    }
}

/// A question about a resource.
#[derive(Clone, Debug)]
pub(super) struct ResourceCheck<'a> {
    asker: Asker<'a>,
    attributes: Attributes,
}

impl<'a> Foreign<'a> for ResourceCheck<'a> {
    fn type_name(&self) -> &'static str {
        RESOURCE_CHECK
    }

    fn call(&self, name: &str, args: &[Val<'a>]) -> Answer<'a> {
        let [Val::Str(value)] = args else { return None };
        let mut next = self.clone();
        let own = &mut next.attributes;
        let text = value.to_string();
        match name {
            "subresource" => own.subresource = text,
            "namespace" => own.namespace = text,
            "name" => own.name = text,
            // A selector that does not parse selects everything: the question gets wider, never narrower.
            "fieldSelector" => {
                let parsed = machinery::fields::Selector::parse(&text).ok();
                own.field_selector = parsed.map_or_else(Vec::new, |selector| {
                    let all = selector.requirements().iter();
                    all.map(|r| FieldRequirement {
                        field: r.field.clone(),
                        equals: r.equal,
                        value: r.value.clone(),
                    })
                    .collect()
                });
            }
            "labelSelector" => own.label_selector = Selector::parse(&text).ok(),
            "check" => {
                own.verb = text;
                return foreign(Answered(self.asker.authorizer.authorize(own)));
            }
            _ => return None,
        }
        foreign(next)
    }
}

/// What the authorizer said.
#[derive(Debug)]
struct Answered(Verdict);

impl<'a> Foreign<'a> for Answered {
    fn type_name(&self) -> &'static str {
        "kubernetes.authorization.Decision"
    }

    fn call(&self, name: &str, args: &[Val<'a>]) -> Answer<'a> {
        if !args.is_empty() {
            return None;
        }
        Some(Ok(match name {
            "allowed" => Val::Bool(self.0.is_allowed()),
            "reason" => Val::Str(self.0.reason.clone().into()),
            // Authorizers of ours have no errors besides their reasons.
            "errored" => Val::Bool(false),
            "error" => Val::Str("".into()),
            _ => return None,
        }))
    }
}
