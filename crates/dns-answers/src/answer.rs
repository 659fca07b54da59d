//! From a query to a reply.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::zone::{Endpoint, Port, ServiceRecords, Zone};

/// Seconds that a resolver may keep an answer.
const TTL_SECONDS: u32 = 5;
/// Seconds that a resolver may keep a "no such name".
const NEGATIVE_TTL_SECONDS: u32 = 5;
/// The largest datagram that we offer to take or send.
const EDNS_PAYLOAD: u16 = 1232;
/// The longest chain of names that are other names.
const MAX_ALIASES: usize = 8;

/// What to do with a query.
#[derive(Debug)]
pub enum Answer {
    /// Send this.
    Reply(Message),
    /// The name is not the cluster's: ask the machine's own name servers.
    Forward,
    /// The name stands for one that is not the cluster's: ask for that, and add the answers to the reply.
    Follow {
        /// What is known.
        reply: Message,
        /// What to ask.
        query: Message,
    },
}

/// What the zone says about one name.
enum Found {
    /// Nothing has this name, nor any name below it.
    NoName,
    /// The name exists; these are its records of the type asked for.
    Records(Vec<Record>),
}

/// Answers a query; `rotation` shifts lists of several addresses, so that clients spread.
pub fn answer(zone: &Zone, query: &Message, rotation: usize) -> Answer {
    let well_formed = query.metadata.message_type == MessageType::Query && query.queries.len() == 1;
    if !well_formed {
        return Answer::Reply(error(query, ResponseCode::FormErr));
    }
    if query.metadata.op_code != OpCode::Query {
        return Answer::Reply(error(query, ResponseCode::NotImp));
    }
    let question = &query.queries[0];
    if question.query_class() != DNSClass::IN {
        return Answer::Reply(error(query, ResponseCode::Refused));
    }
    let found = match zone.look_up(question) {
        Some(found) => found,
        None => match zone.pointer(question) {
            Some(records) => Found::Records(records),
            None => return Answer::Forward,
        },
    };
    let is_alias = |found: &Found| match found {
        Found::Records(records) => records.last().and_then(alias),
        Found::NoName => None,
    };
    let wanted = [RecordType::A, RecordType::AAAA].contains(&question.query_type());
    match is_alias(&found).filter(|_| wanted) {
        Some(target) => zone.follow(query, found, target),
        None => Answer::Reply(zone.reply(query, found, rotation)),
    }
}

/// The name that this record says to look at instead.
fn alias(record: &Record) -> Option<Name> {
    match &record.data {
        RData::CNAME(target) => Some(target.0.clone()),
        _ => None,
    }
}

/// Shortens a reply until it fits: as many answers as there is room for, and a note that there are more.
pub fn fit(reply: &Message, limit: u16) -> Vec<u8> {
    let encode = |message: &Message| message.to_vec().unwrap_or_default();
    let bytes = encode(reply);
    if bytes.len() <= usize::from(limit) {
        return bytes;
    }
    let mut short = reply.clone();
    short.additionals.clear();
    let bytes = encode(&short);
    if bytes.len() <= usize::from(limit) {
        return bytes;
    }
    short.metadata.truncation = true;
    let shortened = |count: usize| {
        let mut short = short.clone();
        short.answers.truncate(count);
        encode(&short)
    };
    // The size grows with the number of answers, so the most that fit are found by halving.
    let (mut fits, mut exceeds) = (0, short.answers.len());
    while fits + 1 < exceeds {
        let middle = usize::midpoint(fits, exceeds);
        match shortened(middle).len() <= usize::from(limit) {
            true => fits = middle,
            false => exceeds = middle,
        }
    }
    shortened(fits)
}

/// How long a datagram may be for whoever sent this query.
pub fn datagram_limit(query: &Message) -> u16 {
    query.max_payload().min(EDNS_PAYLOAD)
}

/// A reply that carries nothing but an error code.
pub fn error(query: &Message, code: ResponseCode) -> Message {
    let mut reply = header(query);
    reply.metadata.response_code = code;
    reply
}

fn header(query: &Message) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.queries.clone_from(&query.queries);
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(EDNS_PAYLOAD);
        reply.edns = Some(edns);
    }
    reply
}

/// The labels of a name, lower case, first to last; bytes that are no UTF-8 match nothing of ours.
fn labels_of(name: &Name) -> Vec<String> {
    name.iter()
        .map(|label| String::from_utf8_lossy(label).to_ascii_lowercase())
        .collect()
}

fn strip_suffix<'a>(labels: &'a [String], suffix: &[String]) -> Option<&'a [String]> {
    let split = labels.len().checked_sub(suffix.len())?;
    (labels[split..] == *suffix).then(|| &labels[..split])
}

impl Zone {
    fn reply(&self, query: &Message, found: Found, rotation: usize) -> Message {
        let mut reply = header(query);
        reply.metadata.authoritative = true;
        match found {
            Found::NoName => {
                reply.metadata.response_code = ResponseCode::NXDomain;
                reply.add_authority(self.soa());
            }
            Found::Records(records) if records.is_empty() => {
                reply.add_authority(self.soa());
            }
            Found::Records(mut records) => {
                let count = records.len();
                records.rotate_left(rotation % count);
                reply.add_additionals(self.addresses_of_targets(&records));
                reply.add_answers(records);
            }
        }
        reply
    }

    /// What the zone says; `None` when the name is not the cluster's.
    fn look_up(&self, question: &Query) -> Option<Found> {
        let labels = labels_of(question.name());
        let below = strip_suffix(&labels, &self.domain)?;
        Some(self.find(question, below))
    }

    /// Goes on from a name that stands for another one, as long as the answer is in this zone.
    fn follow(&self, query: &Message, found: Found, mut target: Name) -> Answer {
        let Found::Records(mut records) = found else {
            return Answer::Reply(self.reply(query, found, 0));
        };
        while records.len() < MAX_ALIASES {
            let mut question = query.queries[0].clone();
            question.set_name(target.clone());
            let Some(next) = self.look_up(&question) else {
                let mut onward = Message::query();
                onward.metadata.id = query.metadata.id;
                onward.metadata.recursion_desired = true;
                onward.add_query(question);
                let reply = self.reply(query, Found::Records(records), 0);
                return Answer::Follow {
                    reply,
                    query: onward,
                };
            };
            let Found::Records(next) = next else { break };
            if records.iter().any(|known| known.name == target) {
                break;
            }
            let further = next.last().and_then(alias);
            records.extend(next);
            match further {
                Some(further) => target = further,
                None => break,
            }
        }
        let is_open = records.last().is_some_and(|last| alias(last).is_some());
        let mut reply = self.reply(query, Found::Records(records), 0);
        if is_open {
            // The last name has no address.
            reply.add_authority(self.soa());
        }
        Answer::Reply(reply)
    }

    /// The addresses of the hosts that SRV records name, so that nobody has to ask for them.
    fn addresses_of_targets(&self, records: &[Record]) -> Vec<Record> {
        let targets: BTreeSet<&Name> = records
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(srv) => Some(&srv.target),
                _ => None,
            })
            .collect();
        let addresses = targets.into_iter().flat_map(|target| {
            let question = Query::query(target.clone(), RecordType::A);
            match self.look_up(&question) {
                Some(Found::Records(records)) => records,
                _ => Vec::new(),
            }
        });
        addresses.collect()
    }

    fn find(&self, question: &Query, below: &[String]) -> Found {
        let below: Vec<&str> = below.iter().map(String::as_str).collect();
        match below.as_slice() {
            [] if question.query_type() == RecordType::SOA => Found::Records(vec![self.soa()]),
            [] if question.query_type() == RecordType::NS => {
                let server = self.name_of(["ns", "dns"].into_iter().map(str::to_owned));
                Found::Records(vec![record(question, RData::NS(NS(server)))])
            }
            ["dns-version"] => only(question, RecordType::TXT, || {
                RData::TXT(TXT::new(vec!["1.1.0".into()]))
            }),
            [] | ["svc" | "pod"] => Found::Records(Vec::new()),
            [namespace, "svc"] if self.namespaces.contains_key(*namespace) => {
                Found::Records(Vec::new())
            }
            [name, namespace, "svc"] => self.service(question, name, namespace),
            [rest @ .., name, namespace, "svc"] => {
                self.below_service(question, rest, name, namespace)
            }
            [dashed, _, "pod"] => pod(question, dashed),
            _ => Found::NoName,
        }
    }

    fn records_of(&self, name: &str, namespace: &str) -> Option<&ServiceRecords> {
        self.services.get(&(namespace.to_owned(), name.to_owned()))
    }

    fn service(&self, question: &Query, name: &str, namespace: &str) -> Found {
        let Some(records) = self.records_of(name, namespace) else {
            return Found::NoName;
        };
        let data: Vec<RData> = match (records, question.query_type()) {
            (
                ServiceRecords::External(target),
                RecordType::A | RecordType::AAAA | RecordType::CNAME,
            ) => {
                let target = Name::from_ascii(format!("{}.", target.trim_end_matches('.')));
                target
                    .map(|target| RData::CNAME(CNAME(target)))
                    .into_iter()
                    .collect()
            }
            (ServiceRecords::Cluster { addresses, .. }, RecordType::A) => {
                addresses.iter().map(|a| RData::A(A(*a))).collect()
            }
            // CoreDNS answers a headless service without end points as if it were not there.
            (ServiceRecords::Headless(endpoints), _) if endpoints.is_empty() => {
                return Found::NoName;
            }
            (ServiceRecords::Headless(endpoints), RecordType::A) => addresses(endpoints.iter()),
            (records, RecordType::SRV) => self.srv(records, name, namespace, |_| true),
            _ => Vec::new(),
        };
        Found::Records(data.into_iter().map(|d| record(question, d)).collect())
    }

    fn below_service(&self, question: &Query, rest: &[&str], name: &str, namespace: &str) -> Found {
        let Some(records) = self.records_of(name, namespace) else {
            return Found::NoName;
        };
        match (rest, records) {
            ([port, protocol], _) if port.starts_with('_') && protocol.starts_with('_') => {
                let wanted = |p: &Port| p.name == port[1..] && p.protocol == protocol[1..];
                let srv = self.srv(records, name, namespace, wanted);
                if srv.is_empty() {
                    return Found::NoName;
                }
                let data = match (question.query_type(), records) {
                    (RecordType::SRV, _) => srv,
                    (RecordType::A, ServiceRecords::Cluster { addresses, .. }) => {
                        addresses.iter().map(|a| RData::A(A(*a))).collect()
                    }
                    (RecordType::A, ServiceRecords::Headless(endpoints)) => {
                        let has = |e: &&Endpoint| e.ports.iter().any(wanted);
                        addresses(endpoints.iter().filter(has))
                    }
                    _ => Vec::new(),
                };
                Found::Records(data.into_iter().map(|d| record(question, d)).collect())
            }
            (
                [host],
                ServiceRecords::Headless(endpoints) | ServiceRecords::Cluster { endpoints, .. },
            ) => {
                let is_named = |e: &&Endpoint| e.label.eq_ignore_ascii_case(host);
                let mut mine = endpoints.iter().filter(is_named).peekable();
                if mine.peek().is_none() {
                    return Found::NoName;
                }
                let data = match question.query_type() {
                    RecordType::A => addresses(mine),
                    RecordType::SRV => {
                        let mine: Vec<Endpoint> = mine.cloned().collect();
                        let mine = ServiceRecords::Headless(mine);
                        self.srv(&mine, name, namespace, |_| true)
                    }
                    _ => Vec::new(),
                };
                Found::Records(data.into_iter().map(|d| record(question, d)).collect())
            }
            _ => Found::NoName,
        }
    }

    /// The SRV records of the ports that pass the test.
    fn srv(
        &self,
        records: &ServiceRecords,
        name: &str,
        namespace: &str,
        wanted: impl Fn(&Port) -> bool,
    ) -> Vec<RData> {
        let target = |host: Option<&str>| {
            let own = host.into_iter().chain([name, namespace, "svc"]);
            self.name_of(own.map(str::to_owned))
        };
        let hosts: Vec<(Name, u16)> = match records {
            ServiceRecords::Cluster { ports, .. } => ports
                .iter()
                .filter(|p| wanted(p))
                .map(|p| (target(None), p.number))
                .collect(),
            ServiceRecords::Headless(endpoints) => endpoints
                .iter()
                .flat_map(|e| e.ports.iter().map(move |p| (e, p)))
                .filter(|(_, p)| wanted(p))
                .map(|(e, p)| (target(Some(&e.label)), p.number))
                .collect(),
            ServiceRecords::External(_) => Vec::new(),
        };
        // All hosts share a hundred, as CoreDNS deals them out.
        let weight = 100_usize.checked_div(hosts.len()).unwrap_or(0).max(1);
        let weight = u16::try_from(weight).unwrap_or(1);
        let srv = |(target, port)| RData::SRV(SRV::new(0, weight, port, target));
        hosts.into_iter().map(srv).collect()
    }

    /// The answer to a reverse look-up of an address that is a service's or an end point's.
    fn pointer(&self, question: &Query) -> Option<Vec<Record>> {
        if question.query_type() != RecordType::PTR {
            return None;
        }
        let IpAddr::V4(address) = question.name().parse_arpa_name().ok()?.addr() else {
            return None;
        };
        let names = self.pointers.get(&address)?.iter();
        let names = names.map(|labels| self.name_of(labels.iter().cloned()));
        Some(
            names
                .map(|name| record(question, RData::PTR(PTR(name))))
                .collect(),
        )
    }

    /// The full name of labels below the domain; labels come from validated object names.
    fn name_of(&self, labels: impl Iterator<Item = String>) -> Name {
        let all: Vec<String> = labels.chain(self.domain.iter().cloned()).collect();
        let mut name =
            Name::from_labels(all.iter().map(String::as_bytes)).unwrap_or_else(|_| Name::root());
        name.set_fqdn(true);
        name
    }

    fn soa(&self) -> Record {
        let zone = self.name_of(std::iter::empty());
        let server = self.name_of(["ns", "dns"].into_iter().map(str::to_owned));
        let person = self.name_of(std::iter::once("hostmaster".to_owned()));
        let soa = SOA::new(
            server,
            person,
            self.serial,
            7200,
            1800,
            86400,
            NEGATIVE_TTL_SECONDS,
        );
        Record::from_rdata(zone, TTL_SECONDS, RData::SOA(soa))
    }
}

/// Each address once, though an end point may stand in several slices.
fn addresses<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) -> Vec<RData> {
    let mut seen = HashSet::new();
    let fresh = endpoints.filter(|e| seen.insert(e.address));
    fresh.map(|e| RData::A(A(e.address))).collect()
}

fn record(question: &Query, data: RData) -> Record {
    Record::from_rdata(question.name().clone(), TTL_SECONDS, data)
}

fn only(question: &Query, kind: RecordType, data: impl FnOnce() -> RData) -> Found {
    let matches = question.query_type() == kind;
    Found::Records(
        matches
            .then(|| record(question, data()))
            .into_iter()
            .collect(),
    )
}

/// `10-244-0-5.default.pod`: the address that its name spells, without looking whether such a pod exists.
fn pod(question: &Query, dashed: &str) -> Found {
    match dashed.replace('-', ".").parse::<Ipv4Addr>() {
        Ok(address) => only(question, RecordType::A, || RData::A(A(address))),
        Err(_) => Found::NoName,
    }
}
