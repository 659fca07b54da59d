//! Image names, pull policies and the credentials for a registry.

use cri::v1::AuthConfig;
use k8s_openapi::api::core::v1::{Container, Secret};

/// When to go to the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// At every start.
    Always,
    /// If the node has no such image.
    IfNotPresent,
    /// Not at all.
    Never,
}

/// The pull policy of a container. Unset, it is that of its tag: `latest` is always pulled.
pub fn pull_policy(container: &Container) -> PullPolicy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        Some("IfNotPresent") => PullPolicy::IfNotPresent,
        _ => match with_tag(container.image.as_deref().unwrap_or_default()) {
            Ok(image) if !image.ends_with(":latest") => PullPolicy::IfNotPresent,
            _ => PullPolicy::Always,
        },
    }
}

/// The image name with a tag or a digest, or why it is no image name.
pub fn with_tag(image: &str) -> Result<String, String> {
    check(image).map_err(|why| format!("couldn't parse image name \"{image}\": {why}"))?;
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) {
        Ok(image.to_owned())
    } else {
        Ok(format!("{image}:latest"))
    }
}

fn check(image: &str) -> Result<(), &'static str> {
    const BAD: &str = "invalid reference format";
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    if let Some(digest) = digest {
        let (algorithm, hex) = digest.split_once(':').ok_or(BAD)?;
        let good = hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        if algorithm.is_empty() || !good {
            return Err(BAD);
        }
    }
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if tag.is_some_and(|t| t.is_empty() || t.len() > 128 || !t.bytes().all(word)) {
        return Err(BAD);
    }
    let (first, others) = match path.split_once('/') {
        Some((first, others)) if is_host(first) => (Some(first), others),
        _ => (None, path),
    };
    if first.is_some_and(|f| {
        !f.bytes()
            .all(|b| word(b) || matches!(b, b':' | b'[' | b']'))
    }) {
        return Err(BAD);
    }
    for part in others.split('/') {
        if part.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err("invalid reference format: repository name must be lowercase");
        }
        let edges = part.starts_with(['.', '_', '-']) || part.ends_with(['.', '_', '-']);
        if part.is_empty() || edges || !part.bytes().all(word) {
            return Err(BAD);
        }
    }
    Ok(())
}

fn is_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

/// Registry and repository of an image, with Docker's defaults filled in.
pub fn repository(image: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let name = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => path,
        _ => name,
    };
    match name.split_once('/') {
        Some((host, _)) if is_host(host) => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

/// The credentials that the pod's pull secrets hold for an image, the most specific first.
pub fn credentials(image: &str, secrets: &[std::sync::Arc<Secret>]) -> Vec<AuthConfig> {
    let wanted = repository(image);
    let mut found: Vec<(usize, AuthConfig)> = Vec::new();
    for secret in secrets {
        for (address, entry) in entries(secret) {
            let address = normal_address(&address);
            if matches(&address, &wanted) {
                found.push((address.len(), auth(&address, &entry)));
            }
        }
    }
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, auth)| auth).collect()
}

fn entries(secret: &Secret) -> Vec<(String, serde_json::Value)> {
    let data = secret.data.as_ref();
    let (key, nested) = match secret.type_.as_deref() {
        Some("kubernetes.io/dockercfg") => (".dockercfg", false),
        _ => (".dockerconfigjson", true),
    };
    let Some(bytes) = data.and_then(|d| d.get(key)) else {
        return Vec::new();
    };
    let parsed: serde_json::Value = serde_json::from_slice(&bytes.0).unwrap_or_default();
    let map = if nested { &parsed["auths"] } else { &parsed };
    let map = map.as_object().into_iter().flatten();
    map.map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn normal_address(address: &str) -> String {
    let plain = address
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    let plain = plain.trim_end_matches('/');
    let plain = plain
        .strip_suffix("/v1")
        .or(plain.strip_suffix("/v2"))
        .unwrap_or(plain);
    match plain {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.replacen("index.docker.io/", "docker.io/", 1),
    }
}

/// Host parts match by glob, the path by prefix.
fn matches(address: &str, repository: &str) -> bool {
    let (host, path) = address.split_once('/').unwrap_or((address, ""));
    let (other_host, other_path) = repository.split_once('/').unwrap_or((repository, ""));
    let parts: Vec<&str> = host.split('.').collect();
    let other: Vec<&str> = other_host.split('.').collect();
    parts.len() == other.len()
        && parts
            .iter()
            .zip(&other)
            .all(|(glob, word)| glob_matches(glob, word))
        && (path.is_empty() || other_path == path || other_path.starts_with(&format!("{path}/")))
}

fn glob_matches(glob: &str, word: &str) -> bool {
    match glob.split_once('*') {
        None => glob == word,
        Some((start, rest)) => {
            word.starts_with(start)
                && (start.len()..=word.len())
                    .any(|at| word.is_char_boundary(at) && glob_matches(rest, &word[at..]))
        }
    }
}

fn auth(address: &str, entry: &serde_json::Value) -> AuthConfig {
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    AuthConfig {
        username: text("username"),
        password: text("password"),
        auth: text("auth"),
        server_address: address.to_owned(),
        identity_token: text("identitytoken"),
        registry_token: text("registrytoken"),
    }
}
