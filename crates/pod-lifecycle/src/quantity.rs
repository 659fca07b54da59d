//! Amounts: the Kubernetes quantity notation as exact integers.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A quantity in thousandths, rounded up; `None` if it is not one.
pub fn milli(quantity: &Quantity) -> Option<i128> {
    scaled(&quantity.0, 1000)
}

/// A quantity in units, rounded up; `None` if it is not one.
pub fn units(quantity: &Quantity) -> Option<i128> {
    scaled(&quantity.0, 1)
}

/// Thousandths of a named amount in a resource list, zero if it has none.
pub fn milli_of(list: Option<&std::collections::BTreeMap<String, Quantity>>, name: &str) -> i128 {
    list.and_then(|l| l.get(name)).and_then(milli).unwrap_or(0)
}

/// Units of a named amount in a resource list, zero if it has none.
pub fn units_of(list: Option<&std::collections::BTreeMap<String, Quantity>>, name: &str) -> i128 {
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

fn scaled(text: &str, scale: i128) -> Option<i128> {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (up, down) = factor(suffix)?;
    let down = down.checked_mul(10_i128.checked_pow(fraction.len().try_into().ok()?)?)?;
    let value = div_ceil(digits.checked_mul(up)?.checked_mul(scale)?, down);
    Some(if negative { -value } else { value })
}

/// What a suffix multiplies and divides by.
fn factor(suffix: &str) -> Option<(i128, i128)> {
    let binary = |n: u32| Some((1024_i128.pow(n), 1));
    let decimal = |n: u32| Some((10_i128.pow(n), 1));
    match suffix {
        "" => decimal(0),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1000)),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => exponent(suffix),
    }
}

fn exponent(suffix: &str) -> Option<(i128, i128)> {
    let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let size = 10_i128.checked_pow(power.unsigned_abs())?;
    Some(if power < 0 { (1, size) } else { (size, 1) })
}
