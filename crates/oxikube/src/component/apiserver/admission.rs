//! `--*admission*`: which plug-ins there are, and their settings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use access::admission::pod_security::Configuration as PodSecurity;
use access::admission::{ELSEWHERE, OFF_BY_DEFAULT, PLUGINS, Settings, TolerationSeconds};
use anyhow::{Context, anyhow, bail};
use machinery::codec;
use serde::Deserialize;
use serde_json::Value;

use crate::component::flags::read;

/// The flags.
#[derive(clap::Args)]
#[group(id = "admission")]
pub(super) struct Flags {
    /// Admission plug-ins beyond those that are on by default.
    #[arg(long, value_delimiter = ',')]
    enable_admission_plugins: Vec<String>,
    /// Admission plug-ins that are on by default and are left out.
    #[arg(long, value_delimiter = ',')]
    disable_admission_plugins: Vec<String>,
    /// File with an AdmissionConfiguration: settings of plug-ins.
    #[arg(long)]
    admission_control_config_file: Option<PathBuf>,
    /// Seconds that pods stay on a node that is not ready when they do not say it themselves.
    #[arg(long, default_value_t = 300)]
    default_not_ready_toleration_seconds: i64,
    /// Seconds that pods stay on a node that is not reachable when they do not say it themselves.
    #[arg(long, default_value_t = 300)]
    default_unreachable_toleration_seconds: i64,
}

#[derive(Deserialize)]
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

fn is_known(name: &str) -> bool {
    PLUGINS.iter().any(|plugin| plugin.name == name) || ELSEWHERE.contains(&name)
}

impl Flags {
    /// The plug-ins and their settings.
    pub(super) fn settings(&self) -> anyhow::Result<Settings> {
        let (on, off) = (
            &self.enable_admission_plugins,
            &self.disable_admission_plugins,
        );
        for (flag, names) in [("enable", on), ("disable", off)] {
            if let Some(name) = names.iter().find(|name| !is_known(name)) {
                bail!("{flag}-admission-plugins plugin {name:?} is unknown");
            }
        }
        let both: BTreeSet<&String> = on.iter().filter(|name| off.contains(name)).collect();
        if !both.is_empty() {
            let both: Vec<&str> = both.into_iter().map(String::as_str).collect();
            bail!(
                "[{}] in enable-admission-plugins and disable-admission-plugins overlapped",
                both.join(" ")
            );
        }
        let mut without: BTreeSet<String> =
            OFF_BY_DEFAULT.iter().map(|n| (*n).to_owned()).collect();
        without.retain(|name| !on.contains(name));
        without.extend(off.iter().cloned());
        Ok(Settings {
            without,
            pod_security: match &self.admission_control_config_file {
                Some(path) => {
                    configured(path).with_context(|| format!("cannot use {}", path.display()))?
                }
                None => PodSecurity::default(),
            },
            toleration_seconds: TolerationSeconds {
                not_ready: self.default_not_ready_toleration_seconds,
                unreachable: self.default_unreachable_toleration_seconds,
            },
        })
    }
}

/// What a file says of the plug-in that has settings.
fn configured(path: &Path) -> anyhow::Result<PodSecurity> {
    let (value, duplicates) = codec::decode_yaml_value(read(path)?.as_bytes())?;
    if let Some(duplicate) = duplicates.first() {
        bail!("strict decoding error: {duplicate}");
    }
    let file: File = serde_json::from_value(value).context("strict decoding error")?;
    let versions = ["v1", "v1beta1", "v1alpha1"].map(|v| format!("apiserver.config.k8s.io/{v}"));
    if file.kind != "AdmissionConfiguration" || !versions.contains(&file.api_version) {
        let (kind, version) = (&file.kind, &file.api_version);
        bail!("no kind {kind:?} is registered for version {version:?}");
    }
    let mut found = PodSecurity::default();
    for plugin in file.plugins {
        match plugin.name.as_str() {
            "PodSecurity" => {
                found = pod_security(path, plugin)
                    .map_err(|why| anyhow!("PodSecurity configuration error: {why}"))?;
            }
            name if is_known(name) => bail!("the plug-in {name} has no settings here"),
            name => bail!("the plug-in {name:?} is unknown"),
        }
    }
    Ok(found)
}

fn pod_security(file: &Path, plugin: Plugin) -> Result<PodSecurity, String> {
    if let Some(value) = plugin.configuration {
        return PodSecurity::read(value);
    }
    if plugin.path.is_empty() {
        return Ok(PodSecurity::default());
    }
    // A relative path is relative to the file that names it.
    let path = file.parent().unwrap_or(Path::new(".")).join(plugin.path);
    PodSecurity::parse(&read(&path).map_err(|e| format!("{e:#}"))?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn settings(arguments: &[&str]) -> Result<Settings, String> {
        let line = Line::try_parse_from([&["x"], arguments].concat()).map_err(|e| e.to_string())?;
        line.flags.settings().map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn plug_ins_are_chosen_by_their_names() {
        let usual = settings(&[]).expect("good");
        assert!(usual.has("PodSecurity") && !usual.has("NodeRestriction"));
        let changed = settings(&[
            "--enable-admission-plugins=NodeRestriction,AlwaysPullImages",
            "--disable-admission-plugins=PodSecurity",
        ]);
        let changed = changed.expect("good");
        assert!(changed.has("NodeRestriction") && changed.has("AlwaysPullImages"));
        assert!(!changed.has("PodSecurity"));
        for (wrong, why) in [
            (
                &["--enable-admission-plugins=Nobody"][..],
                "enable-admission-plugins plugin \"Nobody\" is unknown",
            ),
            (
                &[
                    "--enable-admission-plugins=Priority",
                    "--disable-admission-plugins=Priority",
                ],
                "[Priority] in enable-admission-plugins and disable-admission-plugins overlapped",
            ),
        ] {
            assert_eq!(settings(wrong).err().as_deref(), Some(why));
        }
    }

    #[test]
    fn a_file_sets_what_pods_must_comply_with() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("admission.yaml");
        let flag = format!("--admission-control-config-file={}", path.display());
        let inner = "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n\
                     defaults: {enforce: baseline}\nexemptions: {namespaces: [kube-system]}\n";
        std::fs::write(dir.path().join("inner.yaml"), inner).expect("written");
        let outer = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n\
                     plugins: [{name: PodSecurity, path: inner.yaml}]\n";
        std::fs::write(&path, outer).expect("written");
        let found = format!("{:?}", settings(&[&flag]).expect("good").pod_security);
        assert!(
            found.contains("Baseline") && found.contains("kube-system"),
            "{found}"
        );
        std::fs::write(
            dir.path().join("inner.yaml"),
            inner.replace("baseline", "some"),
        )
        .expect("written");
        let why = settings(&[&flag]).expect_err("refused");
        assert!(
            why.contains("must be one of privileged, baseline, restricted"),
            "{why}"
        );
    }
}
