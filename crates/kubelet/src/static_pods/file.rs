//! One file, one pod: decoded, given its defaults, checked as the API would, and made the node's own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::kind::{Context, NoServer, Requester};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Toleration};
use machinery::Object;
use sha2::{Digest, Sha256};

use super::{HASH, Static};

const SOURCE: &str = "kubernetes.io/config.source";
const SEEN: &str = "kubernetes.io/config.seen";
/// Nobody writes a longer one by hand.
const MAX_BYTES: u64 = 10 << 20;

/// The files that name pods, in order: those of a directory that are not hidden, or the one file.
pub(super) fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !hidden && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// The pod of a file, as a pod of this node.
pub(super) fn read(file: &Path, node: &str) -> Result<Static, String> {
    let told = |error: io::Error| error.to_string();
    if std::fs::metadata(file).map_err(told)?.len() > MAX_BYTES {
        return Err("the file is too long".to_owned());
    }
    let text = std::fs::read_to_string(file).map_err(told)?;
    let (value, _) = machinery::codec::decode_yaml_value(text.as_bytes())
        .map_err(|error| format!("couldn't parse as pod({error}), please check config file"))?;
    let object = Object::from_value(value).map_err(|_| "invalid pod: it is no object")?;
    if (object.api_version(), object.kind()) != ("v1", "Pod") {
        return Err(format!(
            "invalid pod: it is a {} of {}",
            object.kind(),
            object.api_version()
        ));
    }
    if object.name().is_empty() {
        return Err("invalid pod: name is needed for the pod".to_owned());
    }
    of_node(object, file, node)
}

fn of_node(mut object: Object, file: &Path, node: &str) -> Result<Static, String> {
    let kind = api::by_kind("", "v1", "Pod").ok_or("there is no kind of pods")?;
    let invalid = |error: &dyn std::fmt::Display| format!("invalid pod: {error}");
    object.0.remove("status");
    if object.namespace().is_empty() {
        object.set_meta_str("namespace", "default");
    }
    kind.default(&mut object).map_err(|e| invalid(&e))?;
    let said = format!(
        "host:{node}file:{}{}",
        file.display(),
        object.clone().into_value()
    );
    let content = hex::encode(&Sha256::digest(said)[..16]);
    if object.uid().is_empty() {
        object.set_meta_str("uid", &content);
    }
    let name = format!("{}-{}", object.name(), node.to_lowercase());
    object.set_meta_str("name", &name);
    let context = Context {
        now: Timestamp::now(),
        user: String::new(),
        requester: Requester::default(),
        surroundings: Arc::new(NoServer),
    };
    let errors = kind.validate_create(&context, &object);
    let errors = errors.map_err(|e| invalid(&e))?;
    if !errors.is_empty() {
        return Err(invalid(&errors.aggregate()));
    }
    match access::pod_references::needs_other_objects(&object) {
        Ok(None) => {}
        Ok(Some(what)) => return Err(format!("static pods may not reference {what}")),
        Err(why) => return Err(why),
    }
    let mut pod: Pod = object.view().map_err(|e| invalid(&e))?;
    let annotations = pod.metadata.annotations.get_or_insert_default();
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    annotations.insert(HASH.to_owned(), uid);
    annotations.insert(SOURCE.to_owned(), "file".to_owned());
    annotations.insert(SEEN.to_owned(), Timestamp::now().to_string());
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    // Nothing that befalls the node drives such a pod out.
    let stays = Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    };
    let tolerations = spec.tolerations.get_or_insert_default();
    if !tolerations.contains(&stays) {
        tolerations.push(stays);
    }
    Ok(Static {
        file: file.to_owned(),
        content,
        pod: Arc::new(pod),
    })
}
