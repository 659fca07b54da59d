//! Where a store is, in one word, and the one door to both engines.

use std::path::PathBuf;
use std::sync::Arc;

use store::Store;
use store::embedded::{self, Engine};

use crate::{EtcdStore, OpenError, Options, Tls};

/// Where a store is.
#[derive(Clone)]
pub enum Place {
    /// A data directory of this machine: the embedded engine.
    Directory(PathBuf),
    /// An etcd cluster.
    Etcd {
        /// URLs of its members.
        endpoints: Vec<String>,
        /// For `https` URLs.
        tls: Option<Tls>,
    },
}

/// Why a place is none, or no store there could be opened.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// An endpoint that is no URL.
    #[error("{0:?} is no endpoint: say http://HOST:PORT or https://HOST:PORT")]
    Endpoint(String),
    /// The data directory.
    #[error(transparent)]
    Embedded(#[from] embedded::OpenError),
    /// The etcd cluster.
    #[error(transparent)]
    Etcd(#[from] OpenError),
}

impl Place {
    /// What `--datastore-endpoint` says: `https://a:2379,b:2379,c:2379`; the scheme of the first
    /// holds for those that have none.
    pub fn etcd(list: &str, tls: Option<Tls>) -> Result<Place, PlaceError> {
        let wrong = |endpoint: &str| PlaceError::Endpoint(endpoint.to_owned());
        let mut scheme = None;
        let mut endpoints = Vec::new();
        for endpoint in list.split(',').map(str::trim) {
            let (own, host) = match endpoint.split_once("://") {
                Some((own, host)) => (Some(own), host),
                None => (None, endpoint),
            };
            let used = own.or(scheme).ok_or_else(|| wrong(endpoint))?;
            scheme.get_or_insert(used);
            let host = host.trim_end_matches('/');
            if !matches!(used, "http" | "https") || host.is_empty() || host.contains('/') {
                return Err(wrong(endpoint));
            }
            endpoints.push(format!("{used}://{host}"));
        }
        Ok(Place::Etcd { endpoints, tls })
    }
}

/// A store that was opened, with what only its engine can do.
#[derive(Clone)]
pub enum Opened {
    /// The embedded engine.
    Embedded(Arc<Engine>),
    /// etcd.
    Etcd(Arc<EtcdStore>),
}

impl Opened {
    /// The store.
    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Opened::Embedded(engine) => engine.clone(),
            Opened::Etcd(etcd) => etcd.clone(),
        }
    }

    /// The embedded engine, if it is that.
    pub fn engine(&self) -> Option<&Arc<Engine>> {
        match self {
            Opened::Embedded(engine) => Some(engine),
            Opened::Etcd(_) => None,
        }
    }

    /// Ends it; for the embedded engine this blocks for about as long as a write takes.
    pub fn close(&self) {
        match self {
            Opened::Embedded(engine) => engine.close(),
            Opened::Etcd(etcd) => etcd.close(),
        }
    }
}

/// Opens the store at a place, with the defaults of its engine.
pub async fn open(place: &Place) -> Result<Opened, PlaceError> {
    match place {
        Place::Directory(dir) => {
            let engine = Engine::open(dir, embedded::Options::default())?;
            Ok(Opened::Embedded(engine))
        }
        Place::Etcd { endpoints, tls } => {
            let etcd = EtcdStore::open(endpoints, tls.as_ref(), Options::default()).await?;
            Ok(Opened::Etcd(etcd))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(list: &str) -> Result<Vec<String>, String> {
        match Place::etcd(list, None) {
            Ok(Place::Etcd { endpoints, .. }) => Ok(endpoints),
            Ok(Place::Directory(_)) => Err("a directory".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn endpoints_share_the_first_scheme() {
        let all = ["https://a:2379", "https://b:2379", "https://c:2379"].map(String::from);
        assert_eq!(endpoints("https://a:2379,b:2379, c:2379/"), Ok(all.into()));
        for bad in [
            "",
            "a:2379",
            "ftp://a",
            "http://",
            "http://a/x",
            "http://a,,b",
        ] {
            assert!(endpoints(bad).is_err(), "{bad}");
        }
    }
}
