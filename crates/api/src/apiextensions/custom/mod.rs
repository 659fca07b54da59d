//! The kind that comes out of a CustomResourceDefinition: it takes the same road as the kinds of the program.
//!
//! A [`Definition`] is what all versions share; a [`Custom`] is one served version. Schemas are compiled when they are first
//! needed. Behaviour: `k8s.io/apiextensions-apiserver/pkg/registry/customresource`.

mod columns;
mod embedded;
mod kind;
mod validation;
mod version;

use std::sync::{Arc, OnceLock};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionNames, WebhookConversion,
};
use machinery::Object;

use super::customresourcedefinition::naming::is_true;
use crate::kind::KindRef;
use crate::view::{Items, OrEmpty};

pub use version::Version;

/// What a definition says of all its versions.
#[derive(Debug)]
pub struct Definition {
    /// The API group.
    pub group: Box<str>,
    /// The names that were accepted.
    pub names: CustomResourceDefinitionNames,
    short: Box<[Box<str>]>,
    categories: Box<[Box<str>]>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether the definition is being deleted.
    pub terminating: bool,
    /// The webhook that brings objects from one version to another, where they do not just change their name.
    pub conversion: Option<WebhookConversion>,
    /// All versions, served or not.
    pub versions: Vec<Version>,
    storage: usize,
}

/// One served version of a definition.
#[derive(Clone, Debug)]
pub struct Custom {
    definition: Arc<Definition>,
    index: usize,
}

impl Definition {
    /// Reads a definition; none unless it is established.
    pub fn read(object: &Object) -> Option<Arc<Self>> {
        if !is_true(object, "Established") {
            return None;
        }
        let typed: CustomResourceDefinition = object.view().ok()?;
        let names = typed.status?.accepted_names?;
        let boxed = |words: &[String]| words.iter().map(|w| w.as_str().into()).collect();
        let spec = typed.spec;
        let storage = spec.versions.iter().position(|v| v.storage)?;
        let conversion = spec.conversion.filter(|c| c.strategy == "Webhook");
        Some(Arc::new(Self {
            group: spec.group.into(),
            short: boxed(names.short_names.items()),
            categories: boxed(names.categories.items()),
            names,
            namespaced: spec.scope == "Namespaced",
            terminating: is_true(object, "Terminating"),
            conversion: conversion.and_then(|c| c.webhook),
            versions: spec.versions.iter().map(Version::read).collect(),
            storage,
        }))
    }

    /// The kind of the version in which objects are stored.
    pub fn stored(self: &Arc<Self>) -> KindRef {
        self.kind(self.storage)
    }

    /// The kinds of the served versions, best first.
    pub fn served(self: &Arc<Self>) -> Vec<KindRef> {
        let mut served: Vec<usize> = (0..self.versions.len())
            .filter(|i| self.versions[*i].served)
            .collect();
        served.sort_by(|a, b| {
            crate::kind::compare_versions(&self.versions[*a].name, &self.versions[*b].name)
        });
        served.into_iter().map(|index| self.kind(index)).collect()
    }

    fn kind(self: &Arc<Self>, index: usize) -> KindRef {
        KindRef::Custom(Arc::new(Custom {
            definition: self.clone(),
            index,
        }))
    }

    /// Whether a version is one of those defined.
    pub fn has_version(&self, api_version: &str) -> bool {
        let version = api_version.split_once('/');
        version.is_some_and(|(group, name)| group == &*self.group && self.version(name).is_some())
    }

    /// The plural name.
    pub fn plural(&self) -> &str {
        &self.names.plural
    }

    fn list_kind(&self) -> &str {
        self.names.list_kind.text()
    }

    fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|v| &*v.name == name)
    }
}

impl Custom {
    fn version(&self) -> &Version {
        &self.definition.versions[self.index]
    }

    fn is_storage(&self) -> bool {
        self.definition.storage == self.index
    }
}

/// Something that is made when it is first needed.
type Lazy<T> = OnceLock<Box<T>>;

#[cfg(test)]
mod tests;
