//! CSIDriver: what a CSI driver needs from the cluster.
//!
//! Upstream: `pkg/registry/storage/csidriver`, `pkg/apis/storage/validation`, `printCSIDriver`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::{CSIDriver as Typed, CSIDriverSpec, TokenRequest};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};
use serde_json::Value;

use crate::check::{ErrorListExt, prune};
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope};
use crate::view::{Items, Yes, fill_with};

const PERIOD_MIN: i64 = 10;
const EXPIRATION_MIN: i64 = 600;
const EXPIRATION_MAX: i64 = 1 << 32;
const TOKENS_IN_SECRETS: &str = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";

const ATTACH_REQUIRED_TEXT: &str = concat!(
    "attachRequired indicates this CSI volume driver requires an attach operation (because it implements the CSI ",
    "ControllerPublishVolume() method), and that the Kubernetes attach detach controller should call the attach ",
    "volume interface which checks the volumeattachment status and waits until the volume is attached before ",
    "proceeding to mounting. The CSI external-attacher coordinates with CSI volume driver and updates the ",
    "volumeattachment status when the attach operation is complete. If the value is specified to false, the ",
    "attach operation will be skipped. Otherwise the attach operation will be called.\n\nThis field is immutable.",
);
const POD_INFO_ON_MOUNT_TEXT: &str = concat!(
    "podInfoOnMount indicates this CSI volume driver requires additional pod information (like podName, podUID, ",
    "etc.) during mount operations, if set to true. If set to false, pod information will not be passed on mount. ",
    "Default is false.\n\nThe CSI driver specifies podInfoOnMount as part of driver deployment. If true, Kubelet ",
    "will pass pod information as VolumeContext in the CSI NodePublishVolume() calls. The CSI driver is ",
    "responsible for parsing and validating the information passed in as VolumeContext.\n\nThe following ",
    "VolumeContext will be passed if podInfoOnMount is set to true. This list might grow, but the prefix will be ",
    "used. \"csi.storage.k8s.io/pod.name\": pod.Name \"csi.storage.k8s.io/pod.namespace\": pod.Namespace ",
    "\"csi.storage.k8s.io/pod.uid\": string(pod.UID) \"csi.storage.k8s.io/ephemeral\": \"true\" if the volume is ",
    "an ephemeral inline volume\n                                defined by a CSIVolumeSource, otherwise ",
    "\"false\"\n\n\"csi.storage.k8s.io/ephemeral\" is a new feature in Kubernetes 1.16. It is only required for ",
    "drivers which support both the \"Persistent\" and \"Ephemeral\" VolumeLifecycleMode. Other drivers can leave ",
    "pod info disabled and/or ignore this field. As Kubernetes 1.15 doesn't support this field, drivers can only ",
    "support one mode when deployed on such a cluster and the deployment determines which mode that is, for ",
    "example via a command line parameter of the driver.\n\nThis field was immutable in Kubernetes < 1.29 and now ",
    "is mutable.",
);
const STORAGE_CAPACITY_TEXT: &str = concat!(
    "storageCapacity indicates that the CSI volume driver wants pod scheduling to consider the storage capacity ",
    "that the driver deployment will report by creating CSIStorageCapacity objects with capacity information, if ",
    "set to true.\n\nThe check can be enabled immediately when deploying a driver. In that case, provisioning new ",
    "volumes with late binding will pause until the driver deployment has published some suitable ",
    "CSIStorageCapacity object.\n\nAlternatively, the driver can be deployed with the field unset or false and it ",
    "can be flipped later when storage capacity information has been published.\n\nThis field was immutable in ",
    "Kubernetes <= 1.22 and now is mutable.",
);
const TOKEN_REQUESTS_TEXT: &str = concat!(
    "tokenRequests indicates the CSI driver needs pods' service account tokens it is mounting volume for to do ",
    "necessary authentication. Kubelet will pass the tokens in VolumeContext in the CSI NodePublishVolume calls. ",
    "The CSI driver should parse and validate the following VolumeContext: ",
    "\"csi.storage.k8s.io/serviceAccount.tokens\": {\n  \"<audience>\": {\n    \"token\": <token>,\n    ",
    "\"expirationTimestamp\": <expiration timestamp in RFC3339>,\n  },\n  ...\n}\n\nNote: Audience in each ",
    "TokenRequest should be different and at most one token is empty string. To receive a new token after expiry, ",
    "RequiresRepublish can be used to trigger NodePublishVolume periodically.",
);
const REQUIRES_REPUBLISH_TEXT: &str = concat!(
    "requiresRepublish indicates the CSI driver wants `NodePublishVolume` being periodically called to reflect ",
    "any possible change in the mounted volume. This field defaults to false.\n\nNote: After a successful initial ",
    "NodePublishVolume call, subsequent calls to NodePublishVolume should only update the contents of the volume. ",
    "New mount points will not be seen by a running container.",
);
const MODES_TEXT: &str = concat!(
    "volumeLifecycleModes defines what kind of volumes this CSI volume driver supports. The default if the list ",
    "is empty is \"Persistent\", which is the usage defined by the CSI specification and implemented in ",
    "Kubernetes via the usual PV/PVC mechanism.\n\nThe other mode is \"Ephemeral\". In this mode, volumes are ",
    "defined inline inside the pod spec with CSIVolumeSource and their lifecycle is tied to the lifecycle of that ",
    "pod. A driver has to be aware of this because it is only going to get a NodePublishVolume call for such a ",
    "volume.\n\nFor more information about implementing this mode, see ",
    "https://kubernetes-csi.github.io/docs/ephemeral-local-volumes.html A driver can support one or more of these ",
    "modes and more modes may be added in the future.\n\nThis field is beta. This field is immutable.",
);

/// The kind `CSIDriver`.
pub struct CSIDriver;

impl Kind for CSIDriver {
    type Object = Typed;
    const NAMES: Names = Names::new(super::GROUP, "v1", "CSIDriver", "csidrivers", "csidriver");
    const SCOPE: Scope = Scope::Cluster;
    const UNCONDITIONAL_UPDATE: bool = false;
    const RETURNS_DELETED: bool = true;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        Column {
            kind: "boolean",
            ..columns::text("AttachRequired", ATTACH_REQUIRED_TEXT)
        },
        Column {
            kind: "boolean",
            ..columns::text("PodInfoOnMount", POD_INFO_ON_MOUNT_TEXT)
        },
        Column {
            kind: "boolean",
            ..columns::text("StorageCapacity", STORAGE_CAPACITY_TEXT)
        },
        columns::text("TokenRequests", TOKEN_REQUESTS_TEXT),
        Column {
            kind: "boolean",
            ..columns::text("RequiresRepublish", REQUIRES_REPUBLISH_TEXT)
        },
        columns::text("Modes", MODES_TEXT),
        columns::AGE,
    ];

    fn default(object: &mut Typed) {
        let spec = &mut object.spec;
        fill_with(&mut spec.attach_required, true);
        fill_with(&mut spec.pod_info_on_mount, false);
        fill_with(&mut spec.storage_capacity, false);
        fill_with(
            &mut spec.fs_group_policy,
            "ReadWriteOnceWithFSType".to_owned(),
        );
        if spec.volume_lifecycle_modes.items().is_empty() {
            spec.volume_lifecycle_modes = Some(vec!["Persistent".to_owned()]);
        }
        fill_with(&mut spec.requires_republish, false);
        fill_with(&mut spec.se_linux_mount, false);
        fill_with(&mut spec.prevent_pod_scheduling_if_missing, false);
    }

    fn prepare_update(_context: &Context, _part: Part, new: &mut Object, old: &Object) {
        // The generation counts from nothing, and changes of the specification alone.
        let spec = |object: &Object| prune(object.0.get("spec").cloned().unwrap_or_default());
        let count = old.generation() + i64::from(spec(new) != spec(old));
        let count = (count > 0).then(|| Value::from(count));
        kind::set_at(new, &["metadata"], "generation", count);
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        spec(&mut errors, &new.spec);
        errors
    }

    fn validate_update(context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = Self::validate_create(context, new);
        let path = Path::new("spec");
        let (is, was) = (&new.spec, &old.spec);
        let at = path.child("attachedRequired");
        errors.immutable(&at, &is.attach_required, &was.attach_required);
        let at = path.child("volumeLifecycleModes");
        errors.immutable(&at, &is.volume_lifecycle_modes, &was.volume_lifecycle_modes);
        errors
    }

    fn warnings(new: &Typed) -> Vec<String> {
        let asks = !new.spec.token_requests.items().is_empty();
        let silent = new.spec.service_account_token_in_secrets.is_none();
        (asks && silent)
            .then(|| TOKENS_IN_SECRETS.to_owned())
            .into_iter()
            .collect()
    }

    fn update_warnings(_part: Part, new: &Typed, old: &Typed) -> Vec<String> {
        match new.spec.token_requests.items() == old.spec.token_requests.items() {
            true => Vec::new(),
            false => Self::warnings(new),
        }
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let spec = &object.spec;
        let audiences = |requests: &Vec<TokenRequest>| {
            let all: Vec<&str> = requests.iter().map(|r| r.audience.as_str()).collect();
            all.join(",")
        };
        let tokens = spec.token_requests.as_ref().map(audiences);
        let modes = match spec.volume_lifecycle_modes.items() {
            [] => "<none>".to_owned(),
            modes => modes.join(","),
        };
        Row::from(vec![
            tree.name().into(),
            spec.attach_required.unwrap_or(true).into(),
            spec.pod_info_on_mount.yes().into(),
            spec.storage_capacity.yes().into(),
            tokens.unwrap_or_else(|| "<unset>".to_owned()).into(),
            spec.requires_republish.yes().into(),
            modes.into(),
            kind::age(tree, now).into(),
        ])
    }
}

fn spec(errors: &mut ErrorList, spec: &CSIDriverSpec) {
    let path = Path::new("spec");
    for (key, missing) in [
        ("attachedRequired", spec.attach_required.is_none()),
        ("podInfoOnMount", spec.pod_info_on_mount.is_none()),
        ("storageCapacity", spec.storage_capacity.is_none()),
    ] {
        if missing {
            errors.required(&path.child(key), "");
        }
    }
    if let Some(policy) = &spec.fs_group_policy {
        let known = ["File", "None", "ReadWriteOnceWithFSType"];
        errors.one_of(&path.child("fsGroupPolicy"), policy, &known);
    }
    let requests = spec.token_requests.items();
    token_requests(errors, &path.child("tokenRequests"), requests);
    for mode in spec.volume_lifecycle_modes.items() {
        let at = path.child("volumeLifecycleModes");
        errors.one_of(&at, mode, &["Persistent", "Ephemeral"]);
    }
    if spec.se_linux_mount.is_none() {
        errors.required(&path.child("seLinuxMount"), "");
    }
    let at = path.child("nodeAllocatableUpdatePeriodSeconds");
    if let Some(period) = spec.node_allocatable_update_period_seconds
        && period < PERIOD_MIN
    {
        errors.invalid(&at, period, "must be greater than or equal to 10 seconds");
    }
    if let Some(in_secrets) = spec.service_account_token_in_secrets
        && requests.is_empty()
    {
        let at = path.child("serviceAccountTokenInSecrets");
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.invalid(&at, in_secrets, detail);
    }
    if spec.prevent_pod_scheduling_if_missing.is_none() {
        errors.required(&path.child("preventPodSchedulingIfMissing"), "");
    }
}

fn token_requests(errors: &mut ErrorList, path: &Path, requests: &[TokenRequest]) {
    let mut seen = BTreeSet::new();
    for (i, request) in requests.iter().enumerate() {
        let path = path.index(i);
        if !seen.insert(&request.audience) {
            errors.duplicate(&path.child("audience"), request.audience.as_str());
            continue;
        }
        let Some(seconds) = request.expiration_seconds else {
            continue;
        };
        let at = path.child("expirationSeconds");
        if seconds < EXPIRATION_MIN {
            errors.invalid(
                &at,
                seconds,
                "may not specify a duration less than 10 minutes",
            );
        }
        if seconds > EXPIRATION_MAX {
            errors.invalid(
                &at,
                seconds,
                "may not specify a duration larger than 2^32 seconds",
            );
        }
    }
}
