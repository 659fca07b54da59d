//! VolumeAttachment: the wish that a CSI driver attach a volume to a node, and what became of it.
//!
//! Upstream: `pkg/registry/storage/volumeattachment`, `pkg/apis/storage/validation`.

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::{
    VolumeAttachment as Typed, VolumeAttachmentSource, VolumeError,
};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names};

use crate::check::ErrorListExt;
use crate::columns;
use crate::core::{persistentvolume, volumes};
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::OrEmpty;

const METADATA_MAX: usize = 256 * 1024;
const MESSAGE_MAX: usize = 1024;
const ONE_SOURCE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";

/// The kind `VolumeAttachment`.
pub struct VolumeAttachment;

impl Kind for VolumeAttachment {
    type Object = Typed;
    const NAMES: Names = Names::new(
        super::GROUP,
        "v1",
        "VolumeAttachment",
        "volumeattachments",
        "volumeattachment",
    );
    const SCOPE: Scope = Scope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const STATUS_RESETS: &'static [&'static [&'static str]] = crate::kind::METADATA_AND_SPEC;
    const UNCONDITIONAL_UPDATE: bool = false;
    const RETURNS_DELETED: bool = true;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        Column {
            format: "name",
            ..columns::text(
                "Attacher",
                "attacher indicates the name of the volume driver that MUST handle this request. This is the name \
                 returned by GetPluginName().",
            )
        },
        columns::text(
            "PV",
            "persistentVolumeName represents the name of the persistent volume to attach.",
        ),
        columns::text(
            "Node",
            "nodeName represents the node that the volume should be attached to.",
        ),
        Column {
            kind: "boolean",
            ..columns::text(
                "Attached",
                "attached indicates the volume is successfully attached. This field must only be set by the entity \
                 completing the attach operation, i.e. the external-attacher.",
            )
        },
        columns::AGE,
    ];

    fn prepare_create(_context: &Context, new: &mut Object) {
        new.0
            .insert("status".into(), serde_json::json!({"attached": false}));
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        validate(new, names::dns1123_subdomain_caseless)
    }

    fn validate_update(_context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let lower = |name: &str| names::dns1123_subdomain(&name.to_lowercase());
        let mut errors = validate(new, lower);
        errors.fixed(&Path::new("spec"), &new.spec, &old.spec);
        errors
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        Row::from(vec![
            tree.name().into(),
            object.spec.attacher.as_str().into(),
            object.spec.source.persistent_volume_name.text().into(),
            object.spec.node_name.as_str().into(),
            object.status.as_ref().is_some_and(|s| s.attached).into(),
            kind::age(tree, now).into(),
        ])
    }
}

/// `caseless`: what is wrong with a name in which case says nothing; creates and updates have words of their own.
fn validate(new: &Typed, caseless: impl Fn(&str) -> Vec<String>) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("spec");
    let (at, attacher) = (path.child("attacher"), new.spec.attacher.as_str());
    if !attacher.is_empty() {
        if attacher.len() > volumes::DRIVER_MAX {
            errors.too_long(&at, volumes::DRIVER_MAX);
        }
        errors.invalid_each(&at, attacher, caseless(attacher));
    }
    source(&mut errors, &path.child("source"), &new.spec.source);
    let node = new.spec.node_name.as_str();
    errors.invalid_each(
        &path.child("nodeName"),
        node,
        names::dns1123_subdomain(node),
    );
    if let Some(status) = &new.status {
        let path = Path::new("status");
        let data = status.attachment_metadata.iter().flatten();
        let size: usize = data.map(|(key, value)| key.len() + value.len()).sum();
        if size > METADATA_MAX {
            errors.too_long(&path.child("attachmentMetadata"), METADATA_MAX);
        }
        let (attach, detach) = (&status.attach_error, &status.detach_error);
        failure(&mut errors, &path.child("attachError"), attach.as_ref());
        failure(&mut errors, &path.child("detachError"), detach.as_ref());
    }
    if let Some(name) = &new.spec.source.persistent_volume_name {
        let path = Path::new("spec.source.persistentVolumeName");
        errors.invalid_each(&path, name, names::dns1123_subdomain(name));
    }
    errors.required_text(&at, attacher, "");
    errors
}

fn source(errors: &mut ErrorList, path: &Path, source: &VolumeAttachmentSource) {
    match (&source.inline_volume_spec, &source.persistent_volume_name) {
        (None, None) => errors.required(path, ONE_SOURCE),
        (Some(_), Some(_)) => errors.forbidden(path, ONE_SOURCE),
        (None, Some(name)) => {
            let at = path.child("persistentVolumeName");
            errors.required_text(&at, name, "must specify non empty persistentVolumeName");
        }
        (Some(spec), None) => {
            persistentvolume::validate_inline(errors, &path.child("inlineVolumeSpec"), spec);
        }
    }
}

fn failure(errors: &mut ErrorList, path: &Path, failure: Option<&VolumeError>) {
    let Some(failure) = failure else { return };
    if failure.message.text().len() > MESSAGE_MAX {
        errors.too_long(&path.child("message"), MESSAGE_MAX);
    }
    if let Some(code) = failure.error_code.filter(|code| *code < 0) {
        let detail = names::range_message(0, i32::MAX.into());
        errors.invalid(&path.child("errorCode"), code, detail);
    }
}
