//! What operators write, what is asked, and what the answers mean.

use expect_test::{Expect, expect};
use machinery::labels::Selector;
use serde_json::{Value, json};

use super::{Asked, Configuration, Link, review};
use crate::{Attributes, Authorizer, Decision, FieldRequirement, User, Verdict};

const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n";

fn check(text: &str, expected: Expect) {
    let found = match Configuration::parse(&format!("{HEAD}{text}")) {
        Ok(configuration) => format!("{:#?}", configuration.links),
        Err(error) => error.replace(", authorizers", ",\nauthorizers"),
    };
    expected.assert_eq(&found);
}

#[test]
fn a_configuration_names_authorizers_in_order() {
    check(
        "authorizers:\n- {type: Node, name: node}\n- {type: RBAC, name: rbac}\n",
        expect![[r#"
            [
                Node,
                Rbac,
            ]"#]],
    );
    let webhook = "authorizers:
- type: Webhook
  name: far
  webhook:
    timeout: 3s
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: Deny
    cacheUnauthorizedRequests: false
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: /etc/far.kubeconfig}
    matchConditions:
    - expression: has(request.resourceAttributes)
";
    let configuration = Configuration::parse(&format!("{HEAD}{webhook}")).expect("usable");
    let [Link::Webhook(found)] = configuration.links.as_slice() else {
        panic!("{configuration:?}");
    };
    assert_eq!(
        (
            found.authorized_ttl.as_secs(),
            found.unauthorized_ttl.as_secs()
        ),
        (300, 0)
    );
    assert_eq!(found.failure_policy.decision(), Decision::Deny);
}

#[test]
fn all_that_is_wrong_with_a_configuration_is_told() {
    check(
        "",
        expect!["authorizers: Required value: at least one authorization mode must be defined"],
    );
    check(
        "authorisers: []",
        expect!["strict decoding error: unknown field `authorisers`, expected `authorizers`"],
    );
    check(
        "authorizers:
- {type: Node, name: a}
- {type: Node, name: b}
- {type: RBAC, name: a}
- {type: AlwaysAllow, name: Not_a_name, webhook: {}}
- {type: Nobody, name: other}
- type: Webhook
  name: w
  webhook:
    timeout: 31s
    subjectAccessReviewVersion: v2
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: relative}
    matchConditions: [{expression: 'request.user'}, {expression: 'request.nothing == 1'}, {expression: ''}]
",
        expect![[r#"
            [authorizers[1].type: Duplicate value: "Node",
            authorizers[2].name: Duplicate value: "a",
            authorizers[3].name: Invalid value: "Not_a_name": authorizer name is invalid: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'),
            authorizers[3].webhook: Invalid value: "non-null": may only be specified when type=Webhook,
            authorizers[4].type: Unsupported value: "Nobody": supported values: "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook",
            authorizers[5].timeout: Invalid value: "31s": must be > 0s and <= 30s,
            authorizers[5].subjectAccessReviewVersion: Unsupported value: "v2": supported values: "v1", "v1beta1",
            authorizers[5].matchConditionSubjectAccessReviewVersion: Required value: required if match conditions are specified,
            authorizers[5].failurePolicy: Required value,
            authorizers[5].connectionInfo.kubeConfigFile: Invalid value: "relative": must be an absolute path,
            authorizers[5].matchConditions[0].expression: Invalid value: "request.user": must evaluate to bool,
            authorizers[5].matchConditions[1].expression: Invalid value: "request.nothing == 1": compilation failed: ERROR: <input>:1:8: undefined field 'nothing'
             | request.nothing == 1
             | .......^,
            authorizers[5].matchConditions[2].expression: Required value]"#]],
    );
}

fn jane() -> User {
    User::new("jane", &["devs"])
}

#[test]
fn the_question_has_all_that_is_known_of_a_request() {
    let mut attributes = Attributes::resource(&jane(), "list", "apps", "deployments");
    attributes.namespace = "ns".to_owned();
    attributes.field_selector = vec![FieldRequirement {
        field: "metadata.name".to_owned(),
        equals: false,
        value: "x".to_owned(),
    }];
    attributes.label_selector = Selector::parse("a=b,!c,d>1").ok();
    let question = review::question("v1", &review::spec(&attributes));
    expect![[r#"
        {
          "apiVersion": "authorization.k8s.io/v1",
          "kind": "SubjectAccessReview",
          "metadata": {},
          "spec": {
            "groups": [
              "devs"
            ],
            "resourceAttributes": {
              "fieldSelector": {
                "requirements": [
                  {
                    "key": "metadata.name",
                    "operator": "NotIn",
                    "values": [
                      "x"
                    ]
                  }
                ]
              },
              "group": "apps",
              "labelSelector": {
                "requirements": [
                  {
                    "key": "a",
                    "operator": "In",
                    "values": [
                      "b"
                    ]
                  },
                  {
                    "key": "c",
                    "operator": "DoesNotExist"
                  }
                ]
              },
              "namespace": "ns",
              "resource": "deployments",
              "verb": "list"
            },
            "user": "jane"
          },
          "status": {
            "allowed": false
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&question).expect("encodes"));
    let old = review::question("v1beta1", &review::spec(&attributes));
    assert_eq!(old["spec"]["group"], json!(["devs"]));
    assert_eq!(old["spec"].get("groups"), None);
}

#[test]
fn an_answer_is_a_verdict() {
    let decision = |status: Value| review::verdict(&json!({"status": status})).decision;
    assert_eq!(decision(json!({"allowed": true})), Decision::Allow);
    assert_eq!(decision(json!({"allowed": false})), Decision::NoOpinion);
    assert_eq!(decision(json!({"denied": true})), Decision::Deny);
    assert_eq!(
        decision(json!({"denied": true, "allowed": true})),
        Decision::Deny
    );
    assert_eq!(decision(Value::Null), Decision::NoOpinion);
}

#[test]
fn one_condition_that_fails_outweighs_those_without_a_value() {
    let hold = |expressions: &[&str]| {
        let mut conditions = super::Conditions::default();
        for expression in expressions {
            conditions.add(expression).expect("compiles");
        }
        conditions.hold(&review::spec(&Attributes::resource(
            &jane(),
            "get",
            "",
            "pods",
        )))
    };
    let (yes, no) = ("request.user == 'jane'", "'ops' in request.groups");
    let broken = "request.extra['x'][0] == 'y'";
    assert_eq!(hold(&[]), Ok(true));
    assert_eq!(
        hold(&[yes, "request.resourceAttributes.name == ''"]),
        Ok(true)
    );
    assert_eq!(hold(&[broken, no]), Ok(false));
    expect!["cel evaluation error: expression 'request.extra['x'][0] == 'y'' resulted in error: no such key: x"].assert_eq(&hold(&[yes, broken]).expect_err("has no value"));
}

#[test]
fn a_decision_is_made_again_until_it_has_asked_for_nothing_new() {
    let (first, second) = (
        Attributes::resource(&jane(), "get", "", "pods"),
        Attributes::resource(&jane(), "list", "", "pods"),
    );
    let mut asked = Asked::default();
    let mut rounds = 0;
    let allowed = loop {
        rounds += 1;
        let result = asked.authorize(&first).is_allowed() && asked.authorize(&second).is_allowed();
        let open = asked.take_open();
        if open.is_empty() {
            break result;
        }
        for question in open {
            asked.know(question, Verdict::allow(""));
        }
    };
    assert_eq!((rounds, allowed), (3, true));
}
