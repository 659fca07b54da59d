//! How often configuration files were read again while the server ran, and what came of it.
//!
//! Upstream: `k8s.io/apiserver/pkg/server/options/{authentication,authorization}config/metrics` and
//! `k8s.io/apiserver/pkg/admission/plugin/manifest/metrics`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::metrics::{head, line};

/// What is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum File {
    Authentication,
    Authorization,
    /// The manifests of one admission plug-in.
    Manifests(&'static str),
}

#[derive(Default)]
struct Known {
    /// How often it could not be used and could, with the seconds since 1970 of the last time.
    reloads: [(u64, f64); 2],
    /// Of what is in force.
    hash: String,
}

/// All that was read.
#[derive(Default)]
pub(crate) struct Reloads(Mutex<BTreeMap<File, Known>>);

/// A hash as labels have it; nothing of nothing.
pub(crate) fn hash(text: &str) -> String {
    match text {
        "" => String::new(),
        text => format!("sha256:{}", hex::encode(Sha256::digest(text))),
    }
}

impl File {
    /// The part of the names, the level, and what it is called.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Authentication => ("authentication", "BETA", "authentication configuration"),
            Self::Authorization => ("authorization", "BETA", "authorization configuration"),
            Self::Manifests(_) => (
                "manifest_admission",
                "ALPHA",
                "admission manifest configuration",
            ),
        }
    }

    /// What tells its lines from those of others under the same name; and how the help says that.
    fn apart(self) -> (String, &'static str, &'static str) {
        match self {
            Self::Authentication | Self::Authorization => {
                (String::new(), "status and", "apiserver identity")
            }
            Self::Manifests(plugin) => (
                format!(",plugin=\"{plugin}\""),
                "status, plugin, and",
                "plugin and apiserver identity",
            ),
        }
    }
}

impl Reloads {
    /// A file is in force from now on, as it was when the server started.
    pub(crate) fn first(&self, file: File, hash: String) {
        self.0.lock().entry(file).or_default().hash = hash;
    }

    /// A file was read again and is in force, or cannot be used.
    pub(crate) fn again(&self, file: File, hash: Option<String>) {
        let mut all = self.0.lock();
        let known = all.entry(file).or_default();
        let at = usize::from(hash.is_some());
        let seconds = Timestamp::now().as_millisecond() as f64 / 1e3;
        known.reloads[at] = (known.reloads[at].0 + 1, seconds);
        if let Some(hash) = hash {
            known.hash = hash;
        }
    }

    /// Adds to the page at `/metrics`; `server` is the identity of this one.
    pub(crate) fn render(&self, out: &mut String, server: &str) {
        let all = self.0.lock();
        let server = hash(server);
        let subsystems = [
            File::Authentication,
            File::Authorization,
            File::Manifests(""),
        ];
        for subsystem in subsystems.map(File::words) {
            let own = all.iter().filter(|(file, _)| file.words() == subsystem);
            render(out, &server, &own.collect::<Vec<_>>());
        }
    }
}

/// The end of a name, its type and help, and what of the reloads it tells.
type Figure = (&'static str, &'static str, String, fn(&(u64, f64)) -> f64);

fn render(out: &mut String, server: &str, files: &[(&File, &Known)]) {
    let Some((file, _)) = files.first() else {
        return;
    };
    let (name, level, what) = file.words();
    let (_, split, by) = file.apart();
    let name = |rest: &str| format!("apiserver_{name}_config_controller_{rest}");
    let figures: [Figure; 2] = [
        (
            "automatic_reload_last_timestamp_seconds",
            "gauge",
            format!(
                "Timestamp of the last automatic reload of {what} split by {split} apiserver identity."
            ),
            |(_, seconds)| *seconds,
        ),
        (
            "automatic_reloads_total",
            "counter",
            format!(
                "Total number of automatic reloads of {what} split by {split} apiserver identity."
            ),
            |(count, _)| *count as f64,
        ),
    ];
    let any = files
        .iter()
        .any(|(_, known)| known.reloads.iter().any(|(count, _)| *count > 0));
    for (rest, kind, help, of) in figures.iter().filter(|_| any) {
        head(out, &name(rest), kind, level, help);
        for (file, known) in files {
            let more = file.apart().0;
            for (status, reloads) in ["failure", "success"].iter().zip(&known.reloads) {
                if reloads.0 > 0 {
                    let labels =
                        format!("apiserver_id_hash=\"{server}\"{more},status=\"{status}\"");
                    line(out, &name(rest), &labels, of(reloads));
                }
            }
        }
    }
    let help =
        format!("Information about the last applied {what} with hash as label, split by {by}.");
    head(out, &name("last_config_info"), "gauge", "ALPHA", &help);
    for (file, known) in files.iter().filter(|(_, known)| !known.hash.is_empty()) {
        let (more, hash) = (file.apart().0, &known.hash);
        let labels = format!("apiserver_id_hash=\"{server}\",hash=\"{hash}\"{more}");
        line(out, &name("last_config_info"), &labels, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_again_is_told_by_its_outcome() {
        let reloads = Reloads::default();
        reloads.first(File::Authorization, hash("a"));
        reloads.again(File::Authorization, None);
        reloads.first(File::Manifests("ValidatingAdmissionPolicy"), String::new());
        reloads.again(
            File::Manifests("ValidatingAdmissionPolicy"),
            Some(hash("b")),
        );
        let mut page = String::new();
        reloads.render(&mut page, "");
        let told: Vec<&str> = page
            .lines()
            .filter(|line| !line.starts_with('#') && !line.contains("timestamp"))
            .collect();
        expect_test::expect![[r#"
            apiserver_authorization_config_controller_automatic_reloads_total{apiserver_id_hash="",status="failure"} 1
            apiserver_authorization_config_controller_last_config_info{apiserver_id_hash="",hash="sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"} 1
            apiserver_manifest_admission_config_controller_automatic_reloads_total{apiserver_id_hash="",plugin="ValidatingAdmissionPolicy",status="success"} 1
            apiserver_manifest_admission_config_controller_last_config_info{apiserver_id_hash="",hash="sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d",plugin="ValidatingAdmissionPolicy"} 1"#]]
        .assert_eq(&told.join("\n"));
    }
}
