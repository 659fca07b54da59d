//! Sets of completion indexes as text: `1,3-5,7`.
//!
//! Behaviour: `validateIndexesFormat` in `pkg/apis/batch/validation`, `pkg/controller/job/indexed_job_utils.go`.

/// A run of indexes, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The first index.
    pub first: i32,
    /// The last index.
    pub last: i32,
}

/// Reads one interval of indexes below `completions`.
///
/// # Errors
/// What is wrong, as the API tells it.
pub fn interval(text: &str, completions: i32) -> Result<Interval, String> {
    let mut limits = text.split('-');
    let (first, last, more) = (
        limits.next().unwrap_or_default(),
        limits.next(),
        limits.next(),
    );
    if more.is_some() {
        return Err(format!(
            "the fragment {text:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        ));
    }
    let number = |text: &str| {
        let number: i64 = text
            .parse()
            .map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        match i32::try_from(number) {
            Ok(number) if number < completions => Ok(number),
            Err(_) if number < 0 => Ok(i32::MIN),
            _ => Err(format!("too large index: {text:?}")),
        }
    };
    let first = number(first)?;
    let Some(last) = last else {
        return Ok(Interval { first, last: first });
    };
    let last = number(last)?;
    if first >= last {
        return Err(not_increasing(first, last));
    }
    Ok(Interval { first, last })
}

fn not_increasing(previous: i32, current: i32) -> String {
    format!("non-increasing order, previous: {previous}, current: {current}")
}

/// Reads a whole set, whose intervals must increase. Returns how many indexes there are.
///
/// # Errors
/// What is wrong, as the API tells it.
pub fn count(text: &str, completions: i32) -> Result<i32, String> {
    let mut total = 0_i32;
    let mut previous: Option<i32> = None;
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let Interval { first, last } = interval(part, completions)?;
        if let Some(previous) = previous.filter(|p| *p >= first) {
            return Err(not_increasing(previous, first));
        }
        total = total.saturating_add(last.saturating_sub(first).saturating_add(1));
        previous = Some(last);
    }
    Ok(total)
}

/// The intervals that can be read; the rest is left out, as one reads what a status has kept.
pub fn lenient(text: &str, completions: i32) -> Vec<Interval> {
    let mut out: Vec<Interval> = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let mut limits = part.splitn(2, '-');
        let Some(Ok(first)) = limits.next().map(str::parse::<i32>) else {
            continue;
        };
        let last = match limits.next().map(str::parse::<i32>) {
            None => first,
            Some(Ok(last)) => last.min(completions - 1),
            Some(Err(_)) => continue,
        };
        if first < completions && first >= 0 && first <= last {
            out.push(Interval { first, last });
        }
    }
    out
}

/// The first index that is in both sets; what cannot be read is left out.
pub fn overlap(a: &str, b: &str, completions: i32) -> Option<i32> {
    let read = |text: &str| -> Vec<Interval> {
        let parts = text.split(',').filter(|_| !text.is_empty());
        parts
            .filter_map(|part| interval(part, completions).ok())
            .collect()
    };
    let (a, b) = (read(a), read(b));
    let (mut i, mut j) = (0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        if x.first <= y.last && y.first <= x.last {
            return Some(x.first.max(y.first));
        }
        if x.first <= y.first {
            i += 1;
        } else {
            j += 1;
        }
    }
    None
}

/// A set as text. The indexes must increase.
pub fn format(indexes: impl IntoIterator<Item = i32>) -> String {
    let mut runs: Vec<Interval> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some(run) if run.last.checked_add(1) == Some(index) => run.last = index,
            _ => runs.push(Interval {
                first: index,
                last: index,
            }),
        }
    }
    let text = |run: &Interval| match (run.first, run.last) {
        (first, last) if first == last => first.to_string(),
        // Two in a row are written as two, which is no longer.
        (first, last) if first + 1 == last => format!("{first},{last}"),
        (first, last) => format!("{first}-{last}"),
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}
