//! `kubernetes-guide.md` 5.1 and 5.2: the commands of kubectl, one after the other.

use std::io::{Read, Write};
use std::net::TcpStream;

use cluster_tests::{Cluster, KUBECTLS, Namespace};

/// Commands that create something, and what they say.
const CREATIONS: &[(&str, &str)] = &[
    (
        "create configmap cm --from-literal=a=b",
        "configmap/cm created",
    ),
    (
        "create secret generic gen --from-literal=a=b",
        "secret/gen created",
    ),
    (
        "create secret docker-registry reg --docker-server=r.example --docker-username=u --docker-password=p",
        "secret/reg created",
    ),
    (
        "create serviceaccount robot",
        "serviceaccount/robot created",
    ),
    (
        "create role reader --verb=get,list --resource=pods",
        "role.rbac.authorization.k8s.io/reader created",
    ),
    (
        "create rolebinding reading --role=reader --serviceaccount=SPACE:robot",
        "rolebinding.rbac.authorization.k8s.io/reading created",
    ),
    (
        "create quota many --hard=pods=100,services=20",
        "resourcequota/many created",
    ),
    (
        "create poddisruptionbudget pdb --selector=app=web --min-available=1",
        "poddisruptionbudget.policy/pdb created",
    ),
    (
        "create deployment web --image=nginx:1.7.9 --replicas=2 --port=80",
        "deployment.apps/web created",
    ),
    (
        "create service clusterip inner --tcp=80:80",
        "service/inner created",
    ),
    (
        "create service nodeport outer --tcp=80:80",
        "service/outer created",
    ),
    (
        "create service loadbalancer balanced --tcp=80:80",
        "service/balanced created",
    ),
    (
        "create service externalname other --external-name=example.com",
        "service/other created",
    ),
    (
        "create job once --image=luksa/batch-job",
        "job.batch/once created",
    ),
    (
        "create cronjob often --image=luksa/batch-job --schedule=@daily",
        "cronjob.batch/often created",
    ),
    (
        "create ingress front --rule=example.com/*=web:80",
        "ingress.networking.k8s.io/front created",
    ),
    (
        "expose deployment web --port=80 --name=exposed --session-affinity=ClientIP",
        "service/exposed exposed",
    ),
    (
        "autoscale deployment web --min=2 --max=5 --cpu-percent=80",
        "horizontalpodautoscaler.autoscaling/web autoscaled",
    ),
];

/// Commands that change what those made.
const CHANGES: &[(&str, &str)] = &[
    (
        "set image deployment/web nginx=nginx:1.9.1",
        "deployment.apps/web image updated",
    ),
    (
        "set env deployment/web MODE=test",
        "deployment.apps/web env updated",
    ),
    (
        "set resources deployment/web --limits=cpu=100m,memory=64Mi",
        "deployment.apps/web resource requirements updated",
    ),
    (
        "set serviceaccount deployment/web robot",
        "deployment.apps/web serviceaccount updated",
    ),
    (
        "set selector service inner app=web",
        "service/inner selector updated",
    ),
    (
        "set subject rolebinding reading --user=ann",
        "rolebinding.rbac.authorization.k8s.io/reading subjects updated",
    ),
    (
        "label deployment web tier=front",
        "deployment.apps/web labeled",
    ),
    (
        "annotate deployment web note=hello",
        "deployment.apps/web annotate",
    ),
    (
        "scale deployment web --current-replicas=2 --replicas=3",
        "deployment.apps/web scaled",
    ),
    (
        "rollout restart deployment/web",
        "deployment.apps/web restarted",
    ),
];

fn run(space: &Namespace, line: &str) -> String {
    let line = line.replace("SPACE", space.name());
    let words: Vec<&str> = line.split(' ').collect();
    space.kubectl(&words).ok()
}

#[test]
fn every_creating_and_changing_command() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("commands", minor);
        for (line, said) in CREATIONS.iter().chain(CHANGES) {
            let output = run(&space, line);
            assert!(output.contains(said), "{line}: {output}");
        }
        run(&space, "rollout status deployment/web --timeout=120s");
        space.wait(&["job/once"], "condition=Complete");
        let all = run(&space, "get all");
        for part in [
            "pod/web-",
            "service/exposed",
            "deployment.apps/web",
            "replicaset.apps/web-",
            "job.batch/once",
        ] {
            assert!(all.contains(part), "{part} is not in\n{all}");
        }
        for kind in [
            "pdb/pdb",
            "quota/many",
            "ing/front",
            "hpa/web",
            "cj/often",
            "sa/robot",
            "svc/exposed",
        ] {
            let described = run(&space, &format!("describe {kind}"));
            assert!(described.contains("Name:"), "{described}");
        }
        let scaled = space.kubectl(&[
            "scale",
            "deployment",
            "web",
            "--current-replicas=9",
            "--replicas=1",
        ]);
        assert!(scaled.failed().contains("Expected replicas to be 9, was 3"));
    }
}

#[test]
fn reading_comparing_replacing_and_pruning() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("compare", minor);
        let map = |name: &str, value: &str| {
            format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{set: s}}}}\ndata: {{k: {value}}}\n---\n"
            )
        };
        let both = map("one", "a") + &map("two", "a");
        space.input(&["apply", "-f", "-"], &both).ok();
        let diff = space.input(&["diff", "-f", "-"], &map("one", "b"));
        assert_eq!(diff.code, 1, "{}", diff.stderr);
        assert!(
            diff.stdout.contains("-  k: a") && diff.stdout.contains("+  k: b"),
            "{}",
            diff.stdout
        );
        assert_eq!(space.input(&["diff", "-f", "-"], &both).code, 0);
        let last = run(&space, "apply view-last-applied configmap/one");
        assert!(last.contains("k: a"), "{last}");
        space.input(&["replace", "-f", "-"], &map("one", "c")).ok();
        assert_eq!(run(&space, "get cm one -o jsonpath={.data.k}"), "c");
        let prune = [
            "apply",
            "-f",
            "-",
            "--prune",
            "-l",
            "set=s",
            "--prune-allowlist=core/v1/ConfigMap",
        ];
        let pruned = space.input(&prune, &map("one", "a")).ok();
        assert!(pruned.contains("configmap/two pruned"), "{pruned}");
        let sorted = run(&space, "get cm --sort-by=.metadata.name -o name");
        assert_eq!(sorted, "configmap/kube-root-ca.crt\nconfigmap/one\n");
        let chunked = run(&space, "get cm --chunk-size=1 -o name");
        assert_eq!(chunked, sorted);
        let columns = run(
            &space,
            "get cm one --no-headers -o custom-columns=NAME:.metadata.name,K:.data.k",
        );
        assert_eq!(columns.split_whitespace().collect::<Vec<_>>(), ["one", "a"]);
        let raw = space.kubectl(&[
            "get",
            "--raw",
            &format!("/api/v1/namespaces/{}/configmaps/one", space.name()),
        ]);
        assert!(raw.ok().contains("\"k\":\"a\""));
        let dry = run(
            &space,
            "create configmap dry --from-literal=a=b --dry-run=server -o yaml",
        );
        assert!(dry.contains("uid:"), "{dry}");
        let missing = space.kubectl(&["get", "cm", "dry"]).failed();
        assert_eq!(
            missing,
            "Error from server (NotFound): configmaps \"dry\" not found\n"
        );
    }
}

#[test]
fn who_may_do_what() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("auth", minor);
        run(&space, "create serviceaccount robot");
        let rules = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: viewer, namespace: SPACE}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: viewer, namespace: SPACE}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: viewer}
subjects: [{kind: ServiceAccount, name: robot, namespace: SPACE}]
"
        .replace("SPACE", space.name());
        let said = space.input(&["auth", "reconcile", "-f", "-"], &rules).ok();
        assert!(
            said.contains("role.rbac.authorization.k8s.io/viewer reconciled"),
            "{said}"
        );
        let again = space.input(&["auth", "reconcile", "-f", "-"], &rules).ok();
        assert!(
            again.contains("viewer reconciled") || again.contains("viewer unchanged"),
            "{again}"
        );
        let token = run(&space, "create token robot --duration=10m");
        let with = format!("--token={}", token.trim());
        let robot = format!("system:serviceaccount:{}:robot", space.name());
        // kubectl 1.27 knows only versions of this API that are gone.
        if minor > 27 {
            let me = space.kubectl(&["--as", &robot, "auth", "whoami"]).ok();
            assert!(me.contains(&robot), "{me}");
        }
        let may = space
            .kubectl(&["--as", &robot, "auth", "can-i", "list", "configmaps"])
            .ok();
        assert_eq!(may, "yes\n");
        let listed = space
            .kubectl(&["--as", &robot, "auth", "can-i", "--list"])
            .ok();
        assert!(
            listed.contains("configmaps") && listed.contains("[get list]"),
            "{listed}"
        );
        let refused = space.kubectl(&["--as", &robot, "get", "secrets"]).failed();
        let expected = format!(
            "Error from server (Forbidden): secrets is forbidden: User \"{robot}\" cannot list resource \"secrets\" in API group \"\" in the namespace \"{}\"\n",
            space.name()
        );
        assert_eq!(refused, expected);
        assert!(with.len() > 100, "{token}");
    }
}

#[test]
fn proxy_debug_attach_and_wait() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("streams2", minor);
        let proxy = space.running(&["proxy", "--port=0"]);
        let line = proxy.line("Starting to serve on");
        let address = line.rsplit(' ').next().expect("an address").to_owned();
        let mut stream = TcpStream::connect(&address).expect("served");
        stream
            .write_all(b"GET /version HTTP/1.0\r\nHost: localhost\r\n\r\n")
            .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.contains("\"gitVersion\": \"v1.37"), "{answer}");

        run(&space, "run main --image=nginx:1.7.9");
        space.wait(&["pod/main"], "condition=Ready");
        let debug = "debug main --image=busybox --image-pull-policy=IfNotPresent --target=main -c helper -- true";
        run(&space, debug);
        let ended = "jsonpath={.status.ephemeralContainerStatuses[0].state.terminated.exitCode}=0";
        space.wait(&["pod/main"], ended);
        let copy = "debug main --image=busybox --image-pull-policy=IfNotPresent --copy-to=copied -c extra -- sleep 100000";
        run(&space, copy);
        space.wait(&["pod/copied"], "condition=Ready");
        let said = space.input(
            &[
                "run",
                "-i",
                "--rm",
                "--quiet",
                "--restart=Never",
                "shell",
                "--image=busybox",
                "--image-pull-policy=IfNotPresent",
                "--",
                "cat",
            ],
            "through\n",
        );
        assert!(said.clone().ok().contains("through"), "{said:?}");
        run(&space, "delete pod main copied --grace-period=0 --force");
        space.wait(&["pod/main"], "delete");
    }
}
