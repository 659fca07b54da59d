//! Processes in a network namespace of their own, with a directory for all that they keep.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::command::run;
use crate::{Cluster, Output};

/// How long things may take to come about, a lease's end included.
const PATIENCE: Duration = Duration::from_secs(90);

/// A network namespace with an address, and a directory for all that runs in it.
#[derive(Debug)]
pub struct Host {
    name: String,
    dir: tempfile::TempDir,
    processes: Vec<(String, Child)>,
    logs: Option<PathBuf>,
}

/// `ip ARGUMENTS`, which must succeed.
///
/// # Panics
/// It does not.
#[track_caller]
pub fn ip(arguments: &str) {
    let done = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("iproute2");
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "ip {arguments}: {told}");
}

impl Host {
    /// A new one; `purpose` is a letter or two.
    ///
    /// # Panics
    /// There is no place for it.
    pub fn new(purpose: &str) -> Self {
        let name = format!("oxkt{}{purpose}", std::process::id());
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        Self {
            name,
            dir: tempfile::tempdir().expect("a directory"),
            processes: Vec::new(),
            logs: None,
        }
    }

    /// What the processes said is put into this directory in the end.
    pub fn keep_logs(&mut self, directory: &Path) {
        self.logs = Some(directory.to_owned());
    }

    /// Its name, also that of the control group for its pods.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A file of its directory.
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// The same, as text.
    ///
    /// # Panics
    /// It is none.
    pub fn text(&self, file: &str) -> String {
        self.path(file).to_str().expect("text").to_owned()
    }

    /// A program in this namespace.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.name))
            .arg(program);
        command
    }

    /// Starts `oxikube ARGUMENTS`; what it says is in the file of its name.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(&mut self, name: &str, arguments: &[String]) {
        self.start_program(&Cluster::program("oxikube"), name, arguments);
    }

    /// Starts any program.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start_program(&mut self, program: &Path, name: &str, arguments: &[String]) {
        let log = std::fs::File::create(self.path(&format!("{name}.log"))).expect("a log");
        let mut command = self.command(program);
        command.args(arguments);
        command.stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        let child = command.spawn().expect("started");
        self.processes.push((name.to_owned(), child));
    }

    /// What a process has said.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    /// Sends a signal (`STOP`) to a process.
    ///
    /// # Panics
    /// There is none.
    pub fn signal(&self, name: &str, signal: &str) {
        let found = self.processes.iter().find(|(n, _)| n == name);
        let (_, child) = found.expect("it was started");
        let kill = ["-s", signal, &child.id().to_string()].map(str::to_owned);
        let told = Command::new("kill").args(kill).status();
        assert!(told.expect("kill").success());
    }

    /// Ends a process; `gently`: as a supervisor does.
    ///
    /// # Panics
    /// There is none.
    pub fn end(&mut self, name: &str, gently: bool) {
        let at = self.processes.iter().position(|(n, _)| n == name);
        let (_, mut child) = self.processes.remove(at.expect("it was started"));
        if gently {
            let told = Command::new("kill").arg(child.id().to_string()).status();
            assert!(told.expect("kill").success());
        } else {
            child.kill().expect("it is ours");
        }
        child.wait().expect("it is ours");
    }

    /// `kubectl ARGUMENTS` from inside.
    #[track_caller]
    pub fn kubectl(&self, kubeconfig: &str, arguments: &[&str]) -> Output {
        let mut command = self.command(&Cluster::kubectl_program(36));
        command.args(["--kubeconfig", kubeconfig]).args(arguments);
        run(command, "")
    }

    /// The same, with this input.
    #[track_caller]
    pub fn kubectl_with(&self, kubeconfig: &str, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(&Cluster::kubectl_program(36));
        command.args(["--kubeconfig", kubeconfig]).args(arguments);
        run(command, input)
    }

    /// Waits until kubectl says something that fits.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn wait(
        &self,
        kubeconfig: &str,
        arguments: &[&str],
        fits: impl Fn(&str) -> bool,
    ) -> String {
        self.until(&format!("{arguments:?}"), || {
            let said = self.kubectl(kubeconfig, arguments);
            match said.code == 0 && fits(&said.stdout) {
                true => Ok(said.stdout),
                false => Err(format!("{}{}", said.stdout, said.stderr)),
            }
        })
    }

    /// Waits until something holds; an error says what is there instead.
    ///
    /// # Panics
    /// It does not come about; what the processes said last is told.
    #[track_caller]
    pub fn until<T>(&self, what: &str, mut holds: impl FnMut() -> Result<T, String>) -> T {
        let began = Instant::now();
        loop {
            let instead = match holds() {
                Ok(value) => return value,
                Err(instead) => instead,
            };
            if began.elapsed() > PATIENCE {
                let ended = self.processes.iter().find(|(_, child)| is_over(child));
                let told = ended.map_or(String::new(), |(name, _)| format!("{name} has ended; "));
                let logs = self.processes.iter().map(|(name, _)| {
                    let log = self.log(name);
                    let lines: Vec<&str> = log.lines().collect();
                    let last = &lines[lines.len().saturating_sub(40)..];
                    format!("-- {name}\n{}\n", last.join("\n"))
                });
                panic!("{what}: {told}{instead}\n{}", logs.collect::<String>());
            }
            // Another process is asked; this is how often, not how long.
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Whether a process has ended and nobody has asked how.
fn is_over(child: &Child) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()));
    stat.is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|s| s.starts_with('Z')))
}

impl Drop for Host {
    fn drop(&mut self) {
        for (name, child) in &mut self.processes {
            let _ = child.kill();
            let _ = child.wait();
            if let Some(to) = &self.logs {
                let log = format!("{name}.log");
                let _ = std::fs::copy(self.dir.path().join(&log), to.join(&log));
            }
        }
        // Pods outlive the process that started them.
        let pids = Command::new("ip")
            .args(["netns", "pids", &self.name])
            .output();
        let mut left = pids
            .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
            .unwrap_or_default();
        left.push_str(&keepers(self.dir.path()));
        for pid in left.split_whitespace() {
            let _ = Command::new("kill").args(["-9", pid]).status();
        }
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = self.dir.path().to_string_lossy().into_owned();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let mut places: Vec<&str> = places.filter(|place| place.starts_with(&own)).collect();
        places.sort_unstable();
        for place in places.into_iter().rev() {
            let _ = Command::new("umount").args(["-l", place]).status();
        }
        remove_groups(&self.name);
    }
}

/// The keepers of pods whose files are below this directory, and what they keep.
fn keepers(dir: &Path) -> String {
    let own = dir.to_string_lossy().into_owned();
    let mut found = String::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&words).contains(&own) {
            found.push_str(&format!(" {}", entry.file_name().to_string_lossy()));
        }
    }
    found
}

/// Removes the control groups of a host's pods, the deepest first, and what is left in them.
fn remove_groups(name: &str) {
    fn remove(dir: &Path) {
        let left = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        for pid in left.split_whitespace() {
            let _ = Command::new("kill").args(["-9", pid]).status();
        }
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            }
        }
        let _ = std::fs::remove_dir(dir);
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        let roots = std::fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten();
        let groups = roots
            .map(|root| root.path().join(name))
            .chain([Path::new("/sys/fs/cgroup").join(name)]);
        let there: Vec<PathBuf> = groups.filter(|group| group.exists()).collect();
        if there.is_empty() {
            return;
        }
        there.iter().for_each(|group| remove(group));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Words of a command line.
pub fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A kubeconfig with one of the certificates of a directory.
///
/// # Panics
/// It cannot be written.
pub fn kubeconfig(host: &Host, pki: &Path, url: &str, who: &str) -> String {
    let file = host.text(&format!("{who}.kubeconfig"));
    let at = |name: &str| pki.join(name).display().to_string();
    let (ca, certificate, key) = (
        at("ca.crt"),
        at(&format!("{who}.crt")),
        at(&format!("{who}.key")),
    );
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\n\
         clusters: [{{name: c, cluster: {{server: \"{url}\", certificate-authority: {ca}}}}}]\n\
         users: [{{name: u, user: {{client-certificate: {certificate}, client-key: {key}}}}}]\n\
         contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n"
    );
    std::fs::write(&file, text).expect("written");
    file
}
