//! The cluster's data: where it is, backups, restoring, looking into it, moving it to another engine.
//!
//! [`open`] is how a server gets its store: one line, whichever engine the flags name, with all that goes with it (the
//! socket for `oxikube backup` and the like, scheduled snapshots, the etcd API). The commands speak to the process that
//! has a data directory through a socket in it, and use the directory themselves when nobody has it.

mod attend;
mod commands;
mod migrate;
mod serve;
mod snapshots;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use etcd_store::{Opened, Place, Tls};

use crate::cluster::Snapshots;

pub(crate) use commands::{StoreCommand, backup, restore, run};

/// Where a server's data is, and what is done for it on the side.
#[derive(Args, Clone, Debug, Default)]
#[group(id = "datastore")]
pub(crate) struct Flags {
    /// Keep the cluster's data in etcd: its members' URLs with commas between them. Without it the server keeps the
    /// data itself.
    #[arg(long, value_name = "URLS")]
    pub(crate) datastore_endpoint: Option<String>,
    /// Who signs etcd's certificates, PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) datastore_cafile: Option<PathBuf>,
    /// The certificate to show to etcd, PEM.
    #[arg(long, value_name = "FILE", requires = "datastore_keyfile")]
    pub(crate) datastore_certfile: Option<PathBuf>,
    /// The key of that certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "datastore_certfile")]
    pub(crate) datastore_keyfile: Option<PathBuf>,
    /// Write a backup so often, for example every `12h`; nothing is written when nothing has changed.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) snapshot_every: Option<Duration>,
    /// How many scheduled backups are kept.
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    pub(crate) snapshot_keep: usize,
    /// Where scheduled backups go; `snapshots` beside the data when not given.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) snapshot_dir: Option<PathBuf>,
    /// Serve etcd's API on this address to clients with a certificate of the authority below.
    #[arg(long, value_name = "ADDRESS:PORT", requires_all = ["etcd_cert_file", "etcd_key_file", "etcd_client_ca_file"])]
    pub(crate) etcd_listen: Option<String>,
    /// The certificate to show there, PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) etcd_cert_file: Option<PathBuf>,
    /// The key of that certificate, PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) etcd_key_file: Option<PathBuf>,
    /// Who signs the certificates of clients, PEM: each of them may read and write everything.
    #[arg(long, value_name = "FILE")]
    pub(crate) etcd_client_ca_file: Option<PathBuf>,
}

/// A time as flags have it: a number with `s`, `m` or `h`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: say 90s, 30m or 12h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let all = number.checked_mul(seconds).filter(|all| *all > 0);
    all.map(Duration::from_secs).ok_or_else(wrong)
}

/// The same, or `never`.
pub(crate) fn duration_or_never(text: &str) -> Result<Duration, String> {
    match text {
        "never" => Ok(Duration::ZERO),
        time => duration(time),
    }
}

fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// What is shown to etcd, from files.
fn tls(
    authority: Option<&Path>,
    certificate: Option<&Path>,
    key: Option<&Path>,
) -> anyhow::Result<Option<Tls>> {
    let Some(authority) = authority else {
        return Ok(None);
    };
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((read_file(certificate)?, read_file(key)?)),
        _ => None,
    };
    Ok(Some(Tls {
        authority: read_file(authority)?,
        identity,
    }))
}

impl Flags {
    /// Those of a cluster that keeps its data itself, with backups on this schedule.
    pub(crate) fn scheduled(snapshots: Option<Snapshots>) -> Self {
        Self {
            snapshot_every: snapshots.map(|set| Duration::from_secs(set.every_seconds)),
            snapshot_keep: snapshots.map_or(0, |set| set.keep),
            ..Self::default()
        }
    }

    /// Where the data is; `dir` when no flag says otherwise.
    fn place(&self, dir: &Path) -> anyhow::Result<Place> {
        let Some(endpoints) = &self.datastore_endpoint else {
            return Ok(Place::Directory(dir.to_owned()));
        };
        let tls = tls(
            self.datastore_cafile.as_deref(),
            self.datastore_certfile.as_deref(),
            self.datastore_keyfile.as_deref(),
        )?;
        Ok(Place::etcd(endpoints, tls)?)
    }
}

/// Opens a server's store, with all that goes with it; `dir` is its data directory when it keeps the data itself.
pub(crate) async fn open(flags: &Flags, dir: &Path) -> anyhow::Result<Opened> {
    let opened = etcd_store::open(&flags.place(dir)?)
        .await
        .context("the data of the cluster cannot be used")?;
    let Some(engine) = opened.engine() else {
        if flags.snapshot_every.is_some() || flags.etcd_listen.is_some() {
            bail!("snapshots and etcd's API are etcd's own affair when the data is there");
        }
        return Ok(opened);
    };
    attend::attend(dir, engine.clone())?;
    if let Some(every) = flags.snapshot_every {
        let beside = dir.with_file_name("snapshots");
        let to = flags.snapshot_dir.clone().unwrap_or(beside);
        tokio::spawn(snapshots::keep(
            engine.clone(),
            to,
            every,
            flags.snapshot_keep,
        ));
    }
    if let Some(address) = &flags.etcd_listen {
        let files = (
            flags.etcd_cert_file.as_deref(),
            flags.etcd_key_file.as_deref(),
            flags.etcd_client_ca_file.as_deref(),
        );
        let (Some(certificate), Some(key), Some(authority)) = files else {
            bail!("etcd's API needs a certificate, its key and the authority of its clients");
        };
        let listener = serve::tls_listener(address, certificate, key, authority).await?;
        let served = etcd_serve::serve(engine.clone(), listener, std::future::pending());
        tokio::spawn(async move {
            if let Err(error) = served.await {
                tracing::error!(
                    error = format!("{error:#}"),
                    "etcd's API is not served any more"
                );
            }
        });
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("12h"), Ok(Duration::from_secs(12 * 3600)));
        assert_eq!(duration_or_never("never"), Ok(Duration::ZERO));
        for bad in ["", "5", "h", "0s", "-1s", "1d", "99999999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_store_is_attended_while_it_is_open() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = home.path().join("store");
        let opened = open(&Flags::default(), &dir).await.expect("opened");
        let txn = store::Txn {
            success: vec![store::Op::Put {
                key: "/registry/a".into(),
                value: "1".into(),
                ttl: None,
            }],
            ..store::Txn::default()
        };
        opened.store().txn(txn).await.expect("written");
        let file = home.path().join("backup");
        let (from, to) = (dir.clone(), file.clone());
        let asked = tokio::task::spawn_blocking(move || {
            backup(&from, &to)?;
            attend::stats(&from)
        });
        let stats = asked.await.expect("no panic").expect("answered");
        assert_eq!(stats.map(|stats| stats.revision), Some(2));
        opened.close();
        drop(opened);
        assert!(restore(&file, &dir, false).is_err(), "refused to mix");
        restore(&file, &dir, true).expect("restored");
        let opened = open(&Flags::default(), &dir).await.expect("opened");
        let all = store::Range::prefix("/registry/");
        assert_eq!(opened.store().range(all).await.expect("read").count, 1);
        opened.close();
    }

    #[tokio::test]
    async fn snapshots_are_kept_within_bounds() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = home.path().join("store");
        let opened = open(&Flags::default(), &dir).await.expect("opened");
        let engine = opened.engine().expect("embedded").clone();
        let to = home.path().join("snapshots");
        for number in 0..4 {
            snapshots::take(&engine, &to, number, 2).expect("taken");
        }
        let mut names: Vec<_> = std::fs::read_dir(&to)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["snapshot-0000000002.backup", "snapshot-0000000003.backup"]
        );
        opened.close();
    }
}
