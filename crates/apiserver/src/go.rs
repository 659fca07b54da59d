//! What Go's standard library reads and says, where clients see it.

use std::time::Duration;

/// Reads a duration such as `1h15m30.918s`; a negative one is none at all.
///
/// # Errors
/// In Go's words.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, after) = rest.split_at(end.unwrap_or(rest.len()));
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, after) = after.split_at(end.unwrap_or(after.len()));
        let of_unit = match unit {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            "ns" => 1e-9,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            unit => {
                return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
            }
        };
        seconds += number * of_unit;
        rest = after;
    }
    match negative {
        true => Ok(Duration::ZERO),
        false => Duration::try_from_secs_f64(seconds).map_err(|_| invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        assert_eq!(duration("1m1.5s"), Ok(Duration::from_millis(61_500)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("-5s"), Ok(Duration::ZERO));
        let said = |text| duration(text).expect_err("no duration");
        assert_eq!(said("5"), "time: missing unit in duration \"5\"");
        assert_eq!(said("5y"), "time: unknown unit \"y\" in duration \"5y\"");
        assert_eq!(said("x"), "time: invalid duration \"x\"");
    }
}
