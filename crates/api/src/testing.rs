//! The one harness of this crate's tests: YAML in, errors or cells out.

use expect_test::Expect;
use jiff::Timestamp;
use machinery::Object;
use machinery::codec::decode_yaml_documents;

use crate::kind::{AnyKind, Ask, Context, Part, Surroundings};
use crate::{by_kind, meta};

/// The time at which every test happens.
pub(crate) const NOW: &str = "2026-01-02T03:04:05Z";

pub(crate) fn now() -> Timestamp {
    NOW.parse().unwrap()
}

pub(crate) fn context() -> Context {
    Context {
        now: now(),
        user: "jane".into(),
        requester: crate::kind::Requester::default(),
        surroundings: std::sync::Arc::new(Village),
    }
}

/// A server on which one may do what ordinary users may: nothing to devices of other nodes.
struct Village;

impl Surroundings for Village {
    fn verb(&self) -> &str {
        "update"
    }

    fn namespace_label(&self, namespace: &str, label: &str) -> Option<String> {
        let known = namespace == "admins" && label == "resource.kubernetes.io/admin-access";
        known.then(|| "true".to_owned())
    }

    fn may_for_signer(&self, verb: &str, signer: &str) -> bool {
        (verb, signer) == ("sign", "example.com/pods")
    }

    fn may(&self, ask: Ask<'_>) -> Result<(), String> {
        match (ask.subresource, ask.name) {
            ("binding", _) | ("driver", "dra.example.com") => Ok(()),
            (subresource, name) => Err(format!(
                "no {}{} of {subresource} {name}",
                ask.verb_prefix,
                self.verb()
            )),
        }
    }
}

/// The one object in a YAML text.
pub(crate) fn object(yaml: &str) -> Object {
    let mut documents = decode_yaml_documents(yaml).unwrap();
    assert_eq!(documents.len(), 1, "{yaml}");
    Object::from_value(documents.remove(0)).unwrap()
}

pub(crate) fn kind_of(object: &Object) -> &'static dyn AnyKind {
    let version = object.api_version();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    by_kind(group, version, object.kind()).unwrap()
}

/// The object as a create stores it: defaulted and prepared.
pub(crate) fn created(yaml: &str) -> Object {
    let mut object = object(yaml);
    let kind = kind_of(&object);
    kind.default(&mut object).unwrap();
    kind.prepare_create(&context(), &mut object);
    object
}

/// Everything wrong with a create, one error a line.
pub(crate) fn create_errors(yaml: &str) -> String {
    let object = created(yaml);
    let kind = kind_of(&object);
    let mut errors = match kind.verbs() == crate::Verb::CREATE_ONLY {
        true => machinery::ErrorList::new(),
        false => meta::validate_object_meta(kind, &object),
    };
    errors.append(kind.validate_create(&context(), &object).unwrap());
    lines(&errors)
}

fn lines(errors: &machinery::ErrorList) -> String {
    errors.0.iter().map(|e| format!("{e}\n")).collect()
}

/// Checks what is wrong with a create.
#[track_caller]
pub(crate) fn check(yaml: &str, expected: Expect) {
    expected.assert_eq(&create_errors(yaml));
}

/// The object as a write to `part` stores it over `old`, and everything wrong with that.
pub(crate) fn updated(part: Part, old: &Object, yaml: &str) -> (Object, String) {
    let mut new = object(yaml);
    let kind = kind_of(&new);
    new.set_meta_str("resourceVersion", "7");
    kind.default(&mut new).unwrap();
    kind.prepare_update(&context(), part, &mut new, old);
    let mut errors = meta::validate_object_meta_update(&new, old);
    errors.append(kind.validate_update(&context(), part, &new, old).unwrap());
    (new, lines(&errors))
}

/// Checks what is wrong with a write to `part` of what the first YAML created.
#[track_caller]
pub(crate) fn check_update(part: Part, old: &str, new: &str, expected: Expect) {
    let old = match part {
        // The status of what was created is empty; a test of changes to it gives the whole.
        Part::Status => {
            let mut old = object(old);
            kind_of(&old).default(&mut old).unwrap();
            old
        }
        _ => created(old),
    };
    expected.assert_eq(&updated(part, &old, new).1);
}

/// The cells of the row of an object as it stands.
pub(crate) fn cells(yaml: &str) -> String {
    let object = object(yaml);
    let row = kind_of(&object).row(&object, now());
    let text = |cell: &serde_json::Value| match cell {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    row.cells.iter().map(text).collect::<Vec<_>>().join(" | ")
}

/// Checks the cells of a row.
#[track_caller]
pub(crate) fn check_row(yaml: &str, expected: Expect) {
    expected.assert_eq(&cells(yaml));
}
