//! An answer without what differs from run to run, in one line.

use std::fmt;

use api::AnyKind;
use serde_json::{Map, Value, json};

use super::cases::Case;

/// The volume of a pod's token has a name that is made up.
const MOUNT: &str = "kube-api-access-";
/// Answers longer than this are kept as their beginning and a number that follows from all of it.
const LONGEST: usize = 320;

/// An answer as facts keep it: the code, and for a refusal its reason and message, else how the object differs.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    kept: String,
    /// The whole of it, where this run was answered.
    whole: String,
}

impl PartialEq for Shown {
    fn eq(&self, other: &Self) -> bool {
        self.kept == other.kept
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kept)
    }
}

/// The answer, and what stands for it.
fn short(whole: String) -> Shown {
    if whole.len() <= LONGEST {
        return Shown::kept(whole);
    }
    let number = whole
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |number, byte| {
            (number ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    let mut end = LONGEST;
    while !whole.is_char_boundary(end) {
        end -= 1;
    }
    Shown {
        kept: format!("{} .. #{number:016x}", &whole[..end]),
        whole,
    }
}

impl Shown {
    /// What a file of facts says.
    pub(super) fn kept(text: String) -> Self {
        Self {
            kept: text.clone(),
            whole: text,
        }
    }

    /// All of it that is known.
    pub(super) fn whole(&self) -> &str {
        &self.whole
    }
}

impl Shown {
    /// `made` is the object that the plain create has made: others are told by how they differ from it.
    pub(super) fn of(
        kind: &dyn AnyKind,
        case: &Case,
        code: u16,
        body: &Value,
        made: Option<&Value>,
    ) -> Self {
        if code >= 300 {
            return short(format!("{code} {}", refusal(kind, body)));
        }
        let mut object = neutral(body.clone());
        let empty = json!({});
        let base = match case {
            Case::Create => &empty,
            _ => made.unwrap_or(&empty),
        };
        let shown = match case {
            Case::Table => table(&mut object),
            _ => difference(base, &object),
        };
        short(format!("{code} {shown}"))
    }
}

impl Shown {
    /// The answer to a request that is about no object in particular.
    pub(super) fn plain(code: u16, body: &Value, warnings: &[String]) -> Self {
        let warnings: Vec<String> = warnings.iter().map(|text| format!(" W {text}")).collect();
        let warnings = warnings.concat();
        if code >= 300 || code == 0 {
            let reason = body["reason"].as_str().unwrap_or("");
            let message = without_document(body["message"].as_str().unwrap_or(""));
            let message = blurred(&message).escape_debug().to_string();
            return short(format!("{code} {reason} {message}{warnings}"));
        }
        short(format!("{code} {}{warnings}", neutral(body.clone())))
    }
}

impl Shown {
    /// The same, with the owners of fields: in the order of their names, as times are of this run.
    pub(super) fn owned(code: u16, body: &Value, warnings: &[String]) -> Self {
        let mut body = body.clone();
        let metadata = body.get_mut("metadata").and_then(Value::as_object_mut);
        if let Some(metadata) = metadata
            && let Some(Value::Array(mut owners)) = metadata.remove("managedFields")
        {
            owners.sort_by_key(|owner| {
                let text = |key: &str| owner[key].as_str().unwrap_or("").to_owned();
                ["manager", "operation", "subresource", "apiVersion"].map(text)
            });
            metadata.insert("owners".to_owned(), owners.into());
        }
        Self::plain(code, &body, warnings)
    }
}

fn refusal(kind: &dyn AnyKind, body: &Value) -> String {
    let text = |key: &str| body[key].as_str().unwrap_or("").to_owned();
    let names = kind.names();
    let name = body["details"]["name"].as_str().unwrap_or("");
    let subject = match names.group {
        "" => format!("{} {name:?} is invalid: ", names.kind),
        group => format!("{}.{group} {name:?} is invalid: ", names.kind),
    };
    let message = without_document(&text("message").replace(&subject, "~ "));
    let causes = body["details"]["causes"].as_array().map_or(0, Vec::len);
    format!(
        "{} {causes} {}",
        text("reason"),
        blurred(&message).escape_debug()
    )
}

/// A refused patch is told with the whole object that it would have made: its times and versions are of this run.
fn without_document(message: &str) -> String {
    const BEFORE: &str = "patch: Invalid value: \"";
    let Some((head, rest)) = message.split_once(BEFORE) else {
        return message.to_owned();
    };
    let why = rest
        .split_once("}\": ")
        .or_else(|| rest.split_once("]\": "));
    why.map_or(message.to_owned(), |(_, why)| {
        format!("{head}{BEFORE}*\": {why}")
    })
}

/// A message without the UIDs, addresses and versions of this run.
fn blurred(message: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let mut out = String::new();
    let mut rest = message;
    while let Some(start) = rest.find(is_word) {
        let end = rest[start..]
            .find(|c| !is_word(c))
            .map_or(rest.len(), |at| start + at);
        let word = &rest[start..end];
        out.push_str(&rest[..start]);
        let counts = word.bytes().all(|b| b.is_ascii_digit())
            && (out.ends_with("record (") || out.ends_with("current: "));
        let own = counts || is_of_this_run(word);
        out.push_str(if own { "*" } else { word });
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

fn is_of_this_run(word: &str) -> bool {
    let parts: Vec<usize> = word.split('-').map(str::len).collect();
    let is_hex = |c: char| c.is_ascii_hexdigit() || c == '-';
    let is_uid = parts == [8, 4, 4, 4, 12] && word.chars().all(is_hex);
    // Those of the list that is written by hand are told from those that are given out.
    let by_hand = ["10.96.0.1", "10.96.0.77", "10.96.255.255"];
    let is_given = word.starts_with("10.96.") && !by_hand.contains(&word);
    is_uid || is_given || word.starts_with(MOUNT)
}

/// Columns and cells: ages are those of a moment ago.
fn table(table: &mut Value) -> Value {
    let columns = table["columnDefinitions"].take();
    let cells: Vec<Value> = table["rows"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| row["cells"].clone())
        .collect();
    let heads: Vec<Value> = columns
        .as_array()
        .into_iter()
        .flatten()
        .map(|column| {
            json!([
                column["name"],
                column["type"],
                column["format"],
                column["priority"]
            ])
        })
        .collect();
    let mut rows = json!(cells);
    blur_ages(&mut rows);
    json!({"heads": heads, "rows": rows})
}

fn blur_ages(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(blur_ages),
        Value::String(text) => {
            if is_age(text) || is_recent(text) {
                *text = "AGE".to_owned();
            } else if is_of_this_run(text) {
                *text = "*".to_owned();
            }
        }
        _ => {}
    }
}

/// An age of some seconds.
fn is_age(text: &str) -> bool {
    let number = text.strip_suffix('s').unwrap_or_default();
    matches!(number.len(), 1 | 2) && number.bytes().all(|b| b.is_ascii_digit())
}

/// The object without what no two servers have in common.
pub(super) fn neutral(mut value: Value) -> Value {
    blur(&mut value);
    value
}

fn blur(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("managedFields");
            for (key, inner) in map.iter_mut() {
                if key == "cells" {
                    let cells = inner.as_array_mut().into_iter().flatten();
                    let ages = cells.filter(|cell| cell.as_str().is_some_and(is_age));
                    ages.for_each(|age| *age = "0s".into());
                    continue;
                }
                let random = match key.as_str() {
                    "uid" | "resourceVersion" | "continue" | "selfLink" => inner.is_string(),
                    "clusterIP" | "nodePort" | "healthCheckNodePort" => {
                        inner != "None" && inner != "" && !inner.is_object()
                    }
                    "clusterIPs" => inner != &json!(["None"]),
                    _ => inner.as_str().is_some_and(is_recent),
                };
                if random || inner.as_str().is_some_and(is_of_this_run) {
                    *inner = "*".into();
                } else if inner.as_str().is_some_and(|s| s.starts_with(MOUNT)) {
                    *inner = format!("{MOUNT}*").into();
                } else {
                    blur(inner);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(blur),
        _ => {}
    }
}

/// A time of this century's third decade that no request names: requests are of 2030 and later.
fn is_recent(text: &str) -> bool {
    text.len() >= 20
        && text.starts_with("202")
        && text.as_bytes()[10] == b'T'
        && text.ends_with('Z')
}

/// The merge patch that makes one of the other.
fn difference(from: &Value, to: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (from, to) else {
        return to.clone();
    };
    let mut patch = Map::new();
    for (key, value) in new {
        match old.get(key) {
            Some(before) if before == value => {}
            Some(before) if before.is_object() && value.is_object() => {
                patch.insert(key.clone(), difference(before, value));
            }
            _ => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}
