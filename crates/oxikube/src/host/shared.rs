//! What the servers of a cluster share through its datastore: the authorities, the keys of service accounts, the
//! identities of the control plane, and the facts of the cluster.
//!
//! The first server to write makes them; every other one takes them from there, so that nothing is copied by hand. They
//! are sealed with a key that is derived from the token's secret: whoever reads the datastore alone learns nothing, and a
//! server with another token is refused. A store in a directory has one server, and shares nothing.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU32;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2::{PBKDF2_HMAC_SHA256, derive};
use serde::{Deserialize, Serialize};
use store::{Compare, KeyValue, Op, Range, Store, Txn, TxnResult};

use super::ClusterFacts;
use super::token::{Token, digests};
use crate::cluster::{make_private_dir, write_private};

/// Outside of what the API server keeps.
const KEY: &[u8] = b"/oxikube/bootstrap";
/// Begins the record, and is sealed with it.
const FORMAT: &[u8] = b"oxikube-bootstrap 1\n";
const SALT: usize = 16;
/// The secret is drawn by chance from 36^16: this is for those who choose their own.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(100_000).expect("not zero");

/// Every file that all servers have; what is not here each one makes for itself.
const FILES: [&str; 15] = [
    "ca.crt",
    "ca.key",
    "front-proxy-ca.crt",
    "front-proxy-ca.key",
    "front-proxy-client.crt",
    "front-proxy-client.key",
    "admin.crt",
    "admin.key",
    "apiserver-kubelet-client.crt",
    "apiserver-kubelet-client.key",
    "controller-manager.crt",
    "controller-manager.key",
    "scheduler.crt",
    "scheduler.key",
    "sa.key",
];

/// The record's content.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bootstrap {
    facts: ClusterFacts,
    files: BTreeMap<String, String>,
}

/// Makes sure that `dir` has the files that all servers of the cluster share. `make` makes those of a new cluster in the
/// directory that it is given.
pub(super) async fn settle(
    store: &dyn Store,
    token: &Token,
    facts: &ClusterFacts,
    dir: &Path,
    make: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let found = store.range(Range::key(KEY)).await;
    let found = found.context("the datastore cannot be read")?.kvs.pop();
    let shared = match found {
        Some(record) => unseal(&record.value, token)?,
        None => offer(store, token, facts, dir, make).await?,
    };
    if shared.facts != *facts {
        let known = &shared.facts;
        bail!(
            "the cluster in the datastore was made with --cluster-cidr={} --service-cidr={} --cluster-domain={} \
             --network-backend={}, and all its servers need the same",
            known.cluster_cidr,
            known.service_cidr,
            known.cluster_domain,
            known.network_backend.name()
        );
    }
    let authority = shared.files.get("ca.crt").map_or("", String::as_str);
    if let Some(pin) = &token.pin
        && !digests(authority)?.contains(pin)
    {
        bail!("the token is of a cluster with another authority than that in the datastore");
    }
    put_in_place(&shared, dir)
}

/// Offers this server's files, those it has or new ones; what is in the datastore then counts, whoever was first.
async fn offer(
    store: &dyn Store,
    token: &Token,
    facts: &ClusterFacts,
    dir: &Path,
    make: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<Bootstrap> {
    let own = if dir.exists() {
        read(dir, facts)?
    } else {
        // Not in its place before it is the cluster's: another server may be quicker.
        let made = dir.with_extension("offered");
        remove(&made)?;
        make(&made)?;
        let own = read(&made, facts);
        remove(&made)?;
        own?
    };
    let txn = Txn {
        compare: vec![Compare::ModRevision {
            key: KEY.into(),
            equals: 0,
        }],
        success: vec![Op::Put {
            key: KEY.into(),
            value: seal(&own, token)?.into(),
            ttl: None,
        }],
        failure_read: vec![KEY.into()],
    };
    let done = store.txn(txn).await;
    match done.context("the datastore cannot be written")? {
        TxnResult::Committed { .. } => Ok(own),
        TxnResult::Failed { current, .. } => {
            let theirs: Option<KeyValue> = current.into_iter().flatten().next();
            unseal(&theirs.context("the datastore has no record")?.value, token)
        }
    }
}

fn remove(dir: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn read(dir: &Path, facts: &ClusterFacts) -> anyhow::Result<Bootstrap> {
    let file = |name: &&str| {
        let path = dir.join(name);
        let text = fs::read_to_string(&path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        anyhow::Ok(((*name).to_owned(), text))
    };
    Ok(Bootstrap {
        facts: facts.clone(),
        files: FILES.iter().map(file).collect::<Result<_, _>>()?,
    })
}

/// Writes the files where there are none; files of another cluster stay as they are, and are refused.
fn put_in_place(shared: &Bootstrap, dir: &Path) -> anyhow::Result<()> {
    if dir.exists() {
        for name in ["ca.crt", "sa.key"] {
            let own = fs::read_to_string(dir.join(name)).ok();
            if own.as_ref() != shared.files.get(name) {
                bail!(
                    "{} is of another cluster than the one in the datastore; move the directory away to join that one",
                    dir.join(name).display()
                );
            }
        }
        return Ok(());
    }
    let new = dir.with_extension("new");
    remove(&new)?;
    make_private_dir(&new)?;
    for name in FILES {
        let text = shared.files.get(name);
        let text = text.with_context(|| format!("the datastore's record has no {name}"))?;
        write_private(&new.join(name), text.as_bytes())?;
    }
    fs::rename(&new, dir).with_context(|| format!("cannot put {} in place", dir.display()))
}

fn key(token: &Token, salt: &[u8]) -> anyhow::Result<LessSafeKey> {
    let mut key = [0; 32];
    let secret = token.bearer();
    derive(
        PBKDF2_HMAC_SHA256,
        ITERATIONS,
        salt,
        secret.as_bytes(),
        &mut key,
    );
    let key = UnboundKey::new(&AES_256_GCM, &key).map_err(|_| anyhow!("no key can be made"))?;
    Ok(LessSafeKey::new(key))
}

/// `format | salt | nonce | sealed JSON`. Salt and nonce are drawn anew each time.
fn seal(content: &Bootstrap, token: &Token) -> anyhow::Result<Vec<u8>> {
    let (salt, nonce): ([u8; SALT], [u8; NONCE_LEN]) = (rand::random(), rand::random());
    let mut sealed = serde_json::to_vec(content)?;
    key(token, &salt)?
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(FORMAT),
            &mut sealed,
        )
        .map_err(|_| anyhow!("the shared keys cannot be sealed"))?;
    Ok([FORMAT, &salt, &nonce, &sealed].concat())
}

fn unseal(record: &[u8], token: &Token) -> anyhow::Result<Bootstrap> {
    let parts = record
        .strip_prefix(FORMAT)
        .and_then(|rest| rest.split_first_chunk::<SALT>())
        .and_then(|(salt, rest)| Some((salt, rest.split_first_chunk::<NONCE_LEN>()?)));
    let Some((salt, (nonce, sealed))) = parts else {
        bail!("what servers share in the datastore was written by another release, or is damaged");
    };
    let mut sealed = sealed.to_vec();
    let key = key(token, salt)?;
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let text = key.open_in_place(nonce, Aad::from(FORMAT), &mut sealed);
    let Ok(text) = text else {
        bail!(
            "the datastore holds a cluster with another token: give --token, as the file `token` of its first server \
             has it"
        );
    };
    serde_json::from_slice(text).context("what servers share in the datastore is damaged")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use store::embedded::{Engine, Options};

    use super::*;

    fn facts() -> ClusterFacts {
        ClusterFacts {
            cluster_cidr: "10.1.0.0/16".parse().expect("a network"),
            service_cidr: "10.2.0.0/16".parse().expect("a network"),
            cluster_domain: "cluster.local".into(),
            network_backend: overlay::Backend::Vxlan,
        }
    }

    fn make(dir: &Path) -> anyhow::Result<()> {
        let node = ("a", Ipv4Addr::new(192, 0, 2, 1));
        crate::pki::settle(dir, node, Ipv4Addr::new(10, 2, 0, 1), &[])
    }

    fn text(dir: &Path, name: &str) -> String {
        fs::read_to_string(dir.join(name)).expect("a file")
    }

    #[tokio::test]
    async fn servers_share_one_authority_by_their_token() {
        let home = tempfile::tempdir().expect("a directory");
        let at = |name: &str| home.path().join(name);
        let store = Engine::open(&at("store"), Options::default()).expect("opened");
        let (token, facts) = (Token::random(), facts());
        settle(&*store, &token, &facts, &at("a"), make)
            .await
            .expect("made");
        let unused = |_: &Path| -> anyhow::Result<()> { panic!("made twice") };
        settle(&*store, &token, &facts, &at("b"), unused)
            .await
            .expect("joined");
        for name in FILES {
            assert_eq!(text(&at("a"), name), text(&at("b"), name), "{name}");
        }
        // Once more, as after a restart.
        settle(&*store, &token, &facts, &at("b"), unused)
            .await
            .expect("settled");
        let mut pinned = token.clone();
        pinned.pin = digests(&text(&at("a"), "ca.crt")).expect("digests").pop();
        settle(&*store, &pinned, &facts, &at("c"), unused)
            .await
            .expect("joined");
        pinned.pin = Some("0".repeat(64));
        let refused = settle(&*store, &pinned, &facts, &at("d"), unused).await;
        assert!(
            refused
                .unwrap_err()
                .to_string()
                .contains("another authority")
        );
        let refused = settle(&*store, &Token::random(), &facts, &at("d"), unused).await;
        assert!(refused.unwrap_err().to_string().contains("another token"));
        let other = ClusterFacts {
            cluster_domain: "other".into(),
            ..facts.clone()
        };
        let refused = settle(&*store, &token, &other, &at("d"), unused).await;
        assert!(
            refused
                .unwrap_err()
                .to_string()
                .contains("--cluster-domain=cluster.local")
        );
        assert!(!at("d").exists(), "a server that was refused keeps no key");
        make(&at("e")).expect("another cluster");
        let refused = settle(&*store, &token, &facts, &at("e"), unused).await;
        assert!(refused.unwrap_err().to_string().contains("another cluster"));
        store.close();
    }

    #[tokio::test]
    async fn of_servers_that_start_together_one_makes_the_cluster() {
        let home = tempfile::tempdir().expect("a directory");
        let at = |name: &str| home.path().join(name);
        let store = Engine::open(&at("store"), Options::default()).expect("opened");
        let (token, facts) = (Token::random(), facts());
        let dirs = ["a", "b", "c"].map(at);
        let all = dirs
            .iter()
            .map(|dir| settle(&*store, &token, &facts, dir, make));
        futures::future::try_join_all(all).await.expect("settled");
        for dir in &dirs[1..] {
            for name in FILES {
                assert_eq!(text(dir, name), text(&dirs[0], name), "{name}");
            }
        }
        let found = store.range(Range::key(KEY)).await.expect("read");
        let record = &found.kvs[0].value;
        let shows = |needle: &[u8]| record.windows(needle.len()).any(|part| part == needle);
        assert!(!shows(b"BEGIN"), "nothing is readable without the token");
        store.close();
    }
}
