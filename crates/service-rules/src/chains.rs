//! The chains that spread packets over end points. They depend on numbers only (how many end points, how long clients
//! stay), never on a service: services with the same numbers share them.

use nft::{Chain, Change, Expr, Rule, Verdict};

use crate::cidr::Cidr;
use crate::skeleton::{LOCAL_ADDRESS, inside, load_key, set_mark};

/// The map of clients and the end points that they stay with.
pub(crate) const AFFINITY: &str = "affinity";

/// Where the packet's front end is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Door {
    /// Under the address that it is sent to.
    Address,
    /// Under its port alone.
    NodePort,
}

/// Which of the two lists of end points is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Pool {
    /// Of the policy `Cluster`, or the only one.
    Cluster,
    /// Of this node.
    Local,
}

impl Pool {
    /// The map of its end points by number.
    pub(crate) fn by_number(self) -> &'static str {
        match self {
            Self::Cluster => "endpoints",
            Self::Local => "local-endpoints",
        }
    }

    /// The set of its end points, for front ends whose clients stay.
    pub(crate) fn members(self) -> &'static str {
        match self {
            Self::Cluster => "members",
            Self::Local => "local-members",
        }
    }
}

/// A chain that sends packets to one of `count` end points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Spread {
    pub(crate) door: Door,
    /// Whether the source is rewritten on the way out.
    pub(crate) masquerade: bool,
    pub(crate) pool: Pool,
    pub(crate) count: u32,
    /// Seconds that a client stays.
    pub(crate) affinity: Option<u32>,
}

/// A chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Target {
    /// To one of several end points.
    Spread(Spread),
    /// Pods and the node itself by the policy `Cluster`, all others by the map `outside`.
    Preserve {
        door: Door,
        count: u32,
        affinity: Option<u32>,
    },
}

fn suffix(affinity: Option<u32>) -> String {
    affinity.map(|s| format!("-{s}s")).unwrap_or_default()
}

impl Spread {
    fn name(&self) -> String {
        let door = match (self.door, self.masquerade) {
            (Door::Address, false) => "lb",
            (Door::Address, true) => "ext",
            (Door::NodePort, false) => "np-plain",
            (Door::NodePort, true) => "np",
        };
        let pool = match self.pool {
            Pool::Cluster => "",
            Pool::Local => "-local",
        };
        format!("{door}{pool}-{}{}", self.count, suffix(self.affinity))
    }

    fn rules(&self) -> Vec<Vec<Expr>> {
        let mut rules = Vec::new();
        if self.masquerade {
            rules.push(set_mark());
        }
        if let Some(seconds) = self.affinity {
            rules.push(self.stay(seconds));
            rules.push(self.choose_and_remember(seconds));
        }
        rules.push(self.choose());
        rules
    }

    fn choose(&self) -> Vec<Expr> {
        let mut rule = load_key(self.door, 0);
        rule.extend([
            Expr::Random(3, self.count),
            Expr::Map(0, self.pool.by_number().into(), 0),
            Expr::Dnat(0, 1),
        ]);
        rule
    }

    /// The client's address in register 0, the front end in 1 to 3: the key of what is remembered.
    fn load_client(&self) -> Vec<Expr> {
        let mut rule = vec![Expr::Network {
            offset: 12,
            len: 4,
            to: 0,
        }];
        rule.extend(load_key(self.door, 1));
        rule
    }

    fn remember(seconds: u32) -> Expr {
        Expr::Remember {
            key: 0,
            map: AFFINITY.into(),
            value: 4,
            seconds,
        }
    }

    /// A client that is known goes where it went before, if that end point is still one.
    fn stay(&self, seconds: u32) -> Vec<Expr> {
        let mut rule = self.load_client();
        rule.extend([
            Expr::Map(0, AFFINITY.into(), 4),
            Expr::Lookup(1, self.pool.members().into()),
            Self::remember(seconds),
            Expr::Dnat(4, 5),
        ]);
        rule
    }

    /// A client whose end point has gone is forgotten first: remembering never changes a value.
    fn choose_and_remember(&self, seconds: u32) -> Vec<Expr> {
        let mut rule = self.load_client();
        rule.extend([
            Expr::Random(4, self.count),
            Expr::Map(1, self.pool.by_number().into(), 4),
            Expr::Forget {
                key: 0,
                map: AFFINITY.into(),
                value: 4,
            },
            Self::remember(seconds),
            Expr::Dnat(4, 5),
        ]);
        rule
    }
}

impl Target {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Spread(spread) => spread.name(),
            Self::Preserve {
                door,
                count,
                affinity,
            } => {
                let door = match door {
                    Door::Address => "ext",
                    Door::NodePort => "np",
                };
                format!("{door}-preserve-{count}{}", suffix(*affinity))
            }
        }
    }

    /// Whether clients stay, for which the map of them is needed.
    pub(crate) fn remembers(&self) -> bool {
        match self {
            Self::Spread(spread) => spread.affinity.is_some(),
            Self::Preserve { affinity, .. } => affinity.is_some(),
        }
    }

    /// The chains that it sends packets on to.
    pub(crate) fn needs(&self) -> Vec<Self> {
        match *self {
            Self::Spread(_) => Vec::new(),
            Self::Preserve {
                door,
                count,
                affinity,
            } => [false, true]
                .map(|masquerade| {
                    Self::Spread(Spread {
                        door,
                        masquerade,
                        pool: Pool::Cluster,
                        count,
                        affinity,
                    })
                })
                .into(),
        }
    }

    /// Makes the chain; what it needs is there.
    pub(crate) fn make(&self, pods: Option<Cidr>) -> Vec<Change> {
        let rules = match self {
            Self::Spread(spread) => spread.rules(),
            Self::Preserve { door, .. } => preserve(self, *door, pods),
        };
        let name = self.name();
        let chain = Change::AddChain(Chain {
            name: name.clone(),
            base: None,
        });
        let rules = rules
            .into_iter()
            .map(|rule| Change::AddRule(name.clone(), Rule(rule)));
        std::iter::once(chain).chain(rules).collect()
    }
}

/// Pods take the short way, the node itself as well (under its own address); what comes from outside stays here.
fn preserve(target: &Target, door: Door, pods: Option<Cidr>) -> Vec<Vec<Expr>> {
    let needs = target.needs();
    let goto = |to: &Target| Expr::Verdict(Verdict::Goto(to.name()));
    let mut rules = Vec::new();
    if let Some(pods) = pods {
        let mut rule = inside(12, pods, Expr::Equal(0, pods.network()));
        rule.push(goto(&needs[0]));
        rules.push(rule);
    }
    rules.push(vec![
        Expr::SourceType(0),
        Expr::Equal(0, LOCAL_ADDRESS.to_ne_bytes().to_vec()),
        goto(&needs[1]),
    ]);
    let mut outside = load_key(door, 0);
    outside.push(Expr::VerdictMap(0, "outside".into()));
    rules.push(outside);
    rules
}
