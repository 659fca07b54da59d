//! Which sandbox has which address: one file an address, named by it, holding the sandbox's id.
//!
//! A file is made with "fail if it exists", so two processes (or one that crashed half-way) never hand out an address
//! twice. Addresses are handed out round robin, so that one is not reused right after it was given back.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ipnet::Ipv4Net;

/// No address can be had, or none be given back.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// All are in use.
    #[error("no address is free in the node's pod CIDR {0}")]
    Exhausted(Ipv4Net),
    /// The node's network has no room for pods.
    #[error("the node's pod CIDR {0} is too small: it needs at least four addresses")]
    TooSmall(Ipv4Net),
    /// A record cannot be read or written.
    #[error("cannot keep the record of pod addresses in {path}")]
    Record {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// The addresses of one node.
#[derive(Debug)]
pub(crate) struct Pool {
    cidr: Ipv4Net,
    dir: PathBuf,
    /// The address handed out last.
    last: Mutex<u32>,
}

impl Pool {
    pub(crate) fn open(state_dir: &Path, cidr: Ipv4Net) -> Result<Self, AddressError> {
        if cidr.prefix_len() > 30 {
            return Err(AddressError::TooSmall(cidr));
        }
        let dir = state_dir.join("addresses");
        fs::create_dir_all(&dir).map_err(|source| record(&dir, source))?;
        let last = Mutex::new(u32::from(cidr.network()) + 1);
        Ok(Self { cidr, dir, last })
    }

    pub(crate) fn cidr(&self) -> Ipv4Net {
        self.cidr
    }

    /// The node's own address in its pod CIDR: the first one.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.cidr.network()) + 1)
    }

    /// An address for `id`: the one it has, or the next free one.
    pub(crate) fn take(&self, id: &str) -> Result<Ipv4Addr, AddressError> {
        let mut last = self.last.lock().expect("no panic while held");
        if let Some(address) = self.held_by(id)? {
            return Ok(address);
        }
        let first = u32::from(self.gateway()) + 1;
        let end = u32::from(self.cidr.broadcast());
        let count = end - first;
        for step in 1..=count {
            let candidate = first + (last.wrapping_sub(first).wrapping_add(step)) % count;
            let address = Ipv4Addr::from(candidate);
            if self.claim(address, id)? {
                *last = candidate;
                return Ok(address);
            }
        }
        Err(AddressError::Exhausted(self.cidr))
    }

    pub(crate) fn give_back(&self, id: &str) -> Result<(), AddressError> {
        let _guard = self.last.lock().expect("no panic while held");
        match self.held_by(id)? {
            Some(address) => {
                let path = self.dir.join(address.to_string());
                fs::remove_file(&path).map_err(|source| record(&path, source))
            }
            None => Ok(()),
        }
    }

    fn claim(&self, address: Ipv4Addr, id: &str) -> Result<bool, AddressError> {
        let path = self.dir.join(address.to_string());
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        match file {
            Ok(mut file) => {
                file.write_all(id.as_bytes())
                    .map_err(|source| record(&path, source))?;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(source) => Err(record(&path, source)),
        }
    }

    fn held_by(&self, id: &str) -> Result<Option<Ipv4Addr>, AddressError> {
        let entries = fs::read_dir(&self.dir).map_err(|source| record(&self.dir, source))?;
        for entry in entries {
            let path = entry.map_err(|source| record(&self.dir, source))?.path();
            let name = path
                .file_name()
                .and_then(|n| n.to_str())
                .unwrap_or_default();
            let Ok(address) = name.parse::<Ipv4Addr>() else {
                continue;
            };
            let holder = fs::read_to_string(&path).map_err(|source| record(&path, source))?;
            if holder == id && self.cidr.contains(&address) {
                return Ok(Some(address));
            }
        }
        Ok(None)
    }
}

fn record(path: &Path, source: std::io::Error) -> AddressError {
    AddressError::Record {
        path: path.to_owned(),
        source,
    }
}
