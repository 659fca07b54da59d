//! The certificates that a pod trusts: those of the ClusterTrustBundles that its volume names, each once.
//!
//! Their order says nothing, and is another one in every life of a kubelet, so that nobody comes to rely on it. Upstream:
//! `pkg/kubelet/clustertrustbundle`.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::ClusterTrustBundleProjection;
use machinery::labels::Selector;
use machinery::pem;

const CERTIFICATE: &str = "CERTIFICATE";

/// Whether a projection looks at this bundle, whatever its labels are.
pub fn concerns(projection: &ClusterTrustBundleProjection, bundle: &ClusterTrustBundle) -> bool {
    match (&projection.name, &projection.signer_name) {
        (Some(name), _) => bundle.metadata.name.as_ref() == Some(name),
        (None, Some(signer)) => signer_of(bundle) == signer,
        (None, None) => false,
    }
}

fn signer_of(bundle: &ClusterTrustBundle) -> &str {
    bundle.spec.signer_name.as_deref().unwrap_or_default()
}

/// What a projection brings, as PEM. `order` is the kubelet's own.
///
/// # Errors
/// There is no such bundle, and there has to be one.
pub fn anchors(
    projection: &ClusterTrustBundleProjection,
    bundles: &[Arc<ClusterTrustBundle>],
    order: u64,
) -> Result<Vec<u8>, String> {
    let optional = projection.optional == Some(true);
    let chosen = chosen(projection, bundles)?;
    if chosen.is_empty() && !optional {
        return Err(match &projection.name {
            Some(name) => format!(
                "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"{name}\" not found"
            ),
            None => "combination of signerName and labelSelector matched zero ClusterTrustBundles"
                .to_owned(),
        });
    }
    Ok(merged(&chosen, order))
}

fn chosen<'a>(
    projection: &ClusterTrustBundleProjection,
    bundles: &'a [Arc<ClusterTrustBundle>],
) -> Result<Vec<&'a ClusterTrustBundle>, String> {
    if projection.name.is_none() && projection.signer_name.is_none() {
        let why = "ClusterTrustBundle projection requires either name or signerName to be set";
        return Err(why.to_owned());
    }
    // No selector selects nothing, an empty one everything.
    let selector = match (&projection.name, &projection.label_selector) {
        (Some(_), _) => Selector::everything(),
        (None, None) => Selector::nothing(),
        (None, Some(selector)) => Selector::from_label_selector(selector)
            .map_err(|why| format!("while parsing label selector: {why}"))?,
    };
    let fits = |bundle: &&Arc<ClusterTrustBundle>| {
        concerns(projection, bundle) && selector.matches_map(bundle.metadata.labels.as_ref())
    };
    Ok(bundles.iter().filter(fits).map(|b| &**b).collect())
}

fn merged(bundles: &[&ClusterTrustBundle], order: u64) -> Vec<u8> {
    let blocks = bundles
        .iter()
        .flat_map(|bundle| pem::blocks(bundle.spec.trust_bundle.as_bytes()));
    let distinct: BTreeSet<Vec<u8>> = blocks.map(|block| block.contents).collect();
    let mut distinct: Vec<Vec<u8>> = distinct.into_iter().collect();
    distinct.sort_by_cached_key(|der| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(order);
        hasher.write(der);
        hasher.finish()
    });
    let texts = distinct.iter().map(|der| pem::encode(CERTIFICATE, der));
    texts.collect::<String>().into_bytes()
}
