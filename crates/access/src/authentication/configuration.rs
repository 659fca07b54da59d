//! `AuthenticationConfiguration`: issuers of tokens, and where nobody needs to say who he is.
//!
//! Behaviour: `k8s.io/apiserver/pkg/apis/apiserver/validation/validation.go`.

use machinery::cel::Type;
use machinery::cel::environment::{Compiled, Environment};
use machinery::{ErrorList, Path, names};
use serde::Deserialize;

use super::mapping::{ALGORITHMS, over_claims, over_user};
use super::{Issuer, Mapping, Rule};
use crate::settings_file;

const MOST_ISSUERS: usize = 64;

/// Who is believed.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// Issuers of tokens.
    pub jwt: Vec<Issuer>,
    /// Who shows nothing; not said: as the flag has it.
    pub anonymous: Option<Anonymous>,
}

/// Whether requests may come from nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anonymous {
    /// They may.
    pub enabled: bool,
    /// For these paths only; for all when there is none.
    pub paths: Vec<String>,
}

impl Anonymous {
    /// Whether nobody may ask for a path.
    pub fn allows(&self, path: &str) -> bool {
        self.enabled && (self.paths.is_empty() || self.paths.iter().any(|own| own == path))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(default)]
    jwt: Vec<JwtAuthenticator>,
    anonymous: Option<AnonymousFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnonymousFile {
    #[serde(default)]
    enabled: bool,
    #[serde(default)]
    conditions: Vec<ConditionFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConditionFile {
    #[serde(default)]
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct JwtAuthenticator {
    #[serde(default)]
    issuer: IssuerFile,
    #[serde(default)]
    claim_validation_rules: Vec<ClaimRule>,
    #[serde(default)]
    claim_mappings: Mappings,
    #[serde(default)]
    user_validation_rules: Vec<UserRule>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct IssuerFile {
    url: String,
    #[serde(rename = "discoveryURL")]
    discovery_url: Option<String>,
    certificate_authority: String,
    audiences: Vec<String>,
    audience_match_policy: String,
    egress_selector_type: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct ClaimRule {
    claim: String,
    required_value: String,
    expression: String,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct UserRule {
    expression: String,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Mappings {
    username: MappingFile,
    groups: MappingFile,
    uid: MappingFile,
    extra: Vec<ExtraFile>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct MappingFile {
    claim: String,
    prefix: Option<String>,
    expression: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct ExtraFile {
    key: String,
    value_expression: String,
}

impl Configuration {
    /// Reads a file's text. Tokens of `own` issuers are the server's: nobody else may issue them.
    ///
    /// # Errors
    /// What is wrong with it, all of it.
    pub fn parse(text: &str, own: &[String]) -> Result<Self, String> {
        let file: File = settings_file::read(text, "AuthenticationConfiguration")?;
        let mut errors = ErrorList::new();
        let root = Path::new("jwt");
        if file.jwt.len() > MOST_ISSUERS {
            errors.too_many(&root, file.jwt.len(), MOST_ISSUERS);
            return Err(errors.aggregate());
        }
        let mut jwt: Vec<Issuer> = Vec::new();
        let mut urls: Vec<(String, String)> = Vec::new();
        for (index, one) in file.jwt.into_iter().enumerate() {
            let path = root.index(index);
            let at = path.child("issuer");
            let discovery = one.issuer.discovery_url.clone().unwrap_or_default();
            let url = one.issuer.url.clone();
            jwt.extend(one.read(own, &path, &mut errors));
            if urls.iter().any(|(known, _)| *known == url) {
                errors.duplicate(&at.child("url"), url.as_str());
            }
            if !discovery.is_empty() && urls.iter().any(|(_, known)| *known == discovery) {
                errors.duplicate(&at.child("discoveryURL"), discovery.as_str());
            }
            urls.push((url, discovery));
        }
        let anonymous = file.anonymous.map(|it| Anonymous {
            enabled: it.enabled,
            paths: it.conditions.into_iter().map(|c| c.path).collect(),
        });
        if let Some(it) = anonymous
            .as_ref()
            .filter(|it| !it.enabled && !it.paths.is_empty())
        {
            let at = Path::new("anonymous").child("conditions");
            let why = "enabled should be set to true when conditions are defined";
            errors.invalid(&at, it.paths.clone(), why);
        }
        match errors.is_empty() {
            true => Ok(Self { jwt, anonymous }),
            false => Err(errors.aggregate()),
        }
    }
}

impl JwtAuthenticator {
    fn read(self, own: &[String], path: &Path, errors: &mut ErrorList) -> Option<Issuer> {
        self.issuer.check(own, &path.child("issuer"), errors);
        let mut verified = false;
        let mut required = Vec::new();
        let mut claim_rules = Vec::new();
        let at = path.child("claimValidationRules");
        for (index, rule) in self.claim_validation_rules.iter().enumerate() {
            let before = &self.claim_validation_rules[..index];
            let rule = rule.read(before, &at.index(index), &mut required, errors);
            verified |= rule.as_ref().is_some_and(|r| uses_verified(&r.expression));
            claim_rules.extend(rule);
        }
        let at = path.child("claimMappings");
        let mappings = self.claim_mappings;
        let username = mappings.username.read(&at.child("username"), true, errors);
        let groups = mappings.groups.read(&at.child("groups"), false, errors);
        let uid = mappings.uid.read_uid(&at.child("uid"), errors);
        let extra = read_extra(&mappings.extra, &at.child("extra"), errors);
        verified |= extra
            .iter()
            .any(|(_, expression)| uses_verified(expression));
        if let Some(Mapping::Expression(expression)) = &username
            && expression.selects("claims", "email")
            && !verified
            && !uses_verified(expression)
        {
            errors.invalid(
                &at.child("username").child("expression"),
                expression.text(),
                "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression",
            );
        }
        let at = path.child("userValidationRules");
        let user_rules = read_user_rules(&self.user_validation_rules, &at, errors);
        Some(Issuer {
            url: self.issuer.url,
            discovery_url: self.issuer.discovery_url.unwrap_or_default(),
            authorities: self.issuer.certificate_authority,
            audiences: self.issuer.audiences,
            algorithms: ALGORITHMS.map(str::to_owned).to_vec(),
            required,
            claim_rules,
            username: username?,
            groups,
            uid,
            extra,
            user_rules,
        })
    }
}

fn uses_verified(expression: &Compiled) -> bool {
    expression.selects("claims", "email_verified")
}

fn check_url(url: &str, path: &Path, errors: &mut ErrorList) {
    let mut wrong = |why: &str| errors.invalid(path, url, why);
    let rest = match url.split_once("://") {
        Some(("https", rest)) => rest,
        other => {
            wrong("URL scheme must be https");
            other.map_or(url, |(_, rest)| rest)
        }
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        wrong("URL must not contain a username or password");
    }
    let (before, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    if before
        .split_once('?')
        .is_some_and(|(_, query)| !query.is_empty())
    {
        wrong("URL must not contain a query");
    }
    if !fragment.is_empty() {
        wrong("URL must not contain a fragment");
    }
}

impl IssuerFile {
    fn check(&self, own: &[String], path: &Path, errors: &mut ErrorList) {
        let at = path.child("url");
        match self.url.as_str() {
            "" => errors.required(&at, ""),
            url => {
                if own.iter().any(|own| own == url) {
                    let own = own.join(" ");
                    let why = format!("URL must not overlap with disallowed issuers: [{own}]");
                    errors.invalid(&at, url, why);
                }
                check_url(url, &at, errors);
            }
        }
        let at = path.child("discoveryURL");
        if let Some(url) = self.discovery_url.as_deref().filter(|url| !url.is_empty()) {
            let bare = |url: &str| url.trim_end_matches('/').to_owned();
            if !self.url.is_empty() && bare(&self.url) == bare(url) {
                errors.invalid(&at, url, "discoveryURL must be different from URL");
            }
            check_url(url, &at, errors);
        }
        self.check_audiences(path, errors);
        let pem = &self.certificate_authority;
        if !pem.is_empty() && !pem.contains("-----BEGIN CERTIFICATE-----") {
            let why = "data does not contain any valid RSA or ECDSA certificates";
            errors.invalid(&path.child("certificateAuthority"), "<omitted>", why);
        }
        if !matches!(
            self.egress_selector_type.as_str(),
            "" | "controlplane" | "cluster"
        ) {
            let why = "egress selector must be either controlplane or cluster";
            let given = self.egress_selector_type.as_str();
            errors.invalid(&path.child("egressSelectorType"), given, why);
        }
    }

    fn check_audiences(&self, path: &Path, errors: &mut ErrorList) {
        let at = path.child("audiences");
        let policy = self.audience_match_policy.as_str();
        let policy_at = path.child("audienceMatchPolicy");
        if self.audiences.is_empty() {
            errors.required(&at, format!("at least one {at} is required"));
            return;
        }
        for (index, audience) in self.audiences.iter().enumerate() {
            if audience.is_empty() {
                errors.required(&at.index(index), "");
            }
            if self.audiences[..index].contains(audience) {
                errors.duplicate(&at.index(index), audience.as_str());
            }
        }
        let why = match (self.audiences.len(), policy) {
            (_, "MatchAny") | (1, "") => return,
            (1, _) => "audienceMatchPolicy must be empty or MatchAny for single audience",
            _ => "audienceMatchPolicy must be MatchAny for multiple audiences",
        };
        errors.invalid(&policy_at, policy, why);
    }
}

fn compile(
    environment: &Environment,
    text: &str,
    wanted: &[Type],
    path: &Path,
    errors: &mut ErrorList,
) -> Option<Compiled> {
    let compiled = environment.compile(text, wanted);
    let bare = |why: String| why.split(" but got ").next().unwrap_or_default().to_owned();
    compiled
        .map_err(|why| errors.invalid(path, text, bare(why)))
        .ok()
}

impl ClaimRule {
    fn read(
        &self,
        before: &[Self],
        path: &Path,
        required: &mut Vec<(String, String)>,
        errors: &mut ErrorList,
    ) -> Option<Rule> {
        match (self.claim.as_str(), self.expression.as_str()) {
            ("", "") => errors.required(path, "claim or expression is required"),
            (claim, "") => {
                if !self.message.is_empty() {
                    let why = "may not be specified when claim is set";
                    errors.invalid(&path.child("message"), self.message.as_str(), why);
                }
                if before.iter().any(|rule| rule.claim == claim) {
                    errors.duplicate(&path.child("claim"), claim);
                }
                required.push((claim.to_owned(), self.required_value.clone()));
            }
            ("", text) => {
                if !self.required_value.is_empty() {
                    let why = "may not be specified when expression is set";
                    let given = self.required_value.as_str();
                    errors.invalid(&path.child("requiredValue"), given, why);
                }
                let at = path.child("expression");
                if before.iter().any(|rule| rule.expression == text) {
                    errors.duplicate(&at, text);
                    return None;
                }
                let expression = compile(&over_claims(), text, &[Type::Bool], &at, errors)?;
                let message = self.message.clone();
                return Some(Rule {
                    expression,
                    message,
                });
            }
            (claim, _) => errors.invalid(path, claim, "claim and expression can't both be set"),
        }
        None
    }
}

impl MappingFile {
    fn read(&self, path: &Path, required: bool, errors: &mut ErrorList) -> Option<Mapping> {
        match (self.claim.as_str(), self.expression.as_str()) {
            ("", "") if required => errors.required(path, "claim or expression is required"),
            ("", "") => {}
            (claim, "") => match &self.prefix {
                Some(prefix) => {
                    return Some(Mapping::Claim {
                        name: claim.to_owned(),
                        prefix: prefix.clone(),
                    });
                }
                None => errors.required(
                    &path.child("prefix"),
                    "prefix is required when claim is set. It can be set to an empty string to disable prefixing",
                ),
            },
            ("", text) => {
                if let Some(prefix) = &self.prefix {
                    let why = "may not be specified when expression is set";
                    errors.invalid(&path.child("prefix"), prefix.as_str(), why);
                }
                let at = path.child("expression");
                let compiled = compile(&over_claims(), text, &[], &at, errors);
                return compiled.map(Mapping::Expression);
            }
            _ => errors.invalid(path, "", "claim and expression can't both be set"),
        }
        None
    }

    fn read_uid(&self, path: &Path, errors: &mut ErrorList) -> Option<Mapping> {
        let claim = Self {
            claim: self.claim.clone(),
            prefix: match self.expression.is_empty() {
                true => Some(String::new()),
                false => None,
            },
            expression: self.expression.clone(),
        };
        claim.read(path, false, errors)
    }
}

fn read_extra(all: &[ExtraFile], path: &Path, errors: &mut ErrorList) -> Vec<(String, Compiled)> {
    let mut out = Vec::new();
    for (index, one) in all.iter().enumerate() {
        let (path, key) = (path.index(index), one.key.as_str());
        let at = path.child("key");
        check_key(key, &at, errors);
        if all[..index].iter().any(|other| other.key == key) {
            errors.duplicate(&at, key);
            continue;
        }
        let at = path.child("valueExpression");
        if one.value_expression.is_empty() {
            errors.required(&at, "");
            continue;
        }
        let compiled = compile(&over_claims(), &one.value_expression, &[], &at, errors);
        out.extend(compiled.map(|expression| (key.to_owned(), expression)));
    }
    out
}

/// A domain, a slash, and a path, none of it the project's own.
fn check_key(key: &str, at: &Path, errors: &mut ErrorList) {
    match key.split_once('/') {
        _ if key.is_empty() => errors.required(at, ""),
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
            for why in names::dns1123_subdomain(domain) {
                errors.invalid(at, domain, why);
            }
            for why in names::http_path(rest) {
                errors.invalid(at, rest, why);
            }
        }
        _ => {
            let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.invalid(at, key, why);
        }
    }
    if key != key.to_lowercase() {
        errors.invalid(at, key, "must be lowercase");
    }
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let own = ["kubernetes.io", "k8s.io"].iter().any(|own| {
        let rest = domain.strip_suffix(own);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    });
    if own {
        let why = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
        errors.invalid(at, key, why);
    }
}

fn read_user_rules(all: &[UserRule], path: &Path, errors: &mut ErrorList) -> Vec<Rule> {
    let mut out = Vec::new();
    for (index, rule) in all.iter().enumerate() {
        let at = path.index(index).child("expression");
        let text = rule.expression.as_str();
        if text.is_empty() {
            errors.required(&at, "");
        } else if all[..index].iter().any(|other| other.expression == text) {
            errors.duplicate(&at, text);
        } else {
            let compiled = compile(&over_user(), text, &[Type::Bool], &at, errors);
            out.extend(compiled.map(|expression| Rule {
                expression,
                message: rule.message.clone(),
            }));
        }
    }
    out
}
