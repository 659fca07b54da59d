//! Durations for people.
//!
//! Behaviour: `k8s.io/apimachinery/pkg/util/duration`.

use jiff::SignedDuration;

/// Two or three significant figures: `45s`, `5m30s`, `3h`, `2d4h`, `400d`, `3y20d`.
pub fn human(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    if seconds < 0 {
        return "0s".to_owned();
    }
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => pair(days, "d", hours % 24, "h"),
        () if days < 365 * 2 => format!("{days}d"),
        () if days < 365 * 8 => pair(days / 365, "y", days % 365, "d"),
        () => format!("{}y", days / 365),
    }
}

/// One significant figure: `45s`, `5m`, `3h`, `2d`, `3y`.
pub fn short(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match () {
        () if seconds < -1 => "<invalid>".to_owned(),
        () if seconds < 0 => "0s".to_owned(),
        () if seconds < 60 => format!("{seconds}s"),
        () if minutes < 60 => format!("{minutes}m"),
        () if hours < 24 => format!("{hours}h"),
        () if days < 365 => format!("{days}d"),
        () => format!("{}y", days / 365),
    }
}

/// Nanoseconds as Go prints a duration: `1h30m0s`, `1.5s`, `500ms`, `0s`.
pub fn go(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let all = nanoseconds.unsigned_abs();
    let decimal = |all: u64, unit: u64, name: &str| {
        let (whole, part) = (all / unit, all % unit);
        let digits = unit.ilog10() as usize;
        let part = format!("{part:0digits$}");
        match part.trim_end_matches('0') {
            "" => format!("{whole}{name}"),
            part => format!("{whole}.{part}{name}"),
        }
    };
    let text = match all {
        0 => "0s".to_owned(),
        1..1_000 => format!("{all}ns"),
        1_000..1_000_000 => decimal(all, 1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(all, 1_000_000, "ms"),
        1_000_000_000..60_000_000_000 => decimal(all, 1_000_000_000, "s"),
        _ => {
            let minutes = all / 60_000_000_000;
            let rest = decimal(all % 60_000_000_000, 1_000_000_000, "s");
            match minutes / 60 {
                0 => format!("{minutes}m{rest}"),
                hours => format!("{hours}h{}m{rest}", minutes % 60),
            }
        }
    };
    format!("{sign}{text}")
}

/// A duration as Go writes and reads it: `1h30m`, `-1.5s`, `100ms`.
pub fn parse(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let units: [(&str, i128); 8] = [
            ("ns", 1),
            ("us", 1_000),
            ("µs", 1_000),
            ("μs", 1_000),
            ("ms", 1_000_000),
            ("s", 1_000_000_000),
            ("m", 60_000_000_000),
            ("h", 3_600_000_000_000),
        ];
        let (unit, scale) = units.iter().find(|(unit, _)| tail.starts_with(unit))?;
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && part.is_empty() || part.contains('.') {
            return None;
        }
        let digits = |text: &str| match text {
            "" => Some(0),
            text => text.get(..text.len().min(18))?.parse::<i128>().ok(),
        };
        if whole.len() > 18 {
            return None;
        }
        let part_scale = 10_i128.pow(u32::try_from(part.len().min(18)).ok()?);
        total += digits(whole)? * scale + digits(part)? * scale / part_scale;
        rest = &tail[unit.len()..];
    }
    let total = if negative { -total } else { total };
    i64::try_from(total).ok().map(SignedDuration::from_nanos)
}

fn pair(big: i64, big_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 {
        format!("{big}{big_unit}")
    } else {
        format!("{big}{big_unit}{small}{small_unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        const H: i64 = 3600;
        for (seconds, expected) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (121, "2m1s"),
            (600, "10m"),
            (179 * 60, "179m"),
            (3 * H, "3h"),
            (3 * H + 60, "3h1m"),
            (8 * H + 60, "8h"),
            (48 * H, "2d"),
            (49 * H, "2d1h"),
            (24 * 8 * H + H, "8d"),
            (24 * 365 * 2 * H - 1, "729d"),
            (24 * 365 * 2 * H, "2y"),
            (24 * 366 * 2 * H, "2y2d"),
            (24 * 365 * 9 * H, "9y"),
        ] {
            assert_eq!(human(SignedDuration::from_secs(seconds)), expected);
        }
        assert_eq!(short(SignedDuration::from_secs(3700)), "1h");
        for (nanoseconds, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (-500_000_000, "-500ms"),
            (1_800_000_000_000, "30m0s"),
            (3_661_050_000_000, "1h1m1.05s"),
        ] {
            assert_eq!(go(nanoseconds), expected);
        }
    }
}
