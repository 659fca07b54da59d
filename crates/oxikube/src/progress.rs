//! What the inside of a starting node tells the `start` outside: one JSON line each.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Message {
    /// Something is done; for people.
    Step(String),
    /// The node is ready and the cluster DNS answers: the last message.
    Ready,
    /// It will not come to that, and why: the last message.
    Failed(String),
}

/// The inside's end; without anybody listening it does nothing.
#[derive(Debug, Default)]
pub(crate) struct Progress(Option<File>);

impl Progress {
    pub(crate) fn new(end: Option<OwnedFd>) -> Self {
        Self(end.map(File::from))
    }

    /// Tells it. Whether anybody still listens makes no difference to the node.
    pub(crate) fn tell(&mut self, message: &Message) {
        let last = !matches!(message, Message::Step(_));
        if let Some(end) = &mut self.0 {
            let mut line = serde_json::to_vec(message).expect("a message encodes");
            line.push(b'\n');
            let told = end.write_all(&line);
            if last || told.is_err() {
                self.0 = None;
            }
        }
    }

    /// Tells that something is done.
    pub(crate) fn step(&mut self, what: impl Into<String>) {
        self.tell(&Message::Step(what.into()));
    }
}

/// The outside's end: messages until the last one or until the inside is gone.
pub(crate) fn messages(end: OwnedFd) -> impl Iterator<Item = Message> {
    let lines = BufReader::new(File::from(end)).lines();
    lines
        .map_while(Result::ok)
        .filter_map(|line| serde_json::from_str(&line).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_heard_until_the_end() {
        let (outside, inside) = rustix::pipe::pipe().expect("a pipe");
        let mut progress = Progress::new(Some(inside));
        progress.step("one");
        progress.tell(&Message::Ready);
        progress.step("nobody hears this");
        let heard: Vec<Message> = messages(outside).collect();
        assert_eq!(heard, [Message::Step("one".into()), Message::Ready]);
    }
}
