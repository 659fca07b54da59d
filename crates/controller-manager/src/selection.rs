//! Which controllers run: upstream's `--controllers`.
//!
//! `*` stands for all that are on by default, `name` switches one on and `-name` off; the last word about `*` is whether
//! it stands there at all. A controller is known by upstream's name of today, by its older alias, and by our own.

/// Our own name (that of its events), upstream's name, upstream's older alias.
const NAMES: &[(&str, &str, &str)] = &[
    ("endpoint-controller", "endpoints-controller", "endpoint"),
    (
        "endpointslice-controller",
        "endpointslice-controller",
        "endpointslice",
    ),
    (
        "endpointslicemirroring-controller",
        "endpointslice-mirroring-controller",
        "endpointslicemirroring",
    ),
    (
        "replication-controller",
        "replicationcontroller-controller",
        "replicationcontroller",
    ),
    (
        "pod-garbage-collector-controller",
        "pod-garbage-collector-controller",
        "podgc",
    ),
    (
        "resourcequota-controller",
        "resourcequota-controller",
        "resourcequota",
    ),
    ("namespace-controller", "namespace-controller", "namespace"),
    ("service-controller", "service-lb-controller", "service"),
    (
        "serviceaccount-controller",
        "serviceaccount-controller",
        "serviceaccount",
    ),
    (
        "serviceaccount-token-controller",
        "serviceaccount-token-controller",
        "serviceaccount-token",
    ),
    (
        "garbage-collector-controller",
        "garbage-collector-controller",
        "garbagecollector",
    ),
    ("daemonset-controller", "daemonset-controller", "daemonset"),
    ("job-controller", "job-controller", "job"),
    (
        "deployment-controller",
        "deployment-controller",
        "deployment",
    ),
    (
        "replicaset-controller",
        "replicaset-controller",
        "replicaset",
    ),
    (
        "horizontal-pod-autoscaler",
        "horizontal-pod-autoscaler-controller",
        "horizontalpodautoscaling",
    ),
    ("controllermanager", "disruption-controller", "disruption"),
    (
        "disruption-controller",
        "disruption-controller",
        "disruption",
    ),
    (
        "statefulset-controller",
        "statefulset-controller",
        "statefulset",
    ),
    ("cronjob-controller", "cronjob-controller", "cronjob"),
    (
        "csrsigning",
        "certificatesigningrequest-signing-controller",
        "csrsigning",
    ),
    (
        "csrapproving",
        "certificatesigningrequest-approving-controller",
        "csrapproving",
    ),
    (
        "csrcleaner",
        "certificatesigningrequest-cleaner-controller",
        "csrcleaner",
    ),
    (
        "podcertificaterequestcleaner",
        "podcertificaterequest-cleaner-controller",
        "podcertificaterequest-cleaner-controller",
    ),
    (
        "kube-apiserver-serving-clustertrustbundle-publisher",
        "kube-apiserver-serving-clustertrustbundle-publisher-controller",
        "kube-apiserver-serving-clustertrustbundle-publisher-controller",
    ),
    ("ttl-controller", "ttl-controller", "ttl"),
    (
        "bootstrap-signer",
        "bootstrap-signer-controller",
        "bootstrapsigner",
    ),
    ("token-cleaner", "token-cleaner-controller", "tokencleaner"),
    ("cidrAllocator", "node-ipam-controller", "nodeipam"),
    (
        "node-controller",
        "node-lifecycle-controller",
        "nodelifecycle",
    ),
    (
        "taint-eviction-controller",
        "taint-eviction-controller",
        "taint-eviction-controller",
    ),
    (
        "persistentvolume-controller",
        "persistentvolume-binder-controller",
        "persistentvolume-binder",
    ),
    (
        "clusterrole-aggregation-controller",
        "clusterrole-aggregation-controller",
        "clusterrole-aggregation",
    ),
    (
        "pvc-protection-controller",
        "persistentvolumeclaim-protection-controller",
        "pvc-protection",
    ),
    (
        "pv-protection-controller",
        "persistentvolume-protection-controller",
        "pv-protection",
    ),
    (
        "ttl-after-finished-controller",
        "ttl-after-finished-controller",
        "ttl-after-finished",
    ),
    (
        "root-ca-cert-publisher",
        "root-ca-certificate-publisher-controller",
        "root-ca-cert-publisher",
    ),
    (
        "ephemeral-volume-controller",
        "ephemeral-volume-controller",
        "ephemeral-volume",
    ),
    (
        "service-cidr-controller",
        "service-cidr-controller",
        "service-cidr-controller",
    ),
    (
        "storage-version-migrator-controller",
        "storage-version-migrator-controller",
        "svm",
    ),
];

/// Upstream's controllers that have nothing to do here, or are done by others, by name and alias.
const ABSENT: &[&str] = &[
    "persistentvolume-attach-detach-controller",
    "attachdetach",
    "persistentvolume-expander-controller",
    "persistentvolume-expander",
    "storageversion-garbage-collector-controller",
    "storage-version-gc",
    "resourceclaim-controller",
    "resourcepoolstatusrequest-controller",
    "legacy-serviceaccount-token-cleaner-controller",
    "legacy-service-account-token-cleaner",
    "validatingadmissionpolicy-status-controller",
    "volumeattributesclass-protection-controller",
    "selinux-warning-controller",
    "device-taint-eviction-controller",
    "node-route-controller",
    "route",
    "cloud-node-lifecycle-controller",
    "cloud-node-lifecycle",
    "podgroup-protection-controller",
];

/// Upstream's controllers that are only on when they are named.
const OFF: &[&str] = &["bootstrap-signer", "token-cleaner"];

/// Which controllers run.
#[derive(Clone, Debug)]
pub struct Selection {
    words: Vec<String>,
}

impl Default for Selection {
    /// All of them.
    fn default() -> Self {
        let words = ["*", "bootstrap-signer", "token-cleaner"];
        Self {
            words: words.map(str::to_owned).to_vec(),
        }
    }
}

/// A name that no controller has.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not in the list of known controllers")]
pub struct UnknownController(String);

impl Selection {
    /// Reads the words of `--controllers`.
    ///
    /// # Errors
    /// A word names none, not even one of upstream's.
    pub fn parse(words: &[String]) -> Result<Self, UnknownController> {
        for word in words {
            let name = word.strip_prefix('-').unwrap_or(word);
            let listed = NAMES
                .iter()
                .any(|(own, new, old)| [own, new, old].contains(&&name));
            if name != "*" && !listed && !ABSENT.contains(&name) {
                return Err(UnknownController(name.to_owned()));
            }
        }
        Ok(Self {
            words: words.to_vec(),
        })
    }

    /// Whether a controller runs, by our own name.
    pub fn runs(&self, own: &str) -> bool {
        let names = NAMES.iter().find(|(name, ..)| *name == own);
        let means = |word: &str| {
            word == own || names.is_some_and(|(_, new, old)| word == *new || word == *old)
        };
        let mut star = false;
        for word in &self.words {
            match word.strip_prefix('-') {
                Some(word) if means(word) => return false,
                Some(_) => {}
                None if means(word) => return true,
                None => star |= word == "*",
            }
        }
        star && !OFF.contains(&own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(words: &str) -> Selection {
        let words: Vec<String> = words.split(',').map(str::to_owned).collect();
        Selection::parse(&words).expect("known")
    }

    #[test]
    fn words_switch_on_and_off() {
        let all = selection("*");
        assert!(all.runs("deployment-controller") && !all.runs("token-cleaner"));
        let some = selection("*,-deployment,tokencleaner,-csrsigning");
        assert!(!some.runs("deployment-controller") && !some.runs("csrsigning"));
        assert!(some.runs("token-cleaner") && some.runs("job-controller"));
        let few = selection("node-ipam-controller");
        assert!(few.runs("cidrAllocator") && !few.runs("job-controller"));
        let unknown = Selection::parse(&["nobody".to_owned()]);
        assert_eq!(
            unknown.expect_err("unknown").to_string(),
            "\"nobody\" is not in the list of known controllers"
        );
    }
}
