//! Priority levels: how many seats each has, and what happens when there is none.
//!
//! Behaviour: `k8s.io/apiserver/pkg/util/flowcontrol/apf_controller.go` (`finishQueueSetReconfigsLocked`).

use machinery::Object;
use serde_json::Value;

/// The level that never waits.
pub const EXEMPT: &str = "exempt";
/// The level of whatever fits nothing else.
pub const CATCH_ALL: &str = "catch-all";

/// No request should take more than this part of a level's seats.
const SEATS_OF_ONE: f64 = 0.15;

/// What happens to requests that find no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// They are served all the same.
    Exempt,
    /// They are refused.
    Reject,
    /// They wait in queues.
    Queue {
        /// How many queues there are.
        queues: usize,
        /// Among how many of them a flow chooses.
        hand: usize,
        /// How many requests wait in one.
        length: usize,
    },
}

/// A priority level.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// What happens without a seat.
    pub shape: Shape,
    shares: f64,
    lendable_percent: f64,
    borrowing_percent: Option<f64>,
}

/// The seats of a level.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// What it has by its shares.
    pub nominal: u64,
    /// What it never lends.
    pub lower: u64,
    /// What it has at most, with what others lend.
    pub upper: u64,
    /// What one request takes at most; none when nothing bounds it.
    pub of_one: Option<u64>,
}

impl Level {
    /// Reads a PriorityLevelConfiguration; none when it makes no sense.
    pub fn read(object: &Object) -> Option<Self> {
        let spec = object.at(&["spec"])?;
        let exempt = object.name() == EXEMPT;
        let (part, shape) = match spec["type"].as_str()? {
            "Exempt" if exempt => (&spec["exempt"], Shape::Exempt),
            "Limited" if !exempt => {
                let response = &spec["limited"]["limitResponse"];
                let number = |field: &str| response["queuing"][field].as_u64();
                let shape = match response["type"].as_str()? {
                    "Reject" => Shape::Reject,
                    _ => Shape::Queue {
                        queues: number("queues")?.clamp(1, 10_000_000) as usize,
                        hand: number("handSize")?.clamp(1, 1024) as usize,
                        length: number("queueLengthLimit")?.max(1) as usize,
                    },
                };
                (&spec["limited"], shape)
            }
            _ => return None,
        };
        let number = |field: &str| part[field].as_f64();
        Some(Self {
            name: object.name().to_owned(),
            uid: object.uid().to_owned(),
            shape,
            shares: number("nominalConcurrencyShares").unwrap_or(if exempt { 0.0 } else { 30.0 }),
            lendable_percent: number("lendablePercent").unwrap_or(0.0),
            borrowing_percent: part.get("borrowingLimitPercent").and_then(Value::as_f64),
        })
    }

    /// A level that must be there, when it is not.
    pub fn imagined(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            uid: String::new(),
            shape: if name == EXEMPT {
                Shape::Exempt
            } else {
                Shape::Reject
            },
            shares: if name == EXEMPT { 0.0 } else { 5.0 },
            lendable_percent: 0.0,
            borrowing_percent: None,
        }
    }

    /// The seats of each of these levels, of those that the server has.
    pub fn limits(all: &[Self], server: u64) -> Vec<Limits> {
        let sum: f64 = all.iter().map(|level| level.shares).sum();
        all.iter()
            .map(|level| level.own_limits(server, sum))
            .collect()
    }

    fn own_limits(&self, server: u64, sum: f64) -> Limits {
        let whole = server as f64;
        let nominal = match sum > 0.0 {
            true => (whole * self.shares / sum).ceil(),
            false => 0.0,
        };
        let lendable = (nominal * self.lendable_percent / 100.0).round();
        let borrowing = match self.borrowing_percent {
            Some(percent) => (nominal * percent / 100.0).round(),
            None => whole,
        };
        let of_one = match self.shape {
            Shape::Queue { hand, .. } => {
                let part = (nominal * SEATS_OF_ONE).ceil();
                let by_hand = (nominal / hand as f64).floor();
                Some(part.min(by_hand).max(1.0) as u64)
            }
            _ => None,
        };
        Limits {
            nominal: nominal as u64,
            lower: (nominal - lendable) as u64,
            upper: (nominal + borrowing) as u64,
            of_one,
        }
    }
}

impl Limits {
    /// What a level begins with: between all that it has and what it keeps when it lends all it may.
    pub fn initial(&self) -> u64 {
        self.nominal - (self.nominal - self.lower) / 2
    }
}
