//! What components are configured with, as `/configz` tells it: in the words of upstream's configuration kinds, and only what
//! means something here. The kubelet's is made in its own crate.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use serving::configz::seconds;

use super::flags::Election;

/// Under which name each component shows it.
pub(super) const CONTROLLER_MANAGER: &str = "kubecontrollermanager.config.k8s.io";
pub(super) const PROXY: &str = "kubeproxy.config.k8s.io";
pub(super) const SCHEDULER: &str = "componentconfig";

/// Who leads, for a component whose lease has its own name unless another is given.
pub(super) fn election(election: &Election, component: &str) -> Value {
    let name = election.leader_elect_resource_name.as_deref();
    json!({
        "leaderElect": election.leader_elect,
        "leaseDuration": seconds(election.leader_elect_lease_duration),
        "renewDeadline": seconds(election.leader_elect_renew_deadline),
        "retryPeriod": seconds(election.leader_elect_retry_period),
        "resourceLock": "leases",
        "resourceName": name.unwrap_or(component),
        "resourceNamespace": election.leader_elect_resource_namespace,
    })
}

/// How the API server is reached.
pub(super) fn connection(kubeconfig: &Path) -> Value {
    json!({"kubeconfig": kubeconfig})
}

/// A path; the empty one: there is none.
pub(super) fn path(path: Option<&PathBuf>) -> String {
    path.map(|path| path.display().to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Some {
        #[command(flatten)]
        election: Election,
    }

    #[test]
    fn election_is_told_in_upstreams_words() {
        let words = [
            "some",
            "--leader-elect=false",
            "--leader-elect-lease-duration=1m30s",
        ];
        let told = election(&Some::parse_from(words).election, "kube-scheduler");
        expect_test::expect![[
            r#"{"leaderElect":false,"leaseDuration":"1m30s","renewDeadline":"10s","resourceLock":"leases","resourceName":"kube-scheduler","resourceNamespace":"kube-system","retryPeriod":"2s"}"#
        ]]
        .assert_eq(&told.to_string());
    }
}
