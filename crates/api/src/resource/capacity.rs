//! How a capacity that several claims share may be asked for: in certain amounts, or in steps of a range.
//!
//! Upstream: `validateRequestPolicy` and what it calls, with fractions allowed in ranges.

use k8s_openapi::api::resource::v1::{CapacityRequestPolicyRange, DeviceCapacity};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::quantity::{Format, Quantity};
use machinery::{ErrorList, Path};

use super::parts;
use crate::check::NOT_NEGATIVE;
use crate::view::{Items, quantity};

const VALUES_MAX: usize = 10;

/// Everything wrong with a capacity; only `shared` ones have a policy.
pub(super) fn validate(
    errors: &mut ErrorList,
    path: &Path,
    capacity: &DeviceCapacity,
    shared: bool,
) {
    let Some(policy) = &capacity.request_policy else {
        return;
    };
    let path = path.child("requestPolicy");
    if !shared {
        return errors.forbidden(&path, "allowMultipleAllocations must be true");
    }
    let Some(max) = quantity(&capacity.value) else {
        return;
    };
    let default = policy.default.as_ref().and_then(quantity);
    let values = policy.valid_values.items();
    let at = path.child("default");
    match (values.is_empty(), &policy.valid_range) {
        (false, Some(_)) => {
            let detail = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
            errors.forbidden(&path, detail);
        }
        (false, None) => match default {
            None => errors.required(&at, "required when validValues is defined"),
            Some(default) => {
                valid_values(errors, &path.child("validValues"), &default, &max, values)
            }
        },
        (true, Some(range)) => match default {
            None => errors.required(&at, "required when validRange is defined"),
            Some(default) => valid_range(errors, &path.child("validRange"), &default, &max, range),
        },
        (true, None) => {}
    }
}

fn valid_values(
    errors: &mut ErrorList,
    path: &Path,
    default: &Quantity,
    max: &Quantity,
    list: &[Text],
) {
    let values: Vec<Quantity> = list.iter().filter_map(quantity).collect();
    for (i, pair) in values.windows(2).enumerate() {
        if pair[0] > pair[1] {
            let detail = "values must be sorted in ascending order";
            errors.invalid(&path.index(i + 1), pair[1].to_string(), detail);
        }
    }
    let key = |q: &Quantity| Quantity::from_milli(q.milli_value(), Format::DecimalSi).to_string();
    parts::set(
        errors,
        path,
        &values,
        VALUES_MAX,
        key,
        |errors, at, value| {
            if value > max {
                let detail = format!("option is larger than capacity value: {max}");
                errors.invalid(at, value.to_string(), detail);
            }
        },
    );
    if !values.contains(default) {
        let detail = "default value is not valid according to the requestPolicy";
        errors.invalid(path, default.to_string(), detail);
    }
}

fn valid_range(
    errors: &mut ErrorList,
    path: &Path,
    default: &Quantity,
    capacity: &Quantity,
    range: &CapacityRequestPolicyRange,
) {
    let Some(min) = quantity(&range.min) else {
        return errors.required(&path.child("min"), "required when validRange is defined");
    };
    let max = range.max.as_ref().and_then(quantity);
    let step = range.step.as_ref().and_then(quantity);
    bounds(errors, path, default, capacity, (&min, max.as_ref()));
    let named = [
        ("default", Some(default)),
        ("min", Some(&min)),
        ("max", max.as_ref()),
        ("step", step.as_ref()),
    ];
    let named = || named.iter().filter_map(|(field, q)| q.map(|q| (*field, q)));
    let whole = |q: &Quantity| Quantity::from_int(q.value(), q.format()) == *q;
    let milli = named().any(|(_, q)| !whole(q));
    if milli {
        let fits = |q: &Quantity| Quantity::from_milli(q.milli_value(), q.format()) == *q;
        let mut unfit = named().filter(|(_, q)| !fits(q)).peekable();
        if unfit.peek().is_some() {
            for (field, q) in unfit {
                let detail = "value cannot be represented as a milli value";
                errors.invalid(&path.child(field), q.to_string(), detail);
            }
            return;
        }
    }
    let Some(step) = &step else { return };
    let at = path.child("step");
    if step.signum() <= 0 {
        return errors.invalid(&at, step.to_string(), "must be greater than zero");
    }
    let mut first = min.clone();
    first.add(step);
    if first > *capacity {
        let detail = format!("one step {first} is larger than capacity value: {capacity}");
        errors.invalid(&at, step.to_string(), detail);
    }
    if !milli && !whole_numbers(errors, path, named()) {
        return;
    }
    let number = |q: &Quantity| i128::from(if milli { q.milli_value() } else { q.value() });
    for value in [Some(default), max.as_ref()].into_iter().flatten() {
        if (number(value) - number(&min)) % number(step) != 0 {
            let detail = format!("value is not a multiple of a given step ({step}) from ({min})");
            errors.invalid(&at, value.to_string(), detail);
        }
    }
}

fn bounds(
    errors: &mut ErrorList,
    path: &Path,
    default: &Quantity,
    capacity: &Quantity,
    (min, max): (&Quantity, Option<&Quantity>),
) {
    if min > capacity {
        let detail = format!("min is larger than capacity value: {capacity}");
        errors.invalid(&path.child("min"), min.to_string(), detail);
    }
    let at = path.child("default");
    if default < min {
        errors.invalid(
            &at,
            default.to_string(),
            format!("default is less than min: {min}"),
        );
    }
    let Some(max) = max else { return };
    let own = path.child("max");
    if min > max {
        errors.invalid(
            &own,
            min.to_string(),
            format!("min is larger than max: {max}"),
        );
    }
    if max > capacity {
        let detail = format!("max is larger than capacity value: {capacity}");
        errors.invalid(&own, max.to_string(), detail);
    }
    if default > max {
        errors.invalid(
            &at,
            default.to_string(),
            format!("default is more than max: {max}"),
        );
    }
}

/// Whether all are numbers that steps can be counted in.
fn whole_numbers<'a>(
    errors: &mut ErrorList,
    path: &Path,
    named: impl Iterator<Item = (&'a str, &'a Quantity)>,
) -> bool {
    let largest = Quantity::from_int(i64::MAX, Format::DecimalSi);
    let mut fine = true;
    for (field, q) in named {
        let detail = match q.signum() < 0 {
            true => NOT_NEGATIVE,
            false if *q > largest => "must not be larger than 9223372036854775807",
            false => continue,
        };
        errors.invalid(&path.child(field), q.to_string(), detail);
        fine = false;
    }
    fine
}
