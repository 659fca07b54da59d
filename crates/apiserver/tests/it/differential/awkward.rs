//! The requests that are listed by hand in `awkward.txt` and `owners.txt`, asked one after the other of one server.

use std::path::Path;

use serde_json::Value;

use super::answer::Shown;
use super::cases::Request;
use super::{Peer, folder};

/// A line of the list, and what a stock server answered.
pub(super) struct Fact {
    line: String,
    shown: Shown,
    agrees: bool,
}

/// A list of requests, and what is looked at in their answers.
struct List {
    file: &'static str,
    show: fn(u16, &Value, &[String]) -> Shown,
}

const LISTS: [List; 2] = [
    List {
        file: "awkward.txt",
        show: Shown::plain,
    },
    // Who owns which fields after which writes.
    List {
        file: "owners.txt",
        show: Shown::owned,
    },
];

fn lines(list: &List) -> Vec<String> {
    let text = std::fs::read_to_string(folder().join(list.file)).expect("the list");
    let asked = text.lines().filter(|line| !line.starts_with('#'));
    asked.map(str::to_owned).collect()
}

fn facts_of(list: &List) -> std::path::PathBuf {
    folder().join("facts").join(list.file)
}

async fn play(peer: &Peer<'_>, list: &List, lines: &[String]) -> Vec<Shown> {
    let mut shown = Vec::new();
    for line in lines {
        let request = Request::parse(line).unwrap_or_else(|| panic!("{line}"));
        let (code, body, warnings) = peer.ask(&request).await;
        shown.push((list.show)(code, &body, &warnings));
    }
    shown
}

/// Asks both and writes down what the stock server answers.
pub(super) async fn record(stock: &Peer<'_>, ours: &Peer<'_>) {
    for list in &LISTS {
        let lines = lines(list);
        let theirs = play(stock, list, &lines).await;
        let own = play(ours, list, &lines).await;
        write(&facts_of(list), &lines, &theirs, &own);
    }
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

fn read(list: &List) -> Vec<Fact> {
    let text = std::fs::read_to_string(facts_of(list)).unwrap_or_default();
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
    let (mut all_wrong, mut all, mut known) = (Vec::new(), 0, 0);
    for list in &LISTS {
        let facts = read(list);
        let lines: Vec<String> = facts.iter().map(|fact| fact.line.clone()).collect();
        let own = play(ours, list, &lines).await;
        let wrong = facts.iter().zip(&own);
        let wrong = wrong
            .filter_map(|(fact, own)| super::problem(fact.agrees, &fact.line, &fact.shown, own));
        all_wrong.extend(wrong);
        all += facts.len();
        known += facts.iter().filter(|fact| !fact.agrees).count();
    }
    (all_wrong, all, known)
}
