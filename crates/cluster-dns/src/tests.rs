//! Real sockets on loopback: one server, and another that it forwards to.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use dns_answers::{ServiceRecords, Zone};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use parking_lot::RwLock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::{Listeners, Upstreams, serve};

async fn server(domain: &str, addresses: Vec<Ipv4Addr>, upstreams: Upstreams) -> SocketAddr {
    let mut zone = Zone::new(domain);
    let records = ServiceRecords::Cluster {
        addresses,
        ports: Vec::new(),
        endpoints: Vec::new(),
    };
    zone.set(&("default".into(), "web".into()), Some(records));
    let listeners = Listeners::bind((Ipv4Addr::LOCALHOST, 0).into())
        .await
        .expect("a free port");
    let address = listeners.address().expect("bound");
    tokio::spawn(serve::serve(
        listeners,
        Arc::new(RwLock::new(zone)),
        Arc::new(upstreams),
    ));
    address
}

fn query(name: &str) -> Message {
    let mut query = Message::query();
    query.add_query(Query::query(
        Name::from_ascii(name).expect("a name"),
        RecordType::A,
    ));
    query
}

async fn ask(server: SocketAddr, query: &Message) -> Message {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a socket");
    socket
        .send_to(&query.to_vec().expect("encoded"), server)
        .await
        .expect("sent");
    let mut buffer = vec![0; 4096];
    let len = socket.recv(&mut buffer).await.expect("an answer");
    Message::from_vec(&buffer[..len]).expect("decoded")
}

fn addresses(reply: &Message) -> Vec<Ipv4Addr> {
    let address = |data: &RData| match data {
        RData::A(a) => Some(a.0),
        _ => None,
    };
    reply
        .answers
        .iter()
        .filter_map(|record| address(&record.data))
        .collect()
}

#[tokio::test]
async fn answers_over_udp_and_tcp_and_forwards_what_is_not_the_clusters() {
    let other = server(
        "other.local",
        vec![[10, 1, 1, 1].into()],
        Upstreams::default(),
    )
    .await;
    let upstreams = Upstreams::new(vec![other]);
    let ours = server("cluster.local", vec![[10, 96, 0, 1].into()], upstreams).await;
    let reply = ask(ours, &query("web.default.svc.cluster.local.")).await;
    assert_eq!(addresses(&reply), [Ipv4Addr::new(10, 96, 0, 1)]);
    let reply = ask(ours, &query("web.default.svc.other.local.")).await;
    assert_eq!(addresses(&reply), [Ipv4Addr::new(10, 1, 1, 1)]);

    let mut stream = TcpStream::connect(ours).await.expect("connected");
    let bytes = query("web.default.svc.cluster.local.")
        .to_vec()
        .expect("encoded");
    stream
        .write_u16(u16::try_from(bytes.len()).expect("short"))
        .await
        .expect("sent");
    stream.write_all(&bytes).await.expect("sent");
    let mut reply = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
    stream.read_exact(&mut reply).await.expect("an answer");
    assert_eq!(
        addresses(&Message::from_vec(&reply).expect("decoded")).len(),
        1
    );
}

#[tokio::test]
async fn an_answer_too_long_for_a_datagram_says_so() {
    let many = (0..100).map(|i| Ipv4Addr::new(10, 96, 1, i)).collect();
    let server = server("cluster.local", many, Upstreams::default()).await;
    let query = query("web.default.svc.cluster.local.");
    let reply = ask(server, &query).await;
    assert!(reply.metadata.truncation && (1..100).contains(&reply.answers.len()));
    assert_eq!(reply.metadata.id, query.metadata.id);
}

#[tokio::test]
async fn a_name_that_stands_for_one_outside_is_followed() {
    let addresses_of_web = vec![[10, 1, 1, 1].into()];
    let other = server("other.local", addresses_of_web, Upstreams::default()).await;
    let mut zone = Zone::new("cluster.local");
    for (name, target) in [("out", "web"), ("nowhere", "nothing")] {
        let target = format!("{target}.default.svc.other.local");
        let records = ServiceRecords::External(target);
        zone.set(&("default".into(), name.into()), Some(records));
    }
    let listeners = Listeners::bind((Ipv4Addr::LOCALHOST, 0).into());
    let listeners = listeners.await.expect("a free port");
    let ours = listeners.address().expect("bound");
    let upstreams = Upstreams::new(vec![other]);
    tokio::spawn(serve::serve(
        listeners,
        Arc::new(RwLock::new(zone)),
        Arc::new(upstreams),
    ));
    let reply = ask(ours, &query("out.default.svc.cluster.local.")).await;
    assert_eq!(reply.answers.len(), 2, "{reply:?}");
    assert_eq!(addresses(&reply), [Ipv4Addr::new(10, 1, 1, 1)]);
    let reply = ask(ours, &query("nowhere.default.svc.cluster.local.")).await;
    assert_eq!(reply.answers.len(), 1, "{reply:?}");
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn without_a_name_server_outside_the_answer_is_a_failure_at_once() {
    let server = server("cluster.local", Vec::new(), Upstreams::default()).await;
    let reply = ask(server, &query("example.com.")).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn name_servers_on_loopback_are_not_asked() {
    let text = "search lan\nnameserver 127.0.0.53\nnameserver 192.0.2.1\n# nameserver 192.0.2.2\n";
    assert_eq!(
        format!("{:?}", Upstreams::parse(text)),
        "Upstreams([192.0.2.1:53])"
    );
}
