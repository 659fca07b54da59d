//! Stock components beside ours: each of ours against a stock API server, and each stock one against ours.
//!
//! Every scenario is one host in a network namespace of its own, with the keys and certificates that kubeadm would make, a
//! control plane put together from both sides, and the walk of [`walk`] on it. Stock programs come from the folder that
//! `--stock` names; containerd and the network plug-ins are Debian's.

mod pki;
mod processes;
mod walk;

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;

use processes::{Plane, Side};

/// Runs stock components beside ours.
#[derive(Parser)]
struct Cli {
    /// Folder of stock kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy, kubelet, and an etcd of 3.6
    /// or later.
    #[arg(long)]
    stock: PathBuf,
    /// Only the scenario of this name.
    #[arg(long)]
    only: Option<String>,
    /// Keep what the processes say in this folder.
    #[arg(long)]
    logs: Option<PathBuf>,
}

/// Who takes which part.
struct Scenario {
    name: &'static str,
    api: Side,
    controllers: Side,
    scheduler: Side,
    kubelet: Side,
    /// Also in which of its modes.
    proxy: (Side, &'static str),
}

const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "ours-on-stock",
        api: Side::Stock,
        controllers: Side::Ours,
        scheduler: Side::Ours,
        kubelet: Side::Ours,
        proxy: (Side::Ours, "nftables"),
    },
    Scenario {
        name: "stock-control-on-ours",
        api: Side::Ours,
        controllers: Side::Stock,
        scheduler: Side::Stock,
        kubelet: Side::Ours,
        proxy: (Side::Ours, "nftables"),
    },
    Scenario {
        name: "stock-node-on-ours",
        api: Side::Ours,
        controllers: Side::Ours,
        scheduler: Side::Ours,
        kubelet: Side::Stock,
        proxy: (Side::Stock, "nftables"),
    },
    Scenario {
        name: "all-stock-but-the-api",
        api: Side::Ours,
        controllers: Side::Stock,
        scheduler: Side::Stock,
        kubelet: Side::Stock,
        proxy: (Side::Stock, "iptables"),
    },
];

fn main() {
    let cli = Cli::parse();
    let chosen = |name: &str| cli.only.as_deref().is_none_or(|only| only == name);
    for scenario in SCENARIOS.iter().filter(|s| chosen(s.name)) {
        println!("==> {}", scenario.name);
        let began = Instant::now();
        let mut plane = Plane::new(&cli.stock);
        if let Some(logs) = &cli.logs {
            let logs = logs.join(scenario.name);
            std::fs::create_dir_all(&logs).expect("a directory");
            plane.host.keep_logs(&logs);
        }
        plane.api(scenario.api);
        plane.controllers(scenario.controllers);
        plane.scheduler(scenario.scheduler);
        plane.kubelet(scenario.kubelet);
        plane.proxy(scenario.proxy.0, scenario.proxy.1);
        walk::all(&plane);
        println!("    all well after {:.0?}", began.elapsed());
    }
}
