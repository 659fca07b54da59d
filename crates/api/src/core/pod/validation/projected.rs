//! Projected volumes: several sources in one directory.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    ClusterTrustBundleProjection, PodCertificateProjection, ProjectedVolumeSource, VolumeProjection,
};
use machinery::{ErrorList, Path};

use super::local_non_reserved_path;
use super::volumes::{downward_file, key_to_path, mode, user};
use crate::certificates::podcertificaterequest::longest_of;
use crate::check::{self, ErrorListExt};
use crate::view::Items;

const DUPLICATE_PATH: &str = "conflicting duplicate paths";

pub(super) fn projected(errors: &mut ErrorList, path: &Path, source: &ProjectedVolumeSource) {
    mode(errors, &path.child("defaultMode"), source.default_mode);
    user(errors, &path.child("defaultUser"), source.default_user);
    let mut paths = BTreeSet::new();
    for (i, projection) in source.sources.items().iter().enumerate() {
        let at = path.child("sources").index(i);
        let count = projection_sources(errors, path, &at, projection, &mut paths);
        if count > 1 {
            errors.forbidden(&at, "may not specify more than 1 volume type per source");
        }
    }
}

/// The errors of one projection; how many sources it has.
fn projection_sources<'a>(
    errors: &mut ErrorList,
    path: &Path,
    at: &Path,
    projection: &'a VolumeProjection,
    paths: &mut BTreeSet<&'a str>,
) -> usize {
    let mut count = 0;
    let named = [
        (
            "secret",
            projection.secret.as_ref().map(|s| (&s.name, &s.items)),
        ),
        (
            "configMap",
            projection.config_map.as_ref().map(|c| (&c.name, &c.items)),
        ),
    ];
    for (key, source) in named {
        let Some((name, items)) = source else {
            continue;
        };
        count += 1;
        errors.required_text(&at.child(key).child("name"), name, "");
        for (i, item) in items.items().iter().enumerate() {
            key_to_path(errors, &at.child(key).child("items").index(i), item);
            if !item.path.is_empty() && !paths.insert(&item.path) {
                errors.invalid(path, name.as_str(), DUPLICATE_PATH);
            }
        }
    }
    for file in projection.downward_api.iter().flat_map(|d| d.items.items()) {
        downward_file(errors, &at.child("downwardAPI"), file);
        if !file.path.is_empty() && !paths.insert(&file.path) {
            errors.invalid(path, file.path.as_str(), DUPLICATE_PATH);
        }
    }
    count += usize::from(projection.downward_api.is_some());
    if let Some(token) = &projection.service_account_token {
        count += 1;
        let at = at.child("serviceAccountToken");
        expiration(
            errors,
            &at.child("expirationSeconds"),
            token.expiration_seconds,
        );
        if errors.required_text(&path.child("path"), &token.path, "") {
            local_non_reserved_path(errors, &path.child("path"), &token.path);
        }
        user(errors, &at.child("user"), token.user);
    }
    count + bundle_and_certificate(errors, path, at, projection, paths)
}

fn expiration(errors: &mut ErrorList, path: &Path, seconds: Option<i64>) {
    match seconds {
        None => errors.required(path, ""),
        Some(seconds) if seconds < 600 => {
            errors.invalid(
                path,
                seconds,
                "may not specify a duration less than 10 minutes",
            );
        }
        Some(seconds) if seconds > 1 << 32 => {
            errors.invalid(
                path,
                seconds,
                "may not specify a duration larger than 2^32 seconds",
            );
        }
        Some(_) => {}
    }
}

fn bundle_and_certificate<'a>(
    errors: &mut ErrorList,
    path: &Path,
    at: &Path,
    projection: &'a VolumeProjection,
    paths: &mut BTreeSet<&'a str>,
) -> usize {
    let mut claim = |errors: &mut ErrorList, target: &'a str| {
        if !paths.insert(target) {
            errors.invalid(path, target, DUPLICATE_PATH);
        }
    };
    if let Some(source) = &projection.cluster_trust_bundle {
        bundle(errors, &at.child("clusterTrustBundle"), source);
        claim(errors, &source.path);
    }
    if let Some(source) = &projection.pod_certificate {
        for target in certificate(errors, &at.child("podCertificate"), source) {
            claim(errors, target);
        }
    }
    usize::from(projection.cluster_trust_bundle.is_some())
        + usize::from(projection.pod_certificate.is_some())
}

fn bundle(errors: &mut ErrorList, at: &Path, bundle: &ClusterTrustBundleProjection) {
    match (&bundle.name, &bundle.signer_name) {
        (Some(_), Some(_)) => {
            let detail = "only one of name and signerName may be used";
            errors.invalid(at, check::json(bundle), detail);
        }
        (Some(name), None) => {
            errors.required_text(&at.child("name"), name, "must be a valid object name");
            if bundle.label_selector.is_some() {
                let detail = "labelSelector must be unset if name is specified";
                let shown = check::json(&bundle.label_selector);
                errors.invalid(&at.child("labelSelector"), shown, detail);
            }
        }
        (None, Some(signer)) => {
            errors.required_text(
                &at.child("signerName"),
                signer,
                "must be a valid signer name",
            );
            let selector = bundle.label_selector.as_ref();
            check::label_selector(errors, &at.child("labelSelector"), selector);
        }
        (None, None) => errors.required(at, "either name or signerName must be specified"),
    }
    errors.required_text(&at.child("path"), &bundle.path, "");
    local_non_reserved_path(errors, &at.child("path"), &bundle.path);
}

/// The kinds of keys that pods may ask for.
pub const KEY_TYPES: [&str; 6] = [
    "RSA3072",
    "RSA4096",
    "ECDSAP256",
    "ECDSAP384",
    "ECDSAP521",
    "ED25519",
];

/// The paths that the certificate and its key take.
fn certificate<'a>(
    errors: &mut ErrorList,
    at: &Path,
    certificate: &'a PodCertificateProjection,
) -> Vec<&'a str> {
    errors.required_text(&at.child("signerName"), &certificate.signer_name, "");
    errors.one_of(&at.child("keyType"), &certificate.key_type, &KEY_TYPES);
    if let Some(seconds) = certificate.max_expiration_seconds {
        let at = at.child("maxExpirationSeconds");
        if seconds < 3600 {
            let detail = "if provided, maxExpirationSeconds must be >= 3600";
            errors.invalid(&at, seconds, detail);
        }
        let most = longest_of(&certificate.signer_name);
        if seconds > most {
            let detail = format!("if provided, maxExpirationSeconds must be <= {most}");
            errors.invalid(&at, seconds, detail);
        }
    }
    let targets = [
        (
            "credentialBundlePath",
            certificate.credential_bundle_path.as_deref(),
        ),
        ("keyPath", certificate.key_path.as_deref()),
        (
            "certificateChainPath",
            certificate.certificate_chain_path.as_deref(),
        ),
    ];
    let mut taken = Vec::new();
    for (key, target) in targets {
        let Some(target) = target.filter(|t| !t.is_empty()) else {
            continue;
        };
        local_non_reserved_path(errors, &at.child(key), target);
        taken.push(target);
    }
    if taken.is_empty() {
        let detail =
            "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.required(at, detail);
    }
    taken
}
