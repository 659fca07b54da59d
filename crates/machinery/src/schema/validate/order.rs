//! Complaints in the order of the document, as a streaming decoder would have made them.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Sorts complaints about fields by where the fields stand in the JSON document they are about.
///
/// The tree forgets the order of keys; complaints are rare enough to read the document again.
pub fn sort_complaints(complaints: &mut [String], json: &[u8]) {
    if complaints.len() < 2 {
        return;
    }
    let wanted = complaints.iter().cloned().collect();
    let mut places = Places {
        wanted,
        found: HashMap::new(),
        path: String::new(),
        next: 0,
    };
    let mut reader = serde_json::Deserializer::from_slice(json);
    // What cannot be read keeps the order it has.
    let _ = Node(&mut places).deserialize(&mut reader);
    let found = places.found;
    complaints.sort_by_key(|complaint| found.get(complaint).copied().unwrap_or(usize::MAX));
}

struct Places {
    wanted: HashSet<String>,
    found: HashMap<String, usize>,
    path: String,
    next: usize,
}

impl Places {
    fn note(&mut self, word: &str) {
        let complaint = format!("{word} field \"{}\"", self.path);
        if self.wanted.contains(&complaint) {
            self.found.entry(complaint).or_insert(self.next);
            self.next += 1;
        }
    }
}

struct Node<'a>(&'a mut Places);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let length = self.0.path.len();
        for index in 0_usize.. {
            self.0.path.push_str(&format!("[{index}]"));
            let more = seq.next_element_seed(Node(self.0))?;
            self.0.path.truncate(length);
            if more.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let length = self.0.path.len();
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if length > 0 {
                self.0.path.push('.');
            }
            self.0.path.push_str(&key);
            let first = seen.insert(key);
            self.0.note(if first { "unknown" } else { "duplicate" });
            map.next_value_seed(Node(self.0))?;
            self.0.path.truncate(length);
        }
        Ok(())
    }
}
