//! The requests that are listed by hand in `awkward.txt`, asked one after the other of one server.

use std::path::Path;

use super::answer::Shown;
use super::cases::Request;
use super::{Peer, folder};

/// A line of the list, and what a stock server answered.
pub(super) struct Fact {
    line: String,
    shown: Shown,
    agrees: bool,
}

fn lines() -> Vec<String> {
    let text = std::fs::read_to_string(folder().join("awkward.txt")).expect("the list");
    let asked = text.lines().filter(|line| !line.starts_with('#'));
    asked.map(str::to_owned).collect()
}

fn file() -> std::path::PathBuf {
    folder().join("facts/awkward.txt")
}

async fn play(peer: &Peer<'_>, lines: &[String]) -> Vec<Shown> {
    let mut shown = Vec::new();
    for line in lines {
        let request = Request::parse(line).unwrap_or_else(|| panic!("{line}"));
        let (code, body, warnings) = peer.ask(&request).await;
        shown.push(Shown::plain(code, &body, &warnings));
    }
    shown
}

/// Asks both and writes down what the stock server answers.
pub(super) async fn record(stock: &Peer<'_>, ours: &Peer<'_>) {
    let lines = lines();
    let (theirs, own) = (play(stock, &lines).await, play(ours, &lines).await);
    write(&file(), &lines, &theirs, &own);
}

fn write(file: &Path, lines: &[String], theirs: &[Shown], own: &[Shown]) {
    let mut text = String::new();
    for ((line, theirs), own) in lines.iter().zip(theirs).zip(own) {
        let mark = if theirs == own { '=' } else { '!' };
        text.push_str(&format!("{mark} {line}\t{theirs}\n"));
        if theirs != own {
            println!("{}", super::told_apart(line, theirs, own));
        }
    }
    std::fs::write(file, text).expect("a file");
}

fn read() -> Vec<Fact> {
    let text = std::fs::read_to_string(file()).unwrap_or_default();
    let fact = |text: &str| {
        let (head, answer) = text.rsplit_once('\t').expect("an answer");
        let (mark, line) = head.split_once(' ').expect("a request");
        Fact {
            line: line.to_owned(),
            shown: Shown::kept(answer.to_owned()),
            agrees: mark == "=",
        }
    };
    text.lines().map(fact).collect()
}

/// What we answer otherwise than is written down; and how many answers there are, and how many are known to differ.
pub(super) async fn compare(ours: &Peer<'_>) -> (Vec<String>, usize, usize) {
    let facts = read();
    let lines: Vec<String> = facts.iter().map(|fact| fact.line.clone()).collect();
    let own = play(ours, &lines).await;
    let wrong = facts.iter().zip(&own);
    let wrong =
        wrong.filter_map(|(fact, own)| super::problem(fact.agrees, &fact.line, &fact.shown, own));
    let known = facts.iter().filter(|fact| !fact.agrees).count();
    (wrong.collect(), facts.len(), known)
}
