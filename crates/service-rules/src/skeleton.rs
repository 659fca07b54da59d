//! The fixed part of the table: base chains, sets, and the chain for each number of end points.

use std::net::Ipv4Addr;

use nft::model::{Data, KeyPart};
use nft::{Chain, Change, Expr, Hook, Rule, Set, Verdict};

use crate::fragment::FrontendKind;

/// The bit of the packet mark that asks for masquerading, as kube-proxy uses it.
const MASQUERADE_MARK: u32 = 0x4000;
/// `NF_CT_STATE` bit of a connection's first packet.
const STATE_NEW: u32 = 8;
/// `RTN_LOCAL`.
const LOCAL_ADDRESS: u32 = 2;
/// A reject or a filter has to see a service's address before it is rewritten (-100).
const BEFORE_DNAT: i32 = -110;

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// Network address.
    pub address: Ipv4Addr,
    /// Length of the prefix in bits, at most 32.
    pub prefix: u8,
}

impl Cidr {
    fn mask(self) -> [u8; 4] {
        let bits = u32::MAX
            .checked_shl(32 - u32::from(self.prefix.min(32)))
            .unwrap_or(0);
        bits.to_be_bytes()
    }

    fn network(self) -> Vec<u8> {
        let mask = self.mask();
        self.address
            .octets()
            .iter()
            .zip(mask)
            .map(|(byte, mask)| byte & mask)
            .collect()
    }
}

/// What the fixed rules need to know of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where cluster IPs come from.
    pub service_cidr: Cidr,
    /// Where pod IPs come from.
    pub cluster_cidr: Cidr,
}

/// The changes that make the table anew, without any service in it.
pub fn skeleton(settings: &Settings) -> Vec<Change> {
    let mut changes = vec![Change::AddTable, Change::DeleteTable, Change::AddTable];
    changes.extend(sets().map(Change::AddSet));
    changes.extend(chains().map(Change::AddChain));
    changes.extend(
        rules(settings)
            .into_iter()
            .map(|(c, r)| Change::AddRule(c.to_owned(), Rule(r))),
    );
    changes
}

fn sets() -> impl Iterator<Item = Set> {
    use KeyPart::{Address, Number, Port, Protocol};
    let set = |name: &str, key: &[KeyPart], data| Set {
        name: name.into(),
        key: key.into(),
        data,
    };
    [
        set("services", &[Address, Protocol, Port], Data::Verdict),
        set(
            "endpoints",
            &[Address, Protocol, Port, Number],
            Data::AddressAndPort,
        ),
        set("no-endpoints", &[Address, Protocol, Port], Data::None),
        set("hairpin", &[Address, Address], Data::None),
    ]
    .into_iter()
}

fn chains() -> impl Iterator<Item = Chain> {
    let plain = |name: &str| Chain {
        name: name.into(),
        base: None,
    };
    let base = |name: &str, kind, hook, priority| Chain {
        name: name.into(),
        base: Some((kind, hook, priority)),
    };
    [
        plain("services"),
        plain("refuse"),
        base("nat-prerouting", "nat", Hook::Prerouting, -100),
        base("nat-output", "nat", Hook::Output, -100),
        base("nat-postrouting", "nat", Hook::Postrouting, 100),
        base("refuse-prerouting", "filter", Hook::Prerouting, BEFORE_DNAT),
        base("refuse-output", "filter", Hook::Output, BEFORE_DNAT),
        base("leftover-forward", "filter", Hook::Forward, 0),
        base("leftover-output", "filter", Hook::Output, 0),
    ]
    .into_iter()
}

/// Loads destination address (or 0.0.0.0), protocol and port into registers 0, 1, 2.
fn load_key(node_port: bool) -> Vec<Expr> {
    let address = match node_port {
        true => Expr::Constant(0, vec![0; 4]),
        false => Expr::Network {
            offset: 16,
            len: 4,
            to: 0,
        },
    };
    vec![
        address,
        Expr::Protocol(1),
        Expr::Transport {
            offset: 2,
            len: 2,
            to: 2,
        },
    ]
}

fn to_this_node() -> Vec<Expr> {
    vec![
        Expr::DestinationType(0),
        Expr::Equal(0, LOCAL_ADDRESS.to_ne_bytes().to_vec()),
        // A loopback address as the source of a routed packet is dropped by the kernel anyway.
        Expr::Network {
            offset: 16,
            len: 1,
            to: 0,
        },
        Expr::NotEqual(0, vec![127]),
    ]
}

fn destination_in(cidr: Cidr) -> Vec<Expr> {
    inside(16, cidr, Expr::Equal(0, cidr.network()))
}

fn source_outside(cidr: Cidr) -> Vec<Expr> {
    inside(12, cidr, Expr::NotEqual(0, cidr.network()))
}

fn inside(offset: u32, cidr: Cidr, test: Expr) -> Vec<Expr> {
    let mask = Expr::Bitwise(0, cidr.mask().to_vec(), vec![0; 4]);
    vec![
        Expr::Network {
            offset,
            len: 4,
            to: 0,
        },
        mask,
        test,
    ]
}

fn set_mark() -> Vec<Expr> {
    let keep = (!MASQUERADE_MARK).to_ne_bytes().to_vec();
    let set = MASQUERADE_MARK.to_ne_bytes().to_vec();
    vec![Expr::Mark(0), Expr::Bitwise(0, keep, set), Expr::SetMark(0)]
}

fn first_packet() -> Vec<Expr> {
    let new = STATE_NEW.to_ne_bytes().to_vec();
    vec![
        Expr::ConnectionState(0),
        Expr::Bitwise(0, new.clone(), vec![0; 4]),
        Expr::Equal(0, new),
    ]
}

fn rules(settings: &Settings) -> Vec<(&'static str, Vec<Expr>)> {
    let jump = |chain: &str| vec![Expr::Verdict(Verdict::Jump(chain.into()))];
    let marked = MASQUERADE_MARK.to_ne_bytes().to_vec();
    let masquerade_marked = vec![
        Expr::Mark(0),
        Expr::Bitwise(0, marked.clone(), vec![0; 4]),
        Expr::Equal(0, marked),
        Expr::Masquerade,
    ];
    // A pod that reaches itself through a service would not recognize the answer.
    let masquerade_hairpin = vec![
        Expr::Network {
            offset: 12,
            len: 4,
            to: 0,
        },
        Expr::Network {
            offset: 16,
            len: 4,
            to: 1,
        },
        Expr::Lookup(0, "hairpin".into()),
        Expr::Masquerade,
    ];
    let find = |node_port| {
        let mut rule = if node_port {
            to_this_node()
        } else {
            Vec::new()
        };
        rule.extend(load_key(node_port));
        rule.push(Expr::VerdictMap(0, "services".into()));
        rule
    };
    let refuse = |node_port| {
        let mut rule = if node_port {
            to_this_node()
        } else {
            Vec::new()
        };
        rule.extend(load_key(node_port));
        rule.extend([Expr::Lookup(0, "no-endpoints".into()), Expr::Reject]);
        rule
    };
    let from_outside = [
        source_outside(settings.cluster_cidr),
        destination_in(settings.service_cidr),
        set_mark(),
    ]
    .concat();
    let leftover = [destination_in(settings.service_cidr), vec![Expr::Reject]].concat();
    let refuse_first = [first_packet(), jump("refuse")].concat();
    vec![
        ("nat-prerouting", jump("services")),
        ("nat-output", jump("services")),
        ("services", from_outside),
        ("services", find(false)),
        ("services", find(true)),
        ("nat-postrouting", masquerade_marked),
        ("nat-postrouting", masquerade_hairpin),
        ("refuse-prerouting", refuse_first.clone()),
        ("refuse-output", refuse_first),
        ("refuse", refuse(false)),
        ("refuse", refuse(true)),
        ("leftover-forward", leftover.clone()),
        ("leftover-output", leftover),
    ]
}

/// The chain that spreads over `count` end points for this kind of front end.
pub(crate) fn balancer_name(kind: FrontendKind, count: u32) -> String {
    let prefix = match kind {
        FrontendKind::Cluster => "lb",
        FrontendKind::Node => "np",
        FrontendKind::External => "ext",
    };
    format!("{prefix}-{count}")
}

/// Makes that chain.
pub(crate) fn balancer(kind: FrontendKind, count: u32) -> [Change; 2] {
    let name = balancer_name(kind, count);
    let mut rule = match kind {
        FrontendKind::Cluster => Vec::new(),
        FrontendKind::Node | FrontendKind::External => set_mark(),
    };
    rule.extend(load_key(kind == FrontendKind::Node));
    rule.extend([
        Expr::Random(3, count),
        Expr::Map(0, "endpoints".into(), 0),
        Expr::Dnat(0, 1),
    ]);
    [
        Change::AddChain(Chain {
            name: name.clone(),
            base: None,
        }),
        Change::AddRule(name, Rule(rule)),
    ]
}
