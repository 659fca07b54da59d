//! Runs the brains of `controllers` on the `driver`, each with an identity of its own.
//!
//! As upstream with `--use-service-account-credentials`: every controller acts as the service account of its name in
//! `kube-system`, the shared watches as `system:kube-controller-manager`. No decision is taken here. Start with [`run`].

use std::future::Future;
use std::sync::Arc;

use control::Reconciler;
use controllers::{
    clusterroleaggregation, deployment, endpoint, endpointslice, endpointslicemirroring,
    garbagecollector, namespace, nodeipam, nodelifecycle, podgc, replicaset, replicationcontroller,
    rootcacertpublisher, serviceaccount, serviceaccounttoken, tainteviction,
};
use driver::Driver;
use kube::Client;

pub use controllers::nodeipam::Ranges;
pub use driver::{Counts, Metrics};

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
    /// The networks that nodes get their parts of; without any, nodes get none.
    pub pod_networks: Ranges,
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
    let reader = (config.clients)(READER);
    assemble(&config).run(reader, shutdown).await;
}

/// All controllers on one driver, not yet running.
pub fn assemble(config: &Config) -> Driver {
    let mut set = Set {
        config,
        driver: Driver::new(),
    };
    set.add(deployment::DeploymentController);
    set.add(replicaset::ReplicaSetController);
    set.add(replicationcontroller::ReplicationControllerController);
    set.add(endpoint::EndpointsController);
    set.add(endpointslice::EndpointSliceController);
    set.add(endpointslicemirroring::EndpointSliceMirroringController);
    set.add(namespace::NamespaceController);
    set.add(serviceaccount::ServiceAccountsController);
    set.add(serviceaccounttoken::TokensController);
    set.add(rootcacertpublisher::RootCaCertPublisher {
        certificates: Arc::clone(&config.root_certificates),
    });
    set.add(garbagecollector::GarbageCollector);
    set.add(podgc::PodGarbageCollector {
        terminated_pods: podgc::TERMINATED_PODS,
    });
    set.add(nodelifecycle::NodeLifecycleController);
    set.add(tainteviction::TaintEvictionController);
    if !config.pod_networks.cluster.is_empty() {
        set.add(nodeipam::NodeIpam {
            ranges: config.pod_networks.clone(),
        });
    }
    set.add(clusterroleaggregation::ClusterRoleAggregationController);
    set.driver
}

/// Items of one controller that are worked on side by side, as upstream's `--concurrent-*-syncs`.
const WORKERS: usize = 5;

struct Set<'a> {
    config: &'a Config,
    driver: Driver,
}

impl Set<'_> {
    fn add<R: Reconciler>(&mut self, reconciler: R) {
        let client = (self.config.clients)(&identity(R::IDENTITY));
        self.driver.add(reconciler, client, WORKERS);
    }
}
