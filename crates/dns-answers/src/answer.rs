//! From a query to a reply.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::zone::{HeadlessEndpoint, Port, ServiceRecords, Zone};

/// Seconds that a resolver may keep an answer.
const TTL_SECONDS: u32 = 5;
/// Seconds that a resolver may keep a "no such name".
const NEGATIVE_TTL_SECONDS: u32 = 5;
/// The largest datagram that we offer to take or send.
const EDNS_PAYLOAD: u16 = 1232;

/// What to do with a query.
#[derive(Debug)]
pub enum Answer {
    /// Send this.
    Reply(Message),
    /// The name is not the cluster's: ask the machine's own name servers.
    Forward,
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
    let labels = labels_of(question.name());
    let found = match strip_suffix(&labels, &zone.domain) {
        Some(below) => zone.find(question, below),
        None => match zone.pointer(question) {
            Some(records) => Found::Records(records),
            None => return Answer::Forward,
        },
    };
    Answer::Reply(zone.reply(query, found, rotation))
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
                reply.add_answers(records);
            }
        }
        reply
    }

    fn find(&self, question: &Query, below: &[String]) -> Found {
        let below: Vec<&str> = below.iter().map(String::as_str).collect();
        match below.as_slice() {
            [] if question.query_type() == RecordType::SOA => Found::Records(vec![self.soa()]),
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
            (ServiceRecords::Headless(endpoints), RecordType::A) => {
                endpoints.iter().map(|e| RData::A(A(e.address))).collect()
            }
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
                let data = self.srv(records, name, namespace, wanted);
                if data.is_empty() {
                    return Found::NoName;
                }
                let data = if question.query_type() == RecordType::SRV {
                    data
                } else {
                    Vec::new()
                };
                Found::Records(data.into_iter().map(|d| record(question, d)).collect())
            }
            ([host], ServiceRecords::Headless(endpoints)) => {
                let mine: Vec<&HeadlessEndpoint> = endpoints
                    .iter()
                    .filter(|e| e.label.eq_ignore_ascii_case(host))
                    .collect();
                if mine.is_empty() {
                    return Found::NoName;
                }
                let is_a = question.query_type() == RecordType::A;
                let data = mine
                    .into_iter()
                    .filter(|_| is_a)
                    .map(|e| RData::A(A(e.address)));
                Found::Records(data.map(|d| record(question, d)).collect())
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
        let srv = |target: Name, port: &Port| RData::SRV(SRV::new(0, 100, port.number, target));
        match records {
            ServiceRecords::Cluster { ports, .. } => ports
                .iter()
                .filter(|p| wanted(p))
                .map(|p| srv(target(None), p))
                .collect(),
            ServiceRecords::Headless(endpoints) => endpoints
                .iter()
                .flat_map(|e| e.ports.iter().map(move |p| (e, p)))
                .filter(|(_, p)| wanted(p))
                .map(|(e, p)| srv(target(Some(&e.label)), p))
                .collect(),
            ServiceRecords::External(_) => Vec::new(),
        }
    }

    /// The answer to a reverse look-up of an address that is a service's or an end point's.
    fn pointer(&self, question: &Query) -> Option<Vec<Record>> {
        if question.query_type() != RecordType::PTR {
            return None;
        }
        let IpAddr::V4(address) = question.name().parse_arpa_name().ok()?.addr() else {
            return None;
        };
        let labels = self.pointers.get(&address)?;
        let name = self.name_of(labels.iter().cloned());
        Some(vec![record(question, RData::PTR(PTR(name)))])
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
