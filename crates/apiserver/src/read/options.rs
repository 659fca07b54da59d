//! The options of lists and watches, checked.

use machinery::{ApiError, ErrorList, Path, fields, labels};

use crate::cache::Selection;
use crate::call::Call;
use crate::resource::Resource;

/// What a list or watch asks for.
pub(crate) struct ListOptions {
    pub(crate) selection: Selection,
    /// As it was given; empty when it was not.
    pub(crate) resource_version: String,
    pub(crate) exact: bool,
    pub(crate) limit: usize,
    pub(crate) continue_token: String,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
}

impl ListOptions {
    /// Reads the options of a request.
    ///
    /// # Errors
    /// 400 for what cannot be read, 422 for what does not go together.
    pub(crate) fn parse(call: &Call, resource: &Resource) -> Result<Self, ApiError> {
        let query = &call.query;
        let limit = query.integer("limit")?;
        let limit = limit.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let (matching, version) = (
            query.text("resourceVersionMatch"),
            query.text("resourceVersion"),
        );
        // Before the match could be said, the pages of a list were of the version that was given.
        let was_exact = matching.is_empty() && limit > 0 && !matches!(version, "" | "0");
        let options = Self {
            selection: selection(call, resource)?,
            resource_version: version.to_owned(),
            exact: matching == "Exact" || was_exact,
            limit,
            continue_token: query.text("continue").to_owned(),
            timeout_seconds: query
                .integer("timeoutSeconds")?
                .and_then(|n| u64::try_from(n).ok()),
            bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events: query
                .get("sendInitialEvents")
                .map(|_| query.flag("sendInitialEvents")),
        };
        let errors = options.check(matching, call.info.verb == "watch");
        if errors.is_empty() {
            return Ok(options);
        }
        Err(ApiError::invalid("meta.k8s.io", "ListOptions", "", &errors))
    }

    fn check(&self, matching: &str, watch: bool) -> ErrorList {
        let mut errors = ErrorList::new();
        let at = Path::new("resourceVersionMatch");
        let initial = self.send_initial_events.is_some();
        // A watch from the beginning is one that takes any beginning.
        if watch && !self.continue_token.is_empty() && matching.is_empty() {
            let beginning = matches!(self.resource_version.as_str(), "" | "0");
            if beginning && !initial {
                let detail = "resourceVersionMatch is forbidden when continue is provided";
                errors.forbidden(&at, detail);
            }
        }
        let known: &[&str] = if watch {
            &["NotOlderThan"]
        } else {
            &["Exact", "NotOlderThan", ""]
        };
        if watch && initial && matching != "NotOlderThan" {
            let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.forbidden(&at, detail);
        }
        if !matching.is_empty() {
            if watch && !initial {
                let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                errors.forbidden(&at, detail);
            }
            if !watch && self.resource_version.is_empty() {
                let detail = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                errors.forbidden(&at, detail);
            }
            if !self.continue_token.is_empty() {
                errors.forbidden(
                    &at,
                    "resourceVersionMatch is forbidden when continue is provided",
                );
            }
            if !known.contains(&matching) {
                errors.not_supported(&at, matching, known);
            }
            if !watch && self.exact && self.resource_version == "0" {
                let detail =
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                errors.forbidden(&at, detail);
            }
        }
        if !watch && initial {
            let at = Path::new("sendInitialEvents");
            errors.forbidden(&at, "sendInitialEvents is forbidden for list");
        }
        errors
    }

    /// How many objects are taken from the cache or the store at once; 0: all. What is chosen only when it is shown cannot be
    /// counted before.
    pub(crate) fn page(&self) -> usize {
        match self.selection.shown.is_everything() {
            true => self.limit,
            false => 0,
        }
    }

    /// The revision that was given.
    ///
    /// # Errors
    /// 400: not a number.
    pub(crate) fn revision(&self) -> Result<Option<u64>, ApiError> {
        parse_revision(&self.resource_version)
    }
}

/// A resourceVersion as a number; `None` when it is empty.
///
/// # Errors
/// 400: not a number.
pub(crate) fn parse_revision(text: &str) -> Result<Option<u64>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse().map(Some);
    parsed.map_err(|error: std::num::ParseIntError| {
        let why = match error.kind() {
            std::num::IntErrorKind::PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        ApiError::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}"
        ))
    })
}

/// The selection that a request's path and selectors make.
pub(crate) fn selection(call: &Call, resource: &Resource) -> Result<Selection, ApiError> {
    let namespace = if resource.is_namespaced() {
        call.info.namespace.as_str()
    } else {
        ""
    };
    if !namespace.is_empty() {
        // Checks the namespace before it becomes part of a key.
        resource.key(namespace, "any")?;
    }
    let labels = labels::Selector::parse(call.query.text("labelSelector"));
    let labels = labels.map_err(ApiError::bad_request)?;
    let fields = fields::Selector::parse(call.query.text("fieldSelector"));
    let fields = fields.map_err(ApiError::bad_request)?;
    check_fields(resource, &fields)?;
    let fields = as_stored(resource, with_name(call, fields));
    let (fields, shown) = match resource.converter() {
        None => (fields, fields::Selector::everything()),
        Some(_) => apart(&fields),
    };
    Ok(Selection {
        labels,
        fields,
        shown,
        ..Selection::namespace(namespace)
    })
}

/// What every version has, and what each has for itself.
fn apart(selector: &fields::Selector) -> (fields::Selector, fields::Selector) {
    let requirements = selector.requirements().iter().cloned();
    let (common, own) = requirements.partition(|r| r.field.starts_with("metadata."));
    (fields::Selector::new(common), fields::Selector::new(own))
}

/// What is cached has the fields of the stored form; another form's selectors are put in its words.
fn as_stored(resource: &Resource, selector: fields::Selector) -> fields::Selector {
    if resource.names().stored_as.is_none() {
        return selector;
    }
    let requirements = selector.requirements().iter().map(|requirement| {
        let mut requirement = requirement.clone();
        if let Some(stored) = resource.kind.stored_field(&requirement.field) {
            requirement.field = stored.to_owned();
        }
        requirement
    });
    fields::Selector::new(requirements.collect())
}

/// The name in a path of the old watches (`/api/v1/watch/...`) selects like a field.
fn with_name(call: &Call, selector: fields::Selector) -> fields::Selector {
    let name = &call.info.name;
    // Also where authorization read another name out of the selector than the selector's own parser: then nothing fits.
    if name.is_empty() || selector.required_value("metadata.name") == Some(name) {
        return selector;
    }
    let own = fields::Requirement {
        field: "metadata.name".into(),
        value: name.clone(),
        equal: true,
    };
    fields::Selector::new(
        selector
            .requirements()
            .iter()
            .cloned()
            .chain([own])
            .collect(),
    )
}

/// Whether objects can be selected by their namespace; upstream lets those be that have none, but for a few kinds, and forgets
/// one that has.
fn knows_namespace(resource: &Resource) -> bool {
    const NOT: [&str; 5] = [
        "Node",
        "Namespace",
        "CertificateSigningRequest",
        "ClusterTrustBundle",
        "ResourceSlice",
    ];
    resource.is_namespaced() && resource.names().kind != "PodCertificateRequest"
        || (!resource.kind.may_be_outdated() && !NOT.contains(&resource.names().kind))
}

fn check_fields(resource: &Resource, selector: &fields::Selector) -> Result<(), ApiError> {
    let known = resource.kind.selectable();
    for requirement in selector.requirements() {
        let field = requirement.field.as_str();
        let generic = field == "metadata.name"
            || (field == "metadata.namespace" && knows_namespace(resource));
        if generic || known.contains(field) {
            continue;
        }
        let kind = resource.names().kind;
        return Err(ApiError::bad_request(match known.is_empty() {
            true if !resource.kind.may_be_outdated() => format!(
                "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            ),
            false if resource.names().group == "batch" => {
                format!("field label {field:?} not supported for {kind}")
            }
            false if kind == "ResourceSlice" => {
                format!("field label not supported for resource.k8s.io/v1, Kind={kind}: {field}")
            }
            _ => format!("field label not supported: {field}"),
        }));
    }
    Ok(())
}
