//! Flows that the kernel's connection tracking remembers: listing those of UDP, and forgetting some.

use std::net::Ipv4Addr;

use netlink_bindings::conntrack::{
    IterableConntrackAttrs, IterableTupleAttrs, Nfgenmsg, OpGetDo, OpGetDump, Request,
};
use netlink_bindings::traits::{NetlinkRequest, Protocol};
use netlink_socket2::NetlinkSocket;

/// `AF_INET`.
const FAMILY_IPV4: u8 = 2;
/// `NETLINK_NETFILTER`.
const NETFILTER: u16 = 12;
/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_DELETE`.
const DELETE: u16 = (1 << 8) | 2;
/// IANA number.
const UDP: u8 = 17;
/// `ENOENT`: it has ended by itself.
const GONE: i32 = 2;

/// A flow of UDP, as its first packet was sent and as it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who sent the first packet.
    pub source: (Ipv4Addr, u16),
    /// To whom.
    pub destination: Ipv4Addr,
    /// The port there.
    pub port: u16,
    /// Who answers: the destination after translation.
    pub answered_by: Ipv4Addr,
    /// The port there.
    pub answered_port: u16,
    /// The tracking zone; 0 unless somebody uses zones.
    pub zone: u16,
}

/// One direction of a flow.
struct Direction {
    protocol: u8,
    source: (Ipv4Addr, u16),
    destination: (Ipv4Addr, u16),
}

fn direction(tuple: &IterableTupleAttrs<'_>) -> Option<Direction> {
    let (ip, proto) = (tuple.get_tuple_ip().ok()?, tuple.get_tuple_proto().ok()?);
    let protocol = proto.get_proto_num().ok().filter(|p| *p == UDP)?;
    Some(Direction {
        protocol,
        source: (ip.get_ip_v4_src().ok()?, proto.get_proto_src_port().ok()?),
        destination: (ip.get_ip_v4_dst().ok()?, proto.get_proto_dst_port().ok()?),
    })
}

fn flow(attributes: &IterableConntrackAttrs<'_>) -> Option<Flow> {
    let original = direction(&attributes.get_tuple_orig().ok()?)?;
    let reply = direction(&attributes.get_tuple_reply().ok()?)?;
    Some(Flow {
        source: original.source,
        destination: original.destination.0,
        port: original.destination.1,
        answered_by: reply.source.0,
        answered_port: reply.source.1,
        zone: attributes.get_zone().unwrap_or(0),
    })
    .filter(|_| original.protocol == reply.protocol)
}

fn header() -> Nfgenmsg {
    let mut header = Nfgenmsg::new();
    header.nfgen_family = FAMILY_IPV4;
    header
}

/// All flows of UDP over IPv4 in this network namespace.
///
/// # Errors
/// The kernel does not say.
pub fn udp_flows() -> std::io::Result<Vec<Flow>> {
    let mut socket = NetlinkSocket::new();
    let request = OpGetDump::new(Request::new(), &header());
    let mut replies = socket.request(&request)?;
    let mut flows = Vec::new();
    while let Some(reply) = replies.recv() {
        let (_, attributes) = reply.map_err(std::io::Error::other)?;
        flows.extend(flow(&attributes));
    }
    Ok(flows)
}

/// The bindings know how to ask for one flow; forgetting it looks the same under another number.
struct Forget<'r>(OpGetDo<'r>);

impl NetlinkRequest for Forget<'_> {
    fn protocol(&self) -> Protocol {
        Protocol::Raw {
            protonum: NETFILTER,
            request_type: DELETE,
        }
    }

    fn flags(&self) -> u16 {
        self.0.flags()
    }

    fn payload(&self) -> &[u8] {
        self.0.payload()
    }

    type ReplyType<'buf> = ();

    fn decode_reply(_: &[u8]) {}
}

/// Forgets these flows: their next packet is treated as the first. One that has ended meanwhile is fine.
///
/// # Errors
/// The kernel refused; the flows before that one are forgotten.
pub fn forget(flows: &[Flow]) -> std::io::Result<()> {
    let mut socket = NetlinkSocket::new();
    for flow in flows {
        let mut request = OpGetDo::new(Request::new(), &header());
        encode(flow, &mut request);
        let request = Forget(request);
        let mut replies = socket.request(&request)?;
        if let Err(error) = replies.recv_ack() {
            let error = error.as_io_error();
            if error.raw_os_error() != Some(GONE) {
                return Err(std::io::Error::new(error.kind(), error.to_string()));
            }
        }
    }
    Ok(())
}

fn encode(flow: &Flow, request: &mut OpGetDo<'_>) {
    let attributes = request.encode();
    let tuple = attributes.nested_tuple_orig();
    let ip = tuple.nested_tuple_ip();
    let ip = ip.push_ip_v4_src(flow.source.0);
    let tuple = ip.push_ip_v4_dst(flow.destination).end_nested();
    let proto = tuple.nested_tuple_proto().push_proto_num(UDP);
    let proto = proto.push_proto_src_port(flow.source.1);
    let tuple = proto.push_proto_dst_port(flow.port).end_nested();
    let attributes = tuple.end_nested();
    if flow.zone != 0 {
        attributes.push_zone(flow.zone);
    }
}
