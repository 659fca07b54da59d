//! DaemonSet: a pod on every node, or on every node of some sort.
//!
//! Upstream: `pkg/registry/apps/daemonset`, `ValidateDaemonSet*` in `pkg/apis/apps/validation`, `printDaemonSet`.

mod validation;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet as Typed;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path};
use serde_json::{Value, json};

use super::selector;
use crate::check;
use crate::columns;
use crate::core::pod::defaults;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::{OrEmpty, fill, fill_with, format_labels};
use crate::workload;

/// Counts the templates that a DaemonSet has had, from the time before revisions; kept for those who read it.
pub const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// The kind `DaemonSet`.
pub struct DaemonSet;

impl Kind for DaemonSet {
    type Object = Typed;
    const NAMES: Names = Names::new("apps", "v1", "DaemonSet", "daemonsets", "daemonset")
        .short(&["ds"])
        .in_all();
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::integer(
            "Desired",
            "The total number of nodes that should be running the daemon \
                                     pod (including nodes correctly running the daemon pod). More \
                                     info: \
                                     https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/",
        ),
        columns::integer(
            "Current",
            "The number of nodes that are running at least 1 daemon pod and \
                                     are supposed to run the daemon pod. More info: \
                                     https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/",
        ),
        columns::integer(
            "Ready",
            "numberReady is the number of nodes that should be running the \
                                   daemon pod and have one or more of the daemon pod running with a \
                                   Ready Condition.",
        ),
        columns::integer(
            "Up-to-date",
            "The total number of nodes that are running updated daemon pod",
        ),
        columns::integer(
            "Available",
            "The number of nodes that should be running the daemon pod and have one or more of the \
             daemon pod running and available (ready for at least spec.minReadySeconds)",
        ),
        columns::text(
            "Node Selector",
            "NodeSelector is a selector which must be true for the pod to fit on a node. Selector \
             which must match a node's labels for the pod to be scheduled on that node. More info: \
             https://kubernetes.io/docs/concepts/configuration/assign-pod-node/",
        ),
        columns::AGE,
        workload::CONTAINERS,
        workload::IMAGES,
        columns::wide(
            "Selector",
            "A label query over pods that are managed by the daemon set. Must \
                                   match in order to be controlled. It must match the pod \
                                   template's labels. More info: \
                                   https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
        ),
    ];
    const HAS_GENERATION: bool = true;

    fn default(object: &mut Typed) {
        let spec = &mut object.spec;
        defaults::template(&mut spec.template);
        let strategy = spec.update_strategy.get_or_insert_default();
        fill(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.text() == "RollingUpdate" {
            let rolling = strategy.rolling_update.get_or_insert_default();
            fill_with(&mut rolling.max_unavailable, IntOrString::Int(1));
            fill_with(&mut rolling.max_surge, IntOrString::Int(0));
        }
        fill_with(&mut spec.revision_history_limit, 10);
        // As every DaemonSet that upstream has read says it, and whoever has written it owns it.
        let annotations = object.metadata.annotations.get_or_insert_default();
        let generation = annotations.entry(TEMPLATE_GENERATION.to_owned());
        generation.or_insert_with(|| "0".to_owned());
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        new.0.insert(
            "status".into(),
            json!({
                "currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0,
                "numberReady": 0,
            }),
        );
        let given = template_generation(new);
        set_template_generation(new, given.max(1));
        workload::drop_disabled(new);
    }

    fn prepare_update(_context: &Context, part: Part, new: &mut Object, old: &Object) {
        kind::keep_other_part(part, new, old);
        workload::drop_disabled(new);
        let template = |object: &Object| {
            let template = object.at(&["spec", "template"]).cloned();
            check::prune(template.unwrap_or_default())
        };
        let changed = template(new) != template(old);
        let before = template_generation(old);
        set_template_generation(new, before.saturating_add(i64::from(changed)));
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        validation::spec(&mut errors, new, None);
        errors
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        match part {
            Part::Status => validation::status(new, old),
            _ => validation::update(new, old),
        }
    }

    fn warnings(new: &Typed) -> Vec<String> {
        let path = Path::new("spec").child("template");
        workload::template_warnings(Some(&new.spec.template), &path)
    }

    fn update_warnings(_part: Part, new: &Typed, old: &Typed) -> Vec<String> {
        let generation = |set: &Typed| {
            let annotations = set.metadata.annotations.as_ref();
            annotations.and_then(|all| all.get(TEMPLATE_GENERATION).cloned())
        };
        match generation(new) == generation(old) {
            true => Vec::new(),
            false => Self::warnings(new),
        }
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let spec = &object.spec;
        let status = object.status.clone().unwrap_or_default();
        let [containers, images] = workload::containers_and_images(Some(&spec.template));
        let nodes = spec.template.spec.as_ref();
        let nodes = nodes.and_then(|s| s.node_selector.as_ref());
        Row::from(vec![
            tree.name().into(),
            status.desired_number_scheduled.into(),
            status.current_number_scheduled.into(),
            status.number_ready.into(),
            status.updated_number_scheduled.unwrap_or(0).into(),
            status.number_available.unwrap_or(0).into(),
            format_labels(nodes.into_iter().flatten()).into(),
            kind::age(tree, now).into(),
            containers,
            images,
            selector::format(&spec.selector).into(),
        ])
    }
}

fn template_generation(object: &Object) -> i64 {
    let text = object.at(&["metadata", "annotations", TEMPLATE_GENERATION]);
    let number = text.and_then(Value::as_str).and_then(|t| t.parse().ok());
    number.unwrap_or(0)
}

fn set_template_generation(object: &mut Object, generation: i64) {
    let annotations = object.object_at_mut(&["metadata", "annotations"]);
    annotations.insert(TEMPLATE_GENERATION.into(), generation.to_string().into());
}
