//! Very many watchers: how late they hear of a change.
//!
//! Each change carries the time at which it was sent; this program is both ends, so the clocks are one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::sync::mpsc;

use super::lists::pod;
use super::load::hammer;
use super::server::Server;
use super::wire::dial;
use super::{Figures, Options};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
/// The mark before the time in a change.
const MARK: &[u8] = b"bench-sent-";
const LENGTH: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_secs(2);

/// Watches, and what they hear.
struct Audience {
    began: Instant,
    heard: mpsc::UnboundedReceiver<Duration>,
    watching: Arc<AtomicUsize>,
}

impl Audience {
    /// Opens watches of these paths, so many on a connection.
    async fn open(server: &Server, paths: Vec<String>, together: usize) -> anyhow::Result<Self> {
        let (told, heard) = mpsc::unbounded_channel();
        let began = Instant::now();
        let watching = Arc::new(AtomicUsize::new(0));
        let config = server.pki.client(b"h2")?;
        for part in paths.chunks(together.max(1)) {
            let stream = TokioIo::new(dial(server.port, config.clone()).await?);
            let mut builder = http2::Builder::new(TokioExecutor::new());
            // As clients in Go: a window that holds what comes.
            builder.initial_stream_window_size(1 << 20);
            builder.initial_connection_window_size(16 << 20);
            let (sender, connection) = builder.handshake(stream).await?;
            tokio::spawn(connection);
            for path in part {
                let body = begin(sender.clone(), path).await?;
                watching.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(listen(body, began, told.clone(), watching.clone()));
            }
        }
        Ok(Self {
            began,
            heard,
            watching,
        })
    }

    /// The time as changes carry it.
    fn stamp(&self) -> String {
        stamp(self.began)
    }

    /// All that was heard until now.
    fn heard(&mut self) -> Vec<Duration> {
        let mut all = Vec::new();
        while let Ok(late) = self.heard.try_recv() {
            all.push(late);
        }
        all
    }
}

fn stamp(began: Instant) -> String {
    format!("bench-sent-{:020}", began.elapsed().as_nanos())
}

async fn begin(mut sender: SendRequest<Empty<Bytes>>, path: &str) -> anyhow::Result<Incoming> {
    let request = http::Request::get(format!("https://localhost{path}"))
        .header("accept", "application/json")
        .body(Empty::new())?;
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    if answer.status() != 200 {
        bail!("{path}: {}", answer.status());
    }
    Ok(answer.into_body())
}

async fn listen(
    mut body: Incoming,
    began: Instant,
    told: mpsc::UnboundedSender<Duration>,
    watching: Arc<AtomicUsize>,
) {
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let now = began.elapsed();
        for sent in sent(&data) {
            // Nobody listens any more when the measurement is over.
            let _ = told.send(now.saturating_sub(sent));
        }
    }
    watching.fetch_sub(1, Ordering::Relaxed);
}

/// The times in a piece of a stream; an event is never cut as short as these are.
fn sent(data: &[u8]) -> Vec<Duration> {
    let mut out = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(MARK.len()).position(|w| w == MARK) {
        rest = &rest[at + MARK.len()..];
        let digits = rest.get(..20).and_then(|d| std::str::from_utf8(d).ok());
        if let Some(nanos) = digits.and_then(|d| d.parse().ok()) {
            out.push(Duration::from_nanos(nanos));
        }
    }
    out
}

/// Everybody watches one kind; an object changes five times a second.
pub(super) async fn of_one_kind(
    server: &Server,
    options: &Options,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let map = json!({"metadata": {"name": "changing"}, "data": {}}).to_string();
    server.send("POST", MAPS, Some(&map)).await?;
    let before = server.memory_mib();
    let paths = vec![format!("{MAPS}?watch=1"); options.watchers];
    let mut audience = Audience::open(server, paths, options.watches_per_connection).await?;
    tokio::time::sleep(SETTLE).await;
    let count = options.watchers;
    figures.add(
        format!("{count} watchers: memory for them (PSS)"),
        server.memory_mib() - before,
        "MiB",
    );
    audience.heard();
    let spent_before = server.processor_seconds();
    let mut connection = server.connect().await?;
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let (began, mut changes) = (Instant::now(), 0);
    while began.elapsed() < LENGTH {
        ticks.tick().await;
        let change = json!({"data": {"at": audience.stamp()}}).to_string();
        let path = format!("{MAPS}/changing");
        let request = connection.request("PATCH", &path, Some(&change));
        let answer = connection.exchange(&request).await?;
        if answer.code != 200 {
            bail!("a change failed: {}", answer.code);
        }
        changes += 1;
    }
    tokio::time::sleep(SETTLE).await;
    let heard = audience.heard();
    let spent = (server.processor_seconds() - spent_before) * 1e6;
    figures.add(
        format!("{count} watchers: the server's processor time of a delivery"),
        spent / heard.len().max(1) as f64,
        "us",
    );
    let missing = count * changes - heard.len().min(count * changes);
    figures.add(
        format!("{count} watchers: deliveries"),
        heard.len() as f64 / began.elapsed().saturating_sub(SETTLE).as_secs_f64(),
        "/s",
    );
    figures.add(
        format!("{count} watchers: missing"),
        missing as f64,
        "events",
    );
    figures.latencies(&format!("{count} watchers: delivery"), heard);
    figures.add(
        format!("{count} watchers: memory (PSS)"),
        server.memory_mib(),
        "MiB",
    );
    let _: usize = audience.watching.load(Ordering::Relaxed);
    Ok(())
}

/// Everybody watches the pods of a node of his own; a thousand changes a second.
pub(super) async fn of_nodes(
    server: &Server,
    options: &Options,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let count = options.selectors;
    let time = Duration::from_secs(600);
    hammer(server, options.connections, time, count, |c, number| {
        let node = format!("node-{number}");
        c.request("POST", PODS, Some(&pod(number, &node)))
    })
    .await?;
    let path = |i| format!("{PODS}?watch=1&fieldSelector=spec.nodeName%3Dnode-{i}");
    let paths = (0..count).map(path).collect();
    let mut audience = Audience::open(server, paths, options.watches_per_connection).await?;
    tokio::time::sleep(SETTLE).await;
    audience.heard();
    let began = audience.began;
    // The connections take turns, each change at its own moment.
    let (rate, connections) = (1000.0, options.connections);
    let start = tokio::time::Instant::now();
    let mut tasks = Vec::new();
    for first in 0..connections {
        let mut connection = server.connect().await?;
        tasks.push(tokio::spawn(async move {
            let turn = |of: usize| Duration::from_secs_f64(of as f64 / rate);
            let mut ticks = tokio::time::interval_at(start + turn(first), turn(connections));
            let mut sent = 0_usize;
            while start.elapsed() < LENGTH {
                ticks.tick().await;
                let pod = (sent * connections + first) * 31 % count;
                let annotations = json!({"annotations": {"at": stamp(began)}});
                let change = json!({"metadata": annotations}).to_string();
                let path = format!("{PODS}/pod-{pod}");
                let request = connection.request("PATCH", &path, Some(&change));
                let answer = connection.exchange(&request).await?;
                if answer.code != 200 {
                    bail!("a change failed: {}", answer.code);
                }
                sent += 1;
            }
            Ok(sent)
        }));
    }
    let mut sent = 0;
    for task in tasks {
        sent += task.await.context("a task")??;
    }
    tokio::time::sleep(SETTLE).await;
    let heard = audience.heard();
    let name = |what: &str| format!("{count} watchers of a node each: {what}");
    figures.add(name("changes"), sent as f64 / LENGTH.as_secs_f64(), "/s");
    let missing = sent.saturating_sub(heard.len());
    figures.add(name("missing"), missing as f64, "events");
    figures.latencies(&name("delivery"), heard);
    figures.add(name("memory (PSS)"), server.memory_mib(), "MiB");
    Ok(())
}
