//! How two specifications differ, for messages.

use std::fmt::Write as _;

use crate::go::Shown;

/// Lines shown before and after a change.
const CONTEXT: usize = 3;
/// Beyond this many pairs of lines the changed part is shown as one.
const PAIRS_MAX: usize = 4_000_000;

/// A line of both texts, of the old one alone or of the new one alone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Both(&'a str),
    Old(&'a str),
    New(&'a str),
}

/// The lines in which two values differ, each with three lines around it, as `diff -u` shows them.
pub(crate) fn diff(old: &Shown, new: &Shown) -> String {
    let (old, new) = (old.pretty(), new.pretty());
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let lines = compare(&old, &new);
    let changed: Vec<usize> = (0..lines.len())
        .filter(|i| !matches!(lines[*i], Line::Both(_)))
        .collect();
    let mut out = String::new();
    let mut next = 0;
    while let Some(&first) = changed.get(next) {
        let mut last = first;
        // Changes that are near each other share a hunk.
        while let Some(&then) = changed.get(next).filter(|i| **i <= last + 2 * CONTEXT + 1) {
            last = then;
            next += 1;
        }
        let from = first.saturating_sub(CONTEXT);
        let to = (last + CONTEXT + 1).min(lines.len());
        hunk(&mut out, &lines, from, to);
    }
    out
}

/// One hunk with its header.
fn hunk(out: &mut String, lines: &[Line<'_>], from: usize, to: usize) {
    let in_old = |lines: &[Line<'_>]| lines.iter().filter(|l| !matches!(l, Line::New(_))).count();
    let in_new = |lines: &[Line<'_>]| lines.iter().filter(|l| !matches!(l, Line::Old(_))).count();
    let (before, shown) = (&lines[..from], &lines[from..to]);
    // Writing into a String has no way to fail.
    let _ = writeln!(
        out,
        "@@ -{},{} +{},{} @@",
        in_old(before) + 1,
        in_old(shown),
        in_new(before) + 1,
        in_new(shown)
    );
    for line in shown {
        let (mark, text) = match line {
            Line::Both(text) => (' ', text),
            Line::Old(text) => ('-', text),
            Line::New(text) => ('+', text),
        };
        let _ = writeln!(out, "{mark}{text}");
    }
}

/// The two texts as one sequence, with as many common lines as there are.
fn compare<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - head;
    let tail = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take(rest)
        .take_while(|(a, b)| a == b)
        .count();
    let (gone, added) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let mut lines: Vec<Line<'a>> = old[..head].iter().map(|line| Line::Both(line)).collect();
    if gone.len() * added.len() > PAIRS_MAX {
        lines.extend(gone.iter().map(|line| Line::Old(line)));
        lines.extend(added.iter().map(|line| Line::New(line)));
    } else {
        common(gone, added, &mut lines);
    }
    lines.extend(old[old.len() - tail..].iter().map(|line| Line::Both(line)));
    lines
}

/// The longest common subsequence, by the table of its lengths.
fn common<'a>(old: &[&'a str], new: &[&'a str], lines: &mut Vec<Line<'a>>) {
    let width = new.len() + 1;
    let mut length = vec![0_u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            length[i * width + j] = if old[i] == new[j] {
                length[(i + 1) * width + j + 1] + 1
            } else {
                length[(i + 1) * width + j].max(length[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(Line::Both(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len()
            || (i < old.len() && length[(i + 1) * width + j] >= length[i * width + j + 1])
        {
            lines.push(Line::Old(old[i]));
            i += 1;
        } else {
            lines.push(Line::New(new[j]));
            j += 1;
        }
    }
}
