//! `--*admission*`: which plug-ins there are, and their settings.

mod file;

use std::collections::BTreeSet;
use std::path::PathBuf;

use access::admission::{ELSEWHERE, OFF_BY_DEFAULT, PLUGINS, Settings, TolerationSeconds};
use anyhow::bail;

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
        let mut settings = Settings {
            without,
            toleration_seconds: TolerationSeconds {
                not_ready: self.default_not_ready_toleration_seconds,
                unreachable: self.default_unreachable_toleration_seconds,
            },
            ..Settings::default()
        };
        let path = self.admission_control_config_file.as_deref();
        file::apply(path, &mut settings)?;
        Ok(settings)
    }
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

    fn with_file(arguments: &[&str], text: &str) -> Result<Settings, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("admission.yaml");
        std::fs::write(&path, text).expect("written");
        let inner = "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n\
                     defaults: {enforce: baseline}\nexemptions: {namespaces: [kube-system]}\n";
        std::fs::write(dir.path().join("inner.yaml"), inner).expect("written");
        std::fs::write(
            dir.path().join("wrong.yaml"),
            inner.replace("baseline", "some"),
        )
        .expect("written");
        let flag = format!("--admission-control-config-file={}", path.display());
        settings(&[arguments, &[&flag]].concat())
    }

    const OUTER: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n";

    #[test]
    fn a_file_sets_what_pods_must_comply_with() {
        let text = format!("{OUTER}plugins: [{{name: PodSecurity, path: inner.yaml}}]\n");
        let found = format!("{:?}", with_file(&[], &text).expect("good").pod_security);
        assert!(
            found.contains("Baseline") && found.contains("kube-system"),
            "{found}"
        );
        let text = format!("{OUTER}plugins: [{{name: PodSecurity, path: wrong.yaml}}]\n");
        let why = with_file(&[], &text).expect_err("refused");
        assert!(
            why.contains("must be one of privileged, baseline, restricted"),
            "{why}"
        );
        // Settings of a plug-in that is not used are not read, as upstream.
        with_file(&["--disable-admission-plugins=PodSecurity"], &text).expect("good");
    }

    #[test]
    fn plug_ins_take_the_settings_of_their_files() {
        let text = format!(
            "{OUTER}plugins:\n\
             - name: EventRateLimit\n  configuration: {{apiVersion: eventratelimit.admission.k8s.io/v1alpha1, kind: Configuration,\n    \
               limits: [{{type: Namespace, qps: 50, burst: 100, cacheSize: 2000}}]}}\n\
             - name: PodNodeSelector\n  configuration: {{podNodeSelectorPluginConfig: {{clusterDefaultNodeSelector: a=b}}}}\n\
             - name: PodTolerationRestriction\n  configuration: {{apiVersion: podtolerationrestriction.admission.k8s.io/v1alpha1,\n    \
               kind: Configuration, whitelist: [{{key: x, operator: Exists}}]}}\n\
             - name: ImagePolicyWebhook\n  configuration: {{imagePolicy: {{kubeConfigFile: /k, allowTTL: 60}}}}\n"
        );
        let on = "--enable-admission-plugins=EventRateLimit,PodNodeSelector,PodTolerationRestriction,ImagePolicyWebhook";
        let found = with_file(&[on], &text).expect("good");
        assert_eq!(found.event_limits.len(), 1);
        assert_eq!(found.node_selectors["clusterDefaultNodeSelector"], "a=b");
        assert_eq!(found.tolerations.allowed.len(), 1);
        let images = found.image_policy.expect("settings");
        assert_eq!(
            (images.allow_ttl.as_secs(), images.deny_ttl.as_secs()),
            (60, 30)
        );
        let old = "imagePolicy: {kubeConfigFile: /k, denyTTL: -1}\n";
        let found = with_file(&["--enable-admission-plugins=ImagePolicyWebhook"], old);
        assert!(found.expect("good").image_policy.is_some());
        for (plugin, text, why) in [
            (
                "ImagePolicyWebhook",
                OUTER.to_owned(),
                "couldn't init admission plugin \"ImagePolicyWebhook\": no config specified",
            ),
            (
                "ImagePolicyWebhook",
                "imagePolicy: {allowTTL: 9999}".to_owned(),
                "couldn't init admission plugin \"ImagePolicyWebhook\": valid value is between 1s and 30m0s, got 2h46m39s",
            ),
            (
                "EventRateLimit",
                format!(
                    "{OUTER}plugins: [{{name: EventRateLimit, configuration: {{apiVersion: eventratelimit.admission.k8s.io/v1alpha1, kind: Configuration, limits: [{{type: Server, burst: 0, qps: 1}}]}}}}]"
                ),
                "couldn't init admission plugin \"EventRateLimit\": limits[0].burst: Invalid value: 0: must be positive",
            ),
        ] {
            let on = format!("--enable-admission-plugins={plugin}");
            assert_eq!(with_file(&[&on], &text).err().as_deref(), Some(why));
        }
    }
}
