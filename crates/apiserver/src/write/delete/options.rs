//! What a client says of how to delete: in the body, or in the query.

use api::Dependents;
use machinery::codec::DecodeError;
use machinery::{ApiError, ErrorList, Object, Path};
use serde_json::{Value, json};

use crate::body::RequestBody;
use crate::call::Call;
use crate::decode;
use crate::negotiate::body_media;
use crate::resource::Resource;
use crate::write::dry_run;

/// What happens to the objects that are owned by a deleted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Orphan,
    Foreground,
    Background,
}

/// The options of a delete.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) dry_run: bool,
    pub(crate) grace_period_seconds: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    /// The object goes even if it cannot be read.
    pub(super) ignores_damage: bool,
}

const IGNORE: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";
/// What cannot be wished for beside it.
const BESIDE: [&str; 4] = [
    "propagationPolicy",
    "orphanDependents",
    "gracePeriodSeconds",
    "preconditions",
];

fn refused(errors: &ErrorList) -> ApiError {
    ApiError::invalid("meta.k8s.io", "DeleteOptions", "", errors)
}

/// Refuses options of other types than they have, in the words of Go's decoder.
fn check_types(body: &Object) -> Result<(), ApiError> {
    type Fits = fn(&Value) -> bool;
    let fields: [(&str, &str, Fits); 6] = [
        ("gracePeriodSeconds", "int64", Value::is_i64),
        ("orphanDependents", "bool", Value::is_boolean),
        (IGNORE, "bool", Value::is_boolean),
        (
            "propagationPolicy",
            "v1.DeletionPropagation",
            Value::is_string,
        ),
        ("dryRun", "[]string", Value::is_array),
        ("preconditions", "v1.Preconditions", Value::is_object),
    ];
    for (name, go_type, fits) in fields {
        let value = body.0.get(name).filter(|value| !value.is_null());
        let Some(value) = value.filter(|value| !fits(value)) else {
            continue;
        };
        let what = match value {
            Value::Number(number) => format!("number {number}"),
            Value::String(_) => "string".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Array(_) => "array".to_owned(),
            _ => "object".to_owned(),
        };
        return Err(ApiError::bad_request(format!(
            "json: cannot unmarshal {what} into Go struct field DeleteOptions.{name} of type {go_type}"
        )));
    }
    Ok(())
}

impl DeleteOptions {
    /// Reads the options from the body, or from the query when there is none.
    ///
    /// # Errors
    /// 400 for another body, 422 for values that do not go together.
    pub(crate) async fn read(call: &Call, body: RequestBody) -> Result<Self, ApiError> {
        let bytes = decode::bytes(call, body).await?;
        if bytes.is_empty() {
            return Self::from_query(call);
        }
        let media = body_media(&call.headers)?;
        let body = match decode::parse(media, &bytes) {
            // To Go a null says nothing of a struct.
            Err(DecodeError::NotAnObject("null")) => Object::default(),
            read => read.map_err(decode::unread)?.object,
        };
        call.trail.request_body(&body);
        Self::from_object(&body)
    }

    /// Reads the options from a `DeleteOptions` object.
    ///
    /// # Errors
    /// As [`DeleteOptions::read`].
    pub(crate) fn from_object(body: &Object) -> Result<Self, ApiError> {
        if !matches!(body.kind(), "" | "DeleteOptions") {
            return Err(decode::unregistered(body.kind(), body.api_version()));
        }
        check_types(body)?;
        let text = |path: &[&str]| body.at(path).and_then(Value::as_str).map(str::to_owned);
        let dry: Vec<&str> = body
            .at(&["dryRun"])
            .and_then(Value::as_array)
            .map(|all| all.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        Self::checked(
            &dry,
            body.at(&["gracePeriodSeconds"]).and_then(Value::as_i64),
            text(&["propagationPolicy"]),
            body.at(&["orphanDependents"]).and_then(Value::as_bool),
        )
        .and_then(|options| {
            let insists = body.at(&[IGNORE]).and_then(Value::as_bool) == Some(true);
            let given = |key: &&&str| body.at(&[**key]).is_some_and(|value| !value.is_null());
            let beside: Vec<&str> = BESIDE.iter().filter(given).copied().collect();
            Self {
                uid: text(&["preconditions", "uid"]),
                resource_version: text(&["preconditions", "resourceVersion"]),
                ignores_damage: insists,
                ..options
            }
            .check_damage(&beside)
        })
    }

    /// Who wants to be rid of what cannot be read has no other wish.
    fn check_damage(self, beside: &[&str]) -> Result<Self, ApiError> {
        let mut errors = ErrorList::new();
        for key in beside.iter().filter(|_| self.ignores_damage) {
            let why = format!("cannot be set together with .{key}");
            errors.invalid(&Path::new(IGNORE), true, why);
        }
        match errors.is_empty() {
            true => Ok(self),
            false => Err(refused(&errors)),
        }
    }

    /// Nor has it more than one object.
    pub(crate) fn check_collection(&self) -> Result<(), ApiError> {
        if !self.ignores_damage {
            return Ok(());
        }
        let mut errors = ErrorList::new();
        let why = "is not allowed with DELETECOLLECTION, try again after removing the option";
        errors.invalid(&Path::new(IGNORE), true, why);
        Err(refused(&errors))
    }

    /// Tells who did not say what becomes of dependents that they stay, where that may surprise.
    pub(crate) fn warn(&self, call: &Call, resource: &Resource) {
        if let (None, Dependents::Orphaned(warning)) =
            (self.propagation, resource.kind.dependents())
            && !warning.is_empty()
        {
            call.warn(warning);
        }
    }

    /// The options as webhooks are told them.
    pub(super) fn told(&self) -> Value {
        let mut told = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
        if self.dry_run {
            told["dryRun"] = json!(["All"]);
        }
        if let Some(seconds) = self.grace_period_seconds {
            told["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(propagation) = self.propagation {
            told["propagationPolicy"] = format!("{propagation:?}").into();
        }
        for (key, value) in [
            ("uid", &self.uid),
            ("resourceVersion", &self.resource_version),
        ] {
            if let Some(value) = value {
                told["preconditions"][key] = value.as_str().into();
            }
        }
        told
    }

    fn from_query(call: &Call) -> Result<Self, ApiError> {
        let query = &call.query;
        let dry: Vec<&str> = query.all("dryRun").collect();
        let orphan = query
            .get("orphanDependents")
            .map(|_| query.flag("orphanDependents"));
        let policy = query.get("propagationPolicy");
        let grace = query.integer("gracePeriodSeconds")?;
        let options = Self::checked(&dry, grace, policy.map(str::to_owned), orphan)?;
        let given = |key: &&&str| query.get(key).is_some();
        let beside: Vec<&str> = BESIDE.iter().filter(given).copied().collect();
        Self {
            ignores_damage: query.flag(IGNORE),
            ..options
        }
        .check_damage(&beside)
    }

    fn checked(
        dry: &[&str],
        grace_period_seconds: Option<i64>,
        policy: Option<String>,
        orphan: Option<bool>,
    ) -> Result<Self, ApiError> {
        let mut errors = ErrorList::new();
        let at = Path::new("propagationPolicy");
        let propagation = match policy.as_deref() {
            None => orphan.map(|o| {
                if o {
                    Propagation::Orphan
                } else {
                    Propagation::Background
                }
            }),
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Background") => Some(Propagation::Background),
            Some(other) => {
                let known = ["Foreground", "Background", "Orphan", "nil"];
                errors.not_supported(&at, other, &known);
                None
            }
        };
        if policy.is_some() && orphan.is_some() {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.invalid(&at, policy.as_deref().unwrap_or(""), why);
        }
        let dry_run = dry_run(&mut errors, dry);
        if !errors.is_empty() {
            return Err(refused(&errors));
        }
        Ok(Self {
            dry_run,
            grace_period_seconds,
            propagation,
            ..Self::default()
        })
    }
}
