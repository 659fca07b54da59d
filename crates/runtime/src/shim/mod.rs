//! The shim: one small process per pod, which holds the pod's namespaces and is the parent of its
//! containers.
//!
//! It is the same program started anew (`oxikube shim DIR`), single-threaded from beginning to end,
//! because it forks. It makes containers, reaps them, copies their output into log files and to who
//! is attached, and notes how they ended on the disk. It takes no decisions: plans come as files,
//! calls over a socket in its directory. The runtime may come and go.

mod child;
mod launch;
mod limits;
mod log;
pub mod protocol;
mod rootfs;
mod server;
mod starting;
mod streams;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use linux::namespace::{self, Kind};
use linux::process::{self, Fork};
use linux::{Context, Result};

pub(crate) use self::limits::apply as apply_limits;

use self::protocol::{SANDBOX_PLAN, SOCKET, SandboxPlan};

/// Runs a shim. `args` is what follows the sub-command: the sandbox's directory. Must be called
/// before the process has a second thread. Returns once the shim, a child of its own, takes calls;
/// the error goes to standard error.
pub fn main(args: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let (Some(dir), None) = (args.next(), args.next()) else {
        eprintln!("usage: shim DIR");
        return ExitCode::from(2);
    };
    match start(Path::new(&dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("{}", cri::chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Forks the shim off, so that it belongs to nobody, and waits until it is ready.
fn start(dir: &Path) -> Result<()> {
    process::close_inherited()?;
    let (ready, tell) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context(|| "make a pipe")?;
    match process::fork(&[], None)? {
        Fork::Parent(_) => {
            drop(tell);
            let mut said = String::new();
            std::fs::File::from(ready)
                .read_to_string(&mut said)
                .context(|| "wait for the shim")?;
            match said.strip_suffix("ready\n") {
                Some("") => Ok(()),
                _ if said.is_empty() => {
                    let gone = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                    Err(linux::Error::new(
                        "the shim ended before it was ready",
                        gone,
                    ))
                }
                _ => Err(linux::Error::new(
                    "start the shim",
                    std::io::Error::other(said),
                )),
            }
        }
        Fork::Child => {
            drop(ready);
            let prepared = prepare(dir);
            let _ = match &prepared {
                Ok(_) => rustix::io::write(&tell, b"ready\n"),
                Err(error) => rustix::io::write(&tell, cri::chain(error).as_bytes()),
            };
            drop(tell);
            let code = match prepared {
                Ok(server) => server.run(),
                Err(_) => 1,
            };
            process::exit_now(code)
        }
    }
}

/// Everything up to the point where calls are taken: cgroup, namespaces, settings, socket.
fn prepare(dir: &Path) -> Result<server::Server> {
    let plan: SandboxPlan = read_json(&dir.join(SANDBOX_PLAN))?;
    let what = || "leave the session";
    rustix::process::setsid().context(what)?;
    rustix::process::chdir("/").context(what)?;
    process::set_name("oxikube-shim")?;
    process::become_subreaper()?;
    // The shim ends when it is told to over its socket, with its pod, and not because somebody
    // stops the runtime.
    use nix::sys::signal::Signal;
    for signal in [
        Signal::SIGPIPE,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
    ] {
        linux::signal::ignore(signal)?;
    }
    detach_stdio()?;
    // The pod's processes go first when memory runs out: without the shim they would all die.
    process::set_oom_score_adj(-998)?;
    let hierarchies = linux::cgroup::detect()?;
    if !plan.cgroup.is_empty() {
        let group = hierarchies.group(&plan.cgroup);
        group.create()?;
        group.add_self()?;
    }
    make_namespaces(&plan)?;
    if let Some((path, bytes)) = &plan.shm {
        std::fs::create_dir_all(path).context(|| format!("make {}", path.display()))?;
        linux::mount::tmpfs_at(path, &format!("mode=1777,size={bytes}"))?;
    }
    server::Server::new(plan, hierarchies, &dir.join(SOCKET))
}

fn make_namespaces(plan: &SandboxPlan) -> Result<()> {
    let mut kinds = Vec::new();
    if plan.own_network {
        kinds.push(Kind::Network);
    }
    if plan.own_ipc {
        kinds.push(Kind::Ipc);
    }
    if !plan.hostname.is_empty() {
        kinds.push(Kind::Uts);
    }
    if !kinds.is_empty() {
        namespace::unshare(&kinds)?;
    }
    if !plan.hostname.is_empty() {
        namespace::set_hostname(&plan.hostname)?;
    }
    if plan.own_network {
        linux::interface::loopback_up()?;
    }
    for (path, value) in &plan.sysctls {
        std::fs::write(path, value).context(|| format!("write {value} to {}", path.display()))?;
    }
    Ok(())
}

/// The shim holds on to nothing of who started it.
fn detach_stdio() -> Result<()> {
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null");
    let null = null.context(|| "open /dev/null")?;
    for number in 0..3 {
        process::set_stdio(&null, number)?;
    }
    Ok(())
}

/// Reads a document that the runtime wrote.
fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let what = || format!("read {}", path.display());
    let bytes = std::fs::read(path).context(what)?;
    serde_json::from_slice(&bytes)
        .map_err(std::io::Error::from)
        .context(what)
}

/// Writes a document so that nobody ever sees half of it.
fn write_json(dir: &Path, name: &str, value: &impl serde::Serialize) -> Result<()> {
    let path: PathBuf = dir.join(name);
    let what = || format!("write {}", path.display());
    let bytes = serde_json::to_vec(value)
        .map_err(std::io::Error::from)
        .context(what)?;
    let temporary = path.with_extension("partial");
    std::fs::write(&temporary, bytes).context(what)?;
    std::fs::rename(&temporary, &path).context(what)
}

/// Now, in nanoseconds since 1970.
fn now() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
