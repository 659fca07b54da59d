use machinery::cel::Val;
use serde_json::{Value, json};

use super::conditions::{Condition, Matched, check};
use super::{Asker, BUDGET, Budget, Compiled, Environment, Facts, Names, Options, Type, request};
use crate::admission::Operation;
use crate::{Attributes, Authorizer, Rules, User, Verdict};

struct OnlyPods;

impl Authorizer for OnlyPods {
    fn authorize(&self, a: &Attributes) -> Verdict {
        let pods = a.is_resource_request && a.resource == "pods" && a.verb == "get";
        match pods || (!a.is_resource_request && a.path == "/healthz") {
            true => Verdict::allow("because"),
            false => Verdict::no_opinion(format!("no {}", a.verb)),
        }
    }

    fn rules_for(&self, _user: &User, _namespace: &str) -> Rules {
        Rules::default()
    }
}

fn facts_of() -> (Value, Value, Value) {
    let names = Names {
        version: "v1",
        resource: "pods",
        kind: "Pod",
        ..Names::default()
    };
    let user = User {
        name: "ann".to_owned(),
        groups: vec!["staff".to_owned()],
        ..User::default()
    };
    let request = request(
        names,
        names,
        "ns",
        "web",
        Operation::Create,
        &user,
        false,
        Value::Null,
    );
    let object =
        json!({"metadata": {"name": "web", "labels": {"a": "b"}}, "spec": {"replicas": 3}});
    let namespace = json!({"metadata": {"name": "ns", "labels": {"team": "x"}}});
    (request, object, namespace)
}

fn evaluate(text: &str) -> String {
    let (request, object, namespace) = facts_of();
    let options = Options {
        params: true,
        authorizer: true,
    };
    let mut environment = Environment::admission(options).composed();
    let variables: Vec<(String, Result<Compiled, String>)> = [
        ("n", "object.spec.replicas"),
        ("twice", "variables.n * 2"),
        ("bad", "object.spec.other"),
        ("wrong", "1 +"),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), environment.compose(name, text)))
    .collect();
    let compiled = match environment.compile(text, &[Type::Bool]) {
        Ok(compiled) => compiled,
        Err(why) => return why,
    };
    let user = User::default();
    let facts = Facts::admission(&request, Some(&object), None, Some(&namespace))
        .with_params(None)
        .with_authorizer(Asker::new(&user, &OnlyPods), &request)
        .with_variables(&variables);
    match super::evaluate(&compiled, &facts, &mut Budget(BUDGET)) {
        Ok(Val::Bool(result)) => result.to_string(),
        Ok(other) => format!("{other:?}"),
        Err(why) => why.to_string(),
    }
}

#[test]
fn expressions_see_the_write() {
    for text in [
        "object.spec.replicas == 3 && oldObject == null && params == null",
        "request.operation == 'CREATE' && request.userInfo.username == 'ann' && 'staff' in request.userInfo.groups",
        "request.resource.resource == 'pods' && request.kind.kind == 'Pod' && !has(request.subResource)",
        "namespaceObject.metadata.labels['team'] == 'x'",
        "variables.twice == 6 && variables.n == 3",
        "authorizer.group('').resource('pods').namespace('ns').name('web').check('get').allowed()",
        "authorizer.group('').resource('pods').check('get').reason() == 'because'",
        "!authorizer.group('apps').resource('deployments').subresource('scale').check('update').allowed()",
        "authorizer.path('/healthz').check('get').allowed() && !authorizer.path('/x').check('get').errored()",
        "authorizer.requestResource.check('get').allowed() && !authorizer.requestResource.check('create').allowed()",
        "authorizer.serviceAccount('ns', 'robot').group('').resource('pods').check('get').allowed()",
        "authorizer.group('').resource('pods').fieldSelector('spec.nodeName=a').labelSelector('a=b').check('get').allowed()",
    ] {
        assert_eq!(evaluate(text), "true", "{text}");
    }
}

#[test]
fn what_is_wrong_is_told() {
    assert_eq!(
        evaluate("object.spec.replicas"),
        "must evaluate to bool but got dyn"
    );
    assert!(evaluate("request.nothing == 1").contains("undefined field 'nothing'"));
    assert!(evaluate("other").contains("undeclared reference to 'other' (in container '')"));
    assert_eq!(
        evaluate("variables.bad == 1"),
        "expression 'variables.bad == 1' resulted in error: composited variable \"bad\" fails to evaluate: no such key: other"
    );
    assert!(evaluate("variables.wrong").starts_with("must evaluate to bool but got dyn"));
    assert_eq!(
        evaluate("authorizer.path(' ').check('get').allowed()"),
        "expression 'authorizer.path(' ').check('get').allowed()' resulted in error: path must not be empty"
    );
}

#[test]
fn one_false_condition_decides() {
    let environment = Environment::admission(Options::default());
    let conditions = |texts: &[&str]| {
        let all = texts.iter().map(|text| Condition {
            name: (*text).to_owned(),
            expression: environment.compile(text, &[Type::Bool]),
        });
        all.collect::<Vec<_>>()
    };
    let told = |texts: &[&str]| {
        let (request, object, _) = facts_of();
        let conditions = conditions(texts);
        check(
            &conditions,
            &Facts::admission(&request, Some(&object), None, None),
        )
    };
    assert_eq!(told(&["true", "object.spec.replicas > 1"]), Matched::Yes);
    assert_eq!(
        told(&["object.x == 1", "false"]),
        Matched::No("false".to_owned())
    );
    assert_eq!(
        told(&["object.x == 1", "true"]),
        Matched::Unknown("expression 'object.x == 1' resulted in error: no such key: x".to_owned())
    );
}
