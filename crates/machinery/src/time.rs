//! Times as the API writes them.

use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

pub use crate::duration::human as human_duration;

/// `2006-01-02T15:04:05Z`, as `Time` is written: seconds, UTC.
pub fn rfc3339(time: Timestamp) -> String {
    let t = Offset::UTC.to_datetime(time);
    let (date, clock) = (t.date(), t.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year(),
        date.month(),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    )
}

/// `2006-01-02T15:04:05.000000Z`, as `MicroTime` is written.
pub fn micro(time: Timestamp) -> String {
    let seconds = rfc3339(time);
    let micros = Offset::UTC.to_datetime(time).subsec_nanosecond() / 1000;
    format!("{}.{micros:06}Z", seconds.trim_end_matches('Z'))
}

/// Reads any RFC 3339 time.
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// Whether Go reads a text as a time: RFC 3339, and with `micro` exactly six digits of a second's fraction.
///
/// # Errors
/// In the words of Go's `time.Parse`, which tell the part that does not fit.
pub fn check(text: &str, micro: bool) -> Result<(), String> {
    let fraction = if micro { ".000000" } else { "" };
    let layout = format!("2006-01-02T15:04:05{fraction}Z07:00");
    let mut rest = text;
    let mut numbers = [0_u32; 6];
    let parts = [
        ("", "2006", "year"),
        ("-", "01", "month"),
        ("-", "02", "day"),
        ("T", "15", "hour"),
        (":", "04", "minute"),
        (":", "05", "second"),
    ];
    let unfit = |rest: &str, part: &str| {
        format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {part:?}")
    };
    let beyond = |what: &str| format!("parsing time {text:?}: {what} out of range");
    for (i, (before, part, name)) in parts.into_iter().enumerate() {
        rest = rest
            .strip_prefix(before)
            .ok_or_else(|| unfit(rest, before))?;
        let whole = rest;
        // An hour may be one digit.
        let digits = rest
            .bytes()
            .take(part.len())
            .take_while(u8::is_ascii_digit)
            .count();
        if digits < part.len() && !(name == "hour" && digits == 1) {
            return Err(unfit(whole, part));
        }
        let (number, after) = rest.split_at(digits);
        numbers[i] = number.parse().map_err(|_| unfit(whole, part))?;
        rest = after;
        let fits = match name {
            "month" => (1..=12).contains(&numbers[i]),
            "hour" => numbers[i] < 24,
            "minute" | "second" => numbers[i] < 60,
            _ => true,
        };
        if !fits {
            return Err(beyond(name));
        }
    }
    rest = after_fraction(rest, micro).ok_or_else(|| unfit(rest, fraction))?;
    rest = after_zone(rest).ok_or_else(|| unfit(rest, "Z07:00"))?;
    if !rest.is_empty() {
        return Err(format!("parsing time {text:?}: extra text: {rest:?}"));
    }
    let date = |n: u32| i8::try_from(n).unwrap_or(0);
    let year = i16::try_from(numbers[0]).unwrap_or(0);
    match jiff::civil::Date::new(year, date(numbers[1]), date(numbers[2])) {
        Ok(_) => Ok(()),
        Err(_) => Err(beyond("day")),
    }
}

/// What follows the fraction of a second; none when it is not as it must be.
fn after_fraction(rest: &str, micro: bool) -> Option<&str> {
    let fraction = rest.strip_prefix(['.', ',']);
    let digits = fraction.map_or(0, |f| f.bytes().take_while(u8::is_ascii_digit).count());
    match micro {
        true if digits >= 6 => fraction.map(|f| &f[6..]),
        true => None,
        false if digits > 0 => fraction.map(|f| &f[digits..]),
        false => Some(rest),
    }
}

/// What follows the zone.
fn after_zone(rest: &str) -> Option<&str> {
    if let Some(after) = rest.strip_prefix('Z') {
        return Some(after);
    }
    let bytes = rest.as_bytes();
    let is_digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_digit);
    let fits = matches!(bytes.first(), Some(b'+' | b'-')) && bytes.get(3) == Some(&b':');
    let fits = fits && [1, 2, 4, 5].into_iter().all(is_digit);
    fits.then(|| &rest[6..])
}

/// The time without its fraction of a second, as a `Time` comes back from storage.
#[must_use]
pub fn truncate(time: Timestamp) -> Timestamp {
    let fraction = Offset::UTC.to_datetime(time).subsec_nanosecond();
    time.checked_sub(SignedDuration::from_nanos(fraction.into()))
        .unwrap_or(time)
}

/// How long ago a written time was, as the AGE column shows it; `<unknown>` when there is no time.
pub fn age(since: Option<&str>, now: Timestamp) -> String {
    match since.and_then(parse) {
        Some(since) => human_duration(now.duration_since(since)),
        None => "<unknown>".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_time_is_told_as_go_tells_it() {
        for (text, micro) in [
            ("2026-01-02T03:04:05Z", false),
            ("2026-01-02T03:04:05.25+01:00", false),
            ("2026-01-02T03:04:05.000000Z", true),
        ] {
            assert_eq!(check(text, micro), Ok(()));
        }
        let said = |text, micro| check(text, micro).unwrap_err();
        assert_eq!(
            said("", false),
            "parsing time \"\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"2006\""
        );
        assert_eq!(
            said("2026-01-02T03:04:05Z", true),
            "parsing time \"2026-01-02T03:04:05Z\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"Z\" as \".000000\""
        );
        assert_eq!(
            said("2026-13-02T03:04:05Z", false),
            "parsing time \"2026-13-02T03:04:05Z\": month out of range"
        );
        assert_eq!(
            said("2026-02-30T03:04:05Z", false),
            "parsing time \"2026-02-30T03:04:05Z\": day out of range"
        );
    }

    #[test]
    fn times_are_written_in_utc() {
        let time = parse("2026-01-02T03:04:05.678901234+01:00").unwrap();
        assert_eq!(rfc3339(time), "2026-01-02T02:04:05Z");
        assert_eq!(micro(time), "2026-01-02T02:04:05.678901Z");
        assert_eq!(micro(truncate(time)), "2026-01-02T02:04:05.000000Z");
        let old = parse("1960-01-01T00:00:00.5Z").unwrap();
        assert_eq!(micro(old), "1960-01-01T00:00:00.500000Z");
        assert_eq!(age(Some("2026-01-02T02:04:00Z"), time), "5s");
        assert_eq!(age(None, time), "<unknown>");
    }
}
