//! The family fields of a Service: policy, families, and how they follow from each other.
//!
//! Upstream: `initIPFamilyFields` in `pkg/registry/core/service/storage/alloc.go`.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use machinery::{ErrorList, Path};

use super::allocation::Family;
use super::{HEADLESS, validation};
use crate::view::{Items, OrEmpty};

const SINGLE: &str = "SingleStack";
const REQUIRE: &str = "RequireDualStack";

/// Upstream: `initIPFamilyFields`.
pub(super) fn settle(
    service: &mut Service,
    old: Option<&Service>,
    cluster: &[Family],
) -> Result<(), ErrorList> {
    let before = old.and_then(|o| o.spec.as_ref());
    let spec = service.spec.get_or_insert_default();
    if spec.type_.text() == "ExternalName" {
        return Ok(());
    }
    let bare = spec.cluster_ip.text() == HEADLESS
        && spec
            .selector
            .as_ref()
            .is_none_or(|selector| selector.is_empty());
    if spec.ip_family_policy.is_none() {
        let inherited = before.and_then(|b| b.ip_family_policy.clone());
        let default = if bare { REQUIRE } else { SINGLE };
        spec.ip_family_policy = Some(inherited.unwrap_or_else(|| default.to_owned()));
    }
    let mut errors = ErrorList::new();
    validation::cluster_ips(&mut errors, service, old);
    fail(errors)?;
    let spec = service.spec.get_or_insert_default();
    reduce(spec, before)?;
    infer(spec, cluster)?;
    if bare {
        let families = spec.ip_families.get_or_insert_default();
        if families.is_empty() {
            families.extend(cluster.first().map(|f| f.as_str().to_owned()));
        }
        complete(spec);
        return Ok(());
    }
    check(spec, cluster)?;
    if spec.ip_families.items().is_empty() {
        spec.ip_families = cluster.first().map(|f| vec![f.as_str().to_owned()]);
    }
    if cluster.len() == 2 {
        complete(spec);
    }
    Ok(())
}

fn fail(errors: ErrorList) -> Result<(), ErrorList> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

fn policy_error(errors: &mut ErrorList, spec: &ServiceSpec, detail: &str) {
    let path = Path::new("spec").child("ipFamilyPolicy");
    errors.invalid(&path, spec.ip_family_policy.text(), detail);
}

/// Going back to one family drops the second address; dropping it without saying so is an error.
fn reduce(spec: &mut ServiceSpec, old: Option<&ServiceSpec>) -> Result<(), ErrorList> {
    let mut errors = ErrorList::new();
    let single = spec.ip_family_policy.text() == SINGLE;
    if let Some(old) = old {
        let (ips, families) = (old.cluster_ips.items(), old.ip_families.items());
        if single {
            if let Some(list) = spec.cluster_ips.as_mut().filter(|list| *list == ips) {
                list.truncate(1);
            }
            if let Some(list) = spec.ip_families.as_mut().filter(|list| *list == families) {
                list.truncate(1);
            }
        } else {
            let fewer = |now: &[String], was: &[String]| !now.is_empty() && now.len() < was.len();
            if fewer(spec.cluster_ips.items(), ips) {
                let detail = "must be 'SingleStack' to release the secondary cluster IP";
                policy_error(&mut errors, spec, detail);
            }
            if fewer(spec.ip_families.items(), families) {
                let detail = "must be 'SingleStack' to release the secondary IP family";
                policy_error(&mut errors, spec, detail);
            }
        }
    }
    let lists = [
        (spec.cluster_ips.items().len(), "cluster IPs"),
        (spec.ip_families.items().len(), "IP families"),
    ];
    for (_, what) in lists.into_iter().filter(|(count, _)| single && *count == 2) {
        let detail = format!(
            "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
        );
        policy_error(&mut errors, spec, &detail);
    }
    fail(errors)
}

/// An address that was asked for says which family it is of.
fn infer(spec: &mut ServiceSpec, cluster: &[Family]) -> Result<(), ErrorList> {
    let mut errors = ErrorList::new();
    let ips = spec.cluster_ips.items().to_vec();
    for (i, ip) in ips.iter().enumerate().take_while(|(_, ip)| *ip != HEADLESS) {
        let Some(family) = Family::of(ip) else {
            continue;
        };
        if i < spec.ip_families.items().len() {
            continue;
        }
        if cluster.contains(&family) {
            spec.ip_families
                .get_or_insert_default()
                .push(family.as_str().to_owned());
        } else {
            let path = Path::new("spec").child("clusterIPs").index(i);
            let detail = format!("{} is not configured on this cluster", family.as_str());
            errors.invalid(&path, ips.clone(), detail);
        }
    }
    fail(errors)
}

fn check(spec: &ServiceSpec, cluster: &[Family]) -> Result<(), ErrorList> {
    let mut errors = ErrorList::new();
    if spec.ip_family_policy.text() == REQUIRE && cluster.len() < 2 {
        let detail = "this cluster is not configured for dual-stack services";
        policy_error(&mut errors, spec, detail);
    }
    for (i, family) in spec.ip_families.items().iter().enumerate() {
        if !cluster.iter().any(|f| f.as_str() == family) {
            let path = Path::new("spec").child("ipFamilies").index(i);
            errors.invalid(&path, family.as_str(), "not configured on this cluster");
        }
    }
    fail(errors)
}

/// Adds the second family where two are wanted.
fn complete(spec: &mut ServiceSpec) {
    if spec.ip_family_policy.text() == SINGLE {
        return;
    }
    if let Some([only]) = spec.ip_families.as_deref()
        && let Some(family) = Family::parse(only)
    {
        let other = family.other().as_str().to_owned();
        spec.ip_families.get_or_insert_default().push(other);
    }
}
