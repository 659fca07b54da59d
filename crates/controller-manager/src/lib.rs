//! Runs the brains of `controllers` on the `driver`, each with an identity of its own.
//!
//! As upstream with `--use-service-account-credentials`: every controller acts as the service account of its name in
//! `kube-system`, the shared watches as `system:kube-controller-manager`. No decision is taken here. Start with [`run`].

mod authority;
mod selection;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use control::Reconciler;
use controllers::certificates::approving::CsrApproving;
use controllers::certificates::cleaning::CsrCleaner;
use controllers::certificates::pod_cleaning::PodCertificateRequestCleaner;
use controllers::certificates::serving::ServingApprover;
use controllers::certificates::signing::{CsrSigning, Sign};
use controllers::{
    bootstraptokens, clusterroleaggregation, clustertrustbundlepublisher, cronjob, daemonset,
    deployment, disruption, endpoint, endpointslice, endpointslicemirroring, ephemeralvolume,
    expand, garbagecollector, job, loadbalancer, localprovisioner, namespace, nodeipam,
    nodelifecycle, persistentvolume, podgc, pvcprotection, pvprotection, replicaset,
    replicationcontroller, resourcequota, rootcacertpublisher, serviceaccount, serviceaccounttoken,
    servicecidr, statefulset, storageversionmigrator, tainteviction, ttl, ttlafterfinished,
    vacprotection, validatingadmissionpolicystatus,
};
use driver::Driver;
use kube::Client;

pub use authority::{Authority, AuthorityError};
pub use controllers::bootstraptokens::signer::signature as bootstrap_signature;
pub use controllers::certificates::{API_CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY_UNKNOWN};
pub use controllers::loadbalancer::Addresses;
pub use controllers::nodeipam::Ranges;
pub use controllers::nodelifecycle::Options as NodeLifecycle;
pub use controllers::serviceaccounttoken::SignToken;
pub use driver::{Counts, Metrics};
pub use selection::{Selection, UnknownController};

/// The identity behind the shared watches.
pub const READER: &str = "system:kube-controller-manager";

/// Makes a client that acts as this user.
pub type Clients = Arc<dyn Fn(&str) -> Client + Send + Sync>;

/// What the controllers must be told about the cluster.
#[derive(Clone)]
pub struct Config {
    /// Clients by user name.
    pub clients: Clients,
    /// Certificates that pods check the API server with, PEM.
    pub root_certificates: Arc<str>,
    /// Who fills secrets with tokens of service accounts; without one they stay empty.
    pub token_signer: Option<Arc<dyn SignToken>>,
    /// The networks that nodes get their parts of; without any, nodes get none.
    pub pod_networks: Ranges,
    /// Who signs requests for certificates.
    pub signing: Signing,
    /// When nodes count as lost, and how fast their pods are driven out.
    pub node_lifecycle: nodelifecycle::Options,
    /// Where Services of type `LoadBalancer` get addresses from; `None` leaves them to somebody else.
    pub load_balancers: Option<loadbalancer::Addresses>,
    /// Which controllers run.
    pub selection: Selection,
}

/// Who signs requests for certificates, and how long what they sign is good.
#[derive(Clone, Default)]
pub struct Signing {
    /// By name of the signer; without any, none are signed here.
    pub signers: BTreeMap<&'static str, Arc<Authority>>,
    /// For how long at most.
    pub max_seconds: i64,
    /// Serving certificates of kubelets are approved when they name only what the node is.
    pub approves_serving: bool,
}

impl Signing {
    /// A year, as upstream's `--cluster-signing-duration`.
    pub const YEAR_SECONDS: i64 = 365 * 24 * 3600;

    /// One authority that signs everything.
    pub fn all(authority: Authority) -> Self {
        let authority = Arc::new(authority);
        let names = [API_CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY_UNKNOWN];
        Self {
            signers: names.map(|name| (name, Arc::clone(&authority))).into(),
            max_seconds: Self::YEAR_SECONDS,
            approves_serving: false,
        }
    }
}

/// The user that a controller acts as: its service account, unless it names another user.
pub fn identity(controller: &str) -> String {
    if controller.starts_with("system:") {
        return controller.to_owned();
    }
    format!("system:serviceaccount:kube-system:{controller}")
}

/// Runs all controllers until `shutdown`.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) {
    run_told(config, shutdown, |_| ()).await;
}

/// The same; `tell` gets what reads their counters while they run.
pub async fn run_told(
    config: Config,
    shutdown: impl Future<Output = ()>,
    tell: impl FnOnce(Metrics),
) {
    let reader = (config.clients)(READER);
    let driver = assemble(&config);
    tell(driver.metrics());
    driver.run(reader, shutdown).await;
}

/// The queues of the controllers as a page of metrics tells them, under upstream's names.
pub fn figures(metrics: &Metrics) -> String {
    metrics.render(|own| {
        let known = QUEUES.iter().find(|(name, _)| *name == own);
        known.map_or(own, |(_, queue)| queue)
    })
}

/// Controllers whose queues have another name upstream.
const QUEUES: &[(&str, &str)] = &[
    (
        "clusterrole-aggregation-controller",
        "ClusterRoleAggregator",
    ),
    ("csrsigning", "certificate"),
    ("cronjob-controller", "cronjob"),
    ("daemonset-controller", "daemonset"),
    ("deployment-controller", "deployment"),
    ("disruption-controller", "disruption"),
    ("endpoint-controller", "endpoint"),
    ("endpointslice-controller", "endpoint_slice"),
    (
        "endpointslicemirroring-controller",
        "endpoint_slice_mirroring",
    ),
    ("ephemeral-volume-controller", "ephemeral_volume"),
    (
        "garbage-collector-controller",
        "garbage_collector_attempt_to_delete",
    ),
    ("job-controller", "job"),
    ("namespace-controller", "namespace"),
    ("node-controller", "node_lifecycle_controller"),
    ("persistentvolume-controller", "claims"),
    ("persistentvolume-expander-controller", "volume_expand"),
    ("persistentvolume-protection-controller", "pvprotection"),
    (
        "persistentvolumeclaim-protection-controller",
        "pvcprotection",
    ),
    ("replicaset-controller", "replicaset"),
    ("replication-controller", "replicationmanager"),
    ("resourcequota-controller", "resourcequota_primary"),
    ("root-ca-cert-publisher", "root_ca_cert_publisher"),
    ("serviceaccount-controller", "serviceaccount"),
    (
        "serviceaccount-token-controller",
        "serviceaccount_tokens_service",
    ),
    ("stale-pod-disruption-controller", "stale_pod_disruption"),
    ("statefulset-controller", "statefulset"),
    ("taint-eviction-controller", "noexec_taint_pod"),
    ("ttl-after-finished-controller", "ttl_jobs_to_delete"),
    ("ttl-controller", "ttlcontroller"),
    (
        "validatingadmissionpolicy-status-controller",
        "validatingadmissionpolicy-status",
    ),
    (
        "volumeattributesclass-protection-controller",
        "vacprotection",
    ),
];

/// All controllers on one driver, not yet running.
pub fn assemble(config: &Config) -> Driver {
    let mut set = Set {
        config,
        driver: Driver::new(),
    };
    set.add(deployment::DeploymentController);
    set.add(replicaset::ReplicaSetController);
    set.add(replicationcontroller::ReplicationControllerController);
    set.add(statefulset::StatefulSetController);
    set.add(daemonset::DaemonSetController);
    set.add(job::JobController);
    set.add(job::OrphanedPods);
    set.add(cronjob::CronJobController);
    set.add(ttlafterfinished::TtlAfterFinishedController);
    set.add(endpoint::EndpointsController);
    set.add(endpointslice::EndpointSliceController);
    set.add(endpointslicemirroring::EndpointSliceMirroringController);
    set.add(namespace::NamespaceController);
    set.add(serviceaccount::ServiceAccountsController);
    set.add(serviceaccounttoken::TokensController {
        signer: config.token_signer.clone(),
        root_certificates: Arc::clone(&config.root_certificates),
    });
    set.add(rootcacertpublisher::RootCaCertPublisher {
        certificates: Arc::clone(&config.root_certificates),
    });
    set.add(garbagecollector::GarbageCollector);
    set.add(podgc::PodGarbageCollector {
        terminated_pods: podgc::TERMINATED_PODS,
    });
    set.add(disruption::DisruptionController);
    set.add(disruption::StaleDisruptions);
    set.add(resourcequota::ResourceQuotaController);
    set.add(nodelifecycle::NodeLifecycleController {
        options: config.node_lifecycle,
    });
    set.add(tainteviction::TaintEvictionController);
    set.add(ttl::TtlController);
    set.add(servicecidr::ServiceCidrController);
    if !config.pod_networks.cluster.is_empty() {
        set.add(nodeipam::NodeIpam {
            ranges: config.pod_networks.clone(),
        });
    }
    set.add(persistentvolume::PersistentVolumeController);
    set.add(pvcprotection::PvcProtectionController);
    set.add(pvprotection::PvProtectionController);
    set.add(vacprotection::VacProtectionController);
    set.add(ephemeralvolume::EphemeralVolumeController);
    set.add(expand::ExpandController);
    set.add(localprovisioner::LocalProvisioner);
    if let Some(addresses) = config.load_balancers.clone() {
        set.add(loadbalancer::LoadBalancerController { addresses });
    }
    set.add(clusterroleaggregation::ClusterRoleAggregationController);
    set.add(storageversionmigrator::StorageVersionMigrator);
    set.add(validatingadmissionpolicystatus::ValidatingAdmissionPolicyStatus);
    set.certificates(&config.signing);
    set.add(bootstraptokens::cleaner::TokenCleaner);
    set.add(bootstraptokens::signer::BootstrapSigner);
    set.driver
}

/// Items of one controller that are worked on side by side, as upstream's `--concurrent-*-syncs`.
const WORKERS: usize = 5;

struct Set<'a> {
    config: &'a Config,
    driver: Driver,
}

impl Set<'_> {
    fn certificates(&mut self, signing: &Signing) {
        self.add(CsrApproving);
        self.add(CsrCleaner);
        self.add(PodCertificateRequestCleaner);
        let certificates = Arc::clone(&self.config.root_certificates);
        if !certificates.is_empty() {
            self.add(clustertrustbundlepublisher::ClusterTrustBundlePublisher { certificates });
        }
        if !signing.signers.is_empty() {
            let signer = |(name, authority): (&&'static str, &Arc<Authority>)| {
                (*name, Arc::clone(authority) as Arc<dyn Sign>)
            };
            self.add(CsrSigning {
                signers: signing.signers.iter().map(signer).collect(),
                max_seconds: signing.max_seconds,
            });
        }
        if signing.approves_serving {
            self.add(ServingApprover);
        }
    }

    fn add<R: Reconciler>(&mut self, reconciler: R) {
        if !self.config.selection.runs(R::NAME) {
            return;
        }
        let client = (self.config.clients)(&identity(R::IDENTITY));
        self.driver.add(reconciler, client, WORKERS);
    }
}
