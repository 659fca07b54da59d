//! After how many seconds somebody who was refused should come back: the more are refused, the later.
//!
//! Behaviour: `k8s.io/apiserver/pkg/util/flowcontrol/dropped_requests_tracker.go`.

use std::collections::VecDeque;

const MOST_SECONDS: i64 = 32;

/// Counts those who were refused, second by second.
#[derive(Debug)]
pub struct Dropped {
    history: VecDeque<(i64, i64)>,
    current: (i64, i64),
    after: i64,
    changed: i64,
}

impl Default for Dropped {
    fn default() -> Self {
        Self {
            history: VecDeque::new(),
            current: (0, 0),
            after: 1,
            changed: 0,
        }
    }
}

impl Dropped {
    /// One more, in this second; says after how many seconds to come back.
    pub fn note(&mut self, second: i64) -> i64 {
        if self.current.0 == second {
            self.current.1 += 1;
            return self.after;
        }
        self.history.push_back(self.current);
        self.current = (second, 1);
        let kept = (2 * self.after).min(MOST_SECONDS);
        while self
            .history
            .front()
            .is_some_and(|(at, _)| second - at > kept)
        {
            self.history.pop_front();
        }
        self.adjust(second);
        self.after
    }

    fn adjust(&mut self, second: i64) {
        let recent = self
            .history
            .iter()
            .filter(|(at, _)| second - at <= self.after);
        let dropped: i64 = recent.map(|(_, count)| count).sum();
        if second - self.changed >= self.after && dropped >= 3 * self.after {
            self.after = (2 * self.after).min(MOST_SECONDS);
            self.changed = second;
        } else if dropped < self.after && self.after > 1 {
            self.after -= 1;
        }
    }
}
