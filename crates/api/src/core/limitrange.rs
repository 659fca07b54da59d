//! LimitRange: bounds and defaults for what pods, containers and claims of a namespace ask for.
//!
//! Upstream: `pkg/registry/core/limitrange`, `ValidateLimitRange` in `pkg/apis/core/validation`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{LimitRange as Typed, LimitRangeItem};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::quantity::{Format, Quantity};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names};

use crate::check::ErrorListExt;
use crate::columns;
use crate::core::resources;
use crate::kind::{Context, Kind, Names, Part, Scope};

const MAX_MILLI_VALUE: i64 = i64::MAX / 1000;

type Amounts = BTreeMap<String, Text>;

/// The kind `LimitRange`.
pub struct LimitRange;

impl Kind for LimitRange {
    type Object = Typed;
    const NAMES: Names =
        Names::new("", "v1", "LimitRange", "limitranges", "limitrange").short(&["limits"]);
    const SCOPE: Scope = Scope::Namespaced;
    const COLUMNS: &'static [Column] = columns::NAME_AND_CREATED;
    const CREATE_ON_UPDATE: bool = true;

    fn default(object: &mut Typed) {
        let items = object.spec.iter_mut().flat_map(|s| &mut s.limits);
        for item in items {
            default_item(item);
            let all = [
                &mut item.default,
                &mut item.default_request,
                &mut item.max,
                &mut item.max_limit_request_ratio,
                &mut item.min,
            ];
            for list in all {
                resources::canonical(list.as_mut());
            }
        }
    }

    fn prepare_create(_context: &Context, new: &mut Object) {
        // Nobody needs to give it a name; the UID is as good as any.
        if new.name().is_empty() {
            let uid = new.uid().to_owned();
            new.set_meta_str("name", &uid);
        }
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("spec").child("limits");
        let items = new.spec.as_ref().map_or(&[][..], |s| &s.limits);
        for (i, item) in items.iter().enumerate() {
            let path = path.index(i);
            let at = path.child("type");
            type_name(&mut errors, &at, &item.type_);
            if items[..i].iter().any(|other| other.type_ == item.type_) {
                errors.duplicate(&at, item.type_.as_str());
            }
            amounts(&mut errors, &path, item);
        }
        errors
    }

    fn validate_update(context: &Context, _part: Part, new: &Typed, _old: &Typed) -> ErrorList {
        Self::validate_create(context, new)
    }

    fn row(_object: &Typed, tree: &Object, _now: Timestamp) -> Row {
        columns::name_and_created(tree)
    }
}

/// For containers, the maximum is the default limit, and that or the minimum the default request.
fn default_item(item: &mut LimitRangeItem) {
    if item.type_ != "Container" {
        return;
    }
    let fill = |list: &mut Amounts, from: &Option<Amounts>| {
        for (name, amount) in from.iter().flatten() {
            list.entry(name.clone()).or_insert_with(|| amount.clone());
        }
    };
    fill(item.default.get_or_insert_default(), &item.max);
    let requests = item.default_request.get_or_insert_default();
    fill(requests, &item.default);
    fill(requests, &item.min);
}

fn type_name(errors: &mut ErrorList, path: &Path, name: &str) {
    let messages = names::qualified_name(name);
    let known = name.contains('/') || matches!(name, "Pod" | "Container" | "PersistentVolumeClaim");
    if messages.is_empty() && !known {
        let detail = "must be a standard limit type or fully qualified";
        errors.invalid(path, name, detail);
    }
    errors.invalid_each(path, name, messages);
}

fn amounts(errors: &mut ErrorList, path: &Path, item: &LimitRangeItem) {
    let for_pods = matches!(item.type_.as_str(), "Pod" | "Container");
    let no_defaults = item.type_ == "Pod";
    let lists = [
        ("max", &item.max, false),
        ("min", &item.min, false),
        ("default", &item.default, no_defaults),
        ("defaultRequest", &item.default_request, no_defaults),
    ];
    let mut known = BTreeSet::new();
    let ratio = ("maxLimitRequestRatio", &item.max_limit_request_ratio, false);
    for (key, list, unwanted) in lists {
        let at = path.child(key);
        if unwanted && list.iter().flatten().next().is_some() {
            errors.forbidden(&at, "may not be specified when `type` is 'Pod'");
        } else {
            names_of(errors, &at, list, for_pods, &mut known);
        }
    }
    let storage = |list: &Option<Amounts>| list.iter().flatten().any(|(name, _)| name == "storage");
    if item.type_ == "PersistentVolumeClaim" && !storage(&item.min) && !storage(&item.max) {
        let detail =
            "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&path.child("limits"), detail);
    }
    names_of(errors, &path.child(ratio.0), ratio.1, for_pods, &mut known);
    for name in known {
        bounds(errors, path, item, name, no_defaults);
    }
}

fn names_of<'a>(
    errors: &mut ErrorList,
    path: &Path,
    list: &'a Option<Amounts>,
    for_pods: bool,
    known: &mut BTreeSet<&'a str>,
) {
    for (name, text) in list.iter().flatten() {
        let at = path.key(name);
        if for_pods {
            resources::container_resource_name(errors, &at, name);
        } else {
            resources::resource_name(errors, &at, name);
        }
        resources::parse(errors, &at, text);
        known.insert(name);
    }
}

/// The amounts of one resource fit each other.
fn bounds(errors: &mut ErrorList, path: &Path, item: &LimitRangeItem, name: &str, bare: bool) {
    let of = |list: &Option<Amounts>| Quantity::of(list.as_ref()?.get(name)?).ok();
    let (min, max) = (of(&item.min), of(&item.max));
    let (default, request) = match bare {
        true => (None, None),
        false => (of(&item.default), of(&item.default_request)),
    };
    let ratio = of(&item.max_limit_request_ratio);
    let at = |key: &str| path.child(key).key(name);
    // In upstream's order: lower, its words, higher, its words, the field, whether the field shows the lower one.
    let pairs = [
        (&min, "min", &max, "max", "min", true),
        (
            &min,
            "min",
            &request,
            "default request",
            "defaultRequest",
            false,
        ),
        (
            &request,
            "default request",
            &max,
            "max",
            "defaultRequest",
            true,
        ),
        (
            &request,
            "default request",
            &default,
            "default limit",
            "defaultRequest",
            true,
        ),
        (&min, "min", &default, "default", "default", true),
        (&default, "default", &max, "max", "default", false),
    ];
    for (low, low_words, high, high_words, key, shows_low) in pairs {
        let (Some(low), Some(high)) = (low, high) else {
            continue;
        };
        if low > high {
            let detail =
                format!("{low_words} value {low} is greater than {high_words} value {high}");
            let shown = if shows_low { low } else { high };
            errors.invalid(&at(key), shown.to_string(), detail);
        }
    }
    if let Some(ratio) = &ratio {
        ratio_fits(
            errors,
            &at("maxLimitRequestRatio"),
            ratio,
            min.as_ref(),
            max.as_ref(),
        );
    }
    if let (Some(default), Some(request)) = (&default, &request)
        && !resources::is_overcommit_allowed(name)
        && default != request
    {
        let detail = format!(
            "default value {default} must equal to defaultRequest value {request} in {name}"
        );
        errors.invalid(&at("defaultRequest"), request.to_string(), detail);
    }
}

#[expect(clippy::cast_precision_loss, reason = "the message shows a float")]
fn ratio_fits(
    errors: &mut ErrorList,
    path: &Path,
    ratio: &Quantity,
    min: Option<&Quantity>,
    max: Option<&Quantity>,
) {
    if *ratio < Quantity::from_int(1, Format::DecimalSi) {
        let detail = format!("ratio {ratio} is less than 1");
        errors.invalid(path, ratio.to_string(), detail);
    }
    let (Some(min), Some(max)) = (min, max) else {
        return;
    };
    let small = [ratio, min, max]
        .iter()
        .all(|q| q.value() < MAX_MILLI_VALUE);
    let (value, limit) = match small {
        true => (
            ratio.milli_value() as f64 / 1000.0,
            max.milli_value() as f64 / min.milli_value() as f64,
        ),
        false => (
            ratio.value() as f64,
            max.value() as f64 / min.value() as f64,
        ),
    };
    if value > limit {
        let detail = format!("ratio {ratio} is greater than max/min = {limit:.6}");
        errors.invalid(path, ratio.to_string(), detail);
    }
}
