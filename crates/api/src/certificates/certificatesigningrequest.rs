//! CertificateSigningRequest: somebody asks a signer for a certificate; somebody else approves.
//!
//! Who asks is noted by the server. Nothing but labels and the like changes afterwards, except through `approval` (the
//! conditions Approved and Denied) and `status` (the certificate and the other conditions).
//! Upstream: `pkg/registry/certificates/certificates`, `pkg/apis/certificates/validation`.

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest as Typed, CertificateSigningRequestCondition as Condition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use machinery::table::{Column, Row};
use machinery::{ErrorList, FieldError, Object, Path, certificate, names};
use serde_json::{Value, json};

use crate::check::{ErrorListExt, json};
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::Items;

/// The signer of old that signs whatever it is given.
pub const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";
const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
const FAILED: &str = "Failed";
const MIN_EXPIRATION_SECONDS: i32 = 600;

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// The kind `CertificateSigningRequest`.
pub struct CertificateSigningRequest;

impl Kind for CertificateSigningRequest {
    type Object = Typed;
    const NAMES: Names = Names::new(
        "certificates.k8s.io",
        "v1",
        "CertificateSigningRequest",
        "certificatesigningrequests",
        "certificatesigningrequest",
    )
    .short(&["csr"]);
    const SCOPE: Scope = Scope::Cluster;
    const RESETS: &'static [&'static [&'static str]] = &[&["spec"], &["status"]];
    const STATUS_RESETS: &'static [&'static [&'static str]] =
        &[&["spec"], &["status", "conditions"]];
    const SUBRESOURCES: &'static [Subresource] = &[
        Subresource::Part(Part::Approval),
        Subresource::Part(Part::Status),
    ];
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::AGE,
        columns::text("SignerName", "Requested signer for the request. It is a qualified name in \
                                     the form: `scope-hostname.io/name`. If empty, it will be \
                                     defaulted:
 1. If it's a kubelet client certificate, it is \
                                     assigned
    \"kubernetes.io/kube-apiserver-client-kubelet\".
 \
                                     2. If it's a kubelet serving certificate, it is assigned
    \
                                     \"kubernetes.io/kubelet-serving\".
 3. Otherwise, it is \
                                     assigned \"kubernetes.io/legacy-unknown\".
Distribution of \
                                     trust for signers happens out of band. You can select on this \
                                     field using `spec.signerName`."),
        columns::text("Requestor", "Base64-encoded PKCS#10 CSR data"),
        columns::text(
            "RequestedDuration",
            "expirationSeconds is the requested duration of validity of the issued certificate. The \
             certificate signer may issue a certificate with a different validity duration so a \
             client must check the delta between the notBefore and and notAfter fields in the \
             issued certificate to determine the actual duration.

The v1.22+ in-tree \
             implementations of the well-known Kubernetes signers will honor this field as long as \
             the requested duration is not greater than the maximum duration they will honor per \
             the --cluster-signing-duration CLI flag to the Kubernetes controller \
             manager.

Certificate signers may not honor this field for various reasons:

  1. Old \
             signer that is unaware of the field (such as the in-tree
     implementations prior to \
             v1.22)
  2. Signer whose configured maximum is shorter than the requested duration
  \
             3. Signer whose configured minimum is longer than the requested duration

The minimum \
             valid value for expirationSeconds is 600, i.e. 10 minutes.",
        ),
        columns::text(
            "Condition",
            "Conditions applied to the request, such as approval or denial.",
        ),
    ];
    const SELECTABLE: &'static [&'static str] = &["spec.signerName"];

    fn prepare_create(context: &Context, new: &mut Object) {
        let who = &context.requester;
        let mut set = |key: &str, value: Option<Value>| kind::set_at(new, &["spec"], key, value);
        let text = |text: &str| (!text.is_empty()).then(|| Value::from(text));
        set("username", text(&context.user));
        set("uid", text(&who.uid));
        set(
            "groups",
            (!who.groups.is_empty()).then(|| json!(who.groups)),
        );
        set("extra", (!who.extra.is_empty()).then(|| json!(who.extra)));
        new.0.insert("status".into(), json!({}));
    }

    fn prepare_update(context: &Context, part: Part, new: &mut Object, old: &Object) {
        kind::set_or_remove(new, "spec", old.0.get("spec").cloned());
        match part {
            Part::Status => {
                keep_decisions(new, old);
                fill_times(context, new, old);
            }
            Part::Approval => {
                fill_times(context, new, old);
                let conditions = new.at(&["status", "conditions"]).cloned();
                kind::set_or_remove(new, "status", old.0.get("status").cloned());
                kind::set_at(new, &["status"], "conditions", conditions);
            }
            _ => kind::set_or_remove(new, "status", old.0.get("status").cloned()),
        }
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        validate(new, None)
    }

    fn correct(errors: &mut ErrorList, new: &Object) {
        let request = new.at(&["spec", "request"]);
        let is_it = |e: &&mut FieldError| e.path.to_string() == "spec.request";
        for error in errors.0.iter_mut().filter(is_it) {
            if error.value == Some(Value::Null) && request.is_some_and(|r| r == "") {
                error.value = Some(json!(""));
            }
        }
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = validate(new, Some(old));
        validate_changes(&mut errors, part, new, old);
        errors
    }

    /// Any name that a path can hold.
    fn validate_name(_name: &str, _prefix: bool) -> Vec<String> {
        Vec::new()
    }

    fn selectable_fields(object: &Object) -> Vec<(&'static str, String)> {
        let signer = object.str_at(&["spec", "signerName"]).to_owned();
        vec![("spec.signerName", signer)]
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let spec = &object.spec;
        let signer = match spec.signer_name.as_str() {
            "" => "<none>",
            signer => signer,
        };
        let duration = spec.expiration_seconds.map_or("<none>".to_owned(), |s| {
            machinery::time::human_duration(jiff::SignedDuration::from_secs(s.into()))
        });
        Row::from(vec![
            tree.name().into(),
            kind::age(tree, now).into(),
            signer.into(),
            spec.username.clone().unwrap_or_default().into(),
            duration.into(),
            state(object).into(),
        ])
    }
}

fn state(object: &Typed) -> String {
    let has = |type_: &str| !find(object, type_).is_empty();
    let mut state = match (has(DENIED), has(APPROVED)) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_owned();
    if has(FAILED) {
        state.push_str(",Failed");
    }
    if !certificate_of(object).is_empty() {
        state.push_str(",Issued");
    }
    state
}

fn conditions(object: &Typed) -> &[Condition] {
    object.status.as_ref().map_or(&[], |s| s.conditions.items())
}

fn find<'a>(object: &'a Typed, type_: &str) -> Vec<&'a Condition> {
    let all = conditions(object).iter();
    all.filter(|c| c.type_ == type_).collect()
}

fn certificate_of(object: &Typed) -> &[u8] {
    let certificate = object.status.as_ref().and_then(|s| s.certificate.as_ref());
    certificate.map_or(&[], |c| &c.0)
}

fn tree_conditions(object: &mut Object) -> Option<&mut Vec<Value>> {
    object
        .0
        .get_mut("status")?
        .get_mut("conditions")?
        .as_array_mut()
}

/// A write to `status` leaves the decisions as they are; adding or removing one is an error later on.
fn keep_decisions(new: &mut Object, old: &Object) {
    let old = old.at(&["status", "conditions"]).and_then(Value::as_array);
    let Some(conditions) = tree_conditions(new) else {
        return;
    };
    for type_ in [APPROVED, DENIED] {
        let of_type = |c: &&Value| c["type"] == type_;
        let before: Vec<&Value> = old.into_iter().flatten().filter(of_type).collect();
        let now: Vec<&mut Value> = conditions
            .iter_mut()
            .filter(|c| c["type"] == type_)
            .collect();
        if now.len() == before.len() {
            now.into_iter()
                .zip(before)
                .for_each(|(n, b)| n.clone_from(b));
        }
    }
}

/// Fills in when conditions were written and when they became what they are.
fn fill_times(context: &Context, new: &mut Object, old: &Object) {
    let now = Value::from(machinery::time::rfc3339(context.now));
    let old = old.at(&["status", "conditions"]).and_then(Value::as_array);
    for condition in tree_conditions(new).into_iter().flatten() {
        if !condition.is_object() {
            continue;
        }
        if condition["lastUpdateTime"].is_null() {
            condition["lastUpdateTime"] = now.clone();
        }
        if condition["lastTransitionTime"].is_null() {
            let same = |c: &&Value| {
                c["type"] == condition["type"]
                    && c["status"] == condition["status"]
                    && !c["lastTransitionTime"].is_null()
            };
            let before = old.into_iter().flatten().find(same);
            condition["lastTransitionTime"] =
                before.map_or(now.clone(), |c| c["lastTransitionTime"].clone());
        }
    }
}

/// What is wrong with the whole object; what was wrong before is tolerated.
fn validate(new: &Typed, old: Option<&Typed>) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (&new.spec, Path::new("spec"));
    let request = certificate::Request::parse(&spec.request.0);
    let problem = match request {
        Ok(request) if request.is_signed => None,
        Ok(_) => Some("the signature does not fit the public key".to_owned()),
        Err(why) => Some(why),
    };
    if let Some(why) = problem {
        let shown = match spec.request.0.is_empty() {
            true => serde_json::Value::Null,
            false => json(&spec.request),
        };
        errors.invalid(&path.child("request"), shown, why);
    }
    validate_usages(&mut errors, &path.child("usages"), new, old);
    let at = path.child("signerName");
    let was_legacy = old.is_some_and(|old| old.spec.signer_name == LEGACY_UNKNOWN);
    if spec.signer_name == LEGACY_UNKNOWN && !was_legacy {
        let detail = "the legacy signerName is not allowed via this API version";
        errors.invalid(&at, spec.signer_name.as_str(), detail);
    } else {
        validate_signer_name(&mut errors, &at, &spec.signer_name);
    }
    if let Some(seconds) = spec
        .expiration_seconds
        .filter(|s| *s < MIN_EXPIRATION_SECONDS)
    {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.invalid(&path.child("expirationSeconds"), seconds, detail);
    }
    validate_conditions(&mut errors, new, old);
    let old_certificate = old.map(certificate_of);
    let tolerated = old_certificate
        .is_some_and(|old| old == certificate_of(new) || certificate::check_chain(old).is_err());
    if !tolerated && let Err(why) = certificate::check_chain(certificate_of(new)) {
        let at = Path::new("status").child("certificate");
        errors.invalid(&at, "<certificate data>", why);
    }
    errors
}

fn validate_usages(errors: &mut ErrorList, path: &Path, new: &Typed, old: Option<&Typed>) {
    let usages = new.spec.usages.items();
    if usages.is_empty() {
        errors.required(path, "");
    }
    let old = old.map(|old| old.spec.usages.items());
    let unknown = |usages: &[String]| usages.iter().any(|u| !USAGES.contains(&u.as_str()));
    if !old.is_some_and(unknown) {
        for (i, usage) in usages.iter().enumerate() {
            errors.one_of(&path.index(i), usage, USAGES);
        }
    }
    let twice = |usages: &[String], i: usize| usages[..i].contains(&usages[i]);
    if !old.is_some_and(|old| (0..old.len()).any(|i| twice(old, i))) {
        for (i, usage) in usages.iter().enumerate() {
            if twice(usages, i) {
                errors.duplicate(&path.index(i), usage.as_str());
            }
        }
    }
}

/// A domain and a path below it.
pub fn validate_signer_name(errors: &mut ErrorList, path: &Path, signer: &str) {
    if !errors.required_text(path, signer, "") {
        return;
    }
    let segments: Vec<&str> = signer.split('/').collect();
    let [domain, rest] = segments[..] else {
        let detail =
            "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.invalid(path, signer, detail);
        return;
    };
    if domain.len() > 253 {
        errors.too_long(path, 253);
    }
    let labels: Vec<&str> = domain.split('.').collect();
    first_problem(errors, path, domain, &labels, names::dns1123_label);
    if labels.len() < 2 {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.invalid(path, domain, detail);
    }
    let labels: Vec<&str> = rest.split('.').collect();
    first_problem(errors, path, rest, &labels, names::dns1123_subdomain);
    if signer.len() > 571 {
        errors.too_long(path, 571);
    }
}

fn first_problem(
    errors: &mut ErrorList,
    path: &Path,
    segment: &str,
    labels: &[&str],
    check: fn(&str) -> Vec<String>,
) {
    let mut bad = labels.iter().map(|label| (label, check(label)));
    if let Some((label, problems)) = bad.find(|(_, problems)| !problems.is_empty()) {
        for problem in problems {
            errors.invalid(
                path,
                segment,
                format!("validating label {label:?}: {problem}"),
            );
        }
    }
}

fn validate_conditions(errors: &mut ErrorList, new: &Typed, old: Option<&Typed>) {
    let path = Path::new("status").child("conditions");
    let had = |test: fn(&[Condition]) -> bool| old.is_some_and(|old| test(conditions(old)));
    let decided = |all: &[Condition]| {
        let has = |t: &str| all.iter().any(|c| c.type_ == t);
        has(APPROVED) && has(DENIED)
    };
    let doubles = |all: &[Condition]| {
        (0..all.len()).any(|i| all[..i].iter().any(|c| c.type_ == all[i].type_))
    };
    let (both, twice) = (had(decided), had(doubles));
    let empty = had(|all| all.iter().any(|c| c.type_.is_empty()));
    let all = conditions(new);
    for (i, condition) in all.iter().enumerate() {
        let (at, type_) = (path.index(i), condition.type_.as_str());
        if type_.is_empty() && !empty {
            errors.required(&at.child("type"), "");
        }
        let allowed: &[&str] = match type_ {
            APPROVED | DENIED | FAILED => &["True"],
            _ => &["False", "True", "Unknown"],
        };
        if errors.required_text(&at.child("status"), &condition.status, "") {
            errors.one_of(&at.child("status"), &condition.status, allowed);
        }
        let other = match type_ {
            APPROVED => DENIED,
            DENIED => APPROVED,
            _ => "",
        };
        let before = &all[..i];
        if !both && !other.is_empty() && before.iter().any(|c| c.type_ == other) {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.invalid(&path, type_, detail);
        }
        if !twice && before.iter().any(|c| c.type_ == type_) {
            errors.duplicate(&at.child("type"), type_);
        }
    }
}

/// What may not change through this part.
fn validate_changes(errors: &mut ErrorList, part: Part, new: &Typed, old: &Typed) {
    let path = Path::new("status").child("conditions");
    for type_ in [APPROVED, DENIED, FAILED] {
        if find(new, type_).len() < find(old, type_).len() {
            let detail = format!("updates may not remove a condition of type {type_:?}");
            errors.forbidden(&path, detail);
        }
    }
    if part != Part::Approval {
        for type_ in [APPROVED, DENIED] {
            let (now, before) = (find(new, type_), find(old, type_));
            if now.len() > before.len() {
                let detail = format!("updates may not add a condition of type {type_:?}");
                errors.forbidden(&path, detail);
            } else if now.len() == before.len() && !same(&now, &before) {
                let detail = format!("updates may not modify a condition of type {type_:?}");
                errors.forbidden(&path, detail);
            }
        }
    }
    if certificate_of(new) != certificate_of(old) {
        let at = Path::new("status").child("certificate");
        if part != Part::Status {
            errors.forbidden(&at, "updates may not set certificate content");
        } else if !certificate_of(old).is_empty() {
            errors.forbidden(&at, "updates may not modify existing certificate content");
        }
    }
}

fn same(a: &[&Condition], b: &[&Condition]) -> bool {
    let seconds = |t: &Option<Time>| t.as_ref().map(|t| t.0.as_second());
    let equal = |(a, b): (&&Condition, &&Condition)| {
        a.status == b.status
            && a.reason == b.reason
            && a.message == b.message
            && seconds(&a.last_update_time) == seconds(&b.last_update_time)
            && seconds(&a.last_transition_time) == seconds(&b.last_transition_time)
    };
    a.len() == b.len() && a.iter().zip(b).all(equal)
}

#[cfg(test)]
mod tests;
