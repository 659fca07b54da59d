//! ServiceCIDR: networks from which Services get their cluster addresses.
//!
//! Upstream: `pkg/registry/networking/servicecidr`, `ValidateServiceCIDR*` in `pkg/apis/networking/validation`.

mod range;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{ServiceCIDR as Typed, ServiceCIDRSpec};
use machinery::table::{Column, Row};
use machinery::{ErrorList, Object, Path, names};
use serde_json::json;

use crate::check::{ErrorListExt, IMMUTABLE};
use crate::columns;
use crate::kind::{self, Context, Kind, Names, Part, Scope, Subresource};
use crate::view::Items;

pub use range::Range;

/// The name of the one that every cluster has.
pub const DEFAULT: &str = "kubernetes";
/// The condition that says whether addresses are given out.
pub const READY: &str = "Ready";
/// Keeps one until no address needs it.
pub const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

/// The kind `ServiceCIDR`.
pub struct ServiceCidr;

impl Kind for ServiceCidr {
    type Object = Typed;
    const NAMES: Names = Names::new(
        "networking.k8s.io",
        "v1",
        "ServiceCIDR",
        "servicecidrs",
        "servicecidr",
    );
    const SCOPE: Scope = Scope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Part(Part::Status)];
    const STATUS_RESETS: &'static [&'static [&'static str]] = crate::kind::METADATA_AND_SPEC;
    const COLUMNS: &'static [Column] = &[
        columns::NAME,
        columns::text(
            "CIDRs",
            "cidrs defines the IP blocks in CIDR notation (e.g. \"192.168.0.0/24\" or \"2001:db8::/64\") from which to assign service cluster IPs. Max of two CIDRs is allowed, one of each IP family. This field is immutable.",
        ),
        columns::AGE,
    ];

    fn prepare_create(_context: &Context, new: &mut Object) {
        new.0.remove("status");
    }

    fn validate_create(_context: &Context, new: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        spec(&mut errors, &new.spec.clone().unwrap_or_default());
        errors
    }

    fn validate_update(_context: &Context, part: Part, new: &Typed, old: &Typed) -> ErrorList {
        let mut errors = ErrorList::new();
        if part == Part::Main {
            change(
                &mut errors,
                &new.spec.clone().unwrap_or_default(),
                &old.spec.clone().unwrap_or_default(),
            );
        }
        errors
    }

    fn row(object: &Typed, tree: &Object, now: Timestamp) -> Row {
        let spec = object.spec.as_ref();
        let cidrs = spec.map(|s| s.cidrs.items().join(",")).unwrap_or_default();
        Row::from(vec![
            tree.name().into(),
            cidrs.into(),
            kind::age(tree, now).into(),
        ])
    }
}

/// One or two networks, of different families.
fn spec(errors: &mut ErrorList, spec: &ServiceCIDRSpec) {
    let path = Path::new("spec").child("cidrs");
    let cidrs = spec.cidrs.items();
    match cidrs.len() {
        0 => return errors.required(&path, "at least one CIDR required"),
        1 | 2 => {}
        _ => {
            let shown = json!({"CIDRs": cidrs});
            return errors.invalid(&path, shown, "may only hold up to 2 values");
        }
    }
    for (i, cidr) in cidrs.iter().enumerate() {
        errors.invalid_each(&path.index(i), cidr, names::cidr(cidr));
    }
    let family = |cidr: &String| names::parse_cidr_sloppy(cidr).map(|(ip, _)| ip.is_ipv4());
    if let [first, second] = cidrs
        && family(first).is_some()
        && family(first) == family(second)
    {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.invalid(&path, cidrs.to_vec(), detail);
    }
}

/// All that may change is that a second network is added.
fn change(errors: &mut ErrorList, new: &ServiceCIDRSpec, old: &ServiceCIDRSpec) {
    let path = Path::new("spec").child("cidrs");
    let (after, before) = (new.cidrs.items(), old.cidrs.items());
    let grows = (before.len(), after.len()) == (1, 2);
    if !grows && before.len() != after.len() {
        return errors.invalid(&path, after.to_vec(), IMMUTABLE);
    }
    for (i, (new, old)) in after.iter().zip(before).enumerate() {
        if new != old {
            errors.invalid(&path.index(i), new.as_str(), IMMUTABLE);
        }
    }
    if grows {
        spec(errors, new);
    }
}

/// Whether addresses are given out of it: it is not on its way out, and nobody says that it is not ready.
pub fn is_ready(object: &Object) -> bool {
    let conditions = object.at(&["status", "conditions"]);
    let mut conditions = conditions
        .and_then(serde_json::Value::as_array)
        .into_iter()
        .flatten();
    let ready = conditions.find(|c| c["type"] == READY);
    object.deletion_timestamp().is_none() && ready.is_none_or(|c| c["status"] == "True")
}

/// The networks of one.
pub fn ranges(object: &Object) -> impl Iterator<Item = Range> {
    let cidrs = object.at(&["spec", "cidrs"]);
    let cidrs = cidrs
        .and_then(serde_json::Value::as_array)
        .into_iter()
        .flatten();
    cidrs.filter_map(|cidr| Range::parse(cidr.as_str()?))
}
