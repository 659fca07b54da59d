//! Amounts of resources: CPU in thousandths, everything else in units.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource;
use machinery::quantity::Quantity;

/// What a container without a CPU request counts for when nodes are compared.
const DEFAULT_MILLI_CPU: i64 = 100;
/// What a container without a memory request counts for when nodes are compared.
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts by resource name; absent is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources(pub BTreeMap<String, i64>);

impl Resources {
    /// From a resource list of the API; amounts that cannot be read count as zero (validation refuses them).
    pub fn from_list(list: Option<&BTreeMap<String, resource::Quantity>>) -> Self {
        let amount = |name: &str, text: &str| {
            let quantity = Quantity::parse(text).ok();
            let value = |q: Quantity| {
                if name == "cpu" {
                    q.milli_value()
                } else {
                    q.value()
                }
            };
            quantity.map_or(0, value)
        };
        let list = list.into_iter().flatten();
        Self(
            list.map(|(name, q)| (name.clone(), amount(name, &q.0)))
                .collect(),
        )
    }

    /// One amount.
    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Adds all amounts of another.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let sum = self.0.entry(name.clone()).or_insert(0);
            *sum = sum.saturating_add(*amount);
        }
    }

    /// Takes all amounts of another away.
    pub fn subtract(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            if let Some(sum) = self.0.get_mut(name) {
                *sum = sum.saturating_sub(*amount);
            }
        }
    }

    fn max(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let sum = self.0.entry(name.clone()).or_insert(0);
            *sum = (*sum).max(*amount);
        }
    }
}

/// What a pod asks for: the sum of its containers and sidecars, or what an init container needs together with the sidecars
/// before it if that is more, plus the overhead; requests of the pod as a whole stand above those of its containers.
///
/// With `defaults`, containers without a CPU or memory request count for a little, so that scores spread them.
pub(crate) fn pod_requests(spec: &PodSpec, defaults: bool) -> Resources {
    let of = |container: &Container| container_requests(container, defaults);
    let mut total = Resources::default();
    spec.containers
        .iter()
        .for_each(|container| total.add(&of(container)));
    let (mut sidecars, mut init) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let mut needed = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&needed);
            init.max(&sidecars);
        } else {
            needed.add(&sidecars);
            init.max(&needed);
        }
    }
    total.add(&sidecars);
    total.max(&init);
    if let Some(whole) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        total.0.extend(Resources::from_list(Some(whole)).0);
    }
    total.add(&Resources::from_list(spec.overhead.as_ref()));
    total
}

fn container_requests(container: &Container, defaults: bool) -> Resources {
    let requests = container
        .resources
        .as_ref()
        .and_then(|r| r.requests.as_ref());
    let mut requests = Resources::from_list(requests);
    if defaults {
        requests.0.entry("cpu".into()).or_insert(DEFAULT_MILLI_CPU);
        requests.0.entry("memory".into()).or_insert(DEFAULT_MEMORY);
    }
    requests
}
