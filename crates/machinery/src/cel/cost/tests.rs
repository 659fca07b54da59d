use serde_json::{Value, json};

use crate::structural::Structural;

fn cost(mut schema: Value, rule: &str) -> u64 {
    schema["x-kubernetes-validations"] = json!([{"rule": rule}]);
    let schema = Structural::read(&schema);
    schema.rules()[0].compile(&schema).unwrap().cost
}

fn object(properties: Value) -> Value {
    json!({"type": "object", "properties": properties})
}

/// The figures are those that the reference's own tests of estimates have.
#[test]
fn estimates_are_those_of_the_reference() {
    let list = |most: Value| {
        let mut list = json!({"type": "array", "items": {"type": "integer"}});
        if !most.is_null() {
            list["maxItems"] = most;
        }
        object(json!({"x": list}))
    };
    let text = |most: Option<i64>| {
        let mut text = json!({"type": "string"});
        if let Some(most) = most {
            text["maxLength"] = most.into();
        }
        object(json!({"x": text}))
    };
    for (schema, rule, wanted) in [
        (object(json!({"x": {"type": "integer"}})), "self.x > 1", 3),
        (
            list(json!(10)),
            "self.x.all(i, i > 0)",
            2 + 1 + 10 * (2 + 1 + 2),
        ),
        (text(Some(10)), "self.x.startsWith('ab')", 2 + 1),
        (text(Some(10)), "self.x == 'ab'", 2 + 1),
        (text(Some(10)), "self.x.matches('abcd')", 2 + 5),
        (text(Some(10)), "self.x.contains('ab')", 2 + 4),
        (text(Some(10)), "self.x.size() > 1", 2 + 1 + 1),
    ] {
        assert_eq!(cost(schema, rule), wanted, "{rule}");
    }
    // Without bounds the size of a request is one.
    let items = (3 * 1024 * 1024 - 2) / 2;
    assert_eq!(
        cost(list(Value::Null), "self.x.all(i, i > 0)"),
        2 + 1 + items * 5
    );
    let letters: u64 = 3 * 1024 * 1024 - 2;
    assert_eq!(
        cost(text(None), "self.x.contains(self.x)"),
        4 + letters.div_ceil(10).pow(2)
    );
}

#[test]
fn estimates_do_not_overflow() {
    let nested = json!({"type": "array", "items": {"type": "array", "items": {"type": "string"}}});
    let rule = "self.x.all(a, self.x.all(b, self.x.all(c, self.x.all(d, a == b && c == d && a.map(y, y + y).join('') == ''))))";
    assert!(cost(object(json!({"x": nested})), rule) > 1 << 40);
}
