//! Credentials from a program: `exec` in a kubeconfig.
//!
//! The program runs when there is nothing to show, when what it has said is out of its time, and when the far end did not believe
//! it; once at a time, whoever waits for it. What it writes is bounded, and so is its time. Nothing that it says is ever logged.
//! Behaviour: `k8s.io/client-go/plugin/pkg/client/auth/exec`.

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use jiff::Timestamp;
use parking_lot::Mutex;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::Credentials;
use crate::call::now;
use crate::server::Identity;

/// The versions of the question that are spoken.
pub(super) const VERSIONS: [&str; 2] = [
    "client.authentication.k8s.io/v1",
    "client.authentication.k8s.io/v1beta1",
];
const QUESTION: &str = "KUBERNETES_EXEC_INFO";
/// A program that takes longer is ended.
const PATIENCE: Duration = Duration::from_secs(60);
const LONGEST_ANSWER: u64 = 1 << 20;

/// What a program has said.
pub(super) struct Said {
    /// Which of its answers this is.
    pub(super) number: u64,
    pub(super) token: Option<String>,
    pub(super) credentials: Option<Credentials>,
    until: Option<Timestamp>,
}

type Answer = Result<Arc<Said>, String>;

#[derive(Default)]
struct State {
    known: Option<Arc<Said>>,
    running: Option<Shared<BoxFuture<'static, Answer>>>,
    count: u64,
}

/// A program that says who we are.
pub(crate) struct Plugin {
    pub(super) command: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) version: String,
    /// The cluster that it is asked for, if it wants to know.
    pub(super) cluster: Option<Value>,
    pub(super) install_hint: String,
    state: Mutex<State>,
}

impl Plugin {
    pub(super) fn new(command: PathBuf, version: String) -> Self {
        Self {
            command,
            version,
            args: Vec::new(),
            env: Vec::new(),
            cluster: None,
            install_hint: String::new(),
            state: Mutex::default(),
        }
    }

    /// What it says, or has said.
    pub(super) async fn say(self: &Arc<Self>) -> Answer {
        let running = {
            let mut state = self.state.lock();
            let good = |said: &&Arc<Said>| said.until.is_none_or(|until| now() <= until);
            if let Some(said) = state.known.as_ref().filter(good) {
                return Ok(said.clone());
            }
            match &state.running {
                Some(running) => running.clone(),
                None => {
                    // It runs on when whoever asked has given up: the next one has its answer.
                    let task = tokio::spawn(self.clone().run());
                    let ended = task.map(|end| end.unwrap_or_else(|e| Err(format!("exec: {e}"))));
                    state.running.insert(ended.boxed().shared()).clone()
                }
            }
        };
        running.await
    }

    /// That answer is no good any more.
    pub(super) fn forget(&self, number: u64) {
        let mut state = self.state.lock();
        state.known.take_if(|said| said.number == number);
    }

    async fn run(self: Arc<Self>) -> Answer {
        let answer = self.ask().await;
        let mut state = self.state.lock();
        state.running = None;
        state.count += 1;
        let number = state.count;
        state.known = None;
        let said = Arc::new(Said { number, ..answer? });
        state.known = Some(said.clone());
        Ok(said)
    }

    async fn ask(&self) -> Result<Said, String> {
        let work = tokio::time::timeout(PATIENCE, self.run_program());
        let name = self.command.display();
        let late = |_| format!("exec: executable {name} has not ended in time");
        let (status, out) = work.await.map_err(late)?.map_err(|e| self.failed(&e))?;
        if !status.success() {
            let code = status.code().unwrap_or(-1);
            return Err(format!(
                "exec: executable {name} failed with exit code {code}"
            ));
        }
        if out.len() as u64 > LONGEST_ANSWER {
            return Err("decoding stdout: too long".to_owned());
        }
        self.read(&out)
    }

    async fn run_program(&self) -> io::Result<(ExitStatus, Vec<u8>)> {
        let mut spec = json!({"interactive": false});
        if let Some(cluster) = &self.cluster {
            spec["cluster"] = cluster.clone();
        }
        let question =
            json!({"kind": "ExecCredential", "apiVersion": self.version, "spec": spec}).to_string();
        let mut command = tokio::process::Command::new(&self.command);
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .env(QUESTION, question)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let mut out = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout
                .take(LONGEST_ANSWER + 1)
                .read_to_end(&mut out)
                .await?;
        }
        Ok((child.wait().await?, out))
    }

    fn failed(&self, error: &io::Error) -> String {
        if error.kind() != io::ErrorKind::NotFound {
            return format!("exec: {error}");
        }
        let mut why = format!("exec: executable {} not found", self.command.display());
        if !self.install_hint.is_empty() {
            why += &format!("\n\n{}", self.install_hint);
        }
        why
    }

    fn read(&self, out: &[u8]) -> Result<Said, String> {
        // The answer has secrets in it: an error tells where it is wrong, not what stands there.
        let wrong = |e: serde_json::Error| {
            let (line, column) = (e.line(), e.column());
            format!("decoding stdout: no ExecCredential (line {line}, column {column})")
        };
        let found: Found = serde_json::from_slice(out).map_err(wrong)?;
        if found.kind != "ExecCredential" || found.api_version != self.version {
            return Err(format!(
                "exec plugin is configured to use API version {}, plugin returned version {}",
                self.version, found.api_version
            ));
        }
        let status = found
            .status
            .ok_or("exec plugin didn't return a status field")?;
        let (certificate, key) = (&status.client_certificate_data, &status.client_key_data);
        if status.token.is_empty() && certificate.is_empty() && key.is_empty() {
            return Err("exec plugin didn't return a token or cert/key pair".to_owned());
        }
        if certificate.is_empty() != key.is_empty() {
            return Err("exec plugin returned only certificate or key, not both".to_owned());
        }
        let credentials = match certificate.is_empty() {
            true => None,
            false => Some(identity(certificate, key)?),
        };
        Ok(Said {
            number: 0,
            token: Some(status.token).filter(|token| !token.is_empty()),
            credentials: credentials.map(Credentials::new),
            until: status.expiration_timestamp,
        })
    }
}

fn identity(certificate: &str, key: &str) -> Result<Identity, String> {
    let failed =
        |e: rustls_pki_types::pem::Error| format!("failed parsing client key/certificate: {e}");
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
    let chain = chain.map_err(failed)?;
    if chain.is_empty() {
        return Err("failed parsing client leaf certificate: there is none".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(failed)?;
    Ok(Identity { chain, key })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Found {
    kind: String,
    api_version: String,
    status: Option<Status>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    token: String,
    client_certificate_data: String,
    client_key_data: String,
    expiration_timestamp: Option<Timestamp>,
}
