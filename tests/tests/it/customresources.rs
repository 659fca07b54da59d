//! Kinds that users define, with the real kubectl: from the definition to its end.

use cluster_tests::{Cluster, KUBECTLS, Namespace};

/// The definition of `CronTab`s; each kubectl has a group of its own, since definitions belong to the whole cluster.
fn definition(group: &str) -> String {
    format!(
        r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: crontabs.{group}}}
spec:
  group: {group}
  scope: Namespaced
  names: {{plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct], categories: [all]}}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            description: What is wanted.
            properties:
              cronSpec: {{type: string, description: When it runs.}}
              image: {{type: string}}
              replicas: {{type: integer, default: 1}}
              max: {{type: integer}}
            x-kubernetes-validations:
            - rule: "!has(self.max) || self.replicas <= self.max"
              messageExpression: "'replicas must not exceed %d'.format([self.max])"
              fieldPath: .replicas
            - {{rule: "self.replicas >= oldSelf.replicas", message: replicas only grow}}
          status:
            type: object
            properties:
              replicas: {{type: integer}}
              labelSelector: {{type: string}}
              conditions:
                type: array
                items: {{type: object, properties: {{type: {{type: string}}, status: {{type: string}}}}}}
    subresources:
      status: {{}}
      scale: {{specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.labelSelector}}
    selectableFields: [{{jsonPath: .spec.image}}]
    additionalPrinterColumns:
    - {{name: Spec, type: string, jsonPath: .spec.cronSpec}}
    - {{name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status'}}
    - {{name: Age, type: date, jsonPath: .metadata.creationTimestamp}}
"#
    )
}

fn object(group: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: {group}/v1\nkind: CronTab\nmetadata: {{name: {name}, labels: {{app: cron}}}}\nspec: {spec}\n"
    )
}

fn define(space: &Namespace, group: &str) {
    space.input(&["apply", "-f", "-"], &definition(group)).ok();
    space.wait_established(&format!("crd/crontabs.{group}"));
}

#[test]
fn a_defined_kind_is_like_any_other() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("custom", minor);
        let group = format!("v{minor}.example.com");
        define(&space, &group);
        let run = |arguments: &[&str]| space.kubectl(arguments).ok();
        let kind = format!("crontabs.{group}");
        let one = format!("crontab.{group}/a");
        let first = object(&group, "a", "{cronSpec: '* * * * */5', image: first}");
        assert_eq!(
            space.input(&["apply", "-f", "-"], &first).ok(),
            format!("{one} created\n")
        );
        assert_eq!(
            space.input(&["apply", "-f", "-"], &first).ok(),
            format!("{one} unchanged\n")
        );
        assert_eq!(space.input(&["diff", "-f", "-"], &first).ok(), "");
        let second = first.replace("first", "second");
        let diff = space.input(&["diff", "-f", "-"], &second);
        assert!(
            diff.code == 1 && diff.stdout.contains("+  image: second"),
            "{diff:?}"
        );
        assert_eq!(
            space.input(&["apply", "-f", "-"], &second).ok(),
            format!("{one} configured\n")
        );
        let shown = run(&["get", &kind]);
        assert!(
            shown.starts_with("NAME   SPEC          READY   AGE\na      * * * * */5"),
            "{shown}"
        );
        assert!(run(&["get", "all"]).contains(&one));
        let explained = run(&["explain", &format!("{kind}.spec")]);
        assert!(explained.contains("What is wanted.") && explained.contains("When it runs."));
        let resources = run(&["api-resources", "--api-group", &group]);
        assert!(resources.contains("crontabs   ct"), "{resources}");
        assert_eq!(
            run(&["scale", "--replicas=3", &one]),
            format!("{one} scaled\n")
        );
        let ready = r#"{"status":{"replicas":3,"conditions":[{"type":"Ready","status":"True"}]}}"#;
        run(&[
            "patch",
            &one,
            "--subresource=status",
            "--type=merge",
            "-p",
            ready,
        ]);
        space.wait(&[&one], "condition=Ready");
        space.wait(&[&one], "jsonpath={.spec.replicas}=3");
        assert!(run(&["describe", &one]).contains("Cron Spec:  * * * * */5"));
        assert_eq!(
            run(&[
                "get",
                &kind,
                "--field-selector",
                "spec.image=second",
                "-o",
                "name"
            ]),
            format!("{one}\n")
        );
        assert_eq!(
            run(&[
                "get",
                &kind,
                "--field-selector",
                "spec.image=first",
                "-o",
                "name"
            ]),
            ""
        );
        run(&["label", &one, "more=yes"]);
        let sided = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        assert_eq!(
            space
                .input(&sided, &object(&group, "a", "{image: third}"))
                .ok(),
            format!("{one} serverside-applied\n")
        );
        space.kubectl(&["delete", "crd", &kind]).ok();
        let gone = space.kubectl(&["get", &kind]).failed();
        assert!(
            gone.contains("the server doesn't have a resource type"),
            "{gone}"
        );
    }
}

#[test]
fn what_is_wrong_is_told() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("customwrong", minor);
        let group = format!("w{minor}.example.com");
        define(&space, &group);
        let apply = |spec: &str| space.input(&["apply", "-f", "-"], &object(&group, "a", spec));
        let unknown = apply("{images: x}").failed();
        assert!(
            unknown.contains("strict decoding error: unknown field \"spec.images\""),
            "{unknown}"
        );
        let wrong = apply("{replicas: many}").failed();
        assert!(
            wrong.contains("spec.replicas: Invalid value: \"string\": spec.replicas in body must be of type integer: \"string\""),
            "{wrong}"
        );
        let rule = apply("{replicas: 5, max: 3}").failed();
        assert!(
            rule.contains("spec.replicas: Invalid value: replicas must not exceed 3"),
            "{rule}"
        );
        apply("{replicas: 5}").ok();
        let transition = apply("{replicas: 4}").failed();
        assert!(
            transition.contains("spec: Invalid value: replicas only grow"),
            "{transition}"
        );
        let strategic = [
            "patch",
            &format!("crontab.{group}/a"),
            "--type=strategic",
            "-p",
            "{}",
        ];
        let strategic = space.kubectl(&strategic).failed();
        let why = "strategic-merge-patch+json is not supported";
        assert!(strategic.contains(why), "{strategic}");
        let bad =
            definition(&group).replace("self.replicas <= self.max", "self.replicas <= self.most");
        let bad = space.input(&["apply", "-f", "-"], &bad).failed();
        assert!(
            bad.contains("compilation failed: ERROR: <input>:1:40: undefined field 'most'"),
            "{bad}"
        );
        space
            .kubectl(&["delete", "crd", &format!("crontabs.{group}")])
            .ok();
    }
}

#[test]
fn what_is_no_longer_applied_is_pruned() {
    let cluster = Cluster::shared();
    for minor in KUBECTLS {
        let space = cluster.namespace("prune", minor);
        let group = format!("p{minor}.example.com");
        define(&space, &group);
        let map = |name: &str| {
            format!(
                "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{app: cron}}}}\n"
            )
        };
        let custom = |name: &str| format!("---\n{}", object(&group, name, "{image: x}"));
        let kind = format!("crontabs.{group}");
        let names = || {
            let all = space.kubectl(&[
                "get",
                &format!("configmaps,{kind}"),
                "-l",
                "app=cron",
                "-o",
                "name",
            ]);
            all.ok().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let allow = format!("--prune-allowlist={group}/v1/CronTab");
        let prune = [
            "apply",
            "--prune",
            "-l",
            "app=cron",
            &allow,
            "--prune-allowlist=core/v1/ConfigMap",
            "-f",
            "-",
        ];
        space
            .input(
                &prune,
                &[map("a"), map("b"), custom("a"), custom("b")].concat(),
            )
            .ok();
        assert_eq!(names().len(), 4);
        let pruned = space.input(&prune, &[map("a"), custom("a")].concat()).ok();
        assert!(
            pruned.contains(&format!("crontab.{group}/b pruned")),
            "{pruned}"
        );
        assert_eq!(
            names(),
            ["configmap/a".to_owned(), format!("crontab.{group}/a")]
        );
        space
            .kubectl(&["delete", &format!("configmaps,{kind}"), "-l", "app=cron"])
            .ok();

        let variables = [("KUBECTL_APPLYSET", "true")];
        let set = ["apply", "--prune", "--applyset=set", "-f", "-"];
        let first = [map("c"), custom("c"), custom("d")].concat();
        space.with(&variables, &set, &first).ok();
        assert_eq!(names().len(), 3);
        let pruned = space.with(&variables, &set, &map("c")).ok();
        assert!(
            pruned.contains(&format!("crontab.{group}/d pruned")),
            "{pruned}"
        );
        assert_eq!(names(), ["configmap/c"]);
        space.kubectl(&["delete", "crd", &kind]).ok();
    }
}

/// The objects of a custom kind go with their name-space and with their owner.
#[test]
fn custom_objects_are_collected() {
    let cluster = Cluster::shared();
    let space = cluster.namespace("customgone", 36);
    let group = "gone.example.com";
    define(&space, group);
    let create = ["create", "namespace", "customgone-inner"];
    space.kubectl(&create).ok();
    let held =
        object(group, "a", "{image: x}").replace("name: a", "name: a, namespace: customgone-inner");
    space
        .input(
            &["apply", "-f", "-", "--namespace", "customgone-inner"],
            &held,
        )
        .ok();
    space
        .kubectl(&["delete", "namespace", "customgone-inner", "--timeout=60s"])
        .ok();
    space
        .input(&["apply", "-f", "-"], &object(group, "owner", "{image: x}"))
        .ok();
    let owner = format!("crontab.{group}/owner");
    let uid = space
        .kubectl(&["get", &owner, "-o", "jsonpath={.metadata.uid}"])
        .ok();
    let owned = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: owned\n  ownerReferences: [{{apiVersion: {group}/v1, kind: CronTab, name: owner, uid: {uid}}}]\n"
    );
    space.input(&["apply", "-f", "-"], &owned).ok();
    space.kubectl(&["delete", &owner]).ok();
    space.wait(&["configmap/owned"], "delete");
    space
        .kubectl(&["delete", "crd", &format!("crontabs.{group}")])
        .ok();
}
