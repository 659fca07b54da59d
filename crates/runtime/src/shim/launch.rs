//! From a fork of the shim to the container's program: the child's side of starting a container and
//! of exec.
//!
//! The child tells the shim how it went over a pipe that exec closes: a line `user {..}` when it
//! knows whom it becomes, and on failure a line `error ...`. Nothing after the last word means that
//! the program runs.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use linux::cgroup::Cgroup;
use linux::credentials::{self, Credentials};
use linux::namespace::Namespace;
use linux::process::{self, exit_now};
use linux::{Context, Error, Result, terminal};
use oci::ContainerPlan;

use super::child;

/// What the child's standard streams become.
pub(crate) enum Stdio {
    /// Pipes or files.
    Plain([OwnedFd; 3]),
    /// A new terminal, whose master goes to the shim over this socket.
    Terminal(OwnedFd),
}

/// Becomes the container's first program. Never returns.
pub(crate) fn container(plan: &ContainerPlan, cgroup: &Cgroup, stdio: Stdio, tell: OwnedFd) -> ! {
    let Err(error) = run_container(plan, cgroup, stdio, &tell);
    fail(tell, &error)
}

/// Becomes a further program in a container. Never returns.
pub(crate) fn exec(
    plan: &ContainerPlan,
    arguments: &[String],
    cgroup: &Cgroup,
    namespaces: &[Namespace],
    stdio: Stdio,
    tell: OwnedFd,
) -> ! {
    let Err(error) = run_exec(plan, arguments, cgroup, namespaces, stdio, &tell);
    fail(tell, &error)
}

fn fail(tell: OwnedFd, error: &Error) -> ! {
    let text = format!("error {}\n", cri::chain(error).replace('\n', " "));
    let _ = std::fs::File::from(tell).write_all(text.as_bytes());
    exit_now(128)
}

fn run_container(
    plan: &ContainerPlan,
    cgroup: &Cgroup,
    stdio: Stdio,
    tell: &OwnedFd,
) -> Result<std::convert::Infallible> {
    begin(plan, cgroup)?;
    let rootfs = super::rootfs::enter(plan, cgroup)?;
    streams(stdio, || match &rootfs.devpts {
        Some(devpts) => terminal::open_in(devpts),
        None => Err(Error::new(
            "make a terminal without /dev/pts",
            rustix::io::Errno::NOENT,
        )),
    })?;
    become_program(plan, &plan.arguments, &rootfs.root, tell)
}

fn run_exec(
    plan: &ContainerPlan,
    arguments: &[String],
    cgroup: &Cgroup,
    namespaces: &[Namespace],
    stdio: Stdio,
    tell: &OwnedFd,
) -> Result<std::convert::Infallible> {
    begin(plan, cgroup)?;
    for namespace in namespaces {
        namespace.enter()?;
    }
    let root = linux::path::open_dir(Path::new("/"))?;
    streams(stdio, || {
        // The container may have put anything there: what is opened is checked to be a multiplexer
        // of a real devpts.
        let flags = rustix::fs::OFlags::RDWR
            | rustix::fs::OFlags::NOCTTY
            | rustix::fs::OFlags::CLOEXEC
            | rustix::fs::OFlags::NONBLOCK;
        let master = rustix::fs::open("/dev/pts/ptmx", flags, rustix::fs::Mode::empty());
        terminal::finish(master.context(|| "open /dev/pts/ptmx")?)
    })?;
    become_program(plan, arguments, &root, tell)
}

/// What comes first: a clean signal state, the cgroup (so that everything from here on counts), a
/// session of its own.
fn begin(plan: &ContainerPlan, cgroup: &Cgroup) -> Result<()> {
    linux::signal::reset_all()?;
    cgroup.add_self()?;
    let score = i32::try_from(plan.limits.oom_score_adj).unwrap_or(0);
    process::set_oom_score_adj(score.clamp(-1000, 1000))?;
    rustix::process::setsid().context(|| "start a session")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok(())
}

fn streams(stdio: Stdio, open: impl FnOnce() -> Result<terminal::Terminal>) -> Result<()> {
    match stdio {
        Stdio::Plain(fds) => {
            for (number, fd) in (0..).zip(&fds) {
                process::set_stdio(fd, number)?;
            }
        }
        Stdio::Terminal(socket) => {
            let terminal = open()?;
            linux::socket::send(&socket, b"terminal", &[terminal.master.as_fd()])?;
            for number in 0..3 {
                process::set_stdio(&terminal.slave, number)?;
            }
            terminal::take_control(&terminal.slave)?;
        }
    }
    Ok(())
}

/// Gives up everything that the program shall not have, and becomes it.
fn become_program(
    plan: &ContainerPlan,
    arguments: &[String],
    root: &OwnedFd,
    tell: &OwnedFd,
) -> Result<std::convert::Infallible> {
    let user = child::resolve_user(&plan.user, root)?;
    let line = serde_json::to_string(&user).map_err(std::io::Error::from);
    let line = format!("user {}\n", line.context(|| "report the user")?);
    rustix::io::write(tell, line.as_bytes()).context(|| "report the user")?;
    let mut environment = plan.environment.clone();
    if !environment
        .iter()
        .any(|variable| variable.starts_with("HOME="))
    {
        environment.push(format!("HOME={}", user.home));
    }
    own_streams(user.uid)?;
    // From here on nothing of the shim's survives exec, whatever it has open: only the standard
    // streams do.
    process::close_on_exec_from(3)?;
    let reachable = plan.capabilities & credentials::own_capabilities()?;
    let who = Credentials {
        uid: user.uid,
        gid: user.gid,
        groups: user.groups,
        bounding: reachable,
        effective: if user.uid == 0 { reachable } else { 0 },
        no_new_privileges: plan.no_new_privileges,
    };
    let filter = plan
        .seccomp
        .then(|| oci::seccomp::default_filter(plan.capabilities));
    if let (Some(filter), false) = (&filter, who.no_new_privileges) {
        install(filter)?;
    }
    // As root first: the user may start in a directory that it could not enter itself.
    let entered = rustix::process::chdir(plan.working_dir.as_str());
    credentials::bound(who.bounding)?;
    credentials::become_user(&who)?;
    entered
        .or_else(|_| rustix::process::chdir(plan.working_dir.as_str()))
        .context(|| format!("enter the working directory {}", plan.working_dir))?;
    credentials::keep_only(who.effective)?;
    process::die_with_parent()?;
    verify_working_directory()?;
    let program = child::find_program(&arguments[0], &environment)
        .map_err(|reason| Error::new("start the program", std::io::Error::other(reason)))?;
    let (path, arguments) = (child::c_path(&program)?, child::c_strings(arguments)?);
    let environment = child::c_strings(&environment)?;
    if who.no_new_privileges {
        credentials::no_new_privileges()?;
        if let Some(filter) = &filter {
            install(filter)?;
        }
    }
    let failed = process::exec(&path, &arguments, &environment);
    Err(Error::new(format!("exec: {:?}", program.display()), failed))
}

fn install(filter: &[oci::seccomp::Instruction]) -> Result<()> {
    let filter: Vec<_> = filter
        .iter()
        .map(|one| linux::seccomp::Instruction {
            code: one.code,
            jump_true: one.jump_true,
            jump_false: one.jump_false,
            value: one.value,
        })
        .collect();
    linux::seccomp::install(&filter)
}

/// The user owns its standard streams: without that it could not open `/dev/stdout`. A null device
/// of the host's is replaced by the container's own, whose mode and owner may be changed without
/// harm.
fn own_streams(uid: u32) -> Result<()> {
    use rustix::fs::{FileType, Mode, OFlags, Stat, Uid};
    let is_null = |stat: &Stat| {
        let numbers = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && numbers == (1, 3)
    };
    let streams = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    for (number, stream) in (0..).zip(streams) {
        let stat = rustix::fs::fstat(stream).context(|| "look at a standard stream")?;
        if is_null(&stat) {
            let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let null = rustix::fs::open("/dev/null", flags, Mode::empty());
            let null = null.context(|| "open /dev/null in the container")?;
            let genuine = rustix::fs::fstat(&null).is_ok_and(|stat| is_null(&stat));
            if !genuine {
                let what = "/dev/null in the container is not the null device";
                return Err(Error::new(what, rustix::io::Errno::INVAL));
            }
            process::set_stdio(&null, number)?;
        } else if stat.st_uid != uid {
            // Not everything that may be passed to exec can have another owner.
            let _ = rustix::fs::fchown(stream, Some(Uid::from_raw(uid)), None);
        }
    }
    Ok(())
}

/// A directory outside the container would show as unreachable: a descriptor of the host's must not
/// be a way out.
fn verify_working_directory() -> Result<()> {
    let cwd = rustix::process::getcwd(Vec::new()).context(|| "verify the working directory")?;
    if cwd.to_bytes().starts_with(b"/") {
        return Ok(());
    }
    Err(Error::new(
        "the working directory is outside the container",
        rustix::io::Errno::NOENT,
    ))
}
