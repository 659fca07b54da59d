//! DeviceTaintRule: adds a taint to all devices that it selects.
//!
//! Upstream: `pkg/registry/resource/devicetaintrule`, `ValidateDeviceTaintRule`.

use jiff::Timestamp;
use k8s_openapi::api::resource::v1::{DeviceTaintRule as Typed, DeviceTaintRuleSpec};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};
use serde_json::Value;

use super::parts;
use crate::check;
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::{Items, OrEmpty};

const CONDITIONS_MAX: usize = 8;

/// The kind `DeviceTaintRule`.
pub struct DeviceTaintRule;

impl Kind for DeviceTaintRule {
    type Object = Typed;
    const NAMES: Names = Names::new(
        super::GROUP,
        "v1",
        "DeviceTaintRule",
        "devicetaintrules",
        "devicetaintrule",
    );
    const SCOPE: Scope = Scope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const STATUS_RESETS: &'static [&'static [&'static str]] = crate::kind::METADATA_AND_SPEC;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "Key",
            "The taint key to be applied to a device. Must be a label name.",
        ),
        columns::text(
            "Value",
            "The taint value corresponding to the taint key. Must be a label value.",
        ),
        columns::text(
            "Effect",
            "The effect of the taint on claims that do not tolerate the taint and through such claims on the pods using them.\n\nValid effects are None, NoSchedule and NoExecute. PreferNoSchedule as used for nodes is not valid here. More effects may get added in the future. Consumers must treat unknown effects like None.",
        ),
        columns::text(
            "TimeAdded",
            "TimeAdded represents the time at which the taint was added or (only in a DeviceTaintRule) the effect was modified. Added automatically during create or update if not set.\n\nIn addition, in a DeviceTaintRule a value provided during an update gets replaced with the current time if the provided value is the same as the old one and the new effect is different. Changing the key and/or value while keeping the effect unchanged is possible and does not update the time stamp because the eviction which uses it is either already started (NoExecute) or not started yet (NoEffect, NoSchedule).",
        ),
        columns::AGE,
    ];
    const HAS_GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn prepare_create(context: &Context, new: &mut Object) {
        new.0.insert("status".into(), serde_json::json!({}));
        if let Some(taint) = taint(new) {
            parts::default_time_added(taint, context.now);
        }
    }

    fn prepare_update(context: &Context, part: Part, new: &mut Object, old: &Object) {
        kind::keep_other_part(part, new, old);
        if part == Part::Status {
            return;
        }
        let Some(taint) = taint(new) else { return };
        let before = |key: &str| old.at(&["spec", "taint", key]).cloned().unwrap_or_default();
        // The time is that of the effect, unless the writer knows better.
        let changed = taint["effect"] != before("effect");
        if changed && taint["timeAdded"] == before("timeAdded") {
            taint["timeAdded"] = Value::Null;
        }
        parts::default_time_added(taint, context.now);
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let taint = &object.spec.taint;
        let added = columns::moment(taint.time_added.as_ref());
        Row::from(vec![
            tree.name().into(),
            taint.key.as_str().into(),
            taint.value.text().into(),
            taint.effect.as_str().into(),
            added
                .map_or(String::new(), |at| columns::since(Some(at), now))
                .into(),
            kind::age(tree, now).into(),
        ])
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        validate(&new.spec, None)
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        if part != Part::Status {
            return validate(&new.spec, Some(&old.spec));
        }
        let mut errors = ErrorList::new();
        let conditions = new
            .status
            .as_ref()
            .map_or(&[][..], |s| s.conditions.items());
        let path = Path::new("status").child("conditions");
        check::conditions(&mut errors, &path, conditions);
        if conditions.len() > CONDITIONS_MAX {
            errors.too_many(&path, conditions.len(), CONDITIONS_MAX);
        }
        errors
    }
}

fn taint(object: &mut Object) -> Option<&mut Value> {
    object.0.get_mut("spec")?.get_mut("taint")
}

fn validate(new: &DeviceTaintRuleSpec, old: Option<&DeviceTaintRuleSpec>) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("spec");
    if let Some(selector) = &new.device_selector {
        let at = path.child("deviceSelector");
        if let Some(driver) = &selector.driver {
            parts::driver_name(&mut errors, &at.child("driver"), driver);
        }
        if let Some(pool) = &selector.pool {
            parts::pool_name(&mut errors, &at.child("pool"), pool);
        }
        if let Some(device) = &selector.device {
            parts::label(&mut errors, &at.child("device"), device);
        }
    }
    let old = old.map(|old| &old.taint);
    parts::taint(&mut errors, &path.child("taint"), &new.taint, old);
    errors
}
