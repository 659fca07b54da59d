//! `kill -9` of the real process, under load, again and again, on one data directory.
//!
//! The process is `oxikube store serve`: the whole engine behind the etcd API. Clients keep
//! writing through the kills. In the end the files are read by the engine and by the second
//! reader, and the checker goes over everything that any client was told. A kill does not drop
//! the page cache: that is what the simulated disk is for.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use etcd_store::{EtcdStore, Options};
use store::embedded::{self, Engine};
use store::sim_disk::Dice;
use store::{Range, Store};
use store_reader::{Directory, verify};

use crate::history;
use crate::workload::{Clients, read_truth};

/// What a run came to.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Kills.
    pub kills: usize,
    /// Transactions acknowledged.
    pub acknowledged: u64,
    /// The longest time from a kill until the next acknowledgement.
    pub longest_gap: Duration,
}

struct Server {
    program: PathBuf,
    dir: PathBuf,
    address: String,
    child: Child,
}

impl Server {
    fn start(program: &Path, dir: &Path, address: &str) -> anyhow::Result<Server> {
        let (child, address) = spawn(program, dir, address)?;
        Ok(Server {
            program: program.to_owned(),
            dir: dir.to_owned(),
            address,
            child,
        })
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn again(&mut self) -> anyhow::Result<()> {
        self.child = spawn(&self.program, &self.dir, &self.address)?.0;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already is fine.
        let _ = self.kill();
    }
}

/// Starts the process and waits until it says where it listens.
fn spawn(program: &Path, dir: &Path, address: &str) -> anyhow::Result<(Child, String)> {
    let mut child = Command::new(program)
        .args(["store", "serve", "--open-to-all", "--small-files"])
        .arg("--data-dir")
        .arg(dir)
        .args(["--listen", address])
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let mut line = String::new();
    let stdout = child.stdout.take().context("no output")?;
    BufReader::new(stdout).read_line(&mut line)?;
    match line.trim().strip_prefix("serving on http://") {
        Some(address) => Ok((child, address.to_owned())),
        None => {
            let status = child.wait()?;
            bail!("the server did not start: {line:?}, {status}");
        }
    }
}

/// Kills the process so many times.
pub async fn run(program: &Path, times: usize, seed: u64) -> anyhow::Result<Outcome> {
    let home = tempfile::tempdir()?;
    let dir = home.path().join("store");
    let mut server = Server::start(program, &dir, "127.0.0.1:0")?;
    let options = Options {
        compact_every: None,
        history_revisions: 10_000_000,
        history_bytes: 4 << 30,
        ..Options::default()
    };
    let endpoint = [format!("http://{}", server.address)];
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    for _ in 0..3 {
        stores.push(EtcdStore::open(&endpoint, None, options.clone()).await?);
    }
    let clients = Clients::start(&stores, 8, seed);
    let mut dice = Dice::new(seed);
    let mut longest_gap = Duration::ZERO;
    for _ in 0..times {
        let target = clients.recording().acknowledged() + 1 + dice.below(150);
        let began = Instant::now();
        while clients.recording().acknowledged() < target {
            ensure!(
                began.elapsed() < Duration::from_secs(60),
                "no progress in a minute"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        server.kill()?;
        let (killed, before) = (Instant::now(), clients.recording().acknowledged());
        server.again()?;
        while clients.recording().acknowledged() == before {
            ensure!(
                killed.elapsed() < Duration::from_secs(60),
                "no progress in a minute"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        longest_gap = longest_gap.max(killed.elapsed());
    }
    let acknowledged = clients.recording().acknowledged();
    let history = clients.finish(&stores[0]).await?;
    server.kill()?;
    history::check(&history).map_err(anyhow::Error::msg)?;
    check_files(&dir, &history).await?;
    Ok(Outcome {
        kills: times,
        acknowledged,
        longest_gap,
    })
}

/// The files hold the history that the clients saw, by the engine's and the other reader's word.
async fn check_files(dir: &Path, seen: &history::History) -> anyhow::Result<()> {
    let contents = verify(&Directory::new(dir))?;
    let engine = Engine::open(dir, embedded::Options::default())?;
    let store: Arc<dyn Store> = engine.clone();
    let found = store.range(Range::prefix("")).await?;
    ensure!(
        found.revision == contents.revision && found.kvs.len() == contents.keys.len(),
        "the two readers do not agree"
    );
    for kv in &found.kvs {
        let other = contents.keys.get(&kv.key[..]);
        ensure!(
            other.is_some_and(|o| o.value == kv.value && o.written == kv.mod_revision),
            "the two readers do not agree on {:?}",
            kv.key
        );
    }
    let kept = engine.stats().await?.compacted + 1;
    let end = seen.truth.last_key_value().map_or(0, |(last, _)| *last);
    let there = read_truth(&store, kept.max(seen.start), end).await?;
    for (revision, changes) in &there {
        ensure!(
            seen.truth.get(revision) == Some(changes),
            "the files say of revision {revision} what nobody saw"
        );
    }
    let last = there.last_key_value().map(|(last, _)| *last);
    ensure!(last == Some(end), "the files end before revision {end}");
    engine.close();
    Ok(())
}
