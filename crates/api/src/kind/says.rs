//! Whether a tree is just what its typed view is written as. Then there is nothing to bring from one to the other, and no
//! second tree has to be made to find that out.

use std::fmt;

use serde::Serialize;
use serde::ser::{self, Impossible, Serializer, StdError};
use serde_json::{Map, Value, map};

/// Whether `view` is written as `tree`, no more and no less; numbers are the same when their values are. "No" may be wrong:
/// of what no kind has it knows nothing.
pub(super) fn says(view: &impl Serialize, tree: &Value) -> bool {
    view.serialize(Expected::Value(tree)).is_ok()
}

/// They differ, or may.
#[derive(Debug)]
struct Differs;

type Answer = Result<(), Differs>;

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("they differ")
    }
}

impl StdError for Differs {}

impl ser::Error for Differs {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

fn equal(is: bool) -> Answer {
    if is { Ok(()) } else { Err(Differs) }
}

/// What should be written.
enum Expected<'a> {
    Value(&'a Value),
    /// As the key of a map.
    Key(&'a str),
}

impl<'a> Expected<'a> {
    fn value(self) -> Option<&'a Value> {
        match self {
            Self::Value(value) => Some(value),
            Self::Key(_) => None,
        }
    }

    fn number(self, number: f64) -> Answer {
        equal(self.value().and_then(Value::as_f64) == Some(number))
    }

    fn null(self) -> Answer {
        equal(self.value().is_some_and(Value::is_null))
    }

    fn fields(self) -> Result<&'a Map<String, Value>, Differs> {
        self.value().and_then(Value::as_object).ok_or(Differs)
    }
}

impl<'a> Serializer for Expected<'a> {
    type Ok = ();
    type Error = Differs;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Impossible<(), Differs>;
    type SerializeTupleStruct = Impossible<(), Differs>;
    type SerializeTupleVariant = Impossible<(), Differs>;
    type SerializeMap = Pairs<'a>;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Impossible<(), Differs>;

    fn serialize_bool(self, v: bool) -> Answer {
        equal(self.value().and_then(Value::as_bool) == Some(v))
    }
    fn serialize_i8(self, v: i8) -> Answer {
        self.number(v.into())
    }
    fn serialize_i16(self, v: i16) -> Answer {
        self.number(v.into())
    }
    fn serialize_i32(self, v: i32) -> Answer {
        self.number(v.into())
    }
    fn serialize_i64(self, v: i64) -> Answer {
        self.number(v as f64)
    }
    fn serialize_u8(self, v: u8) -> Answer {
        self.number(v.into())
    }
    fn serialize_u16(self, v: u16) -> Answer {
        self.number(v.into())
    }
    fn serialize_u32(self, v: u32) -> Answer {
        self.number(v.into())
    }
    fn serialize_u64(self, v: u64) -> Answer {
        self.number(v as f64)
    }
    fn serialize_f32(self, v: f32) -> Answer {
        self.number(v.into())
    }
    fn serialize_f64(self, v: f64) -> Answer {
        self.number(v)
    }
    fn serialize_char(self, _: char) -> Answer {
        Err(Differs)
    }
    fn serialize_str(self, v: &str) -> Answer {
        equal(match self {
            Self::Value(value) => value.as_str() == Some(v),
            Self::Key(key) => key == v,
        })
    }
    fn serialize_bytes(self, _: &[u8]) -> Answer {
        Err(Differs)
    }
    fn serialize_none(self) -> Answer {
        self.null()
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Answer {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Answer {
        self.null()
    }
    fn serialize_unit_struct(self, _: &'static str) -> Answer {
        Err(Differs)
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Answer {
        self.serialize_str(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Answer {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Answer {
        Err(Differs)
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'a>, Differs> {
        let items = self.value().and_then(Value::as_array).ok_or(Differs)?;
        Ok(Items(items.iter()))
    }
    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Differs> {
        Err(Differs)
    }
    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Differs> {
        Err(Differs)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Differs> {
        Err(Differs)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Pairs<'a>, Differs> {
        let pairs = self.fields()?.iter();
        Ok(Pairs { pairs, value: None })
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields<'a>, Differs> {
        let fields = self.fields()?;
        Ok(Fields { fields, met: 0 })
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Differs> {
        Err(Differs)
    }
}

/// The elements of a list that should follow.
struct Items<'a>(std::slice::Iter<'a, Value>);

impl ser::SerializeSeq for Items<'_> {
    type Ok = ();
    type Error = Differs;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Answer {
        value.serialize(Expected::Value(self.0.next().ok_or(Differs)?))
    }
    fn end(mut self) -> Answer {
        equal(self.0.next().is_none())
    }
}

/// The pairs of a map that should follow, in the order of their keys, which typed maps have too.
struct Pairs<'a> {
    pairs: map::Iter<'a>,
    value: Option<&'a Value>,
}

impl ser::SerializeMap for Pairs<'_> {
    type Ok = ();
    type Error = Differs;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Answer {
        let (expected, value) = self.pairs.next().ok_or(Differs)?;
        self.value = Some(value);
        key.serialize(Expected::Key(expected))
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Answer {
        value.serialize(Expected::Value(self.value.take().ok_or(Differs)?))
    }
    fn end(mut self) -> Answer {
        equal(self.pairs.next().is_none())
    }
}

/// The fields of a struct, and how many of them have come.
struct Fields<'a> {
    fields: &'a Map<String, Value>,
    met: usize,
}

impl ser::SerializeStruct for Fields<'_> {
    type Ok = ();
    type Error = Differs;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Answer {
        self.met += 1;
        value.serialize(Expected::Value(self.fields.get(key).ok_or(Differs)?))
    }
    fn end(self) -> Answer {
        equal(self.met == self.fields.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use proptest::prelude::*;
    use serde_json::json;

    fn pod(image: &str, seconds: Option<i64>, labels: &[String], port: i32) -> Value {
        let labels: Map<String, Value> = labels.iter().map(|l| (l.clone(), json!(l))).collect();
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": labels},
            "spec": {
                "containers": [{"name": "c", "image": image, "ports": [{"containerPort": port}]}],
                "tolerations": [{"tolerationSeconds": seconds}],
            },
        })
    }

    #[test]
    fn a_tree_with_more_or_less_than_its_view_is_another() {
        let tree = |more: &str| -> Value {
            serde_json::from_str(&format!(
                r#"{{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{}}, "data": {{"a": "b"}} {more}}}"#
            ))
            .unwrap()
        };
        let same = |tree: &Value, other: &Value| {
            let view: ConfigMap = serde_json::from_value(tree.clone()).unwrap();
            says(&view, other)
        };
        assert!(same(&tree(""), &tree("")));
        assert!(!same(&tree(r#", "immutable": true"#), &tree("")));
        assert!(!same(&tree(""), &tree(r#", "immutable": true"#)));
        assert!(!same(&tree(""), &tree(r#", "stray": 1"#)));
    }

    proptest! {
        #[test]
        fn it_is_right_when_it_says_that_they_are_the_same(
            image in "[ab]{0,1}", other in "[ab]{0,1}", seconds in prop::option::of(0..2_i64),
            labels in prop::collection::vec("[ab]", 0..3), others in prop::collection::vec("[ab]", 0..3), port in 1..3_i32,
        ) {
            let first = pod(&image, seconds, &labels, port);
            let second = pod(&other, seconds, &others, 1);
            let view: Pod = serde_json::from_value(first).unwrap();
            let written = serde_json::to_value(&view).unwrap();
            prop_assert!(says(&view, &written));
            prop_assert_eq!(says(&view, &second), written == second);
        }
    }
}
