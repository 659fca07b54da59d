//! `PodSecurityConfiguration`: what counts where no label says anything, and who is exempt.

use machinery::{ErrorList, Path, codec, names};
use serde::Deserialize;
use serde_json::Value;

use super::policy::{Level, LevelVersion, Policy, Version};
use crate::settings_file;

/// The plug-in's settings.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    pub(super) defaults: Policy,
    pub(super) exempt: Exemptions,
}

/// Who is not asked to comply.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct Exemptions {
    pub(super) usernames: Vec<String>,
    pub(super) namespaces: Vec<String>,
    pub(super) runtime_classes: Vec<String>,
}

impl Exemptions {
    pub(super) fn namespace(&self, name: &str) -> bool {
        !name.is_empty() && self.namespaces.iter().any(|one| one == name)
    }

    pub(super) fn user(&self, name: &str) -> bool {
        !name.is_empty() && self.usernames.iter().any(|one| one == name)
    }

    pub(super) fn runtime_class(&self, name: &str) -> bool {
        !name.is_empty() && self.runtime_classes.iter().any(|one| one == name)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    exemptions: Exemptions,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
struct Defaults {
    enforce: String,
    enforce_version: String,
    audit: String,
    audit_version: String,
    warn: String,
    warn_version: String,
}

impl Configuration {
    /// Reads a document; an empty one says nothing.
    ///
    /// # Errors
    /// What is wrong with it, all of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let decoded = codec::decode_yaml_value(text.as_bytes());
        Self::read(decoded.map_err(|e| e.to_string())?.0)
    }

    /// Takes a document that has been read.
    ///
    /// # Errors
    /// What is wrong with it, all of it.
    pub fn read(value: Value) -> Result<Self, String> {
        let (version, kind) = (&value["apiVersion"], &value["kind"]);
        let known = ["v1", "v1beta1", "v1alpha1"];
        let known = known.map(|v| format!("pod-security.admission.config.k8s.io/{v}"));
        if *kind != "PodSecurityConfiguration" || !known.iter().any(|k| version == k) {
            return Err(format!(
                "no kind {kind} is registered for version {version}"
            ));
        }
        let file: File = settings_file::body(value)?;
        let mut errors = ErrorList::new();
        let defaults = &file.defaults;
        let mut mode = |name: &str, level: &str, version: &str| {
            let at = Path::new("defaults");
            let level = if level.is_empty() {
                "privileged"
            } else {
                level
            };
            let version = if version.is_empty() {
                "latest"
            } else {
                version
            };
            LevelVersion {
                level: Level::parse(level).unwrap_or_else(|why| {
                    errors.invalid(&at.child(name), level, why);
                    Level::Restricted
                }),
                version: Version::parse(version).unwrap_or_else(|why| {
                    errors.invalid(&at.child(&format!("{name}-version")), version, why);
                    Version::Latest
                }),
            }
        };
        let enforce = mode("enforce", &defaults.enforce, &defaults.enforce_version);
        let warn = mode("warn", &defaults.warn, &defaults.warn_version);
        let audit = mode("audit", &defaults.audit, &defaults.audit_version);
        check_exemptions(&file.exemptions, &mut errors);
        match errors.is_empty() {
            true => Ok(Self {
                defaults: Policy {
                    enforce,
                    audit,
                    warn,
                },
                exempt: file.exemptions,
            }),
            false => Err(errors.aggregate()),
        }
    }
}

fn check_exemptions(exempt: &Exemptions, errors: &mut ErrorList) {
    let label = |name: &str| names::dns1123_label(name).join(", ");
    let subdomain = |name: &str| names::dns1123_subdomain(name).join(", ");
    let user = |name: &str| match name {
        "" => "username must not be empty".to_owned(),
        _ => String::new(),
    };
    let mut each = |field: &str, all: &[String], wrong: &dyn Fn(&str) -> String| {
        for (index, one) in all.iter().enumerate() {
            let at = Path::new("exemptions").child(field).index(index);
            let why = wrong(one);
            if !why.is_empty() {
                errors.invalid(&at, one.as_str(), why);
            } else if all[..index].contains(one) {
                errors.duplicate(&at, one.as_str());
            }
        }
    };
    each("namespaces", &exempt.namespaces, &label);
    each("runtimeClasses", &exempt.runtime_classes, &subdomain);
    each("usernames", &exempt.usernames, &user);
}
