//! What a token claims, as a user.
//!
//! Behaviour: `k8s.io/apiserver/plugin/pkg/authenticator/token/oidc/oidc.go`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use machinery::cel::environment::{Compiled, Environment};
use machinery::cel::{Scope, Type, Val};
use machinery::structural::Structural;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Jwt, Key};
use crate::{User, user};

/// The type of `user`.
static USER: LazyLock<Structural> = LazyLock::new(|| {
    let text = || json!({"type": "string"});
    let texts = || json!({"type": "array", "items": {"type": "string"}});
    Structural::read(&json!({"type": "object", "properties": {
        "username": text(), "uid": text(), "groups": texts(),
        "extra": {"type": "object", "additionalProperties": texts()},
    }}))
});

/// Expressions over `claims`.
pub(super) fn over_claims() -> Environment<'static> {
    let ty = Type::Map(Box::new(Type::String), Box::new(Type::Dyn));
    Environment::default().with("claims", ty)
}

/// Expressions over `user`.
pub(super) fn over_user() -> Environment<'static> {
    Environment::default().with("user", Type::of(Some(&USER)))
}

/// Where a part of a user comes from.
#[derive(Clone, Debug)]
pub enum Mapping {
    /// A claim of this name, behind a prefix.
    Claim {
        /// The claim.
        name: String,
        /// What is put before it.
        prefix: String,
    },
    /// An expression over all claims.
    Expression(Compiled),
}

/// Where a claim is to be had that a token does not hold itself (OpenID Connect Core 1.0, section 5.6.2).
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct ClaimSource {
    /// The URL.
    pub endpoint: String,
    /// What is shown there; nothing when empty.
    pub access_token: String,
}

/// What must hold.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The expression.
    pub(super) expression: Compiled,
    /// What is said when it does not.
    pub(super) message: String,
}

/// An issuer of tokens that is believed, and what its tokens mean.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// As tokens name it.
    pub url: String,
    /// Where it says what it is; below its URL when empty.
    pub discovery_url: String,
    /// Who signs its certificates, PEM; the host's own authorities when empty.
    pub authorities: String,
    /// A token must be for one of these.
    pub audiences: Vec<String>,
    /// How tokens may be signed.
    pub algorithms: Vec<String>,
    /// Claims that must have these values.
    pub required: Vec<(String, String)>,
    /// Of the claims.
    pub(super) claim_rules: Vec<Rule>,
    /// The user's name.
    pub username: Mapping,
    /// His groups.
    pub groups: Option<Mapping>,
    pub(super) uid: Option<Mapping>,
    pub(super) extra: Vec<(String, Compiled)>,
    /// Of the user that was made.
    pub(super) user_rules: Vec<Rule>,
}

/// The algorithms that may be used where nobody has said which.
pub(super) const ALGORITHMS: [&str; 9] = [
    "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512",
];

impl Issuer {
    /// An issuer whose tokens name their user by one claim.
    pub fn plain(url: String, audience: String, claim: String, prefix: String) -> Self {
        Self {
            url,
            discovery_url: String::new(),
            authorities: String::new(),
            audiences: vec![audience],
            algorithms: vec!["RS256".to_owned()],
            required: Vec::new(),
            claim_rules: Vec::new(),
            username: Mapping::Claim {
                name: claim,
                prefix,
            },
            groups: None,
            uid: None,
            extra: Vec::new(),
            user_rules: Vec::new(),
        }
    }

    /// Where it says what it is.
    pub fn discovery(&self) -> String {
        match self.discovery_url.as_str() {
            "" => {
                let url = self.url.strip_suffix('/').unwrap_or(&self.url);
                format!("{url}/.well-known/openid-configuration")
            }
            url => url.to_owned(),
        }
    }

    /// Whether a token is what the issuer has signed, for us and now; [`Issuer::user_of`] says whom it belongs to.
    ///
    /// # Errors
    /// It is not.
    pub fn verify(&self, token: &Jwt, keys: &[Key], now: Timestamp) -> Result<(), String> {
        token.check(self, keys, now)
    }

    /// Another issuer, whose tokens are to be for the same, signed and reached in the same ways.
    pub fn beside(&self, url: &str) -> Self {
        Self {
            authorities: self.authorities.clone(),
            audiences: self.audiences.clone(),
            algorithms: self.algorithms.clone(),
            ..Self::plain(url.to_owned(), String::new(), String::new(), String::new())
        }
    }

    /// The claim with the groups and where it is to be had, when a believed token does not hold it itself.
    ///
    /// # Errors
    /// What the token says of it cannot be read.
    pub fn distributed(
        &self,
        claims: &Map<String, Value>,
    ) -> Result<Option<(&str, ClaimSource)>, String> {
        let Some(Mapping::Claim { name: claim, .. }) = &self.groups else {
            return Ok(None);
        };
        let (Some(names), false) = (claims.get("_claim_names"), claims.contains_key(claim)) else {
            return Ok(None);
        };
        let names = BTreeMap::<String, String>::deserialize(names)
            .map_err(|e| format!("oidc: error parsing distributed claim names: {e}"))?;
        let sources = claims
            .get("_claim_sources")
            .ok_or("oidc: no claim sources")?;
        let mut sources = BTreeMap::<String, ClaimSource>::deserialize(sources)
            .map_err(|e| format!("oidc: could not parse claim sources: {e}"))?;
        let Some(source) = names.get(claim) else {
            return Ok(None);
        };
        let found = sources.remove(source).ok_or_else(|| {
            format!("id token _claim_names contained a source {source} missing in _claims_sources")
        })?;
        // Without an end point it is an aggregated claim, perhaps.
        Ok((!found.endpoint.is_empty()).then_some((claim, found)))
    }

    /// The user of claims that are believed.
    ///
    /// # Errors
    /// They do not fit the rules.
    pub fn user_of(&self, claims: &Map<String, Value>) -> Result<User, String> {
        let tree = Value::Object(claims.clone());
        let scope = Scope(vec![("claims", Val::of(&tree, None))]);
        let mut user = User {
            name: self.name_of(claims, &scope)?,
            ..User::default()
        };
        user.groups = self.groups_of(claims, &scope)?;
        user.uid = self.uid_of(claims, &scope)?;
        user.extra = self.extra_of(claims, &scope)?;
        for (claim, wanted) in &self.required {
            let Some(value) = claims.get(claim) else {
                return Err(format!(
                    "oidc: required claim {claim} not present in ID token"
                ));
            };
            let got = text_of(value).map_err(|why| format!("oidc: parse claim {claim}: {why}"))?;
            if got != wanted {
                return Err(format!(
                    "oidc: required claim {claim} value does not match. Got = {got}, want = {wanted}"
                ));
            }
        }
        hold(&self.claim_rules, &scope)
            .map_err(|why| format!("oidc: error evaluating claim validation expression: {why}"))?;
        let info = json!({
            "username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra,
        });
        let scope = Scope(vec![("user", Val::of(&info, Some(&USER)))]);
        hold(&self.user_rules, &scope)
            .map_err(|why| format!("oidc: error evaluating user info validation rule: {why}"))?;
        Ok(user)
    }

    fn name_of<'a>(
        &'a self,
        claims: &Map<String, Value>,
        scope: &Scope<'a>,
    ) -> Result<String, String> {
        let (claim, prefix) = match &self.username {
            Mapping::Claim { name, prefix } => (name, prefix),
            Mapping::Expression(expression) => {
                let name = one_text(expression, scope, "username")?;
                return match name.is_empty() {
                    true => {
                        Err("oidc: empty username via CEL expression is not allowed".to_owned())
                    }
                    false => Ok(name),
                };
            }
        };
        let found = claims.get(claim).ok_or("claim not present".to_owned());
        let name = found.and_then(text_of);
        let name = name.map_err(|why| format!("oidc: parse username claims {claim:?}: {why}"))?;
        if claim == "email" {
            match claims.get("email_verified") {
                None | Some(Value::Bool(true)) => {}
                Some(Value::Bool(false)) => return Err("oidc: email not verified".to_owned()),
                Some(_) => return Err("oidc: parse 'email_verified' claim: not a bool".to_owned()),
            }
        }
        Ok(format!("{prefix}{name}"))
    }

    fn groups_of<'a>(
        &'a self,
        claims: &Map<String, Value>,
        scope: &Scope<'a>,
    ) -> Result<Vec<String>, String> {
        match &self.groups {
            None => Ok(Vec::new()),
            Some(Mapping::Claim { name, prefix }) => {
                let Some(found) = claims.get(name) else {
                    return Ok(Vec::new());
                };
                let groups = match found {
                    Value::String(one) => Some(vec![one.as_str()]),
                    Value::Array(many) => many.iter().map(Value::as_str).collect(),
                    _ => None,
                };
                let groups = groups.ok_or_else(|| {
                    format!("oidc: parse groups claim {name:?}: neither a string nor strings")
                })?;
                Ok(groups
                    .iter()
                    .map(|group| format!("{prefix}{group}"))
                    .collect())
            }
            Some(Mapping::Expression(expression)) => {
                let value = run(expression, scope);
                value
                    .and_then(|value| many_texts(&value))
                    .map_err(|why| format!("oidc: error evaluating group claim expression: {why}"))
            }
        }
    }

    fn uid_of<'a>(
        &'a self,
        claims: &Map<String, Value>,
        scope: &Scope<'a>,
    ) -> Result<String, String> {
        match &self.uid {
            None => Ok(String::new()),
            Some(Mapping::Claim { name, .. }) => {
                let found = claims.get(name).ok_or("claim not present".to_owned());
                let uid = found.and_then(text_of).map(str::to_owned);
                uid.map_err(|why| format!("oidc: parse uid claim {name:?}: {why}"))
            }
            Some(Mapping::Expression(expression)) => one_text(expression, scope, "uid"),
        }
    }

    fn extra_of<'a>(
        &'a self,
        claims: &Map<String, Value>,
        scope: &Scope<'a>,
    ) -> Result<BTreeMap<String, Vec<String>>, String> {
        let mut extra = BTreeMap::new();
        let id = claims.get("jti").and_then(Value::as_str);
        if let Some(id) = id.filter(|id| !id.is_empty()) {
            let key = user::EXTRA_CREDENTIAL_ID.to_owned();
            extra.insert(key, vec![format!("JTI={id}")]);
        }
        for (key, expression) in &self.extra {
            let values = run(expression, scope).and_then(|value| many_texts(&value));
            let values = values.map_err(|why| {
                let text = expression.text();
                format!("oidc: error evaluating extra claim expression: {text}: {why}")
            })?;
            if !values.is_empty() {
                extra.insert(key.clone(), values);
            }
        }
        Ok(extra)
    }
}

fn text_of(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| "not a string".to_owned())
}

fn run<'a>(expression: &'a Compiled, scope: &Scope<'a>) -> Result<Val<'a>, String> {
    expression.run(scope).0.map_err(|why| why.to_string())
}

fn one_text<'a>(expression: &'a Compiled, scope: &Scope<'a>, what: &str) -> Result<String, String> {
    let failed = |why: String| format!("oidc: error evaluating {what} claim expression: {why}");
    match run(expression, scope).map_err(failed)? {
        Val::Str(text) => Ok(text.into_owned()),
        _ => Err(failed(format!(
            "{what} claim expression must return a string"
        ))),
    }
}

/// One text or several; empty ones are left out.
fn many_texts(value: &Val) -> Result<Vec<String>, String> {
    let wrong = || "expression must return a string or a list of strings".to_owned();
    let all: Vec<String> = match value {
        Val::Null => Vec::new(),
        Val::Str(one) => vec![one.clone().into_owned()],
        Val::Array(items, _) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(wrong)?,
        Val::List(items) => items
            .iter()
            .map(|item| match item {
                Val::Str(text) => Some(text.clone().into_owned()),
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or_else(wrong)?,
        _ => return Err(wrong()),
    };
    Ok(all.into_iter().filter(|text| !text.is_empty()).collect())
}

fn hold<'a>(rules: &'a [Rule], scope: &Scope<'a>) -> Result<(), String> {
    for rule in rules {
        let text = rule.expression.text();
        match run(&rule.expression, scope)? {
            Val::Bool(true) => {}
            Val::Bool(false) => {
                let message = &rule.message;
                return Err(format!("validation expression '{text}' failed: {message}"));
            }
            _ => return Err("validation expression must return a boolean".to_owned()),
        }
    }
    Ok(())
}
