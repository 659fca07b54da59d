//! Control groups, versions 1 (a hybrid machine counts as 1) and 2, behind one type.
//!
//! A group is a path below the mounts, the same in every version 1 hierarchy. What to write into
//! which file is the caller's decision; here are only the mechanics: make, join, write, count,
//! freeze, kill, remove.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

use crate::process::Process;
use crate::{Context, Error, Result};

/// How this machine (or this namespace) has its control groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hierarchies {
    /// One tree per controller (or per set of controllers mounted together): controller name to
    /// mount point.
    V1(BTreeMap<String, PathBuf>),
    /// One tree.
    V2(PathBuf),
}

/// Finds the mounted hierarchies, as the calling process sees them.
pub fn detect() -> Result<Hierarchies> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context(|| "read mountinfo")?;
    parse(&mounts).ok_or_else(|| {
        Error::new(
            "find the control groups",
            io::Error::other("no cgroup file system is mounted"),
        )
    })
}

/// [`detect`] on the text of a `mountinfo`.
pub fn parse(mountinfo: &str) -> Option<Hierarchies> {
    let mut v1 = BTreeMap::new();
    let mut v2 = None;
    for line in mountinfo.lines() {
        let Some((mount, filesystem)) = line.split_once(" - ") else {
            continue;
        };
        let Some(point) = mount.split(' ').nth(4) else {
            continue;
        };
        let mut filesystem = filesystem.split(' ');
        match filesystem.next() {
            Some("cgroup") => {
                for option in filesystem.nth(1).unwrap_or_default().split(',') {
                    if V1_CONTROLLERS.contains(&option) {
                        v1.entry(option.to_owned())
                            .or_insert_with(|| PathBuf::from(point));
                    }
                }
            }
            Some("cgroup2") => v2 = v2.or(Some(PathBuf::from(point))),
            _ => {}
        }
    }
    if v1.is_empty() {
        v2.map(Hierarchies::V2)
    } else {
        Some(Hierarchies::V1(v1))
    }
}

/// The controllers that matter to a container.
const V1_CONTROLLERS: &[&str] = &[
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
];

impl Hierarchies {
    /// The group at a path below the mounts; it need not exist.
    pub fn group(&self, path: &str) -> Cgroup {
        Cgroup {
            hierarchies: self.clone(),
            path: path.trim_matches('/').to_owned(),
        }
    }

    /// True for version 2.
    pub fn is_v2(&self) -> bool {
        matches!(self, Hierarchies::V2(_))
    }

    /// The distinct mount points.
    pub fn mounts(&self) -> BTreeSet<&Path> {
        match self {
            Hierarchies::V1(mounts) => mounts.values().map(PathBuf::as_path).collect(),
            Hierarchies::V2(mount) => BTreeSet::from([mount.as_path()]),
        }
    }

    /// The mount point that has a controller.
    pub fn mount_of(&self, controller: &str) -> Option<&Path> {
        match self {
            Hierarchies::V1(mounts) => mounts.get(controller).map(PathBuf::as_path),
            Hierarchies::V2(mount) => Some(mount),
        }
    }
}

/// One control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    hierarchies: Hierarchies,
    path: String,
}

/// What a group has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time.
    pub cpu: Duration,
    /// Memory charged, caches included.
    pub memory_bytes: u64,
    /// Memory less the caches that are easy to drop: what counts for eviction.
    pub working_set_bytes: u64,
    /// Anonymous memory.
    pub rss_bytes: u64,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that read from a disk.
    pub major_page_faults: u64,
    /// Limit of memory, if there is one.
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
}

impl Cgroup {
    /// Its path below the mounts, without a leading slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// True on version 2.
    pub fn is_v2(&self) -> bool {
        self.hierarchies.is_v2()
    }

    /// Its directory in the tree of a controller.
    pub fn dir(&self, controller: &str) -> Option<PathBuf> {
        Some(self.hierarchies.mount_of(controller)?.join(&self.path))
    }

    fn dirs(&self) -> Vec<PathBuf> {
        self.hierarchies
            .mounts()
            .into_iter()
            .map(|mount| mount.join(&self.path))
            .collect()
    }

    /// Its directory in each hierarchy, by the name under which that is mounted (such as
    /// `cpu,cpuacct`).
    pub fn dirs_by_mount(&self) -> Vec<(String, PathBuf)> {
        let name = |mount: &Path| {
            mount
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        let mounts = self.hierarchies.mounts().into_iter();
        mounts
            .map(|mount| (name(mount), mount.join(&self.path)))
            .collect()
    }

    /// Its directory in the first hierarchy (on version 2, the only one).
    pub fn first_dir(&self) -> PathBuf {
        self.dirs().into_iter().next().unwrap_or_default()
    }

    /// True when it exists in every hierarchy.
    pub fn exists(&self) -> bool {
        self.dirs().iter().all(|dir| dir.is_dir())
    }

    /// A group inside this one.
    pub fn child(&self, name: &str) -> Cgroup {
        self.hierarchies.group(&format!("{}/{name}", self.path))
    }

    /// Makes it with all its parents. On version 2 the parents hand all controllers down; on
    /// version 1 `cpuset` starts with what the parent has, because an empty one takes no process.
    pub fn create(&self) -> Result<()> {
        match &self.hierarchies {
            Hierarchies::V2(mount) => self.create_v2(mount),
            Hierarchies::V1(mounts) => {
                for mount in self.hierarchies.mounts() {
                    let dir = mount.join(&self.path);
                    if mounts.get("cpuset").is_some_and(|cpuset| cpuset == mount) {
                        create_cpuset(mount, &self.path)?;
                    } else {
                        std::fs::create_dir_all(&dir)
                            .context(|| format!("make {}", dir.display()))?;
                    }
                }
                Ok(())
            }
        }
    }

    fn create_v2(&self, mount: &Path) -> Result<()> {
        let mut dir = mount.to_path_buf();
        for name in self.path.split('/').filter(|name| !name.is_empty()) {
            let read = |file: &str| {
                std::fs::read_to_string(dir.join(file))
                    .context(|| format!("read {file} of {}", dir.display()))
            };
            let (offered, given) = (read("cgroup.controllers")?, read("cgroup.subtree_control")?);
            let given: Vec<&str> = given.split_whitespace().collect();
            for controller in offered
                .split_whitespace()
                .filter(|name| !given.contains(name))
            {
                // One by one: a controller that cannot be handed down must not keep back others.
                let control = dir.join("cgroup.subtree_control");
                let _ = std::fs::write(control, format!("+{controller}"));
            }
            dir.push(name);
            match std::fs::create_dir(&dir) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.context(|| format!("make {}", dir.display()))?,
            }
        }
        Ok(())
    }

    /// Writes a file of a controller. On version 1 a controller that is not mounted is an error, so
    /// ask [`Cgroup::dir`] first.
    pub fn write(&self, controller: &str, file: &str, value: &str) -> Result<()> {
        let dir = self.dir(controller).ok_or_else(|| {
            let missing = io::Error::from(io::ErrorKind::NotFound);
            Error::new(
                format!("the cgroup controller {controller} is not mounted"),
                missing,
            )
        })?;
        std::fs::write(dir.join(file), value)
            .context(|| format!("write {value:?} to {file} of cgroup {}", self.path))
    }

    /// Reads a file of a controller.
    pub fn read(&self, controller: &str, file: &str) -> Result<String> {
        let what = || format!("read {file} of cgroup {}", self.path);
        let dir = self.dir(controller).unwrap_or_default();
        std::fs::read_to_string(dir.join(file)).context(what)
    }

    /// Moves a process into it.
    pub fn add(&self, pid: Pid) -> Result<()> {
        self.join(&pid.as_raw_nonzero().to_string())
    }

    /// Moves the calling process into it.
    pub fn add_self(&self) -> Result<()> {
        self.join("0")
    }

    fn join(&self, pid: &str) -> Result<()> {
        for dir in self.dirs() {
            std::fs::write(dir.join("cgroup.procs"), pid)
                .context(|| format!("move process {pid} into {}", dir.display()))?;
        }
        Ok(())
    }

    /// On version 2, a handle for [`crate::process::fork`].
    pub fn open(&self) -> Result<Option<OwnedFd>> {
        match &self.hierarchies {
            Hierarchies::V1(_) => Ok(None),
            Hierarchies::V2(mount) => crate::path::open_dir(&mount.join(&self.path)).map(Some),
        }
    }

    /// The processes in it and in all groups below it, as numbers of the calling process's PID
    /// namespace.
    pub fn processes(&self) -> Result<Vec<Pid>> {
        let mut found = BTreeSet::new();
        for dir in self.dirs() {
            collect(&dir, &mut found)?;
        }
        Ok(found.into_iter().filter_map(Pid::from_raw).collect())
    }

    /// Kills every process in it and below, and waits until they are gone (not until they are
    /// reaped). Nothing can fork its way out: version 2 does it in the kernel, on version 1 the
    /// group is frozen meanwhile.
    pub fn kill(&self, timeout: Duration) -> Result<()> {
        let deadline = std::time::Instant::now() + timeout;
        loop {
            let processes: Vec<Process> = self
                .processes()?
                .into_iter()
                .filter_map(|pid| Process::open(pid).ok())
                .collect();
            if processes.is_empty() {
                return Ok(());
            }
            if self.is_v2() && self.write("", "cgroup.kill", "1").is_ok() {
            } else {
                self.kill_frozen()?;
            }
            let mut waiting: Vec<_> = processes
                .iter()
                .map(|process| PollFd::new(process, PollFlags::IN))
                .collect();
            while !waiting.is_empty() {
                let left = deadline.saturating_duration_since(std::time::Instant::now());
                if left.is_zero() {
                    let late = io::Error::from(io::ErrorKind::TimedOut);
                    return Err(Error::new(format!("kill cgroup {}", self.path), late));
                }
                let left = Timespec {
                    tv_sec: left.as_secs() as _,
                    tv_nsec: left.subsec_nanos().into(),
                };
                match poll(&mut waiting, Some(&left)) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(Error::new("wait for killed processes", error)),
                }
                waiting.retain(|process| !process.revents().contains(PollFlags::IN));
            }
        }
    }

    fn kill_frozen(&self) -> Result<()> {
        // Without a freezer (not mounted) a fork bomb can outrun one round; the caller repeats
        // until the group is empty.
        let frozen = self.freeze().is_ok();
        let killed = self
            .processes()?
            .into_iter()
            .try_for_each(|pid| match Process::open(pid) {
                // The process cannot have been replaced: while frozen it cannot be reaped into a
                // reused number unseen, and the number was read from the group a moment ago.
                Ok(process) => process.kill(),
                Err(_) => Ok(()),
            });
        if frozen {
            self.thaw()?;
        }
        killed
    }

    /// Stops every process in it.
    pub fn freeze(&self) -> Result<()> {
        match self.hierarchies {
            Hierarchies::V1(_) => self.write("freezer", "freezer.state", "FROZEN"),
            Hierarchies::V2(_) => self.write("", "cgroup.freeze", "1"),
        }
    }

    /// Lets them go on.
    pub fn thaw(&self) -> Result<()> {
        match self.hierarchies {
            Hierarchies::V1(_) => self.write("freezer", "freezer.state", "THAWED"),
            Hierarchies::V2(_) => self.write("", "cgroup.freeze", "0"),
        }
    }

    /// Removes it and all groups below it; success when it is gone already. Fails with `EBUSY`
    /// while a process is in it.
    pub fn remove(&self) -> Result<()> {
        if self.path.is_empty() {
            let root = io::Error::from(io::ErrorKind::InvalidInput);
            return Err(Error::new("remove the root cgroup", root));
        }
        for dir in self.dirs() {
            remove_tree(&dir).context(|| format!("remove {}", dir.display()))?;
        }
        Ok(())
    }

    /// How many processes the kernel has killed in it for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let text = match self.hierarchies {
            Hierarchies::V1(_) => self.read("memory", "memory.oom_control"),
            Hierarchies::V2(_) => self.read("", "memory.events"),
        };
        text.ok()
            .and_then(|text| field(&text, "oom_kill"))
            .unwrap_or(0)
    }

    /// What it uses now. Files that are missing count as zero.
    pub fn usage(&self) -> Usage {
        let number = |controller: &str, file: &str| -> Option<u64> {
            self.read(controller, file).ok()?.trim().parse().ok()
        };
        let fields = |controller: &str, file: &str| self.read(controller, file).unwrap_or_default();
        match self.hierarchies {
            Hierarchies::V1(_) => {
                let stat = fields("memory", "memory.stat");
                let get = |name| field(&stat, name).unwrap_or(0);
                let memory_bytes = number("memory", "memory.usage_in_bytes").unwrap_or(0);
                Usage {
                    cpu: Duration::from_nanos(number("cpuacct", "cpuacct.usage").unwrap_or(0)),
                    memory_bytes,
                    working_set_bytes: memory_bytes.saturating_sub(get("total_inactive_file")),
                    rss_bytes: get("total_rss"),
                    page_faults: get("total_pgfault"),
                    major_page_faults: get("total_pgmajfault"),
                    memory_limit_bytes: number("memory", "memory.limit_in_bytes")
                        .filter(|limit| *limit < 1 << 62),
                    pids: number("pids", "pids.current").unwrap_or(0),
                }
            }
            Hierarchies::V2(_) => {
                let stat = fields("", "memory.stat");
                let get = |name| field(&stat, name).unwrap_or(0);
                let memory_bytes = number("", "memory.current").unwrap_or(0);
                let cpu = field(&fields("", "cpu.stat"), "usage_usec").unwrap_or(0);
                Usage {
                    cpu: Duration::from_micros(cpu),
                    memory_bytes,
                    working_set_bytes: memory_bytes.saturating_sub(get("inactive_file")),
                    rss_bytes: get("anon"),
                    page_faults: get("pgfault"),
                    major_page_faults: get("pgmajfault"),
                    memory_limit_bytes: number("", "memory.max"),
                    pids: number("", "pids.current").unwrap_or(0),
                }
            }
        }
    }
}

/// The value of `name` in a file of `name value` lines.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}

fn create_cpuset(mount: &Path, path: &str) -> Result<()> {
    let mut dir = mount.to_path_buf();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let parent = dir.clone();
        dir.push(name);
        match std::fs::create_dir(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::new(format!("make {}", dir.display()), error)),
        }
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let what = || format!("set {file} of {}", dir.display());
            let own = std::fs::read_to_string(dir.join(file)).context(what)?;
            if own.trim().is_empty() {
                let inherited = std::fs::read_to_string(parent.join(file)).context(what)?;
                std::fs::write(dir.join(file), inherited.trim()).context(what)?;
            }
        }
    }
    Ok(())
}

fn collect(dir: &Path, found: &mut BTreeSet<i32>) -> Result<()> {
    let what = || format!("read the processes of {}", dir.display());
    let text = match std::fs::read_to_string(dir.join("cgroup.procs")) {
        Ok(text) => text,
        // Gone, or being removed: nobody is in it.
        Err(error) if gone(&error) => return Ok(()),
        // A threaded group of version 2 has no processes of its own.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => String::new(),
        Err(error) => return Err(Error::new(what(), error)),
    };
    // 0 stands for a process outside our PID namespace: not ours to see.
    found.extend(
        text.lines()
            .filter_map(|line| line.parse::<i32>().ok())
            .filter(|pid| *pid > 0),
    );
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if gone(&error) => return Ok(()),
        Err(error) => return Err(Error::new(what(), error)),
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found)?;
        }
    }
    Ok(())
}

fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    let mut busy = 0;
    loop {
        match std::fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(error) if gone(&error) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && busy < 100 => {
                // Either there are groups below, or a killed process is still on its way out, which
                // takes microseconds and for which the kernel has no message on version 1.
                busy += 1;
                for entry in std::fs::read_dir(dir)?.flatten() {
                    if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                        remove_tree(&entry.path())?;
                    }
                }
                std::thread::yield_now();
            }
            Err(error) => return Err(error),
        }
    }
}
