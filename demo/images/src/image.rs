//! An image: one layer, a configuration, a manifest.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::files::libraries;

const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Commands that busybox offers under their own names.
const APPLETS: &[&str] = &[
    "sh", "cat", "echo", "env", "false", "grep", "head", "hostname", "httpd", "id", "kill", "ls",
    "mkdir", "nc", "nslookup", "printenv", "ps", "pwd", "rm", "sed", "sleep", "stat", "sync",
    "tail", "tar", "test", "touch", "tr", "true", "vi", "wc", "wget", "whoami", "xargs", "yes",
    "dd", "date", "df", "du", "find", "ip", "ln", "mv", "cp", "chmod", "chown", "cut", "sort",
    "uniq", "top", "trap", "tty", "uname", "id", "mount", "od", "seq", "stty",
];

/// What goes into an image.
#[derive(Clone, Debug)]
pub struct Image {
    name: String,
    /// Content and mode, by path without the leading slash.
    files: BTreeMap<PathBuf, (Vec<u8>, u32)>,
    links: BTreeMap<PathBuf, PathBuf>,
    config: BTreeMap<String, Value>,
}

impl Image {
    /// An image of this name, with the directories and accounts that programs expect.
    pub fn new(name: &str) -> Self {
        let mut image = Self {
            name: name.to_owned(),
            files: BTreeMap::new(),
            links: BTreeMap::new(),
            config: BTreeMap::new(),
        };
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        image
            .config
            .insert("Env".into(), json!([format!("PATH={path}")]));
        image
            .text(
                "etc/passwd",
                "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
            )
            .text("etc/group", "root:x:0:\nnogroup:x:65534:\n")
            .text("etc/nsswitch.conf", "hosts: files dns\n")
    }

    /// A small text file.
    #[must_use]
    pub fn text(mut self, path: &str, content: &str) -> Self {
        self.files
            .insert(path.into(), (content.as_bytes().to_vec(), 0o644));
        self
    }

    /// An executable script.
    #[must_use]
    pub fn script(mut self, path: &str, content: &str) -> Self {
        self.files
            .insert(path.into(), (content.as_bytes().to_vec(), 0o755));
        self
    }

    /// A program of this machine under another path, with the libraries that it needs under theirs.
    ///
    /// # Errors
    /// A file cannot be read, or a library is missing.
    pub fn program(mut self, from: &Path, to: &str) -> anyhow::Result<Self> {
        self.add_file(from, Path::new(to))?;
        for library in libraries(from)? {
            let to = library
                .strip_prefix("/")
                .expect("ldd tells absolute paths")
                .to_owned();
            self.add_file(&library, &to)?;
        }
        Ok(self)
    }

    /// A shell and the usual commands, all busybox.
    ///
    /// # Errors
    /// Debian's `busybox-static` is not installed.
    pub fn busybox(mut self) -> anyhow::Result<Self> {
        let busybox = Path::new("/bin/busybox");
        self.add_file(busybox, Path::new("bin/busybox"))
            .context("install the package busybox-static")?;
        for applet in APPLETS {
            self.links
                .insert(Path::new("bin").join(applet), "busybox".into());
        }
        Ok(self)
    }

    /// A symbolic link.
    #[must_use]
    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.links.insert(path.into(), target.into());
        self
    }

    /// What runs: the entry point.
    #[must_use]
    pub fn entrypoint(mut self, words: &[&str]) -> Self {
        self.config.insert("Entrypoint".into(), json!(words));
        self
    }

    /// Its default arguments.
    #[must_use]
    pub fn command(mut self, words: &[&str]) -> Self {
        self.config.insert("Cmd".into(), json!(words));
        self
    }

    fn add_file(&mut self, from: &Path, to: &Path) -> anyhow::Result<()> {
        let content =
            std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.files.insert(to.to_owned(), (content, 0o755));
        Ok(())
    }

    /// The image's blobs. The same content gives the same digests.
    ///
    /// # Errors
    /// A path does not fit into a tar archive.
    pub fn build(&self) -> anyhow::Result<Built> {
        let layer = Blob::new(self.layer()?);
        let config = Blob::new(serde_json::to_vec(&json!({
            "architecture": "amd64", "os": "linux", "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
            "history": [{"created_by": "oxikube demo images"}],
        }))?);
        let descriptor = |kind: &str, blob: &Blob| json!({"mediaType": kind, "digest": blob.digest, "size": blob.bytes.len()});
        let manifest = Blob::new(serde_json::to_vec(&json!({
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
            "config": descriptor(CONFIG_TYPE, &config),
            "layers": [descriptor(LAYER_TYPE, &layer)],
        }))?);
        Ok(Built {
            name: self.name.clone(),
            blobs: vec![layer, config],
            manifest,
        })
    }

    fn layer(&self) -> anyhow::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for (directory, mode) in self.directories() {
            let mut header = header(tar::EntryType::Directory, mode, 0);
            tar.append_data(
                &mut header,
                format!("{}/", directory.display()),
                std::io::empty(),
            )?;
        }
        for (path, (content, mode)) in &self.files {
            let mut header = header(tar::EntryType::Regular, *mode, content.len() as u64);
            tar.append_data(&mut header, path, content.as_slice())?;
        }
        for (path, target) in &self.links {
            let mut header = header(tar::EntryType::Symlink, 0o777, 0);
            tar.append_link(&mut header, path, target)?;
        }
        Ok(tar.into_inner()?)
    }

    fn directories(&self) -> BTreeMap<PathBuf, u32> {
        let mut all: BTreeMap<PathBuf, u32> = ["dev", "etc", "proc", "root", "run", "sys", "var"]
            .map(|d| (d.into(), 0o755))
            .into();
        all.insert("tmp".into(), 0o1777);
        for path in self.files.keys().chain(self.links.keys()) {
            let parents = path
                .ancestors()
                .skip(1)
                .filter(|p| !p.as_os_str().is_empty());
            for parent in parents {
                all.entry(parent.to_owned()).or_insert(0o755);
            }
        }
        all
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Bytes and their digest.
#[derive(Clone, Debug)]
struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
        Self { digest, bytes }
    }
}

/// An image's blobs.
#[derive(Clone, Debug)]
pub struct Built {
    name: String,
    blobs: Vec<Blob>,
    manifest: Blob,
}

impl Built {
    /// The image's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Layer and configuration: digest and bytes.
    pub fn blobs(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.blobs
            .iter()
            .map(|blob| (blob.digest.as_str(), blob.bytes.as_slice()))
    }

    /// The manifest's media type and bytes.
    pub fn manifest(&self) -> (&'static str, &[u8]) {
        (MANIFEST_TYPE, &self.manifest.bytes)
    }

    /// Writes the image as an OCI layout in a tar archive.
    ///
    /// # Errors
    /// The writer fails.
    pub fn archive(&self, to: impl Write) -> anyhow::Result<()> {
        let mut tar = tar::Builder::new(to);
        let mut add = |path: &str, bytes: &[u8]| {
            let mut header = header(tar::EntryType::Regular, 0o644, bytes.len() as u64);
            tar.append_data(&mut header, path, bytes)
        };
        add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let annotations = json!({
            "org.opencontainers.image.ref.name": self.name, "io.containerd.image.name": self.name,
        });
        let index = json!({"schemaVersion": 2, "manifests": [{
            "mediaType": MANIFEST_TYPE, "digest": self.manifest.digest,
            "size": self.manifest.bytes.len(), "annotations": annotations,
        }]});
        add("index.json", &serde_json::to_vec(&index)?)?;
        for blob in self.blobs.iter().chain([&self.manifest]) {
            add(
                &format!("blobs/{}", blob.digest.replace(':', "/")),
                &blob.bytes,
            )?;
        }
        tar.into_inner()?.flush()?;
        Ok(())
    }
}
