//! Requests: a name says all about one.
//!
//! Those of a kind follow from its minimal object in `crates/api/src/testdata` and its schema: every field is taken away,
//! or given a value that is odd for its type, in a create and in a merge patch, as dry runs.

use std::borrow::Cow;
use std::fmt;

use api::{AnyKind, Scope, Subresource};
use http::Method;
use machinery::schema::{Kind as Type, Schema};
use serde_json::{Value, json};

/// At most so many odd creates of a kind are asked ...
const CREATES: usize = 60;
/// ... and so many odd patches.
const PATCHES: usize = 30;
/// Fields that far inside the object are looked at.
const DEPTH: usize = 7;

/// One request of a kind.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Case {
    /// Makes the minimal object.
    Create,
    Get,
    Table,
    Metadata,
    /// The list of objects of its name.
    List,
    /// A second create.
    Again,
    /// A field of the minimal object (a JSON pointer) is another, in a create.
    OddCreate(String, Value),
    /// The same in a patch of the object.
    OddPatch(String, Value),
    /// The same in a patch of its status.
    OddStatus(String, Value),
    DryDelete,
    Delete,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OddCreate(at, value) => write!(f, "create {at} {value}"),
            Self::OddPatch(at, value) => write!(f, "patch {at} {value}"),
            Self::OddStatus(at, value) => write!(f, "status {at} {value}"),
            Self::Create => f.write_str("create"),
            Self::Get => f.write_str("get"),
            Self::Table => f.write_str("table"),
            Self::Metadata => f.write_str("metadata"),
            Self::List => f.write_str("list"),
            Self::Again => f.write_str("again"),
            Self::DryDelete => f.write_str("dry-delete"),
            Self::Delete => f.write_str("delete"),
        }
    }
}

impl Case {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(3, ' ');
        let (verb, at, value) = (words.next()?, words.next(), words.next());
        let value = || serde_json::from_str(value?).ok();
        let at = || at.map(str::to_owned);
        Some(match verb {
            "create" if at().is_some() => Self::OddCreate(at()?, value()?),
            "patch" => Self::OddPatch(at()?, value()?),
            "status" => Self::OddStatus(at()?, value()?),
            "create" => Self::Create,
            "get" => Self::Get,
            "table" => Self::Table,
            "metadata" => Self::Metadata,
            "list" => Self::List,
            "again" => Self::Again,
            "dry-delete" => Self::DryDelete,
            "delete" => Self::Delete,
            _ => return None,
        })
    }

    /// The request that asks it.
    pub(super) fn request(&self, kind: &dyn AnyKind, base: &Value) -> Request {
        let collection = collection(kind, base);
        let name = base["metadata"]["name"].as_str().unwrap_or("");
        let object = format!("{collection}/{}", escaped(name));
        let dry = |path: String| format!("{path}?dryRun=All&fieldValidation=Strict");
        match self {
            Self::Create | Self::Again => Request::post(&collection, base),
            Self::Get => Request::get(&object, ""),
            Self::Table => Request::get(&object, "application/json;as=Table;v=v1;g=meta.k8s.io"),
            Self::Metadata => Request::get(
                &object,
                "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
            ),
            Self::List => {
                let path = format!(
                    "{collection}?fieldSelector=metadata.name%3D{}",
                    escaped(name)
                );
                Request::get(&path, "")
            }
            Self::OddCreate(at, value) => {
                Request::post(&dry(collection), &changed(base, at, value))
            }
            Self::OddPatch(at, value) => Request::patch(&dry(object), &part(base, at, value)),
            Self::OddStatus(at, value) => {
                let path = dry(format!("{object}/status"));
                Request::patch(&path, &part(base, at, value))
            }
            Self::DryDelete => Request::delete(&format!("{object}?dryRun=All")),
            Self::Delete => Request::delete(&object),
        }
    }
}

/// What is sent.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: String,
    accept: Cow<'static, str>,
    media: Cow<'static, str>,
}

impl Request {
    fn new(method: Method, path: &str, body: String) -> Self {
        Self {
            method,
            path: path.to_owned(),
            body,
            accept: "".into(),
            media: "application/json".into(),
        }
    }

    pub(super) fn post(path: &str, body: &Value) -> Self {
        Self::new(Method::POST, path, body.to_string())
    }

    fn get(path: &str, accept: &'static str) -> Self {
        Self {
            accept: accept.into(),
            ..Self::new(Method::GET, path, String::new())
        }
    }

    fn delete(path: &str) -> Self {
        Self::new(Method::DELETE, path, String::new())
    }

    fn patch(path: &str, body: &Value) -> Self {
        Self {
            media: "application/merge-patch+json".into(),
            ..Self::new(Method::PATCH, path, body.to_string())
        }
    }

    /// A line of the list that is written by hand: method, path, what is accepted (after a `<`), media type and body. A
    /// body in quotes is JSON that says what is sent.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(3, ' ');
        let method = Method::from_bytes(words.next()?.as_bytes()).ok()?;
        let path = words.next()?;
        let rest = words.next().unwrap_or("");
        let (accept, rest) = match rest.strip_prefix('<') {
            Some(rest) => rest.split_once(' ').unwrap_or((rest, "")),
            None => ("", rest),
        };
        let mut words = rest.splitn(2, ' ').filter(|word| !word.is_empty());
        let media: Cow<'static, str> = match words.next().unwrap_or("json") {
            "json" => "application/json".into(),
            "yaml" => "application/yaml".into(),
            "merge" => "application/merge-patch+json".into(),
            "strategic" => "application/strategic-merge-patch+json".into(),
            "json-patch" => "application/json-patch+json".into(),
            "apply" => "application/apply-patch+yaml".into(),
            other => other.to_owned().into(),
        };
        let body = words.next().unwrap_or("");
        let body = match body.strip_prefix('@') {
            Some(text) => serde_json::from_str(text).ok()?,
            None => body.to_owned(),
        };
        Some(Self {
            accept: accept.to_owned().into(),
            media,
            ..Self::new(method, path, body)
        })
    }

    pub(super) fn headers(&self) -> Vec<(&'static str, &str)> {
        let mut headers: Vec<(&'static str, &str)> = vec![("user-agent", "differential")];
        if !self.body.is_empty() {
            headers.push(("content-type", &*self.media));
        }
        if !self.accept.is_empty() {
            headers.push(("accept", &*self.accept));
        }
        headers
    }
}

fn escaped(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The minimal object of a kind.
pub(super) fn minimal(kind: &dyn AnyKind) -> Value {
    let names = kind.names();
    let version = names.api_version().replace('/', ".");
    let path = format!(
        "{}/../api/src/testdata/minimal/{version}.{}.yaml",
        env!("CARGO_MANIFEST_DIR"),
        names.kind
    );
    let yaml = std::fs::read_to_string(path).expect("a minimal object");
    let mut documents = machinery::codec::decode_yaml_documents(&yaml).expect("YAML");
    let mut object = documents.remove(0);
    if kind.scope() == Scope::Namespaced {
        object["metadata"]["namespace"] = "default".into();
    }
    object
}

fn collection(kind: &dyn AnyKind, base: &Value) -> String {
    let names = kind.names();
    let root = match names.group {
        "" => format!("/api/{}", names.version),
        group => format!("/apis/{group}/{}", names.version),
    };
    match kind.scope() {
        Scope::Cluster => format!("{root}/{}", names.plural),
        Scope::Namespaced => {
            let namespace = base["metadata"]["namespace"].as_str().unwrap_or("default");
            format!("{root}/namespaces/{namespace}/{}", names.plural)
        }
    }
}

/// The object with another value at a place; null takes it away.
fn changed(base: &Value, at: &str, value: &Value) -> Value {
    let mut object = base.clone();
    put(&mut object, at, value);
    object
}

/// The same as a merge patch: the whole of what stands at the top, as lists are replaced.
fn part(base: &Value, at: &str, value: &Value) -> Value {
    let steps: Vec<&str> = at.split('/').skip(1).collect();
    let whole = changed(base, at, value);
    let in_list = steps.iter().position(|step| step.parse::<usize>().is_ok());
    let kept = &steps[..in_list.unwrap_or(steps.len())];
    let pointer: String = kept.iter().map(|step| format!("/{step}")).collect();
    let inner = whole.pointer(&pointer).cloned().unwrap_or(Value::Null);
    kept.iter()
        .rev()
        .fold(inner, |inner, step| json!({unescaped(step): inner}))
}

fn unescaped(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

fn put(object: &mut Value, at: &str, value: &Value) {
    let (parent, last) = at.rsplit_once('/').unwrap_or(("", at));
    let mut node = object;
    for step in parent.split('/').skip(1) {
        let step = unescaped(step);
        node = match node {
            Value::Array(list) => match step.parse::<usize>().ok().and_then(|i| list.get_mut(i)) {
                Some(node) => node,
                None => return,
            },
            other => {
                if !other.is_object() {
                    *other = json!({});
                }
                &mut other[step.as_str()]
            }
        };
    }
    let last = unescaped(last);
    match (node, value) {
        (Value::Array(list), _) => {
            if let Some(slot) = last.parse::<usize>().ok().and_then(|i| list.get_mut(i)) {
                *slot = value.clone();
            }
        }
        (Value::Object(map), Value::Null) => drop(map.remove(&last)),
        (node, _) => {
            if !node.is_object() {
                *node = json!({});
            }
            node[last.as_str()] = value.clone();
        }
    }
}

/// Every case of a kind, in the order in which they are asked.
pub(super) fn of(kind: &dyn AnyKind) -> Vec<Case> {
    let base = minimal(kind);
    let names = kind.names();
    let mut odd: Vec<(String, Value)> = Vec::new();
    if let Some(schema) = api::schema::of_kind(names.group, names.version, names.kind) {
        walk(&schema, Some(&base), &mut String::new(), 0, &mut odd);
    }
    let is_status = |at: &str| at.starts_with("/status");
    let main: Vec<_> = odd
        .iter()
        .filter(|(at, _)| !is_status(at))
        .cloned()
        .collect();
    let status: Vec<_> = odd
        .iter()
        .filter(|(at, _)| is_status(at))
        .cloned()
        .collect();
    let mut cases: Vec<Case> = spread(&main, CREATES, 0)
        .map(|(at, value)| Case::OddCreate(at, value))
        .collect();
    cases.extend([
        Case::Create,
        Case::Again,
        Case::Get,
        Case::List,
        Case::Table,
        Case::Metadata,
    ]);
    // Others than in creates, as far as there are others.
    let patches = spread(&main, PATCHES, 1);
    cases.extend(patches.map(|(at, value)| Case::OddPatch(at, value)));
    let has_status = kind
        .subresources()
        .iter()
        .any(|s| matches!(s, Subresource::Part(api::Part::Status)));
    if has_status {
        let some = spread(&status, PATCHES, 0);
        cases.extend(some.map(|(at, value)| Case::OddStatus(at, value)));
    }
    cases.extend([Case::DryDelete, Case::Delete]);
    cases
}

/// At most `most`, evenly out of all.
fn spread(
    all: &[(String, Value)],
    most: usize,
    skip: usize,
) -> impl Iterator<Item = (String, Value)> {
    let step = all.len().div_ceil(most.max(1)).max(1);
    let start = if step > 1 { skip } else { 0 };
    all.iter().skip(start).step_by(step).cloned()
}

/// Collects odd values for every field below a place.
fn walk(
    schema: &Schema,
    there: Option<&Value>,
    at: &mut String,
    depth: usize,
    out: &mut Vec<(String, Value)>,
) {
    let schema = schema.resolved();
    if depth > DEPTH {
        return;
    }
    for (name, field) in schema.properties() {
        let skipped = depth == 0 && matches!(name, "kind" | "apiVersion");
        let skipped =
            skipped || (at == "/metadata" && !matches!(name, "name" | "labels" | "finalizers"));
        if skipped {
            continue;
        }
        let length = at.len();
        at.push('/');
        at.push_str(&name.replace('~', "~0").replace('/', "~1"));
        let inner = there.and_then(|value| value.get(name));
        let field = field.resolved();
        let below = inner.is_some() || depth < 1;
        out.extend(
            odd(field, inner)
                .into_iter()
                .map(|value| (at.clone(), value)),
        );
        if below {
            walk(field, inner, at, depth + 1, out);
            if let (Some(items), Some(Value::Array(list))) = (field.items(), inner)
                && let Some(first) = list.first()
            {
                let length = at.len();
                at.push_str("/0");
                walk(items, Some(first), at, depth + 1, out);
                at.truncate(length);
            }
        }
        at.truncate(length);
    }
}

/// Values that are odd for a field; null takes away what is there.
fn odd(field: &Schema, there: Option<&Value>) -> Vec<Value> {
    let mut odd = match field.kind() {
        Type::String => vec![json!("-Bad_ x"), json!(""), json!(7)],
        Type::Integer | Type::Number => {
            vec![json!(-1), json!(0), json!("x"), json!(99_999_999_999_i64)]
        }
        Type::Boolean => vec![json!(true), json!("x")],
        Type::Array => vec![json!([{}]), json!(["-Bad_ x"]), json!([]), json!({})],
        Type::Object => vec![json!({}), json!({"-Bad_ x": "-Bad_ x"}), json!([])],
        _ => vec![json!("-Bad_ x"), json!({})],
    };
    if there.is_some() {
        odd.push(Value::Null);
    }
    odd.retain(|value| Some(value) != there);
    odd
}
