//! Images from archives: found by every name, shared, removed, and safe against whoever made them.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};
use tar::EntryType;

use crate::{Error, Store};

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A tar file of entries as they come: name, type, mode, content or link target.
#[derive(Default)]
struct Layer(Vec<u8>);

impl Layer {
    fn entry(mut self, name: &str, kind: EntryType, mode: u32, content: &str) -> Layer {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        // Set by hand: the writer would refuse the names that matter here.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        if is_link {
            header.as_gnu_mut().unwrap().linkname[..content.len()]
                .copy_from_slice(content.as_bytes());
        }
        let size = if is_link { 0 } else { content.len() };
        header.set_size(size as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        if size > 0 {
            self.0.extend_from_slice(content.as_bytes());
            self.0.resize(self.0.len().next_multiple_of(512), 0);
        }
        self
    }

    fn file(self, name: &str, content: &str) -> Layer {
        self.entry(name, EntryType::Regular, 0o644, content)
    }

    fn dir(self, name: &str, mode: u32) -> Layer {
        self.entry(name, EntryType::Directory, mode, "")
    }

    fn link(self, name: &str, to: &str) -> Layer {
        self.entry(name, EntryType::Symlink, 0o777, to)
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

fn config(layers: &[&[u8]], marker: &str) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| sha256(layer)).collect();
    let config = serde_json::json!({
        "architecture": oci::image::architecture(), "os": "linux", "config": {"User": marker},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    config.to_string().into_bytes()
}

/// What `docker save` writes.
fn docker(tag: &str, layers: &[&[u8]], marker: &str) -> Vec<u8> {
    let names: Vec<String> = (0..layers.len())
        .map(|at| format!("{at}/layer.tar"))
        .collect();
    let manifest =
        serde_json::json!([{"Config": "c.json", "RepoTags": [tag], "Layers": names}]).to_string();
    let config = config(layers, marker);
    let mut files = vec![
        ("c.json", config.as_slice()),
        ("manifest.json", manifest.as_bytes()),
    ];
    files.extend(names.iter().map(String::as_str).zip(layers.iter().copied()));
    tar_of(&files)
}

/// An OCI layout with compressed layers and an index in the index, as `buildx` writes it.
fn layout(name: &str, layers: &[&[u8]]) -> Vec<u8> {
    let config = config(layers, "oci");
    let packed: Vec<Vec<u8>> = layers
        .iter()
        .enumerate()
        .map(|(at, layer)| compress(at, layer))
        .collect();
    let describe = |bytes: &[u8]| serde_json::json!({"digest": sha256(bytes), "size": bytes.len()});
    let manifest = serde_json::json!({
        "schemaVersion": 2, "config": describe(&config),
        "layers": packed.iter().map(|layer| describe(layer)).collect::<Vec<_>>(),
    })
    .to_string();
    let mut ours = describe(manifest.as_bytes());
    ours["platform"] =
        serde_json::json!({"os": "linux", "architecture": oci::image::architecture()});
    let mut other = ours.clone();
    other["digest"] = sha256(b"another machine's").into();
    other["platform"]["architecture"] = "s390x".into();
    let inner = serde_json::json!({"schemaVersion": 2, "manifests": [other, ours]}).to_string();
    let mut entry = describe(inner.as_bytes());
    entry["annotations"] = serde_json::json!({"io.containerd.image.name": name});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let blobs = [config.as_slice(), manifest.as_bytes(), inner.as_bytes()].into_iter();
    let blobs: Vec<(String, &[u8])> = blobs
        .chain(packed.iter().map(Vec::as_slice))
        .map(|blob| (format!("blobs/{}", sha256(blob).replace(':', "/")), blob))
        .collect();
    let mut files = vec![("index.json", index.as_bytes()), ("oci-layout", &b"{}"[..])];
    files.extend(blobs.iter().map(|(name, blob)| (name.as_str(), *blob)));
    tar_of(&files)
}

fn compress(at: usize, bytes: &[u8]) -> Vec<u8> {
    if at.is_multiple_of(2) {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    } else {
        zstd::encode_all(bytes, 1).unwrap()
    }
}

fn base() -> Vec<u8> {
    Layer::default()
        .dir("tmp/", 0o1777)
        .dir("./etc/", 0o755)
        .file("/etc/base", "base")
        .file("etc/gone", "gone")
        .dir("var/", 0o755)
        .dir("var/cache/", 0o755)
        .file("var/cache/old", "old")
        .link("bin", "usr/bin")
        .dir("usr/bin/", 0o755)
        .finish()
}

fn top() -> Vec<u8> {
    Layer::default()
        .file("tmp/in-tmp", "x")
        .file("etc/.wh.gone", "")
        .file("var/cache/new", "new")
        .file("var/cache/.wh..wh..opq", "")
        .entry("bin/tool", EntryType::Regular, 0o4755, "tool")
        .entry("bin/same", EntryType::Link, 0o4755, "usr/bin/tool")
        .finish()
}

/// The file system of an image as a container would see it: names with modes and contents.
fn listing(store: &Store, name: &str) -> String {
    let layers = store.layers(name).unwrap();
    let overlay = match layers.as_slice() {
        [one] => linux::path::open_dir(one).unwrap(),
        many => linux::mount::overlay(&linux::mount::Overlay {
            lower: many,
            upper: None,
            volatile: false,
        })
        .unwrap(),
    };
    let root = format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&overlay)
    );
    let mut lines = Vec::new();
    walk(Path::new(&root), "", &mut lines);
    lines.sort();
    lines.concat()
}

fn walk(dir: &Path, prefix: &str, lines: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}/{}", entry.file_name().display());
        let metadata = entry.path().symlink_metadata().unwrap();
        let mode = metadata.mode() & 0o7777;
        if metadata.is_dir() {
            lines.push(format!("{name}/ {mode:o}\n"));
            walk(&entry.path(), &name, lines);
        } else if metadata.is_symlink() {
            lines.push(format!(
                "{name} -> {}\n",
                entry.path().read_link().unwrap().display()
            ));
        } else {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            lines.push(format!("{name} {mode:o} {text} ({})\n", metadata.nlink()));
        }
    }
}

#[test]
fn layers_lie_on_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (base, top) = (base(), top());
    let names = store
        .load(docker("app:v1", &[&base, &top], "").as_slice())
        .unwrap();
    assert_eq!(names, ["docker.io/library/app:v1"]);
    expect_test::expect![[r#"
        /bin -> usr/bin
        /etc/ 755
        /etc/base 644 base (1)
        /tmp/ 1777
        /tmp/in-tmp 644 x (1)
        /usr/ 755
        /usr/bin/ 755
        /usr/bin/same 4755 tool (2)
        /usr/bin/tool 4755 tool (2)
        /var/ 755
        /var/cache/ 755
        /var/cache/new 644 new (1)
    "#]]
    .assert_eq(&listing(&store, "app:v1"));
    let mode = std::fs::metadata(dir.path()).unwrap().permissions().mode();
    assert_eq!(
        mode & 0o777,
        0o700,
        "containerd 2021-41103: nobody else may enter"
    );
    assert_eq!(
        std::fs::read_dir(dir.path().join("partial"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_store_shares_its_images_with_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    crate::share(&old, &new).unwrap();
    let store = Store::open(&old).unwrap();
    let (base, top) = (base(), top());
    let archive = docker("app:v1", &[&base, &top], "");
    store.load(archive.as_slice()).unwrap();
    std::fs::remove_dir_all(&new).unwrap();
    crate::share(&old, &new).unwrap();
    let other = Store::open(&new).unwrap();
    // All but the number of links, which has doubled.
    let shown = |store: &Store| {
        let text = listing(store, "app:v1");
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.split(" (").next().unwrap_or_default().to_owned())
            .collect();
        lines
    };
    let before = shown(&other);
    assert_eq!(before, shown(&store));
    assert!(listing(&other, "app:v1").contains("/etc/base 644 base (2)"));
    store.remove("app:v1").unwrap();
    assert!(store.list().is_empty());
    assert_eq!(shown(&other), before);
}

#[test]
fn an_oci_layout_is_the_same_image_as_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (base, top) = (base(), top());
    let archive = layout("ghcr.io/a/app:v2", &[&base, &top]);
    assert_eq!(
        store.load(compress(0, &archive).as_slice()).unwrap(),
        ["ghcr.io/a/app:v2"]
    );
    assert_eq!(
        store.load(compress(1, &archive).as_slice()).unwrap(),
        ["ghcr.io/a/app:v2"]
    );
    let image = store.status("ghcr.io/a/app:v2").unwrap();
    assert_eq!(image.id, sha256(&config(&[&base, &top], "oci")));
    let by_digest = image.repo_digests.first().unwrap();
    for name in [&image.id, &image.id[7..], &image.id[7..20], by_digest] {
        assert_eq!(store.status(name).unwrap().id, image.id, "{name}");
    }
    assert_eq!(store.status("app:v2"), None);
    assert!(image.size_bytes > 0);
    assert_eq!(store.list().len(), 1);
}

#[test]
fn layers_are_shared_and_go_with_their_last_user() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (base, top) = (base(), top());
    store.load(docker("one", &[&base], "1").as_slice()).unwrap();
    store
        .load(docker("two", &[&base, &top], "2").as_slice())
        .unwrap();
    let layers = || {
        std::fs::read_dir(dir.path().join("layers"))
            .unwrap()
            .count()
    };
    assert_eq!(layers(), 2);
    store.hold("container", "two").unwrap();
    store.remove("two").unwrap();
    assert_eq!((layers(), store.list().len()), (2, 1));
    store.release("container").unwrap();
    assert_eq!(layers(), 1);
    store.remove("one").unwrap();
    store.remove("one").unwrap();
    assert_eq!(layers(), 0);
}

#[test]
fn a_tag_moves_to_the_newer_image_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let base = base();
    let newer = {
        let store = Store::open(dir.path()).unwrap();
        store
            .load(docker("app", &[&base], "old").as_slice())
            .unwrap();
        let old = store.status("app").unwrap();
        store
            .load(docker("app", &[&base], "new").as_slice())
            .unwrap();
        assert!(store.status(&old.id).unwrap().repo_tags.is_empty());
        store.status("app").unwrap()
    };
    assert_eq!(newer.config.config.user, "new");
    // What a crash leaves: a half-made layer, half a document.
    std::fs::create_dir(dir.path().join("partial/7")).unwrap();
    std::fs::write(dir.path().join("images/abc.partial"), "{\"id\":").unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.status("app"), Some(newer));
    assert_eq!(store.list().len(), 2);
    assert_eq!(
        std::fs::read_dir(dir.path().join("partial"))
            .unwrap()
            .count(),
        0
    );
}

/// Loads an image with this layer above the usual one; it must be refused, and nothing may be left.
fn refused(layer: Layer) -> String {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    std::fs::write(dir.path().join("outside"), "untouched").unwrap();
    let (base, layer) = (base(), layer.finish());
    let error = store
        .load(docker("bad", &[&base, &layer], "").as_slice())
        .unwrap_err();
    assert_eq!(
        std::fs::read_to_string(dir.path().join("outside")).unwrap(),
        "untouched"
    );
    assert_eq!(store.list(), []);
    assert_eq!(
        std::fs::read_dir(dir.path().join("store/partial"))
            .unwrap()
            .count(),
        0
    );
    error.to_string()
}

#[test]
fn containerd_2021_32760_a_hostile_layer_stays_inside() {
    let climbing = Layer::default().file("../../outside", "owned");
    assert!(refused(climbing).contains("leads out of the layer"));
    let hard_link = Layer::default().entry("x", EntryType::Link, 0o777, "../../outside");
    assert!(refused(hard_link).contains("leads out of the layer"));
    let missing = Layer::default().entry("x", EntryType::Link, 0o777, "/etc/shadow");
    assert!(refused(missing).contains("etc/shadow"));
    let whiteout = Layer::default().file("etc/.wh...", "");
    assert!(refused(whiteout).contains("malformed whiteout"));
    let device = Layer::default().entry("x", EntryType::Char, 0o666, "");
    assert!(refused(device).contains("device"));
}

#[test]
fn containerd_2025_47290_links_in_a_layer_lead_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o700)).unwrap();
    let layer = Layer::default()
        .link("escape", outside.to_str().unwrap())
        .file("escape/file", "inside")
        .dir("escape/", 0o777)
        .link("up", "../../../../../../../..")
        .file("up/etc-of-whom", "inside")
        .finish();
    store
        .load(docker("links", &[&base(), &layer], "").as_slice())
        .unwrap();
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(std::fs::metadata(&outside).unwrap().mode() & 0o777, 0o700);
    assert!(!Path::new("/etc-of-whom").exists());
    assert!(listing(&store, "links").contains("/etc-of-whom 644 inside"));
}

#[test]
fn content_must_have_its_digest() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (base, other) = (base(), top());
    let mut files = docker("app", &[&base], "");
    // The same length, other content.
    let at = files.windows(4).position(|bytes| bytes == b"gone").unwrap();
    files[at] = b'G';
    assert!(store.load(files.as_slice()).is_err());
    let config = config(&[&other], "");
    let manifest = br#"[{"Config": "c", "RepoTags": ["x"], "Layers": ["l"]}]"#;
    let swapped = tar_of(&[("c", &config), ("l", &base), ("manifest.json", manifest)]);
    assert!(matches!(
        store.load(swapped.as_slice()),
        Err(Error::Digest { .. })
    ));
    assert!(store.load(&b"not an archive"[..]).is_err());
    assert!(matches!(
        store.load(tar_of(&[("a", b"b")]).as_slice()),
        Err(Error::Archive(_))
    ));
    assert_eq!(store.list(), []);
}

#[test]
fn of_members_of_one_name_the_last_counts() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let base = base();
    let broken = tar_of(&[("c.json", b"not this"), ("0/layer.tar", b"nor this")]);
    // Without the two blocks that end an archive.
    let mut archive = broken[..broken.len() - 1024].to_vec();
    archive.extend(docker("twice", &[&base], ""));
    let names = store.load(archive.as_slice()).unwrap();
    assert_eq!(names, ["docker.io/library/twice:latest"]);
}
