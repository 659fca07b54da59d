//! Numbers that may be percentages, as `maxSurge` and `minAvailable` are.
//!
//! Behaviour: `k8s.io/apimachinery/pkg/util/intstr`.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Which way a percentage of a total is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// To the next whole number above.
    Up,
    /// To the next whole number below.
    Down,
}

/// The number itself, or the percentage of `total`.
///
/// # Errors
/// A string that is no percentage; upstream's wording.
pub fn scaled(value: &IntOrString, total: i32, round: Round) -> Result<i32, String> {
    let percent = match value {
        IntOrString::Int(number) => return Ok(*number),
        IntOrString::String(text) => percent_of(text)?,
    };
    let product = i128::from(percent) * i128::from(total);
    let quotient = match round {
        Round::Up => -(-product).div_euclid(100),
        Round::Down => product.div_euclid(100),
    };
    let clamped = quotient.clamp(i32::MIN.into(), i32::MAX.into());
    Ok(i32::try_from(clamped).unwrap_or(i32::MAX))
}

fn percent_of(text: &str) -> Result<i64, String> {
    let Some(digits) = text.strip_suffix('%') else {
        return Err(
            "invalid value for IntOrString: invalid type: string is not a percentage".to_owned(),
        );
    };
    digits.parse().map_err(|_| {
        format!(
            "invalid value for IntOrString: invalid value {text:?}: strconv.Atoi: parsing {digits:?}: invalid syntax"
        )
    })
}

/// As a label or a message shows it.
pub fn display(value: &IntOrString) -> String {
    match value {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_scale() {
        let text = |t: &str| IntOrString::String(t.to_owned());
        assert_eq!(scaled(&IntOrString::Int(3), 10, Round::Up), Ok(3));
        assert_eq!(scaled(&text("25%"), 10, Round::Up), Ok(3));
        assert_eq!(scaled(&text("25%"), 10, Round::Down), Ok(2));
        assert_eq!(scaled(&text("100%"), 4, Round::Up), Ok(4));
        assert_eq!(
            scaled(&text("5"), 4, Round::Up),
            Err("invalid value for IntOrString: invalid type: string is not a percentage".into())
        );
    }
}
