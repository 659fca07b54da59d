//! Hashes that become parts of names and labels, as `pod-template-hash`.
//!
//! Same function and alphabet as upstream (FNV-1a over 32 bits, `rand.SafeEncodeString`); the hashed text is canonical
//! JSON instead of Go's dump of a struct, so the values differ from upstream's and are stable.

use serde_json::Value;

/// The letters of generated names: no vowels, so no words.
pub const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

const OFFSET: u32 = 0x811c_9dc5;
const PRIME: u32 = 0x0100_0193;

/// FNV-1a, 32 bits.
pub fn fnv32a(bytes: &[u8]) -> u32 {
    fnv32a_from(OFFSET, bytes)
}

fn fnv32a_from(start: u32, bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(start, |hash, b| (hash ^ u32::from(*b)).wrapping_mul(PRIME))
}

/// Maps each character into [`ALPHABET`].
pub fn safe_encode(text: &str) -> String {
    let letter = |b: u8| char::from(ALPHABET[usize::from(b) % ALPHABET.len()]);
    text.bytes().map(letter).collect()
}

/// A name suffix of `length` letters made from random numbers that the caller draws.
pub fn random_suffix(length: usize, mut draw: impl FnMut() -> u32) -> String {
    let letter = |n: u32| char::from(ALPHABET[n as usize % ALPHABET.len()]);
    (0..length).map(|_| letter(draw())).collect()
}

/// The hash of a template; a collision count that is set goes into it.
pub fn template_hash(template: &Value, collision_count: Option<i32>) -> String {
    let mut text = String::new();
    write_canonical(template, &mut text);
    let mut hash = fnv32a(text.as_bytes());
    if let Some(count) = collision_count {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&count.to_le_bytes());
        hash = fnv32a_from(hash, &bytes);
    }
    safe_encode(&hash.to_string())
}

/// JSON with sorted keys and without nulls.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().filter(|(_, v)| !v.is_null()).collect();
            entries.sort_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (i, (key, value)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hashes_are_stable() {
        assert_eq!(fnv32a(b""), 0x811c_9dc5);
        assert_eq!(fnv32a(b"foobar"), 0xbf9c_f968);
        assert_eq!(safe_encode("0123456789"), "456789bcdf");
        let template = json!({"b": 1, "a": [{"x": null}]});
        let same = json!({"a": [{}], "b": 1, "c": null});
        assert_eq!(template_hash(&template, None), template_hash(&same, None));
        assert_ne!(
            template_hash(&template, None),
            template_hash(&template, Some(1))
        );
        assert_eq!(random_suffix(5, || 0), "bbbbb");
    }
}
