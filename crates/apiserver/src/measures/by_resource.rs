//! Figures by resource, found without making a key.

/// Values by resource, group and something else, in this order.
pub(super) struct ByResource<E, V>(Vec<Entry<E, V>>);

struct Entry<E, V> {
    resource: String,
    group: String,
    extra: E,
    value: V,
}

impl<E, V> Default for ByResource<E, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<E: Copy + Ord, V> ByResource<E, V> {
    /// The value of a group, a resource and something else, made when it is asked for the first time.
    pub(super) fn entry(
        &mut self,
        (group, resource): (&str, &str),
        extra: E,
        make: impl FnOnce() -> V,
    ) -> &mut V {
        let wanted = (resource, group, extra);
        let found = (self.0).binary_search_by(|e| (&*e.resource, &*e.group, e.extra).cmp(&wanted));
        let at = found.unwrap_or_else(|at| {
            let entry = Entry {
                resource: resource.to_owned(),
                group: group.to_owned(),
                extra,
                value: make(),
            };
            self.0.insert(at, entry);
            at
        });
        &mut self.0[at].value
    }

    /// Group, resource, the rest and the value of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str, E, &V)> {
        (self.0.iter()).map(|e| (&*e.group, &*e.resource, e.extra, &e.value))
    }
}
