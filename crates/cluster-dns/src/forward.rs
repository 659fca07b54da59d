//! Questions for somebody else: the machine's own name servers, asked in order.
//!
//! Each question leaves from a socket of its own (so from a random port), and an answer counts only if it comes from the
//! server asked, with the same id and the same question (lesson of CVE-2023-30464).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many servers of the machine's list are used, as resolvers do.
const SERVERS: usize = 3;

/// Name servers outside the cluster.
#[derive(Clone, Debug, Default)]
pub struct Upstreams(Vec<SocketAddr>);

impl Upstreams {
    /// The `nameserver` lines of a `resolv.conf`. Loopback addresses are left out: in the node's network name-space
    /// nothing answers there, and the cluster's own server must not ask itself.
    pub fn parse(resolv_conf: &str) -> Self {
        let servers = resolv_conf
            .lines()
            .filter_map(|line| line.strip_prefix("nameserver"));
        let servers = servers.filter_map(|rest| rest.trim().parse::<IpAddr>().ok());
        let servers = servers.filter(|server| !server.is_loopback() && !server.is_unspecified());
        Self(
            servers
                .take(SERVERS)
                .map(|server| SocketAddr::new(server, 53))
                .collect(),
        )
    }

    /// These servers.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self(servers)
    }

    /// The first answer of any server, as it came; `None` when none answers.
    pub(crate) async fn ask(
        &self,
        query: &Message,
        packet: &[u8],
        over_tcp: bool,
    ) -> Option<Vec<u8>> {
        for server in &self.0 {
            let asked = async {
                if over_tcp {
                    ask_tcp(*server, packet).await
                } else {
                    ask_udp(*server, query, packet).await
                }
            };
            match timeout(PATIENCE, asked).await {
                Ok(Ok(reply)) if answers(query, &reply) => return Some(reply),
                _ => {}
            }
        }
        None
    }
}

fn answers(query: &Message, reply: &[u8]) -> bool {
    Message::from_vec(reply)
        .is_ok_and(|reply| reply.metadata.id == query.metadata.id && reply.queries == query.queries)
}

async fn ask_udp(server: SocketAddr, query: &Message, packet: &[u8]) -> std::io::Result<Vec<u8>> {
    let any = if server.is_ipv4() {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
    } else {
        SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0))
    };
    let socket = UdpSocket::bind(any).await?;
    // A connected socket takes datagrams from that server only.
    socket.connect(server).await?;
    socket.send(packet).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let len = socket.recv(&mut buffer).await?;
        if answers(query, &buffer[..len]) {
            buffer.truncate(len);
            return Ok(buffer);
        }
    }
}

async fn ask_tcp(server: SocketAddr, packet: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let len = u16::try_from(packet.len()).map_err(std::io::Error::other)?;
    stream.write_u16(len).await?;
    stream.write_all(packet).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}
