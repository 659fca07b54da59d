//! What webhooks are asked, and what their answers mean.

use machinery::Object;
use serde_json::{Value, json};

use crate::User;
use crate::admission::Operation;
use crate::admission::review::{Answer, Question, Unusable, version};
use crate::admission::rules::Name;

fn read(response: Value, mutating: bool) -> Result<Answer, Unusable> {
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Answer::read(review.to_string().as_bytes(), "v1", "u", mutating)
}

fn invalid(response: Value, mutating: bool) -> String {
    match read(response, mutating) {
        Err(Unusable::Invalid(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_question_says_all_that_is_known() {
    let name = Name {
        group: "apps",
        version: "v1",
        resource: "deployments",
    };
    let object = Object::from_value(json!({"metadata": {"name": "a"}})).expect("an object");
    let question = Question {
        uid: "u",
        resource: name,
        kind: ("apps", "v1", "Deployment"),
        request_resource: name,
        request_kind: ("apps", "v1", "Deployment"),
        subresource: "",
        name: "a",
        namespace: "b",
        operation: Operation::Create,
        user: &User::new("me", &["us"]),
        object: Some(&object),
        old: None,
        dry_run: false,
        options: &json!({"kind": "CreateOptions"}),
    };
    let encoded: Value = serde_json::from_slice(&question.encode("v1")).expect("JSON");
    let resource = json!({"group": "apps", "version": "v1", "resource": "deployments"});
    let kind = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    let wanted = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u", "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
            "name": "a", "namespace": "b", "operation": "CREATE", "userInfo": {"username": "me", "groups": ["us"]},
            "object": {"metadata": {"name": "a"}}, "oldObject": null, "dryRun": false,
            "options": {"kind": "CreateOptions"},
        },
    });
    assert_eq!(encoded, wanted);
}

#[test]
fn the_first_version_that_both_know_is_spoken() {
    let first = |known: &[&str]| {
        let known: Vec<String> = known.iter().map(|v| (*v).to_owned()).collect();
        version(&known)
    };
    assert_eq!(first(&["v2", "v1beta1", "v1"]), Some("v1beta1"));
    assert_eq!(first(&["v2"]), None);
}

#[test]
fn an_answer_must_fit_its_question() {
    for (response, mutating, why) in [
        (Value::Null, true, "webhook response was absent"),
        (
            json!({"uid": "v"}),
            true,
            r#"expected response.uid="u", got "v""#,
        ),
        (
            json!({"uid": "u", "patch": "W10="}),
            true,
            "webhook returned response.patch but not response.patchType",
        ),
        (
            json!({"uid": "u", "patchType": "JSONPatch"}),
            true,
            "webhook returned response.patchType but not response.patch",
        ),
        (
            json!({"uid": "u", "patch": "W10=", "patchType": "JSONPatch"}),
            false,
            "validating webhook may not return response.patch",
        ),
        (
            json!({"uid": "u", "patch": "W10=", "patchType": "Merge"}),
            true,
            r#"unsupported patch type "Merge""#,
        ),
    ] {
        assert_eq!(invalid(response, mutating), why);
    }
    let answer = Answer::read(br#"{"response": {"uid": "u"}}"#, "v1", "u", true);
    let why =
        "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=";
    assert_eq!(
        answer.expect_err("invalid"),
        Unusable::Invalid(why.to_owned())
    );
    let old = br#"{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview"}"#;
    let why = "converting (v1beta1.AdmissionReview) to (v1.AdmissionReview): unknown conversion";
    let answer = Answer::read(old, "v1", "u", true).expect_err("undecodable");
    assert_eq!(answer, Unusable::Undecodable(why.to_owned()));
}

#[test]
fn a_refusal_is_told_in_the_webhooks_words() {
    let told = |status: Value| {
        let answer = read(
            json!({"uid": "u", "allowed": false, "status": status}),
            false,
        );
        let error = answer.expect("an answer").refusal("a.b.c");
        (error.code, error.reason, error.message)
    };
    let denied = r#"admission webhook "a.b.c" denied the request"#;
    assert_eq!(
        told(Value::Null),
        (400, "", format!("{denied} without explanation"))
    );
    assert_eq!(
        told(json!({"code": 200, "reason": "Forbidden", "status": "Success"})),
        (400, "Forbidden", format!("{denied}: Forbidden"))
    );
    assert_eq!(
        told(json!({"code": 418, "message": "no tea", "reason": "Pot"})),
        (418, "", format!("{denied}: no tea"))
    );
}

#[test]
fn a_patch_may_be_a_list_of_numbers() {
    let with = |patch: serde_json::Value| {
        let response =
            json!({"uid": "u", "allowed": true, "patch": patch, "patchType": "JSONPatch"});
        read(response, true)
    };
    let answer = with(json!([91, 93])).expect("an answer");
    assert_eq!(answer.patch.as_deref(), Some(&b"[]"[..]));
    for wrong in [json!([256]), json!(["a"]), json!({}), json!(1), json!(true)] {
        assert!(matches!(
            with(wrong).expect_err("no bytes"),
            Unusable::Undecodable(_)
        ));
    }
}

#[test]
fn a_patch_warnings_and_annotations_are_handed_on() {
    let response = json!({
        "uid": "u", "allowed": true, "patch": "W10=", "patchType": "JSONPatch", "warnings": ["beware"],
        "auditAnnotations": {"k": "v"},
    });
    let answer = read(response, true).expect("an answer");
    assert!(answer.allowed);
    assert_eq!(answer.patch.as_deref(), Some(&b"[]"[..]));
    assert_eq!(answer.warnings, ["beware"]);
    assert_eq!(answer.audit_annotations, [("k".to_owned(), "v".to_owned())]);
}
