//! EventRateLimit: so many events a second, by server, namespace, user, or source and object.
//!
//! Not one of the table's plug-ins, because it remembers: the server keeps [`Enforcers`] and tells them the time.
//! Behaviour: `plugin/pkg/admission/eventratelimit`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use machinery::{ApiError, ErrorList, Object, Path};
use serde::Deserialize;
use serde_json::Value;

use super::{Operation, Request};

const API_VERSION: &str = "eventratelimit.admission.k8s.io/v1alpha1";
const USUAL_CACHE: usize = 4096;
const TYPES: [&str; 4] = ["Namespace", "Server", "SourceAndObject", "User"];

/// One limit of the operator's file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Limit {
    #[serde(rename = "type")]
    kind: String,
    qps: i32,
    burst: i32,
    cache_size: i32,
}

/// The limits of a document.
///
/// # Errors
/// What is wrong with it, all of it.
pub fn read(file: &Value) -> Result<Vec<Limit>, String> {
    if !file.is_null() {
        super::settings_of(file, API_VERSION, "Configuration")?;
    }
    let limits: Vec<Limit> = match &file["limits"] {
        Value::Null => Vec::new(),
        list => serde_json::from_value(list.clone()).map_err(|e| e.to_string())?,
    };
    let mut errors = ErrorList::new();
    let at = Path::new("limits");
    if limits.is_empty() {
        errors.invalid(&at, Value::Null, "must not be empty");
    }
    for (index, limit) in limits.iter().enumerate() {
        let at = at.index(index);
        if !TYPES.contains(&limit.kind.as_str()) {
            errors.not_supported(&at.child("type"), limit.kind.as_str(), &TYPES);
        }
        for (name, value) in [("burst", limit.burst), ("qps", limit.qps)] {
            if value <= 0 {
                errors.invalid(&at.child(name), value, "must be positive");
            }
        }
        if limit.kind != "Server" && limit.cache_size < 0 {
            let at = at.child("cacheSize");
            errors.invalid(&at, limit.cache_size, "must not be negative");
        }
    }
    match errors.is_empty() {
        true => Ok(limits),
        false => Err(errors.aggregate()),
    }
}

/// All limits, and what has been taken of them.
#[derive(Debug, Default)]
pub struct Enforcers(Vec<Enforcer>);

#[derive(Debug)]
struct Enforcer {
    limit: Limit,
    /// The buckets by what they are of, each with when it was used last.
    buckets: HashMap<String, (Bucket, u64)>,
    /// The same the other way round: who has not been used for longest goes first.
    by_use: BTreeMap<u64, String>,
    uses: u64,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Duration,
}

impl Enforcers {
    /// Of these limits, with nothing taken.
    pub fn new(limits: &[Limit]) -> Self {
        let enforcer = |limit: &Limit| Enforcer {
            limit: limit.clone(),
            buckets: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
        };
        Self(limits.iter().map(enforcer).collect())
    }

    /// Takes one event of every limit. `now` is any time that runs evenly.
    ///
    /// # Errors
    /// 429: a limit has been reached.
    pub fn accept(
        &mut self,
        request: &Request,
        event: &Object,
        now: Duration,
    ) -> Result<(), ApiError> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || request.kind != "Event" || !request.group.is_empty() {
            return Ok(());
        }
        let all = self.0.iter_mut();
        let reached: Vec<String> = all
            .filter_map(|enforcer| {
                let key = enforcer.key(request, event);
                let kind = enforcer.limit.kind.clone();
                (!enforcer.take(&key, now))
                    .then(|| format!("limit reached on type {kind} for key {key}"))
            })
            .collect();
        let why = match &reached[..] {
            [] => return Ok(()),
            [one] => one.clone(),
            all => format!("[{}]", all.join(", ")),
        };
        let message = format!("Too many requests: {why}");
        Err(ApiError::new(429, "TooManyRequests", message))
    }
}

impl Enforcer {
    fn key(&self, request: &Request, event: &Object) -> String {
        match self.limit.kind.as_str() {
            "Namespace" => request.namespace.to_owned(),
            "User" => request.user.name.clone(),
            "SourceAndObject" => [
                ["source", "component"],
                ["source", "host"],
                ["involvedObject", "kind"],
                ["involvedObject", "namespace"],
                ["involvedObject", "name"],
                ["involvedObject", "uid"],
                ["involvedObject", "apiVersion"],
            ]
            .map(|path| event.str_at(&path))
            .concat(),
            _ => String::new(),
        }
    }

    fn take(&mut self, key: &str, now: Duration) -> bool {
        let (rate, burst) = (f64::from(self.limit.qps), f64::from(self.limit.burst));
        self.uses += 1;
        let fresh = || {
            let bucket = Bucket {
                tokens: burst,
                filled: now,
            };
            (bucket, 0)
        };
        let (bucket, last) = self.buckets.entry(key.to_owned()).or_insert_with(fresh);
        self.by_use.remove(last);
        *last = self.uses;
        let elapsed = now.saturating_sub(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + elapsed * rate).min(burst);
        bucket.filled = now;
        let taken = bucket.tokens >= 1.0;
        if taken {
            bucket.tokens -= 1.0;
        }
        self.by_use.insert(self.uses, key.to_owned());
        self.forget();
        taken
    }

    fn forget(&mut self) {
        let size = usize::try_from(self.limit.cache_size).unwrap_or_default();
        let size = if size == 0 { USUAL_CACHE } else { size };
        while self.buckets.len() > size {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                return;
            };
            self.buckets.remove(&oldest);
        }
    }
}
