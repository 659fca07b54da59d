//! The server: its parts, how it starts, and how requests reach the road.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::node::Graph;
use access::rbac::Index;
use access::tokens::Tokens;
use access::{Lookup, Shared};
use api::core::service::allocation::Family;
use api::networking::servicecidr::Range;
use arc_swap::ArcSwap;
use ipnet::IpNet;
use machinery::about::Flags;
use machinery::{ApiError, Object};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use store::{EventKind, Store, StoreError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::admit::Gates;
use crate::aggregation::{self, Aggregation};
use crate::allocate::{Books, repair};
use crate::audit::{Audit, AuditOptions};
use crate::authenticate::{self, Elsewhere, Webhook};
use crate::authorize::{self, Chain, Views};
use crate::cache::{Change, Follower, Selection};
use crate::call::Call;
use crate::components::Component;
use crate::connect::client::KubeletTls;
use crate::custom::{self, CustomResources};
use crate::flow::Flow;
use crate::identity_lease::{self, IdentityLease};
use crate::impersonate::Impersonations;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::openapi::Documents;
use crate::outbound::Outbound;
use crate::policy::Policy;
use crate::resource::{Resources, Storage};
use crate::rest::Rest;
use crate::{policies, token_signer, webhooks};

/// A certificate with its chain, and its key.
pub struct Identity {
    /// The certificate, then those that signed it.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub key: PrivateKeyDer<'static>,
}

/// How the server speaks to kubelets.
pub struct KubeletClient {
    /// The server's client certificate.
    pub identity: Identity,
    /// Who signs the kubelets' serving certificates.
    pub authorities: Vec<CertificateDer<'static>>,
}

/// What a server is made of.
pub struct Config {
    /// Where objects are kept.
    pub store: Arc<dyn Store>,
    /// Signs and checks service-account tokens.
    pub tokens: Tokens,
    /// Cluster IPs come from here, and from further ServiceCIDRs; the first is the server's own, the tenth is for the DNS.
    pub service_cidr: IpNet,
    /// Node ports come from here.
    pub node_ports: RangeInclusive<u16>,
    /// Where pods reach the server: the end point of the service `kubernetes`.
    pub advertise_address: IpAddr,
    /// The port there.
    pub advertise_port: u16,
    /// The name of the host: of it follows by which lease other servers know this one. Without it there is no such lease.
    pub host_name: Option<String>,
    /// For connections to kubelets; without it logs, exec and the like are refused.
    pub kubelet_client: Option<KubeletClient>,
    /// Who is known beside client certificates and service accounts, what is asked, and what is left out.
    pub policy: Policy,
    /// Whose health `componentstatuses` tells, beside the store's.
    pub components: Vec<Component>,
    /// What is written down of requests.
    pub audit: AuditOptions,
    /// Shown to the servers of other group versions; without it none of them knows this one.
    pub proxy_client: Option<Identity>,
    /// How much the server takes on.
    pub limits: Limits,
    /// The command line, as `/flagz` tells it.
    pub flags: Flags,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read.
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
    /// The network of cluster addresses is none.
    #[error("the network of cluster addresses cannot be used")]
    ServiceNetwork,
    /// The certificates do not fit together.
    #[error("the TLS configuration is not usable")]
    Tls(#[from] rustls::Error),
    /// The client CA cannot be used.
    #[error("the client certificate authority is not usable")]
    ClientAuthority(#[from] rustls::client::VerifierBuilderError),
    /// An authorizer elsewhere cannot be used as it is described.
    #[error("authorization is not usable: {0}")]
    Authorization(String),
    /// What is to be written down has no place.
    #[error("the audit log cannot be opened")]
    Audit(#[source] std::io::Error),
    /// The store shows no server, though this one has just said that it is there.
    #[error("no API server is listed in the store, not even this one")]
    NoServers,
    /// An admission plug-in cannot be used as it is set.
    #[error("{0}")]
    Admission(String),
    /// Who knows users elsewhere cannot be asked as it is described.
    #[error("authentication is not usable: {0}")]
    Authentication(String),
    /// An object that every cluster has cannot be made.
    #[error("{what} cannot be made")]
    Bootstrap {
        /// Its path.
        what: String,
        /// Why.
        #[source]
        source: ApiError,
    },
}

/// A server that goes does not wait longer for a store that does not answer.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// An API server.
pub struct Server {
    store: Arc<dyn Store>,
    resources: Resources,
    views: Views,
    authorizers: ArcSwap<Chain>,
    tokens: Tokens,
    elsewhere: ArcSwap<Elsewhere>,
    token_webhook: Option<Webhook>,
    impersonations: Impersonations,
    flow: Flow,
    metrics: Arc<Metrics>,
    rest: Arc<Rest>,
    books: Arc<Books>,
    kubelets: Option<KubeletTls>,
    policy: Policy,
    components: Vec<Component>,
    audit: Option<Arc<Audit>>,
    gates: Gates,
    admission_policies: Arc<policies::Table>,
    openapi: Documents,
    outbound: Outbound,
    aggregation: Arc<Aggregation>,
    webhooks: Arc<webhooks::Table>,
    limits: Limits,
    identity_lease: Option<IdentityLease>,
    /// The server has been told to end, and is not ready any more.
    ending: CancellationToken,
    shutdown: CancellationToken,
    under_way: TaskTracker,
    leaving: CancellationToken,
    pub(crate) settings: Settings,
}

/// The parts of the configuration that do not become something else.
pub(crate) struct Settings {
    pub(crate) advertise_address: IpAddr,
    pub(crate) advertise_port: u16,
    /// The network of the ServiceCIDR `kubernetes`.
    pub(crate) service_range: Range,
    /// The command line.
    pub(crate) flags: Flags,
}

impl Server {
    /// Makes a server: reads every resource into its cache, follows the store, and makes the objects that every cluster
    /// has.
    ///
    /// # Errors
    /// The store cannot be read or written, or a certificate cannot be used.
    pub async fn new(config: Config) -> Result<Arc<Self>, StartError> {
        let rbac = Arc::new(Shared::new(Index::default()));
        let nodes = Arc::new(Shared::new(Graph::default()));
        let service_range = Range::parse(&config.service_cidr.to_string());
        let service_range = service_range.ok_or(StartError::ServiceNetwork)?;
        let family = if service_range.is_v4() {
            Family::V4
        } else {
            Family::V6
        };
        let books = Arc::new(Books::new(family, config.node_ports));
        let (tell_repair, repairs) = mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        let custom = CustomResources::new(config.store.clone(), shutdown.clone());
        let custom = Arc::new(custom);
        let webhooks = Arc::new(webhooks::Table::default());
        let admission_policies = Arc::new(policies::Table::default());
        let aggregation = Arc::new(Aggregation::new(config.proxy_client));
        let resources = Resources::new(&config.store, custom.clone(), |group, resource| {
            let mut followers = followers(group, resource, &rbac, &nodes, &custom);
            followers.extend(follows_webhooks(group, resource, &webhooks));
            followers.extend(admission_policies.follows(group, resource));
            if (group, resource) == (aggregation::GROUP, aggregation::RESOURCE) {
                let table = aggregation.clone();
                followers.push(Box::new(move |change| table.apply(change)));
            }
            followers.extend(repair::follower(group, resource, &tell_repair, &books));
            followers
        });
        let views = Views { nodes, rbac };
        let chain = Chain::new(&config.policy.authorization, &views);
        let chain = chain.map_err(StartError::Authorization)?;
        let token_webhook = config.policy.token_webhook.as_ref().map(Webhook::new);
        let token_webhook = token_webhook
            .transpose()
            .map_err(StartError::Authentication)?;
        let gates = Gates::new(&config.policy.admission).map_err(StartError::Admission)?;
        let server = Arc::new(Self {
            store: config.store,
            gates,
            resources,
            views,
            authorizers: ArcSwap::from_pointee(chain),
            tokens: config.tokens,
            flow: Flow::new(&config.limits),
            elsewhere: ArcSwap::from_pointee(Elsewhere::new(&config.policy.authentication)),
            token_webhook,
            impersonations: Impersonations::default(),
            metrics: Arc::default(),
            rest: Arc::default(),
            books,
            kubelets: config.kubelet_client.map(KubeletTls::new).transpose()?,
            policy: config.policy,
            components: config.components,
            audit: Audit::open(config.audit)
                .map_err(StartError::Audit)?
                .map(Arc::new),
            admission_policies,
            openapi: Documents::default(),
            outbound: Outbound::default(),
            aggregation,
            webhooks,
            limits: config.limits,
            identity_lease: config.host_name.map(IdentityLease::new),
            ending: CancellationToken::new(),
            leaving: shutdown.child_token(),
            shutdown,
            under_way: TaskTracker::new(),
            settings: Settings {
                advertise_address: config.advertise_address,
                advertise_port: config.advertise_port,
                service_range,
                flags: config.flags,
            },
        });
        crate::manifests::start(&server).map_err(StartError::Admission)?;
        server.load().await?;
        server.flow.configure(&server);
        repair::adopt(&server).await?;
        crate::bootstrap::run(&server).await?;
        tokio::spawn(repair::keep(Arc::downgrade(&server), repairs));
        if let Some((path, text)) = server.policy.authorization_file.clone() {
            authorize::follow(&server, path, text);
        }
        if let Some((path, text)) = server.policy.authentication_file.clone() {
            authenticate::follow(&server, path, text);
        }
        if let Some(signer) = server.policy.token_signer.clone() {
            token_signer::follow(&server, signer);
        }
        server.rest.set();
        Ok(server)
    }

    async fn load(&self) -> Result<(), StartError> {
        let mut loads = JoinSet::new();
        for storage in self.resources.storages() {
            let storage = storage.clone();
            let metrics = self.metrics.clone();
            loads.spawn(async move {
                let began = Instant::now();
                let watch = storage.cache.load().await?;
                let of = (&*storage.group, &*storage.resource);
                metrics.measures.initialized(of, began.elapsed());
                storage.loaded.send_replace(true);
                Ok::<_, StoreError>((storage.cache.clone(), watch))
            });
        }
        while let Some(loaded) = loads.join_next().await {
            let Ok(loaded) = loaded else { continue };
            let (cache, watch) = loaded?;
            let shutdown = self.shutdown.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = cache.follow(watch) => {}
                    () = shutdown.cancelled() => {}
                }
            });
        }
        Ok(())
    }

    /// Tells the cluster that this server goes: its lease is removed, and where several share a store, pods are led to the
    /// others from then on.
    /// Before [`Server::shut_down`], and before the store is closed.
    pub async fn leave(self: &Arc<Self>) {
        self.leaving.cancel();
        let left = async {
            let service = crate::kubernetes_service::leave(self);
            let (service, lease) = futures::join!(service, identity_lease::leave(self));
            if let Err(error) = service {
                tracing::warn!(%error, "the others are not told that this server goes");
            }
            if let Err(error) = lease {
                tracing::warn!(%error, "the lease of this server stays");
            }
        };
        if tokio::time::timeout(LEAVE_WITHIN, left).await.is_err() {
            tracing::warn!("the store does not answer to a server that goes");
        }
    }

    /// Says that the server is not ready any more; after the delay that the operator wants ends watches and whatever else
    /// would stay open, and the server's own tasks. Requests under way are answered.
    pub fn shut_down(&self) {
        self.ending.cancel();
        let (delay, shutdown) = (self.limits.shutdown_delay, self.shutdown.clone());
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if !delay.is_zero() => drop(runtime.spawn(async move {
                tokio::time::sleep(delay).await;
                shutdown.cancel();
            })),
            _ => shutdown.cancel(),
        }
    }

    /// Whether the server has been told to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_cancelled()
    }

    /// How much the server takes on.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts a request that is answered before the server ends; those that stay open by nature are not waited for.
    pub(crate) fn under_way(&self, call: &Call) -> Option<TaskTrackerToken> {
        (!call.info.is_long_running()).then(|| self.under_way.token())
    }

    /// Waits until those are answered.
    pub(crate) async fn answered(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }

    /// Cancelled when the server goes.
    pub(crate) fn leaving_token(&self) -> CancellationToken {
        self.leaving.clone()
    }

    /// By which other servers know this one.
    pub(crate) fn identity_lease(&self) -> Option<&IdentityLease> {
        self.identity_lease.as_ref()
    }

    pub(crate) fn shutdown_token(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    pub(crate) fn resources(&self) -> &Resources {
        &self.resources
    }

    /// Who decides what may be done, at this moment.
    pub(crate) fn authorizers(&self) -> Arc<Chain> {
        self.authorizers.load_full()
    }

    /// Puts others in their place.
    pub(crate) fn replace_authorizers(&self, chain: Chain) {
        self.authorizers.store(Arc::new(chain));
    }

    /// What authorizers in this process look at.
    pub(crate) fn views(&self) -> &Views {
        &self.views
    }

    pub(crate) fn rbac(&self) -> &Shared<Index> {
        &self.views.rbac
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Who knows users elsewhere, at this moment.
    pub(crate) fn elsewhere(&self) -> Arc<Elsewhere> {
        self.elsewhere.load_full()
    }

    /// Puts others in their place.
    pub(crate) fn replace_elsewhere(&self, elsewhere: Elsewhere) {
        self.elsewhere.store(Arc::new(elsewhere));
    }

    /// What is remembered of those who act as somebody else.
    pub(crate) fn impersonations(&self) -> &Impersonations {
        &self.impersonations
    }

    pub(crate) fn token_webhook(&self) -> Option<&Webhook> {
        self.token_webhook.as_ref()
    }

    pub(crate) fn flow(&self) -> &Flow {
        &self.flow
    }

    pub(crate) fn books(&self) -> &Arc<Books> {
        &self.books
    }

    /// How kubelets are spoken to, if they are.
    pub(crate) fn kubelets(&self) -> Option<&KubeletTls> {
        self.kubelets.as_ref()
    }

    /// The admission plug-ins that remember or ask.
    pub(crate) fn gates(&self) -> &Gates {
        &self.gates
    }

    /// The admission policies of the moment.
    pub(crate) fn admission_policies(&self) -> &policies::Table {
        &self.admission_policies
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(crate) fn components(&self) -> &[Component] {
        &self.components
    }

    /// What is written down, if anything is.
    pub(crate) fn audit(&self) -> Option<&Arc<Audit>> {
        self.audit.as_ref()
    }

    pub(crate) fn openapi(&self) -> &Documents {
        &self.openapi
    }

    /// The way to webhooks and other servers.
    pub(crate) fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    /// The servers of other group versions.
    pub(crate) fn aggregation(&self) -> &Aggregation {
        &self.aggregation
    }

    /// The webhooks of the moment.
    pub(crate) fn webhooks(&self) -> &webhooks::Table {
        &self.webhooks
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// What is cleaned up after busy times.
    pub(crate) fn rest(&self) -> &Arc<Rest> {
        &self.rest
    }
}

impl Server {
    /// The place of a resource, of the program or a custom one, whatever its version.
    fn kept(&self, group: &str, resource: &str) -> Option<Arc<Storage>> {
        if let Some(storage) = self.resources.storage(group, resource) {
            return Some(storage.clone());
        }
        let all = self.resources.custom().all();
        let own = all.iter().find(|r| {
            let names = r.names();
            (names.group, names.plural) == (group, resource)
        });
        own?.storage("get").ok().cloned()
    }
}

/// Decisions see the caches. A write is answered only when the caches show it, so they are as new as any answer.
impl Lookup for Server {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let storage = self.kept(group, resource)?;
        match namespace {
            "" => storage.cache.tree(name),
            _ => storage.cache.tree(&format!("{namespace}/{name}")),
        }
    }

    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Object>> {
        let Some(storage) = self.kept(group, resource) else {
            return Vec::new();
        };
        let snapshot = storage.cache.snapshot(&Selection::namespace(namespace), 0);
        snapshot
            .entries
            .iter()
            .filter_map(|entry| entry.tree())
            .collect()
    }
}

/// The views of authorization follow their resources.
fn followers(
    group: &str,
    resource: &str,
    rbac: &Arc<Shared<Index>>,
    nodes: &Arc<Shared<Graph>>,
    custom: &Arc<CustomResources>,
) -> Vec<Follower> {
    let for_rbac = group == access::rbac::GROUP;
    let for_nodes = matches!(
        (group, resource),
        ("", "pods" | "persistentvolumes")
            | ("storage.k8s.io", "volumeattachments")
            | ("resource.k8s.io", "resourceslices")
            | ("certificates.k8s.io", "podcertificaterequests")
    );
    let mut followers: Vec<Follower> = Vec::new();
    if for_rbac {
        let index = rbac.clone();
        followers.push(Box::new(move |change| {
            follow(
                change,
                |o| index.write().apply(o),
                |k, ns, n| index.write().delete(k, ns, n),
            );
        }));
    }
    if for_nodes {
        let graph = nodes.clone();
        followers.push(Box::new(move |change| {
            follow(
                change,
                |o| graph.write().apply(o),
                |k, ns, n| graph.write().delete(k, ns, n),
            );
        }));
    }
    if (group, resource) == (custom::GROUP, custom::RESOURCE) {
        let custom = custom.clone();
        followers.push(Box::new(move |change| custom.apply(change)));
    }
    followers
}

/// The table of webhooks follows their configurations.
fn follows_webhooks(group: &str, resource: &str, table: &Arc<webhooks::Table>) -> Option<Follower> {
    let mutating = match (group, resource) {
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations") => true,
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations") => false,
        _ => return None,
    };
    let table = table.clone();
    Some(Box::new(move |change| table.apply(mutating, change)))
}

fn follow(change: &Change, put: impl FnOnce(&Object), gone: impl FnOnce(&str, &str, &str)) {
    let Some(object) = change.object.decode() else {
        return;
    };
    match change.kind {
        EventKind::Put => put(&object),
        EventKind::Delete => gone(object.kind(), object.namespace(), object.name()),
    }
}

/// What a client is told when the store does not do what was asked.
pub(crate) fn store_error(error: StoreError) -> ApiError {
    match error {
        StoreError::Compacted { .. } => {
            ApiError::expired("The resourceVersion for the provided list is too old.")
        }
        StoreError::FutureRevision { requested, current } => {
            crate::cache::too_large_revision(requested, current)
        }
        StoreError::TooLarge { .. } => {
            ApiError::too_large(format!("etcdserver: request is too large: {error}"))
        }
        StoreError::Closed => ApiError::unavailable("the server is shutting down"),
        StoreError::Unavailable { .. } => ApiError::unavailable(error.to_string()),
        other => ApiError::internal(other),
    }
}
