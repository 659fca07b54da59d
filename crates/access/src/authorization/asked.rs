//! Decisions that need to know what an authorizer says which takes its time.

use std::sync::{Mutex, PoisonError};

use crate::{Attributes, Authorizer, Rules, User, Verdict};

/// An authorizer that says what it has been told, and notes down what it has not: whoever made a decision over it looks
/// for open questions, has them answered, and lets the decision be made again.
#[derive(Debug, Default)]
pub struct Asked {
    known: Vec<(Attributes, Verdict)>,
    open: Mutex<Vec<Attributes>>,
}

impl Asked {
    /// Takes the questions that had no answer; a decision made meanwhile means nothing if there are any.
    pub fn take_open(&mut self) -> Vec<Attributes> {
        let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(open)
    }

    /// Learns an answer.
    pub fn know(&mut self, question: Attributes, answer: Verdict) {
        self.known.push((question, answer));
    }
}

impl Authorizer for Asked {
    fn authorize(&self, attributes: &Attributes) -> Verdict {
        let found = self.known.iter().find(|(known, _)| known == attributes);
        if let Some((_, answer)) = found {
            return answer.clone();
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !open.contains(attributes) {
            open.push(attributes.clone());
        }
        Verdict::no_opinion("")
    }

    fn rules_for(&self, _: &User, _: &str) -> Rules {
        Rules::default()
    }
}
