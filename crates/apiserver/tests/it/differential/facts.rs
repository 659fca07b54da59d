//! The file of a kind: one line an answer, `MARK CASE<TAB>ANSWER`.

use std::fmt::Write;
use std::path::Path;

use super::answer::Shown;
use super::cases::Case;

/// What a stock server answered.
pub(super) struct Fact {
    pub(super) case: Case,
    pub(super) shown: Shown,
    /// Whether we answer the same.
    pub(super) agrees: bool,
}

pub(super) fn read(file: &Path) -> Vec<Fact> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = |line: &str| {
        let (head, answer) = line.split_once('\t')?;
        let (mark, case) = head.split_once(' ')?;
        Some(Fact {
            case: Case::parse(case)?,
            shown: Shown::kept(answer.to_owned()),
            agrees: mark == "=",
        })
    };
    let read = |text: &str| line(text).unwrap_or_else(|| panic!("{}: {text}", file.display()));
    text.lines().map(read).collect()
}

pub(super) fn write(file: &Path, cases: &[Case], theirs: &[Shown], own: &[Shown]) {
    let mut text = String::new();
    for ((case, theirs), own) in cases.iter().zip(theirs).zip(own) {
        let mark = if theirs == own { '=' } else { '!' };
        writeln!(text, "{mark} {case}\t{theirs}").expect("memory");
        if theirs != own {
            println!(
                "{}",
                super::told_apart(&format!("{} {case}", file.display()), theirs, own)
            );
        }
    }
    std::fs::write(file, text).expect("a file");
}
