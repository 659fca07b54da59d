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
