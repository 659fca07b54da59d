//! Amounts of resources as whole numbers to calculate with.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::quantity::Quantity;

/// A quantity in thousandths, rounded up; `None` if it is not one.
pub fn milli(quantity: &Text) -> Option<i128> {
    Quantity::of(quantity).ok().map(|q| q.milli_value().into())
}

/// A quantity in units, rounded up; `None` if it is not one.
pub fn units(quantity: &Text) -> Option<i128> {
    Quantity::of(quantity).ok().map(|q| q.value().into())
}

/// Thousandths of a named amount in a resource list, zero if it has none.
pub fn milli_of(list: Option<&BTreeMap<String, Text>>, name: &str) -> i128 {
    list.and_then(|l| l.get(name)).and_then(milli).unwrap_or(0)
}

/// Units of a named amount in a resource list, zero if it has none.
pub fn units_of(list: Option<&BTreeMap<String, Text>>, name: &str) -> i128 {
    list.and_then(|l| l.get(name)).and_then(units).unwrap_or(0)
}

/// Divides and rounds up.
pub fn div_ceil(a: i128, b: i128) -> i128 {
    let quotient = a.div_euclid(b);
    if a.rem_euclid(b) == 0 {
        quotient
    } else {
        quotient + 1
    }
}
