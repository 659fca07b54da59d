//! One walk over all containers of a pod and over all it refers to.
//!
//! Rules that look at containers (admission, the Node authorizer, image checks) go through here, so that none forgets the
//! init containers, the ephemeral ones, `envFrom` or the sources of a projected volume (CVE-2023-2727, -2728, 2024-3177).

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvFromSource, EnvVar, EphemeralContainer, PodSpec,
    ResourceRequirements, SecurityContext, Volume, VolumeMount,
};
use machinery::Path;

use crate::view::{Items, OrEmpty};

/// Which list a container stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerType {
    /// `spec.initContainers`, sidecars included.
    Init,
    /// `spec.containers`
    Regular,
    /// `spec.ephemeralContainers`
    Ephemeral,
}

/// A container of any type.
#[derive(Clone, Copy, Debug)]
pub enum AnyContainer<'a> {
    /// An init container.
    Init(&'a Container),
    /// A regular container.
    Regular(&'a Container),
    /// An ephemeral container.
    Ephemeral(&'a EphemeralContainer),
}

macro_rules! field {
    ($self:expr, $c:ident => $value:expr) => {
        match $self {
            AnyContainer::Init($c) | AnyContainer::Regular($c) => $value,
            AnyContainer::Ephemeral($c) => $value,
        }
    };
}

impl<'a> AnyContainer<'a> {
    /// Which list it stands in.
    pub fn container_type(self) -> ContainerType {
        match self {
            Self::Init(_) => ContainerType::Init,
            Self::Regular(_) => ContainerType::Regular,
            Self::Ephemeral(_) => ContainerType::Ephemeral,
        }
    }

    /// The name.
    pub fn name(self) -> &'a str {
        field!(self, c => &c.name)
    }

    /// The image, empty when absent.
    pub fn image(self) -> &'a str {
        field!(self, c => c.image.text())
    }

    /// The pull policy, empty when absent.
    pub fn image_pull_policy(self) -> &'a str {
        field!(self, c => c.image_pull_policy.text())
    }

    /// The variables.
    pub fn env(self) -> &'a [EnvVar] {
        field!(self, c => c.env.items())
    }

    /// Where whole sets of variables come from.
    pub fn env_from(self) -> &'a [EnvFromSource] {
        field!(self, c => c.env_from.items())
    }

    /// The ports.
    pub fn ports(self) -> &'a [ContainerPort] {
        field!(self, c => c.ports.items())
    }

    /// Requests and limits.
    pub fn resources(self) -> Option<&'a ResourceRequirements> {
        field!(self, c => c.resources.as_ref())
    }

    /// The mounts.
    pub fn volume_mounts(self) -> &'a [VolumeMount] {
        field!(self, c => c.volume_mounts.items())
    }

    /// The security context.
    pub fn security_context(self) -> Option<&'a SecurityContext> {
        field!(self, c => c.security_context.as_ref())
    }
}

/// All containers: init, regular, ephemeral, in this order.
pub fn containers(spec: &PodSpec) -> impl Iterator<Item = AnyContainer<'_>> {
    let init = spec.init_containers.items().iter().map(AnyContainer::Init);
    let regular = spec.containers.iter().map(AnyContainer::Regular);
    let ephemeral = spec
        .ephemeral_containers
        .items()
        .iter()
        .map(AnyContainer::Ephemeral);
    init.chain(regular).chain(ephemeral)
}

/// All containers with their field paths below `path`.
pub fn containers_with_path<'a>(
    spec: &'a PodSpec,
    path: &Path,
) -> impl Iterator<Item = (Path, AnyContainer<'a>)> + use<'a> {
    let lists = [
        path.child("initContainers"),
        path.child("containers"),
        path.child("ephemeralContainers"),
    ];
    let mut next = [0_usize; 3];
    containers(spec).map(move |container| {
        let list = container.container_type() as usize;
        next[list] += 1;
        (lists[list].index(next[list] - 1), container)
    })
}

/// An ephemeral container as the container it would be.
pub fn as_container(c: &EphemeralContainer) -> Container {
    Container {
        args: c.args.clone(),
        command: c.command.clone(),
        env: c.env.clone(),
        env_from: c.env_from.clone(),
        image: c.image.clone(),
        image_pull_policy: c.image_pull_policy.clone(),
        lifecycle: c.lifecycle.clone(),
        liveness_probe: c.liveness_probe.clone(),
        name: c.name.clone(),
        ports: c.ports.clone(),
        readiness_probe: c.readiness_probe.clone(),
        resize_policy: c.resize_policy.clone(),
        resources: c.resources.clone(),
        restart_policy: c.restart_policy.clone(),
        restart_policy_rules: c.restart_policy_rules.clone(),
        security_context: c.security_context.clone(),
        startup_probe: c.startup_probe.clone(),
        stdin: c.stdin,
        stdin_once: c.stdin_once,
        termination_message_path: c.termination_message_path.clone(),
        termination_message_policy: c.termination_message_policy.clone(),
        tty: c.tty,
        volume_devices: c.volume_devices.clone(),
        volume_mounts: c.volume_mounts.clone(),
        working_dir: c.working_dir.clone(),
    }
}

/// Something in the pod's namespace that the pod refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference<'a> {
    /// A Secret.
    Secret(&'a str),
    /// A ConfigMap.
    ConfigMap(&'a str),
    /// A ServiceAccount.
    ServiceAccount(&'a str),
    /// A PersistentVolumeClaim, by its name.
    PersistentVolumeClaim(&'a str),
    /// The claim made for the generic ephemeral volume of this name: `<pod>-<volume>`.
    EphemeralVolumeClaim(&'a str),
    /// A ResourceClaim, by its name.
    ResourceClaim(&'a str),
}

/// Everything in the namespace that the pod refers to, optional references and duplicates included.
pub fn references(spec: &PodSpec) -> Vec<Reference<'_>> {
    let mut found = Vec::new();
    let pull = spec.image_pull_secrets.items().iter();
    found.extend(pull.map(|s| Reference::Secret(&s.name)));
    for container in containers(spec) {
        env_references(container, &mut found);
    }
    for volume in spec.volumes.items() {
        volume_references(volume, &mut found);
    }
    let account = match spec.service_account_name.text() {
        "" => spec.service_account.text(),
        name => name,
    };
    found.push(Reference::ServiceAccount(account));
    let claims = spec.resource_claims.items().iter();
    let claims = claims.filter_map(|c| c.resource_claim_name.as_deref());
    found.extend(claims.map(Reference::ResourceClaim));
    found.retain(|reference| !reference.name().is_empty());
    found
}

impl<'a> Reference<'a> {
    /// The name of what is referred to.
    pub fn name(self) -> &'a str {
        match self {
            Self::Secret(name)
            | Self::ConfigMap(name)
            | Self::ServiceAccount(name)
            | Self::PersistentVolumeClaim(name)
            | Self::EphemeralVolumeClaim(name)
            | Self::ResourceClaim(name) => name,
        }
    }
}

fn env_references<'a>(container: AnyContainer<'a>, found: &mut Vec<Reference<'a>>) {
    for source in container.env_from() {
        found.extend(
            source
                .config_map_ref
                .as_ref()
                .map(|r| Reference::ConfigMap(&r.name)),
        );
        found.extend(
            source
                .secret_ref
                .as_ref()
                .map(|r| Reference::Secret(&r.name)),
        );
    }
    for from in container.env().iter().filter_map(|v| v.value_from.as_ref()) {
        found.extend(
            from.config_map_key_ref
                .as_ref()
                .map(|r| Reference::ConfigMap(&r.name)),
        );
        found.extend(
            from.secret_key_ref
                .as_ref()
                .map(|r| Reference::Secret(&r.name)),
        );
    }
}

fn volume_references<'a>(volume: &'a Volume, found: &mut Vec<Reference<'a>>) {
    let mut secret = |name: Option<&'a str>| found.extend(name.map(Reference::Secret));
    secret(
        volume
            .secret
            .as_ref()
            .and_then(|s| s.secret_name.as_deref()),
    );
    secret(volume.azure_file.as_ref().map(|v| v.secret_name.as_str()));
    let local = [
        volume.cephfs.as_ref().and_then(|v| v.secret_ref.as_ref()),
        volume.cinder.as_ref().and_then(|v| v.secret_ref.as_ref()),
        volume
            .flex_volume
            .as_ref()
            .and_then(|v| v.secret_ref.as_ref()),
        volume.rbd.as_ref().and_then(|v| v.secret_ref.as_ref()),
        volume.scale_io.as_ref().map(|v| &v.secret_ref),
        volume.iscsi.as_ref().and_then(|v| v.secret_ref.as_ref()),
        volume
            .storageos
            .as_ref()
            .and_then(|v| v.secret_ref.as_ref()),
        volume
            .csi
            .as_ref()
            .and_then(|v| v.node_publish_secret_ref.as_ref()),
    ];
    for reference in local.into_iter().flatten() {
        secret(Some(&reference.name));
    }
    for source in volume.projected.iter().flat_map(|p| p.sources.items()) {
        found.extend(source.secret.as_ref().map(|s| Reference::Secret(&s.name)));
        found.extend(
            source
                .config_map
                .as_ref()
                .map(|c| Reference::ConfigMap(&c.name)),
        );
    }
    found.extend(
        volume
            .config_map
            .as_ref()
            .map(|c| Reference::ConfigMap(&c.name)),
    );
    let claim = volume.persistent_volume_claim.as_ref();
    found.extend(claim.map(|c| Reference::PersistentVolumeClaim(&c.claim_name)));
    if volume.ephemeral.is_some() {
        found.push(Reference::EphemeralVolumeClaim(&volume.name));
    }
}

/// The names of the sources that a volume has; exactly one is right.
pub fn volume_sources(volume: &Volume) -> Vec<&'static str> {
    let all = [
        ("emptyDir", volume.empty_dir.is_some()),
        ("hostPath", volume.host_path.is_some()),
        ("gitRepo", volume.git_repo.is_some()),
        ("gcePersistentDisk", volume.gce_persistent_disk.is_some()),
        (
            "awsElasticBlockStore",
            volume.aws_elastic_block_store.is_some(),
        ),
        ("secret", volume.secret.is_some()),
        ("nfs", volume.nfs.is_some()),
        ("iscsi", volume.iscsi.is_some()),
        ("glusterfs", volume.glusterfs.is_some()),
        ("flocker", volume.flocker.is_some()),
        (
            "persistentVolumeClaim",
            volume.persistent_volume_claim.is_some(),
        ),
        ("rbd", volume.rbd.is_some()),
        ("cinder", volume.cinder.is_some()),
        ("cephFS", volume.cephfs.is_some()),
        ("quobyte", volume.quobyte.is_some()),
        ("downwardAPI", volume.downward_api.is_some()),
        ("fc", volume.fc.is_some()),
        ("flexVolume", volume.flex_volume.is_some()),
        ("configMap", volume.config_map.is_some()),
        ("azureFile", volume.azure_file.is_some()),
        ("vsphereVolume", volume.vsphere_volume.is_some()),
        (
            "photonPersistentDisk",
            volume.photon_persistent_disk.is_some(),
        ),
        ("portworxVolume", volume.portworx_volume.is_some()),
        ("azureDisk", volume.azure_disk.is_some()),
        ("storageos", volume.storageos.is_some()),
        ("scaleIO", volume.scale_io.is_some()),
        ("projected", volume.projected.is_some()),
        ("csi", volume.csi.is_some()),
        ("ephemeral", volume.ephemeral.is_some()),
        ("image", volume.image.is_some()),
    ];
    all.into_iter()
        .filter_map(|(name, set)| set.then_some(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::testing::object;

    /// Every way to refer to something, in every list of containers.
    const POD: &str = "{apiVersion: v1, kind: Pod, spec: {
        imagePullSecrets: [{name: pull}], serviceAccount: old,
        containers: [{name: a, envFrom: [{secretRef: {name: from}}, {configMapRef: {name: settings}}]}],
        initContainers: [{name: b, env: [{name: X, valueFrom: {secretKeyRef: {name: key, key: k}}}]}],
        ephemeralContainers: [{name: c, env: [{name: X, valueFrom: {configMapKeyRef: {name: debug, key: k}}}]}],
        resourceClaims: [{name: gpu, resourceClaimName: gpu-1}],
        volumes: [{name: s, secret: {secretName: files}}, {name: c, configMap: {name: conf}},
          {name: p, projected: {sources: [{secret: {name: inner}}, {configMap: {name: inside}}]}},
          {name: d, persistentVolumeClaim: {claimName: data}}, {name: e, ephemeral: {}},
          {name: csi, csi: {driver: x, nodePublishSecretRef: {name: publish}}},
          {name: iscsi, iscsi: {secretRef: {name: chap}}}, {name: az, azureFile: {secretName: azure}}]}}";

    #[test]
    fn no_reference_is_forgotten() {
        let pod: Pod = object(POD).view().unwrap();
        let spec = pod.spec.unwrap();
        let all: Vec<String> = references(&spec).iter().map(|r| format!("{r:?}")).collect();
        expect![[r#"
            Secret("pull")
            Secret("key")
            Secret("from")
            ConfigMap("settings")
            ConfigMap("debug")
            Secret("files")
            ConfigMap("conf")
            Secret("inner")
            ConfigMap("inside")
            PersistentVolumeClaim("data")
            EphemeralVolumeClaim("e")
            Secret("publish")
            Secret("chap")
            Secret("azure")
            ServiceAccount("old")
            ResourceClaim("gpu-1")"#]]
        .assert_eq(&all.join("\n"));
    }

    #[test]
    fn containers_of_all_lists_are_visited_with_their_paths() {
        let pod: Pod = object(POD).view().unwrap();
        let spec = pod.spec.unwrap();
        let visited = containers_with_path(&spec, &Path::new("spec"));
        let visited: Vec<String> = visited
            .map(|(path, c)| format!("{path}: {}", c.name()))
            .collect();
        expect![[r#"
            spec.initContainers[0]: b
            spec.containers[0]: a
            spec.ephemeralContainers[0]: c"#]]
        .assert_eq(&visited.join("\n"));
    }
}
