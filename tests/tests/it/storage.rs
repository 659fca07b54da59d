//! Persistent volumes: claims that find volumes, volumes that are made, kept, grown and removed.

use cluster_tests::{Cluster, Namespace};

const MINOR: u32 = 36;

fn apply(space: &Namespace, manifest: &str) {
    space.input(&["apply", "-f", "-"], manifest).ok();
}

fn claim(name: &str, size: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec:\n  \
         accessModes: [ReadWriteOnce]\n  resources: {{requests: {{storage: {size}}}}}\n{more}---\n"
    )
}

/// A pod of one busybox container with the claim at `/data`.
fn user(name: &str, claim: &str, script: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  \
         terminationGracePeriodSeconds: 0\n{more}  containers:\n  - name: main\n    image: busybox\n    \
         imagePullPolicy: IfNotPresent\n    command: [sh, -c, {script:?}]\n    \
         volumeMounts: [{{name: data, mountPath: /data}}]\n  \
         volumes: [{{name: data, persistentVolumeClaim: {{claimName: {claim}}}}}]\n---\n"
    )
}

fn succeeded(space: &Namespace, pod: &str) -> String {
    space.wait(
        &[&format!("pod/{pod}")],
        "jsonpath={.status.phase}=Succeeded",
    );
    space.kubectl(&["logs", pod]).ok()
}

fn field(space: &Namespace, what: &str, path: &str) -> String {
    let path = format!("jsonpath={{{path}}}");
    space.kubectl(&["get", what, "-o", &path]).ok()
}

/// Waits until an object is gone.
fn gone(space: &Namespace, what: &str) {
    let waited = space.kubectl(&["wait", "--for=delete", what, "--timeout=60s"]);
    assert_eq!(waited.code, 0, "{}{}", waited.stdout, waited.stderr);
}

/// Waits until an event of the namespace says this about an object.
fn told(space: &Namespace, about: &str, reason: &str, text: &str) {
    let selector = format!("involvedObject.name={about},reason={reason}");
    let events = space.running(&[
        "get",
        "events",
        "--watch",
        "--field-selector",
        &selector,
        "-o",
        "custom-columns=M:.message",
    ]);
    events.line(text);
}

/// What the node has in its folder of local volumes.
fn directories(space: &Namespace) -> String {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: look}\nspec:\n  restartPolicy: Never\n  \
               terminationGracePeriodSeconds: 0\n  containers:\n  - name: main\n    image: busybox\n    \
               imagePullPolicy: IfNotPresent\n    command: [ls, /volumes]\n    \
               volumeMounts: [{name: v, mountPath: /volumes}]\n  volumes:\n  - name: v\n    \
               hostPath: {path: /var/lib/kubelet/local-volumes, type: DirectoryOrCreate}\n";
    apply(space, pod);
    let listed = succeeded(space, "look");
    space.kubectl(&["delete", "pod", "look", "--now"]).ok();
    listed
}

#[test]
fn a_static_volume_is_bound_by_size_and_class() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("static-volumes", MINOR);
    let class = space.name().to_owned();
    let volume = |name: &str, size: &str| {
        format!(
            "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: {class}-{name}}}\nspec:\n  \
             capacity: {{storage: {size}}}\n  accessModes: [ReadWriteOnce]\n  storageClassName: {class}\n  \
             hostPath: {{path: /tmp/{class}-{name}}}\n---\n"
        )
    };
    let volumes = volume("small", "1Gi") + &volume("right", "5Gi") + &volume("large", "10Gi");
    apply(&space, &volumes);
    let own = format!("  storageClassName: {class}\n");
    apply(&space, &claim("data", "3Gi", &own));
    space.wait(&["pvc/data"], "jsonpath={.status.phase}=Bound");
    assert_eq!(
        field(&space, "pvc/data", ".spec.volumeName"),
        format!("{class}-right")
    );
    assert_eq!(field(&space, "pvc/data", ".status.capacity.storage"), "5Gi");
    let listed = space.kubectl(&["get", "pvc", "data"]).ok();
    assert!(
        listed.contains(&format!("Bound    {class}-right   5Gi        RWO")),
        "{listed}"
    );
    let right = format!("pv/{class}-right");
    let listed = space.kubectl(&["get", &right]).ok();
    assert!(
        listed.contains(&format!("Retain           Bound    {class}/data")),
        "{listed}"
    );

    // Nothing is large enough for this one.
    apply(&space, &claim("more", "20Gi", &own));
    told(&space, "more", "ProvisioningFailed", "not found");

    apply(
        &space,
        &user("writer", "data", "echo kept > /data/file", ""),
    );
    space.wait(&["pod/writer"], "jsonpath={.status.phase}=Succeeded");
    space.kubectl(&["delete", "pod", "writer"]).ok();
    space.kubectl(&["delete", "pvc", "data"]).ok();
    space.wait(&[&right], "jsonpath={.status.phase}=Released");
    for name in ["small", "right", "large"] {
        space
            .kubectl(&["delete", "pv", &format!("{class}-{name}")])
            .ok();
    }
}

#[test]
fn a_local_volume_is_made_kept_protected_and_removed() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("local-volumes", MINOR);
    apply(&space, &claim("data", "64Mi", ""));
    let waiting = "waiting for first consumer to be created before binding";
    told(&space, "data", "WaitForFirstConsumer", waiting);
    let writer = user("writer", "data", "echo kept > /data/file; id -u", "");
    apply(&space, &writer);
    assert_eq!(succeeded(&space, "writer"), "0\n");
    let volume = field(&space, "pvc/data", ".spec.volumeName");
    assert_eq!(
        volume,
        format!("pvc-{}", field(&space, "pvc/data", ".metadata.uid"))
    );
    told(
        &space,
        "data",
        "ProvisioningSucceeded",
        "Successfully provisioned volume pvc-",
    );
    space.kubectl(&["delete", "pod", "writer"]).ok();

    // Another pod finds the data, and holds the claim.
    let reader = user("reader", "data", "cat /data/file; exec sleep 100000", "");
    apply(&space, &reader);
    space.wait(&["pod/reader"], "condition=Ready");
    assert_eq!(space.kubectl(&["logs", "reader"]).ok(), "kept\n");
    space
        .kubectl(&["delete", "pvc", "data", "--wait=false"])
        .ok();
    let listed = space.kubectl(&["get", "pvc", "data"]).ok();
    assert!(listed.contains("Terminating"), "{listed}");
    let described = space.kubectl(&["describe", "pvc", "data"]).ok();
    assert!(described.contains("Used By:       reader"), "{described}");
    assert!(directories(&space).contains(&volume));

    space.kubectl(&["delete", "pod", "reader"]).ok();
    gone(&space, "pvc/data");
    gone(&space, &format!("pv/{volume}"));
    let left = directories(&space);
    assert!(!left.contains(&volume), "{left}");
}

#[test]
fn a_claim_grows_and_a_retained_volume_stays() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("growing", MINOR);
    let class = format!(
        "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {{name: {0}}}\n\
         provisioner: oxikube.io/local\nreclaimPolicy: Retain\nallowVolumeExpansion: true\n---\n",
        space.name()
    );
    let own = format!("  storageClassName: {}\n", space.name());
    // A class that does not wait gets its volume at once.
    apply(&space, &(class + &claim("data", "64Mi", &own)));
    space.wait(&["pvc/data"], "jsonpath={.status.phase}=Bound");
    let volume = field(&space, "pvc/data", ".spec.volumeName");
    let patch = |size: &str| {
        let patch =
            format!("{{\"spec\":{{\"resources\":{{\"requests\":{{\"storage\":\"{size}\"}}}}}}}}");
        space.kubectl(&["patch", "pvc", "data", "-p", &patch])
    };
    patch("128Mi").ok();
    space.wait(&["pvc/data"], "jsonpath={.status.capacity.storage}=128Mi");
    let refused = patch("64Mi").failed();
    assert!(
        refused.contains("field can not be less than status.capacity"),
        "{refused}"
    );
    let many = claim("many", "64Mi", &own).replace("ReadWriteOnce", "ReadWriteMany");
    apply(&space, &many);
    told(
        &space,
        "many",
        "ProvisioningFailed",
        "Only support ReadWriteOnce",
    );

    apply(
        &space,
        &user("writer", "data", "echo kept > /data/file", ""),
    );
    space.wait(&["pod/writer"], "jsonpath={.status.phase}=Succeeded");
    space
        .kubectl(&["delete", "pod/writer", "pvc/data", "pvc/many"])
        .ok();
    let object = format!("pv/{volume}");
    space.wait(&[&object], "jsonpath={.status.phase}=Released");
    assert!(directories(&space).contains(&volume));
    // Without its object the data is still there: that is what Retain means.
    space.kubectl(&["delete", &object]).ok();
    assert!(directories(&space).contains(&volume));
    space.kubectl(&["delete", "sc", space.name()]).ok();
}

#[test]
fn volumes_are_mounted_as_the_pod_says() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("mounts", MINOR);
    apply(&space, &claim("data", "64Mi", ""));
    let groups = "  securityContext: {runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000}\n";
    let script = "echo a > /data/file; mkdir -p /data/sub; echo b > /data/sub/inner; \
                  stat -c '%g %a' /data; stat -c %g /data/file";
    apply(&space, &user("writer", "data", script, groups));
    assert_eq!(succeeded(&space, "writer"), "2000 2777\n2000\n");
    space.kubectl(&["delete", "pod", "writer"]).ok();
    let sub = user("sub", "data", "cat /data/inner; ls /data", "")
        .replace("mountPath: /data}", "mountPath: /data, subPath: sub}");
    apply(&space, &sub);
    assert_eq!(succeeded(&space, "sub"), "b\ninner\n");
    let read_only = user(
        "fixed",
        "data",
        "touch /data/new 2>/dev/null || echo refused; cat /data/file",
        "",
    )
    .replace("claimName: data}", "claimName: data, readOnly: true}");
    apply(&space, &read_only);
    assert_eq!(succeeded(&space, "fixed"), "refused\na\n");
}

#[test]
fn an_ephemeral_volume_lives_as_long_as_its_pod() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("ephemeral", MINOR);
    let pod = user("scratch", "unused", "echo x > /data/file; exec sleep 100000", "").replace(
        "persistentVolumeClaim: {claimName: unused}",
        "ephemeral: {volumeClaimTemplate: {metadata: {labels: {kind: scratch}}, spec: {accessModes: \
         [ReadWriteOnce], resources: {requests: {storage: 64Mi}}}}}",
    );
    apply(&space, &pod);
    space.wait(&["pod/scratch"], "condition=Ready");
    let volume = field(&space, "pvc/scratch-data", ".spec.volumeName");
    assert_eq!(
        field(&space, "pvc/scratch-data", ".metadata.labels.kind"),
        "scratch"
    );
    space.kubectl(&["delete", "pod", "scratch"]).ok();
    gone(&space, "pvc/scratch-data");
    gone(&space, &format!("pv/{volume}"));
}

#[test]
fn what_needs_a_driver_waits_and_says_for_what() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("drivers", MINOR);
    for (name, source, reason) in [
        (
            "nfs",
            "nfs: {server: 192.0.2.1, path: /export}",
            "mount failed: exit status 32",
        ),
        (
            "csi",
            "csi: {driver: disks.example.com}",
            "not found in the list of registered CSI drivers",
        ),
        (
            "iscsi",
            "iscsi: {targetPortal: '192.0.2.1:3260', iqn: 'iqn.2001-04.com.example:storage', lun: 0}",
            "executable file not found",
        ),
    ] {
        let pod = user(name, "unused", "true", "")
            .replace("persistentVolumeClaim: {claimName: unused}", source);
        apply(&space, &pod);
        told(&space, name, "FailedMount", reason);
        let waits =
            "jsonpath={.status.containerStatuses[0].state.waiting.reason}=ContainerCreating";
        space.wait(&[&format!("pod/{name}")], waits);
    }
    // A claim that is not there keeps its pod from being scheduled.
    apply(&space, &user("orphan", "nothing", "true", ""));
    let why = "0/1 nodes are available: persistentvolumeclaim \"nothing\" not found.";
    told(&space, "orphan", "FailedScheduling", why);
}

#[test]
fn every_pod_of_a_stateful_set_keeps_its_claim() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("stateful", MINOR);
    let set = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n  serviceName: db\n  \
               replicas: 2\n  selector: {matchLabels: {app: db}}\n  template:\n    \
               metadata: {labels: {app: db}}\n    spec:\n      terminationGracePeriodSeconds: 0\n      \
               containers:\n      - name: main\n        image: busybox\n        \
               imagePullPolicy: IfNotPresent\n        \
               command: [sh, -c, 'hostname >> /data/names; exec sleep 100000']\n        \
               volumeMounts: [{name: data, mountPath: /data}]\n  volumeClaimTemplates:\n  \
               - metadata: {name: data}\n    spec: {accessModes: [ReadWriteOnce], resources: \
               {requests: {storage: 64Mi}}}\n";
    apply(&space, set);
    space.wait(&["statefulset/db"], "jsonpath={.status.readyReplicas}=2");
    let volume = field(&space, "pvc/data-db-1", ".spec.volumeName");
    let names = |pod: &str| {
        space
            .kubectl(&["exec", pod, "--", "cat", "/data/names"])
            .ok()
    };
    assert_eq!(names("db-1"), "db-1\n");
    space
        .kubectl(&["scale", "statefulset", "db", "--replicas=1"])
        .ok();
    gone(&space, "pod/db-1");
    space
        .kubectl(&["scale", "statefulset", "db", "--replicas=2"])
        .ok();
    space.wait(&["statefulset/db"], "jsonpath={.status.readyReplicas}=2");
    assert_eq!(names("db-1"), "db-1\ndb-1\n");
    assert_eq!(field(&space, "pvc/data-db-1", ".spec.volumeName"), volume);
}

#[test]
fn a_volume_keeps_its_pods_on_its_node_which_removes_it() {
    let cluster = Cluster::new("storage-nodes");
    cluster.oxikube(&["start", "--nodes", "2"]).ok();
    cluster.load(&demo_images::samples::busybox().expect("an image"));
    let second = format!("oxikube-{}-2", cluster.name());
    let run = |arguments: &[&str], input: &str| cluster.kubectl(MINOR, arguments, input).ok();
    let pinned = format!("  nodeSelector: {{kubernetes.io/hostname: {second}}}\n");
    let writer = user("writer", "data", "echo kept > /data/file", &pinned);
    run(
        &["apply", "-f", "-"],
        &(claim("data", "64Mi", "") + &writer),
    );
    let done = "--for=jsonpath={.status.phase}=Succeeded";
    run(&["wait", "pod/writer", done, "--timeout=60s"], "");
    // Nothing but the volume says where this one has to run.
    let reader = user("reader", "data", "cat /data/file", "");
    run(&["apply", "-f", "-"], &reader);
    run(&["wait", "pod/reader", done, "--timeout=60s"], "");
    assert_eq!(run(&["logs", "reader"], ""), "kept\n");
    let node = ["get", "pod", "reader", "-o", "jsonpath={.spec.nodeName}"];
    assert_eq!(run(&node, ""), second);
    let volume = ["get", "pvc", "data", "-o", "jsonpath={.spec.volumeName}"];
    let volume = format!("pv/{}", run(&volume, ""));
    run(&["delete", "pod/writer", "pod/reader", "pvc/data"], "");
    let gone = ["wait", "--for=delete", &volume, "--timeout=60s"];
    assert_eq!(cluster.kubectl(MINOR, &gone, "").code, 0);
}

#[test]
fn data_survives_a_power_off_and_the_default_class_is_the_users() {
    let cluster = Cluster::start("storage-power");
    cluster.load_samples();
    let run = |arguments: &[&str], input: &str| cluster.kubectl(MINOR, arguments, input).ok();
    let apply = |manifest: &str| run(&["apply", "-f", "-"], manifest);
    apply(&(claim("data", "64Mi", "") + &user("writer", "data", "echo kept > /data/file", "")));
    let done = "--for=jsonpath={.status.phase}=Succeeded";
    run(&["wait", "pod/writer", done, "--timeout=60s"], "");
    run(&["delete", "sc", "standard"], "");
    cluster.oxikube(&["stop"]).ok();
    cluster.oxikube(&["start"]).ok();
    apply(&user("reader", "data", "cat /data/file", ""));
    run(&["wait", "pod/reader", done, "--timeout=60s"], "");
    assert_eq!(run(&["logs", "reader"], ""), "kept\n");
    let classes = cluster.kubectl(MINOR, &["get", "sc"], "");
    assert!(
        classes.stderr.contains("No resources found"),
        "{}",
        classes.stdout
    );
}
