//! A client that writes all the time, for tests of what may happen meanwhile.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cluster_tests::{Cluster, Host};

/// How long a client may wait for writes to be taken again.
const PATIENCE: Duration = Duration::from_secs(90);

/// A client that writes all the time, and remembers what it was told.
pub(crate) struct Client {
    stop: Arc<AtomicBool>,
    written: Arc<std::sync::Mutex<Vec<String>>>,
    /// What was said to the last write that was not taken.
    refused: Arc<std::sync::Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Client {
    /// On this host, to the server of this configuration.
    pub(crate) fn start(host: &Host, kubeconfig: &str, label: &'static str) -> Self {
        let mut base = host.command(&Cluster::kubectl_program(36));
        base.args(["--kubeconfig", kubeconfig, "--request-timeout=10s"]);
        let parts: Vec<_> = base.get_args().map(std::ffi::OsStr::to_owned).collect();
        let program = base.get_program().to_owned();
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(std::sync::Mutex::new(Vec::new()));
        let refused = Arc::<std::sync::Mutex<Vec<u8>>>::default();
        let (ends, told, refusal) = (stop.clone(), written.clone(), refused.clone());
        let thread = std::thread::spawn(move || {
            for number in 0.. {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let name = format!("{label}-{number}");
                let mut command = Command::new(&program);
                command.args(&parts).args(["create", "configmap", &name]);
                let output = command.output().expect("kubectl");
                match output.status.success() {
                    true => told.lock().expect("whole").push(name),
                    false => *refusal.lock().expect("whole") = output.stderr,
                }
            }
        });
        Self {
            stop,
            written,
            refused,
            thread,
        }
    }

    /// Waits until so many more writes were acknowledged.
    #[track_caller]
    pub(crate) fn goes_on(&self, more: usize) {
        let count = || self.written.lock().expect("whole").len();
        let (began, target) = (Instant::now(), count() + more);
        while count() < target {
            let refused = self.refused.lock().expect("whole").clone();
            let refused = String::from_utf8_lossy(&refused);
            assert!(
                began.elapsed() < PATIENCE,
                "no write is taken any more: {refused}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn finish(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic");
        std::mem::take(&mut *self.written.lock().expect("whole"))
    }

    /// Waits until a write is refused, from now on, with these words.
    #[track_caller]
    pub(crate) fn is_refused(&self, words: &str) {
        let began = Instant::now();
        // What was said before does not count.
        self.refused.lock().expect("whole").clear();
        loop {
            let refused = self.refused.lock().expect("whole").clone();
            let refused = String::from_utf8_lossy(&refused);
            if refused.contains(words) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{refused:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
