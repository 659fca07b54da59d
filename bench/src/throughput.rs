//! One TCP stream between two pods, sent and received by this program in their network namespaces.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use linux::namespace::{Kind, Namespace, run_in};

/// How long a stream lasts.
const LENGTH: Duration = Duration::from_secs(3);
const BUFFER_BYTES: usize = 256 << 10;

/// The network namespace, among those of these processes, that has an address.
pub(crate) fn namespace_of(processes: &[u32], address: Ipv4Addr) -> anyhow::Result<Namespace> {
    let mut namespaces = BTreeMap::new();
    for process in processes {
        let path = PathBuf::from(format!("/proc/{process}/ns/net"));
        // A process may end while it is looked at.
        if let Ok(metadata) = path.metadata() {
            namespaces.insert(metadata.ino(), path);
        }
    }
    for path in namespaces.into_values() {
        let Ok(namespace) = Namespace::open(&path, Kind::Network) else {
            continue;
        };
        if run_in(&namespace, || TcpListener::bind((address, 0)).is_ok())? {
            return Ok(namespace);
        }
    }
    bail!("no process of the cluster has the address {address}")
}

/// Gbit/s from one namespace to an address in the other.
pub(crate) fn stream(from: &Namespace, to: &Namespace, address: Ipv4Addr) -> anyhow::Result<f64> {
    let listener = run_in(to, || TcpListener::bind((address, 0)))?.context("cannot listen")?;
    let target = listener.local_addr()?;
    let receiver = std::thread::spawn(move || -> std::io::Result<(u64, Duration)> {
        let (mut stream, _) = listener.accept()?;
        let (mut buffer, mut bytes) = (vec![0; BUFFER_BYTES], 0);
        let began = Instant::now();
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok((bytes, began.elapsed())),
                length => bytes += length as u64,
            }
        }
    });
    let mut stream = run_in(from, || TcpStream::connect(target))?.context("cannot connect")?;
    let (buffer, began) = (vec![0; BUFFER_BYTES], Instant::now());
    while began.elapsed() < LENGTH {
        stream.write_all(&buffer)?;
    }
    drop(stream);
    let (bytes, taken) = match receiver.join() {
        Ok(received) => received?,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    Ok(bytes as f64 * 8.0 / taken.as_secs_f64() / 1e9)
}
