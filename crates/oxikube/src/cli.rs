//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use overlay::Backend;

use crate::cluster::{Cluster, Clusters, DEFAULT_NAME, DEFAULT_STATE};
use crate::component::flags::duration;
use crate::member::MOST_NODES;
use crate::{commands, component, datastore, host, init, node, nodes, shell, start, why};

/// Kubernetes on this machine, from one binary.
#[derive(Parser)]
#[command(name = "oxikube", version, about, max_term_width = 100)]
struct Cli {
    /// Directory of all clusters' data.
    #[arg(long, global = true, env = "OXIKUBE_STATE_DIR", default_value = DEFAULT_STATE)]
    state_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create a cluster, or switch a stopped one on again; returns when it is ready.
    Start {
        #[command(flatten)]
        cluster: Which,
        /// Port of the API on 127.0.0.1; the first free one from 6443 on when not given.
        #[arg(long)]
        api_port: Option<u16>,
        /// How many nodes the cluster is to have; missing ones are added.
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=i64::from(MOST_NODES)))]
        nodes: Option<u8>,
        /// How packets travel between nodes: vxlan (unless said otherwise), host-gw or udp.
        #[arg(long)]
        network_backend: Option<Backend>,
        /// How long a node may be silent before it is taken for lost: 40s unless said otherwise, more than the 10s
        /// between its signs of life.
        #[arg(long, value_parser = grace)]
        node_monitor_grace_period: Option<Duration>,
        /// Take a backup of the cluster's data so often, for example every `12h`, or `never`; nothing is written when
        /// nothing has changed. They are in `snapshots` of the cluster's directory.
        #[arg(long, value_name = "TIME", value_parser = datastore::duration_or_never)]
        snapshot_every: Option<Duration>,
        /// How many of these backups are kept.
        #[arg(
            long,
            value_name = "NUMBER",
            default_value_t = 5,
            requires = "snapshot_every"
        )]
        snapshot_keep: usize,
        /// Secrets are encrypted in the store, by a key that is made in the cluster's directory; from then on.
        #[arg(long)]
        secrets_encryption: bool,
    },
    /// Add, remove, stop, start and enter the nodes of a cluster.
    Node {
        #[command(flatten)]
        cluster: Which,
        #[command(subcommand)]
        command: NodeCommand,
    },
    /// Switch a cluster off; its data stays.
    Stop(Which),
    /// Remove a cluster and all that belongs to it.
    Delete(Which),
    /// Show how a cluster is; exit code 0 only when it runs and is ready.
    Status {
        #[command(flatten)]
        cluster: Which,
        #[command(flatten)]
        output: Output,
    },
    /// List the clusters of this machine.
    List(Output),
    /// Images of a cluster's nodes.
    Image {
        #[command(flatten)]
        cluster: Which,
        /// Data directory of a server or agent on this machine, whose node is meant instead of a cluster's.
        #[arg(long, global = true)]
        data_dir: Option<PathBuf>,
        #[command(subcommand)]
        command: ImageCommand,
    },
    /// Run the kubectl found on this machine against a cluster.
    Kubectl {
        #[command(flatten)]
        cluster: Which,
        /// Arguments of kubectl.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Say why something is not as it should be: a pod pending, a service without end points, a deletion that hangs.
    Why(why::Question),
    /// Run the control plane and a node on this machine itself.
    Server(Box<host::server::Flags>),
    /// Run a node on this machine itself, of the cluster of a server elsewhere.
    Agent(Box<host::agent::Options>),
    /// Serve the API; flags as upstream's.
    #[command(disable_help_flag = true)]
    KubeApiserver(Passed),
    /// Run the controllers; flags as upstream's.
    #[command(disable_help_flag = true)]
    KubeControllerManager(Passed),
    /// Bind pods to nodes; flags as upstream's.
    #[command(disable_help_flag = true)]
    KubeScheduler(Passed),
    /// Make services reachable on this machine; flags as upstream's.
    #[command(disable_help_flag = true)]
    KubeProxy(Passed),
    /// Run the pods of this machine; flags as upstream's.
    #[command(disable_help_flag = true)]
    Kubelet(Passed),
    /// Write a backup of a cluster's data, running or not.
    Backup {
        #[command(flatten)]
        data: Data,
        /// The file.
        file: PathBuf,
    },
    /// Restore a cluster's data from a backup; the cluster must not run.
    Restore {
        #[command(flatten)]
        data: Data,
        /// The file.
        file: PathBuf,
        /// Put aside the data that is there.
        #[arg(long)]
        replace: bool,
    },
    /// Check, compact, move and look into a cluster's data.
    Store {
        #[command(flatten)]
        data: Data,
        #[command(subcommand)]
        command: datastore::StoreCommand,
    },
    /// Process 1 of a node; started by `start`.
    #[command(hide = true)]
    Init(Descriptors),
    /// The keeper of one pod; started by the runtime.
    #[command(hide = true)]
    Shim {
        /// Its directory.
        arguments: Vec<OsString>,
    },
    /// The server of a node; started by `init`.
    #[command(hide = true, name = "node-server")]
    NodeServer(Descriptors),
}

impl Command {
    /// It does not stop halfway because nobody reads what it prints.
    fn must_finish(&self) -> bool {
        !matches!(
            self,
            Self::Status { .. }
                | Self::List(_)
                | Self::Image { .. }
                | Self::Kubectl { .. }
                | Self::Why(_)
                | Self::Node {
                    command: NodeCommand::List(_) | NodeCommand::Shell { .. },
                    ..
                }
        )
    }
}

/// The arguments of a component, which it reads itself.
#[derive(Args)]
struct Passed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

#[derive(Args)]
struct Which {
    /// Name of the cluster.
    #[arg(long, global = true, env = "OXIKUBE_NAME", default_value = DEFAULT_NAME)]
    name: String,
}

/// Whose data.
#[derive(Args)]
struct Data {
    #[command(flatten)]
    cluster: Which,
    /// The data directory itself, instead of a cluster's.
    #[arg(long, global = true)]
    data_dir: Option<PathBuf>,
}

impl Data {
    fn dir(&self, clusters: &Clusters) -> anyhow::Result<PathBuf> {
        match &self.data_dir {
            Some(dir) => Ok(dir.clone()),
            None => Ok(clusters.cluster(&self.cluster.name)?.path("store")),
        }
    }
}

#[derive(Args)]
struct Output {
    /// Output for programs.
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Json,
}

#[derive(Subcommand)]
enum ImageCommand {
    /// Load the images of an OCI or Docker archive.
    Load {
        /// The archive; `-` is the standard input.
        file: PathBuf,
    },
    /// List the images that are there.
    List(Output),
}

#[derive(Subcommand)]
enum NodeCommand {
    /// Add a node; returns when it is ready.
    Add,
    /// Remove a node other than the first, with all that is on it.
    Rm {
        /// Its name, or its number.
        node: String,
    },
    /// List the nodes.
    List(Output),
    /// Switch a node off, like a power cut.
    Stop {
        /// Its name, or its number.
        node: String,
    },
    /// Switch a node on again; returns when it is ready.
    Start {
        /// Its name, or its number.
        node: String,
    },
    /// Run a shell, or a command, in a node.
    Shell {
        /// Its name, or its number; the first node when not given.
        node: Option<String>,
        /// The command.
        #[arg(last = true)]
        command: Vec<OsString>,
    },
}

/// Open descriptors that are handed down to a node.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Descriptors {
    /// Socket that listens for the API on the machine's loopback; only the first node has it.
    #[arg(long)]
    pub(crate) listener: Option<i32>,
    /// The machine's network namespace.
    #[arg(long)]
    pub(crate) host_network: i32,
    /// Where progress is told; only the first server has it.
    #[arg(long)]
    pub(crate) progress: Option<i32>,
}

/// Does what the command line says.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    // Under the name of a component the program is that component.
    let mut arguments = std::env::args_os();
    let program = arguments.next().map(PathBuf::from).unwrap_or_default();
    let name = program.file_name().and_then(|name| name.to_str());
    if let Some(name) = name.filter(|name| component::NAMES.contains(name)) {
        return component::run(name, arguments.collect());
    }
    let cli = Cli::parse();
    let clusters = Clusters::new(cli.state_dir);
    if !cli.command.must_finish() {
        // Whoever pipes our output somewhere ends us by closing the pipe, as usual.
        linux::signal::reset_all()?;
    }
    match cli.command {
        Command::Start {
            cluster,
            api_port,
            nodes,
            network_backend,
            node_monitor_grace_period,
            snapshot_every,
            snapshot_keep,
            secrets_encryption,
        } => {
            let wanted = start::Wanted {
                api_port,
                nodes,
                network_backend,
                node_grace: node_monitor_grace_period,
                snapshots: snapshot_every.map(|every| (every, snapshot_keep)),
                secrets_encryption,
            };
            start::start(&clusters.cluster(&cluster.name)?, &wanted)?;
        }
        Command::Node { cluster, command } => {
            return on_node(&clusters.cluster(&cluster.name)?, command);
        }
        Command::Stop(cluster) => commands::stop(&clusters.cluster(&cluster.name)?)?,
        Command::Delete(cluster) => commands::delete(&clusters.cluster(&cluster.name)?)?,
        Command::Status { cluster, output } => {
            let cluster = clusters.cluster(&cluster.name)?;
            return commands::status(&cluster, output.output.is_some());
        }
        Command::List(output) => commands::list(&clusters, output.output.is_some())?,
        Command::Image {
            data_dir: Some(data),
            command,
            ..
        } => match command {
            ImageCommand::Load { file } => commands::host_image_load(&data, &file)?,
            ImageCommand::List(output) => {
                commands::host_image_list(&data, output.output.is_some())?;
            }
        },
        Command::Image {
            cluster, command, ..
        } => {
            let cluster = clusters.cluster(&cluster.name)?;
            match command {
                ImageCommand::Load { file } => commands::image_load(&cluster, &file)?,
                ImageCommand::List(output) => {
                    commands::image_list(&cluster, output.output.is_some())?;
                }
            }
        }
        Command::Kubectl { cluster, arguments } => {
            return Err(commands::kubectl(
                &clusters.cluster(&cluster.name)?,
                arguments,
            ));
        }
        Command::Why(question) => return why::run(&clusters, &question),
        Command::Server(flags) => {
            return host::server::run(*flags, std::env::args_os().skip(1).collect());
        }
        Command::Agent(flags) => {
            return host::agent::run(*flags, std::env::args_os().skip(1).collect());
        }
        Command::KubeApiserver(own) => return component::run("kube-apiserver", own.arguments),
        Command::KubeControllerManager(own) => {
            return component::run("kube-controller-manager", own.arguments);
        }
        Command::KubeScheduler(own) => return component::run("kube-scheduler", own.arguments),
        Command::KubeProxy(own) => return component::run("kube-proxy", own.arguments),
        Command::Kubelet(own) => return component::run("kubelet", own.arguments),
        Command::Backup { data, file } => datastore::backup(&data.dir(&clusters)?, &file)?,
        Command::Restore {
            data,
            file,
            replace,
        } => datastore::restore(&file, &data.dir(&clusters)?, replace)?,
        Command::Store { data, command } => {
            return datastore::run(&data.dir(&clusters)?, &command);
        }
        Command::Init(descriptors) => return init::run(descriptors),
        Command::Shim { arguments } => return Ok(runtime::shim::main(arguments)),
        Command::NodeServer(descriptors) => return node::run(descriptors),
    }
    Ok(ExitCode::SUCCESS)
}

/// A duration longer than the pause between a node's signs of life.
fn grace(text: &str) -> Result<Duration, String> {
    let given = duration(text)?;
    match given.as_secs() > 10 {
        true => Ok(given),
        false => Err("nodes give a sign of life every 10s: it must be longer".to_owned()),
    }
}

fn on_node(cluster: &Cluster, command: NodeCommand) -> anyhow::Result<ExitCode> {
    match command {
        NodeCommand::Add => start::add(cluster)?,
        NodeCommand::Rm { node } => nodes::remove(cluster, &node)?,
        NodeCommand::List(output) => nodes::list(cluster, output.output.is_some())?,
        NodeCommand::Stop { node } => nodes::stop(cluster, &node)?,
        NodeCommand::Start { node } => start::node(cluster, &node)?,
        NodeCommand::Shell { node, command } => {
            return shell::run(cluster, node.as_deref(), &command);
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn no_two_flags_of_a_command_are_one() {
        super::Cli::command().debug_assert();
    }
}
