//! `oxikube backup`, `restore` and `store ...`.

use std::fs::{self, File};
use std::io::BufReader;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;
use store::embedded::{Engine, Options};
use store::{Store, backup as backups};
use store_reader::{Directory, Problem, verify};

use super::attend::Stats;
use super::{attend, migrate, serve};
use crate::start::say;

/// What can be done with a store.
#[derive(Subcommand, Debug)]
pub(crate) enum StoreCommand {
    /// Read every byte of the data directory with a second reader and say whether all is sound.
    Check,
    /// Forget the history and make the files as small as they get.
    Compact,
    /// Say what the store holds.
    Stats {
        /// Output for programs.
        #[arg(long)]
        json: bool,
    },
    /// Copy a cluster's data to another store: from the server's own files to etcd, or back. No server may run.
    Migrate(migrate::MigrateArgs),
    /// Serve the store alone, behind etcd's API.
    Serve(serve::ServeArgs),
}

/// Does what is asked with the store in a directory.
pub(crate) fn run(dir: &Path, command: &StoreCommand) -> anyhow::Result<ExitCode> {
    match command {
        StoreCommand::Check => check(dir)?,
        StoreCommand::Compact => compact(dir)?,
        StoreCommand::Stats { json } => stats(dir, *json)?,
        StoreCommand::Migrate(args) => migrate::run(dir, args)?,
        StoreCommand::Serve(args) => serve::run(dir, args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn must_exist(dir: &Path) -> anyhow::Result<()> {
    match dir.join("FORMAT").exists() {
        true => Ok(()),
        false => bail!("there is no store in {}", dir.display()),
    }
}

fn open(dir: &Path) -> anyhow::Result<std::sync::Arc<Engine>> {
    must_exist(dir)?;
    Ok(Engine::open(dir, Options::default())?)
}

/// Writes a backup of a running or a stopped cluster's data.
pub(crate) fn backup(dir: &Path, file: &Path) -> anyhow::Result<()> {
    must_exist(dir)?;
    let mut unfinished = file.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let written = write_backup(dir, file, &unfinished);
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    let (revision, bytes) = written?;
    say(&format!(
        "{} holds the state of revision {revision}, {bytes} bytes",
        file.display()
    ));
    Ok(())
}

fn write_backup(dir: &Path, file: &Path, unfinished: &Path) -> anyhow::Result<(u64, u64)> {
    let out = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(unfinished)
        .with_context(|| format!("cannot write {}", unfinished.display()))?;
    let revision = match attend::backup(dir, &OwnedFd::from(out.try_clone()?))? {
        Some(revision) => revision,
        None => {
            let engine = open(dir)?;
            let revision = engine.backup(&mut (&out))?;
            engine.close();
            revision
        }
    };
    out.sync_all()?;
    // What cannot be read back is no backup.
    let mut again = BufReader::new(File::open(unfinished)?);
    let found = backups::read(&mut again, |_| Ok(()))?;
    if found.revision != revision {
        bail!("the backup does not hold what it should");
    }
    fs::rename(unfinished, file).with_context(|| format!("cannot write {}", file.display()))?;
    Ok((revision, out.metadata()?.len()))
}

/// Restores a backup; a store that is there already is put aside when `replace` says so.
pub(crate) fn restore(file: &Path, dir: &Path, replace: bool) -> anyhow::Result<()> {
    let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let restored = backups::restore(&mut BufReader::new(opened), dir, replace)?;
    if let Some(aside) = &restored.replaced {
        say(&format!("what was there is in {} now", aside.display()));
    }
    say(&format!(
        "{} holds {} keys of revision {} now, and goes on at revision {}",
        dir.display(),
        restored.backup.keys,
        restored.backup.revision,
        restored.revision
    ));
    Ok(())
}

fn check(dir: &Path) -> anyhow::Result<()> {
    must_exist(dir)?;
    let mut attempts = 0;
    let found = loop {
        match verify(&Directory::new(dir)) {
            // A running server may remove a file that it needs no more while this reads.
            Err(Problem::Read { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound && attempts < 5 =>
            {
                attempts += 1;
            }
            other => break other?,
        }
    };
    for damage in &found.superfluous_damage {
        say(&format!("not needed, but damaged: {damage}"));
    }
    say(&format!(
        "sound: {} keys at revision {}, history from revision {} on, {} batches in the log",
        found.keys.len(),
        found.revision,
        found.compacted,
        found.batches
    ));
    Ok(())
}

fn compact(dir: &Path) -> anyhow::Result<()> {
    let revision = match attend::compact(dir)? {
        Some(revision) => revision,
        None => {
            let engine = open(dir)?;
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            runtime.block_on(engine.shrink())?;
            let revision = engine.revision();
            engine.close();
            revision
        }
    };
    say(&format!("history before revision {revision} is gone"));
    Ok(())
}

fn stats(dir: &Path, json: bool) -> anyhow::Result<()> {
    must_exist(dir)?;
    let stats = match attend::stats(dir)? {
        Some(stats) => stats,
        None => {
            let found = verify(&Directory::new(dir))?;
            let bytes = found.keys.iter().map(|(k, e)| k.len() + e.value.len());
            Stats {
                condition: "not open".into(),
                revision: found.revision,
                compacted: found.compacted,
                keys: found.keys.len() as u64,
                live_bytes: bytes.sum::<usize>() as u64,
                log_bytes: found.log_bytes,
                checkpoint_bytes: found.checkpoint_bytes,
                watches: 0,
            }
        }
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&stats)?);
        return Ok(());
    }
    println!("condition    {}", stats.condition);
    println!("revision     {}", stats.revision);
    println!("history      from revision {}", stats.compacted);
    println!("keys         {}", stats.keys);
    println!("data         {} bytes", stats.live_bytes);
    println!("log          {} bytes", stats.log_bytes);
    println!("checkpoint   {} bytes", stats.checkpoint_bytes);
    println!("watches      {}", stats.watches);
    Ok(())
}
