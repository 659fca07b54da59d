//! One version of one object: the store's bytes, shared, and what selection needs to know of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use api::AnyKind;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use machinery::{Object, fields, labels};
use store::{KeyValue, Revision};

/// The pairs of an object's labels.
type Labels = Box<[(Box<str>, Box<str>)]>;

/// What selectors look at; shared by the versions of an object that only differ in their revision.
#[derive(Debug)]
struct Selectable {
    labels: Labels,
    fields: Box<[(Cow<'static, str>, Box<str>)]>,
}

/// One version of one object.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The storage key without the resource's prefix: `namespace/name` or `name`.
    pub(crate) key: Arc<str>,
    /// The resourceVersion.
    pub(crate) revision: Revision,
    /// The object as the store has it, without a resourceVersion.
    raw: Bytes,
    /// Just behind `"metadata":{` in `raw`.
    splice_at: usize,
    selectable: Arc<Selectable>,
    /// In another version than the cache's kind.
    foreign: bool,
    tree: OnceLock<Option<Arc<Object>>>,
    /// The object in protobuf, see [`super::Cache::protobuf`].
    pub(super) protobuf: ArcSwapOption<Bytes>,
}

/// A stored value that is no object; never a reason to stop serving the others.
#[derive(Debug, thiserror::Error)]
#[error("the stored value of {key:?} is not an object of the API")]
pub(crate) struct Malformed {
    key: String,
}

const METADATA: &[u8] = b"\"metadata\":{";

/// The labels of an object of a kind of which nothing else can be selected: no tree is made of it. `None` where that is not
/// enough, or not as simple.
fn labels_alone(kind: &dyn AnyKind, raw: &[u8]) -> Option<Labels> {
    #[derive(serde::Deserialize)]
    struct Labelled {
        metadata: Metadata,
    }
    #[derive(serde::Deserialize)]
    struct Metadata {
        #[serde(default)]
        labels: BTreeMap<Box<str>, Box<str>>,
    }
    if kind.may_be_outdated() || !kind.selectable().is_empty() {
        return None;
    }
    let labelled: Labelled = serde_json::from_slice(raw).ok()?;
    Some(labelled.metadata.labels.into_iter().collect())
}

/// Where a resourceVersion is spliced into stored bytes.
fn splice_point(raw: &[u8]) -> Option<usize> {
    // `kind` and `apiVersion` alone stand before the metadata, and a quote inside them would be escaped.
    raw.windows(METADATA.len())
        .position(|w| w == METADATA)
        .map(|at| at + METADATA.len())
}

/// Stored bytes with their revision spliced in as the resourceVersion; `None` when they are malformed.
pub(crate) fn spliced(raw: &[u8], revision: Revision) -> Option<Vec<u8>> {
    let at = splice_point(raw)?;
    let mut out = Vec::with_capacity(raw.len() + 48);
    write_spliced(&mut out, raw, 0, at, revision);
    Some(out)
}

fn write_spliced(out: &mut Vec<u8>, raw: &[u8], from: usize, at: usize, revision: Revision) {
    out.extend_from_slice(&raw[from..at]);
    out.extend_from_slice(b"\"resourceVersion\":\"");
    out.extend_from_slice(revision.to_string().as_bytes());
    out.push(b'"');
    if raw.get(at) != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(&raw[at..]);
}

/// The tree of a stored value, resourceVersion included.
pub(crate) fn decode_stored(raw: &[u8], revision: Revision) -> Option<Object> {
    let mut object = Object(serde_json::from_slice(raw).ok()?);
    object.set_meta_str("resourceVersion", &revision.to_string());
    Some(object)
}

impl Entry {
    /// Reads a stored version.
    pub(crate) fn new(kind: &dyn AnyKind, prefix: &[u8], kv: &KeyValue) -> Result<Self, Malformed> {
        let malformed = || Malformed {
            key: String::from_utf8_lossy(&kv.key).into_owned(),
        };
        let key = kv
            .key
            .strip_prefix(prefix)
            .and_then(|k| std::str::from_utf8(k).ok());
        let key = key.ok_or_else(malformed)?;
        if let Some(labels) = labels_alone(kind, &kv.value) {
            let selectable = Selectable {
                labels,
                fields: Box::default(),
            };
            let splice_at = splice_point(&kv.value).ok_or_else(malformed)?;
            return Ok(Self::with(key, kv, kv.value.clone(), splice_at, selectable));
        }
        let mut object = serde_json::from_slice(&kv.value)
            .map(Object)
            .map_err(|_| malformed())?;
        let mut raw = kv.value.clone();
        if kind.may_be_outdated() {
            let stored = object.clone();
            kind.from_stored(&mut object);
            if object != stored {
                raw = object.encode();
            }
        }
        let splice_at = splice_point(&raw).ok_or_else(malformed)?;
        let foreign =
            kind.converts_elsewhere() && object.api_version() != kind.names().api_version();
        let boxed = |(k, v): (&str, &str)| (k.into(), v.into());
        let fields = match kind.converts_elsewhere() {
            // Each version has its own; see `Selection::shown`.
            true => Vec::new(),
            false => kind.selectable_fields(&object),
        };
        let selectable = Selectable {
            labels: object.labels().map(boxed).collect(),
            fields: fields.into_iter().map(|(k, v)| (k, v.into())).collect(),
        };
        Ok(Self {
            foreign,
            ..Self::with(key, kv, raw, splice_at, selectable)
        })
    }

    fn with(key: &str, kv: &KeyValue, raw: Bytes, splice_at: usize, seen: Selectable) -> Self {
        Self {
            key: key.into(),
            revision: kv.mod_revision,
            raw,
            splice_at,
            selectable: Arc::new(seen),
            foreign: false,
            tree: OnceLock::new(),
            protobuf: ArcSwapOption::empty(),
        }
    }

    /// The same state under another revision: what a watcher sees of an object that is gone.
    pub(crate) fn at(&self, revision: Revision) -> Self {
        Self {
            key: self.key.clone(),
            revision,
            raw: self.raw.clone(),
            splice_at: self.splice_at,
            selectable: self.selectable.clone(),
            foreign: self.foreign,
            tree: OnceLock::new(),
            protobuf: ArcSwapOption::empty(),
        }
    }

    /// `metadata.namespace`, empty in cluster scope.
    pub(crate) fn namespace(&self) -> &str {
        self.key
            .split_once('/')
            .map_or("", |(namespace, _)| namespace)
    }

    /// `metadata.name`.
    pub(crate) fn name(&self) -> &str {
        self.key.split_once('/').map_or(&self.key, |(_, name)| name)
    }

    /// Whether the object is in another version than the cache's kind.
    pub(crate) fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// The length of the encoded object, nearly.
    pub(crate) fn len(&self) -> usize {
        self.raw.len() + 40
    }

    /// Writes the object with its resourceVersion.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        write_spliced(out, &self.raw, 0, self.splice_at, self.revision);
    }

    /// Writes the object as an item of a typed list: without `kind` and `apiVersion`.
    pub(crate) fn write_item(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        let from = self.splice_at - METADATA.len();
        write_spliced(out, &self.raw, from, self.splice_at, self.revision);
    }

    /// The object as a tree, kept for the next one who asks.
    pub(crate) fn tree(&self) -> Option<Arc<Object>> {
        self.tree
            .get_or_init(|| self.decode().map(Arc::new))
            .clone()
    }

    /// The object as a tree of the caller's own.
    pub(crate) fn decode(&self) -> Option<Object> {
        decode_stored(&self.raw, self.revision)
    }

    /// Whether selectors choose this version.
    pub(crate) fn matches(&self, selection: &Selection) -> bool {
        let label = |key: &str| {
            let found = self
                .selectable
                .labels
                .iter()
                .find(|(k, _)| k.as_ref() == key);
            found.map(|(_, v)| v.as_ref())
        };
        self.key.starts_with(selection.key_prefix.as_str())
            && (selection.labels.is_everything() || selection.labels.matches(label))
            && (selection.fields.is_everything() || selection.fields.matches(|f| self.field(f)))
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        match name {
            "metadata.name" => Some(self.name()),
            "metadata.namespace" => Some(self.namespace()),
            _ => {
                let found = self.selectable.fields.iter().find(|(k, _)| *k == name);
                found.map(|(_, v)| v.as_ref())
            }
        }
    }
}

/// Which objects of a resource a reader wants.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    /// `namespace/`, or empty for all.
    pub(crate) key_prefix: String,
    pub(crate) labels: labels::Selector,
    pub(crate) fields: fields::Selector,
    /// Fields that have their values in the version that is shown only.
    pub(crate) shown: fields::Selector,
}

impl Selection {
    /// Everything in a namespace, or everywhere when it is empty.
    pub(crate) fn namespace(namespace: &str) -> Self {
        let key_prefix = if namespace.is_empty() {
            String::new()
        } else {
            format!("{namespace}/")
        };
        let (labels, fields) = (
            labels::Selector::everything(),
            fields::Selector::everything(),
        );
        Self {
            key_prefix,
            labels,
            shown: fields::Selector::everything(),
            fields,
        }
    }

    /// Whether the selectors choose an object of cluster scope that is not stored.
    pub(crate) fn chooses(&self, object: &Object) -> bool {
        let label = |key: &str| object.labels().find(|(k, _)| *k == key).map(|(_, v)| v);
        let field = |key: &str| (key == "metadata.name").then(|| object.name());
        self.labels.matches(label) && self.fields.matches(field)
    }

    /// Whether an object is selected as the version shows it in which it was asked for.
    pub(crate) fn chooses_shown(&self, kind: &dyn AnyKind, shown: &Object) -> bool {
        if self.shown.is_everything() {
            return true;
        }
        let fields = kind.selectable_fields(shown);
        self.shown.matches(|field| {
            let found = fields.iter().find(|(name, _)| *name == field);
            found.map(|(_, value)| value.as_str())
        })
    }

    /// Whether no selector leaves anything out (the namespace aside).
    pub(crate) fn takes_all(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything() && self.shown.is_everything()
    }
}
