//! `metadata.managedFields`: who owns what, since when.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::set::FieldSet;
use crate::time;

/// How a manager writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Everything else.
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// What makes two writes those of one manager.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManagerId {
    /// The name, `fieldManager` of the request.
    pub manager: String,
    /// How it writes.
    pub operation: Operation,
    /// The version it writes in; empty for [`Operation::Apply`], whose entries follow the version.
    pub api_version: String,
    /// The sub-resource it writes to, or empty.
    pub subresource: String,
}

impl ManagerId {
    /// As conflict messages show it.
    pub fn describe(&self) -> String {
        let mut out = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            out.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            out.push_str(&format!(" using {}", self.api_version));
        }
        out
    }
}

/// What one manager owns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owned {
    /// The version that the paths are of.
    pub api_version: String,
    /// The paths.
    pub set: FieldSet,
    /// When it last changed something, as written.
    pub time: Option<String>,
}

/// All managers of an object.
pub type Managers = BTreeMap<ManagerId, Owned>;

/// Reads `managedFields`.
///
/// # Errors
/// An entry is malformed; upstream's wording.
pub(super) fn decode(entries: &[Value]) -> Result<Managers, String> {
    let mut managers = Managers::new();
    for (index, entry) in entries.iter().enumerate() {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or("");
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".to_owned()),
        };
        let api_version = text("apiVersion");
        if api_version.is_empty() {
            return Err("apiVersion must not be empty".to_owned());
        }
        match text("fieldsType") {
            "FieldsV1" => {}
            "" => {
                return Err(format!(
                    "missing fieldsType in managed fields entry {index}"
                ));
            }
            other => {
                return Err(format!(
                    "invalid fieldsType {other:?} in managed fields entry {index}"
                ));
            }
        }
        let empty = json!({});
        let fields = entry.get("fieldsV1").filter(|f| !f.is_null());
        let set = FieldSet::decode(fields.unwrap_or(&empty))
            .map_err(|e| format!("error decoding set: {e}"))?;
        let id = ManagerId {
            manager: text("manager").to_owned(),
            operation,
            api_version: match operation {
                Operation::Apply => String::new(),
                Operation::Update => api_version.to_owned(),
            },
            subresource: text("subresource").to_owned(),
        };
        let time = entry.get("time").and_then(Value::as_str).map(str::to_owned);
        let api_version = api_version.to_owned();
        managers.insert(
            id,
            Owned {
                api_version,
                set,
                time,
            },
        );
    }
    Ok(managers)
}

/// The time of an entry in seconds; none counts as the epoch.
fn seconds(owned: &Owned) -> i64 {
    let time = owned.time.as_deref().and_then(time::parse);
    time.map_or(0, |t| t.as_second())
}

/// Writes `managedFields`: appliers first, then by time and name.
pub(super) fn encode(managers: &Managers) -> Vec<Value> {
    let mut sorted: Vec<_> = managers.iter().collect();
    sorted.sort_by(|(a, x), (b, y)| {
        (
            a.operation,
            seconds(x),
            &a.manager,
            &x.api_version,
            &a.subresource,
        )
            .cmp(&(
                b.operation,
                seconds(y),
                &b.manager,
                &y.api_version,
                &b.subresource,
            ))
    });
    let entry = |(id, owned): (&ManagerId, &Owned)| {
        let mut entry = Map::new();
        let mut put = |key: &str, value: &str| {
            if !value.is_empty() {
                entry.insert(key.to_owned(), value.into());
            }
        };
        put("manager", &id.manager);
        put("operation", id.operation.as_str());
        put("apiVersion", &owned.api_version);
        put("time", owned.time.as_deref().unwrap_or(""));
        put("fieldsType", "FieldsV1");
        put("subresource", &id.subresource);
        entry.insert("fieldsV1".to_owned(), owned.set.encode());
        Value::Object(entry)
    };
    sorted.into_iter().map(entry).collect()
}

/// More managers that update than this are rolled up.
const MAX_UPDATERS: usize = 10;

/// Rolls the oldest updaters of each version up into one, called `ancient-changes`.
pub(super) fn cap(managers: &mut Managers) {
    if managers.len() <= MAX_UPDATERS {
        return;
    }
    let mut updaters: Vec<ManagerId> = managers
        .keys()
        .filter(|id| id.operation == Operation::Update)
        .cloned()
        .collect();
    let mut count = updaters.len();
    updaters.sort_by_key(|id| (managers.get(id).map_or(0, seconds), id.clone()));
    let mut first_of: BTreeMap<String, ManagerId> = BTreeMap::new();
    for id in updaters {
        if count <= MAX_UPDATERS {
            return;
        }
        let bucket = ManagerId {
            manager: "ancient-changes".to_owned(),
            operation: Operation::Update,
            api_version: id.api_version.clone(),
            subresource: String::new(),
        };
        let Some(first) = first_of.get(&id.api_version) else {
            first_of.insert(id.api_version.clone(), id);
            continue;
        };
        if !managers.contains_key(&bucket)
            && let Some(owned) = managers.remove(first)
        {
            managers.insert(bucket.clone(), owned);
        }
        if id == bucket {
            continue;
        }
        if let Some(owned) = managers.remove(&id) {
            let all = managers.entry(bucket).or_default();
            all.set.extend(&owned.set);
            all.time = owned.time;
            all.api_version = owned.api_version;
            count -= 1;
        }
    }
}
