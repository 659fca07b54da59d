//! One component as a process of its own, with upstream's names, flags and ports.
//!
//! `oxikube kube-scheduler ...`, or the same binary under the name `kube-scheduler`. Each has its own credentials and
//! meets the others at the API only, so each works with a control plane of any make. Start with [`run`]; a component is
//! one file here: its flags, and what they mean to the crate that does the work.

mod apiserver;
pub(crate) mod audit;
mod configz;
mod controller_manager;
mod credentials;
mod elect;
pub(crate) mod flags;
mod health;
mod kubelet;
mod proxy;
mod scheduler;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

pub(crate) use apiserver::own_address;
use flags::Common;
pub(crate) use flags::pairs;
pub(crate) use kubelet::{host_name, plain_host_name, taint};

/// Threads that run tasks: more would idle in more memory.
const WORKERS: usize = 2;

/// The components there are.
pub(crate) const NAMES: &[&str] = &[
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
];

/// Runs the component of this name, which is one of [`NAMES`].
pub(crate) fn run(name: &str, arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    match name {
        "kube-apiserver" => start(parse::<apiserver::Flags>(name, arguments), apiserver::serve),
        "kube-controller-manager" => start(
            parse::<controller_manager::Flags>(name, arguments),
            controller_manager::serve,
        ),
        "kube-scheduler" => start(parse::<scheduler::Flags>(name, arguments), scheduler::serve),
        "kube-proxy" => start(parse::<proxy::Flags>(name, arguments), proxy::serve),
        _ => start(
            parse::<kubelet::Flags>("kubelet", arguments),
            kubelet::serve,
        ),
    }
}

/// Flags of a component.
trait Flags: Parser {
    /// Those that all have.
    fn common(&self) -> &Common;
    /// Flags that have had their day, and what to do instead.
    const DEPRECATED: &'static [(&'static str, &'static str)] = &[];
}

fn parse<F: Flags>(name: &str, arguments: Vec<OsString>) -> F {
    let texts: Vec<String> = arguments
        .iter()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    for (flag, instead) in F::DEPRECATED {
        let long = format!("--{flag}");
        if texts
            .iter()
            .any(|t| t.split('=').next() == Some(long.as_str()))
        {
            eprintln!("Flag --{flag} has been deprecated, {instead}");
        }
    }
    let all = std::iter::once(OsString::from(name)).chain(arguments);
    let mut command = F::command();
    command.build();
    let matches = command.clone().get_matches_from(all);
    let parsed = F::from_arg_matches(&matches);
    let parsed = parsed.unwrap_or_else(|error| error.format(&mut command).exit());
    parsed.common().tell(flags::told(&command, &matches));
    parsed
}

/// Runs a component until it is told to end, or ends by itself, which is a failure.
fn start<F: Flags, W: Future<Output = anyhow::Result<()>>>(
    flags: F,
    serve: impl FnOnce(F, CancellationToken) -> W,
) -> anyhow::Result<ExitCode> {
    flags.common().init_logs();
    event_loop(|shutdown| serve(flags, shutdown))
}

/// Runs what `serve` makes; the token ends when the process is told to.
pub(crate) fn event_loop<W: Future<Output = anyhow::Result<()>>>(
    serve: impl FnOnce(CancellationToken) -> W,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_stack_size(::apiserver::THREAD_STACK_BYTES)
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    runtime.block_on(async {
        let (mut end, mut interrupt) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        let shutdown = CancellationToken::new();
        let told = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = end.recv() => {}
                _ = interrupt.recv() => {}
            }
            told.cancel();
        });
        serve(shutdown).await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Logs to standard error, as `OXIKUBE_LOG` says, else as detailed as asked.
pub(crate) fn init_logs(detail: u8, json: bool) {
    let level = match detail {
        0..=3 => "info",
        4..=7 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("OXIKUBE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    match json {
        true => logs.json().init(),
        false => logs.init(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn no_two_flags_of_a_component_are_one() {
        for command in [
            apiserver::Flags::command(),
            controller_manager::Flags::command(),
            scheduler::Flags::command(),
            proxy::Flags::command(),
            kubelet::Flags::command(),
        ] {
            command.debug_assert();
        }
    }
}
