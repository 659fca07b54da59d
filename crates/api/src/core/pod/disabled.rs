//! Fields of a pod that stand behind gates which are closed in this version: they are dropped, as upstream drops them, so
//! that nobody takes a field for granted that nothing carries out.
//!
//! Upstream: `dropDisabledFields` in `pkg/api/pod/util.go`, gates of v1.37 that default to off.

use serde_json::{Map, Value};

/// Fields of the specification itself: `GenericWorkload`, `EvictionRequestAPI`.
const OF_SPEC: &[&str] = &["schedulingGroup", "evictionResponders"];
/// Fields of volume sources: `AtomicWriteVolumeUserFields`.
const USERS: &[&str] = &["user", "defaultUser"];

/// Drops them from the specification of a pod or a template.
pub(crate) fn drop_disabled(spec: Option<&mut Value>) {
    let Some(Value::Object(spec)) = spec else {
        return;
    };
    for key in OF_SPEC {
        spec.remove(*key);
    }
    for key in ["containers", "initContainers", "ephemeralContainers"] {
        each(spec.get_mut(key), container);
    }
    each(spec.get_mut("volumes"), volume);
}

fn each(list: Option<&mut Value>, act: fn(&mut Map<String, Value>)) {
    let list = list.and_then(Value::as_array_mut).into_iter().flatten();
    list.filter_map(Value::as_object_mut).for_each(act);
}

/// `ContainerStopSignals`, `H2CContainerProbe`, `GRPCContainerProbeTLS`, `VolumeBindMountOptions`.
fn container(container: &mut Map<String, Value>) {
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(Value::Object(probe)) = container.get_mut(key) {
            handler(probe);
        }
    }
    if let Some(Value::Object(lifecycle)) = container.get_mut("lifecycle") {
        lifecycle.remove("stopSignal");
        for key in ["postStart", "preStop"] {
            if let Some(Value::Object(hook)) = lifecycle.get_mut(key) {
                handler(hook);
            }
        }
    }
    each(container.get_mut("volumeMounts"), |mount| {
        drop(mount.remove("bindMountOptions"))
    });
}

fn handler(handler: &mut Map<String, Value>) {
    for (key, field) in [("httpGet", "protocol"), ("grpc", "mode")] {
        if let Some(Value::Object(action)) = handler.get_mut(key) {
            action.remove(field);
        }
    }
}

fn volume(volume: &mut Map<String, Value>) {
    if let Some(Value::Object(source)) = volume.get_mut("emptyDir") {
        source.remove("mode");
    }
    for key in ["secret", "configMap", "downwardAPI"] {
        if let Some(Value::Object(source)) = volume.get_mut(key) {
            users(source);
        }
    }
    if let Some(Value::Object(projected)) = volume.get_mut("projected") {
        users(projected);
        each(projected.get_mut("sources"), |source| {
            source
                .values_mut()
                .filter_map(Value::as_object_mut)
                .for_each(users);
        });
    }
}

fn users(source: &mut Map<String, Value>) {
    for key in USERS {
        source.remove(*key);
    }
    each(source.get_mut("items"), |item| drop(item.remove("user")));
}
