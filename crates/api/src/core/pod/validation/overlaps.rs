//! Files of one volume in each other's place: the later one wins, or the volume cannot be made at all.

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Volume, VolumeProjection};

use crate::view::{Items, OrEmpty};

/// A file of a volume, and what it is made from when the volume has several sources.
#[derive(Clone, PartialEq)]
struct File {
    path: String,
    source: String,
}

impl File {
    fn new(path: &str, source: &str) -> File {
        File {
            path: path.trim_end_matches('/').into(),
            source: source.into(),
        }
    }

    /// Whether one is the other, or a folder that holds it.
    fn collides(&self, other: &File) -> bool {
        let (mine, theirs) = (format!("{}/", self.path), format!("{}/", other.path));
        let named = !self.path.is_empty() && !other.path.is_empty();
        named && (mine.starts_with(&theirs) || theirs.starts_with(&mine))
    }
}

impl std::fmt::Display for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.path)?;
        if !self.source.is_empty() {
            write!(f, " ({})", self.source)?;
        }
        Ok(())
    }
}

/// Warns about files of this volume that overlap.
pub(super) fn volume(warnings: &mut Vec<String>, volume: &Volume) {
    let name = &volume.name;
    let mut check = |description: &str, files: Vec<File>| {
        for (i, file) in files.iter().enumerate() {
            for other in files[..i].iter().filter(|other| file.collides(other)) {
                warnings.push(format!(
                    "volume \"{name}\" ({description}): overlapping paths: {file} with {other}"
                ));
            }
        }
    };
    if let Some(map) = &volume.config_map {
        let description = format!("ConfigMap \"{}\"", map.name);
        check(&description, keys(map.items.items(), ""));
    }
    if let Some(secret) = &volume.secret {
        let description = format!("Secret \"{}\"", secret.secret_name.text());
        check(&description, keys(secret.items.items(), ""));
    }
    if let Some(downward) = &volume.downward_api {
        check("DownwardAPI", fields(downward.items.items(), ""));
    }
    let Some(projected) = &volume.projected else {
        return;
    };
    let sources = projected.sources.items();
    check("Projected", sources.iter().flat_map(projection).collect());
    for _ in sources
        .iter()
        .filter(|s| **s == VolumeProjection::default())
    {
        warnings.push(format!(
            "volume \"{name}\" (Projected) has no sources provided"
        ));
    }
}

fn keys(items: &[KeyToPath], source: &str) -> Vec<File> {
    items.iter().map(|i| File::new(&i.path, source)).collect()
}

fn fields(items: &[DownwardAPIVolumeFile], source: &str) -> Vec<File> {
    items.iter().map(|i| File::new(&i.path, source)).collect()
}

/// The files of one source, as far as the pod says which there are.
fn projection(source: &VolumeProjection) -> Vec<File> {
    if let Some(map) = &source.config_map {
        keys(map.items.items(), &format!("ConfigMap \"{}\"", map.name))
    } else if let Some(secret) = &source.secret {
        keys(secret.items.items(), &format!("Secret \"{}\"", secret.name))
    } else if let Some(downward) = &source.downward_api {
        fields(downward.items.items(), "DownwardAPI")
    } else if let Some(token) = &source.service_account_token {
        vec![File::new(&token.path, "ServiceAccountToken")]
    } else if let Some(bundle) = &source.cluster_trust_bundle {
        let name = bundle.name.as_ref().or(bundle.signer_name.as_ref());
        let description = format!("ClusterTrustBundle \"{}\"", name.map_or("", String::as_str));
        vec![File::new(&bundle.path, &description)]
    } else if let Some(certificate) = &source.pod_certificate {
        [
            (&certificate.certificate_chain_path, "PodCertificate chain"),
            (&certificate.key_path, "PodCertificate key"),
            (
                &certificate.credential_bundle_path,
                "PodCertificate credential bundle",
            ),
        ]
        .into_iter()
        .filter(|(path, _)| !path.text().is_empty())
        .map(|(path, source)| File::new(path.text(), source))
        .collect()
    } else {
        Vec::new()
    }
}
