//! Annotations and finalizers by which binder, scheduler, provisioners and protectors leave each other notes.

/// On claims and volumes: the class, before there was a field for it.
pub const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// On a claim: its binding has been completed.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On both: the binder, and no user, chose the other side.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a claim: the node for whose sake the scheduler wants it provisioned.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a volume: who made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a claim: who is to make a volume for it.
pub const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The same under its name of old.
pub const PROVISIONER_BETA: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// Keeps a claim while pods use it.
pub const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// Keeps a volume while it is bound.
pub const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";
/// Keeps a class of attributes while anything refers to it.
pub const ATTRIBUTES_PROTECTION: &str = "kubernetes.io/vac-protection";
/// On a class: it is the one for claims that name none.
pub const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// The same under its name of old.
pub const DEFAULT_CLASS_BETA: &str = "storageclass.beta.kubernetes.io/is-default-class";
/// The provisioner of classes whose volumes somebody makes by hand.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// The binding mode of classes whose claims wait for a pod.
pub const WAIT: &str = "WaitForFirstConsumer";
