//! What the program and its process are.

use std::fmt::Write as _;

use super::{head, line};

/// Adds what the program and its process are.
pub(crate) fn render_process(out: &mut String) {
    let name = "kubernetes_build_info";
    let help = "A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.";
    head(out, name, "gauge", "BETA", help);
    let labels = "build_date=\"1970-01-01T00:00:00Z\",compiler=\"rustc\",git_commit=\"\",git_tree_state=\"clean\",git_version=\"v1.37.0\",go_version=\"none\",major=\"1\",minor=\"37\"";
    let platform = crate::paths::platform();
    line(out, name, &format!("{labels},platform=\"{platform}\""), 1);
    let name = "version_info";
    let help = "Provides the compatibility version info of the component. The component label is the name of the component, usually kube, but is relevant for aggregated-apiservers.";
    head(out, name, "gauge", "ALPHA", help);
    let labels = "binary=\"1.37.0\",component=\"kube\",emulation=\"1.37\",min_compat=\"1.36\"";
    line(out, name, labels, 1);
    render_own(out);
}

fn render_own(out: &mut String) {
    let Some(process) = linux::own::Process::read() else {
        return;
    };
    for (name, kind, help, value) in process.figures() {
        let _ = writeln!(
            out,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
        );
    }
}
