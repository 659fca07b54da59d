//! The fixed part of the table: base chains, sets, and the rules that lead to the chains of `chains.rs`.

use std::collections::BTreeSet;

use nft::model::{Data, KeyPart};
use nft::{Chain, Change, Expr, Hook, Rule, Set, Verdict};

use crate::chains::{AFFINITY, Door};
use crate::cidr::{Cidr, mask};

/// The bit of the packet mark that asks for masquerading, as kube-proxy uses it.
const MASQUERADE_MARK: u32 = 0x4000;
/// `NF_CT_STATE` bit of a connection's first packet.
const STATE_NEW: u32 = 8;
/// The bit of a connection whose destination was changed.
const STATUS_DNAT: u32 = 1 << 5;
/// `RTN_LOCAL`.
pub(crate) const LOCAL_ADDRESS: u32 = 2;
/// A reject or a filter has to see a service's address before it is rewritten (-100).
const BEFORE_DNAT: i32 = -110;
/// Offsets of the addresses in the network header.
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
/// The chain that refuses addresses of cluster IPs that no service has.
const NOBODY: &str = "no-service";
/// IANA number.
const ICMP: u8 = 1;

/// What the fixed rules need to know of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where cluster IPs come from as long as no ServiceCIDRs are known, if that is known: what no service has of it is
    /// refused.
    pub service_cidr: Option<Cidr>,
    /// Where pod IPs come from, if known: what comes from elsewhere to a cluster IP is masqueraded.
    pub cluster_cidr: Option<Cidr>,
    /// The networks on whose addresses of this node node ports answer; all addresses if there is none
    /// (`--nodeport-addresses`). Never on loopback.
    pub node_port_addresses: Vec<Cidr>,
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
    let frontend = [Address, Protocol, Port];
    let numbered = [Address, Protocol, Port, Number];
    let member = [Address, Protocol, Port, Address, Port];
    let source = [Address, Protocol, Port, Address, Number];
    [
        set("services", &frontend, Data::Verdict),
        set("outside", &frontend, Data::Verdict),
        set("endpoints", &numbered, Data::AddressAndPort),
        set("local-endpoints", &numbered, Data::AddressAndPort),
        set("members", &member, Data::None),
        set("local-members", &member, Data::None),
        set("no-endpoints", &frontend, Data::None),
        set("firewalled", &frontend, Data::None),
        set("sources", &source, Data::None),
        set("hairpin", &[Address, Address], Data::None),
        set("cluster-ips", &[Address], Data::None),
        set("announced", &[Address], Data::None),
    ]
    .into_iter()
}

/// Makes the map of clients that stay with their end points: client and front end, end point.
pub(crate) fn affinity_map() -> Change {
    use KeyPart::{Address, Port, Protocol};
    Change::AddSet(Set {
        name: AFFINITY.into(),
        key: vec![Address, Address, Protocol, Port],
        data: Data::Remembered,
    })
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
        plain(NOBODY),
        plain("check"),
        plain("sources"),
        base("nat-prerouting", "nat", Hook::Prerouting, -100),
        base("nat-output", "nat", Hook::Output, -100),
        base("nat-postrouting", "nat", Hook::Postrouting, 100),
        base("check-prerouting", "filter", Hook::Prerouting, BEFORE_DNAT),
        base("check-output", "filter", Hook::Output, BEFORE_DNAT),
        base("leftover-input", "filter", Hook::Input, 0),
        base("leftover-forward", "filter", Hook::Forward, 0),
        base("leftover-output", "filter", Hook::Output, 0),
    ]
    .into_iter()
}

/// Loads destination address (0.0.0.0 for a node port), protocol and port into three registers from this one on.
pub(crate) fn load_key(door: Door, first: u8) -> Vec<Expr> {
    let address = match door {
        Door::NodePort => Expr::Constant(first, vec![0; 4]),
        Door::Address => Expr::Network {
            offset: DESTINATION,
            len: 4,
            to: first,
        },
    };
    vec![
        address,
        Expr::Protocol(first + 1),
        Expr::Transport {
            offset: 2,
            len: 2,
            to: first + 2,
        },
    ]
}

fn destination() -> Expr {
    Expr::Network {
        offset: DESTINATION,
        len: 4,
        to: 0,
    }
}

fn to_this_node() -> Vec<Expr> {
    vec![
        Expr::DestinationType(0),
        Expr::Equal(0, LOCAL_ADDRESS.to_ne_bytes().to_vec()),
        // A loopback address as the source of a routed packet is dropped by the kernel anyway.
        Expr::Network {
            offset: DESTINATION,
            len: 1,
            to: 0,
        },
        Expr::NotEqual(0, vec![127]),
    ]
}

fn destination_in(cidr: Cidr) -> Vec<Expr> {
    inside(DESTINATION, cidr, Expr::Equal(0, cidr.network()))
}

/// Tests the masked address at an offset of the network header.
pub(crate) fn inside(offset: u32, cidr: Cidr, test: Expr) -> Vec<Expr> {
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

pub(crate) fn set_mark() -> Vec<Expr> {
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

type Named = (&'static str, Vec<Expr>);

fn jump(chain: &str) -> Expr {
    Expr::Verdict(Verdict::Jump(chain.into()))
}

fn rules(settings: &Settings) -> Vec<Named> {
    let mut rules = vec![
        ("nat-prerouting", vec![jump("services")]),
        ("nat-output", vec![jump("services")]),
    ];
    rules.extend(from_outside(settings));
    rules.extend(at_the_doors("services", settings, &|| {
        vec![Expr::VerdictMap(0, "services".into())]
    }));
    rules.extend(masquerading());
    rules.extend(checks(settings));
    rules.extend(leftovers());
    rules
}

/// These steps after loading the key: once for addresses, and once for node ports on each network where they answer.
fn at_the_doors(
    chain: &'static str,
    settings: &Settings,
    steps: &dyn Fn() -> Vec<Expr>,
) -> Vec<Named> {
    let mut rules = vec![(chain, [load_key(Door::Address, 0), steps()].concat())];
    let node_port = || [load_key(Door::NodePort, 0), steps()].concat();
    match settings.node_port_addresses.as_slice() {
        [] => rules.push((chain, [to_this_node(), node_port()].concat())),
        networks => rules.extend(networks.iter().map(|network| {
            let tests = [to_this_node(), destination_in(*network)].concat();
            (chain, [tests, node_port()].concat())
        })),
    }
    rules
}

/// What comes from outside to a cluster IP may go to another node, so the answer has to come back this way.
fn from_outside(settings: &Settings) -> Option<Named> {
    let pods = settings.cluster_cidr?;
    let outside = inside(SOURCE, pods, Expr::NotEqual(0, pods.network()));
    let to_cluster_ip = vec![destination(), Expr::Lookup(0, "cluster-ips".into())];
    Some(("services", [outside, to_cluster_ip, set_mark()].concat()))
}

fn masquerading() -> [Named; 2] {
    let marked = MASQUERADE_MARK.to_ne_bytes().to_vec();
    let masquerade_marked = vec![
        Expr::Mark(0),
        Expr::Bitwise(0, marked.clone(), vec![0; 4]),
        Expr::Equal(0, marked),
        Expr::Masquerade,
    ];
    // A pod that reaches itself through a service would not recognize the answer. What a host says to itself without one
    // stays as it is: a connection from before there were rules would not survive it.
    let translated = STATUS_DNAT.to_ne_bytes().to_vec();
    let masquerade_hairpin = vec![
        Expr::ConnectionStatus(0),
        Expr::Bitwise(0, translated.clone(), vec![0; 4]),
        Expr::Equal(0, translated),
        Expr::Network {
            offset: SOURCE,
            len: 4,
            to: 0,
        },
        Expr::Network {
            offset: DESTINATION,
            len: 4,
            to: 1,
        },
        Expr::Lookup(0, "hairpin".into()),
        Expr::Masquerade,
    ];
    [
        ("nat-postrouting", masquerade_marked),
        ("nat-postrouting", masquerade_hairpin),
    ]
}

/// Who may not come in by a load balancer's address, and services that have nobody to serve.
fn checks(settings: &Settings) -> Vec<Named> {
    let first = || [first_packet(), vec![jump("check")]].concat();
    let firewalled = vec![
        Expr::Lookup(0, "firewalled".into()),
        Expr::Verdict(Verdict::Jump("sources".into())),
    ];
    let mut rules = vec![
        ("check-prerouting", first()),
        ("check-output", first()),
        ("check", [load_key(Door::Address, 0), firewalled].concat()),
    ];
    rules.extend(at_the_doors("check", settings, &|| {
        vec![Expr::Lookup(0, "no-endpoints".into()), Expr::Reject]
    }));
    // One look a length of prefix: few services have ranges, and only first packets come here.
    for prefix in (0..=32).rev() {
        let mut rule = load_key(Door::Address, 0);
        rule.extend([
            Expr::Network {
                offset: SOURCE,
                len: 4,
                to: 3,
            },
            Expr::Bitwise(3, mask(prefix).to_vec(), vec![0; 4]),
            Expr::Constant(4, u32::from(prefix).to_ne_bytes().to_vec()),
            Expr::Lookup(0, "sources".into()),
            Expr::Verdict(Verdict::Return),
        ]);
        rules.push(("sources", rule));
    }
    rules.push(("sources", vec![Expr::Verdict(Verdict::Drop)]));
    rules
}

/// What is still addressed to a service after all translation is for a port that it does not have.
fn leftovers() -> Vec<Named> {
    let unknown_port = vec![
        destination(),
        Expr::Lookup(0, "cluster-ips".into()),
        Expr::Reject,
    ];
    // No listener of this node shows under an address that stands for services; a ping is answered.
    let not_a_service = vec![
        Expr::Protocol(0),
        Expr::NotEqual(0, vec![ICMP]),
        destination(),
        Expr::Lookup(0, "announced".into()),
        Expr::Reject,
    ];
    vec![
        ("leftover-input", not_a_service),
        ("leftover-forward", unknown_port.clone()),
        ("leftover-output", unknown_port),
        ("leftover-forward", vec![jump(NOBODY)]),
        ("leftover-output", vec![jump(NOBODY)]),
    ]
}

/// What fills the chain for addresses that could be those of services and are not: all of these networks.
pub(crate) fn refuse_unknown(networks: &BTreeSet<Cidr>) -> Vec<Change> {
    let mut changes = vec![Change::FlushChain(NOBODY.to_owned())];
    changes.extend(networks.iter().map(|network| {
        let rule = [destination_in(*network), vec![Expr::Reject]].concat();
        Change::AddRule(NOBODY.to_owned(), Rule(rule))
    }));
    changes
}
