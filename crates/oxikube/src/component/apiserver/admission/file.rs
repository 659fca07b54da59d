//! The file with the settings of admission plug-ins: an `AdmissionConfiguration`, or one of the two kinds of file that there
//! were before.
//!
//! Behaviour: `k8s.io/apiserver/pkg/admission/config.go`. As there, only plug-ins that are used have their settings read.

use std::path::Path;

use access::admission::manifests::Source;
use access::admission::pod_security::Configuration as PodSecurity;
use access::admission::pod_toleration_restriction::Configuration as Tolerations;
use access::admission::{
    Settings, event_rate_limit, image_policy, limited_resources, pod_node_selector,
};
use anyhow::{Context, anyhow, bail};
use machinery::codec;
use serde::Deserialize;
use serde_json::Value;

use crate::component::flags::read;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    #[serde(default)]
    plugins: Vec<Plugin>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plugin {
    name: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    configuration: Option<Value>,
}

/// A plug-in with settings: where what is read goes.
type Take = fn(&mut Settings, &Value) -> Result<(), String>;

/// Null stands for no settings at all.
const CONFIGURED: [(&str, Take); 10] = [
    ("EventRateLimit", |settings, file| {
        settings.event_limits = event_rate_limit::read(file)?;
        Ok(())
    }),
    ("ImagePolicyWebhook", |settings, file| {
        settings.image_policy = Some(image_policy::Configuration::read(file)?);
        Ok(())
    }),
    ("MutatingAdmissionPolicy", |settings, file| {
        let kind = "MutatingAdmissionPolicyConfiguration";
        manifests(settings, Source::MutatingPolicies, kind, file)
    }),
    ("MutatingAdmissionWebhook", |settings, file| {
        manifests(settings, Source::MutatingWebhooks, WEBHOOKS, file)
    }),
    ("ResourceQuota", |settings, file| {
        settings.limited_resources = limited_resources::read(file)?;
        Ok(())
    }),
    ("ValidatingAdmissionPolicy", |settings, file| {
        let kind = "ValidatingAdmissionPolicyConfiguration";
        manifests(settings, Source::ValidatingPolicies, kind, file)
    }),
    ("ValidatingAdmissionWebhook", |settings, file| {
        manifests(settings, Source::ValidatingWebhooks, WEBHOOKS, file)
    }),
    ("PodNodeSelector", |settings, file| {
        settings.node_selectors = pod_node_selector::read(file);
        Ok(())
    }),
    ("PodSecurity", |settings, file| {
        if !file.is_null() {
            settings.pod_security = PodSecurity::read(file.clone())?;
        }
        Ok(())
    }),
    ("PodTolerationRestriction", |settings, file| {
        if !file.is_null() {
            settings.tolerations = Tolerations::read(file)?;
        }
        Ok(())
    }),
];

/// The kind of the settings of both plug-ins that ask webhooks.
const WEBHOOKS: &str = "WebhookAdmissionConfiguration";

/// The directory that the settings of a plug-in name, and the kubeconfig of those that ask webhooks.
fn manifests(
    settings: &mut Settings,
    source: Source,
    kind: &str,
    file: &Value,
) -> Result<(), String> {
    if file.is_null() {
        return Ok(());
    }
    let (found, version) = (&file["kind"], &file["apiVersion"]);
    if found != kind || version != "apiserver.config.k8s.io/v1" {
        return Err(format!(
            "no kind {found} is registered for version {version}"
        ));
    }
    let text = |key: &str| file[key].as_str().unwrap_or_default();
    let known = ["apiVersion", "kind", "staticManifestsDir", "kubeConfigFile"];
    let keys = file.as_object().into_iter().flat_map(|map| map.keys());
    for key in keys {
        let is_known = known.contains(&key.as_str());
        if !is_known || (key == "kubeConfigFile" && source.is_policies()) {
            return Err(format!("strict decoding error: unknown field {key:?}"));
        }
    }
    let users = Path::new(text("kubeConfigFile"));
    if users.is_absolute() {
        settings.webhook_users.insert(source, users.to_owned());
    } else if !users.as_os_str().is_empty() {
        let why = "must be an absolute file path";
        return Err(format!("kubeConfigFile: Invalid value: {users:?}: {why}"));
    }
    let directory = text("staticManifestsDir");
    if directory.is_empty() {
        return Ok(());
    }
    let wrong = |why: String| {
        Err(format!(
            "staticManifestsDir: Invalid value: {directory:?}: {why}"
        ))
    };
    let path = Path::new(directory);
    if !path.is_absolute() {
        return wrong("must be an absolute file path".to_owned());
    }
    match std::fs::metadata(path) {
        Err(error) => return wrong(format!("unable to read: {error}")),
        Ok(found) if !found.is_dir() => return wrong("must be a directory".to_owned()),
        Ok(_) => {}
    }
    settings.manifests.insert(source, path.to_owned());
    Ok(())
}

/// Puts in what a file says; without one the plug-ins get nothing, which some of them refuse.
///
/// # Errors
/// The file cannot be used, or what it says of a plug-in.
pub(super) fn apply(path: Option<&Path>, settings: &mut Settings) -> anyhow::Result<()> {
    let found = match path {
        Some(path) => load(path).with_context(|| {
            let path = path.display();
            format!("failed to read plugin config: cannot use {path}")
        })?,
        None => Vec::new(),
    };
    for (name, take) in CONFIGURED {
        if !settings.has(name) {
            continue;
        }
        let value = found.iter().find(|(of, _)| of == name);
        take(settings, value.map_or(&Value::Null, |(_, value)| value))
            .map_err(|why| anyhow!("couldn't init admission plugin {name:?}: {why}"))?;
    }
    Ok(())
}

/// The settings of a file by plug-in.
fn load(path: &Path) -> anyhow::Result<Vec<(String, Value)>> {
    let (value, duplicates) = codec::decode_yaml_value(read(path)?.as_bytes())?;
    // These two were once the whole file.
    let old = ["imagePolicy", "podNodeSelectorPluginConfig"];
    if value["kind"].is_null() && old.iter().any(|key| !value[*key].is_null()) {
        let names = ["ImagePolicyWebhook", "PodNodeSelector"];
        return Ok(names.map(|name| (name.to_owned(), value.clone())).into());
    }
    if let Some(duplicate) = duplicates.first() {
        bail!("strict decoding error: {duplicate}");
    }
    let file: File = serde_json::from_value(value).context("strict decoding error")?;
    let versions = ["v1", "v1beta1", "v1alpha1"].map(|v| format!("apiserver.config.k8s.io/{v}"));
    if file.kind != "AdmissionConfiguration" || !versions.contains(&file.api_version) {
        let (kind, version) = (&file.kind, &file.api_version);
        bail!("no kind {kind:?} is registered for version {version:?}");
    }
    let settings = |plugin: Plugin| {
        let value = match plugin.configuration {
            Some(value) => value,
            None if plugin.path.is_empty() => Value::Null,
            None => {
                // A relative path is relative to the file that names it.
                let path = path.parent().unwrap_or(Path::new(".")).join(&plugin.path);
                codec::decode_yaml_value(read(&path)?.as_bytes())?.0
            }
        };
        Ok((plugin.name, value))
    };
    file.plugins.into_iter().map(settings).collect()
}
