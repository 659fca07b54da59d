//! Whether images are loaded, found and removed, and what layers cannot do.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci::image::digest;
use tar::{EntryType, Header};

use crate::Store;

/// One entry of a layer, with names that no honest tool would write.
struct Entry {
    kind: EntryType,
    name: &'static str,
    link: &'static str,
    content: &'static str,
    mode: u32,
    device: (u32, u32),
    extension: Option<(&'static str, &'static [u8])>,
}

fn entry(kind: EntryType, name: &'static str) -> Entry {
    Entry {
        kind,
        name,
        link: "",
        content: "",
        mode: 0o755,
        device: (0, 0),
        extension: None,
    }
}

fn file(name: &'static str, content: &'static str) -> Entry {
    Entry {
        content,
        ..entry(EntryType::Regular, name)
    }
}

fn dir(name: &'static str) -> Entry {
    entry(EntryType::Directory, name)
}

fn symlink(name: &'static str, link: &'static str) -> Entry {
    Entry {
        link,
        ..entry(EntryType::Symlink, name)
    }
}

fn hardlink(name: &'static str, link: &'static str) -> Entry {
    Entry {
        link,
        ..entry(EntryType::Link, name)
    }
}

fn layer(entries: &[Entry]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        tar.append_pax_extensions(entry.extension).unwrap();
        let mut header = Header::new_gnu();
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_size(entry.content.len() as u64);
        header.set_mtime(1_000_000);
        header.set_uid(7);
        header.set_gid(8);
        let (major, minor) = entry.device;
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        // Byte by byte: the library would refuse what we are up to.
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
        gnu.linkname[..entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header.set_cksum();
        tar.append(&header, entry.content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// What `docker save` would write for layers as they are unpacked and as they are stored.
fn saved(tag: &str, layers: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|(plain, _)| digest(plain)).collect();
    let names: Vec<String> = (0..layers.len())
        .map(|at| format!("{at}/layer.tar"))
        .collect();
    let config =
        serde_json::json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let manifest = serde_json::json!([{"Config": "c.json", "RepoTags": [tag], "Layers": names}]);
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    add("manifest.json", manifest.to_string().as_bytes());
    add("c.json", config.to_string().as_bytes());
    for (name, (_, stored)) in names.iter().zip(layers) {
        add(name, stored);
    }
    tar.into_inner().unwrap()
}

struct Node {
    store: Store,
    dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Node {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("images")).unwrap();
        Node { store, dir }
    }

    fn load(&self, tag: &str, layers: &[&[Entry]]) -> Result<String, String> {
        let plain = layers.iter().map(|entries| layer(entries));
        let layers: Vec<_> = plain.map(|layer| (layer.clone(), layer)).collect();
        let loaded = self.store.load(saved(tag, &layers).as_slice());
        loaded.map_err(|error| error.to_string())?;
        Ok(self.store.status(tag).unwrap().id)
    }

    /// The uppermost layer of an image of these.
    fn top(&self, layers: &[&[Entry]]) -> PathBuf {
        let id = self.load("test", layers).unwrap();
        self.store.layers(&id).unwrap().remove(0)
    }

    fn count(&self, part: &str) -> usize {
        std::fs::read_dir(self.store.root().join(part))
            .unwrap()
            .count()
    }
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn attributes_come_out_as_they_went_in() {
    let node = Node::new();
    let top = node.top(&[&[
        dir("bin/"),
        Entry {
            mode: 0o4711,
            ..file("bin/su", "#!")
        },
        hardlink("bin/sudo", "bin/su"),
        symlink("sbin", "/bin"),
        Entry {
            device: (1, 3),
            ..entry(EntryType::Char, "null")
        },
        entry(EntryType::Fifo, "pipe"),
    ]]);
    let su = std::fs::metadata(top.join("bin/su")).unwrap();
    assert_eq!(
        (su.mode() & 0o7777, su.uid(), su.gid(), su.mtime()),
        (0o4711, 7, 8, 1_000_000)
    );
    assert_eq!(
        su.ino(),
        std::fs::metadata(top.join("bin/sudo")).unwrap().ino()
    );
    assert_eq!(
        std::fs::metadata(top.join("bin")).unwrap().mtime(),
        1_000_000
    );
    assert_eq!(
        std::fs::read_link(top.join("sbin")).unwrap(),
        Path::new("/bin")
    );
    let null = std::fs::metadata(top.join("null")).unwrap();
    assert!(null.file_type().is_char_device());
    assert_eq!(null.rdev(), rustix::fs::makedev(1, 3));
    assert!(
        std::fs::metadata(top.join("pipe"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
}

#[test]
fn layers_may_be_compressed() {
    use std::io::Write;
    let plain = layer(&[file("a", "text")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    for stored in [gzip.finish().unwrap(), zstd] {
        let node = Node::new();
        let archive = saved("test", &[(plain.clone(), stored)]);
        node.store.load(archive.as_slice()).unwrap();
        let id = node.store.status("test").unwrap().id;
        assert_eq!(read(node.store.layers(&id).unwrap()[0].join("a")), "text");
    }
}

/// Names and links of a layer mean places in the image, however they try.
#[test]
fn nothing_is_written_outside() {
    let node = Node::new();
    let outside = node.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    let leaked: &'static str = String::leak(outside.display().to_string());
    let through: &'static str = String::leak(format!("{leaked}/secret"));

    for (hostile, reason) in [
        (vec![file("../up", "x")], "the name leads out of the layer"),
        (
            vec![file("a/../../up", "x")],
            "the name leads out of the layer",
        ),
        (
            vec![hardlink("stolen", "../../../../etc/passwd")],
            "the name leads out",
        ),
        (vec![hardlink("stolen", through)], "link"),
        (vec![symlink("l", through), hardlink("stolen", "l/x")], ""),
        (vec![file("a/.wh...", "")], "malformed whiteout"),
        (vec![file(".wh.", "")], "malformed whiteout"),
        (vec![file("a/.wh..", "")], "malformed whiteout"),
        (
            vec![entry(EntryType::Char, "hole")],
            "device 0:0 is not allowed",
        ),
    ] {
        let error = node.load("hostile", &[&hostile]).unwrap_err();
        assert!(error.contains(reason), "{error}");
        assert!(node.store.list().is_empty());
        assert_eq!((node.count("partial"), node.count("images")), (0, 0));
    }

    // A link to the outside is a link to a place of the same name inside, which must be there.
    let dangling = [symlink("escape", leaked), file("escape/new", "x")];
    let error = node.load("dangling", &[&dangling]).unwrap_err();
    assert!(error.contains("open escape"), "{error}");
    let top = node.top(&[&[
        dir(leaked),
        symlink("escape", leaked),
        file("escape/new", "inside"),
        file("/absolute", "inside"),
        symlink("up", "../../../../.."),
        file("up/up", "inside"),
    ]]);
    assert_eq!(
        read(top.join(leaked.trim_start_matches('/')).join("new")),
        "inside"
    );
    assert_eq!(
        (read(top.join("absolute")), read(top.join("up")).as_str()),
        ("inside".into(), "inside")
    );
    let left: Vec<_> = std::fs::read_dir(&outside).unwrap().collect();
    assert_eq!(left.len(), 1);
    assert_eq!(read(outside.join("secret")), "secret");
}

/// Also when the link lies in a layer below, and the one above writes, removes or replaces.
#[test]
fn links_of_lower_layers_lead_nowhere_either() {
    let node = Node::new();
    let outside = node.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    let leaked: &'static str = String::leak(outside.display().to_string());
    node.top(&[
        &[
            dir(leaked),
            symlink("escape", leaked),
            symlink("other", leaked),
        ],
        &[
            file("escape/.wh.secret", ""),
            file("escape/.wh..wh..opq", ""),
            file("escape/x", "x"),
        ],
        &[dir("other/"), file("other/secret", "changed")],
    ]);
    assert_eq!(read(outside.join("secret")), "secret");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn whiteouts_hide_what_is_below() {
    let node = Node::new();
    let id = node
        .load(
            "test",
            &[
                &[
                    dir("d/"),
                    file("d/old", "1"),
                    file("gone", "1"),
                    file("kept", "1"),
                ],
                &[
                    file(".wh.gone", ""),
                    file("d/new", "2"),
                    file("d/.wh..wh..opq", ""),
                ],
            ],
        )
        .unwrap();
    let layers = node.store.layers(&id).unwrap();
    let merged = linux::mount::overlay(&linux::mount::Overlay {
        lower: &layers,
        upper: None,
    })
    .unwrap();
    let names = |path: &str| {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        let dir = rustix::fs::openat(&merged, path, flags, rustix::fs::Mode::empty()).unwrap();
        let entries = rustix::fs::Dir::read_from(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("."), ["d", "kept"]);
    assert_eq!(names("d"), ["new"]);
}

#[test]
fn attributes_of_the_overlay_are_not_taken_from_layers() {
    let node = Node::new();
    let top = node.top(&[&[
        Entry {
            extension: Some(("SCHILY.xattr.trusted.overlay.redirect", b"/etc")),
            ..dir("redirected/")
        },
        Entry {
            extension: Some(("SCHILY.xattr.user.note", b"hello")),
            ..file("noted", "")
        },
    ]]);
    let mut value = [0_u8; 16];
    let redirect = rustix::fs::getxattr(
        top.join("redirected"),
        "trusted.overlay.redirect",
        &mut value[..],
    );
    assert_eq!(redirect, Err(rustix::io::Errno::NODATA));
    match rustix::fs::getxattr(top.join("noted"), "user.note", &mut value[..]) {
        Ok(length) => assert_eq!(&value[..length], b"hello"),
        // Not every file system keeps these.
        Err(error) => assert_eq!(error, rustix::io::Errno::OPNOTSUPP),
    }
}

#[test]
fn content_that_is_not_what_its_digest_says_is_refused() {
    let node = Node::new();
    let (promised, delivered) = (layer(&[file("a", "good")]), layer(&[file("a", "evil")]));
    let archive = saved("test", &[(promised, delivered)]);
    let error = node.store.load(archive.as_slice()).unwrap_err().to_string();
    assert!(error.starts_with("layer has digest sha256:"), "{error}");
    assert!(node.store.list().is_empty());
    assert_eq!((node.count("layers"), node.count("partial")), (0, 0));
}

#[test]
fn images_are_found_by_name_and_by_the_beginning_of_their_id() {
    let node = Node::new();
    let id = node.load("app:1", &[&[file("a", "1")]]).unwrap();
    let hex = id.trim_start_matches("sha256:");
    for name in ["app:1", "docker.io/library/app:1", &id, hex, &hex[..12]] {
        assert_eq!(
            node.store.status(name).map(|image| image.id),
            Some(id.clone()),
            "{name}"
        );
    }
    for name in [
        "app",
        "app:2",
        "quay.io/library/app:1",
        &hex[..7],
        "",
        "sha256:",
    ] {
        assert_eq!(node.store.status(name), None, "{name}");
    }
}

#[test]
fn layers_stay_as_long_as_somebody_uses_them() {
    let node = Node::new();
    let common = [file("a", "common")];
    let one = node.load("one", &[&common]).unwrap();
    let two = node.load("two", &[&common, &[file("b", "more")]]).unwrap();
    assert_eq!(node.count("layers"), 2);
    node.store.hold("container", &two).unwrap();
    node.store.remove("two").unwrap();
    assert_eq!((node.store.status("two"), node.count("layers")), (None, 2));
    node.store.release("container").unwrap();
    assert_eq!(node.count("layers"), 1);
    node.store.remove(&one).unwrap();
    assert_eq!((node.count("layers"), node.count("images")), (0, 0));
    // There is nothing to remove twice.
    node.store.remove(&one).unwrap();
}

#[test]
fn a_crash_leaves_nothing_half_made() {
    let node = Node::new();
    let id = node.load("app", &[&[file("a", "1")]]).unwrap();
    let gone = node.load("gone", &[&[file("b", "2")]]).unwrap();
    let root = node.store.root().to_owned();
    std::fs::create_dir_all(root.join("partial/7/fs")).unwrap();
    std::fs::write(root.join("images/torn.json"), "{").unwrap();
    let layer = node.store.layers(&gone).unwrap().remove(0);
    std::fs::remove_dir_all(layer.parent().unwrap()).unwrap();

    let store = Store::open(&root).unwrap();
    let ids: Vec<String> = store.list().into_iter().map(|image| image.id).collect();
    assert_eq!(ids, [id]);
    assert_eq!(node.count("partial"), 0);
    assert!(!root.join("images/torn.json").exists());
    assert_eq!(std::fs::metadata(&root).unwrap().mode() & 0o777, 0o700);
}
