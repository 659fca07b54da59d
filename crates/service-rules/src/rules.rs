//! What the table holds now, and the changes that a service's new fragment asks for.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;

use nft::Change;
use nft::model::Value;

use crate::chains::Target;
use crate::cidr::Cidr;
use crate::elements::{Elements, wanted};
use crate::fragment::{Backends, Fragment, Frontend, FrontendKind};
use crate::skeleton::{affinity_map, refuse_unknown};

/// Who wants a front end; the first one has it. A cluster IP comes before an address that somebody only claims.
type Claim = (FrontendKind, String);

/// The service part of the table.
///
/// Invariant: after every batch of [`Rules::set`]'s changes is applied in order to a fresh skeleton, the kernel's sets hold
/// exactly what the fragments say. Of several services that want the same front end exactly one has it, whatever the
/// order in which they came.
#[derive(Debug, Default)]
pub struct Rules {
    pods: Option<Cidr>,
    fragments: HashMap<String, Fragment>,
    claims: HashMap<Frontend, BTreeMap<Claim, Backends>>,
    /// How many front ends send packets to an address, and how many are at a cluster IP.
    hairpin: HashMap<Ipv4Addr, usize>,
    cluster_ips: HashMap<Ipv4Addr, usize>,
    /// Where cluster IPs come from.
    networks: BTreeSet<Cidr>,
    /// Addresses that this node answers for.
    announced: BTreeSet<Ipv4Addr>,
    /// Chains made so far; they are few (one a count of end points) and stay.
    targets: HashSet<Target>,
    remembers: bool,
}

/// Elements to remove and to add, by set.
#[derive(Default)]
struct Difference {
    remove: BTreeMap<&'static str, Vec<Vec<u8>>>,
    add: BTreeMap<&'static str, Vec<(Vec<u8>, Value)>>,
}

impl Rules {
    /// No services. `pods` is where pods' addresses come from: they need no detour to reach what is meant for outside.
    pub fn new(pods: Option<Cidr>) -> Self {
        Self {
            pods,
            ..Self::default()
        }
    }

    /// The services that have a fragment.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.fragments.keys().map(String::as_str)
    }

    /// The fragment of a service.
    pub fn fragment(&self, service: &str) -> Option<&Fragment> {
        self.fragments.get(service)
    }

    /// Replaces a service's fragment (an empty one removes it) and says what has to change in the table.
    pub fn set(&mut self, service: &str, new: Fragment) -> Vec<Change> {
        self.set_all(vec![(service.to_owned(), new)])
    }

    /// The same for several services at once: what one gives up another may take, in one transaction.
    pub fn set_all(&mut self, mut new: Vec<(String, Fragment)>) -> Vec<Change> {
        new.retain(|(service, fragment)| match self.fragments.get(service) {
            Some(old) => old != fragment,
            None => *fragment != Fragment::default(),
        });
        let touched = self.touched(&new);
        let before = self.state(&touched);
        for (service, fragment) in new {
            self.claim(service, fragment);
        }
        let after = self.state(&touched);
        let mut changes = Vec::new();
        for target in &after.targets {
            self.make(*target, &mut changes);
        }
        let mut difference = Difference::default();
        difference.elements(&before.elements, &after.elements);
        let hairpin = |address: &Ipv4Addr| [address.octets(), address.octets()].concat();
        let (gone, come) = (&before.endpoints, &after.endpoints);
        difference.count("hairpin", &mut self.hairpin, gone, come, hairpin);
        let cluster_ip = |address: &Ipv4Addr| address.octets().to_vec();
        let (gone, come) = (&before.cluster_ips, &after.cluster_ips);
        difference.count("cluster-ips", &mut self.cluster_ips, gone, come, cluster_ip);
        difference.into_changes(&mut changes);
        changes
    }

    /// The front ends that these fragments have or had.
    fn touched(&self, new: &[(String, Fragment)]) -> BTreeSet<Frontend> {
        let old = new.iter().filter_map(|(s, _)| self.fragments.get(s));
        let fragments = old.chain(new.iter().map(|(_, fragment)| fragment));
        let frontends = fragments.flat_map(|fragment| &fragment.frontends);
        frontends.map(|(frontend, _)| *frontend).collect()
    }

    fn claim(&mut self, service: String, fragment: Fragment) {
        let old = self.fragments.remove(&service).unwrap_or_default();
        for (frontend, backends) in &old.frontends {
            self.unclaim(frontend, &(backends.kind, service.clone()));
        }
        for (frontend, backends) in &fragment.frontends {
            let claim = (backends.kind, service.clone());
            let claims = self.claims.entry(*frontend).or_default();
            claims.insert(claim, backends.clone());
        }
        if fragment != Fragment::default() {
            self.fragments.insert(service, fragment);
        }
    }

    /// Sets where cluster IPs come from: what no service has of it is refused.
    pub fn serve(&mut self, networks: BTreeSet<Cidr>) -> Vec<Change> {
        if networks == self.networks {
            return Vec::new();
        }
        self.networks = networks;
        refuse_unknown(&self.networks)
    }

    /// Sets the addresses that this node answers for: only services are reached under them, nothing else that listens
    /// here.
    pub fn announce(&mut self, addresses: BTreeSet<Ipv4Addr>) -> Vec<Change> {
        let mut difference = Difference::default();
        for gone in self.announced.difference(&addresses) {
            difference.remove("announced", gone.octets().to_vec());
        }
        for come in addresses.difference(&self.announced) {
            difference.add("announced", come.octets().to_vec(), Value::None);
        }
        self.announced = addresses;
        let mut changes = Vec::new();
        difference.into_changes(&mut changes);
        changes
    }

    fn unclaim(&mut self, frontend: &Frontend, claim: &Claim) {
        if let Some(claims) = self.claims.get_mut(frontend) {
            claims.remove(claim);
            if claims.is_empty() {
                self.claims.remove(frontend);
            }
        }
    }

    /// What the table has for these front ends.
    fn state(&self, frontends: &BTreeSet<Frontend>) -> State {
        let mut state = State::default();
        for frontend in frontends {
            let first = self
                .claims
                .get(frontend)
                .and_then(BTreeMap::first_key_value);
            let Some((_, backends)) = first else {
                continue;
            };
            let wanted = wanted(frontend, backends);
            state.elements.extend(wanted.elements);
            state.targets.extend(wanted.targets);
            let endpoints: BTreeSet<Ipv4Addr> = backends.endpoints().map(|e| e.address).collect();
            state.endpoints.extend(endpoints);
            if backends.kind == FrontendKind::Cluster {
                state.cluster_ips.push(frontend.address);
            }
        }
        state
    }

    fn make(&mut self, target: Target, changes: &mut Vec<Change>) {
        if self.targets.contains(&target) {
            return;
        }
        for needed in target.needs() {
            self.make(needed, changes);
        }
        if target.remembers() && !self.remembers {
            self.remembers = true;
            changes.push(affinity_map());
        }
        changes.extend(target.make(self.pods));
        self.targets.insert(target);
    }
}

/// What some front ends have in the table.
#[derive(Default)]
struct State {
    elements: Elements,
    targets: Vec<Target>,
    /// Addresses of end points, once for every front end.
    endpoints: Vec<Ipv4Addr>,
    cluster_ips: Vec<Ipv4Addr>,
}

impl Difference {
    fn add(&mut self, set: &'static str, key: Vec<u8>, value: Value) {
        self.add.entry(set).or_default().push((key, value));
    }

    fn remove(&mut self, set: &'static str, key: Vec<u8>) {
        self.remove.entry(set).or_default().push(key);
    }

    fn elements(&mut self, old: &Elements, new: &Elements) {
        for ((set, key), value) in old {
            // A map's element is replaced by removing and adding it inside one transaction.
            if new.get(&(*set, key.clone())) != Some(value) {
                self.remove(set, key.clone());
            }
        }
        for ((set, key), value) in new {
            if old.get(&(set, key.clone())) != Some(value) {
                self.add(set, key.clone(), value.clone());
            }
        }
    }

    /// Addresses that several front ends share stand in a set as long as there is one.
    fn count(
        &mut self,
        set: &'static str,
        counts: &mut HashMap<Ipv4Addr, usize>,
        gone: &[Ipv4Addr],
        come: &[Ipv4Addr],
        key: impl Fn(&Ipv4Addr) -> Vec<u8>,
    ) {
        let mut delta: BTreeMap<Ipv4Addr, (usize, usize)> = BTreeMap::new();
        gone.iter()
            .for_each(|a| delta.entry(*a).or_default().0 += 1);
        come.iter()
            .for_each(|a| delta.entry(*a).or_default().1 += 1);
        for (address, (gone, come)) in delta {
            let before = counts.get(&address).copied().unwrap_or(0);
            let after = before + come - gone;
            match (before, after) {
                (0, 1..) => self.add(set, key(&address), Value::None),
                (1.., 0) => self.remove(set, key(&address)),
                _ => {}
            }
            match after {
                0 => counts.remove(&address),
                after => counts.insert(address, after),
            };
        }
    }

    fn into_changes(self, changes: &mut Vec<Change>) {
        let remove = self.remove.into_iter();
        changes.extend(remove.map(|(set, keys)| Change::DeleteElements(set.into(), keys)));
        let add = self.add.into_iter();
        changes.extend(add.map(|(set, elements)| Change::AddElements(set.into(), elements)));
    }
}
