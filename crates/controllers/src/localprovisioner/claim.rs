//! Whether a claim gets a volume, and which.

use control::plan::reference;
use control::{Action, Event, EventType, Plan, Report};
use k8s_openapi::api::core::v1::{
    LocalVolumeSource, Node, PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use volumes::{annotation, local, notes};

use super::ClaimSeen;

/// The ways in which a directory of one node can be used.
const ACCESS_MODES: &[&str] = &["ReadWriteOnce", "ReadWriteOncePod"];

/// The name of the volume of a claim.
pub(super) fn name_for(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default())
}

/// Decides about one claim.
pub(super) fn reconcile(o: &ClaimSeen) -> Plan {
    let ours = o.class.provisioner == local::PROVISIONER && super::is_for_us(&o.claim);
    if !ours || o.claim.metadata.deletion_timestamp.is_some() {
        return Plan::idle("it does not ask for a local volume");
    }
    if o.volume.is_some() {
        return Plan::idle("its volume is there, the binder goes on");
    }
    if let Some(why) = refusal(o) {
        return refuse(o, &why);
    }
    let waits = o.class.volume_binding_mode.as_deref() == Some(notes::WAIT);
    let selected = annotation(&o.claim.metadata, notes::SELECTED_NODE);
    match (selected, waits) {
        (None, true) => Plan::idle("the scheduler has not chosen a node yet"),
        (Some(name), _) => match o.nodes.iter().find(|n| is_named(n, name)) {
            Some(node) if !is_its_host(node) => {
                let label = local::HOST_NAME;
                refuse(
                    o,
                    &format!("the label {label} of node {name} is not its name"),
                )
            }
            Some(node) => create(o, node),
            None => reschedule(o, name),
        },
        (None, false) => match any_node(o) {
            Some(node) => create(o, node),
            None => refuse(o, "no node is there to hold the data"),
        },
    }
}

fn is_named(node: &Node, name: &str) -> bool {
    node.metadata.name.as_deref() == Some(name)
}

/// Volumes find their node by this label, and the node its volumes by its name.
fn is_its_host(node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    labels.and_then(|l| l.get(local::HOST_NAME)) == node.metadata.name.as_ref()
}

/// A node for a claim that does not wait for a pod: always the same one while the nodes stay.
fn any_node(o: &ClaimSeen) -> Option<&Node> {
    let open = |node: &&Node| {
        let spec = node.spec.as_ref();
        spec.is_none_or(|s| {
            s.unschedulable != Some(true) && s.taints.iter().flatten().next().is_none()
        })
    };
    let mut nodes: Vec<&Node> = o.nodes.iter().map(|n| n.as_ref()).filter(open).collect();
    nodes.retain(|node| is_its_host(node));
    nodes.sort_by_key(|n| n.metadata.name.clone());
    let uid = o.claim.metadata.uid.as_deref().unwrap_or_default();
    let spread = uid.bytes().map(usize::from).sum::<usize>();
    nodes.get(spread % nodes.len().max(1)).copied()
}

/// Why a directory cannot be what the claim asks for.
fn refusal(o: &ClaimSeen) -> Option<String> {
    let spec = o.claim.spec.as_ref()?;
    let modes = spec.access_modes.iter().flatten();
    let mut others = modes.filter(|mode| !ACCESS_MODES.contains(&mode.as_str()));
    if others.next().is_some() {
        return Some("Only support ReadWriteOnce and ReadWriteOncePod access modes".to_owned());
    }
    if spec.volume_mode.as_deref() == Some("Block") {
        return Some("Block volumes are not supported by local storage".to_owned());
    }
    if spec.selector.is_some() {
        return Some("claim.Spec.Selector is not supported".to_owned());
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return Some("local storage has no data sources".to_owned());
    }
    let mut parameters = o.class.parameters.iter().flatten();
    let (name, _) = parameters.next()?;
    Some(format!("unknown parameter \"{name}\" of the storage class"))
}

fn refuse(o: &ClaimSeen, why: &str) -> Plan {
    let class = o.class.metadata.name.as_deref().unwrap_or_default();
    let message = format!("failed to provision volume with StorageClass \"{class}\": {why}");
    Plan {
        actions: vec![tell(
            &o.claim,
            EventType::Warning,
            "ProvisioningFailed",
            &message,
        )],
        because: message,
        ..Plan::default()
    }
}

fn tell(claim: &PersistentVolumeClaim, event_type: EventType, reason: &str, text: &str) -> Action {
    Action::Event(Event {
        about: reference(claim),
        event_type,
        reason: reason.to_owned(),
        message: text.to_owned(),
    })
}

/// Gives the claim back to the scheduler: the node it chose is no more.
fn reschedule(o: &ClaimSeen, node: &str) -> Plan {
    let mut claim = (*o.claim).clone();
    let annotations = claim.metadata.annotations.get_or_insert_default();
    annotations.remove(notes::SELECTED_NODE);
    Plan {
        actions: vec![Action::update(&claim, None)],
        because: format!("node {node} is gone, another has to be chosen"),
        ..Plan::default()
    }
}

fn create(o: &ClaimSeen, node: &Node) -> Plan {
    let node = node.metadata.name.as_deref().unwrap_or_default();
    let name = name_for(&o.claim);
    let spec = o.claim.spec.clone().unwrap_or_default();
    let requests = spec.resources.and_then(|r| r.requests).unwrap_or_default();
    let size = requests.into_iter().filter(|(name, _)| name == "storage");
    let volume = PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            annotations: Some(
                [(
                    notes::PROVISIONED_BY.to_owned(),
                    local::PROVISIONER.to_owned(),
                )]
                .into(),
            ),
            labels: Some(local::labels(node)),
            finalizers: Some(vec![local::FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            capacity: Some(size.collect()),
            access_modes: spec.access_modes,
            persistent_volume_reclaim_policy: o.class.reclaim_policy.clone(),
            storage_class_name: o.class.metadata.name.clone(),
            mount_options: o.class.mount_options.clone(),
            volume_mode: spec.volume_mode,
            claim_ref: Some(reference(o.claim.as_ref())),
            node_affinity: Some(local::affinity_to(node)),
            local: Some(LocalVolumeSource {
                path: local::path(&name),
                ..LocalVolumeSource::default()
            }),
            ..PersistentVolumeSpec::default()
        }),
        ..PersistentVolume::default()
    };
    let full = control::Key::of(o.claim.as_ref());
    let report = Report {
        about: reference(o.claim.as_ref()),
        success: Some((
            "ProvisioningSucceeded",
            format!("Successfully provisioned volume {name}"),
        )),
        failure: Some(("ProvisioningFailed", "Error saving volume: ".to_owned())),
    };
    let start = format!("External provisioner is provisioning volume for claim \"{full}\"");
    Plan {
        actions: vec![
            tell(&o.claim, EventType::Normal, "Provisioning", &start),
            Action::create(&volume, Some(report)),
        ],
        because: format!("it gets a directory on node {node}"),
        ..Plan::default()
    }
}
