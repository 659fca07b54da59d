//! Names of things: kinds, items, objects.

use std::any::TypeId;
use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, NamespaceResourceScope};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a type must be to live in a cache: an API object with standard metadata.
pub trait Kind:
    Metadata<Ty = ObjectMeta, Scope: 'static>
    + Serialize
    + DeserializeOwned
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<K> Kind for K where
    K: Metadata<Ty = ObjectMeta, Scope: 'static>
        + Serialize
        + DeserializeOwned
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A kind as the API serves it: where its objects are found and what they are called.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// Version inside the group.
    pub version: Cow<'static, str>,
    /// Plural name in the URL.
    pub plural: Cow<'static, str>,
    /// Kind, in CamelCase.
    pub kind: Cow<'static, str>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl Resource {
    /// The resource of a typed kind.
    pub fn of<K: Kind>() -> Self {
        Self {
            group: Cow::Borrowed(K::GROUP),
            version: Cow::Borrowed(K::VERSION),
            plural: Cow::Borrowed(K::URL_PATH_SEGMENT),
            kind: Cow::Borrowed(K::KIND),
            namespaced: TypeId::of::<K::Scope>() == TypeId::of::<NamespaceResourceScope>(),
        }
    }

    /// `group/version`, or the version alone in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether both name the same group and plural, whatever the version.
    pub fn same_resource(&self, other: &Self) -> bool {
        self.group == other.group && self.plural == other.plural
    }

    /// The URL path of the collection, in one namespace or over the whole cluster.
    pub fn collection_path(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if self.namespaced && !namespace.is_empty() {
            format!("{root}/namespaces/{namespace}/{}", self.plural)
        } else {
            format!("{root}/{}", self.plural)
        }
    }
}

impl fmt::Display for Resource {
    /// `plural.group`, as upstream prints a group resource.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.plural)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        Ok(())
    }
}

/// Namespace and name of one item; the namespace is empty for cluster-scoped ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Namespace, empty when the kind has none.
    pub namespace: String,
    /// Name inside the namespace.
    pub name: String,
}

impl Key {
    /// An item in a namespace.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// A cluster-scoped item.
    pub fn cluster(name: impl Into<String>) -> Self {
        Self::new("", name)
    }

    /// The key of an object's metadata.
    pub fn of_meta(meta: &ObjectMeta) -> Self {
        Self::new(
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        )
    }

    /// The key of a typed object.
    pub fn of<K: Kind>(object: &K) -> Self {
        Self::of_meta(object.metadata())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// One object of one kind, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Its kind.
    pub resource: Resource,
    /// Its namespace and name.
    pub key: Key,
}

impl Target {
    /// The target that is this typed object.
    pub fn of<K: Kind>(object: &K) -> Self {
        Self {
            resource: Resource::of::<K>(),
            key: Key::of(object),
        }
    }

    /// The URL path of the object. Names may come from what users wrote, so they are escaped.
    pub fn path(&self) -> String {
        let mut path = self.resource.collection_path(&self.key.namespace);
        path.push('/');
        for byte in self.key.name.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => {
                    path.push(char::from(byte));
                }
                _ => path.push_str(&format!("%{byte:02X}")),
            }
        }
        path
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource, self.key)
    }
}

/// Whether an object can have this name in a URL at all.
pub fn is_path_segment(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%'])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CVE-2022-3162, NCC RKV: no name leads out of its place in the URL.
    #[test]
    fn names_cannot_leave_their_place() {
        let target = |name: &str| Target {
            resource: Resource {
                group: "apps".into(),
                version: "v1".into(),
                plural: "deployments".into(),
                kind: "Deployment".into(),
                namespaced: true,
            },
            key: Key::new("d", name),
        };
        let root = "/apis/apps/v1/namespaces/d/deployments";
        assert_eq!(target("web-1.x:y").path(), format!("{root}/web-1.x:y"));
        assert_eq!(target("a/../b?c").path(), format!("{root}/a%2F..%2Fb%3Fc"));
        assert!(
            ["..", ".", "", "a/b", "a%2fb"]
                .iter()
                .all(|n| !is_path_segment(n))
        );
        assert!(is_path_segment("system:node"));
    }
}
