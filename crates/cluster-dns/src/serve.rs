//! Sockets: one UDP, one TCP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dns_answers::{Answer, Zone, answer, datagram_limit, error, fit};
use hickory_proto::op::{Message, ResponseCode};
use parking_lot::RwLock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::forward::Upstreams;

/// TCP connections open at once.
const CONNECTIONS: usize = 256;
/// Queries that wait for a name server outside at once; more are refused.
const FORWARDED: usize = 512;
/// A TCP connection without a query is closed after this.
const IDLE: Duration = Duration::from_secs(10);
/// The largest DNS message over UDP that is taken.
const DATAGRAM: usize = 4096;

/// Where queries come in.
#[derive(Debug)]
pub struct Listeners {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Listeners {
    /// Listens on this address, UDP and TCP.
    ///
    /// # Errors
    /// The address is taken or not this machine's.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let udp = UdpSocket::bind(address).await?;
        // With port 0 both get the same one.
        let tcp = TcpListener::bind(udp.local_addr()?).await?;
        Ok(Self { udp, tcp })
    }

    /// The address in use.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.udp.local_addr()
    }
}

/// What every query needs.
struct Server {
    zone: Arc<RwLock<Zone>>,
    upstreams: Arc<Upstreams>,
    forwarded: Semaphore,
    /// Grows by one a query, so that lists of addresses start at another one each time.
    rotation: AtomicUsize,
}

pub(crate) async fn serve(
    listeners: Listeners,
    zone: Arc<RwLock<Zone>>,
    upstreams: Arc<Upstreams>,
) {
    let server = Arc::new(Server {
        zone,
        upstreams,
        forwarded: Semaphore::new(FORWARDED),
        rotation: AtomicUsize::new(0),
    });
    let udp = serve_udp(listeners.udp, server.clone());
    let tcp = serve_tcp(listeners.tcp, server);
    tokio::join!(udp, tcp);
}

/// What to do next with a query.
enum Next {
    /// The answer.
    Send(Message),
    /// Ask others the same.
    Ask(Message),
    /// Ask others this, and add what they say to that.
    Add { query: Message, reply: Message },
}

impl Server {
    fn look_up(&self, packet: &[u8]) -> Option<Next> {
        // What cannot be read has no question to answer; answering noise would make a reflector of us.
        let query = Message::from_vec(packet).ok()?;
        let rotation = self.rotation.fetch_add(1, Ordering::Relaxed);
        match answer(&self.zone.read(), &query, rotation) {
            Answer::Reply(reply) => Some(Next::Send(reply)),
            Answer::Forward => Some(Next::Ask(query)),
            Answer::Follow { reply, query } => Some(Next::Add { query, reply }),
        }
    }

    /// The answer to what has to be asked elsewhere.
    async fn finish(&self, next: Next, packet: &[u8], over_tcp: bool) -> Vec<u8> {
        match next {
            Next::Send(reply) => reply.to_vec().unwrap_or_default(),
            Next::Ask(query) => self.ask(&query, packet, over_tcp).await,
            Next::Add { query, mut reply } => {
                let packet = query.to_vec().unwrap_or_default();
                // Over TCP, so that nothing is cut off before we cut it.
                let more = self.ask(&query, &packet, true).await;
                match Message::from_vec(&more) {
                    Ok(more) => {
                        reply.metadata.response_code = more.metadata.response_code;
                        reply.metadata.authoritative = false;
                        reply.add_answers(more.answers);
                        reply.add_authorities(more.authorities);
                    }
                    Err(_) => reply.metadata.response_code = ResponseCode::ServFail,
                }
                reply.to_vec().unwrap_or_default()
            }
        }
    }

    async fn ask(&self, query: &Message, packet: &[u8], over_tcp: bool) -> Vec<u8> {
        let failed = |code| error(query, code).to_vec().unwrap_or_default();
        let Ok(_permit) = self.forwarded.try_acquire() else {
            return failed(ResponseCode::Refused);
        };
        match self.upstreams.ask(query, packet, over_tcp).await {
            Some(reply) => reply,
            None => failed(ResponseCode::ServFail),
        }
    }
}

async fn serve_udp(socket: UdpSocket, server: Arc<Server>) {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let Ok((len, from)) = socket.recv_from(&mut buffer).await else {
            // An ICMP answer to an earlier reply shows up here; the socket itself is fine.
            continue;
        };
        match server.look_up(&buffer[..len]) {
            None => {}
            Some(Next::Send(reply)) => {
                // A client that has gone does not need it.
                let _ = socket
                    .send_to(&fit(&reply, limit_of(&buffer[..len])), from)
                    .await;
            }
            Some(next) => {
                let (socket, server) = (socket.clone(), server.clone());
                let packet = buffer[..len].to_vec();
                tokio::spawn(async move {
                    let is_own = matches!(next, Next::Add { .. });
                    let mut reply = server.finish(next, &packet, false).await;
                    if is_own && let Ok(message) = Message::from_vec(&reply) {
                        reply = fit(&message, limit_of(&packet));
                    }
                    // A client that has gone does not need it.
                    let _ = socket.send_to(&reply, from).await;
                });
            }
        }
    }
}

fn limit_of(packet: &[u8]) -> u16 {
    Message::from_vec(packet).map_or(512, |query| datagram_limit(&query))
}

async fn serve_tcp(listener: TcpListener, server: Arc<Server>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let permit = connections.clone().acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let server = server.clone();
        tokio::spawn(async move {
            let _permit = permit;
            // Whatever goes wrong on a connection ends that connection only.
            let _ = serve_stream(stream, &server).await;
        });
    }
}

async fn serve_stream(mut stream: TcpStream, server: &Server) -> std::io::Result<()> {
    loop {
        let Ok(len) = timeout(IDLE, stream.read_u16()).await else {
            return Ok(());
        };
        let mut packet = vec![0; usize::from(len?)];
        let Ok(read) = timeout(IDLE, stream.read_exact(&mut packet)).await else {
            return Ok(());
        };
        read?;
        let reply = match server.look_up(&packet) {
            None => return Ok(()),
            Some(next) => server.finish(next, &packet, true).await,
        };
        let len = u16::try_from(reply.len()).map_err(std::io::Error::other)?;
        stream.write_u16(len).await?;
        stream.write_all(&reply).await?;
    }
}
