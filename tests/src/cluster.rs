//! One cluster.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use demo_images::{Image, samples};

use crate::command::{Output, Running, run};

static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// A cluster of this test run's own: name, state and kubeconfig.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    directory: tempfile::TempDir,
}

impl Cluster {
    /// The cluster that tests share, with the images of [`samples`] loaded.
    ///
    /// # Panics
    /// It does not start.
    pub fn shared() -> Arc<Self> {
        let mut shared = SHARED
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(cluster) = shared.upgrade() {
            return cluster;
        }
        let cluster = Arc::new(Self::start("shared"));
        cluster.load_samples();
        *shared = Arc::downgrade(&cluster);
        cluster
    }

    /// A cluster that is only named, not started.
    ///
    /// # Panics
    /// There is no place for its files.
    pub fn new(purpose: &str) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}-{number}-{purpose}", std::process::id());
        Self {
            name,
            directory: tempfile::tempdir().expect("a directory"),
        }
    }

    /// A new cluster, started.
    ///
    /// # Panics
    /// It does not start.
    pub fn start(purpose: &str) -> Self {
        let cluster = Self::new(purpose);
        cluster.oxikube(&["start"]).ok();
        cluster
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Directory of its data.
    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Loads all images of the walk-throughs.
    ///
    /// # Panics
    /// One is refused.
    pub fn load_samples(&self) {
        let app = program("demo-app");
        let images = [
            samples::busybox(),
            samples::redis_master(),
            samples::redis_slave(),
            samples::guestbook_frontend(&app),
            samples::hello_world(&app, 1),
            samples::hello_world(&app, 2),
            samples::nginx("1.7.9"),
            samples::nginx("1.9.1"),
            samples::kubia(),
            samples::kubia_unhealthy(),
            samples::batch_job(),
            samples::ssd_monitor(),
            samples::operator(&program("operator-demo")),
        ];
        for image in images {
            self.load(&image.expect("an image"));
        }
    }

    /// Loads one image.
    ///
    /// # Panics
    /// It is refused.
    pub fn load(&self, image: &Image) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let built = image.build().expect("an image");
        built.archive(file.as_file()).expect("written");
        self.oxikube(&["image", "load", file.path().to_str().expect("text")])
            .ok();
    }

    /// A program of this project.
    pub fn program(name: &str) -> PathBuf {
        program(name)
    }

    /// The kubectl of this minor version.
    pub fn kubectl_program(minor: u32) -> PathBuf {
        kubectl(minor)
    }

    fn prepare(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("OXIKUBE_STATE_DIR", self.state());
        command.env("KUBECONFIG", self.directory.path().join("kubeconfig"));
        command.env("HOME", self.directory.path());
        command
    }

    /// `oxikube ARGUMENTS`, about this cluster.
    #[track_caller]
    pub fn oxikube(&self, arguments: &[&str]) -> Output {
        let mut command = self.prepare(&program("oxikube"));
        command.env("OXIKUBE_NAME", &self.name).args(arguments);
        run(command, "")
    }

    fn kubectl_command(&self, minor: u32, arguments: &[&str]) -> Command {
        let mut command = self.prepare(&kubectl(minor));
        command
            .args(["--context", &format!("oxikube-{}", self.name)])
            .args(arguments);
        command
    }

    /// `kubectl ARGUMENTS`, with this input.
    #[track_caller]
    pub fn kubectl(&self, minor: u32, arguments: &[&str], input: &str) -> Output {
        run(self.kubectl_command(minor, arguments), input)
    }

    /// `helm ARGUMENTS`, on this cluster.
    #[track_caller]
    pub fn helm(&self, arguments: &[&str]) -> Output {
        let mut command = self.prepare(&tool("helm"));
        command
            .args(["--kube-context", &format!("oxikube-{}", self.name)])
            .args(arguments);
        run(command, "")
    }

    /// Runs a script with one of the clients that `cargo xtask test` installs (`python3`, `node`), on this cluster.
    #[track_caller]
    pub fn script(&self, program: &str, script: &str, arguments: &[&str]) -> Output {
        let clients = tool("clients");
        let mut command = self.prepare(&clients.join("bin").join(program));
        // Modules are looked for where the script comes from: here, since it comes from the standard input.
        command.current_dir(&clients);
        if program == "node" {
            command.arg("--input-type=module");
        }
        command.arg("-").args(arguments);
        run(command, script)
    }

    /// A name-space for one test.
    ///
    /// # Panics
    /// It cannot be made.
    #[track_caller]
    pub fn namespace(self: &Arc<Self>, name: &str, minor: u32) -> Namespace {
        let name = format!("{name}-{minor}");
        self.kubectl(minor, &["create", "namespace", &name], "")
            .ok();
        Namespace {
            cluster: self.clone(),
            name,
            minor,
        }
    }

    /// An address of the node that this machine reaches.
    ///
    /// # Panics
    /// The node has none.
    pub fn node_address(&self) -> String {
        let path = "jsonpath={.items[0].status.addresses[?(@.type==\"InternalIP\")].address}";
        self.kubectl(36, &["get", "nodes", "-o", path], "").ok()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut command = self.prepare(&program("oxikube"));
        command.args(["delete", "--name", &self.name]);
        let output = run(command, "");
        if output.code != 0 && !std::thread::panicking() {
            panic!("the cluster cannot be deleted: {}", output.stderr);
        }
    }
}

/// A name-space of a shared cluster, deleted with the value.
#[derive(Debug)]
pub struct Namespace {
    cluster: Arc<Cluster>,
    name: String,
    minor: u32,
}

impl Namespace {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster that it is in.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// `kubectl --namespace NAME ARGUMENTS`.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.input(arguments, "")
    }

    /// The same, with this input.
    #[track_caller]
    pub fn input(&self, arguments: &[&str], input: &str) -> Output {
        let all = [&["--namespace", &self.name], arguments].concat();
        self.cluster.kubectl(self.minor, &all, input)
    }

    /// The same, with these variables in the environment.
    #[track_caller]
    pub fn with(&self, variables: &[(&str, &str)], arguments: &[&str], input: &str) -> Output {
        let all = [&["--namespace", &self.name], arguments].concat();
        let mut command = self.cluster.kubectl_command(self.minor, &all);
        command.envs(variables.iter().copied());
        run(command, input)
    }

    /// `helm --namespace NAME ARGUMENTS`.
    #[track_caller]
    pub fn helm(&self, arguments: &[&str]) -> Output {
        let all = [&["--namespace", &self.name], arguments].concat();
        self.cluster.helm(&all)
    }

    /// `kubectl` that goes on until the value is dropped.
    pub fn running(&self, arguments: &[&str]) -> Running {
        let all = [&["--namespace", &self.name], arguments].concat();
        Running::start(self.cluster.kubectl_command(self.minor, &all))
    }

    /// `kubectl wait`: until a condition holds.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn wait(&self, what: &[&str], condition: &str) {
        let condition = format!("--for={condition}");
        let all = [&["wait", "--timeout=120s", &condition], what].concat();
        let output = self.kubectl(&all);
        if output.code != 0 {
            let state = self.kubectl(&["get", "all,events", "-o", "wide"]).stdout;
            panic!("{}{}\n{state}", output.stdout, output.stderr);
        }
    }

    /// Waits until a definition, `crd/<plural>.<group>`, is served.
    ///
    /// Its names are awaited first: like upstream's, a new definition has null for conditions, over which `kubectl wait`
    /// stumbles.
    pub fn wait_established(&self, definition: &str) {
        let name = definition.trim_start_matches("crd/");
        let plural = name.split('.').next().unwrap_or(name);
        let named = format!("jsonpath={{.status.acceptedNames.plural}}={plural}");
        self.wait(&[definition], &named);
        self.wait(&[definition], "condition=established");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let delete = ["delete", "namespace", &self.name, "--wait=false"];
        let output = self.cluster.kubectl(self.minor, &delete, "");
        if output.code != 0 && !std::thread::panicking() {
            panic!("the name-space cannot be deleted: {}", output.stderr);
        }
    }
}

/// A program that the build made.
fn program(name: &str) -> PathBuf {
    let directory =
        std::env::var_os("OXIKUBE_TEST_PROGRAMS").map_or_else(beside_this_test, PathBuf::from);
    let program = directory.join(name);
    assert!(
        program.exists(),
        "{} is not built: run `cargo xtask test`",
        program.display()
    );
    program
}

/// Tests lie in `target/debug/deps`, programs in `target/debug`.
fn beside_this_test() -> PathBuf {
    let test = std::env::current_exe().expect("this program has a path");
    test.ancestors().nth(2).expect("a directory").to_owned()
}

fn kubectl(minor: u32) -> PathBuf {
    tool(&format!("kubectl-1.{minor}"))
}

/// Something that `cargo xtask test` installs.
fn tool(name: &str) -> PathBuf {
    let directory = std::env::var_os("OXIKUBE_TEST_TOOLS")
        .map_or_else(|| beside_this_test().with_file_name("tools"), PathBuf::from);
    let program = directory.join(name);
    assert!(
        program.exists(),
        "{} is not there: run `cargo xtask test`",
        program.display()
    );
    program
}
