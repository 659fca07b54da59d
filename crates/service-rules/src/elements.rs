//! The elements of the shared sets that a front end needs, and the chains that they name.

use std::collections::BTreeMap;

use nft::Verdict;
use nft::model::Value;

use crate::chains::{Door, Pool, Spread, Target};
use crate::fragment::{Backends, Endpoint, Frontend, FrontendKind, Reach};

/// Elements by set and key.
pub(crate) type Elements = BTreeMap<(&'static str, Vec<u8>), Value>;

/// What one front end needs.
#[derive(Default)]
pub(crate) struct Wanted {
    pub(crate) elements: Elements,
    pub(crate) targets: Vec<Target>,
}

impl Wanted {
    fn put(&mut self, set: &'static str, key: Vec<u8>, value: Value) {
        self.elements.insert((set, key), value);
    }

    fn goto(&mut self, set: &'static str, frontend: &Frontend, target: Target) {
        self.put(
            set,
            frontend.key(),
            Value::Verdict(Verdict::Goto(target.name())),
        );
        self.targets.push(target);
    }

    /// The end points of a pool, by number, and as members where clients stay.
    fn pool(&mut self, frontend: &Frontend, pool: Pool, endpoints: &[Endpoint], affine: bool) {
        for (index, endpoint) in (0..).zip(endpoints) {
            let data = Value::Data(endpoint.data());
            self.put(pool.by_number(), frontend.endpoint_key(index), data);
            if affine {
                self.put(pool.members(), frontend.member_key(endpoint), Value::None);
            }
        }
    }
}

fn count(endpoints: &[Endpoint]) -> u32 {
    u32::try_from(endpoints.len()).expect("end points fit memory")
}

/// What this front end needs.
pub(crate) fn wanted(frontend: &Frontend, backends: &Backends) -> Wanted {
    let mut wanted = Wanted::default();
    let affinity = backends.affinity;
    let affine = affinity.is_some();
    let spread = |pool, masquerade, endpoints: &[Endpoint]| {
        Target::Spread(Spread {
            door: door(frontend),
            masquerade,
            pool,
            count: count(endpoints),
            affinity,
        })
    };
    match &backends.reach {
        Reach::Nowhere => wanted.put("no-endpoints", frontend.key(), Value::None),
        Reach::Elsewhere => {
            wanted.put("services", frontend.key(), Value::Verdict(Verdict::Drop));
        }
        Reach::Spread(endpoints) => {
            // The answer has to come back the same way.
            let masquerade = backends.kind != FrontendKind::Cluster;
            let target = spread(Pool::Cluster, masquerade, endpoints);
            wanted.goto("services", frontend, target);
            wanted.pool(frontend, Pool::Cluster, endpoints, affine);
        }
        Reach::Preserve { cluster, local } => {
            let target = Target::Preserve {
                door: door(frontend),
                count: count(cluster),
                affinity,
            };
            wanted.goto("services", frontend, target);
            wanted.pool(frontend, Pool::Cluster, cluster, affine);
            if local.is_empty() {
                wanted.put("outside", frontend.key(), Value::Verdict(Verdict::Drop));
            } else {
                wanted.goto("outside", frontend, spread(Pool::Local, false, local));
                wanted.pool(frontend, Pool::Local, local, affine);
            }
        }
    }
    if let Some(sources) = &backends.sources {
        wanted.put("firewalled", frontend.key(), Value::None);
        for source in sources {
            wanted.put("sources", frontend.source_key(*source), Value::None);
        }
    }
    wanted
}

fn door(frontend: &Frontend) -> Door {
    match frontend.is_node_port() {
        true => Door::NodePort,
        false => Door::Address,
    }
}
