//! Keys of a key management service (KMS v2): a plug-in on a Unix socket seals seeds, and values are encrypted by keys
//! that come from a seed.
//!
//! One seed is sealed when the server starts, and another when the service uses another key; every value has a key of its
//! own, derived from the seed and 32 random bytes. So the service is asked about seeds, never about values: writing needs
//! [`Kms::ready`] first, reading [`Kms::learn`], and both then work on what is known. The service is asked how it is when
//! something is written and the last answer is a minute old; what it sealed may be used for three minutes more than it
//! says that it is well.
//! Behaviour: `k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2`, `.../server/options/encryptionconfig`.

mod seal;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use prost::Message;
use ring::digest::{SHA256, digest};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::provider::Failure;
use proto::key_management_service_client::KeyManagementServiceClient;
use proto::{
    DecryptRequest, EncryptRequest, EncryptResponse, EncryptedObject, SourceKind, StatusRequest,
};
use seal::Seal;

/// The messages and services.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "generated from the protocol's description"
)]
pub(crate) mod proto {
    tonic::include_proto!("v2");
}

/// A plug-in that is well is asked again after so long.
const WELL: Duration = Duration::from_secs(60);
/// One that is not.
const ILL: Duration = Duration::from_secs(10);
/// For so long after it was well what it sealed is used.
const GRACE: Duration = Duration::from_secs(180);
/// Seeds that are remembered.
const MOST_SEEDS: usize = 1000;
const LONGEST: usize = 1024;

/// A plug-in by its socket.
pub(crate) struct Kms {
    prefix: Vec<u8>,
    client: KeyManagementServiceClient<Channel>,
    timeout: Duration,
    asking: tokio::sync::Mutex<()>,
    now: Mutex<Now>,
    known: Mutex<HashMap<[u8; 32], Arc<Seal>>>,
}

/// What new values are encrypted by.
#[derive(Default)]
struct Now {
    current: Option<Arc<Current>>,
    asked: Option<(Instant, bool)>,
    well: Option<Instant>,
}

struct Current {
    seal: Arc<Seal>,
    /// The object without its data.
    object: EncryptedObject,
}

fn digest_of(object: &EncryptedObject) -> [u8; 32] {
    let annotations: BTreeMap<_, _> = object.annotations.iter().collect();
    let mut all = Vec::new();
    let mut put = |part: &[u8]| {
        all.extend_from_slice(&part.len().to_be_bytes());
        all.extend_from_slice(part);
    };
    put(&object.kind.to_be_bytes());
    put(&object.source);
    put(object.key_id.as_bytes());
    for (key, value) in annotations {
        put(key.as_bytes());
        put(value);
    }
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, &all).as_ref());
    out
}

fn check_id(id: &str) -> Result<(), String> {
    match id.len() {
        0 => Err("keyID is empty".to_owned()),
        1..=LONGEST => Ok(()),
        long => Err(format!(
            "keyID is {long} bytes, which exceeds the max size of {LONGEST}"
        )),
    }
}

fn check_source(source: &[u8]) -> Result<(), String> {
    match source.len() {
        0 => Err("encrypted DEK source is empty".to_owned()),
        1..=LONGEST => Ok(()),
        long => Err(format!(
            "encrypted DEK source is {long} bytes, which exceeds the max size of {LONGEST}"
        )),
    }
}

impl Kms {
    /// A plug-in of this name; connections are made when they are needed.
    pub(crate) fn new(name: &str, socket: PathBuf, timeout: Duration) -> Self {
        let connect = move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        };
        // The address is only a name here: the connector knows the socket.
        let channel =
            Endpoint::from_static("http://kms").connect_with_connector_lazy(service_fn(connect));
        Self {
            prefix: format!("k8s:enc:kms:v2:{name}:").into_bytes(),
            client: KeyManagementServiceClient::new(channel),
            timeout,
            asking: tokio::sync::Mutex::default(),
            now: Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// What its values start with.
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    async fn within<T>(
        &self,
        work: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, String> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(status.to_string()),
            Err(_) => Err("context deadline exceeded".to_owned()),
        }
    }

    /// Makes sure that values can be encrypted: by a seed that the service's present key has sealed.
    ///
    /// # Errors
    /// The service is not well, and has not been for a while.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        if self.is_fresh() {
            return Ok(());
        }
        let _one = self.asking.lock().await;
        if self.is_fresh() {
            return Ok(());
        }
        let found = self.renew().await;
        let mut now = self.now.lock();
        let at = Instant::now();
        now.asked = Some((at, found.is_ok()));
        match found {
            Ok(current) => {
                if let Some(current) = current {
                    let mut known = self.known.lock();
                    known.insert(digest_of(&current.object), current.seal.clone());
                    now.current = Some(Arc::new(current));
                }
                now.well = Some(at);
                Ok(())
            }
            Err(error) => {
                let usable = now.well.is_some_and(|well| well.elapsed() < GRACE);
                tracing::warn!(error, usable, "a key management service is not well");
                match usable {
                    true => Ok(()),
                    false => Err(error),
                }
            }
        }
    }

    fn is_fresh(&self) -> bool {
        let now = self.now.lock();
        let pause = |well: bool| if well { WELL } else { ILL };
        let recent = now
            .asked
            .is_some_and(|(at, well)| at.elapsed() < pause(well));
        recent && now.current.is_some() && now.well.is_some_and(|well| well.elapsed() < GRACE)
    }

    /// Asks how the service is; another seed when it uses another key than before.
    async fn renew(&self) -> Result<Option<Current>, String> {
        let mut client = self.client.clone();
        let status = self.within(client.status(StatusRequest {})).await;
        let status = status.map_err(|why| format!("failed to call status: {why}"))?;
        if !matches!(status.version.as_str(), "v2" | "v2beta1") {
            let version = status.version;
            return Err(format!("expected KMSv2 API version v2, got {version}"));
        }
        if status.healthz != "ok" {
            let healthz = status.healthz;
            return Err(format!("got unexpected healthz status: {healthz}"));
        }
        check_id(&status.key_id)?;
        let same = |current: &Arc<Current>| current.object.key_id == status.key_id;
        if self.now.lock().current.as_ref().is_some_and(same) {
            return Ok(None);
        }
        let seed = Seal::new_seed().ok_or("the system gives no random numbers")?;
        let request = EncryptRequest {
            plaintext: seed.to_vec(),
            uid: uuid::Uuid::new_v4().to_string(),
        };
        let sealed = self.within(client.encrypt(request)).await;
        let sealed = sealed.map_err(|why| format!("failed to encrypt DEK, error: {why}"))?;
        let EncryptResponse {
            ciphertext,
            key_id,
            annotations,
        } = sealed;
        check_id(&key_id)?;
        check_source(&ciphertext)?;
        if key_id != status.key_id {
            return Err("the keys of status and encryption differ".to_owned());
        }
        Ok(Some(Current {
            seal: Arc::new(Seal::seed(&seed)),
            object: EncryptedObject {
                data: Vec::new(),
                key_id,
                source: ciphertext,
                annotations,
                kind: SourceKind::Seed.into(),
            },
        }))
    }

    fn read(&self, stored: &[u8]) -> Result<EncryptedObject, String> {
        let body = stored.get(self.prefix.len()..).unwrap_or_default();
        let object = EncryptedObject::decode(body).map_err(|e| e.to_string())?;
        check_id(&object.key_id)?;
        check_source(&object.source)?;
        match object.data.is_empty() {
            true => Err("encrypted data is empty".to_owned()),
            false => Ok(object),
        }
    }

    /// Makes sure that a stored value can be read.
    ///
    /// # Errors
    /// It is damaged, or the service does not open what it has sealed.
    pub(crate) async fn learn(&self, stored: &[u8]) -> Result<(), String> {
        let object = self.read(stored)?;
        let key = digest_of(&object);
        if self.known.lock().contains_key(&key) {
            return Ok(());
        }
        let request = DecryptRequest {
            ciphertext: object.source.clone(),
            uid: uuid::Uuid::new_v4().to_string(),
            key_id: object.key_id.clone(),
            annotations: object.annotations.clone(),
        };
        let mut client = self.client.clone();
        let opened = self.within(client.decrypt(request)).await;
        let opened = opened.map_err(|why| format!("failed to decrypt DEK, error: {why}"))?;
        let seal = match object.kind() {
            SourceKind::Seed => Some(Seal::seed(&opened.plaintext)),
            SourceKind::Key => Seal::key(&opened.plaintext),
        };
        let seal = seal.ok_or("the DEK has a length that is none of a key")?;
        let mut known = self.known.lock();
        if known.len() >= MOST_SEEDS {
            known.clear();
        }
        known.insert(key, Arc::new(seal));
        Ok(())
    }

    /// The stored form of a value, after [`Kms::ready`].
    pub(crate) fn encrypt(&self, plain: &[u8], place: &[u8]) -> Result<Vec<u8>, Failure> {
        let current = self.now.lock().current.clone().ok_or(Failure::NoKey)?;
        let mut object = current.object.clone();
        object.data = current.seal.encrypt(plain, place)?;
        let mut out = self.prefix.clone();
        object.encode(&mut out).map_err(|_| Failure::NoKey)?;
        Ok(out)
    }

    /// The value that a stored form stands for, after [`Kms::learn`].
    pub(crate) fn decrypt(&self, stored: &[u8], place: &[u8]) -> Result<Vec<u8>, Failure> {
        let object = self.read(stored).map_err(|_| Failure::Forged)?;
        let seal = self.known.lock().get(&digest_of(&object)).cloned();
        seal.ok_or(Failure::NoKey)?.decrypt(&object.data, place)
    }

    /// Whether a stored value of this plug-in is sealed by the key that it uses now.
    pub(crate) fn is_of_now(&self, stored: &[u8]) -> bool {
        let current = self.now.lock().current.clone();
        let same =
            |object: EncryptedObject| current.is_some_and(|now| now.object.key_id == object.key_id);
        self.read(stored).is_ok_and(same)
    }
}
