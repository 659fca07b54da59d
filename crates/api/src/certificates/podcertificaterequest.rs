//! PodCertificateRequest: a kubelet asks a signer for a certificate on behalf of a pod.
//!
//! The specification never changes. The status is written once, by somebody who may sign for the signer: with a certificate
//! for the very key of the request, or with a refusal.
//! Upstream: `pkg/registry/certificates/podcertificaterequest`, `pkg/apis/certificates/validation`.

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{
    PodCertificateRequest as Typed, PodCertificateRequestSpec, PodCertificateRequestStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use machinery::certificate::{self, Leaf, Request};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names, time};

use super::certificatesigningrequest::validate_signer_name;
use crate::check::{self, ErrorListExt};
use crate::columns;
use crate::kind::{Context, Kind, Names, Part, Scope, Subresource, dns_subdomain};
use crate::view::{Items, OrEmpty, fill_with, format_labels};

const ISSUED: &str = "Issued";
const DENIED: &str = "Denied";
const FAILED: &str = "Failed";
const UID_MAX: usize = 128;
const REQUEST_MAX: usize = 10 * 1024;
const CHAIN_MAX: usize = 100 * 1024;
const ANNOTATIONS_MAX: usize = 256 * 1024;
const HOUR: i32 = 3600;
const DAY: i32 = 24 * HOUR;
const LONGEST: i32 = 91 * DAY;
/// How far from now the beginning of a certificate may lie.
const SKEW_SECONDS: i64 = 300;
/// How long after its beginning and before its end a certificate may be renewed at the earliest and latest.
const REFRESH_SECONDS: i64 = 600;

/// The kind `PodCertificateRequest`.
pub struct PodCertificateRequest;

impl Kind for PodCertificateRequest {
    type Object = Typed;
    const NAMES: Names = Names::new(
        "certificates.k8s.io",
        "v1",
        "PodCertificateRequest",
        "podcertificaterequests",
        "podcertificaterequest",
    );
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const STATUS_RESETS: &'static [&'static [&'static str]] = crate::kind::METADATA_AND_SPEC;
    const UNCONDITIONAL_UPDATE: bool = false;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "PodName",
            "podName is the name of the pod into which the certificate will be mounted.",
        ),
        columns::text(
            "ServiceAccountName",
            "serviceAccountName is the name of the service account the pod is running as.",
        ),
        columns::text(
            "NodeName",
            "nodeName is the name of the node the pod is assigned to.",
        ),
        columns::text(
            "SignerName",
            "signerName indicates the requested signer.\n\nAll signer names beginning with `kubernetes.io` are reserved for use by the Kubernetes project.  There is currently one well-known signer documented by the Kubernetes project, `kubernetes.io/kube-apiserver-client-pod`, which will issue client certificates understood by kube-apiserver.  It is currently unimplemented.",
        ),
        columns::text(
            "State",
            "Is the request Pending, Issued, Denied, or Failed?",
        ),
        columns::text(
            "UnverifiedUserAnnotations",
            "unverifiedUserAnnotations allow pod authors to pass additional information to the signer implementation.  Kubernetes does not restrict or validate this metadata in any way.\n\nEntries are subject to the same validation as object metadata annotations, with the addition that all keys must be domain-prefixed. No restrictions are placed on values, except an overall size limitation on the entire field.\n\nSigners should document the keys and values they support.  Signers should deny requests that contain keys they do not recognize.",
        ),
    ];
    const SELECTABLE: &'static [&'static str] =
        &["spec.signerName", "spec.podName", "spec.nodeName"];

    fn default(object: &mut Typed) {
        fill_with(&mut object.spec.max_expiration_seconds, DAY);
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        new.0.remove("status");
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        spec(&mut errors, &new.spec);
        errors
    }

    fn validate_update(context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        if part == Part::Main {
            errors.immutable(&Path::new("spec"), &new.spec, &old.spec);
            return errors;
        }
        status(&mut errors, context, new, old);
        let changed = !check::same(&new.status, &old.status);
        let signer = &old.spec.signer_name;
        if errors.is_empty() && changed && !may_sign(context, signer) {
            let why = format!(
                "User {:?} is not permitted to \"sign\" for signer {signer:?}",
                context.user
            );
            errors.forbidden(&Path::new("spec").child("signerName"), why);
        }
        errors
    }

    fn selectable_fields(object: &Object) -> Vec<(&'static str, String)> {
        let at = |key: &str| object.str_at(&["spec", key]).to_owned();
        vec![
            ("spec.signerName", at("signerName")),
            ("spec.podName", at("podName")),
            ("spec.nodeName", at("nodeName")),
        ]
    }

    fn row(object: &Typed, tree: &Object, _now: Timestamp) -> Row {
        let spec = &object.spec;
        let known = |c: &&Condition| [ISSUED, DENIED, FAILED].contains(&c.type_.as_str());
        let state = conditions(object).iter().rfind(known);
        let annotations = spec.unverified_user_annotations.iter().flatten();
        Row::from(vec![
            tree.name().into(),
            spec.pod_name.as_str().into(),
            spec.service_account_name.as_str().into(),
            spec.node_name.as_str().into(),
            spec.signer_name.as_str().into(),
            state.map_or("Pending", |c| c.type_.as_str()).into(),
            format_labels(annotations).into(),
        ])
    }
}

fn may_sign(context: &Context, signer: &str) -> bool {
    context.surroundings.may_for_signer("sign", signer)
}

fn spec(errors: &mut ErrorList, spec: &PodCertificateRequestSpec) {
    let path = Path::new("spec");
    validate_signer_name(errors, &path.child("signerName"), &spec.signer_name);
    if let Some(annotations) = &spec.unverified_user_annotations {
        let at = path.child("unverifiedUserAnnotations");
        for key in annotations.keys() {
            domain_prefixed(errors, &at, &key.to_lowercase());
        }
        let size = annotations.iter().map(|(k, v)| k.len() + v.len());
        if size.sum::<usize>() > ANNOTATIONS_MAX {
            errors.too_long(&at, ANNOTATIONS_MAX);
        }
    }
    for (what, name, uid) in [
        ("pod", &spec.pod_name, &spec.pod_uid),
        (
            "serviceAccount",
            &spec.service_account_name,
            &spec.service_account_uid,
        ),
        ("node", &spec.node_name, &spec.node_uid),
    ] {
        let at = path.child(&format!("{what}Name"));
        errors.invalid_each(&at, name, dns_subdomain(name, false));
        let at = path.child(&format!("{what}UID"));
        if uid.is_empty() {
            errors.invalid(&at, uid.as_str(), "must not be empty");
        }
        if uid.len() > UID_MAX {
            errors.too_long(&at, UID_MAX);
        }
    }
    let at = path.child("maxExpirationSeconds");
    let Some(seconds) = spec.max_expiration_seconds else {
        return errors.required(&at, "must be set");
    };
    let most = longest_of(&spec.signer_name);
    if !(HOUR..=most).contains(&seconds) {
        errors.invalid(
            &at,
            seconds,
            format!("must be in the range [{HOUR}, {most}]"),
        );
    }
    request(errors, &path, &spec.stub_pkc_s10_request.0);
}

/// For how many seconds a certificate of a signer may be asked for.
pub(crate) fn longest_of(signer: &str) -> i32 {
    match is_kubernetes(signer) {
        true => DAY,
        false => LONGEST,
    }
}

/// Whether the project itself speaks for a signer.
fn is_kubernetes(signer: &str) -> bool {
    let host = signer.split('/').next().unwrap_or_default();
    host == "kubernetes.io" || host.ends_with(".kubernetes.io")
}

fn domain_prefixed(errors: &mut ErrorList, path: &Path, key: &str) {
    if !errors.required_text(path, key, "") {
        return;
    }
    let problems = names::label_key(key);
    if problems.is_empty() && !key.contains('/') {
        let detail = "must be a domain-prefixed key (such as \"acme.io/foo\")";
        errors.invalid(path, key, detail);
    }
    errors.invalid_each(path, key, problems);
}

fn request(errors: &mut ErrorList, path: &Path, der: &[u8]) {
    if der.is_empty() {
        let detail =
            "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set";
        return errors.invalid_unshown(path, detail);
    }
    let at = path.child("stubPKCS10Request");
    if der.len() > REQUEST_MAX {
        return errors.too_long(&at, REQUEST_MAX);
    }
    let Ok(request) = Request::parse_der(der) else {
        return errors.invalid_unshown(&at, "must be a valid PKCS#10 CSR");
    };
    match certificate::pod_key_problem(&request.key_der) {
        Some((Some(shown), detail)) => errors.invalid(&at, shown, detail),
        Some((None, detail)) => errors.invalid_unshown(&at, detail),
        None if !request.is_signed => errors.invalid_unshown(&at, "invalid signature"),
        None => {}
    }
}

fn conditions(object: &Typed) -> &[Condition] {
    object.status.as_ref().map_or(&[], |s| s.conditions.items())
}

fn has(object: &Typed, types: &[&str]) -> bool {
    let mut all = conditions(object).iter();
    all.any(|c| types.contains(&c.type_.as_str()) && c.status == "True")
}

fn status(errors: &mut ErrorList, context: &Context, new: &Typed, old: &Typed) {
    let path = Path::new("status");
    known_conditions(errors, &path.child("conditions"), conditions(new));
    check::conditions(errors, &path.child("conditions"), conditions(new));
    if !errors.is_empty() {
        return;
    }
    let changed = !check::same(&new.status, &old.status);
    if has(old, &[ISSUED, DENIED, FAILED]) {
        if changed {
            let detail = "immutable after PodCertificateRequest is issued, denied, or failed";
            errors.invalid_unshown(&path, detail);
        }
    } else if has(new, &[DENIED, FAILED]) {
        let only = PodCertificateRequestStatus {
            conditions: Some(conditions(new).to_vec()),
            ..PodCertificateRequestStatus::default()
        };
        if !check::same(&new.status, &Some(only)) {
            let detail = "non-condition status fields must be empty when denying or failing the PodCertificateRequest";
            errors.invalid_unshown(&path, detail);
        }
    } else if has(new, &[ISSUED]) {
        issued(
            errors,
            context,
            &new.status.clone().unwrap_or_default(),
            &old.spec,
        );
    } else if changed {
        let detail =
            "status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"";
        errors.invalid_unshown(&path, detail);
    }
}

fn known_conditions(errors: &mut ErrorList, path: &Path, conditions: &[Condition]) {
    for (i, condition) in conditions.iter().enumerate() {
        // As upstream spells it: the index is a field of its own.
        let at = path.child(&format!("[{i}]"));
        let known: &[&str] = &[ISSUED, DENIED, FAILED];
        if !known.contains(&condition.type_.as_str()) {
            errors.not_supported(&at.child("type"), condition.type_.as_str(), known);
            continue;
        }
        let before = &conditions[..i];
        if before.iter().any(|c| known.contains(&c.type_.as_str())) {
            let detail = "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"";
            errors.invalid(&at.child("type"), condition.type_.as_str(), detail);
        }
        errors.one_of(&at.child("status"), &condition.status, &["True"]);
    }
}

/// The first problem of what was issued.
fn issued(
    errors: &mut ErrorList,
    context: &Context,
    status: &PodCertificateRequestStatus,
    spec: &PodCertificateRequestSpec,
) {
    let path = Path::new("status");
    let at = path.child("certificateChain");
    let chain = status.certificate_chain.text();
    if chain.len() > CHAIN_MAX {
        return errors.too_long(&at, CHAIN_MAX);
    }
    let leaf = match Leaf::of_chain(chain.as_bytes()) {
        Ok(leaf) => leaf,
        Err(why) => return errors.invalid(&at, chain, why),
    };
    let wanted = Request::parse_der(&spec.stub_pkc_s10_request.0);
    if wanted.is_ok_and(|wanted| wanted.key_der != leaf.key_der) {
        let detail = "leaf certificate was not issued to the requested public key";
        return errors.invalid(&at, chain, detail);
    }
    names_of(errors, &at, &leaf);
    let consistent = "must be present and consistent with the issued certificate";
    let refresh = "must be present and in the range [notbefore+10min, notafter-10min]";
    let mut moment = |field: &str, time: &Option<Time>, detail: &str| {
        if time.is_none() {
            errors.required(&path.child(field), detail);
        }
        time.as_ref().map(|t| t.0.as_second())
    };
    let times = (
        moment("notBefore", &status.not_before, consistent),
        moment("notAfter", &status.not_after, consistent),
        moment("beginRefreshAt", &status.begin_refresh_at, refresh),
    );
    if let (Some(before), Some(after), Some(refresh)) = times
        && errors.is_empty()
    {
        let now = context.now.as_second();
        let problem = time_problem(&leaf, spec, now, (before, after, refresh));
        if let Some((field, shown, detail)) = problem {
            errors.invalid(&path.child(field), shown, detail);
        }
    }
}

fn names_of(errors: &mut ErrorList, path: &Path, leaf: &Leaf) {
    for name in &leaf.dns_names {
        let name = name.as_str();
        if name.is_empty() {
            errors.invalid(
                path,
                name,
                "leaf certificate should not contain empty DNSName",
            );
        }
        if name.contains("..") {
            errors.invalid(
                path,
                name,
                "leaf certificate's DNSName should not contain '..'",
            );
        }
        if name.starts_with('.') || name.ends_with('.') {
            let detail = "leaf certificate's DNSName should not start or end with '.'";
            errors.invalid(path, name, detail);
        }
    }
}

type Problem = (&'static str, String, String);

fn time_problem(
    leaf: &Leaf,
    spec: &PodCertificateRequestSpec,
    now: i64,
    (before, after, refresh): (i64, i64, i64),
) -> Option<Problem> {
    let shown = |seconds: i64| {
        Timestamp::from_second(seconds)
            .map(time::rfc3339)
            .unwrap_or_default()
    };
    let wrong = |field, seconds, detail: &str| Some((field, shown(seconds), detail.to_owned()));
    if before != leaf.not_before {
        let detail = "must be set to the NotBefore time encoded in the leaf certificate";
        return wrong("notBefore", before, detail);
    }
    if (before - now).abs() >= SKEW_SECONDS {
        let detail = "must be set to within 5 minutes of kube-apiserver's current time";
        return wrong("notBefore", before, detail);
    }
    if after != leaf.not_after {
        let detail = "must be set to the NotAfter time encoded in the leaf certificate";
        return wrong("notAfter", after, detail);
    }
    let lifetime = leaf.not_after - leaf.not_before;
    let most = spec.max_expiration_seconds.unwrap_or(DAY);
    let lived = |detail: String| Some(("certificateChain", format!("{lifetime}s"), detail));
    if lifetime < i64::from(HOUR) {
        return lived("leaf certificate lifetime must be >= 1 hour".to_owned());
    }
    if lifetime > i64::from(most) {
        return lived(format!(
            "leaf certificate lifetime must be <= spec.maxExpirationSeconds ({most})"
        ));
    }
    if refresh < before + REFRESH_SECONDS {
        let detail = "must be at least 10 minutes after status.notBefore";
        return wrong("beginRefreshAt", refresh, detail);
    }
    if refresh > after - REFRESH_SECONDS {
        let detail = "must be at least 10 minutes before status.notAfter";
        return wrong("beginRefreshAt", refresh, detail);
    }
    None
}
