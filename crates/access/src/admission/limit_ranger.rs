//! What pods and claims ask for stays within the limits of their namespace; containers that say nothing get defaults.
//!
//! Behaviour: `plugin/pkg/admission/limitranger`.

use std::collections::BTreeMap;

use api::quota::{self, Amounts};
use k8s_openapi::api::core::v1::{
    Container, LimitRange, LimitRangeItem, PersistentVolumeClaim, Pod, PodSpec,
};
use machinery::quantity::Quantity;
use machinery::{ApiError, Object};
use serde_json::{Map, Value};

use super::{Operation, Request};
use crate::Lookup;

/// Tells what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// Up to here thousandths are compared.
const MAX_MILLI_VALUE: i64 = i64::MAX / 1000;

pub(super) fn admit(
    request: &Request,
    object: &mut Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    if concerns(request) && request.is_for("", "pods") {
        for range in ranges(request, lookup) {
            fill(object, &range);
        }
    }
    Ok(())
}

pub(super) fn validate(
    request: &Request,
    object: &Object,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    if !concerns(request) {
        return Ok(());
    }
    for range in ranges(request, lookup) {
        let mut problems = Vec::new();
        for item in items(&range) {
            match request.resource {
                "pods" => pod(&mut problems, item, object),
                _ => claim(&mut problems, item, object),
            }
        }
        if !problems.is_empty() {
            return Err(request.forbidden(object, aggregate(problems)));
        }
    }
    Ok(())
}

/// New pods, pods that are resized, claims.
fn concerns(request: &Request) -> bool {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    let leaving = request
        .old
        .is_some_and(|old| old.deletion_timestamp().is_some());
    let update = request.operation == Operation::Update;
    let known = match (request.group, request.resource, request.subresource) {
        ("", "pods", "") => !update,
        ("", "pods", "resize") => update,
        ("", "persistentvolumeclaims", "") => true,
        _ => false,
    };
    writes && known && !leaving
}

fn ranges(request: &Request, lookup: &dyn Lookup) -> Vec<LimitRange> {
    let all = lookup.list("", "limitranges", request.namespace);
    all.iter().filter_map(|range| range.view().ok()).collect()
}

fn items(range: &LimitRange) -> &[LimitRangeItem] {
    range.spec.as_ref().map_or(&[], |s| &s.limits)
}

/// Several problems as one text.
fn aggregate(mut problems: Vec<String>) -> String {
    let mut seen = Vec::new();
    problems.retain(|p| {
        let new = !seen.contains(p);
        seen.push(p.clone());
        new
    });
    match problems.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// Gives every container what it does not say itself.
fn fill(pod: &mut Object, range: &LimitRange) {
    let mut defaults = [("requests", BTreeMap::new()), ("limits", BTreeMap::new())];
    for item in items(range).iter().filter(|i| i.type_ == "Container") {
        defaults[0]
            .1
            .extend(item.default_request.clone().unwrap_or_default());
        defaults[1]
            .1
            .extend(item.default.clone().unwrap_or_default());
    }
    let mut told = Vec::new();
    let spec = pod.object_at_mut(&["spec"]);
    for (list, words) in [
        ("containers", "container"),
        ("initContainers", "init container"),
    ] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            let name = container
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            for (key, amounts) in &defaults {
                let set = fill_list(container, key, amounts);
                if !set.is_empty() {
                    let what = key.trim_end_matches('s');
                    told.push(format!("{} {what} for {words} {name}", set.join(", ")));
                }
            }
        }
    }
    if !told.is_empty() {
        let text = format!("LimitRanger plugin set: {}", told.join("; "));
        pod.object_at_mut(&["metadata", "annotations"])
            .insert(ANNOTATION.into(), text.into());
    }
}

type Texts = BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

/// Fills one list of a container; the names that were missing.
fn fill_list<'a>(
    container: &mut Map<String, Value>,
    key: &str,
    amounts: &'a Texts,
) -> Vec<&'a str> {
    let mut set = Vec::new();
    for (name, amount) in amounts {
        let resources = container
            .entry("resources")
            .or_insert_with(|| Value::Object(Map::new()));
        let list = resources
            .as_object_mut()
            .map(|r| r.entry(key).or_insert_with(|| Value::Object(Map::new())));
        let Some(list) = list.and_then(Value::as_object_mut) else {
            continue;
        };
        if !list.contains_key(name) {
            list.insert(name.clone(), amount.0.as_str().into());
            set.push(name.as_str());
        }
    }
    set
}

fn pod(problems: &mut Vec<String>, item: &LimitRangeItem, object: &Object) {
    let Some(spec) = object.view::<Pod>().ok().and_then(|pod| pod.spec) else {
        return;
    };
    match item.type_.as_str() {
        "Container" => {
            let all = spec
                .containers
                .iter()
                .chain(spec.init_containers.iter().flatten());
            all.for_each(|c| container(problems, item, c));
        }
        "Pod" => whole_pod(problems, item, &spec),
        _ => {}
    }
}

fn container(problems: &mut Vec<String>, item: &LimitRangeItem, container: &Container) {
    let given = container.resources.clone().unwrap_or_default();
    let requests = quota::amounts(given.requests.as_ref());
    let limits = quota::amounts(given.limits.as_ref());
    bounds(problems, item, &requests, &limits);
}

fn whole_pod(problems: &mut Vec<String>, item: &LimitRangeItem, spec: &PodSpec) {
    let (requests, limits) = (quota::requests_of_pod(spec), quota::limits_of_pod(spec));
    bounds(problems, item, &requests, &limits);
}

fn bounds(problems: &mut Vec<String>, item: &LimitRangeItem, requests: &Amounts, limits: &Amounts) {
    let kind = item.type_.as_str();
    for (name, bound) in quota::amounts(item.min.as_ref()) {
        problems.extend(below(
            kind,
            &name,
            &bound,
            requests.get(&name),
            limits.get(&name),
        ));
    }
    for (name, bound) in quota::amounts(item.max.as_ref()) {
        problems.extend(above(
            kind,
            &name,
            &bound,
            requests.get(&name),
            limits.get(&name),
        ));
    }
    for (name, bound) in quota::amounts(item.max_limit_request_ratio.as_ref()) {
        problems.extend(ratio(
            kind,
            &name,
            &bound,
            requests.get(&name),
            limits.get(&name),
        ));
    }
}

fn claim(problems: &mut Vec<String>, item: &LimitRangeItem, object: &Object) {
    if item.type_ != "PersistentVolumeClaim" {
        return;
    }
    let spec = object
        .view::<PersistentVolumeClaim>()
        .ok()
        .and_then(|c| c.spec);
    let resources = spec.and_then(|s| s.resources).unwrap_or_default();
    let requests = quota::amounts(resources.requests.as_ref());
    for (name, bound) in quota::amounts(item.min.as_ref()) {
        problems.extend(below(&item.type_, &name, &bound, requests.get(&name), None));
    }
    for (name, bound) in quota::amounts(item.max.as_ref()) {
        let what = format!("maximum {name} usage per {} is {bound}", item.type_);
        problems.extend(match requests.get(&name) {
            None => Some(format!("{what}.  No request is specified")),
            Some(request) if exceeds(request, &bound) => {
                Some(format!("{what}, but request is {request}"))
            }
            Some(_) => None,
        });
    }
}

/// Compared in thousandths where they fit, in whole numbers otherwise.
fn exceeds(high: &Quantity, low: &Quantity) -> bool {
    let small = high.value() <= MAX_MILLI_VALUE && low.value() <= MAX_MILLI_VALUE;
    match small {
        true => high.milli_value() > low.milli_value(),
        false => high.value() > low.value(),
    }
}

fn below(
    kind: &str,
    name: &str,
    bound: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let what = format!("minimum {name} usage per {kind} is {bound}");
    match (request, limit) {
        (None, _) => Some(format!("{what}.  No request is specified")),
        (Some(r), _) if exceeds(bound, r) => Some(format!("{what}, but request is {r}")),
        (_, Some(l)) if exceeds(bound, l) => Some(format!("{what}, but limit is {l}")),
        _ => None,
    }
}

fn above(
    kind: &str,
    name: &str,
    bound: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let what = format!("maximum {name} usage per {kind} is {bound}");
    match (limit, request) {
        (None, _) => Some(format!("{what}.  No limit is specified")),
        (Some(l), _) if exceeds(l, bound) => Some(format!("{what}, but limit is {l}")),
        (_, Some(r)) if exceeds(r, bound) => Some(format!("{what}, but request is {r}")),
        _ => None,
    }
}

fn ratio(
    kind: &str,
    name: &str,
    bound: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let what = format!("{name} max limit to request ratio per {kind} is {bound}");
    let set = |quantity: Option<&Quantity>| quantity.filter(|q| !q.is_zero()).cloned();
    let Some(request) = set(request) else {
        return Some(format!(
            "{what}, but no request is specified or request is 0"
        ));
    };
    let Some(limit) = set(limit) else {
        return Some(format!("{what}, but no limit is specified or limit is 0"));
    };
    let observed = limit.approximate() / request.approximate();
    (observed > bound.approximate()).then(|| format!("{what}, but provided ratio is {observed:.6}"))
}
