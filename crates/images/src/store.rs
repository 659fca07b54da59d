//! The store: which images are there, who uses their layers, and what may go.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use oci::Reference;

use crate::error::At;
use crate::{Error, Image, archive, unpack};

/// All images of one node. Cheap to share behind an `Arc`; every call may come from any thread.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    state: Mutex<State>,
    /// Unpacking is serialized: two pulls of images with common layers then do the work once.
    unpacking: Mutex<()>,
    next_partial: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    images: BTreeMap<String, Image>,
    /// Layers in use, by who uses them (a container ID).
    held: HashMap<String, Vec<String>>,
}

/// Where a layer's content comes from.
pub(crate) struct LayerSource {
    pub(crate) path: PathBuf,
}

impl Store {
    /// Opens the store in a directory, which is made if need be, and clears away what a crash left
    /// half-made.
    pub fn open(root: impl Into<PathBuf>) -> Result<Store, Error> {
        let root = root.into();
        for dir in [
            root.clone(),
            root.join("images"),
            root.join("layers"),
            root.join("partial"),
        ] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .at("make", &dir)?;
            let mode = std::fs::Permissions::from_mode(0o700);
            std::fs::set_permissions(&dir, mode).at("set the mode of", &dir)?;
        }
        let partial = root.join("partial");
        for entry in std::fs::read_dir(&partial).at("read", &partial)? {
            let path = entry.at("read", &partial)?.path();
            unpack::remove_tree(&path)?;
        }
        let images = Image::load_all(&root.join("images"))?;
        let complete = |image: &Image| {
            image
                .config
                .chain_ids()
                .iter()
                .all(|chain| layer_dir(&root, chain).is_dir())
        };
        let images = images
            .into_iter()
            .filter(complete)
            .map(|i| (i.id.clone(), i))
            .collect();
        Ok(Store {
            root,
            state: Mutex::new(State {
                images,
                held: HashMap::new(),
            }),
            unpacking: Mutex::new(()),
            next_partial: AtomicU64::new(0),
        })
    }

    /// The directory that everything lies under.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Loads all images of an archive (OCI layout or `docker save`, plain or compressed) and
    /// answers with their names.
    pub fn load(&self, archive: impl Read) -> Result<Vec<String>, Error> {
        let scratch = self.partial()?;
        let loaded = archive::load(self, archive, &scratch);
        unpack::remove_tree(&scratch)?;
        loaded
    }

    /// [`Store::load`] from a file.
    pub fn load_file(&self, path: &Path) -> Result<Vec<String>, Error> {
        self.load(std::fs::File::open(path).at("open", path)?)
    }

    /// An image by ID, by the beginning of an ID, or by name in any spelling.
    pub fn status(&self, name: &str) -> Option<Image> {
        let state = self.state();
        find(&state.images, name).cloned()
    }

    /// All images, in the order of their IDs.
    pub fn list(&self) -> Vec<Image> {
        self.state().images.values().cloned().collect()
    }

    /// Removes an image with all its names. Layers that a container still uses go when it lets go
    /// of them.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let _unpacking = lock(&self.unpacking);
        let removed = {
            let mut state = self.state();
            let Some(image) = find(&state.images, name) else {
                return Ok(());
            };
            let id = image.id.clone();
            state.images.remove(&id)
        };
        if let Some(image) = removed {
            let file = image.file(&self.root.join("images"));
            std::fs::remove_file(&file).at("remove", &file)?;
        }
        self.drop_unused_layers()
    }

    /// The unpacked layers of an image, the uppermost first, as an overlay takes them.
    pub fn layers(&self, id: &str) -> Result<Vec<PathBuf>, Error> {
        let image = self
            .status(id)
            .ok_or_else(|| Error::NotFound(id.to_owned()))?;
        Ok(self.layer_dirs(&image.config.chain_ids()))
    }

    /// Keeps the layers of an image as long as `holder` (a container) uses them.
    pub fn hold(&self, holder: &str, id: &str) -> Result<(), Error> {
        let mut state = self.state();
        let image = find(&state.images, id).ok_or_else(|| Error::NotFound(id.to_owned()))?;
        let chain = image.config.chain_ids();
        state.held.insert(holder.to_owned(), chain);
        Ok(())
    }

    /// Like [`Store::hold`], for a container found again after a restart whose image may be gone:
    /// by its layer directories.
    pub fn hold_layers(&self, holder: &str, layers: &[PathBuf]) {
        let names = layers
            .iter()
            .filter_map(|layer| Some(format!("sha256:{}", layer.parent()?.file_name()?.to_str()?)));
        let names = names.collect();
        self.state().held.insert(holder.to_owned(), names);
    }

    /// Ends what [`Store::hold`] began, and drops layers that nobody needs any more.
    pub fn release(&self, holder: &str) -> Result<(), Error> {
        let known = {
            let mut state = self.state();
            let chain = state.held.remove(holder).unwrap_or_default();
            chain.iter().all(|layer| state.uses(layer))
        };
        if known {
            return Ok(());
        }
        let _unpacking = lock(&self.unpacking);
        self.drop_unused_layers()
    }

    /// Removes layers that neither an image nor a container uses. To be called once all containers
    /// of before hold theirs again.
    pub fn collect(&self) -> Result<(), Error> {
        let _unpacking = lock(&self.unpacking);
        self.drop_unused_layers()
    }

    /// Bytes and files that the images take, by what the kernel says of the directory's file
    /// system.
    pub fn usage(&self) -> (u64, u64) {
        let state = self.state();
        let mut seen = BTreeSet::new();
        let bytes = state.images.values().map(|image| image.size_bytes).sum();
        for image in state.images.values() {
            seen.extend(image.config.chain_ids());
        }
        (bytes, seen.len() as u64)
    }

    /// Keeps layers that a pull counts on, whether they are there already or not, until
    /// [`Store::drop_hold`].
    pub(crate) fn hold_chain(&self, holder: &str, chain: &[String]) {
        self.state().held.insert(holder.to_owned(), chain.to_vec());
    }

    /// Ends what [`Store::hold_chain`] began. Removes nothing.
    pub(crate) fn drop_hold(&self, holder: &str) {
        self.state().held.remove(holder);
    }

    /// A fresh directory for something half-made.
    pub(crate) fn partial(&self) -> Result<PathBuf, Error> {
        let number = self.next_partial.fetch_add(1, Ordering::Relaxed);
        let dir = self.root.join("partial").join(number.to_string());
        std::fs::create_dir(&dir).at("make", &dir)?;
        Ok(dir)
    }

    /// The layers that are not there yet, as positions in the chain.
    pub(crate) fn missing(&self, chain: &[String]) -> Vec<usize> {
        let absent = |at: &usize| !layer_dir(&self.root, &chain[*at]).is_dir();
        (0..chain.len()).filter(absent).collect()
    }

    /// Unpacks the missing layers of an image and makes it known. `source` is asked for each
    /// missing layer, lowest first.
    pub(crate) fn add(
        &self,
        image: Image,
        source: &mut dyn FnMut(usize) -> Result<LayerSource, Error>,
    ) -> Result<(), Error> {
        let unpacking = lock(&self.unpacking);
        let chain = image.config.chain_ids();
        for at in self.missing(&chain) {
            let scratch = self.partial()?;
            let below = self.layer_dirs(&chain[..at]);
            let layer = source(at)?;
            let unpacked = unpack::layer(
                &layer.path,
                &image.config.rootfs.diff_ids[at],
                &below,
                &scratch,
            );
            if let Err(error) = unpacked {
                unpack::remove_tree(&scratch)?;
                return Err(error);
            }
            let dir = layer_dir(&self.root, &chain[at]);
            std::fs::rename(&scratch, &dir).at("rename", &dir)?;
        }
        let image = self.sized(image, &chain)?;
        self.insert(image)?;
        drop(unpacking);
        Ok(())
    }

    fn sized(&self, image: Image, chain: &[String]) -> Result<Image, Error> {
        let mut size_bytes = 0;
        for layer in chain {
            let path = layer_dir(&self.root, layer).join("size");
            let text = std::fs::read_to_string(&path).at("read", &path)?;
            size_bytes += text.trim().parse::<u64>().unwrap_or(0);
        }
        Ok(Image {
            size_bytes,
            ..image
        })
    }

    /// Makes an image known under its names, which move away from other images.
    fn insert(&self, image: Image) -> Result<(), Error> {
        let images = self.root.join("images");
        let mut state = self.state();
        let mut image = image;
        if let Some(old) = state.images.get(&image.id) {
            image.repo_tags.extend(old.repo_tags.iter().cloned());
            image.repo_digests.extend(old.repo_digests.iter().cloned());
            image.loaded_tags.extend(old.loaded_tags.iter().cloned());
        }
        for other in state
            .images
            .values_mut()
            .filter(|other| other.id != image.id)
        {
            let before = other.repo_tags.len();
            other.repo_tags.retain(|tag| !image.repo_tags.contains(tag));
            if other.repo_tags.len() != before {
                let moved = |tag: &String| !image.repo_tags.contains(tag);
                other.loaded_tags.retain(moved);
                other.save(&images)?;
            }
        }
        image.save(&images)?;
        state.images.insert(image.id.clone(), image);
        Ok(())
    }

    fn drop_unused_layers(&self) -> Result<(), Error> {
        let layers = self.root.join("layers");
        for entry in std::fs::read_dir(&layers).at("read", &layers)? {
            let entry = entry.at("read", &layers)?;
            let id = format!("sha256:{}", entry.file_name().to_string_lossy());
            if self.state().uses(&id) {
                continue;
            }
            // Renamed first: a half-removed layer must never look like a whole one.
            let doomed = self.partial()?.join("layer");
            std::fs::rename(entry.path(), &doomed).at("rename", &entry.path())?;
            if let Some(dir) = doomed.parent() {
                unpack::remove_tree(dir)?;
            }
        }
        Ok(())
    }

    fn layer_dirs(&self, chain: &[String]) -> Vec<PathBuf> {
        chain
            .iter()
            .rev()
            .map(|layer| layer_dir(&self.root, layer).join("fs"))
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn uses(&self, layer: &str) -> bool {
        let has = |chain: &[String]| chain.iter().any(|other| other == layer);
        self.held.values().any(|chain| has(chain))
            || self
                .images
                .values()
                .any(|image| has(&image.config.chain_ids()))
    }
}

/// A panic while the lock was held leaves the map whole: every change is one insert or remove.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn layer_dir(root: &Path, chain_id: &str) -> PathBuf {
    root.join("layers")
        .join(chain_id.trim_start_matches("sha256:"))
}

fn find<'a>(images: &'a BTreeMap<String, Image>, name: &str) -> Option<&'a Image> {
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    if let Some(image) = images.get(&format!("sha256:{hex}")) {
        return Some(image);
    }
    let named = Reference::parse(name).ok().and_then(|reference| {
        let by_digest = reference
            .digest
            .as_ref()
            .map(|digest| format!("{}@{digest}", reference.name()));
        let full = by_digest.unwrap_or_else(|| reference.to_string());
        images.values().find(|image| image.is_named(&full))
    });
    named.or_else(|| {
        let prefix = format!("sha256:{hex}");
        let is_hex = hex.len() >= 8 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut matching = images
            .values()
            .filter(|image| is_hex && image.id.starts_with(&prefix));
        matching.next().filter(|_| matching.next().is_none())
    })
}
