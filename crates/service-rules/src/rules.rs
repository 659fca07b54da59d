//! What the table holds now, and the changes that a service's new fragment asks for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv4Addr;

use nft::model::Value;
use nft::{Change, Verdict};

use crate::fragment::{Fragment, Frontend, FrontendKind};
use crate::skeleton::{balancer, balancer_name};

/// The service part of the table.
///
/// Invariant: after every batch of [`Rules::set`]'s changes is applied in order to a fresh skeleton, the kernel's sets hold
/// exactly what the fragments say.
#[derive(Debug, Default)]
pub struct Rules {
    fragments: HashMap<String, Fragment>,
    /// How many fragments send packets to an address.
    hairpin: HashMap<Ipv4Addr, usize>,
    /// Balancers made so far; they are few (one a count of end points) and stay.
    balancers: HashSet<(FrontendKind, u32)>,
}

/// Elements to remove and to add, by set.
#[derive(Default)]
struct Difference {
    remove: BTreeMap<&'static str, Vec<Vec<u8>>>,
    add: BTreeMap<&'static str, Vec<(Vec<u8>, Value)>>,
}

impl Rules {
    /// No services.
    pub fn new() -> Self {
        Self::default()
    }

    /// The services that have a fragment.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.fragments.keys().map(String::as_str)
    }

    /// Replaces a service's fragment (an empty one removes it) and says what has to change in the table.
    pub fn set(&mut self, service: &str, new: Fragment) -> Vec<Change> {
        let old = self.fragments.get(service).cloned().unwrap_or_default();
        if old == new {
            return Vec::new();
        }
        let mut changes = Vec::new();
        let mut difference = Difference::default();
        self.add_balancers(&new, &mut changes);
        difference.elements(&old, &new);
        self.count_hairpin(&old, &new, &mut difference);
        if new.frontends.is_empty() {
            self.fragments.remove(service);
        } else {
            self.fragments.insert(service.to_owned(), new);
        }
        difference.into_changes(&mut changes);
        changes
    }

    fn add_balancers(&mut self, fragment: &Fragment, changes: &mut Vec<Change>) {
        for (frontend, endpoints) in &fragment.frontends {
            let count = u32::try_from(endpoints.len()).expect("end points fit memory");
            if count > 0 && self.balancers.insert((frontend.kind, count)) {
                changes.extend(balancer(frontend.kind, count));
            }
        }
    }

    fn count_hairpin(&mut self, old: &Fragment, new: &Fragment, difference: &mut Difference) {
        let (old, new) = (addresses(old), addresses(new));
        let key = |address: &Ipv4Addr| [address.octets(), address.octets()].concat();
        for address in new.difference(&old) {
            let count = self.hairpin.entry(*address).or_insert(0);
            *count += 1;
            if *count == 1 {
                difference.add("hairpin", key(address), Value::None);
            }
        }
        for address in old.difference(&new) {
            let count = self
                .hairpin
                .get_mut(address)
                .expect("every address in use is counted");
            *count -= 1;
            if *count == 0 {
                self.hairpin.remove(address);
                difference.remove("hairpin", key(address));
            }
        }
    }
}

fn addresses(fragment: &Fragment) -> HashSet<Ipv4Addr> {
    fragment
        .frontends
        .iter()
        .flat_map(|(_, endpoints)| endpoints)
        .map(|e| e.address)
        .collect()
}

impl Difference {
    fn add(&mut self, set: &'static str, key: Vec<u8>, value: Value) {
        self.add.entry(set).or_default().push((key, value));
    }

    fn remove(&mut self, set: &'static str, key: Vec<u8>) {
        self.remove.entry(set).or_default().push(key);
    }

    /// The elements that a fragment needs, by set and key.
    fn wanted(fragment: &Fragment) -> BTreeMap<(&'static str, Vec<u8>), Value> {
        let mut wanted = BTreeMap::new();
        for (frontend, endpoints) in &fragment.frontends {
            let count = u32::try_from(endpoints.len()).expect("end points fit memory");
            if count == 0 {
                wanted.insert(("no-endpoints", frontend.key()), Value::None);
                continue;
            }
            wanted.insert(("services", frontend.key()), goto(frontend, count));
            for (index, endpoint) in (0..count).zip(endpoints) {
                let key = frontend.endpoint_key(index);
                wanted.insert(("endpoints", key), Value::Data(endpoint.data()));
            }
        }
        wanted
    }

    fn elements(&mut self, old: &Fragment, new: &Fragment) {
        let (old, new) = (Self::wanted(old), Self::wanted(new));
        for ((set, key), value) in &old {
            // A map's element is replaced by removing and adding it inside one transaction.
            if new.get(&(*set, key.clone())) != Some(value) {
                self.remove(set, key.clone());
            }
        }
        for ((set, key), value) in new {
            if old.get(&(set, key.clone())) != Some(&value) {
                self.add(set, key, value);
            }
        }
    }

    fn into_changes(self, changes: &mut Vec<Change>) {
        let remove = self.remove.into_iter();
        changes.extend(remove.map(|(set, keys)| Change::DeleteElements(set.into(), keys)));
        let add = self.add.into_iter();
        changes.extend(add.map(|(set, elements)| Change::AddElements(set.into(), elements)));
    }
}

fn goto(frontend: &Frontend, count: u32) -> Value {
    Value::Verdict(Verdict::Goto(balancer_name(frontend.kind, count)))
}
