//! ClusterTrustBundle: certificates that workloads of the whole cluster may trust, on behalf of a signer or of nobody.
//!
//! Upstream: `pkg/registry/certificates/clustertrustbundle`, `pkg/apis/certificates/validation`.

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::ClusterTrustBundle as Typed;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, certificate};

use super::certificatesigningrequest::validate_signer_name;
use crate::check::ErrorListExt;
use crate::columns;
use crate::kind::{Context, Kind, Names, Part, Scope, dns_subdomain};
use crate::view::OrEmpty;

const MAX_BYTES: usize = 1024 * 1024;

/// The kind `ClusterTrustBundle`.
pub struct ClusterTrustBundle;

impl Kind for ClusterTrustBundle {
    type Object = Typed;
    const NAMES: Names = Names::new(
        "certificates.k8s.io",
        "v1",
        "ClusterTrustBundle",
        "clustertrustbundles",
        "clustertrustbundle",
    );
    const SCOPE: Scope = Scope::Cluster;
    const UNCONDITIONAL_UPDATE: bool = false;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "SignerName",
            "signerName indicates the associated signer, if any.\n\nIn order to create or update a ClusterTrustBundle that sets signerName, you must have the following cluster-scoped permission: group=certificates.k8s.io resource=signers resourceName=<the signer name> verb=attest.\n\nIf signerName is not empty, then the ClusterTrustBundle object must be named with the signer name as a prefix (translating slashes to colons). For example, for the signer name `example.com/foo`, valid ClusterTrustBundle object names include `example.com:foo:abc` and `example.com:foo:v1`.\n\nIf signerName is empty, then the ClusterTrustBundle object's name must not have such a prefix.\n\nList/watch requests for ClusterTrustBundles can filter on this field using a `spec.signerName=NAME` field selector.",
        ),
    ];
    const SELECTABLE: &'static [&'static str] = &["spec.signerName"];

    /// The name follows from the signer: it is looked at together with it.
    fn validate_name(_name: &str, _prefix: bool) -> Vec<String> {
        Vec::new()
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        validate(new, true)
    }

    fn validate_update(_context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = validate(new, new.spec.trust_bundle != old.spec.trust_bundle);
        let path = Path::new("spec").child("signerName");
        let signer = |bundle: &Typed| bundle.spec.signer_name.text().to_owned();
        errors.immutable(&path, &signer(new), &signer(old));
        errors
    }

    fn selectable_fields(object: &Object) -> Vec<(&'static str, String)> {
        let signer = object.str_at(&["spec", "signerName"]).to_owned();
        vec![("spec.signerName", signer)]
    }

    fn row(object: &Typed, tree: &Object, _now: Timestamp) -> Row {
        let signer = match object.spec.signer_name.text() {
            "" => "<none>",
            signer => signer,
        };
        Row::from(vec![tree.name().into(), signer.into()])
    }
}

fn validate(bundle: &Typed, look_inside: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let signer = bundle.spec.signer_name.text();
    let name = bundle.metadata.name.text();
    let at = Path::new("metadata").child("name");
    if !name.is_empty() {
        errors.invalid_each(&at, name, name_problems(name, signer));
    }
    let path = Path::new("spec");
    if !signer.is_empty() {
        validate_signer_name(&mut errors, &path.child("signerName"), signer);
    }
    let at = path.child("trustBundle");
    let pem = bundle.spec.trust_bundle.as_bytes();
    if look_inside && pem.len() > MAX_BYTES {
        errors.too_long(&at, MAX_BYTES);
    } else if look_inside {
        for why in certificate::trust_problems(pem) {
            errors.invalid(&at, "<value omitted>", why);
        }
    }
    errors
}

fn name_problems(name: &str, signer: &str) -> Vec<String> {
    if signer.is_empty() {
        if name.contains(':') {
            let why = "ClusterTrustBundle without signer name must not have \":\" in its name";
            return vec![why.to_owned()];
        }
        return dns_subdomain(name, false);
    }
    let prefix = format!("{}:", signer.replace('/', ":"));
    match name.strip_prefix(&prefix) {
        Some(rest) => dns_subdomain(rest, false),
        None => vec![format!(
            "ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
        )],
    }
}
