//! Contexts in kubeconfig files: the cluster's own file, and the user's into which it is merged.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::cluster::{Cluster, Config, make_private_dir, write_private};

/// Writes the cluster's own file, for `oxikube kubectl` and for copying elsewhere.
pub(crate) fn write_own(cluster: &Cluster, config: &Config) -> anyhow::Result<()> {
    let mut file = empty();
    set(&mut file, cluster, config)?;
    write_private(&own_file(cluster), to_yaml(&file)?.as_bytes())
}

/// The cluster's own file.
pub(crate) fn own_file(cluster: &Cluster) -> PathBuf {
    cluster.path("admin.kubeconfig")
}

/// Merges the context into the user's file and makes it the current one. Returns the file.
pub(crate) fn merge(cluster: &Cluster, config: &Config) -> anyhow::Result<PathBuf> {
    let path = user_file()?;
    let mut file = read(&path)?.unwrap_or_else(empty);
    set(&mut file, cluster, config)?;
    if let Some(dir) = path.parent().filter(|dir| !dir.exists()) {
        make_private_dir(dir)?;
    }
    write_private(&path, to_yaml(&file)?.as_bytes())?;
    Ok(path)
}

/// Takes the context out of the user's file.
pub(crate) fn remove(context: &str) -> anyhow::Result<()> {
    let path = user_file()?;
    let Some(mut file) = read(&path)? else {
        return Ok(());
    };
    let before = file.clone();
    unset(&mut file, context);
    match file == before {
        true => Ok(()),
        false => write_private(&path, to_yaml(&file)?.as_bytes()),
    }
}

/// The first file of `KUBECONFIG`, or `~/.kube/config`; where it is a link, what it points to.
pub(crate) fn user_file() -> anyhow::Result<PathBuf> {
    let listed = env::var_os("KUBECONFIG");
    let listed =
        listed.and_then(|list| env::split_paths(&list).find(|p| !p.as_os_str().is_empty()));
    let path = match listed {
        Some(path) => path,
        None => env::home_dir()
            .context("no home directory for .kube/config")?
            .join(".kube/config"),
    };
    Ok(fs::canonicalize(&path).unwrap_or(path))
}

/// The text of a file for the administrator of a server on the machine itself; certificates and key are PEM.
pub(crate) fn of_admin(
    url: &str,
    authority: &str,
    certificate: &str,
    key: &str,
) -> anyhow::Result<String> {
    let name = "oxikube";
    let file = json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": name,
        "clusters": [{"name": name, "cluster": {
            "server": url, "certificate-authority-data": STANDARD.encode(authority),
        }}],
        "users": [{"name": name, "user": {
            "client-certificate-data": STANDARD.encode(certificate),
            "client-key-data": STANDARD.encode(key),
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    });
    match file {
        Value::Object(file) => to_yaml(&file),
        _ => unreachable!("an object literal is an object"),
    }
}

fn empty() -> Map<String, Value> {
    let Value::Object(file) = json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {},
        "clusters": [], "contexts": [], "users": [], "current-context": "",
    }) else {
        unreachable!("an object literal is an object")
    };
    file
}

fn read(path: &Path) -> anyhow::Result<Option<Map<String, Value>>> {
    let what = || format!("cannot use the kubeconfig {}", path.display());
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(what),
    };
    if text.trim().is_empty() {
        return Ok(None);
    }
    serde_saphyr::from_str(&text)
        .map(Some)
        .map_err(|e| anyhow::anyhow!("{e}"))
        .with_context(what)
}

fn to_yaml(file: &Map<String, Value>) -> anyhow::Result<String> {
    serde_saphyr::to_string(file).map_err(|e| anyhow::anyhow!("{e}"))
}

fn set(file: &mut Map<String, Value>, cluster: &Cluster, config: &Config) -> anyhow::Result<()> {
    let data = |name: &str| -> anyhow::Result<String> {
        let path = cluster.path(&format!("pki/{name}"));
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(STANDARD.encode(bytes))
    };
    let name = config.context();
    let server = json!({"server": config.api_url(), "certificate-authority-data": data("ca.crt")?});
    let user = json!({
        "client-certificate-data": data("admin.crt")?, "client-key-data": data("admin.key")?,
    });
    put(file, "clusters", &name, "cluster", server);
    put(file, "users", &name, "user", user);
    put(
        file,
        "contexts",
        &name,
        "context",
        json!({"cluster": name, "user": name}),
    );
    file.insert("current-context".into(), name.into());
    Ok(())
}

/// Puts a named entry into a list, in place of one of that name.
fn put(file: &mut Map<String, Value>, list: &str, name: &str, key: &str, value: Value) {
    let entry = json!({"name": name, key: value});
    let entries = file.entry(list).or_insert_with(|| json!([]));
    match entries {
        Value::Array(entries) => match entries.iter_mut().find(|e| e["name"] == name) {
            Some(there) => *there = entry,
            None => entries.push(entry),
        },
        other => *other = json!([entry]),
    }
}

fn unset(file: &mut Map<String, Value>, name: &str) {
    for list in ["clusters", "users", "contexts"] {
        if let Some(entries) = file.get_mut(list).and_then(Value::as_array_mut) {
            entries.retain(|entry| entry["name"] != name);
        }
    }
    if file
        .get("current-context")
        .is_some_and(|current| current == name)
    {
        file.insert("current-context".into(), "".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Clusters;

    #[test]
    fn a_context_comes_and_goes_and_others_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let cluster = Clusters::new(dir.path().to_owned())
            .cluster("c")
            .expect("a name");
        let config = Config::new("c", 7, 6444);
        cluster.create(&config).expect("made");
        crate::pki::create(&cluster.path("pki"), &config).expect("keys");
        let theirs = "apiVersion: v1\nkind: Config\ncurrent-context: other\ncontexts:\n- name: other\n  \
                      context: {cluster: x, user: 'y'}\nextensions:\n- name: kept\n";
        let path = dir.path().join("theirs");
        fs::write(&path, theirs).expect("written");
        let original = read(&path).expect("YAML").expect("there");
        let mut file = original.clone();
        set(&mut file, &cluster, &config).expect("merged");
        set(&mut file, &cluster, &config).expect("merged again");
        let round: Map<String, Value> =
            serde_saphyr::from_str(&to_yaml(&file).expect("YAML")).expect("the same YAML");
        assert_eq!(round, file);
        assert_eq!(file["current-context"], "oxikube-c");
        assert_eq!(file["contexts"].as_array().map(Vec::len), Some(2));
        assert_eq!(
            file["clusters"][0]["cluster"]["server"],
            "https://127.0.0.1:6444"
        );
        unset(&mut file, "oxikube-c");
        assert_eq!(file["contexts"], original["contexts"]);
        assert_eq!(file["extensions"], original["extensions"]);
        assert_eq!(file["current-context"], "");
    }
}
