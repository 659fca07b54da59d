//! How two specifications differ, for messages.

use std::fmt::Write as _;

use serde_json::Value;

/// The lines in which two trees differ, each with three lines around it, as `diff -u` shows them.
pub(super) fn diff(old: &Value, new: &Value) -> String {
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    let (old, new) = (pretty(old), pretty(new));
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (rest_old, rest_new) = (&old[head..], &new[head..]);
    let tail = rest_old
        .iter()
        .rev()
        .zip(rest_new.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let (gone, added) = (
        &rest_old[..rest_old.len() - tail],
        &rest_new[..rest_new.len() - tail],
    );
    let before = head.saturating_sub(3);
    let after = tail.min(3);
    let length = |changed: usize| head - before + changed + after;
    let mut out = format!(
        "@@ -{},{} +{},{} @@\n",
        before + 1,
        length(gone.len()),
        before + 1,
        length(added.len())
    );
    // Upstream indents by one space, serde_json by two.
    let trim = |line: &str| {
        let spaces = line.len() - line.trim_start().len();
        format!("{}{}", " ".repeat(spaces / 2), line.trim_start())
    };
    let groups: [(char, &[&str]); 4] = [
        (' ', &old[before..head]),
        ('-', gone),
        ('+', added),
        (' ', &rest_old[rest_old.len() - tail..][..after]),
    ];
    for (mark, lines) in groups {
        for line in lines {
            // Writing into a String has no way to fail.
            let _ = writeln!(out, "{mark}{}", trim(line));
        }
    }
    out
}
