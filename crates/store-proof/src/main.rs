//! Any number of simulated lives of the store, or kills of the real process; and the figures.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Proves the store")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Live the lives of many seeds on a simulated disk.
    Sim {
        /// How many.
        #[arg(long, default_value_t = 10_000)]
        seeds: u64,
        /// The first one.
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// Measure the store beside etcd and the disk.
    Bench {
        /// How many seconds each rate is measured.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Keys of the large store.
        #[arg(long, default_value_t = 1_000_000)]
        large: u64,
        /// A directory on the disk to measure.
        #[arg(long, default_value = ".")]
        dir: PathBuf,
        /// Write one JSON object a figure into this file.
        #[arg(long)]
        json: Option<PathBuf>,
        /// Only this part: writes, stops, reads, watches or large; may be given several times.
        #[arg(long)]
        only: Vec<String>,
    },
    /// Open a store and print what that took.
    #[command(hide = true)]
    Open {
        /// Its directory.
        dir: PathBuf,
    },
    /// Kill the real process under load.
    Kill {
        /// How often.
        #[arg(long, default_value_t = 50)]
        times: usize,
        /// What the clients do follows from it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The program `oxikube`.
        #[arg(long)]
        oxikube: PathBuf,
    },
}

fn main() -> ExitCode {
    let began = Instant::now();
    let result = match Cli::parse().command {
        Command::Bench {
            seconds,
            large,
            dir,
            json,
            only,
        } => store_proof::bench::run(store_proof::bench::Settings {
            time: std::time::Duration::from_secs(seconds),
            large,
            dir,
            json: match json.map(std::fs::File::create).transpose() {
                Ok(json) => json,
                Err(error) => {
                    eprintln!("error: cannot write the figures: {error}");
                    return ExitCode::FAILURE;
                }
            },
            only,
        })
        .map(|()| "measured".to_owned()),
        Command::Open { dir } => {
            return match store_proof::bench::open(&dir) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("error: {error:#}");
                    ExitCode::FAILURE
                }
            };
        }
        Command::Sim { seeds, from } => sim(from, seeds),
        Command::Kill {
            times,
            seed,
            oxikube,
        } => kill(&oxikube, times, seed),
    };
    match result {
        Ok(what) => {
            println!("{what}, in {:.1} s", began.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn sim(from: u64, seeds: u64) -> anyhow::Result<String> {
    // A panic that ends a life is told once, with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let share = seeds.div_ceil(cores);
    let parts: Vec<_> = (0..cores)
        .map(|core| {
            let first = from + core * share;
            let last = (first + share).min(from + seeds);
            std::thread::spawn(move || store::sim::run(first..last, store_proof::files::agree))
        })
        .collect();
    let mut tallies = Vec::new();
    for part in parts {
        let lived = part
            .join()
            .map_err(|_| anyhow::anyhow!("a thread panicked"))?;
        tallies.push(lived.map_err(|broken| {
            let again = format!("cargo xtask sim store --seeds 1 --from {}", broken.seed);
            anyhow::anyhow!("seed {}: {}\nagain: {again}", broken.seed, broken.what)
        })?);
    }
    let sum = |of: fn(&store::sim::Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    Ok(format!(
        "{seeds} lives: {} transactions acknowledged, {} restarts, {} checkpoints, {} rotten files \
         found, {} times a full disk, {} upgrades; nothing lost, nothing wrong",
        sum(|t| t.acknowledged),
        sum(|t| t.restarts),
        sum(|t| t.checkpoints),
        sum(|t| t.damage_found),
        sum(|t| t.full),
        sum(|t| t.upgrades),
    ))
}

fn kill(oxikube: &std::path::Path, times: usize, seed: u64) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(store_proof::kill::run(oxikube, times, seed))?;
    Ok(format!(
        "{} kills: {} transactions acknowledged, none lost, no phantom; writing again {} ms after \
         a kill at the latest",
        outcome.kills,
        outcome.acknowledged,
        outcome.longest_gap.as_millis()
    ))
}
