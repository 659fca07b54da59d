//! A server whose data lie on a real file system that gets full while clients write: it says so, reads go on, and when there
//! is room again it goes on by itself, with all that it acknowledged.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use cluster_tests::{Cluster, Host, ip, words};

use crate::writes::Client;

const MEGABYTES: usize = 24;

fn mount(at: &Path) {
    std::fs::create_dir_all(at).expect("a directory");
    let size = format!("size={MEGABYTES}m,mode=0700");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
        .arg(at)
        .status();
    assert!(mounted.expect("mount").success());
}

/// Takes all the room that there is, to the last byte.
fn fill(path: &Path) {
    let mut file = File::create(path).expect("a file");
    for piece in [1 << 16, 1] {
        let bytes = vec![1; piece];
        // It is full at the first error, and that is what is wanted.
        while file.write_all(&bytes).is_ok() {}
    }
}

fn check(store: &Path) -> String {
    let checked = Command::new(Cluster::program("oxikube"))
        .args(["store", "check", "--data-dir"])
        .arg(store)
        .output()
        .expect("started");
    let told = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{told}");
    String::from_utf8_lossy(&checked.stdout).into_owned()
}

#[test]
fn a_full_file_system_stops_writes_only_and_only_while_it_is_full() {
    let mut host = Host::new("f");
    let name = host.name().to_owned();
    ip(&format!("-n {name} link add d0 type bridge"));
    ip(&format!("-n {name} addr add 172.29.96.1/24 dev d0"));
    ip(&format!("-n {name} link set d0 up"));
    ip(&format!("-n {name} route add default dev d0"));
    let store = host.path("data/server/store");
    mount(&store);
    let (data, admin) = (host.text("data"), host.text("admin"));
    let flags = words(&format!(
        "server --data-dir {data} --node-name n1 --node-ip 172.29.96.1 --write-kubeconfig {admin} \
         --disable-agent --disable-dns --disable-scheduler --disable-controller-manager"
    ));
    let ready = ["get", "--raw", "/readyz"];
    host.start("server", &flags);
    host.wait(&admin, &ready, |said| said == "ok");

    let clients = ["a", "b"].map(|label| Client::start(&host, &admin, label));
    let mut filler = store.join("filler");
    for round in ["first", "second"] {
        for client in &clients {
            client.goes_on(3);
        }
        fill(&filler);
        for client in &clients {
            client.is_refused("no space left in the data directory, nothing was written");
        }
        let why = host.until("the server says so", || {
            let said = host.kubectl(&admin, &ready);
            match said.code {
                0 => Err(said.stdout),
                _ => Ok(format!("{}{}", said.stdout, said.stderr)),
            }
        });
        assert!(
            why.contains("[-]store-writable failed: reason withheld"),
            "{why}"
        );
        let check = ["get", "--raw", "/readyz/store-writable"];
        let why = host.kubectl(&admin, &check).failed();
        assert!(why.contains("read-only: no space left"), "{why}");
        assert!(host.kubectl(&admin, &["get", "--raw", "/livez"]).ok() == "ok");
        // Reads go on, also those that are new to the server.
        let listed = ["get", "configmaps", "-o", "name"];
        assert!(host.kubectl(&admin, &listed).ok().contains("configmap/a-0"));
        host.kubectl(&admin, &["get", "configmap", "b-0"]).ok();
        std::fs::remove_file(&filler).expect("removed");
        for client in &clients {
            client.goes_on(3);
        }
        host.wait(&admin, &ready, |said| said == "ok");
        filler = store.join(format!("filler-{round}"));
    }

    // Nobody writes any more, and it is found out all the same that there is room.
    fill(&filler);
    for client in &clients {
        client.is_refused("no space left");
    }
    let written: Vec<String> = clients.into_iter().flat_map(Client::finish).collect();
    assert!(
        !host
            .kubectl(&admin, &["create", "configmap", "late"])
            .stderr
            .is_empty()
    );
    assert_ne!(host.kubectl(&admin, &ready).code, 0);
    std::fs::remove_file(&filler).expect("removed");
    host.wait(&admin, &ready, |said| said == "ok");

    let all_there = |host: &Host| {
        let listed = [
            "get",
            "configmaps",
            "-o",
            "jsonpath={.items[*].metadata.name}",
        ];
        let listed = host.kubectl(&admin, &listed).ok();
        let there: std::collections::BTreeSet<&str> = listed.split(' ').collect();
        let lost: Vec<_> = written
            .iter()
            .filter(|name| !there.contains(name.as_str()))
            .collect();
        assert!(lost.is_empty(), "{lost:?}");
        assert!(written.len() >= 18, "{written:?}");
    };
    all_there(&host);
    // A crash on a full disk: all of it is there, and writes are taken as soon as there is room.
    fill(&filler);
    host.end("server", false);
    host.start("server", &flags);
    host.wait(&admin, &["get", "--raw", "/livez"], |said| said == "ok");
    all_there(&host);
    std::fs::remove_file(&filler).expect("removed");
    host.wait(&admin, &["create", "configmap", "after"], |_| true);
    host.wait(&admin, &ready, |said| said == "ok");
    host.end("server", true);
    assert!(check(&store).starts_with("sound: "));
}
