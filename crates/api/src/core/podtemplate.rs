//! PodTemplate: a template of pods that stands by itself.
//!
//! Upstream: `pkg/registry/core/podtemplate`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplate as Typed;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};

use crate::columns;
use crate::core::pod::disabled::drop_disabled;
use crate::core::pod::{defaults, validation};
use crate::kind::{Context, Kind, Names, Part, Scope};
use crate::view::format_labels;
use crate::workload;

/// The kind `PodTemplate`.
pub struct PodTemplate;

impl Kind for PodTemplate {
    type Object = Typed;
    const NAMES: Names = Names::new("", "v1", "PodTemplate", "podtemplates", "podtemplate");
    const SCOPE: Scope = Scope::Namespaced;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text("Containers", "Names of each container in the template."),
        columns::text(
            "Images",
            "Images referenced by each container in the template.",
        ),
        columns::text("Pod Labels", "The labels for the pod template."),
    ];
    const RETURNS_DELETED: bool = true;
    const HAS_GENERATION: bool = true;

    fn default(object: &mut Typed) {
        defaults::template(object.template.get_or_insert_default());
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        drop_disabled(new.0.get_mut("template").and_then(|t| t.get_mut("spec")));
    }

    fn prepare_update(_context: &Context, _part: Part, new: &mut Object, _old: &Object) {
        drop_disabled(new.0.get_mut("template").and_then(|t| t.get_mut("spec")));
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        let template = new.template.clone().unwrap_or_default();
        validation::template(&mut errors, &Path::new("template"), &template, None);
        errors
    }

    fn validate_update(_context: &Context, _part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        let template = new.template.clone().unwrap_or_default();
        let before = old.template.as_ref().and_then(|t| t.spec.as_ref());
        validation::template(&mut errors, &Path::new("template"), &template, before);
        errors
    }

    fn warnings(new: &Typed) -> Vec<String> {
        workload::template_warnings(new.template.as_ref(), &Path::new("template"))
    }

    fn update_warnings(_part: Part, new: &Typed, old: &Typed) -> Vec<String> {
        let path = Path::new("template");
        let template = new.template.as_ref();
        workload::changed_template_warnings(&new.metadata, &old.metadata, template, &path)
    }

    fn row(object: &Typed, tree: &Object, _now: Timestamp) -> Row {
        let [containers, images] = workload::containers_and_images(object.template.as_ref());
        let labels = object.template.as_ref().and_then(workload::template_labels);
        let labels = format_labels(labels.into_iter().flatten());
        Row::from(vec![tree.name().into(), containers, images, labels.into()])
    }
}
