//! Debian's `etcdctl` works on the embedded store, and a real etcd takes its snapshot.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use store::embedded::{Engine, Options};
use store::sim_disk::SimDisk;
use store::{Condition, Op, Range, Store, Txn};
use tokio::io::AsyncBufReadExt;
use tokio::net::TcpListener;

/// Runs it and returns what it says; a failure says so.
pub(crate) async fn etcdctl(endpoint: &str, arguments: &str) -> String {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").stdin(Stdio::null());
    command
        .args(["--endpoints", endpoint])
        .args(words(arguments));
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = run
        .await
        .unwrap()
        .expect("etcdctl: install Debian's etcd-client");
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.success() {
        true => text,
        false => format!("failed: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ')
        .map(|word| if word == "''" { "" } else { word })
}

async fn transact(endpoint: &str, text: &'static str) -> String {
    let endpoint = endpoint.to_owned();
    let run = tokio::task::spawn_blocking(move || {
        use std::io::Write;
        let mut child = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &endpoint, "txn"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    });
    String::from_utf8_lossy(&run.await.unwrap().stdout)
        .trim()
        .to_owned()
}

async fn serve(engine: Arc<Engine>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let listener = etcd_serve::Listener::Open(listener);
    tokio::spawn(etcd_serve::serve(engine, listener, std::future::pending()));
    endpoint
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_reads_writes_and_watches() {
    let engine = Engine::open_on(Arc::new(SimDisk::new(1)), Options::default()).unwrap();
    let at = serve(engine.clone()).await;
    assert_eq!(etcdctl(&at, "put a 1").await, "OK");
    assert_eq!(etcdctl(&at, "put a 2 --prev-kv").await, "OK\na\n1");
    assert_eq!(etcdctl(&at, "put b/1 x").await, "OK");
    assert_eq!(etcdctl(&at, "put b/2 y").await, "OK");
    assert_eq!(etcdctl(&at, "get a").await, "a\n2");
    assert_eq!(etcdctl(&at, "get a --rev=2").await, "a\n1");
    assert_eq!(
        etcdctl(&at, "get b/ --prefix --keys-only").await,
        "b/1\n\nb/2"
    );
    assert_eq!(
        etcdctl(
            &at,
            "get '' --prefix --sort-by=MODIFY --order=DESCEND --limit=2 --print-value-only"
        )
        .await,
        "y\nx"
    );
    assert_eq!(
        etcdctl(&at, "get b --from-key --keys-only").await,
        "b/1\n\nb/2"
    );
    assert!(
        etcdctl(&at, "get a --rev=99")
            .await
            .contains("future revision")
    );
    assert_eq!(
        etcdctl(&at, "del b/ --prefix --prev-kv").await,
        "2\nb/1\nx\nb/2\ny"
    );
    assert_eq!(etcdctl(&at, "del none").await, "0");
    let told = transact(
        &at,
        "value(\"a\") = \"2\"\nver(\"c\") = \"0\"\n\nput c 3\nget a\nget c\n\nget c\n\n",
    );
    assert_eq!(told.await, "SUCCESS\n\nOK\n\na\n2\n\nc\n3");
    let told = transact(&at, "mod(\"a\") < \"3\"\n\nput a no\n\nget a\n\n").await;
    assert_eq!(told, "FAILURE\n\na\n2");
    let mut watch = tokio::process::Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &at, "watch", "", "--prefix", "--rev=2"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = tokio::io::BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut seen = Vec::new();
    while seen.len() < 8 {
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await;
        seen.push(
            line.unwrap_or_else(|_| panic!("{seen:?}"))
                .unwrap()
                .unwrap(),
        );
    }
    assert_eq!(seen.join(" "), "PUT a 1 PUT a 2 PUT b/1");
    watch.kill().await.unwrap();
    assert_eq!(etcdctl(&at, "compaction 4").await, "compacted revision 4");
    assert!(
        etcdctl(&at, "get a --rev=2")
            .await
            .contains("has been compacted")
    );
    assert!(
        etcdctl(&at, "compaction 4")
            .await
            .contains("has been compacted")
    );
    // It says so on the standard error.
    assert!(!etcdctl(&at, "endpoint health").await.contains("failed"));
    assert!(etcdctl(&at, "endpoint status").await.contains("3.5.21"));
    assert!(etcdctl(&at, "endpoint hashkv").await.contains(", "));
    assert!(etcdctl(&at, "member list").await.contains("oxikube"));
    assert!(
        etcdctl(&at, "defrag")
            .await
            .contains("Finished defragmenting")
    );
    assert_eq!(etcdctl(&at, "alarm list").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_hold_their_keys_over_a_restart_and_take_them_along() {
    let disk = SimDisk::new(1);
    let engine = Engine::open_on(Arc::new(disk.clone()), Options::default()).unwrap();
    let at = serve(engine.clone()).await;
    let granted = etcdctl(&at, "lease grant 3600").await;
    let id = granted.split(' ').nth(1).unwrap().to_owned();
    assert_eq!(etcdctl(&at, &format!("put k v --lease={id}")).await, "OK");
    assert_eq!(etcdctl(&at, "put other v").await, "OK");
    let told = etcdctl(&at, &format!("lease timetolive {id} --keys")).await;
    assert!(
        told.contains("granted with TTL(3600s)") && told.contains("keys([k])"),
        "{told}"
    );
    assert!(etcdctl(&at, "lease list").await.contains(&id));
    assert!(
        etcdctl(&at, &format!("lease keep-alive --once {id}"))
            .await
            .contains("TTL(3600)")
    );
    assert!(
        etcdctl(&at, "put k v --lease=123")
            .await
            .contains("lease not found")
    );
    // Only what clients wrote is shown.
    assert_eq!(
        etcdctl(&at, "get '' --prefix --keys-only").await,
        "k\n\nother"
    );
    // Leases without keys live on too, and what was revoked stays away.
    let grant = async |at: &str| {
        let granted = etcdctl(at, "lease grant 3600").await;
        granted.split(' ').nth(1).unwrap().to_owned()
    };
    let (bare, brief) = (grant(&at).await, grant(&at).await);
    etcdctl(&at, &format!("lease revoke {brief}")).await;
    let revision = engine.revision();
    engine.close();
    let engine = Engine::open_on(Arc::new(disk.clone()), Options::default()).unwrap();
    let at = serve(engine.clone()).await;
    assert_eq!(
        engine.revision(),
        revision,
        "a lease has no revision of its own"
    );
    let listed = etcdctl(&at, "lease list").await;
    assert!(
        listed.contains(&id) && listed.contains(&bare) && !listed.contains(&brief),
        "{listed}"
    );
    let told = etcdctl(&at, &format!("lease timetolive {bare}")).await;
    assert!(told.contains("granted with TTL(3600s)"), "{told}");
    assert!(
        etcdctl(&at, &format!("lease revoke {id}"))
            .await
            .contains("revoked")
    );
    // Its record goes with a later write; until then it is known to be gone.
    engine.close();
    let engine = Engine::open_on(Arc::new(disk.clone()), Options::default()).unwrap();
    let at = serve(engine.clone()).await;
    let listed = etcdctl(&at, "lease list").await;
    assert!(!listed.contains(&id) && listed.contains(&bare), "{listed}");
    let files = store_proof::files::Simulated(&disk);
    store_reader::verify(&files).expect("the second reader knows the file");
    assert_eq!(etcdctl(&at, "get '' --prefix --keys-only").await, "other");
    let granted = etcdctl(&at, "lease grant 1").await;
    let id = granted.split(' ').nth(1).unwrap().to_owned();
    let mut watch = engine
        .watch("short".into(), store::RangeEnd::Key, 1)
        .await
        .ok();
    let mut watch = match watch.take() {
        Some(watch) => watch,
        None => engine
            .watch("short".into(), store::RangeEnd::Key, engine.revision() + 1)
            .await
            .unwrap(),
    };
    assert_eq!(
        etcdctl(&at, &format!("put short v --lease={id}")).await,
        "OK"
    );
    loop {
        let batch = futures::StreamExt::next(&mut watch).await.unwrap().unwrap();
        if batch.events[0].kind == store::EventKind::Delete {
            break;
        }
    }
    assert_eq!(engine.range(Range::key("short")).await.unwrap().count, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_ours_starts_a_real_etcd() {
    let home = tempfile::tempdir().unwrap();
    let engine = Engine::open_on(Arc::new(SimDisk::new(1)), Options::default()).unwrap();
    let at = serve(engine.clone()).await;
    for part in 0..20 {
        let success = (0..100).map(|n| Op::Put {
            key: format!("key/{part}/{n}").into(),
            value: format!("{n}").repeat(1 + n * part).into(),
            ttl: None,
        });
        let success = success.collect();
        engine
            .txn(Txn {
                success,
                ..Txn::default()
            })
            .await
            .unwrap();
    }
    etcdctl(&at, "del key/19/99").await;
    let file = home.path().join("snapshot.db");
    let saved = etcdctl(&at, &format!("snapshot save {}", file.display())).await;
    assert!(saved.contains("Snapshot saved"), "{saved}");
    let status = etcdctl(
        &at,
        &format!("snapshot status {} -w fields", file.display()),
    )
    .await;
    assert!(
        status.contains("\"Revision\" : 22") || status.contains("\"Revision\" : 21"),
        "{status}"
    );
    let data = home.path().join("restored");
    let restore = format!(
        "snapshot restore {} --data-dir={} --name=m --initial-cluster=m=http://127.0.0.1:1 \
         --initial-advertise-peer-urls=http://127.0.0.1:1",
        file.display(),
        data.display()
    );
    let restored = etcdctl(&at, &restore).await;
    assert!(!restored.starts_with("failed"), "{restored}");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = format!("http://{}", port.local_addr().unwrap());
    drop(port);
    let mut etcd = Command::new("etcd")
        .arg(format!("--data-dir={}", data.display()))
        .args(["--name=m", "--listen-peer-urls=http://127.0.0.1:0"])
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .args(["--initial-advertise-peer-urls=http://127.0.0.1:1"])
        .args(["--initial-cluster=m=http://127.0.0.1:1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let patient = "--dial-timeout=20s --command-timeout=30s";
    let all = format!("get key/ --prefix --keys-only -w fields {patient}");
    let there = etcdctl(&client, &all).await;
    let value = etcdctl(&client, "get key/7/3").await;
    etcd.kill().unwrap();
    etcd.wait().unwrap();
    assert!(there.contains("\"Count\" : 1999"), "{there}");
    assert_eq!(value, format!("key/7/3\n{}", "3".repeat(22)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_an_alarm_that_goes_by_itself() {
    let disk = SimDisk::new(1);
    let engine = Engine::open_on(Arc::new(disk.clone()), Options::default()).unwrap();
    let at = serve(engine.clone()).await;
    etcdctl(&at, "put a 1").await;
    disk.set_capacity(Some(1));
    assert!(
        etcdctl(&at, "put a 2")
            .await
            .contains("database space exceeded")
    );
    assert!(etcdctl(&at, "alarm list").await.contains("NOSPACE"));
    assert_eq!(etcdctl(&at, "get a").await, "a\n1");
    disk.set_capacity(None);
    assert_eq!(etcdctl(&at, "put a 2").await, "OK");
    assert_eq!(etcdctl(&at, "alarm list").await, "");
    assert_eq!(engine.condition(), Condition::Serving);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_only_those_with_a_certificate_are_served() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let home = tempfile::tempdir().unwrap();
    let files = crate::cluster::certificates(home.path());
    let read = |path: &std::path::Path| std::fs::read(path).unwrap();
    let engine = Engine::open_on(Arc::new(SimDisk::new(1)), Options::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("https://{}", listener.local_addr().unwrap());
    let listener = etcd_serve::Listener::Tls {
        listener,
        identity: (read(&files.identity.0), read(&files.identity.1)),
        client_authority: read(&files.authority),
    };
    tokio::spawn(etcd_serve::serve(engine, listener, std::future::pending()));
    let authority = format!("--cacert={}", files.authority.display());
    let identity = format!(
        "--cert={} --key={}",
        files.identity.0.display(),
        files.identity.1.display()
    );
    let with = async |what: &str| etcdctl(&at, &format!("{authority} {identity} {what}")).await;
    assert_eq!(with("put a 1").await, "OK");
    assert_eq!(with("get a").await, "a\n1");
    let without = etcdctl(&at, &format!("{authority} --dial-timeout=2s get a")).await;
    assert!(without.starts_with("failed"), "{without}");
}
