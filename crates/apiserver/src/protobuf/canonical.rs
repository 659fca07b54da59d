//! The one way in which an object is written: as Go's JSON writes a typed one.
//!
//! What is empty and need not be told is left out; what is always told is there, be it empty. So an object is stored and
//! shown the same, whatever its writer spelled out, and an update that spells out nothing new changes nothing.
//! Which fields are always told stands in `fields.txt`, taken from the JSON tags of `k8s.io/api`.

use machinery::Object;
use serde_json::{Map, Value};

use super::MAX_DEPTH;
use super::table::{self, Absent, Field, Message, Type};

/// Writes an object of one of the program's kinds as a stock server would.
pub(crate) fn settle(object: &mut Object) {
    if let Some(message) = table::of_kind(object.api_version(), object.kind()) {
        message_fields(message.get(), &mut object.0, 0);
    }
}

fn message_fields(message: &Message, map: &mut Map<String, Value>, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    for field in &message.fields {
        match (&field.of, field.name) {
            (Type::Message(inner), "-") => message_fields(inner.get(), map, depth),
            _ => one_field(field, map, depth),
        }
    }
}

fn one_field(field: &Field, map: &mut Map<String, Value>, depth: usize) {
    if let Some(value) = map.get_mut(field.name).filter(|value| !value.is_null()) {
        inside(&field.of, value, depth);
        if field.keeps_zero || field.absent == Absent::Zero || !is_empty(&field.of, value) {
            return;
        }
    }
    let value = match field.absent {
        Absent::Zero => match field.of {
            Type::Quantity => "0".into(),
            Type::IntOrString => 0.into(),
            _ => field.of.zero(),
        },
        Absent::Null => Value::Null,
        Absent::Object => {
            let mut value = Value::Object(Map::new());
            inside(&field.of, &mut value, depth);
            value
        }
        Absent::Omitted => {
            map.remove(field.name);
            return;
        }
    };
    map.insert(field.name.to_owned(), value);
}

/// Whether a value says no more than none. A message, a time or a quantity that is there says something.
fn is_empty(of: &Type, value: &Value) -> bool {
    match (of, value) {
        (Type::String | Type::Bytes, Value::String(text)) => text.is_empty(),
        (Type::Bool, Value::Bool(is)) => !is,
        (Type::Int | Type::Float, Value::Number(number)) => number.as_f64() == Some(0.0),
        (Type::List(_), Value::Array(items)) => items.is_empty(),
        (Type::Map(_), Value::Object(map)) => map.is_empty(),
        _ => false,
    }
}

fn inside(of: &Type, value: &mut Value, depth: usize) {
    match (of, value) {
        (Type::Message(message), Value::Object(map)) => {
            message_fields(message.get(), map, depth + 1);
        }
        (Type::List(of), Value::Array(items)) => {
            items
                .iter_mut()
                .for_each(|item| inside(of, item, depth + 1));
        }
        (Type::Map(of), Value::Object(map)) => {
            map.values_mut()
                .for_each(|item| inside(of, item, depth + 1));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settled(object: Value) -> Value {
        let mut object = Object::from_value(object).expect("an object");
        settle(&mut object);
        object.into_value()
    }

    #[test]
    fn what_is_empty_is_left_out_and_what_is_always_told_is_there() {
        let event = settled(json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "labels": {}, "uid": ""},
            "involvedObject": {}, "count": 0,
        }));
        assert_eq!(
            event,
            json!({
                "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": {}, "source": {},
                "firstTimestamp": null, "lastTimestamp": null, "eventTime": null, "reportingComponent": "",
                "reportingInstance": "",
            })
        );
    }

    #[test]
    fn a_zero_that_says_something_stays() {
        let set = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "r"},
            "spec": {"replicas": 0, "minReadySeconds": 0, "selector": {"matchLabels": {}}},
        });
        assert_eq!(
            settled(set)["spec"],
            json!({"replicas": 0, "selector": {}, "template": {"metadata": {}, "spec": {"containers": null}}})
        );
    }
}
