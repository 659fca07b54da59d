//! The etcd v3 API over the embedded store, so that `etcdctl` and etcd's own tools work on it.
//!
//! What it is: KV, Watch, Lease and Maintenance (status, alarms, defragmentation, hashes, and
//! snapshots that etcd restores from). What it is not: a cluster; there is one member. There are
//! no users and roles either: whoever gets a connection may do everything, Secrets included, so
//! that the listener is a unix socket for root or asks for a client certificate.
//!
//! Where to start: [`serve`]; `txn.rs` for how etcd's general transactions become the store's.
//!
//! Keys that begin with a zero byte are this server's own (its leases) and are not shown.

mod bolt;
mod kv;
mod lease;
mod maintenance;
mod txn;
mod watch;

use std::sync::Arc;

use etcd_api::etcdserverpb::ResponseHeader;
use etcd_api::etcdserverpb::cluster_server::ClusterServer;
use etcd_api::etcdserverpb::kv_server::KvServer;
use etcd_api::etcdserverpb::lease_server::LeaseServer;
use etcd_api::etcdserverpb::maintenance_server::MaintenanceServer;
use etcd_api::etcdserverpb::watch_server::WatchServer;
use etcd_api::mvccpb;
use store::embedded::Engine;
use store::{KeyValue, Revision, Store, StoreError};
use tonic::Status;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

/// The one member and its cluster have this number.
const MEMBER: u64 = 0x6f78_696b_7562_6501;
/// The version of the API that is spoken.
const VERSION: &str = "3.5.21";
/// The largest request.
const REQUEST_BYTES: usize = 16 << 20;

/// Where connections come from.
pub enum Listener {
    /// A socket in a directory that only its owner may enter. Debian's etcdctl, of 2022, sends
    /// over it what is no valid request; later ones do not.
    Unix(tokio::net::UnixListener),
    /// TCP for clients with a certificate of the authority.
    Tls {
        /// The socket.
        listener: tokio::net::TcpListener,
        /// The server's certificate chain and key, PEM.
        identity: (Vec<u8>, Vec<u8>),
        /// Who signs the clients' certificates, PEM.
        client_authority: Vec<u8>,
    },
    /// TCP for everybody who can connect: for tests on loopback.
    Open(tokio::net::TcpListener),
}

#[derive(Clone)]
struct Service {
    engine: Arc<Engine>,
    leases: Arc<lease::Leases>,
    /// What the member list says.
    url: Arc<str>,
}

/// Why the API is not served.
pub type ServeError = tonic::transport::Error;

/// Serves the API until `end` comes.
pub async fn serve(
    engine: Arc<Engine>,
    listener: Listener,
    end: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let url = match &listener {
        Listener::Unix(_) => "unix://oxikube".to_owned(),
        Listener::Tls { listener, .. } => format!("https://{}", address(listener)),
        Listener::Open(listener) => format!("http://{}", address(listener)),
    };
    let leases = lease::Leases::load(engine.clone()).await;
    let expiry = tokio::spawn(leases.clone().expire());
    let service = Service {
        engine,
        leases,
        url: url.into(),
    };
    let mut server = Server::builder();
    if let Listener::Tls {
        identity: (chain, key),
        client_authority,
        ..
    } = &listener
    {
        let config = ServerTlsConfig::new()
            .identity(Identity::from_pem(chain, key))
            .client_ca_root(Certificate::from_pem(client_authority));
        server = server.tls_config(config)?;
    }
    let kv = KvServer::new(service.clone()).max_decoding_message_size(REQUEST_BYTES);
    let router = server
        .tcp_nodelay(true)
        .add_service(kv)
        .add_service(WatchServer::new(service.clone()))
        .add_service(LeaseServer::new(service.clone()))
        .add_service(ClusterServer::new(service.clone()))
        .add_service(MaintenanceServer::new(service));
    let served = match listener {
        Listener::Unix(listener) => {
            let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
            router.serve_with_incoming_shutdown(incoming, end).await
        }
        Listener::Tls { listener, .. } | Listener::Open(listener) => {
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            router.serve_with_incoming_shutdown(incoming, end).await
        }
    };
    expiry.abort();
    served
}

fn address(listener: &tokio::net::TcpListener) -> String {
    listener
        .local_addr()
        .map_or_else(|_| "localhost".into(), |address| address.to_string())
}

impl Service {
    fn header(&self, revision: Revision) -> Option<ResponseHeader> {
        Some(header(revision))
    }

    fn header_now(&self) -> Option<ResponseHeader> {
        self.header(self.engine.revision())
    }
}

fn header(revision: Revision) -> ResponseHeader {
    ResponseHeader {
        cluster_id: MEMBER,
        member_id: MEMBER,
        revision: revision as i64,
        raft_term: 1,
    }
}

fn key_value(kv: &KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key.clone(),
        create_revision: kv.create_revision as i64,
        mod_revision: kv.mod_revision as i64,
        version: kv.version as i64,
        value: kv.value.clone(),
        lease: kv.lease.map_or(0, |lease| lease.number() as i64),
    }
}

/// What a refusal of the store is called by etcd, which clients know by its words.
fn status(error: StoreError) -> Status {
    match error {
        StoreError::Compacted { .. } => {
            Status::out_of_range("etcdserver: mvcc: required revision has been compacted")
        }
        StoreError::FutureRevision { .. } => {
            Status::out_of_range("etcdserver: mvcc: required revision is a future revision")
        }
        StoreError::TooLarge { .. } => Status::invalid_argument("etcdserver: request is too large"),
        StoreError::NoSpace => {
            Status::resource_exhausted("etcdserver: mvcc: database space exceeded")
        }
        StoreError::Invalid(what) => Status::invalid_argument(what),
        StoreError::Failed { .. } | StoreError::Unavailable { .. } => {
            Status::unavailable(error.to_string())
        }
        StoreError::Closed => Status::unavailable("etcdserver: server stopped"),
    }
}
