//! Reading quantities.

use super::{Format, Quantity, shift};

/// Why a text is no quantity; upstream's wording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not of the form `number suffix`.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// The number is too long.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// No such suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// The finest unit kept, as a power of ten.
const FINEST: i32 = -9;
/// Numbers of up to so many digits keep their spelling if it is nearly canonical.
const SPELLED_DIGITS: usize = 18;
/// Digits of a fraction beyond these only round up.
const MAX_FRACTION: usize = 24;
/// A decimal exponent beyond this is nonsense.
const MAX_EXPONENT: i32 = 1000;

enum Scale {
    Ten(i32, Format),
    Two(u32),
}

struct Parts<'a> {
    negative: bool,
    /// Without leading zeros.
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

fn split(text: &str) -> Result<Parts<'_>, QuantityError> {
    let digits_end = |s: &str| s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
    let negative = text.starts_with('-');
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let stripped = unsigned.trim_start_matches('0');
    let (whole, mut rest) = stripped.split_at(digits_end(stripped));
    let mut fraction = "";
    if let Some(tail) = rest.strip_prefix('.') {
        (fraction, rest) = tail.split_at(digits_end(tail));
    }
    let suffix = rest;
    let letters = rest.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let number = letters.strip_prefix(['-', '+']).unwrap_or(letters);
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(QuantityError::Format);
    }
    Ok(Parts {
        negative,
        whole,
        fraction,
        suffix,
    })
}

fn interpret(suffix: &str) -> Result<Scale, QuantityError> {
    let ten = |power| Ok(Scale::Ten(power, Format::DecimalSi));
    match suffix {
        "" => ten(0),
        "n" => ten(-9),
        "u" => ten(-6),
        "m" => ten(-3),
        "k" => ten(3),
        "M" => ten(6),
        "G" => ten(9),
        "T" => ten(12),
        "P" => ten(15),
        "E" => ten(18),
        "Ki" => Ok(Scale::Two(10)),
        "Mi" => Ok(Scale::Two(20)),
        "Gi" => Ok(Scale::Two(30)),
        "Ti" => Ok(Scale::Two(40)),
        "Pi" => Ok(Scale::Two(50)),
        "Ei" => Ok(Scale::Two(60)),
        _ => {
            let number = suffix.strip_prefix(['e', 'E']);
            let power = number.and_then(|n| n.parse::<i32>().ok());
            match power.filter(|p| p.abs() <= MAX_EXPONENT) {
                Some(power) => Ok(Scale::Ten(power, Format::DecimalExponent)),
                None => Err(QuantityError::Suffix),
            }
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Quantity, QuantityError> {
    if text.is_empty() {
        return Err(QuantityError::Format);
    }
    let parts = split(text)?;
    let scale = interpret(parts.suffix)?;
    let fraction = parts.fraction.trim_end_matches('0');
    let kept = &fraction[..fraction.len().min(MAX_FRACTION)];
    let digits = format!("0{}{kept}", parts.whole);
    let mut mantissa: i128 = digits.parse().map_err(|_| QuantityError::Numeric)?;
    let mut exponent = -i32::try_from(kept.len()).unwrap_or_default();
    if kept.len() < fraction.len() {
        mantissa = mantissa.saturating_add(1);
    }
    let format = match scale {
        Scale::Ten(power, format) => {
            exponent += power;
            format
        }
        Scale::Two(power) => {
            let product = mantissa.checked_mul(1 << power);
            mantissa = product.ok_or(QuantityError::Numeric)?;
            Format::BinarySi
        }
    };
    if exponent < FINEST {
        mantissa = shift(mantissa, exponent - FINEST);
        exponent = FINEST;
    }
    let mut quantity = Quantity::new(mantissa, exponent, format);
    limit_binary(&mut quantity);
    if parts.negative {
        quantity.mantissa = -quantity.mantissa;
    }
    if keeps_spelling(&parts) && quantity.canonical() != text {
        quantity.spelling = Some(text.into());
    }
    Ok(quantity)
}

/// Binary quantities end at 64 bits, and print as decimals below one.
fn limit_binary(quantity: &mut Quantity) {
    if quantity.format != Format::BinarySi {
        return;
    }
    let most = Quantity::from_int(i64::MAX, Format::BinarySi);
    if *quantity > most {
        *quantity = most;
    }
    let one = Quantity::from_int(1, Format::BinarySi);
    if !quantity.is_zero() && *quantity < one {
        quantity.format = Format::DecimalSi;
    }
}

/// Upstream prints short numbers back as they came when a quick test takes them for canonical.
fn keeps_spelling(parts: &Parts<'_>) -> bool {
    let whole = if parts.whole.is_empty() {
        "0"
    } else {
        parts.whole
    };
    let digits = format!("{whole}{}", parts.fraction);
    if digits.len() > SPELLED_DIGITS || digits.starts_with('0') {
        return false;
    }
    match interpret(parts.suffix) {
        Ok(Scale::Two(power)) => {
            let room = 15 - i64::from(power) * 3 / 10 - 1;
            let short = i64::try_from(digits.len()).is_ok_and(|n| n <= room);
            let odd = digits.parse::<u64>().is_ok_and(|value| value & 7 != 0);
            parts.fraction.is_empty() && short && odd
        }
        Ok(Scale::Ten(power, _)) => {
            let places = i32::try_from(parts.fraction.len()).unwrap_or_default();
            let power = power - places;
            power >= FINEST && power % 3 == 0 && !digits.ends_with("000")
        }
        Err(_) => false,
    }
}
