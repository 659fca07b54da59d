//! Builds the tree and notes the fields that appear twice.

use std::cell::RefCell;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Strict readers stop complaining here.
const MAX_COMPLAINTS: usize = 100;

#[derive(Default)]
pub(super) struct Sink {
    pub(super) duplicates: Vec<String>,
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// Reads one value; knows the way back to the root so that a path costs nothing until it is needed.
pub(super) struct Seed<'a> {
    parent: Option<(&'a Seed<'a>, Step<'a>)>,
    sink: &'a RefCell<Sink>,
}

impl<'a> Seed<'a> {
    pub(super) fn root(sink: &'a RefCell<Sink>) -> Self {
        Self { parent: None, sink }
    }

    fn below<'b>(&'b self, step: Step<'b>) -> Seed<'b> {
        Seed {
            parent: Some((self, step)),
            sink: self.sink,
        }
    }

    fn write_path(&self, out: &mut String) {
        let Some((parent, step)) = &self.parent else {
            return;
        };
        parent.write_path(out);
        match step {
            Step::Key(key) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(key);
            }
            Step::Index(index) => {
                out.push_str(&format!("[{index}]"));
            }
        }
    }

    fn duplicate(&self, key: &str) {
        let mut path = String::new();
        self.below(Step::Key(key)).write_path(&mut path);
        let complaint = format!("duplicate field \"{path}\"");
        let complaints = &mut self.sink.borrow_mut().duplicates;
        if complaints.len() < MAX_COMPLAINTS && !complaints.contains(&complaint) {
            complaints.push(complaint);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        match i64::try_from(value) {
            Ok(value) => Ok(value.into()),
            #[expect(
                clippy::cast_precision_loss,
                reason = "what does not fit is a float, as in Go"
            )]
            Err(_) => self.visit_f64(value as f64),
        }
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Value, E> {
        match i64::try_from(value) {
            Ok(value) => Ok(value.into()),
            #[expect(
                clippy::cast_precision_loss,
                reason = "what does not fit is a float, as in Go"
            )]
            Err(_) => self.visit_f64(value as f64),
        }
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Value, E> {
        match i64::try_from(value) {
            Ok(value) => Ok(value.into()),
            #[expect(
                clippy::cast_precision_loss,
                reason = "what does not fit is a float, as in Go"
            )]
            Err(_) => self.visit_f64(value as f64),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        if value == 0.0 {
            return Ok(0.into());
        }
        let number = Number::from_f64(value);
        number
            .map(Value::Number)
            .ok_or_else(|| E::custom("number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_bytes<E: serde::de::Error>(self, value: &[u8]) -> Result<Value, E> {
        let text = std::str::from_utf8(value).map_err(E::custom)?;
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.below(Step::Index(items.len())))? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                self.duplicate(&key);
            }
            let value = entries.next_value_seed(self.below(Step::Key(&key)))?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// A tree read without a watch for duplicates.
pub(super) struct Plain(pub(super) Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let sink = RefCell::new(Sink::default());
        Seed::root(&sink).deserialize(deserializer).map(Self)
    }
}
