//! Resource quantities: exact decimal numbers with SI suffixes, `100m`, `1.5Gi`, `2e3`.
//!
//! Behaviour: `k8s.io/apimachinery/pkg/api/resource`. Internally a quantity is `mantissa * 10^exponent`, exact; nothing is
//! ever a float. Values finer than 1n are rounded up, sums beyond the 128-bit mantissa saturate.

mod parse;

use std::cmp::Ordering;
use std::fmt;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use parse::QuantityError;

/// Which family of suffixes a quantity prints with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySi,
    /// `12M`
    #[default]
    DecimalSi,
}

/// An exact number and the way it likes to be printed.
///
/// Equality and order are those of the number.
#[derive(Clone, Debug, Default)]
pub struct Quantity {
    /// Without trailing zeros in base ten; zero has exponent 0.
    mantissa: i128,
    exponent: i32,
    format: Format,
    /// The spelling it was parsed from, where upstream keeps that although it is not the canonical one.
    spelling: Option<Box<str>>,
}

impl Quantity {
    /// `mantissa * 10^exponent`.
    pub fn new(mantissa: i128, exponent: i32, format: Format) -> Self {
        let (mut mantissa, mut exponent) = (mantissa, exponent);
        while mantissa != 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            exponent += 1;
        }
        if mantissa == 0 {
            exponent = 0;
        }
        Self {
            mantissa,
            exponent,
            format,
            spelling: None,
        }
    }

    /// A whole number.
    pub fn from_int(value: i64, format: Format) -> Self {
        Self::new(value.into(), 0, format)
    }

    /// So many thousandths.
    pub fn from_milli(value: i64, format: Format) -> Self {
        Self::new(value.into(), -3, format)
    }

    /// Zero.
    pub fn zero() -> Self {
        Self::default()
    }

    /// Parses `[+-]number[suffix]`.
    ///
    /// # Errors
    /// Upstream's messages.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        parse::parse(text)
    }

    /// The number of a typed quantity.
    ///
    /// # Errors
    /// The text is no quantity.
    pub fn of(text: &Text) -> Result<Self, QuantityError> {
        parse::parse(text.0.trim())
    }

    /// The suffix family.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    /// -1, 0 or 1.
    pub fn signum(&self) -> i32 {
        i32::try_from(self.mantissa.signum()).unwrap_or_default()
    }

    /// The whole number not below it, within 64 bits.
    pub fn value(&self) -> i64 {
        self.scaled(0)
    }

    /// Its thousandths, rounded up, within 64 bits.
    pub fn milli_value(&self) -> i64 {
        self.scaled(-3)
    }

    /// The number in units of `10^scale`, rounded away from zero, within 64 bits.
    pub fn scaled(&self, scale: i32) -> i64 {
        let wide = shift(self.mantissa, self.exponent - scale);
        let clamped = wide.clamp(i64::MIN.into(), i64::MAX.into());
        i64::try_from(clamped).unwrap_or(i64::MAX)
    }

    /// The nearest float; for ratios and metrics only.
    pub fn approximate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "an approximation is asked for")]
        let mantissa = self.mantissa as f64;
        mantissa * 10_f64.powi(self.exponent)
    }

    /// Adds another; zero takes over the other's format.
    pub fn add(&mut self, other: &Self) {
        let format = if self.is_zero() {
            other.format
        } else {
            self.format
        };
        let (left, right, exponent) = align(self, other);
        *self = Self::new(left.saturating_add(right), exponent, format);
    }

    /// Subtracts another; zero takes over the other's format.
    pub fn sub(&mut self, other: &Self) {
        let negated = Self {
            mantissa: -other.mantissa,
            spelling: None,
            ..other.clone()
        };
        self.add(&negated);
    }

    /// Multiplies by a whole number.
    pub fn mul(&mut self, factor: i64) {
        let product = self.mantissa.saturating_mul(factor.into());
        *self = Self::new(product, self.exponent, self.format);
    }

    /// The text in canonical form: the largest suffix that leaves no fraction.
    fn canonical(&self) -> String {
        if self.is_zero() {
            return "0".to_owned();
        }
        match self.format {
            Format::BinarySi => self.binary().unwrap_or_else(|| self.decimal()),
            _ => self.decimal(),
        }
    }

    /// None where a binary suffix would lose precision or confuse: fractions and what is below 1Ki.
    fn binary(&self) -> Option<String> {
        const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        let mut value = match u32::try_from(self.exponent) {
            Ok(power) => self.mantissa.checked_mul(10_i128.checked_pow(power)?)?,
            Err(_) => return None,
        };
        if value.abs() < 1024 {
            return None;
        }
        let mut power = 0;
        while value % 1024 == 0 && power + 1 < SUFFIXES.len() {
            value /= 1024;
            power += 1;
        }
        Some(format!("{value}{}", SUFFIXES[power]))
    }

    fn decimal(&self) -> String {
        const SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        let highest = match self.format {
            Format::DecimalExponent => i32::MAX,
            _ => 18,
        };
        let exponent = self.exponent.div_euclid(3).saturating_mul(3).min(highest);
        let zeros = usize::try_from(self.exponent - exponent).unwrap_or_default();
        let digits = format!("{}{}", self.mantissa, "0".repeat(zeros));
        let index = usize::try_from(exponent / 3 + 3).unwrap_or_default();
        match (self.format, SUFFIXES.get(index)) {
            (_, _) if exponent == 0 => digits,
            (Format::DecimalExponent, _) | (_, None) => format!("{digits}e{exponent}"),
            (_, Some(suffix)) => format!("{digits}{suffix}"),
        }
    }
}

/// `value * 10^power`, rounded away from zero, saturating.
fn shift(value: i128, power: i32) -> i128 {
    if value == 0 {
        return 0;
    }
    let Some(factor) = 10_i128.checked_pow(power.unsigned_abs()) else {
        let far = if value > 0 { i128::MAX } else { i128::MIN };
        return if power > 0 { far } else { value.signum() };
    };
    if power >= 0 {
        return value.saturating_mul(factor);
    }
    let rest = if value % factor == 0 {
        0
    } else {
        value.signum()
    };
    value / factor + rest
}

/// Both mantissas at the lower of the two exponents.
fn align(a: &Quantity, b: &Quantity) -> (i128, i128, i32) {
    let exponent = match (a.mantissa, b.mantissa) {
        (0, _) => b.exponent,
        (_, 0) => a.exponent,
        _ => a.exponent.min(b.exponent),
    };
    (
        shift(a.mantissa, a.exponent - exponent),
        shift(b.mantissa, b.exponent - exponent),
        exponent,
    )
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        let (left, right, _) = align(self, other);
        left.cmp(&right)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.spelling {
            Some(text) => f.pad(text),
            None => f.pad(&self.canonical()),
        }
    }
}

impl std::str::FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Self::parse(text)
    }
}

impl From<&Quantity> for Text {
    fn from(quantity: &Quantity) -> Self {
        Self(quantity.to_string())
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let text = match &value {
            serde_json::Value::Null => return Ok(Self::zero()),
            serde_json::Value::String(text) => text.trim().to_owned(),
            other => other.to_string(),
        };
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
