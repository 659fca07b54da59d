//! RuntimeClass: a name for a way of running containers, and what that costs.
//!
//! Upstream: `pkg/registry/node/runtimeclass`, `pkg/apis/node/validation`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::api::node::v1::RuntimeClass as Typed;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names};

use crate::check::{self, ErrorListExt};
use crate::columns;
use crate::core::pod::validation;
use crate::core::resources;
use crate::kind::{self, Context, Kind, Names, Part, Scope};
use crate::view::Items;
use crate::warn;

/// The kind `RuntimeClass`.
pub struct RuntimeClass;

impl Kind for RuntimeClass {
    type Object = Typed;
    const NAMES: Names = Names::new(
        "node.k8s.io",
        "v1",
        "RuntimeClass",
        "runtimeclasses",
        "runtimeclass",
    );
    const SCOPE: Scope = Scope::Cluster;
    const COLUMNS: &'static [Column] = &[columns::NAME, columns::text("Handler", ""), columns::AGE];
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(object: &mut Typed) {
        let overhead = object.overhead.as_mut();
        resources::canonical(overhead.and_then(|o| o.pod_fixed.as_mut()));
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        let at = Path::new("handler");
        if errors.required_text(&at, &new.handler, "") {
            errors.invalid_each(&at, &new.handler, names::dns1123_label(&new.handler));
        }
        if let Some(fixed) = new.overhead.as_ref().and_then(|o| o.pod_fixed.as_ref()) {
            validation::overhead(&mut errors, &Path::new("overhead"), fixed);
        }
        if let Some(scheduling) = &new.scheduling {
            let path = Path::new("scheduling");
            let at = path.child("nodeSelector");
            check::labels(&mut errors, &at, scheduling.node_selector.as_ref());
            let at = path.child("tolerations");
            tolerations(&mut errors, &at, scheduling.tolerations.items());
        }
        errors
    }

    fn warnings(new: &Typed) -> Vec<String> {
        let selector = new.scheduling.as_ref();
        let selector = selector.and_then(|scheduling| scheduling.node_selector.as_ref());
        let keys = selector.into_iter().flatten().map(|(key, _)| key);
        keys.filter_map(|key| warn::node_label(key))
            .map(|text| format!("scheduling.nodeSelector: {text}"))
            .collect()
    }

    fn validate_update(context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        errors.fixed(&Path::new("handler"), &new.handler, &old.handler);
        errors.required_text(&Path::new("handler"), &new.handler, "");
        let whole = Self::validate_create(context, new);
        let rest = whole.0.into_iter();
        errors
            .0
            .extend(rest.filter(|e| e.path.to_string().starts_with("scheduling")));
        errors
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        Row::from(vec![
            tree.name().into(),
            object.handler.as_str().into(),
            kind::age(tree, now).into(),
        ])
    }
}

/// Well-formed tolerations, each once whatever its seconds.
fn tolerations(errors: &mut ErrorList, path: &Path, tolerations: &[Toleration]) {
    validation::tolerations(errors, path, tolerations);
    let key = |t: &Toleration| Toleration {
        toleration_seconds: None,
        ..t.clone()
    };
    for (i, toleration) in tolerations.iter().enumerate() {
        if tolerations[..i]
            .iter()
            .any(|other| key(other) == key(toleration))
        {
            errors.duplicate(&path.index(i), check::json(toleration));
        }
    }
}
