//! Debian's registry as a child process, and pushing to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use demo_images::Built;
use oci::image::digest;

/// A registry on a free port of loopback, in the network namespace of the thread that starts it.
pub(super) struct Registry {
    child: Child,
    dir: tempfile::TempDir,
    pub(super) address: SocketAddr,
}

impl Registry {
    pub(super) fn start() -> Registry {
        Registry::start_with(|_| String::new())
    }

    /// A registry that only `alice` with the password `secret` may use.
    pub(super) fn start_locked() -> Registry {
        Registry::start_with(|dir| {
            let users = dir.join("htpasswd");
            let hash = "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a";
            std::fs::write(&users, format!("alice:{hash}\n")).unwrap();
            format!(
                "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
                users.display()
            )
        })
    }

    fn start_with(more: impl FnOnce(&Path) -> String) -> Registry {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.yml");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n{}",
            dir.path().join("data").display(),
            more(dir.path()),
        );
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("these tests need Debian's package docker-registry");
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let before = said.len();
            let read = log.read_line(&mut said).unwrap();
            assert!(read > 0, "docker-registry did not start: {said}");
            if let Some((_, rest)) = said[before..].split_once("listening on ") {
                let end = rest.find(['"', ' ', '\n']).unwrap();
                break rest[..end].parse().unwrap();
            }
        };
        // Whoever writes to a full pipe waits.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Registry {
            child,
            dir,
            address,
        }
    }

    /// The image's name here.
    pub(super) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    pub(super) fn push(&self, repository: &str, tag: &str, image: &Built) -> String {
        for (_, bytes) in image.blobs() {
            self.push_blob(repository, bytes);
        }
        let (kind, manifest) = image.manifest();
        self.push_manifest(repository, tag, kind, manifest)
    }

    pub(super) fn push_blob(&self, repository: &str, bytes: &[u8]) {
        let start = format!("/v2/{repository}/blobs/uploads/");
        let upload = self.request("POST", &start, "", b"");
        let location = upload
            .lines()
            .find_map(|line| line.strip_prefix("Location: "))
            .unwrap_or_else(|| panic!("no upload: {upload}"));
        let path = &location[location.find("/v2/").unwrap()..];
        let put = format!("{path}&digest={}", digest(bytes));
        self.created("PUT", &put, "application/octet-stream", bytes);
    }

    pub(super) fn push_manifest(
        &self,
        repository: &str,
        tag: &str,
        kind: &str,
        bytes: &[u8],
    ) -> String {
        let path = format!("/v2/{repository}/manifests/{tag}");
        self.created("PUT", &path, kind, bytes);
        digest(bytes)
    }

    fn created(&self, method: &str, path: &str, kind: &str, body: &[u8]) {
        let answer = self.request(method, path, kind, body);
        assert!(
            answer.starts_with("HTTP/1.1 201"),
            "{method} {path}: {answer}"
        );
    }

    fn request(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {kind}\r\nAuthorization: {}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            super::ALICE,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The file that a blob lies in.
    pub(super) fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let blobs = self.dir.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
