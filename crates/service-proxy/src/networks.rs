//! Where cluster IPs come from, as the API shows it: the networks of all `ServiceCIDR`s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{Stream, StreamExt};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use service_rules::Cidr;

/// The networks; none until the API has told them, which older servers never do.
pub(crate) type Networks = Arc<Mutex<Option<BTreeSet<Cidr>>>>;

/// By name of the object.
#[derive(Default)]
struct Known {
    objects: BTreeMap<String, Vec<Cidr>>,
    listing: Option<BTreeMap<String, Vec<Cidr>>>,
}

/// Those that this proxy can serve; other families are not its own.
fn read(object: ServiceCIDR) -> (String, Vec<Cidr>) {
    let cidrs = object.spec.and_then(|spec| spec.cidrs).unwrap_or_default();
    let cidrs = cidrs.iter().filter_map(|text| text.parse().ok());
    (object.metadata.name.unwrap_or_default(), cidrs.collect())
}

impl Known {
    fn take(&mut self, event: Event<ServiceCIDR>) {
        match event {
            Event::Init => self.listing = Some(BTreeMap::new()),
            Event::InitApply(object) => {
                self.listing.get_or_insert_default().extend([read(object)]);
            }
            Event::InitDone => self.objects = self.listing.take().unwrap_or_default(),
            Event::Apply(object) => self.objects.extend([read(object)]),
            Event::Delete(object) => drop(self.objects.remove(&read(object).0)),
        }
    }

    fn networks(&self) -> Option<BTreeSet<Cidr>> {
        let networks = self.objects.values().flatten().copied();
        self.listing.is_none().then(|| networks.collect())
    }
}

/// Keeps the networks up to date, and says so whenever they change.
pub(crate) fn follow(client: Client, networks: Networks) -> impl Stream<Item = ()> + Send {
    let config = watcher::Config::default();
    let events = watcher(Api::<ServiceCIDR>::all(client), config).default_backoff();
    let mut known = Known::default();
    events.filter_map(move |event| {
        let now = event.ok().and_then(|event| {
            known.take(event);
            known.networks()
        });
        let changed = now.is_some_and(|now| {
            let mut networks = networks.lock();
            networks.replace(now.clone()) != Some(now)
        });
        std::future::ready(changed.then_some(()))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, cidrs: &[&str]) -> ServiceCIDR {
        let object = json!({"metadata": {"name": name}, "spec": {"cidrs": cidrs}});
        serde_json::from_value(object).expect("an object")
    }

    #[test]
    fn all_networks_of_the_family_count() {
        let mut known = Known::default();
        let mut shown = |event| {
            known.take(event);
            let networks = known.networks()?;
            let shown = networks
                .iter()
                .map(|n| format!("{}/{}", n.address, n.prefix));
            Some(shown.collect::<Vec<_>>().join(" "))
        };
        assert_eq!(shown(Event::Init), None);
        let first = object("kubernetes", &["10.96.0.0/16", "fd00::/108"]);
        assert_eq!(shown(Event::InitApply(first)), None);
        assert_eq!(shown(Event::InitDone).as_deref(), Some("10.96.0.0/16"));
        let second = || object("more", &["10.200.0.0/24"]);
        let both = Some("10.96.0.0/16 10.200.0.0/24");
        assert_eq!(shown(Event::Apply(second())).as_deref(), both);
        assert_eq!(
            shown(Event::Delete(second())).as_deref(),
            Some("10.96.0.0/16")
        );
    }
}
