//! The files of configMap, secret, downwardAPI and projected volumes.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ClusterTrustBundleProjection, ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod,
    PodCertificateProjection, ProjectedVolumeSource, Secret, ServiceAccountTokenProjection, Volume,
};

use crate::env::Sources;
use crate::field_path::{self, Facts};

/// A file to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// What is in it.
    pub data: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
    /// Whom it belongs to, if not to root.
    pub owner: Option<i64>,
}

/// Files by their path in the volume.
pub type Files = BTreeMap<String, File>;

/// What a volume is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct References<'a> {
    /// Names of ConfigMaps.
    pub config_maps: Vec<&'a str>,
    /// Names of Secrets.
    pub secrets: Vec<&'a str>,
    /// Tokens of the pod's service account.
    pub tokens: Vec<&'a ServiceAccountTokenProjection>,
    /// Certificates to trust.
    pub bundles: Vec<&'a ClusterTrustBundleProjection>,
    /// Certificates of the pod's own, with their place among the sources.
    pub certificates: Vec<(usize, &'a PodCertificateProjection)>,
}

/// What no object has but somebody has to give, each in the order of [`References`].
#[derive(Clone, Default)]
pub struct Given {
    /// Tokens of the pod's service account.
    pub tokens: Vec<String>,
    /// Certificates to trust, PEM.
    pub anchors: Vec<Vec<u8>>,
    /// Keys and chains of certificates of the pod's own, PEM.
    pub credentials: Vec<(String, String)>,
}

/// What a volume needs; `None` for volumes that are not made of API objects.
pub fn references(volume: &Volume) -> Option<References<'_>> {
    let mut needs = References::default();
    if let Some(source) = &volume.config_map {
        needs.config_maps.push(&source.name);
    } else if let Some(source) = &volume.secret {
        needs.secrets.extend(source.secret_name.as_deref());
    } else if let Some(source) = &volume.projected {
        for (index, one) in source.sources.iter().flatten().enumerate() {
            needs
                .config_maps
                .extend(one.config_map.as_ref().map(|c| c.name.as_str()));
            needs
                .secrets
                .extend(one.secret.as_ref().map(|s| s.name.as_str()));
            needs.tokens.extend(one.service_account_token.as_ref());
            needs.bundles.extend(one.cluster_trust_bundle.as_ref());
            let certificate = one.pod_certificate.as_ref();
            needs.certificates.extend(certificate.map(|c| (index, c)));
        }
    } else {
        volume.downward_api.as_ref()?;
    }
    Some(needs)
}

/// The permission bits of files that say nothing else.
const DEFAULT_MODE: i32 = 0o644;

/// All files of a volume.
pub fn files(
    pod: &Pod,
    volume: &Volume,
    sources: &Sources,
    facts: &Facts,
    given: Given,
) -> Result<Files, String> {
    let mut files = Files::new();
    if let Some(source) = &volume.config_map {
        let optional = source.optional == Some(true);
        let items = source.items.as_deref().unwrap_or_default();
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let found = sources.config_map(&source.name);
        add_config_map(found, items, mode, optional, &mut files)?;
    } else if let Some(source) = &volume.secret {
        let optional = source.optional == Some(true);
        let items = source.items.as_deref().unwrap_or_default();
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let found = sources.secret(source.secret_name.as_deref().unwrap_or_default());
        add_secret(found, items, mode, optional, &mut files)?;
    } else if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let items = source.items.as_deref().unwrap_or_default();
        add_downward(pod, items, mode, facts, &mut files)?;
    } else if let Some(source) = &volume.projected {
        add_projected(pod, source, sources, facts, given, &mut files)?;
    }
    match files.keys().find(|path| !is_safe(path)) {
        Some(path) => Err(format!("invalid path: {path}")),
        None => Ok(files),
    }
}

fn add_projected(
    pod: &Pod,
    source: &ProjectedVolumeSource,
    sources: &Sources,
    facts: &Facts,
    given: Given,
    files: &mut Files,
) -> Result<(), String> {
    let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
    let mut tokens = given.tokens.into_iter();
    let mut anchors = given.anchors.into_iter();
    let mut credentials = given.credentials.into_iter();
    let guarded = Guarded::of(pod, mode);
    for one in source.sources.iter().flatten() {
        if let Some(c) = &one.config_map {
            let items = c.items.as_deref().unwrap_or_default();
            let optional = c.optional == Some(true);
            add_config_map(sources.config_map(&c.name), items, mode, optional, files)?;
        } else if let Some(s) = &one.secret {
            let items = s.items.as_deref().unwrap_or_default();
            let optional = s.optional == Some(true);
            add_secret(sources.secret(&s.name), items, mode, optional, files)?;
        } else if let Some(d) = &one.downward_api {
            let items = d.items.as_deref().unwrap_or_default();
            add_downward(pod, items, mode, facts, files)?;
        } else if let Some(t) = &one.service_account_token {
            let token = tokens.next().unwrap_or_default();
            guarded.put(files, &t.path, token.into_bytes());
        } else if let Some(b) = &one.cluster_trust_bundle {
            guarded.put(files, &b.path, anchors.next().unwrap_or_default());
        } else if let Some(c) = &one.pod_certificate {
            let (key, chain) = credentials.next().unwrap_or_default();
            let bundle = format!("{key}{chain}");
            for (path, text) in [
                (&c.credential_bundle_path, bundle),
                (&c.key_path, key),
                (&c.certificate_chain_path, chain),
            ] {
                if let Some(path) = path.as_deref().filter(|p| !p.is_empty()) {
                    guarded.put(files, path, text.into_bytes());
                }
            }
        }
    }
    Ok(())
}

/// Files that are for their owner alone, if the pod's processes have one user or its volumes one group.
struct Guarded {
    owner: Option<i64>,
    mode: i32,
}

impl Guarded {
    fn of(pod: &Pod, mode: i32) -> Self {
        let context = crate::pod::spec(pod).security_context.as_ref();
        let group = context.and_then(|c| c.fs_group);
        let owner = common_user(pod);
        let alone = group.is_some() || owner.is_some();
        Self {
            owner,
            mode: if alone { 0o600 } else { mode },
        }
    }

    fn put(&self, files: &mut Files, path: &str, data: Vec<u8>) {
        put(files, path, data, self.mode);
        if let Some(file) = files.get_mut(path.trim_start_matches("./")) {
            file.owner = self.owner;
        }
    }
}

/// The user that all containers of the pod run as, if it is one.
fn common_user(pod: &Pod) -> Option<i64> {
    let shared = crate::pod::spec(pod).security_context.as_ref();
    let shared = shared.and_then(|c| c.run_as_user);
    let mut users = crate::pod::lasting_containers(pod).map(|c| {
        let own = c.security_context.as_ref().and_then(|s| s.run_as_user);
        own.or(shared)
    });
    let first = users.next()??;
    users.all(|u| u == Some(first)).then_some(first)
}

fn add_config_map(
    found: Result<&ConfigMap, String>,
    items: &[KeyToPath],
    mode: i32,
    optional: bool,
    files: &mut Files,
) -> Result<(), String> {
    let map = match found {
        Ok(map) => map,
        Err(_) if optional => return Ok(()),
        Err(missing) => return Err(missing),
    };
    let data = |key: &str| {
        let text = map.data.as_ref().and_then(|d| d.get(key));
        let text = text.map(|t| t.clone().into_bytes());
        text.or_else(|| binary(map.binary_data.as_ref(), key))
    };
    let names = map.data.iter().flatten().map(|(k, _)| k.as_str());
    let names = names.chain(map.binary_data.iter().flatten().map(|(k, _)| k.as_str()));
    let kind = "configmap references non-existent config key";
    add_keys(names, data, items, mode, optional, kind, files)
}

fn add_secret(
    found: Result<&Secret, String>,
    items: &[KeyToPath],
    mode: i32,
    optional: bool,
    files: &mut Files,
) -> Result<(), String> {
    let secret = match found {
        Ok(secret) => secret,
        Err(_) if optional => return Ok(()),
        Err(missing) => return Err(missing),
    };
    let data = |key: &str| binary(secret.data.as_ref(), key);
    let names = secret.data.iter().flatten().map(|(k, _)| k.as_str());
    let kind = "references non-existent secret key";
    add_keys(names, data, items, mode, optional, kind, files)
}

fn binary(map: Option<&BTreeMap<String, ByteString>>, key: &str) -> Option<Vec<u8>> {
    map.and_then(|m| m.get(key)).map(|b| b.0.clone())
}

fn add_keys<'a>(
    names: impl Iterator<Item = &'a str>,
    data: impl Fn(&str) -> Option<Vec<u8>>,
    items: &[KeyToPath],
    mode: i32,
    optional: bool,
    missing: &str,
    files: &mut Files,
) -> Result<(), String> {
    if items.is_empty() {
        for name in names {
            put(files, name, data(name).unwrap_or_default(), mode);
        }
        return Ok(());
    }
    for item in items {
        match data(&item.key) {
            Some(data) => put(files, &item.path, data, item.mode.unwrap_or(mode)),
            None if optional => {}
            None => return Err(format!("{missing}: {}", item.key)),
        }
    }
    Ok(())
}

fn add_downward(
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    mode: i32,
    facts: &Facts,
    files: &mut Files,
) -> Result<(), String> {
    for item in items {
        let value = if let Some(field) = &item.field_ref {
            field_path::field(pod, &field.field_path, facts)?
        } else if let Some(selector) = &item.resource_field_ref {
            field_path::resource(pod, None, selector, facts)?
        } else {
            continue;
        };
        put(
            files,
            &item.path,
            value.into_bytes(),
            item.mode.unwrap_or(mode),
        );
    }
    Ok(())
}

fn put(files: &mut Files, path: &str, data: Vec<u8>, mode: i32) {
    let mode = u32::try_from(mode).unwrap_or(0o644) & 0o777;
    let path = path.trim_start_matches("./").to_owned();
    let file = File {
        data,
        mode,
        owner: None,
    };
    files.insert(path, file);
}

/// No way out of the volume, and none into the writer's own directories.
fn is_safe(path: &str) -> bool {
    let mut parts = path.split('/');
    !path.is_empty()
        && !path.starts_with('/')
        && !path.starts_with("..")
        && parts.all(|part| !part.is_empty() && part != "..")
}
