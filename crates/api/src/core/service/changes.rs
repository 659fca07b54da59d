//! What may change in a Service, and with which type.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use machinery::{ErrorList, Path};

use super::validation::service;
use super::{is_headless, needs_health_check};
use crate::check;
use crate::view::{Items, OrEmpty};

/// A write to the Service itself.
pub(super) fn update(new: &Service, old: &Service) -> ErrorList {
    let mut errors = ErrorList::new();
    let empty = ServiceSpec::default();
    let (spec, before) = (
        new.spec.as_ref().unwrap_or(&empty),
        old.spec.as_ref().unwrap_or(&empty),
    );
    let external = |spec: &ServiceSpec| spec.type_.text() == "ExternalName";
    let path = Path::new("spec");
    if !external(spec) && !external(before) {
        changed_ips(&mut errors, &path, spec, before);
        changed_families(&mut errors, &path, spec, before);
    }
    changed_class(&mut errors, &path, spec, before);
    let check = spec.health_check_node_port != before.health_check_node_port;
    if check && needs_health_check(spec) && needs_health_check(before) {
        errors.forbidden(&path.child("healthCheckNodePort"), check::IMMUTABLE);
    }
    service(&mut errors, new, Some(old));
    errors
}

fn changed_ips(errors: &mut ErrorList, path: &Path, new: &ServiceSpec, old: &ServiceSpec) {
    const SET: &str = "may not change once set";
    if is_headless(new) && is_headless(old) {
        return;
    }
    let (now, was) = (new.cluster_ips.items(), old.cluster_ips.items());
    let at = path.child("clusterIPs");
    if now.len() == was.len() {
        for (i, (is, was)) in now.iter().zip(was).enumerate() {
            if is != was {
                errors.invalid(&at.index(i), now.to_vec(), SET);
            }
        }
        return;
    }
    if now.is_empty() {
        errors.invalid(
            &at.index(0),
            now.to_vec(),
            "primary clusterIP can not be unset",
        );
    } else if was.first().is_some_and(|first| *first != now[0]) {
        errors.invalid(&at.index(0), now.to_vec(), SET);
    }
    if was.len() > now.len() && now.len() == 1 && new.ip_family_policy.text() != "SingleStack" {
        let detail = "must be set to 'SingleStack' when releasing the secondary clusterIP";
        errors.invalid(
            &path.child("ipFamilyPolicy"),
            check::json(&new.ip_family_policy),
            detail,
        );
    }
}

fn changed_families(errors: &mut ErrorList, path: &Path, new: &ServiceSpec, old: &ServiceSpec) {
    const SET: &str = "may not change once set";
    if is_headless(new) || is_headless(old) {
        return;
    }
    let (now, was) = (new.ip_families.items(), old.ip_families.items());
    let at = path.child("ipFamilies");
    if now.len() == was.len() {
        for (is, was) in now.iter().zip(was) {
            if is != was {
                errors.invalid(&at.index(0), now.to_vec(), SET);
            }
        }
        return;
    }
    if now.is_empty() {
        errors.invalid(
            &at.index(0),
            now.to_vec(),
            "primary ipFamily can not be unset",
        );
    } else if was.first().is_some_and(|first| *first != now[0]) {
        errors.invalid(&at.index(0), now.to_vec(), SET);
    }
    if was.len() > now.len() && now.len() == 1 && new.ip_family_policy.text() != "SingleStack" {
        let detail = "must be set to 'SingleStack' when releasing the secondary ipFamily";
        errors.invalid(
            &path.child("ipFamilyPolicy"),
            check::json(&new.ip_family_policy),
            detail,
        );
    }
}

fn changed_class(errors: &mut ErrorList, path: &Path, new: &ServiceSpec, old: &ServiceSpec) {
    let balances = |spec: &ServiceSpec| spec.type_.text() == "LoadBalancer";
    if balances(new) && balances(old) && new.load_balancer_class != old.load_balancer_class {
        let shown = check::json(&new.load_balancer_class);
        errors.invalid(
            &path.child("loadBalancerClass"),
            shown,
            "may not change once set",
        );
    }
}
